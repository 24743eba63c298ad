"""Whose object it is: taking over, marks that cannot be carried, creations with a lost outcome."""

import itertools
from functools import partial

import pytest

from auterity.api.annotations import APPROVE, CREATE_PENDING
from auterity.api.common import Policy
from auterity.engine.errors import Conflict, Rejected, Unavailable
from auterity.engine.ownership import LONGEST_MARK, Claim, claim, mark
from tests.conformance.faults import Killed
from tests.conformance.harness import NAME, Harness
from tests.unit.engine.shelf import Unfindable, Unmarked, World

OURS = f"testcluster/team/{NAME}"
unmarked = pytest.mark.parametrize("harness", [Unmarked], indirect=True)
unfindable = pytest.mark.parametrize("harness", [Unfindable], indirect=True)


def test_the_table_of_claims():
    for known, marks, policy in itertools.product((True, False), (True, False), Policy):
        decided = partial(_decided, known=known, marks=marks, policy=policy)

        if policy is Policy.OBSERVE:
            assert {decided(None), decided("us"), decided("them")} == {Claim.OBSERVE}
            continue
        assert decided("us") is Claim.MANAGE
        assert decided("them") is Claim.FOREIGN
        if known and not marks:
            assert decided(None) is Claim.MANAGE
        elif policy is Policy.ADOPT:
            assert decided(None) is Claim.ADOPT
        else:
            assert decided(None) is Claim.UNKNOWN


def _decided(found: str | None, *, known: bool, marks: bool, policy: Policy) -> Claim:
    return claim(found=found, ours="us", known=known, marks_owner=marks, policy=policy)


def test_marks_stay_short_and_tell_long_names_apart():
    assert mark("c", "n", "o") == "c/n/o"
    first, second = mark("c", "n", "o" * 200 + "1"), mark("c", "n", "o" * 200 + "2")
    assert len(first) == len(second) == LONGEST_MARK
    assert first != second


async def test_a_take_over_is_shown_before_it_is_done(harness: Harness, world: World):
    world.put(NAME, tags={"theirs": "x"})
    harness.apply(policy="Adopt", shelf={"replicas": 5, "tags": {"ours": "y"}})
    verdict = await harness.visit()
    assert (verdict.outcome, verdict.seconds) == ("Adopting", 1.0)
    plan = harness.subject.status["plan"]
    assert plan["action"] == "Adopt"
    assert {c["field"] for c in plan["changes"]} == {"shelf.replicas", "shelf.tags.ours"}
    assert world.things[NAME].owner is None
    assert not harness.subject.kept
    verdict = await harness.visit()
    assert verdict.outcome == "Ready"
    assert world.things[NAME].owner == OURS
    assert world.things[NAME].fields["tags"] == {"theirs": "x", "ours": "y"}
    assert ("Normal", "Adopted", f"Took over {NAME}") in harness.cluster.events
    assert "plan" not in harness.subject.status


async def test_a_take_over_that_has_changed_is_shown_again(harness: Harness, world: World):
    world.put(NAME)
    harness.apply(policy="Adopt", shelf={"replicas": 5})
    await harness.visit()
    world.things[NAME].fields["replicas"] = 3
    assert (await harness.visit()).outcome == "Adopting"
    assert (await harness.visit()).outcome == "Ready"


async def test_a_take_over_waits_for_approval(harness: Harness, world: World):
    world.put(NAME)
    harness.apply(policy="Adopt", approval="Always", shelf={"replicas": 5})
    assert (await harness.visit()).outcome == "AwaitingApproval"
    assert (await harness.visit()).outcome == "AwaitingApproval"
    assert harness.vendor_writes() == []
    harness.subject.annotations[APPROVE] = harness.subject.status["plan"]["hash"]
    assert (await harness.visit()).outcome == "Ready"
    assert world.things[NAME].owner == OURS


async def test_what_cannot_change_is_not_taken_over(harness: Harness, world: World):
    world.put(NAME, dimension=16)
    harness.apply(policy="Adopt")
    verdict = await harness.visit()
    assert verdict.outcome == "SpecRejected"
    assert "dimension is 16, not 8" in harness.ready["message"]
    assert harness.condition("Stalled")
    assert harness.vendor_writes() == []


@unmarked
async def test_seeing_a_thing_by_observe_is_no_proof_that_it_is_ours(
    harness: Harness, world: World
):
    world.put(NAME)
    harness.apply(policy="Observe")
    assert (await harness.visit()).outcome == "Observed"
    harness.apply(policy="Manage", shelf={"replicas": 5})
    assert (await harness.visit()).outcome == "Conflict"
    assert harness.vendor_writes() == []


@unmarked
async def test_showing_a_take_over_is_no_proof_that_it_is_ours(harness: Harness, world: World):
    world.put(NAME)
    harness.apply(policy="Adopt", approval="Always", shelf={"replicas": 5})
    assert (await harness.visit()).outcome == "AwaitingApproval"
    assert (await harness.visit()).outcome == "AwaitingApproval"
    assert harness.subject.status["plan"]["action"] == "Adopt"
    harness.apply(policy="Manage", shelf={"replicas": 5})
    assert (await harness.visit()).outcome == "Conflict"
    assert harness.vendor_writes() == []


