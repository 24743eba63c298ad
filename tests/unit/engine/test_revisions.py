"""Revisions in a visit: what makes one, what is refused, approvals, drift, probes, adoption."""

import itertools
from collections.abc import AsyncIterator
from functools import partial
from typing import Any

import pytest
from pydantic import ValidationError

from auterity.api.annotations import APPROVE
from auterity.api.rollout import Probe, Rollout
from auterity.engine.contract import Answer
from auterity.engine.errors import Fenced
from auterity.engine.plan import Action
from auterity.engine.probe import judge
from tests.conformance.harness import NAME, Harness
from tests.conformance.rolling import BLUE_GREEN, CANARY, Roller, at_rest, revisions_of, spec_of
from tests.conformance.test_plan import planned
from tests.unit.engine.fleet import FleetDeployment, InPlace, Sea, Ship, Single, Switched, fleet_of

TWO = {"model": {"image": "two"}}
SECRET = [{"name": "KEY", "secretKeyRef": {"name": "inside", "key": "key"}}]
PROBE = {"body": "{}", "expect": {"json": {"path": "ok", "value": "true"}}, "failures": 2}


@pytest.fixture
async def harness(request: pytest.FixtureRequest) -> AsyncIterator[Harness]:
    vendor = fleet_of(getattr(request, "param", FleetDeployment))
    it = Harness(vendor)
    await it.start()
    try:
        yield it
        assert vendor.sea.problems == []
    finally:
        await it.stop()
        await vendor.stop()


@pytest.fixture
def sea(harness: Harness) -> Sea:
    found: Sea = harness.vendor.sea  # type: ignore[attr-defined]  # it is a fleet
    return found


def ships(sea: Sea) -> dict[str, Ship]:
    return sea.fleets[NAME].ships


def told(harness: Harness) -> Any:
    return harness.subject.status["rollout"]


async def made(harness: Harness, rollout: Any = CANARY, *patches: Any) -> None:
    harness.apply(spec_of(harness, rollout, *patches))
    assert (await Roller(harness).run()).outcome == "Ready", harness.ready


async def edited(harness: Harness, rollout: Any = CANARY, *patches: Any, **common: Any) -> str:
    harness.apply(spec_of(harness, rollout, *patches), **common)
    return str((await Roller(harness).run()).outcome)


async def test_a_secret_that_changes_makes_another_revision(harness: Harness):
    harness.cluster.put_secret("inside", {"key": "one-Kd82nslq"})
    await made(harness, CANARY, {"environment": SECRET})
    before = set(await revisions_of(harness))
    harness.cluster.put_secret("inside", {"key": "two-Kd82nslq"})
    roller = Roller(harness)
    assert (await roller.run()).outcome == "Ready"
    assert set(await revisions_of(harness)) != before
    assert 10 in roller.weights
    assert "two-Kd82nslq" in str(ships(harness.vendor.sea))  # type: ignore[attr-defined]
    assert "Kd82nslq" not in harness.everything_told()


async def test_the_order_of_variables_makes_no_revision(harness: Harness):
    variables = [{"name": "A", "value": "1"}, {"name": "B", "value": "2"}]
    await made(harness, CANARY, {"environment": variables})
    before = await revisions_of(harness)
    assert await edited(harness, CANARY, {"environment": variables[::-1]}) == "Ready"
    assert await revisions_of(harness) == before


async def test_scaling_in_a_pause_reaches_both_revisions(harness: Harness, sea: Sea):
    await made(harness)
    harness.apply(spec_of(harness, CANARY, TWO))
    for _ in range(6):
        verdict = await harness.visit()
    assert told(harness)["phase"] == "Paused"
    since = told(harness)["since"]
    harness.cluster.pass_(seconds=10)
    harness.apply(spec_of(harness, CANARY, TWO, {"scaling": {"min": 3, "max": 5}}))
    verdict = await harness.visit()
    assert {ship.scaling for ship in ships(sea).values()} == {(3, 5)}
    assert (told(harness)["phase"], told(harness)["since"]) == ("Paused", since)
    assert verdict.seconds == 590


