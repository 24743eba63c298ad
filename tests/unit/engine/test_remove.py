"""Letting go: deletion, suspension, ttl, forgetting."""

from typing import Any

import pytest

from auterity.api.annotations import FORGET
from auterity.engine.contract import Phase
from auterity.engine.errors import Unauthorized, Unavailable
from auterity.engine.verdict import Again
from tests.conformance.harness import NAME, Harness
from tests.unit.engine.shelf import World


def reasons(harness: Harness) -> list[str]:
    return [reason for _, reason, _ in harness.cluster.events]


async def test_suspended_means_no_call_and_the_last_ready_stays(harness: Harness, world: World):
    await harness.make()
    world.things[NAME].fields["replicas"] = 9
    world.calls.clear()
    harness.apply(suspend=True)
    verdict = await harness.visit()
    assert (verdict.outcome, verdict.again) == ("Suspended", Again.NEVER)
    assert harness.ready["status"] == "True"
    assert {c["type"] for c in harness.subject.status["conditions"]} == {"Ready"}
    assert harness.subject.status["observedGeneration"] == 2
    assert world.calls == []
    harness.cluster.writes.clear()
    await harness.visit()
    assert harness.cluster.writes == []
    harness.apply(suspend=False)
    assert (await harness.visit()).outcome == "Ready"
    assert world.things[NAME].fields["replicas"] == 1


async def test_suspended_from_the_first_is_unknown(harness: Harness, world: World):
    harness.apply(suspend=True)
    await harness.visit()
    assert harness.ready["status"] == "Unknown"
    assert world.calls == []


async def test_deleting_works_while_suspended(harness: Harness, world: World):
    await harness.make()
    harness.apply(suspend=True)
    await harness.visit()
    await harness.remove()
    assert not world.things


async def test_forget_lets_go_without_any_call_and_says_what_is_left(
    harness: Harness, world: World
):
    await harness.make()
    world.calls.clear()
    harness.subject.annotations[FORGET] = "true"
    harness.cluster.delete(harness.key)
    verdict = await harness.visit()
    assert verdict.gone
    assert world.calls == []
    assert world.things
    (event,) = [e for e in harness.cluster.events if e[1] == "Forgotten"]
    assert NAME in event[2]


@pytest.mark.parametrize("value", ["false", "yes", ""])
async def test_only_true_forgets(harness: Harness, world: World, value: str):
    await harness.make()
    harness.subject.annotations[FORGET] = value
    harness.cluster.delete(harness.key)
    await harness.visit()
    assert not world.things


async def test_forget_does_nothing_before_the_deletion(harness: Harness, world: World):
    await harness.make()
    harness.subject.annotations[FORGET] = "true"
    assert (await harness.visit()).outcome == "Ready"
    assert harness.subject.kept


@pytest.mark.parametrize(
    "failure", [Unavailable("down"), Unauthorized("expired"), RuntimeError("bug")]
)
@pytest.mark.parametrize("verb", ["get", "delete"])
async def test_no_failure_drops_the_finalizer(
    harness: Harness, world: World, verb: str, failure: Exception
):
    await harness.make()
    harness.cluster.delete(harness.key)
    world.trouble[verb] = [failure]
    assert not (await harness.visit()).gone
    assert harness.subject.kept
    assert harness.ready["status"] == "False"
    await harness.remove()
    assert not world.things


async def test_a_deletion_waits_until_it_is_gone(harness: Harness, world: World):
    await harness.make()
    thing = world.things[NAME]
    harness.cluster.delete(harness.key)

    def linger() -> None:
        thing.phase = Phase.DELETING
        world.before["get"] = lambda: world.things.update({NAME: thing})

    world.before["delete"] = linger
    verdict = await harness.visit()
    assert (verdict.outcome, verdict.again) == ("Deleting", Again.POLL)
    world.calls.clear()
    verdict = await harness.visit()
    assert verdict.again is Again.POLL
    assert world.calls == [f"get {NAME}"], "it is not deleted twice"
    world.things.clear()
    assert (await harness.visit()).gone


async def test_kinds_that_hold_data_are_retained_by_default(harness: Harness, world: World):
    harness.cluster.put(
        harness.key.kind,
        harness.key.name,
        {"connectionRef": {"name": "vendor"}, "dimension": 8, "shelf": {}},
    )
    await harness.converge()
    world.calls.clear()
    await harness.remove()
    assert world.calls == []
    assert ("Normal", "Retained", f"Left at shelf: {NAME}") in harness.cluster.events


async def test_retaining_needs_no_connection(harness: Harness, world: World):
    await harness.make(deletionPolicy="Retain")
    del harness.cluster.subjects[harness.connection]
    await harness.remove()
    assert world.things


