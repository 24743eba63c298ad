"""Connections: who may use them, whose credentials they carry, and when they may go."""

import asyncio
from dataclasses import replace
from typing import Any

import pytest

from auterity.api.annotations import REQUESTED_AT
from auterity.engine import connections
from auterity.engine.errors import Rejected, Throttled, Unavailable
from auterity.engine.subject import Key, SecretData, Subject
from auterity.engine.verdict import Again, Verdict
from tests.conformance.cluster import NAMESPACE
from tests.conformance.harness import NAME, Harness
from tests.unit.engine.shelf import TOKEN, ShelfConnection, ShelfSession, World

NEW = "token-Yt55newer1"


def connection(harness: Harness) -> Subject:
    return harness.cluster.subjects[harness.connection]


async def verify(harness: Harness) -> Verdict:
    return await harness.connections.visit(connection(harness))


def ready(harness: Harness) -> Any:
    return connection(harness).condition("Ready")


def share(harness: Harness, *namespaces: str) -> None:
    harness.cluster.put_secret("shelf", {"token": TOKEN}, "vault")
    block = {"shelf": harness.vendor.connection(None)}
    harness.cluster.put(
        "ClusterConnection",
        "shared",
        {**block, "secretNamespace": "vault", "allowedNamespaces": list(namespaces)},
        namespace="",
    )


SHARED = {"connectionRef": {"kind": "ClusterConnection", "name": "shared"}}


@pytest.mark.parametrize("pattern", [NAMESPACE, "te*", "*"])
async def test_a_cluster_connection_serves_the_namespaces_it_names(harness: Harness, pattern: str):
    share(harness, "elsewhere", pattern)
    harness.apply(**SHARED)
    assert (await harness.visit()).outcome == "Ready"


@pytest.mark.parametrize("pattern", ["tea", "team-*", "other"])
async def test_a_cluster_connection_serves_no_other_namespace(
    harness: Harness, world: World, pattern: str
):
    share(harness, pattern)
    harness.apply(**SHARED)
    assert (await harness.visit()).outcome == "DependencyNotReady"
    assert f"may not be used from namespace '{NAMESPACE}'" in harness.ready["message"]
    assert world.opened == 0


async def test_a_namespace_that_is_no_longer_allowed_is_shut_out(harness: Harness, world: World):
    share(harness, NAMESPACE)
    harness.apply(**SHARED)
    await harness.visit()
    share(harness, "other")
    assert (await harness.visit()).outcome == "DependencyNotReady"


async def test_a_missing_connection_is_named(harness: Harness):
    harness.apply(connectionRef={"name": "nowhere"})
    assert (await harness.visit()).outcome == "DependencyNotReady"
    assert harness.ready["message"] == "Connection 'nowhere' does not exist"


class RackConnection(ShelfConnection):
    vendor = "rack"


async def test_an_object_goes_to_no_other_vendor_than_its_own(harness: Harness, world: World):
    id = await harness.make()
    harness.connections._connectors = {"rack": RackConnection, "shelf": ShelfConnection}
    harness.cluster.put("Connection", "rack", {"rack": harness.vendor.connection(None)})
    world.calls.clear()
    harness.apply(connectionRef={"name": "rack"})
    assert (await harness.visit()).outcome == "DependencyNotReady"
    told = "Connection 'rack' is a connection to rack; shelf needs one to shelf"
    assert harness.ready["message"] == told
    harness.cluster.delete(harness.key)
    assert not (await harness.visit()).gone
    assert world.calls == []
    assert harness.subject.status["id"] == id


async def test_a_connection_in_use_waits_and_names_its_users(harness: Harness, world: World):
    await harness.make()
    for number in range(7):
        harness.cluster.put("VectorIndex", f"more-{number}", harness.subject.spec)
    await verify(harness)
    harness.cluster.delete(harness.connection)
    verdict = await verify(harness)
    assert verdict.outcome == "InUse"
    assert f"VectorIndex {NAMESPACE}/{NAME}" in ready(harness)["message"]
    assert "and 3 more" in ready(harness)["message"]
    harness.cluster.writes.clear()
    await verify(harness)
    assert harness.cluster.writes == []
    await harness.visit()
    await harness.remove()
    for number in range(7):
        harness.cluster.delete(Key("VectorIndex", NAMESPACE, f"more-{number}"))
    assert (await verify(harness)).gone
    assert harness.connection not in harness.cluster.subjects