async def test_deleting_before_the_take_over_leaves_it_alone(harness: Harness, world: World):
    world.put(NAME)
    harness.apply(policy="Adopt", approval="Always")
    await harness.visit()
    # As an API server does that sets the finalizer at admission.
    harness.cluster.subjects[harness.key] = await harness.cluster.patch_metadata(
        harness.subject, finalizer=True
    )
    harness.cluster.delete(harness.key)
    verdict = await harness.visit()
    assert verdict.gone
    assert world.things


@unmarked
async def test_a_take_over_without_marks_is_remembered_in_status(harness: Harness, world: World):
    world.put(NAME)
    harness.apply(policy="Adopt", shelf={"replicas": 5})
    await harness.converge()
    assert harness.subject.status["id"] == NAME
    assert any(reason == "Adopted" for _, reason, _ in harness.cluster.events)
    assert CREATE_PENDING not in harness.subject.annotations
    harness.apply(policy="Manage", shelf={"replicas": 6})
    assert (await harness.visit()).outcome == "Ready"
    await harness.remove()
    assert not world.things


@unmarked
async def test_the_intent_to_create_is_written_before_the_call(harness: Harness, world: World):
    noted: list[str | None] = []
    world.before["create"] = lambda: noted.append(harness.subject.annotations.get(CREATE_PENDING))
    harness.apply()
    await harness.visit()
    assert noted == [NAME]
    assert CREATE_PENDING not in harness.subject.annotations
    assert harness.cluster.writes.count("metadata") == 2


@unmarked
@pytest.mark.parametrize("own_ids", [False, True])
async def test_death_after_a_creation_without_marks_finds_it_again(
    harness: Harness, world: World, own_ids
):
    world.own_ids = own_ids
    world.lost["create"] = [Killed()]
    harness.apply()
    with pytest.raises(Killed):
        await harness.visit()
    harness.restart()
    assert (await harness.converge()).outcome == "Ready"
    assert len(world.things) == 1
    assert CREATE_PENDING not in harness.subject.annotations
    await harness.remove()
    assert not world.things


@unmarked
async def test_a_lost_creation_is_removed_by_a_deletion(harness: Harness, world: World):
    world.lost["create"] = [Killed()]
    harness.apply()
    with pytest.raises(Killed):
        await harness.visit()
    harness.restart()
    await harness.remove()
    assert not world.things


@unmarked
@pytest.mark.parametrize("own_ids", [False, True])
async def test_death_after_making_anew_finds_it_again(harness: Harness, world: World, own_ids):
    world.own_ids = own_ids
    await harness.make()
    world.things.clear()
    world.lost["create"] = [Killed()]
    with pytest.raises(Killed):
        await harness.converge()
    harness.restart()
    assert (await harness.converge()).outcome == "Ready"
    assert len(world.things) == 1


@unmarked
async def test_a_refused_creation_is_no_claim_to_what_others_make(harness: Harness, world: World):
    def made_by_others() -> None:
        world.put(NAME)

    world.before["create"] = made_by_others
    harness.apply()
    assert (await harness.visit()).outcome == "Conflict"
    assert (await harness.visit()).outcome == "Conflict"
    assert harness.cluster.writes.count("metadata") == 2
    await harness.remove()
    assert world.things, "it is not ours"


@unfindable
async def test_a_lost_creation_that_cannot_be_found_stops_for_a_person(
    harness: Harness, world: World
):
    world.lost["create"] = [Unavailable("the answer was lost")]
    harness.apply()
    assert (await harness.visit()).outcome == "ProviderUnavailable"
    for _ in range(2):
        assert (await harness.visit()).outcome == "Conflict"
        assert harness.condition("Stalled")
        assert CREATE_PENDING in harness.ready["message"]
    assert len(world.things) == 1
    harness.cluster.delete(harness.key)
    assert (await harness.visit()).outcome == "Conflict"
    assert harness.subject.kept


@unfindable
async def test_a_person_can_say_that_nothing_was_made(harness: Harness, world: World):
    world.lost["create"] = [Unavailable("the answer was lost")]
    harness.apply()
    await harness.visit()
    world.things.clear()
    del harness.subject.annotations[CREATE_PENDING]
    assert (await harness.converge()).outcome == "Ready"


@unfindable
@pytest.mark.parametrize("failure", [Rejected("no such region"), Conflict("quota")])
async def test_a_refused_creation_needs_no_person(
    harness: Harness, world: World, failure: Exception
):
    world.trouble["create"] = [failure]
    harness.apply()
    await harness.visit()
    assert harness.ready["message"] == str(failure)
    assert (await harness.visit()).outcome == "Ready"
    assert len(world.things) == 1


@unfindable
async def test_a_creation_that_was_never_sent_needs_no_person(harness: Harness, world: World):
    harness.apply()
    await harness.opened()
    (budget,) = harness.connections.budgets.values()
    for _ in range(5):
        budget.failed()
    assert (await harness.visit()).outcome == "ProviderUnavailable"
    harness.forgive()
    assert (await harness.visit()).outcome == "Ready"


@unfindable
async def test_what_cannot_be_found_and_vanished_is_made_once(harness: Harness, world: World):
    world.own_ids = True
    await harness.make()
    world.things.clear()
    world.lost["create"] = [Killed()]
    with pytest.raises(Killed):
        await harness.converge()
    harness.restart()
    verdict = await harness.converge()
    assert verdict.outcome == "Conflict"
    assert len(world.things) == 1