async def test_a_mark_that_was_taken_off_keeps_it_from_being_deleted(
    harness: Harness, world: World
):
    await harness.make()
    world.things[NAME].owner = None
    harness.cluster.delete(harness.key)
    assert (await harness.visit()).outcome == "Conflict"
    assert "forget" in harness.ready["message"]
    assert world.things
    assert harness.subject.kept


async def test_anothers_object_under_our_name_is_left_alone(harness: Harness, world: World):
    world.put(NAME, "other/cluster/object")
    harness.apply()
    await harness.visit()
    harness.cluster.subjects[harness.key] = await harness.cluster.patch_metadata(
        harness.subject, finalizer=True
    )
    await harness.remove()
    assert world.things
    assert "LeftAlone" in reasons(harness)


async def test_a_spec_that_was_never_valid_goes_without_a_call(harness: Harness, world: World):
    harness.apply({"shelf": {}})
    await harness.visit()
    harness.cluster.subjects[harness.key] = await harness.cluster.patch_metadata(
        harness.subject, finalizer=True
    )
    await harness.remove()
    assert world.calls == []


async def test_a_spec_that_became_invalid_keeps_what_was_made(harness: Harness, world: World):
    await harness.make()
    harness.apply({"shelf": {}})
    harness.cluster.delete(harness.key)
    assert (await harness.visit()).outcome == "SpecRejected"
    assert harness.subject.kept
    assert world.things


TTL = {"ttl": "2h", "interval": "24h"}


async def test_the_end_of_a_ttl_is_warned_of_and_then_kept(harness: Harness, world: World):
    await harness.make(**TTL)
    verdict = await harness.visit()
    assert verdict.seconds == pytest.approx(108 * 60), "when the warning is due"
    harness.cluster.pass_(minutes=108)
    verdict = await harness.visit()
    assert verdict.outcome == "Ready"
    assert "2026-01-01T02:00:00Z" in harness.ready["message"]
    assert reasons(harness).count("Expiring") == 1
    assert verdict.seconds == pytest.approx(12 * 60), "when the end is due"
    harness.cluster.writes.clear()
    await harness.visit()
    assert harness.cluster.writes == []
    harness.cluster.pass_(minutes=12)
    verdict = await harness.visit()
    assert (verdict.outcome, verdict.again) == ("Expired", Again.NEVER)
    assert not world.things
    assert harness.condition("Stalled")
    assert "id" not in harness.subject.status
    assert [r.cause for r in harness.recorder.changes] == ["Spec", "Expiry"]
    harness.cluster.writes.clear()
    await harness.visit()
    assert harness.cluster.writes == []
    await harness.remove()


async def test_the_end_comes_in_time_whatever_the_state(harness: Harness, world: World):
    await harness.make(driftPolicy="Report", **TTL)
    world.things[NAME].fields["replicas"] = 9
    verdict = await harness.visit()
    assert verdict.outcome == "Drifted"
    assert verdict.seconds <= 2 * 3600


async def test_a_longer_ttl_brings_it_back(harness: Harness, world: World):
    await harness.make(**TTL)
    harness.cluster.pass_(hours=3)
    await harness.visit()
    harness.apply(ttl="48h")
    assert (await harness.visit()).outcome == "Ready"
    assert world.things


async def test_the_end_leaves_alone_what_is_not_ours_and_says_so(harness: Harness, world: World):
    world.put(NAME)
    harness.apply(ttl="1h")
    harness.cluster.pass_(hours=2)
    assert (await harness.visit()).outcome == "Expired"
    assert "not ours" in harness.ready["message"]
    assert world.things


async def test_the_end_of_an_observed_thing_deletes_nothing(harness: Harness, world: World):
    world.put(NAME)
    harness.apply(policy="Observe", ttl="1h")
    await harness.visit()
    harness.cluster.pass_(hours=2)
    assert (await harness.visit()).outcome == "Expired"
    assert "deleted" not in harness.ready["message"]
    assert world.things


@pytest.mark.parametrize("value", [{}, {"approval": "Always"}])
async def test_the_end_is_polled_until_it_is_gone(
    harness: Harness, world: World, value: dict[str, Any]
):
    harness.apply(ttl="1h")
    await harness.converge()
    harness.apply(ttl="1h", **value)
    world.things[NAME].phase = Phase.DELETING
    harness.cluster.pass_(hours=2)
    verdict = await harness.visit()
    assert (verdict.outcome, verdict.again) == ("Deleting", Again.POLL)
    world.things.clear()
    assert (await harness.visit()).outcome == "Expired"
