"""CRDs composed of a kind, its vendors and what all kinds share."""

from typing import Annotated, Any

import pytest
from pydantic import Field

from auterity.api import crd
from auterity.api.connection import ConnectionParams
from auterity.api.fields import IMMUTABLE, Params, SecretValue, Url
from auterity.api.kinds import KINDS, Kind
from auterity.api.schema import RULES, SchemaError
from auterity.api.vector_index import VectorIndex

VECTOR_INDEX = KINDS["VectorIndex"]


class AcmeIndex(VectorIndex):
    """What only Acme has."""

    region: Annotated[Annotated[str, Field(max_length=32)], IMMUTABLE]
    """Region. Cannot change."""


class ZenithIndex(VectorIndex):
    """What only Zenith has."""


class Acme(ConnectionParams):
    """An account at Acme."""

    vendor = "acme"

    endpoint: Url
    """Where its API is."""
    api_key: SecretValue
    """Its key."""


VENDORS: dict[str, type[Params]] = {"zenith": ZenithIndex, "acme": AcmeIndex}


def version(definition: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = definition["spec"]["versions"][0]
    return found


def spec(definition: dict[str, Any]) -> dict[str, Any]:
    schema = version(definition)["schema"]["openAPIV3Schema"]
    found: dict[str, Any] = schema["properties"]["spec"]
    return found


def messages(node: dict[str, Any]) -> list[str]:
    return [rule["message"] for rule in node.get(RULES, ())]


def test_the_spec_has_common_and_portable_fields_and_a_block_a_vendor() -> None:
    made = spec(crd.integration(VECTOR_INDEX, VENDORS))

    assert {"connectionRef", "dimension", "acme", "zenith"} <= set(made["properties"])
    assert made["required"] == ["connectionRef", "dimension"]
    assert set(made["properties"]["acme"]["properties"]) == {"region"}
    assert made["properties"]["acme"]["required"] == ["region"]
    assert made["properties"]["zenith"] == {
        "type": "object",
        "description": "What only Zenith has.",
    }


def test_exactly_one_vendor_is_given_for_good() -> None:
    made = messages(spec(crd.integration(VECTOR_INDEX, VENDORS)))

    assert "exactly one vendor must be given: acme, zenith" in made
    assert "the vendor cannot change: delete and create anew" in made


def test_portable_rules_stand_at_spec_and_the_vendors_in_its_block() -> None:
    made = spec(crd.integration(VECTOR_INDEX, VENDORS))

    assert {"dimension cannot change", "metric cannot change"} <= set(messages(made))
    assert messages(made["properties"]["acme"]) == ["region cannot change"]


def test_kinds_that_hold_data_retain_it_unless_told_otherwise() -> None:
    keeps = spec(crd.integration(VECTOR_INDEX, VENDORS))
    route = KINDS["AlertRoute"]
    plain = type("Plain", (route.params,), {"__doc__": "Nothing of its own."})
    deletes = spec(crd.integration(route, {"acme": plain}))

    assert keeps["properties"]["deletionPolicy"]["default"] == "Retain"
    assert deletes["properties"]["deletionPolicy"]["default"] == "Delete"


def test_a_status_nobody_has_written_says_so() -> None:
    definition = crd.integration(VECTOR_INDEX, VENDORS)

    status = version(definition)["schema"]["openAPIV3Schema"]["properties"]["status"]
    assert status["default"] == {"observedGeneration": -1}
    assert version(definition)["subresources"] == {"status": {}}


def test_people_see_the_columns_they_need() -> None:
    columns = version(crd.integration(VECTOR_INDEX, VENDORS))["additionalPrinterColumns"]

    assert [c["name"] for c in columns if not c.get("priority")] == [
        "Ready",
        "Reason",
        "Vendor",
        "Id",
        "Age",
    ]
    assert [c["name"] for c in columns if c.get("priority")] == ["Message", "Connection"]


def test_connections_have_a_block_a_vendor_in_both_scopes() -> None:
    local, cluster = crd.connections({"acme": Acme})

    assert (local["spec"]["scope"], cluster["spec"]["scope"]) == ("Namespaced", "Cluster")
    assert local["spec"]["names"]["shortNames"] == ["conn"]
    assert cluster["spec"]["names"]["shortNames"] == ["cconn"]
    assert "allowedNamespaces" not in spec(local)["properties"]
    assert {"allowedNamespaces", "secretNamespace"} == set(spec(cluster)["required"])
    assert spec(local)["properties"]["acme"] == spec(cluster)["properties"]["acme"]


class Undocumented(VectorIndex):
    pass


class Clashing(VectorIndex):
    """A portable model with a field that every kind has."""

    interval: int = 1
    """Twice."""


@pytest.mark.parametrize(
    ("kind", "vendors", "words"),
    [
        (VECTOR_INDEX, {}, "VectorIndex.spec: no vendor offers it"),
        (VECTOR_INDEX, {"metric": ZenithIndex}, "VectorIndex.spec.metric: declared twice"),
        (VECTOR_INDEX, {"ttl": ZenithIndex}, "VectorIndex.spec.ttl: declared twice"),
        (VECTOR_INDEX, {"Acme": AcmeIndex}, "Acme is not a name in camelCase"),
        (VECTOR_INDEX, {"acme": Undocumented}, "VectorIndex.spec.acme: is not documented"),
        (
            Kind(Clashing, "clashings", "cl"),
            {"acme": Clashing},
            "Clashing.spec.interval: declared twice",
        ),
    ],
)
def test_what_would_collide_is_refused(kind: Kind, vendors: dict[str, Any], words: str) -> None:
    with pytest.raises(SchemaError) as told:
        crd.integration(kind, vendors)
    assert words in str(told.value)
