"""What is refused and warned of while the API server still holds an object."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Annotated, Any

import pytest
from pydantic import Field

from auterity.api.annotations import FORGET
from auterity.api.fields import Deprecated, Keyed, Model
from auterity.engine.advice import Advice, Adviser
from auterity.engine.contract import Provider
from auterity.engine.declared import connectors
from auterity.engine.subject import Key, Subject
from auterity.providers.catalogue import catalogue
from tests.conformance.cluster import NAMESPACE, MemoryCluster
from tests.unit.engine.shelf import ShelfConnection, ShelfIndex, ShelfIndexParams, Unmarked

JSON = dict[str, Any]
BASE: JSON = {"connectionRef": {"name": "vendor"}, "dimension": 8, "shelf": {}}
SHELF: JSON = {
    "address": "shelf",
    "token": {"secretKeyRef": {"name": "shelf", "key": "token"}},
}


class Old(Model):
    """A part of a spec."""

    name: str
    size: Annotated[int | None, Deprecated("use scale")] = None


class RackParams(ShelfIndexParams):
    """With fields that are on their way out."""

    colour: Annotated[str, Deprecated("it has no effect any more")] = "red"
    parts: Annotated[list[Old], Keyed("name")] = Field(default_factory=list)


class RackConnection(ShelfConnection):
    """A rack."""

    vendor = "rack"


class Rack(ShelfIndex):
    """An index on the rack, whose names are in capitals."""

    vendor = "rack"
    params = RackParams
    connection = RackConnection

    @classmethod
    def objections(cls, want: ShelfIndexParams) -> Mapping[str, str]:
        found = {} if want.name.isupper() else {"name": "Rack takes capitals"}
        if want.note == "no":
            found["note"] = "Rack takes no such note"
        return found if want.dimension < 100 else {**found, "dimension": "Rack is small"}


class ByName(Unmarked):
    """The name is the id, and nothing tells whose it is."""

    vendor = "named"
    locate = Provider.locate


PROVIDERS = {("VectorIndex", provider.vendor): provider for provider in (ShelfIndex, Rack, ByName)}


@pytest.fixture
def cluster() -> MemoryCluster:
    found = MemoryCluster()
    found.put("Connection", "vendor", {"shelf": SHELF})
    found.put("Connection", "rack", {"rack": SHELF})
    return found


@pytest.fixture
def adviser(cluster: MemoryCluster) -> Adviser:
    return Adviser(cluster, PROVIDERS, connectors(PROVIDERS))


def subject(
    spec: JSON, name: str = "docs", kind: str = "VectorIndex", namespace: str = NAMESPACE, **more
) -> Subject:
    made = MemoryCluster()
    return replace(made.subjects[made.put(kind, name, spec, namespace)], **more)


def created(adviser: Adviser, name: str = "docs", /, **spec: Any) -> Advice:
    return adviser.on_write(subject({**BASE, **spec}, name), None)


def edited(adviser: Adviser, before: JSON, after: JSON, **more: Any) -> Advice:
    old = replace(subject({**BASE, **before}), **more)
    return adviser.on_write(replace(old, spec={**BASE, **after}, generation=2), old)


def test_a_plain_object_is_neither_refused_nor_warned_of(adviser: Adviser):
    assert created(adviser) == Advice()


REFUSALS = [
    ({"dimension": "many"}, "spec.dimension: input should be a valid integer"),
    ({"shelf": {"replicas": "x"}}, "spec.shelf.replicas: input should be a valid integer"),
    (
        {"connectionRef": {"name": "rack"}},
        "spec.connectionRef: Connection 'rack' is a connection to rack; shelf needs one to shelf",
    ),
    (
        {"dependsOn": [{"kind": "Database", "name": "a"}]},
        "spec.dependsOn[0]: there is no kind of integration called 'Database'; known: ",
    ),
    (
        {"dependsOn": [{"kind": "VectorIndex", "name": "docs"}]},
        "spec.dependsOn[0]: an object cannot wait for itself",
    ),
    (
        {"shelf": {"peer": {"outputRef": {"kind": "Nonesuch", "name": "a", "output": "host"}}}},
        "outputRef to Nonesuch 'host': there is no kind of integration called 'Nonesuch'",
    ),
    ({"createOnly": ["nonesuch"]}, "spec.createOnly: nonesuch is no field of this kind"),
]


@pytest.mark.parametrize(("spec", "words"), REFUSALS)
def test_what_can_never_work_is_refused_by_the_fields_name(adviser: Adviser, spec, words: str):
    (told,) = created(adviser, **spec).refusals
    assert told.startswith(words)


def test_a_connection_that_does_not_exist_yet_is_only_warned_of(adviser, cluster):
    advice = created(adviser, connectionRef={"name": "later"})
    assert advice == Advice(warnings=["spec.connectionRef: Connection 'later' does not exist yet"])
    key = Key("Connection", NAMESPACE, "vendor")
    cluster.subjects[key] = replace(cluster.subjects[key], deleting=True)
    assert created(adviser).warnings == ["spec.connectionRef: Connection 'vendor' is being deleted"]


def test_a_cluster_connection_is_for_its_namespaces_only(adviser, cluster):
    ref = {"kind": "ClusterConnection", "name": "shared"}
    cluster.put("ClusterConnection", "shared", {"shelf": SHELF, "allowedNamespaces": ["x"]}, "")
    assert created(adviser, connectionRef=ref).refusals == [
        (
            "spec.connectionRef: ClusterConnection 'shared' may not be used from namespace 'team': "
            "it is not in its spec.allowedNamespaces"
        )
    ]
    cluster.put("ClusterConnection", "shared", {"shelf": SHELF, "allowedNamespaces": ["te*"]}, "")
    assert created(adviser, connectionRef=ref) == Advice()


def test_references_that_are_not_met_yet_are_warned_of(adviser, cluster):
    ref = {"kind": "VectorIndex", "name": "other"}
    peer = {"peer": {"outputRef": {**ref, "output": "host"}}}
    (told,) = created(adviser, dependsOn=[ref]).warnings
    assert told == "spec.dependsOn[0]: there is no VectorIndex 'other' yet"
    key = cluster.put("VectorIndex", "other", BASE)
    assert created(adviser, dependsOn=[ref], shelf=peer) == Advice(), "it may still come"
    cluster.subjects[key].status = {
        "observedGeneration": 1,
        "outputs": {"port": "1"},
        "conditions": [{"type": "Ready", "status": "True", "reason": "Ready"}],
    }
    (told,) = created(adviser, shelf=peer).warnings
    assert told == (
        "outputRef to VectorIndex 'host': VectorIndex 'other' has no output 'host'; it has: port"
    )


def test_a_selector_that_matches_several_or_none_is_warned_of(adviser, cluster):
    ref = {"kind": "VectorIndex", "selector": {"matchLabels": {"a": "b"}}, "output": "host"}
    peer = {"peer": {"outputRef": ref}}
    (told,) = created(adviser, shelf=peer).warnings
    assert told.endswith("there is no VectorIndex with these labels yet")
    for name in ("one", "two"):
        cluster.put("VectorIndex", name, BASE, labels={"a": "b"})
    (told,) = created(adviser, shelf=peer).warnings
    assert told.endswith(
        "the selector matches VectorIndex team/one, VectorIndex team/two; it must match one"
    )


def test_two_claims_of_one_name_are_warned_of(adviser, cluster):
    """Not refused: an object that moves is declared anew before the old one goes."""
    key = cluster.put("VectorIndex", "old", {**BASE, "externalName": "docs"})
    (told,) = created(adviser).warnings
    assert told == (
        "metadata.name: 'docs' at shelf is claimed by VectorIndex team/old: "
        "they may be in each other's way"
    )
    (told,) = created(adviser, "new", externalName="docs").warnings
    assert told.startswith("spec.externalName: 'docs'")
    assert created(adviser, policy="Observe") == Advice()
    cluster.put("VectorIndex", "old", {**BASE, "externalName": "docs", "policy": "Observe"})
    assert created(adviser) == Advice()
    cluster.put("VectorIndex", "old", {**BASE, "externalName": "others"})
    assert created(adviser) == Advice()
    cluster.put("VectorIndex", "old", {"connectionRef": {"name": "rack"}, "shelf": {}})
    assert key in cluster.subjects


def test_a_claim_that_nothing_would_settle_is_refused(adviser, cluster):
    """Without marks two that adopt the same would undo each other's changes for ever."""
    cluster.put("Connection", "named", {"shelf": SHELF})
    spec = {"connectionRef": {"name": "named"}, "dimension": 8, "named": {}}
    key = cluster.put("VectorIndex", "old", {**spec, "externalName": "docs"})
    manages = adviser.on_write(subject(spec), None)
    assert (manages.refusals, len(manages.warnings)) == ([], 1)
    adopts = subject({**spec, "policy": "Adopt"})
    (told,) = adviser.on_write(adopts, None).refusals
    assert told == (
        "metadata.name: 'docs' at named is claimed by VectorIndex team/old: "
        "only one of them can have it"
    )
    cluster.subjects[key] = replace(cluster.subjects[key], deleting=True)
    assert adviser.on_write(adopts, None).refusals == []


