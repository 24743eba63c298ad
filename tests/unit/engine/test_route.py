"""Routes: which deployment is used, and what its users find in the Secret."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from auterity.api.model_route import Failover
from auterity.engine.conditions import Reason
from auterity.engine.route import OUT, Choice, Routing, Seen, choose
from auterity.engine.subject import JSON, Key, Subject
from auterity.engine.verdict import Verdict, Waits
from tests.conformance.cluster import NAMESPACE, MemoryCluster

T0 = datetime(2026, 1, 1, tzinfo=UTC)
FAILOVER = Failover(after="30s", failback_after="5m")
ROUTE = Key("ModelRoute", NAMESPACE, "chat")


def serving(name: str, seconds: float = 3600) -> Seen:
    return Seen(name, "Serving", T0 - timedelta(seconds=seconds))


def out(name: str, seconds: float) -> Seen:
    return Seen(name, "Out", T0 - timedelta(seconds=seconds), "ProbeFailing")


def missing(name: str) -> Seen:
    return Seen(name, "Missing", T0)


@pytest.mark.parametrize(
    ("active", "candidates", "expected"),
    [
        (None, [serving("a", 0), serving("b")], Choice("a")),
        (None, [out("a", 0), serving("b")], Choice("b")),
        (None, [missing("a"), out("b", 9)], Choice(None)),
        ("a", [serving("a"), serving("b")], Choice("a")),
        ("a", [out("a", 10), serving("b")], Choice("a", 20.0)),
        ("a", [out("a", 30), serving("b")], Choice("b")),
        ("a", [out("a", 30), out("b", 500)], Choice("a")),
        ("a", [out("a", 30), missing("b"), serving("c")], Choice("c")),
        ("a", [missing("a"), serving("b")], Choice("b")),
        ("a", [missing("a"), missing("b")], Choice(None)),
        ("gone", [serving("a"), serving("b")], Choice("a")),
        ("b", [serving("a", 100), serving("b")], Choice("b", 200.0)),
        ("b", [serving("a", 300), serving("b")], Choice("a")),
        ("b", [out("a", 300), serving("b")], Choice("b")),
        ("c", [serving("a", 200), serving("b", 290), serving("c")], Choice("c", 10.0)),
    ],
)
def test_the_choice(active: str | None, candidates: Sequence[Seen], expected: Choice):
    assert choose(active, candidates, FAILOVER, T0) == expected


def test_one_that_never_goes_back_stays_where_it_is():
    never = Failover(after="30s", failback="Never")
    assert choose("b", [serving("a"), serving("b")], never, T0) == Choice("b")


@given(
    st.lists(st.tuples(st.sampled_from("SOM"), st.floats(0, 1000)), min_size=1, max_size=6),
    st.sampled_from([None, "0", "3", "9"]),
)
def test_whoever_is_chosen_serves_unless_nobody_does_or_patience_is_asked_for(
    drawn: list[tuple[str, float]], active: str | None
):
    states = {"S": "Serving", "O": "Out", "M": "Missing"}
    candidates = [
        Seen(str(i), states[letter], T0 - timedelta(seconds=ago))  # type: ignore[arg-type]  # as is
        for i, (letter, ago) in enumerate(drawn)
    ]
    found = choose(active, candidates, FAILOVER, T0)
    chosen = next((one for one in candidates if one.name == found.name), None)
    if any(one.serves for one in candidates):
        assert chosen is not None
        assert chosen.serves or (found.name == active and found.wait)
    # What was decided is decided again as long as nothing changes.
    assert choose(found.name, candidates, FAILOVER, T0).name == found.name


class Cluster(MemoryCluster):
    def deployment(
        self, name: str, status: str = "True", reason: str = Reason.READY, **spec: Any
    ) -> Subject:
        key = Key("ModelDeployment", NAMESPACE, name)
        self.put(key.kind, name, spec)
        subject = self.subjects[key]
        subject.status = {
            "vendor": f"vendor-of-{name}",
            "outputs": {"url": f"https://{name}.example"},
            "conditions": [{"type": "Ready", "status": status, "reason": str(reason)}],
        }
        return subject

    def secret_of(self, subject: Subject, name: str, **data: str) -> None:
        self.put_secret(name, data)
        self.owners[NAMESPACE, name] = subject.uid

    async def look(self) -> Verdict:
        return await Routing(self, self.subjects[ROUTE]).visit()

    @property
    def told(self) -> JSON:
        return self.subjects[ROUTE].status

    @property
    def ready(self) -> tuple[str, str, str]:
        condition = self.subjects[ROUTE].condition("Ready") or {}
        return condition["status"], condition["reason"], condition["message"]


@pytest.fixture
def cluster() -> Cluster:
    found = Cluster()
    spec = {
        "candidates": [{"name": "first"}, {"name": "second"}],
        "outputs": {"secretName": "chat"},
    }
    found.put("ModelRoute", "chat", spec)
    return found


async def test_the_secret_has_all_that_the_deployment_in_use_publishes(cluster: Cluster):
    first = cluster.deployment("first", outputs={"secretName": "of-first"})
    cluster.secret_of(first, "of-first", apiKey="key-of-first", url="https://first.example")
    verdict = await cluster.look()
    assert verdict.outcome == Reason.READY
    assert cluster.secrets[NAMESPACE, "chat"] == {
        "apiKey": "key-of-first",
        "url": "https://first.example",
        "deployment": "first",
    }
    assert cluster.told["active"] == "first"
    assert cluster.told["outputs"] == {"url": "https://first.example"}
    assert "key-of-first" not in str(cluster.told)
    assert Waits("Secret", NAMESPACE, "of-first") in verdict.waits
    cluster.writes.clear()
    await cluster.look()
    assert cluster.writes == []


async def test_another_takes_over_and_leaves_nothing_of_the_first_in_the_secret(cluster: Cluster):
    first = cluster.deployment("first", outputs={"secretName": "of-first"})
    cluster.secret_of(first, "of-first", apiKey="key-of-first")
    cluster.deployment("second")
    await cluster.look()
    cluster.deployment("first", "False", Reason.PROBE_FAILING, outputs={"secretName": "of-first"})
    verdict = await cluster.look()
    assert cluster.told["active"] == "first"
    assert cluster.ready[:2] == ("False", "DependencyNotReady")
    assert 30 < verdict.seconds < 35
    cluster.pass_(seconds=30)
    await cluster.look()
    assert cluster.ready == ("True", "Ready", "Uses second at vendor-of-second, instead of first")
    assert cluster.secrets[NAMESPACE, "chat"] == {
        "url": "https://second.example",
        "deployment": "second",
    }
    assert ("Warning", "FailedOver", "second takes over from first: ProbeFailing") in cluster.events
    cluster.deployment("first")
    await cluster.look()
    assert cluster.told["active"] == "second"
    cluster.pass_(minutes=5)
    await cluster.look()
    assert cluster.told["active"] == "first"
    assert cluster.events[-1][1] == "FailedBack"


async def test_a_flicker_moves_nothing(cluster: Cluster):
    cluster.deployment("first")
    cluster.deployment("second")
    await cluster.look()
    for _ in range(5):
        cluster.deployment("first", "False", Reason.PROVIDER_UNAVAILABLE)
        await cluster.look()
        cluster.pass_(seconds=20)
        cluster.deployment("first")
        await cluster.look()
        cluster.pass_(seconds=20)
    assert cluster.told["active"] == "first"
    assert not [e for e in cluster.events if e[1] == "FailedOver"]


@pytest.mark.parametrize("reason", sorted(set(Reason) - OUT))
async def test_what_is_only_being_changed_or_hidden_goes_on_serving(
    cluster: Cluster, reason: Reason
):
    cluster.deployment("first")
    cluster.deployment("second")
    await cluster.look()
    cluster.deployment("first", "False", reason)
    cluster.pass_(minutes=10)
    await cluster.look()
    assert cluster.told["active"] == "first"


async def test_one_that_is_out_is_so_until_it_is_ready_whatever_is_done_meanwhile(
    cluster: Cluster,
):
    cluster.deployment("first")
    cluster.deployment("second")
    await cluster.look()
    cluster.deployment("first", "False", Reason.PROVIDER_FAILED)
    await cluster.look()
    cluster.pass_(seconds=20)
    cluster.deployment("first", "False", Reason.ROLLING_OUT)
    await cluster.look()
    cluster.pass_(seconds=10)
    await cluster.look()
    assert cluster.told["active"] == "second"
    assert cluster.told["candidates"][0] == {
        "name": "first",
        "state": "Out",
        "since": "2026-01-01T00:00:00Z",
        "reason": "RollingOut",
    }
    cluster.pass_(hours=1)
    await cluster.look()
    assert cluster.told["active"] == "second"


@pytest.mark.parametrize("reason", [Reason.PROGRESSING, Reason.ROLLING_OUT])
async def test_one_whose_address_is_known_before_it_serves_is_not_used(
    cluster: Cluster, reason: Reason
):
    first = cluster.deployment("first", "False", reason)
    await cluster.look()
    assert cluster.ready[:2] == ("False", "DependencyNotReady")
    # Unless it has served before the route was there.
    first.status["syncedGeneration"] = 1
    await cluster.look()
    assert cluster.told["active"] == "first"


async def test_one_that_was_never_ready_is_not_used(cluster: Cluster):
    cluster.put("ModelDeployment", "first", {})
    verdict = await cluster.look()
    assert cluster.ready[:2] == ("False", "DependencyNotReady")
    assert "active" not in cluster.told
    assert Waits("ModelDeployment", NAMESPACE, "second") in verdict.waits


async def test_one_that_is_being_deleted_is_left_at_once(cluster: Cluster):
    cluster.deployment("first").deleting = True
    cluster.told["active"] = "first"
    cluster.deployment("second")
    await cluster.look()
    assert cluster.told["active"] == "second"


async def test_a_secret_of_someone_else_is_not_overwritten(cluster: Cluster):
    cluster.deployment("first")
    cluster.put_secret("chat", {"mine": "1"})
    await cluster.look()
    assert cluster.ready[:2] == ("False", "Conflict")
    assert cluster.secrets[NAMESPACE, "chat"] == {"mine": "1"}


async def test_a_secret_that_a_deployment_only_names_is_not_read(cluster: Cluster):
    cluster.deployment("first", outputs={"secretName": "of-another"})
    cluster.put_secret("of-another", {"password": "not-for-you"})
    await cluster.look()
    assert "password" not in cluster.secrets[NAMESPACE, "chat"]


async def test_suspended_it_stays_where_it_is(cluster: Cluster):
    cluster.deployment("first")
    await cluster.look()
    cluster.put("ModelRoute", "chat", {**cluster.subjects[ROUTE].spec, "suspend": True})
    cluster.deployment("first", "False", Reason.NOT_FOUND)
    cluster.deployment("second")
    cluster.pass_(hours=1)
    await cluster.look()
    assert cluster.ready[:2] == ("True", "Suspended")
    assert cluster.told["active"] == "first"


async def test_an_object_of_an_older_schema_is_told(cluster: Cluster):
    cluster.put("ModelRoute", "chat", {"candidates": []})
    await cluster.look()
    assert cluster.ready[:2] == ("False", "SpecRejected")
    assert "spec.candidates" in cluster.ready[2]


async def test_deleted_it_is_let_go_at_once(cluster: Cluster):
    cluster.subjects[ROUTE].deleting = True
    assert (await cluster.look()).gone
