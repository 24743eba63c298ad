"""Plans wait for a person, and only the plan that was seen is carried out."""

import pytest

from auterity.api.annotations import APPROVE
from auterity.engine.contract import Phase
from auterity.engine.errors import Unavailable
from tests.conformance.harness import Harness
from tests.unit.engine.shelf import World

ALWAYS = {"approval": "Always"}


def approve(harness: Harness) -> str:
    hashed = str(harness.subject.status["plan"]["hash"])
    harness.subject.annotations[APPROVE] = hashed
    return hashed


async def test_a_creation_waits_for_approval_and_shows_all_it_will_set(
    harness: Harness, world: World
):
    harness.apply(shelf={"replicas": 2, "tags": {"team": "a"}}, **ALWAYS)
    verdict = await harness.visit()
    assert verdict.outcome == "AwaitingApproval"
    assert harness.condition("Reconciling")
    plan = harness.subject.status["plan"]
    assert plan["action"] == "Create"
    shown = {change["field"]: change.get("to") for change in plan["changes"]}
    assert shown["dimension"] == "8"
    assert shown["shelf.replicas"] == "2"
    assert shown["shelf.tags.team"] == "a"
    assert plan["hash"] in harness.ready["message"]
    assert not world.things
    assert not harness.subject.kept
    approve(harness)
    verdict = await harness.visit()
    assert verdict.outcome == "Ready"
    assert "plan" not in harness.subject.status
    assert world.things


async def test_a_waiting_plan_is_written_once(harness: Harness):
    harness.apply(**ALWAYS)
    await harness.visit()
    harness.cluster.writes.clear()
    await harness.visit()
    assert harness.cluster.writes == []


async def test_an_approval_of_another_plan_does_nothing(harness: Harness, world: World):
    harness.apply(**ALWAYS)
    await harness.visit()
    first = approve(harness)
    harness.apply(shelf={"replicas": 7}, **ALWAYS)
    verdict = await harness.visit()
    assert verdict.outcome == "AwaitingApproval"
    assert harness.subject.status["plan"]["hash"] != first
    assert not world.things


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ({"note": "x" * 400 + "a"}, {"note": "x" * 400 + "b"}),
        ({"script": "one"}, {"script": "two"}),
        ({"peer": {"value": "y" * 400 + "a"}}, {"peer": {"value": "y" * 400 + "b"}}),
    ],
    ids=["what is too long to be shown", "what is not shown at all", "a long looked-up value"],
)
async def test_the_hash_changes_with_what_the_plan_does_not_show(
    harness: Harness, before: dict[str, object], after: dict[str, object]
):
    harness.apply(shelf=before, **ALWAYS)
    await harness.visit()
    first = approve(harness)
    harness.apply(shelf=after, **ALWAYS)
    verdict = await harness.visit()
    assert verdict.outcome == "AwaitingApproval"
    assert harness.subject.status["plan"]["hash"] != first


async def test_the_hash_changes_with_the_secret(harness: Harness, world: World):
    secret = {"password": {"secretKeyRef": {"name": "inside", "key": "password"}}}
    harness.apply(shelf=secret, **ALWAYS)
    await harness.visit()
    approve(harness)
    harness.cluster.put_secret("inside", {"password": "another-one-Lq8"})
    verdict = await harness.visit()
    assert verdict.outcome == "AwaitingApproval"
    assert not world.things


async def test_destructive_waits_for_risky_changes_only(harness: Harness, world: World):
    await harness.make(approval="Destructive", shelf={"tier": "gold", "tags": {"a": "1"}})
    harness.apply(approval="Destructive", shelf={"tier": "gold", "replicas": 3, "tags": {"a": "1"}})
    assert (await harness.visit()).outcome == "Ready"
    harness.apply(approval="Destructive", shelf={"tier": "tin", "replicas": 3, "tags": {"a": "1"}})
    assert (await harness.visit()).outcome == "AwaitingApproval"
    assert world.things["conformant"].fields["tier"] == "gold"
    approve(harness)
    assert (await harness.visit()).outcome == "Ready"
    assert world.things["conformant"].fields["tier"] == "tin"
    harness.apply(approval="Destructive", shelf={"tier": "tin", "replicas": 3})
    assert (await harness.visit()).outcome == "AwaitingApproval", "an entry would be removed"


async def test_destructive_lets_a_creation_pass(harness: Harness):
    harness.apply(approval="Destructive", shelf={"tier": "gold"})
    assert (await harness.visit()).outcome == "Ready"


@pytest.mark.parametrize("approval", ["Always", "Destructive"])
async def test_a_deletion_waits_for_approval(harness: Harness, world: World, approval: str):
    await harness.make()
    harness.apply(approval=approval)
    harness.cluster.delete(harness.key)
    verdict = await harness.visit()
    assert verdict.outcome == "AwaitingApproval"
    assert harness.subject.status["plan"]["action"] == "Delete"
    assert world.things
    assert harness.subject.kept
    approve(harness)
    verdict = await harness.visit()
    assert verdict.gone
    assert not world.things


async def test_an_approval_without_need_is_not_in_the_change_log(harness: Harness):
    await harness.make()
    harness.subject.annotations[APPROVE] = "0123456789ab"
    harness.apply(shelf={"replicas": 4})
    await harness.converge()
    assert [record.approved for record in harness.recorder.changes] == [None, None]