def test_what_a_vendor_would_refuse_is_told_by_the_field_that_it_stands_in(adviser):
    spec = {"connectionRef": {"name": "rack"}, "dimension": 100, "rack": {"note": "no"}}
    assert adviser.on_write(subject(spec), None).refusals == [
        "metadata.name: Rack takes capitals",
        "spec.rack.note: Rack takes no such note",
        "spec.dimension: Rack is small",
    ]
    spec = {"connectionRef": {"name": "rack"}, "dimension": 8, "rack": {}, "externalName": "docs"}
    assert adviser.on_write(subject(spec), None).refusals == [
        "spec.externalName: Rack takes capitals"
    ]
    assert adviser.on_write(subject({**spec, "externalName": "DOCS"}), None) == Advice()


def test_deprecated_fields_that_are_set_are_warned_of(adviser):
    rack = {"colour": "blue", "parts": [{"name": "a"}, {"name": "b", "size": 1}]}
    spec = {"connectionRef": {"name": "rack"}, "dimension": 8, "externalName": "A", "rack": rack}
    assert adviser.on_write(subject(spec), None).warnings == [
        "spec.rack.colour: is deprecated: it has no effect any more",
        "spec.rack.parts[1].size: is deprecated: use scale",
    ]
    # The API server fills in defaults: those nobody has written.
    quiet = {**spec, "rack": {"colour": "red", "parts": [{"name": "a"}]}}
    assert adviser.on_write(subject(quiet), None) == Advice()