async def test_a_pause_at_rest_writes_nothing(harness: Harness):
    await made(harness)
    harness.apply(spec_of(harness, CANARY, TWO))
    for _ in range(6):
        await harness.visit()
    assert told(harness)["phase"] == "Paused"
    harness.cluster.pass_(seconds=60)
    await at_rest(harness)


async def test_an_approval_at_one_step_is_not_one_for_the_next(harness: Harness):
    steps = [{"weight": w, "pause": "UntilApproved"} for w in (10, 20)]
    rollout = {"strategy": "Canary", "steps": steps}
    await made(harness, rollout)
    harness.apply(spec_of(harness, rollout, TWO))
    roller = Roller(harness)
    assert (await roller.run()).outcome == "Ready"
    assert roller.approvals == 2
    harness.apply(spec_of(harness, rollout))
    roller = Roller(harness)
    assert (await roller.run()).outcome == "Ready"
    assert roller.approvals == 2, "the same way again is asked for again"


async def test_a_waiting_promotion_shows_its_plan_and_is_quiet(harness: Harness):
    rollout = {"strategy": "Canary", "steps": [{"weight": 10}], "promotion": "Approval"}
    await made(harness, rollout)
    harness.apply(spec_of(harness, rollout, TWO))
    assert (await Roller(harness).run(approve=False)).outcome == "AwaitingApproval"
    plan = harness.subject.status["plan"]
    assert plan["action"] == "Promote"
    assert "100 %" in plan["changes"][0]["to"]
    assert told(harness)["phase"] == "AwaitingApproval"
    await at_rest(harness)


async def test_approval_always_lets_nothing_begin_before_and_asks_once(harness: Harness, sea: Sea):
    await made(harness)
    harness.apply(spec_of(harness, CANARY, TWO), approval="Always")
    assert (await Roller(harness).run(approve=False)).outcome == "AwaitingApproval"
    assert len(ships(sea)) == 1
    assert harness.subject.status["plan"]["changes"][0]["field"] == "model.image"
    roller = Roller(harness)
    assert (await roller.run()).outcome == "Ready"
    assert roller.approvals == 1
    assert harness.subject.annotations[APPROVE]


async def test_a_probe_that_fails_at_a_step_goes_back(harness: Harness, sea: Sea):
    sea.answers["two"] = 500
    await made(harness, {**CANARY, "promotion": "Probe"}, {"probe": PROBE})
    before = await revisions_of(harness)
    rollout = {**CANARY, "promotion": "Probe"}
    # Between two looks at the clock there is time enough for the next question.
    harness.engine.probes._clock = partial(next, itertools.count(step=60))
    assert await edited(harness, rollout, {"probe": PROBE}, TWO) == "RolledBack"
    assert "500" in harness.ready["message"]
    assert await revisions_of(harness) == before
    assert False in harness.recorder.probes
    await at_rest(harness)


async def test_a_secret_that_is_quoted_of_a_bad_revision_is_told_nowhere(
    harness: Harness, sea: Sea
):
    harness.cluster.put_secret("inside", {"key": "one-Kd82nslq"})
    await made(harness, CANARY, {"environment": SECRET})
    sea.bad.add("two")
    sea.says = "cannot log in with one-Kd82nslq"
    assert await edited(harness, CANARY, {"environment": SECRET}, TWO) == "RolledBack"
    assert told(harness)["failed"]["message"] == "cannot log in with <secret>"
    assert "Kd82nslq" not in harness.everything_told()


async def test_a_secret_that_is_quoted_in_an_answer_to_a_probe_is_told_nowhere(
    harness: Harness, monkeypatch: pytest.MonkeyPatch
):
    async def quoted(*_: Any) -> Answer:
        return Answer(200, '{"ok": "one-Kd82nslq"}')

    harness.cluster.put_secret("inside", {"key": "one-Kd82nslq"})
    monkeypatch.setattr(FleetDeployment, "probe", quoted)
    await made(harness, CANARY, {"environment": SECRET})
    harness.apply(
        spec_of(harness, CANARY, {"environment": SECRET, "probe": {**PROBE, "failures": 1}})
    )
    assert (await Roller(harness).run()).outcome == "ProbeFailing"
    assert harness.subject.status["probe"]["message"] == "ok is <secret>, not true"
    assert "Kd82nslq" not in harness.everything_told()