async def test_the_approved_hash_is_in_the_change_log(harness: Harness):
    harness.apply(**ALWAYS)
    await harness.visit()
    hashed = approve(harness)
    await harness.visit()
    assert [record.approved for record in harness.recorder.changes] == [hashed]


async def test_the_same_drift_again_waits_for_an_approval_of_its_own(
    harness: Harness, world: World
):
    await harness.make()
    harness.apply(**ALWAYS)
    await harness.converge()
    used = []
    for _ in range(3):
        world.things["conformant"].fields["replicas"] = 9
        assert (await harness.converge()).outcome == "AwaitingApproval"
        assert world.things["conformant"].fields["replicas"] == 9
        used.append(approve(harness))
        assert (await harness.converge()).outcome == "Ready"
        assert world.things["conformant"].fields["replicas"] == 1
        assert harness.subject.status["approved"] == used[-1]
    assert len(set(used)) == 3


async def test_what_vanishes_again_waits_for_an_approval_of_its_own(harness: Harness, world: World):
    harness.apply(**ALWAYS)
    await harness.visit()
    approve(harness)
    await harness.converge()
    del world.things["conformant"]
    assert (await harness.converge()).outcome == "AwaitingApproval"
    assert not world.things


async def test_an_approval_that_was_used_is_remembered_by_the_write_that_tells_of_it(
    harness: Harness,
):
    harness.apply(**ALWAYS)
    await harness.visit()
    approve(harness)
    harness.cluster.writes.clear()
    await harness.converge()
    assert [write for write in harness.cluster.writes if "status" in write] == ["status"]
    harness.cluster.writes.clear()
    await harness.visit()
    await harness.visit(urgent=False)
    assert harness.cluster.writes == []


async def test_an_attempt_that_fails_does_not_use_up_the_approval(harness: Harness, world: World):
    await harness.make()
    harness.apply(shelf={"replicas": 3}, **ALWAYS)
    await harness.visit()
    approve(harness)
    world.trouble["update"] = [Unavailable("busy")]
    world.lost["update"] = [Unavailable("the answer was lost")]
    assert (await harness.visit()).outcome == "ProviderUnavailable"
    assert (await harness.visit()).outcome == "ProviderUnavailable"
    world.things["conformant"].fields["replicas"] = 1
    assert (await harness.visit()).outcome == "Ready"
    assert world.things["conformant"].fields["replicas"] == 3


async def test_a_vendor_that_shows_a_change_late_needs_no_second_approval(
    harness: Harness, world: World
):
    await harness.make()
    harness.apply(shelf={"replicas": 3}, **ALWAYS)
    await harness.visit()
    approve(harness)
    world.forgetful = {"replicas"}
    assert (await harness.visit()).outcome == "Progressing"
    world.forgetful = set()
    assert (await harness.visit()).outcome == "Ready"


async def test_an_approval_is_used_up_though_the_operator_died_before_it_could_tell(
    harness: Harness, world: World
):
    await harness.make()
    harness.apply(shelf={"replicas": 3}, **ALWAYS)
    await harness.visit()
    approve(harness)
    # Carried out, and nothing of it in the status.
    world.things["conformant"].fields["replicas"] = 3
    harness.restart()
    assert (await harness.converge()).outcome == "Ready"
    world.things["conformant"].fields["replicas"] = 1
    assert (await harness.converge()).outcome == "AwaitingApproval"


async def test_an_approval_is_used_up_though_it_ended_in_a_failure_at_the_vendor(
    harness: Harness, world: World
):
    await harness.make()
    harness.apply(shelf={"replicas": 3}, **ALWAYS)
    await harness.visit()
    approve(harness)
    world.phase = Phase.FAILED
    await harness.visit()
    assert (await harness.visit()).outcome == "ProviderFailed"
    world.things["conformant"].fields["replicas"] = 1
    assert (await harness.visit()).outcome == "AwaitingApproval"


async def test_a_deletion_that_takes_long_is_approved_once(harness: Harness, world: World):
    await harness.make()
    harness.apply(**ALWAYS)
    owner = world.things["conformant"].owner
    harness.cluster.delete(harness.key)
    await harness.visit()
    approve(harness)
    world.lost["delete"] = [Unavailable("the answer was lost")]
    assert (await harness.visit()).outcome == "ProviderUnavailable"
    world.put("conformant", owner)
    assert (await harness.visit()).gone


async def test_an_approval_is_of_one_object_and_not_of_the_next_of_its_name(
    harness: Harness, world: World
):
    harness.apply(**ALWAYS)
    await harness.visit()
    approve(harness)
    before = dict(harness.subject.annotations)
    del harness.cluster.subjects[harness.key]
    harness.apply(**ALWAYS)
    harness.subject.annotations.update(before)
    assert (await harness.visit()).outcome == "AwaitingApproval"
    assert not world.things


async def test_an_overlong_approval_hinders_nothing(harness: Harness):
    await harness.make()
    harness.subject.annotations[APPROVE] = "x" * 5000
    assert (await harness.visit()).outcome == "Ready"
    assert len(harness.subject.status["approved"]) == 64