RISKS = [
    (
        {"deletionPolicy": "Delete"},
        "spec.deletionPolicy: Delete deletes the data at shelf with this object",
    ),
    (
        {"ttl": "72h"},
        "spec.ttl: the data at shelf is deleted 72h after creation, whatever deletionPolicy says",
    ),
    (
        {"driftPolicy": "Report"},
        (
            "spec.driftPolicy: Report leaves changes made at the vendor as they are, with "
            "Ready=True; watch status.drift"
        ),
    ),
]


@pytest.mark.parametrize(("spec", "words"), RISKS)
def test_risky_settings_are_warned_of_once(adviser: Adviser, spec: JSON, words: str):
    assert created(adviser, **spec) == Advice(warnings=[words])
    assert edited(adviser, {}, spec).warnings == [words]
    assert edited(adviser, spec, {**spec, "interval": "5m"}) == Advice()
    assert created(adviser, **spec, policy="Observe") == Advice()


def test_what_was_wrong_before_does_not_stop_other_edits(adviser: Adviser):
    wrong = {"createOnly": ["nonesuch"]}
    advice = edited(adviser, wrong, {**wrong, "suspend": True})
    assert advice == Advice(warnings=["spec.createOnly: nonesuch is no field of this kind"])
    assert edited(adviser, wrong, {**wrong, "createOnly": ["other"]}).refusals
    assert edited(adviser, {"dimension": "x"}, {"dimension": "x", "suspend": True}).refusals == []


def test_an_edit_of_anything_but_the_spec_is_let_through(adviser: Adviser):
    old = subject({**BASE, "dimension": "many"})
    assert adviser.on_write(replace(old, finalizers=[]), old) == Advice()
    deleting = replace(old, deleting=True, spec={"nothing": 1})
    assert adviser.on_write(deleting, old) == Advice()


def test_changes_that_lose_data_are_warned_of_where_nobody_is_asked(adviser: Adviser):
    before = {"shelf": {"tier": "a", "labels": {"x": "1", "y": "1"}, "note": "a"}}
    after = {"shelf": {"tier": "b", "labels": {"x": "2"}, "note": "b"}}
    (told,) = edited(adviser, before, after).warnings
    assert told == (
        "spec.approval: Automatic carries out at once what can lose data: "
        "shelf.tier, shelf.labels.y; Destructive asks first"
    )
    asks = {"approval": "Destructive"}
    assert edited(adviser, {**before, **asks}, {**after, **asks}) == Advice()