async def test_a_probe_that_this_replica_may_not_send_says_nothing_of_what_serves(
    harness: Harness, monkeypatch: pytest.MonkeyPatch
):
    async def fenced(*_: Any) -> Answer:
        raise Fenced("this replica has lost touch with the cluster")

    await made(harness, CANARY)
    probed = {"probe": {**PROBE, "failures": 1}}
    harness.apply(spec_of(harness, CANARY, probed))
    with monkeypatch.context() as patch:
        patch.setattr(FleetDeployment, "probe", fenced)
        assert (await harness.visit()).outcome == "ProviderUnavailable"
    assert (await Roller(harness).run()).outcome == "Ready"
    assert harness.recorder.probes == [True]


async def test_one_bad_answer_is_not_enough_to_go_back(harness: Harness, sea: Sea):
    await made(harness, CANARY, {"probe": PROBE})
    sea.answers["two"] = 500
    harness.apply(spec_of(harness, CANARY, {"probe": PROBE}, TWO))

    async def until_it_was_asked() -> bool:
        if False not in harness.recorder.probes:
            return False
        sea.answers.clear()
        harness.engine.probes._clock = lambda: 1e12
        return True

    assert (await Roller(harness).run(until_it_was_asked)).outcome == "Ready"


async def test_what_serves_and_fails_its_probe_is_not_ready_and_says_so_once(
    harness: Harness, sea: Sea
):
    await made(harness, CANARY, {"probe": {**PROBE, "failures": 1}})
    assert harness.subject.status["probe"] == {"verdict": "Passing", "message": ""}
    verdict = await harness.visit()
    assert verdict.seconds <= 300
    sea.answers["one"] = 503
    await at_rest(harness)
    harness.engine.probes._streaks.clear()
    assert (await harness.visit()).outcome == "ProbeFailing"
    assert "503" in harness.ready["message"]
    assert harness.subject.status["probe"]["verdict"] == "Failing"
    sea.answers["one"] = 500
    harness.engine.probes._streaks.clear()
    harness.cluster.writes.clear()
    await harness.visit()
    assert harness.cluster.writes == []
    sea.answers.clear()
    harness.engine.probes._streaks.clear()
    assert (await harness.visit()).outcome == "Ready"


async def test_without_auto_rollback_it_stays_for_a_person(harness: Harness, sea: Sea):
    rollout = {**CANARY, "autoRollback": False}
    await made(harness, rollout)
    sea.bad.add("two")
    assert await edited(harness, rollout, TWO) == "ProviderFailed"
    assert "autoRollback is false" in harness.ready["message"]
    assert len(ships(sea)) == 2
    await at_rest(harness)
    assert await edited(harness, rollout) == "Ready"
    assert len(ships(sea)) == 1


async def test_the_first_revision_that_fails_is_told_and_replaced_by_an_edit(
    harness: Harness, sea: Sea
):
    sea.bad.add("one")
    assert await edited(harness) == "ProviderFailed"
    assert "no such image" in harness.ready["message"]
    assert await edited(harness, CANARY, TWO) == "Ready"
    assert [ship.fields["image"] for ship in ships(sea).values()] == ["two"]


@pytest.mark.parametrize("way", [CANARY, BLUE_GREEN])
async def test_after_several_bad_beginnings_a_good_one_serves(
    harness: Harness, sea: Sea, way: dict[str, Any]
):
    sea.bad |= {"one", "two", "three"}
    for image in ("one", "two", "three"):
        assert await edited(harness, way, {"model": {"image": image}}) == "ProviderFailed"
    assert await edited(harness, way, {"model": {"image": "four"}}) == "Ready"
    assert [ship.weight for ship in ships(sea).values()] == [100]