async def test_new_credentials_open_a_new_session_and_close_the_old_one(
    harness: Harness, world: World, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(connections, "CLOSE_AFTER", 0.0)
    await harness.make()
    await harness.visit()
    assert (world.opened, world.closed) == (1, 0)
    harness.cluster.put_secret("shelf", {"token": NEW})
    world.token = NEW
    assert harness.connections.using_secret(NAMESPACE, "shelf") == [harness.connection]
    harness.connections.doubt(harness.connection)
    assert (await harness.visit()).outcome == "Ready"
    await asyncio.sleep(0.01)
    assert (world.opened, world.closed) == (2, 1)
    await harness.visit()
    assert world.opened == 2
    await harness.connections.close()
    assert world.closed == 2
    assert NEW not in harness.everything_told()


@pytest.mark.parametrize("readable", [True, False])
async def test_a_connection_that_goes_while_it_is_opened_leaves_nothing_open(
    harness: Harness, world: World, monkeypatch: pytest.MonkeyPatch, *, readable: bool
):
    monkeypatch.setattr(connections, "CLOSE_AFTER", 0.0)
    harness.apply()
    kept = harness.connections
    read = harness.cluster.secret

    async def secret(namespace: str, name: str) -> SecretData | None:
        del harness.cluster.subjects[harness.connection]
        kept.forget(harness.connection)
        return await read(namespace, name) if readable else None

    monkeypatch.setattr(harness.cluster, "secret", secret)
    await harness.visit()
    await asyncio.sleep(0.01)
    assert (world.opened, world.closed) == ((1, 1) if readable else (0, 0))
    left = (kept._opened, kept._stale, kept._opening, kept._limits, kept._closing, kept.budgets)
    assert not any(left)


async def test_a_secret_that_says_the_same_opens_nothing(harness: Harness, world: World):
    await harness.make()
    harness.connections.doubt(harness.connection)
    await harness.visit()
    assert world.opened == 1


async def test_refused_credentials_are_read_again_at_the_next_visit(harness: Harness, world: World):
    await harness.make()
    world.token = NEW
    assert (await harness.visit()).outcome == "CredentialsRejected"
    assert harness.condition("Stalled")
    assert TOKEN not in harness.ready["message"]
    harness.cluster.put_secret("shelf", {"token": NEW})
    assert (await harness.visit()).outcome == "Ready"


async def test_a_connection_known_to_be_refused_costs_its_users_no_call(
    harness: Harness, world: World
):
    world.token = NEW
    assert (await verify(harness)).outcome == "CredentialsRejected"
    world.calls.clear()
    harness.apply()
    assert (await harness.visit()).outcome == "DependencyNotReady"
    assert world.calls == []
    harness.cluster.put_secret("shelf", {"token": NEW})
    assert (await verify(harness)).outcome == "Ready"
    assert (await harness.visit()).outcome == "Ready"


async def test_an_edit_of_the_connection_opens_it_anew_and_forgets_its_failures(
    harness: Harness, world: World
):
    await harness.make()
    (budget,) = harness.connections.budgets.values()
    budget.pause(1000.0)
    assert (await harness.visit()).outcome == "RateLimited"
    limit = {"perSecond": 3, "burst": 2, "concurrent": 1}
    harness.cluster.put("Connection", "vendor", {**connection(harness).spec, "rateLimit": limit})
    assert (await harness.visit()).outcome == "Ready"
    assert world.opened == 2
    assert harness.connections.budgets[harness.connection] is budget
    assert (budget.per_second, budget.burst, budget.concurrent) == (3, 2.0, 1)


async def test_verifying_tells_who_we_are_and_writes_once(harness: Harness):
    verdict = await verify(harness)
    assert (verdict.outcome, verdict.again, verdict.seconds) == ("Ready", Again.AFTER, 600.0)
    assert connection(harness).status["identity"] == "acme"
    assert connection(harness).status["observedGeneration"] == 1
    assert connection(harness).kept
    harness.cluster.writes.clear()
    await verify(harness)
    assert harness.cluster.writes == []


async def test_a_request_to_verify_is_echoed(harness: Harness):
    connection(harness).annotations[REQUESTED_AT] = "now"
    await verify(harness)
    assert connection(harness).status["lastHandledReconcileAt"] == "now"


@pytest.mark.parametrize(
    ("failure", "outcome", "again"),
    [
        (Unavailable("down"), "ProviderUnavailable", Again.RETRY),
        (Throttled("slow", 9.0), "RateLimited", Again.AFTER),
        (Rejected("no"), "SpecRejected", Again.AFTER),
        (RuntimeError(f"a bug with {TOKEN}"), "InternalError", Again.RETRY),
    ],
)
async def test_a_failed_verification_is_told(
    harness: Harness, world: World, failure: Exception, outcome: str, again: Again
):
    world.trouble["whoami"] = [failure]
    verdict = await verify(harness)
    assert (verdict.outcome, verdict.again) == (outcome, again)
    assert ready(harness)["reason"] == outcome
    assert ready(harness)["status"] == "False"
    assert "identity" not in connection(harness).status


async def test_a_missing_secret_is_waited_for(harness: Harness):
    del harness.cluster.secrets[NAMESPACE, "shelf"]
    verdict = await verify(harness)
    assert verdict.outcome == "DependencyNotReady"
    assert any(w.woken_by(Key("Secret", NAMESPACE, "shelf"), {}) for w in verdict.waits)


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        ({}, "exactly one vendor block, of: shelf"),
        ({"shelf": {"address": "x"}}, "spec.shelf.token: field required"),
        ({"shelf": None}, "spec.shelf."),
        ({"shelf": {}, "interval": "soon"}, "spec.interval: "),
    ],
)
async def test_a_spec_of_an_older_schema_is_refused_by_field(
    harness: Harness, spec: dict[str, Any], words: str
):
    harness.cluster.put("Connection", "vendor", spec)
    assert (await verify(harness)).outcome == "SpecRejected"
    assert words in ready(harness)["message"]
    harness.apply()
    assert (await harness.visit()).outcome == "DependencyNotReady"