def test_another_connection_and_a_ttl_that_is_past_are_warned_of(adviser, cluster):
    cluster.put("Connection", "second", {"shelf": SHELF})
    moved = {"connectionRef": {"name": "second"}}
    assert edited(adviser, {}, moved) == Advice(), "nothing was made yet"
    (told,) = edited(adviser, {}, moved, status={"id": "docs"}).warnings
    assert told == (
        "spec.connectionRef: docs was made over Connection 'vendor'; at another account it is "
        "made anew, and what is there is left behind"
    )
    cluster.pass_(hours=2)
    told = edited(adviser, {}, {"ttl": "1h"}).warnings[-1]
    assert told == "spec.ttl: 1h after its creation is past already: it is deleted at shelf now"


def test_connections_are_looked_at_too(adviser: Adviser):
    def look(spec: JSON, kind: str = "Connection") -> Advice:
        return adviser.on_write(subject(spec, "c", kind), None)

    assert look({"shelf": SHELF}) == Advice()
    assert look({"shelf": {"address": "x"}}).refusals == ["spec.shelf.token: field required"]
    assert look({"shelf": SHELF, "interval": 5}).refusals == [
        "spec.interval: input should be a valid string"
    ]
    assert look({}).refusals == ["spec must have exactly one vendor block, of: rack, shelf"]
    assert look({"shelf": {**SHELF, "address": "http://user:pass@host/?q"}}).warnings == [
        "spec.shelf.address: http sends credentials and data unencrypted; use https"
    ]
    shared = {"shelf": SHELF, "secretNamespace": "ops", "allowedNamespaces": ["a", "*"]}
    assert look(shared, "ClusterConnection").warnings == [
        "spec.allowedNamespaces: * lets every namespace of the cluster use these credentials"
    ]


def test_whom_an_edit_shuts_out_is_told(adviser, cluster):
    spec = {"shelf": SHELF, "secretNamespace": "ops", "allowedNamespaces": ["team", "b"]}
    old = cluster.subjects[cluster.put("ClusterConnection", "shared", spec, "")]
    ref = {"kind": "ClusterConnection", "name": "shared"}
    cluster.put("VectorIndex", "docs", {**BASE, "connectionRef": ref})
    new = replace(old, spec={**spec, "allowedNamespaces": ["b"]})
    assert adviser.on_write(new, old).warnings == [
        "spec.allowedNamespaces: no longer usable by: VectorIndex team/docs"
    ]


def test_deleting_a_connection_names_its_users(adviser, cluster):
    connection = cluster.subjects[Key("Connection", NAMESPACE, "vendor")]
    assert adviser.on_deletion(connection) == Advice()
    for number in range(7):
        cluster.put("VectorIndex", f"index-{number}", BASE)
    (told,) = adviser.on_deletion(connection).warnings
    assert told.startswith(
        "Connection 'vendor' is kept until nothing uses it any more: VectorIndex"
    )
    assert told.endswith(" and 2 more")
    assert adviser.on_deletion(replace(connection, deleting=True)) == Advice()


def test_deleting_data_is_warned_of(adviser: Adviser):
    def delete(**spec: Any) -> list[str]:
        return adviser.on_deletion(subject({**BASE, **spec}, status={"id": "docs"})).warnings

    assert delete() == []
    assert delete(deletionPolicy="Delete") == [
        "spec.deletionPolicy: Delete deletes docs and its data at shelf"
    ]
    assert delete(deletionPolicy="Delete", approval="Always") == [
        (
            "spec.deletionPolicy: Delete deletes docs and its data at shelf once the deletion is "
            "approved"
        )
    ]
    assert delete(deletionPolicy="Delete", policy="Observe") == []
    forgotten = subject(BASE, status={"id": "docs"}, annotations={FORGET: "true"})
    assert adviser.on_deletion(forgotten).warnings == [
        "docs is left at shelf, and nothing keeps it any more"
    ]
    assert adviser.on_deletion(subject({**BASE, "deletionPolicy": "Delete"})) == Advice()
    assert adviser.on_deletion(subject({"nothing": 1}, status={"id": "docs"})) == Advice()