async def test_what_someone_else_rolls_out_is_only_reported_if_asked(harness: Harness, sea: Sea):
    harness.apply(spec_of(harness, CANARY), driftPolicy="Report")
    await Roller(harness).run()
    (ship,) = ships(sea).values()
    ship.fields["image"] = "theirs"
    assert (await Roller(harness).run()).outcome == "Drifted"
    drift = harness.subject.status["drift"]
    assert drift == [{"field": "model.image", "want": "one", "actual": "theirs"}]
    await at_rest(harness)
    assert await edited(harness, CANARY) == "Ready"
    assert [ship.fields["image"] for ship in ships(sea).values()] == ["one"]


async def test_an_adopted_revision_that_is_as_wanted_goes_on_under_its_own_name(
    harness: Harness, sea: Sea
):
    await harness.vendor.foreign(type(harness.vendor).spec, NAME, None)
    harness.apply(spec_of(harness, CANARY), policy="Adopt")
    await harness.converge()
    assert harness.ready["reason"] == "Ready"
    assert list(ships(sea)) == ["blue"]
    await at_rest(harness)


async def test_an_adopted_revision_that_is_otherwise_is_replaced_step_by_step(
    harness: Harness, sea: Sea
):
    await harness.vendor.foreign(type(harness.vendor).spec, NAME, None)
    harness.apply(spec_of(harness, CANARY, TWO), policy="Adopt")
    assert (await harness.visit()).outcome == "Adopting"
    plan = harness.subject.status["plan"]
    assert [change["field"] for change in plan["changes"]] == ["model.image"]
    roller = Roller(harness)
    await harness.converge()
    assert (await roller.run()).outcome == "Ready"
    assert [ship.fields["image"] for ship in ships(sea).values()] == ["two"]


async def test_an_unknown_revision_cannot_be_rolled_back_to(harness: Harness):
    await made(harness)
    known = told(harness)["history"][0]["name"]
    assert await edited(harness, {**CANARY, "rollbackTo": "r-none"}, TWO) == "SpecRejected"
    assert "r-none" in harness.ready["message"]
    assert known in harness.ready["message"]


async def test_no_more_revisions_are_remembered_than_asked_for(harness: Harness):
    rollout = {**BLUE_GREEN, "revisionHistoryLimit": 1}
    for image in ("one", "two", "three"):
        await made(harness, rollout, {"model": {"image": image}})
    history = told(harness)["history"]
    assert ["three" in history[0]["content"], "two" in history[1]["content"]] == [True, True]
    assert len(history) == 2


@pytest.mark.parametrize("harness", [Switched], indirect=True)
async def test_where_the_traffic_cannot_be_divided_a_canary_is_refused(harness: Harness):
    await made(harness, BLUE_GREEN)
    assert await edited(harness, CANARY, TWO) == "SpecRejected"
    assert "spec.rollout.strategy" in harness.ready["message"]
    assert "BlueGreen" in harness.ready["message"]
    assert await edited(harness, BLUE_GREEN, TWO) == "Ready"


@pytest.mark.parametrize("harness", [Single], indirect=True)
async def test_without_revisions_only_rolling_goes_and_can_be_rolled_back(
    harness: Harness, sea: Sea
):
    assert await edited(harness, BLUE_GREEN) == "SpecRejected"
    assert await edited(harness, CANARY) == "SpecRejected"
    await made(harness, {"strategy": "Rolling"})
    first = told(harness)["history"][0]["name"]
    await made(harness, {"strategy": "Rolling"}, TWO)
    assert ships(sea)["one"].fields["image"] == "two"
    await made(harness, {"rollbackTo": first}, TWO)
    assert ships(sea)["one"].fields["image"] == "one"
    await at_rest(harness)
    probed = spec_of(harness, {}, {"probe": PROBE})
    harness.apply(probed)
    assert (await harness.visit()).outcome == "SpecRejected"
    assert "spec.probe" in harness.ready["message"]


