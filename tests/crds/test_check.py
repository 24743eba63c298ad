"""`auterity check` says of every broken manifest what the API server says of it."""

import copy
import json
import re
import subprocess
from collections.abc import Iterator
from typing import Any

import pytest

from auterity.api import API_VERSION
from auterity.cli.files import parse
from auterity.cli.schema import crds, faults
from auterity.providers.catalogue import catalogue
from tests.conformance.conftest import STAND_INS
from tests.crds.conftest import JSON, Api

PROVIDERS = pytest.mark.parametrize(
    "name",
    [name for name in STAND_INS if name in {f"{kind}-{vendor}" for kind, vendor in catalogue()}],
)
WRONG: dict[type, tuple[Any, ...]] = {
    str: (7, "", "no such thing !", "x" * 70_000),
    bool: ("yes", 1),
    int: ("1", -1, 10**12, 1.5),
    float: ("1", -1.0),
    list: ("x", [7], [None]),
    dict: ("x", [], 7),
}


def broken(value: Any, path: tuple[str | int, ...] = ()) -> Iterator[tuple[Any, str]]:
    """The value with one thing wrong with it, and what that is."""
    shown = ".".join(str(step) for step in path)
    for wrong in WRONG.get(type(value), ()):
        yield wrong, f"{shown} = {str(wrong)[:20]!r}"
    if isinstance(value, dict):
        yield {**value, "nonesuchAtAll": 1}, f"{shown}.nonesuchAtAll"
        for key, item in value.items():
            yield {k: v for k, v in value.items() if k != key}, f"{shown} without {key}"
            for other, what in broken(item, (*path, key)):
                yield {**value, key: other}, what
    if isinstance(value, list):
        for index, item in enumerate(value):
            yield [*value, copy.deepcopy(item)], f"{shown}.{index} twice"
            for other, what in broken(item, (*path, index)):
                yield [*value[:index], other, *value[index + 1 :]], what


def rules(value: Any) -> Iterator[str]:
    """The messages of all CEL rules in a schema."""
    if isinstance(value, dict):
        for rule in value.get("x-kubernetes-validations", ()):
            yield rule["message"]
        for item in value.values():
            yield from rules(item)
    elif isinstance(value, list):
        for item in value:
            yield from rules(item)


@PROVIDERS
def test_what_check_lets_pass_only_rules_refuse(api: Api, name: str) -> None:
    cls = STAND_INS[name]
    base = {"connectionRef": {"name": "vendor"}, "interval": "10m", **cls.spec}
    made: dict[str, tuple[JSON, str]] = {}
    for number, (spec, what) in enumerate([(base, "nothing"), *broken(base)]):
        meta = {"name": f"m-{number}", "namespace": "default"}
        document = {"apiVersion": API_VERSION, "kind": cls.provider.kind, "metadata": meta}
        made[f"m-{number}"] = ({**document, "spec": spec}, what)

    accepted, refusals = sent(api, [document for document, _ in made.values()])
    checked = {key: told(document) for key, (document, _) in made.items()}

    assert "m-0" in accepted
    assert checked["m-0"] == []
    both = [key for key in made if key not in accepted and checked[key]]
    assert len(both) > len(made) / 2, f"{len(both)} of {len(made)} refused by both"
    messages = {message for crd in crds() for message in rules(crd)}
    for key, (_, what) in made.items():
        if key not in accepted and not checked[key]:
            said = refusals.get(key, "")
            assert any(message in said for message in messages), (what, said)
    # What only the operator would refuse, for what no schema can say.
    stricter = [(made[key][1], checked[key]) for key in accepted if checked[key]]
    assert len(stricter) <= len(made) / 20, stricter
    print(f"{name}: {len(made)} made, {len(both)} refused by both, {len(stricter)} by check alone")


def told(document: JSON) -> list[str]:
    # JSON is YAML, and takes no time to write.
    (manifest,), unread = parse("a.yaml", json.dumps(document))
    return [fault.message for fault in [*unread, *faults(manifest)]]


def sent(api: Api, documents: list[JSON]) -> tuple[set[str], dict[str, str]]:
    """The names of what the API server would take, and what it says against the others."""
    done = subprocess.run(
        [
            *(str(api.kubectl.program), f"--kubeconfig={api.kubectl.kubeconfig}"),
            *("create", "--dry-run=server", "--validate=strict", "-f", "-"),
        ],
        input="\n---\n".join(json.dumps(document) for document in documents),
        capture_output=True,
        text=True,
        check=False,
    )
    accepted = set(re.findall(r"/(m-[0-9]+) created", done.stdout))
    refusals = re.split(r"(?m)^(?=The |Error from server|error: )", done.stderr)
    by_name = {}
    for refusal in refusals:
        if found := re.search(r'"(m-[0-9]+)" is invalid', refusal):
            by_name[found[1]] = refusal
    return accepted, by_name
