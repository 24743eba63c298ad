"""A manifest made of what a vendor answers is valid and says what the vendor has; everywhere."""

import yaml

from auterity.api.common import ConnectionRef
from auterity.cli.check import PLACEHOLDER
from auterity.cli.files import parse
from auterity.cli.imported import Imported, imported
from auterity.cli.schema import faults
from auterity.engine.plan import Action
from auterity.providers import catalogue
from tests.conformance.harness import NAME, Harness
from tests.conformance.test_plan import planned


async def made_of_what_is_there(harness: Harness) -> Imported:
    await harness.make()
    observed = await harness.read()
    assert observed is not None
    spec = type(harness.vendor).spec
    everything = {**(spec[harness.provider.vendor] or {}), **spec}

    def made(*given: str) -> Imported:
        return imported(
            harness.provider,
            observed,
            name=NAME,
            namespace=None,
            connection=ConnectionRef(name="vendor"),
            given={name: everything[name] for name in given if name in everything},
        )

    # What it is found by where the name does not do; then what the vendor does not tell.
    found_by = ("repository", "schema", "table")
    untold = [path.rpartition(".")[2] for path in made(*found_by).missing]
    return made(*found_by, *untold)


async def test_what_is_imported_is_valid_and_tells_no_secret(harness: Harness):
    it = await made_of_what_is_there(harness)
    text = it.text()
    for data in type(harness.vendor).secrets.values():
        assert not [value for value in data.values() if value in text]
    assert it.missing == [], text
    (manifest,), broken = parse("imported.yaml", text)
    assert broken == []
    if (harness.provider.kind, harness.provider.vendor) in catalogue():
        assert list(faults(manifest)) == []
    assert yaml.safe_load(text)["spec"]["policy"] == "Adopt"


async def test_what_is_imported_changes_nothing_but_placeholders(harness: Harness):
    it = await made_of_what_is_there(harness)
    assert it.changes == [], it.text()
    keys = {
        value["key"]: "any-value-at-all"
        for value in _below(it.manifest["spec"])
        if value.get("name") == PLACEHOLDER
    }
    if keys:
        harness.cluster.put_secret(PLACEHOLDER, keys)
    harness.apply({**it.manifest["spec"]})
    plan = await planned(harness)
    assert plan.action in ((Action.UPDATE, Action.NONE) if keys else (Action.NONE,)), plan
    assert [c for c in plan.changes if c["to"] != "<secret>"] == []


def _below(value: object) -> list[dict[str, str]]:
    if isinstance(value, dict):
        return [value, *(found for item in value.values() for found in _below(item))]
    if isinstance(value, list):
        return [found for item in value for found in _below(item)]
    return []