@pytest.mark.parametrize("harness", [InPlace], indirect=True)
async def test_rolling_in_place_is_one_update_and_a_canary_is_still_possible(
    harness: Harness, sea: Sea
):
    await made(harness, {"strategy": "Rolling"})
    before = list(ships(sea))
    sea.calls.clear()
    await made(harness, {"strategy": "Rolling"}, TWO)
    assert (sea.calls.count("update"), sea.calls.count("add")) == (1, 0)
    assert list(ships(sea)) == before
    await made(harness, CANARY)
    assert [ship.fields["image"] for ship in ships(sea).values()] == ["one"]
    assert list(ships(sea)) != before


@pytest.mark.parametrize("harness", [InPlace], indirect=True)
async def test_a_canary_that_turns_into_rolling_ends_by_the_same_algorithm(
    harness: Harness, sea: Sea
):
    await made(harness)
    harness.apply(spec_of(harness, CANARY, TWO))
    for _ in range(6):
        await harness.visit()
    assert told(harness)["phase"] == "Paused"
    await made(harness, {"strategy": "Rolling"}, TWO)
    assert [ship.fields["image"] for ship in ships(sea).values()] == ["two"]


async def test_a_rollout_is_told_in_events_and_the_change_log(harness: Harness):
    await made(harness)
    harness.cluster.events.clear()
    harness.recorder.changes.clear()
    assert await edited(harness, CANARY, TWO) == "Ready"
    reasons = [reason for _, reason, _ in harness.cluster.events]
    assert reasons == ["RolloutStarted", "RolloutStep", "RolloutStep", "RolloutStep", "Promoted"]
    first = harness.recorder.changes[0]
    assert (first.action, first.cause, first.fields) == ("Update", "Spec", ("model.image",))


@pytest.mark.parametrize(
    ("rollout", "words"),
    [
        ({"strategy": "Canary"}, "at least one"),
        ({"strategy": "Canary", "steps": [{"weight": 50}, {"weight": 20}]}, "grow"),
        ({"strategy": "Canary", "steps": [{"weight": 50}, {"weight": 50}]}, "grow"),
        ({"strategy": "Rolling", "steps": [{"weight": 50}]}, "Canary"),
        ({"strategy": "Canary", "steps": [{"weight": 101}]}, "100"),
        ({"preview": "5m"}, "BlueGreen"),
        ({"strategy": "BlueGreen", "preview": "soon"}, "pattern"),
    ],
)
def test_what_makes_no_sense_is_refused(rollout: dict[str, object], words: str):
    with pytest.raises(ValidationError, match=words):
        Rollout.model_validate(rollout)


@pytest.mark.parametrize(
    ("body", "path", "value", "problem"),
    [
        ('{"a": [{"b": "x"}]}', "a.0.b", "x", ""),
        ('{"a": [{"b": 1.5}]}', "a.0.b", "1.5", ""),
        ('{"a": null}', "a", "null", ""),
        ('{"a": []}', "a.0", "x", "its answer has no a.0"),
        ('{"a": "y"}', "a", "x", "a is y, not x"),
        ("<html>", "a", "x", "its answer is not JSON"),
    ],
)
def test_an_answer_is_held_against_what_is_expected(body: str, path: str, value: str, problem: str):
    probe = Probe.model_validate({"expect": {"json": {"path": path, "value": value}}})
    assert judge(probe, Answer(200, body)) == problem
    assert "404" in judge(probe, Answer(404, body))


async def test_a_plan_tells_the_next_step_and_sends_no_probe(harness: Harness, sea: Sea):
    rollout = {**CANARY, "promotion": "Probe"}
    await made(harness, rollout, {"probe": PROBE})
    assert (await planned(harness)).action is Action.NONE
    harness.apply(spec_of(harness, rollout, {"probe": PROBE}, TWO))
    plan = await planned(harness)
    assert (plan.action, plan.changes[0]["field"]) == (Action.UPDATE, "model.image")
    for _ in range(6):
        await harness.visit()
    assert told(harness)["phase"] == "Paused"
    asked = sea.calls.count("GetAnswer")
    assert (await planned(harness)).action in (Action.WAIT, Action.UPDATE)
    harness.cluster.pass_(minutes=11)
    assert (await planned(harness)).action is not Action.FAIL
    assert sea.calls.count("GetAnswer") == asked
