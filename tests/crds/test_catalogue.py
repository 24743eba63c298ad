"""The committed CRDs of the real catalogue, and every provider's sample, on a real API server."""

import copy
import json
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml

from auterity.api import GROUP
from auterity.api.kinds import PLURALS
from auterity.providers.catalogue import catalogue
from tests.crds.conftest import JSON, Api, Refused
from tools.generate import ROOT, definitions, files, sample_path
from tools.samples import every, parts

SAMPLES = ROOT / "samples"
PROVIDERS = pytest.mark.parametrize(
    ("kind", "vendor"), list(catalogue()), ids=[f"{kind}-{vendor}" for kind, vendor in catalogue()]
)


def sample(kind: str, vendor: str) -> list[JSON]:
    path = ROOT / sample_path(kind, vendor)
    if not path.is_file():
        pytest.skip(
            f"{path.relative_to(ROOT)} does not exist; `tools.generate --check` says so too"
        )
    return [document for document in yaml.safe_load_all(path.read_text()) if document]


def integration_of(kind: str, vendor: str) -> JSON:
    found = next(document for document in sample(kind, vendor) if document["kind"] == kind)
    found["metadata"].pop("namespace", None)
    return found


def dry(api: Api, *documents: JSON) -> str:
    text = yaml.safe_dump_all(documents)
    return api.kubectl("create", "--dry-run=server", "--validate=strict", "-f", "-", input=text)


@pytest.mark.parametrize("path", sorted(definitions(files(catalogue()))))
def test_every_crd_is_accepted_as_it_is_committed(api: Api, path: str) -> None:
    text = files(catalogue())[path]
    told = api.kubectl(
        "apply", "--server-side", "--force-conflicts", "--dry-run=server", "-f", "-", input=text
    )

    assert Path(path).stem + f".{GROUP}" in told


@pytest.mark.parametrize("path", every(SAMPLES), ids=lambda path: str(path.relative_to(SAMPLES)))
def test_a_sample_is_accepted_as_it_is(api: Api, path: Path) -> None:
    documents = [document for _, document in parts(path.read_text())]
    for document in documents:
        document["metadata"].pop("namespace", None)

    told = dry(api, *documents)

    assert len(told.splitlines()) == len(documents)


@PROVIDERS
def test_a_sample_cannot_name_a_second_vendor(api: Api, kind: str, vendor: str) -> None:
    made = integration_of(kind, vendor)
    made["spec"]["zenith"] = {}

    with pytest.raises(Refused, match="exactly one vendor must be given: "):
        api.create(made, dry_run=True)


@PROVIDERS
def test_what_a_sample_fixes_cannot_be_taken_back(api: Api, kind: str, vendor: str) -> None:
    made = integration_of(kind, vendor)
    made["metadata"]["name"] = f"fixed-{vendor.lower()}"
    stored = api.create(made)

    for path in fixed(api, kind, vendor, stored["spec"]):
        changed = copy.deepcopy(stored)
        parent = changed["spec"]
        for name in path[:-1]:
            parent = parent[name]
        parent[path[-1]] = altered(parent[path[-1]])
        with pytest.raises(Refused, match=path[-1]):
            api.replace(changed, dry_run=True)


def fixed(api: Api, kind: str, vendor: str, spec: JSON) -> Iterator[list[str]]:
    """Paths of the immutable fields that a stored spec has, by the rules of the served CRD."""
    schema = served(api, kind)
    for prefix, node, there in (
        ([], schema, spec),
        ([vendor], schema["properties"][vendor], spec[vendor]),
    ):
        for rule in node.get("x-kubernetes-validations", ()):
            name = rule.get("fieldPath", "").removeprefix(".")
            if rule["message"] == f"{name} cannot change" and name in there:
                yield [*prefix, name]


@cache
def served(api: Api, kind: str) -> JSON:
    """The schema of a spec, as the API server has it."""
    found = json.loads(api.kubectl("get", "crd", f"{PLURALS[kind]}.{GROUP}", "-o", "json"))
    schema = found["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
    spec: JSON = schema["properties"]["spec"]
    return spec


def altered(value: Any) -> Any:
    """Another value of the same type."""
    match value:
        case bool():
            return not value
        case int():
            return value + 1
        case str():
            return f"{value}x"
        case list():
            return value[:-1]
        case _:
            return {}