async def test_many_visits_at_once_open_one_session(
    harness: Harness, world: World, monkeypatch: pytest.MonkeyPatch
):
    harness.apply()
    for number in range(20):
        harness.cluster.put("VectorIndex", f"more-{number}", harness.subject.spec)
    opened = await asyncio.gather(*(harness.opened() for _ in range(20)))
    assert world.opened == 1
    assert len({id(one.session) for one in opened}) == 1
    assert isinstance(opened[0].session, ShelfSession)


async def test_what_goes_with_its_namespace_goes_at_the_vendor_though_the_secret_went_first(
    harness: Harness, world: World
):
    await harness.make()
    del harness.cluster.secrets[NAMESPACE, "shelf"]
    harness.connections.doubt(harness.connection)
    assert (await verify(harness)).outcome == "DependencyNotReady"
    assert (await harness.visit()).outcome == "DependencyNotReady"
    # As the API server does when it marks an object as being deleted.
    going = replace(connection(harness), deleting=True, generation=2)
    harness.cluster.subjects[harness.connection] = going
    harness.cluster.delete(harness.key)
    assert (await harness.visit()).gone
    assert not world.things


async def test_an_edited_connection_is_not_used_as_it_was_for_want_of_its_secret(
    harness: Harness, world: World
):
    await harness.make()
    spec = connection(harness).spec
    harness.cluster.put("Connection", "vendor", {**spec, "interval": "5m"})
    del harness.cluster.secrets[NAMESPACE, "shelf"]
    harness.cluster.delete(harness.key)
    assert (await harness.visit()).outcome == "DependencyNotReady"
    assert world.things
