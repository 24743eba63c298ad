"""Plans wait for a person, and only the plan that was seen is carried out."""

import pytest

from auterity.api.annotations import APPROVE
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