NAMES = [
    ("VectorIndex", "pinecone", {"cloud": "aws", "region": "r"}, "a" * 45, "a" * 46),
    ("VectorIndex", "pinecone", {"cloud": "aws", "region": "r"}, "a-b", "a.b"),
    ("VectorIndex", "pinecone", {"cloud": "aws", "region": "r"}, "a", "a-"),
    ("VectorIndex", "pgvector", {}, "é" * 26, "é" * 27),
    ("IdentityProvider", "cognito", {}, "users of a.b", "users/a"),
    ("ModelDeployment", "sageMaker", {"executionRoleArn": "arn:aws:iam"}, "a--b", "a.b"),
    ("ModelDeployment", "sageMaker", {"executionRoleArn": "arn:aws:iam"}, "A" * 63, "A" * 64),
]
PORTABLE: dict[str, JSON] = {
    "VectorIndex": {"dimension": 8},
    "IdentityProvider": {},
    "ModelDeployment": {"model": {"artifact": "s3://bucket/model.tar.gz"}},
}


def looked_at(kind: str, vendor: str, block: JSON, **spec: Any) -> list[str]:
    found = catalogue()
    adviser = Adviser(MemoryCluster(), found, connectors(found))
    whole = {"connectionRef": {"name": "c"}, **PORTABLE[kind], vendor: block, **spec}
    return adviser.on_write(subject(whole, kind=kind), None).refusals


@pytest.mark.parametrize(("kind", "vendor", "block", "good", "bad"), NAMES)
def test_vendors_rules_for_names(kind: str, vendor: str, block: JSON, good: str, bad: str):
    assert looked_at(kind, vendor, block, externalName=good) == []
    (told,) = looked_at(kind, vendor, block, externalName=bad)
    assert told.startswith("spec.externalName: ")


def test_other_rules_of_vendors_that_the_schema_cannot_say():
    (told,) = looked_at("VectorIndex", "pgvector", {}, dimension=2001)
    assert told == "spec.dimension: pgvector indexes a vector up to 2000 dimensions"
    assert looked_at("VectorIndex", "pgvector", {"columnType": "halfvec"}, dimension=4000) == []
    (told,) = looked_at("VectorIndex", "pgvector", {"table": "t" * 53})
    assert told == "spec.pgvector.table: PostgreSQL cuts names: here they may have 52 bytes"
    (told,) = looked_at("IdentityProvider", "cognito", {"domain": "my-aws"})
    assert told == "spec.cognito.domain: Cognito keeps the words aws, amazon, cognito for itself"
    (told,) = looked_at("IdentityProvider", "cognito", {"domain": "Mine"})
    assert told.startswith("spec.cognito.domain: Cognito takes lower-case")


CHAT: JSON = {
    "candidates": [{"name": "first"}, {"name": "second"}],
    "outputs": {"secretName": "chat"},
}


def test_a_route_is_warned_of_what_is_not_there_and_of_a_secret_that_is_not_its_own(
    cluster: MemoryCluster, adviser: Adviser
):
    cluster.put("ModelDeployment", "first", {"outputs": {"secretName": "chat"}})
    route = subject(CHAT, kind="ModelRoute", name="chat")
    assert adviser.on_write(route, None) == Advice(
        warnings=[
            (
                "spec.outputs.secretName: Secret 'chat' is that of ModelDeployment 'first'; a "
                "route needs one of its own"
            ),
            "spec.candidates[1]: there is no ModelDeployment 'second' yet",
        ]
    )
    edited = replace(route, spec={**CHAT, "suspend": True})
    assert adviser.on_write(edited, route) == Advice()
    (refused,) = adviser.on_write(replace(route, spec={"candidates": []}), None).refusals
    assert refused.startswith("spec.candidates")
    assert adviser.on_deletion(route) == Advice()


def test_the_deletion_of_a_deployment_that_a_route_uses_is_warned_of(
    cluster: MemoryCluster, adviser: Adviser
):
    cluster.put("ModelRoute", "chat", CHAT)
    first = subject({}, kind="ModelDeployment", name="first")
    assert adviser.on_deletion(first) == Advice()
    cluster.subjects[Key("ModelRoute", NAMESPACE, "chat")].status = {"active": "first"}
    assert adviser.on_deletion(first).warnings == [
        "ModelRoute 'chat' uses it, and goes over to another that serves"
    ]
