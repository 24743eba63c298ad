"""Checks of a rollout: what the vendor is asked and when, what its figures mean, what is told."""

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from pydantic import ValidationError

from auterity.api.annotations import APPROVE
from auterity.api.rollout import Metric, Rollout
from auterity.engine.contract import Measured, Span
from auterity.engine.measure import Findings, Measures, Place, mean
from auterity.engine.plan import Action
from auterity.engine.probe import Verdict
from tests.conformance.harness import Harness
from tests.conformance.meter import Flow, Meter
from tests.conformance.rolling import BLUE_GREEN, CANARY, Roller, at_rest, revisions_of, spec_of
from tests.conformance.test_plan import planned
from tests.unit.engine.fleet import FleetDeployment, Single, fleet_of

TWO = {"model": {"image": "two"}}
ERRORS = {"metric": "ErrorRate", "max": 5}
STEPS = [{"weight": 10}, {"weight": 50}]
CHECKED: dict[str, Any] = {"strategy": "Canary", "steps": STEPS, "checks": [ERRORS], "window": "3m"}
START = datetime(2026, 11, 24, 9, 0, tzinfo=UTC)
PLACE = Place("r-new", "r-old", START)


class Monitored:
    """A vendor of which only its monitoring is asked."""

    measured_every = 60.0
    measured_after = 120.0

    def __init__(self) -> None:
        self.told: dict[str, Measured] = {}
        self.asked: list[tuple[str, frozenset[Metric], Span]] = []

    async def measure(
        self, id: str, revision: str, metrics: frozenset[Metric], span: Span
    ) -> Measured:
        self.asked.append((revision, metrics, span))
        return self.told.get(revision, Measured())


def measured(requests: float = 100, **values: float) -> Measured:
    return Measured(requests, {Metric(name): value for name, value in values.items()})


async def found(
    vendor: Monitored, *checks: dict[str, Any], minutes: float = 10, place: Place = PLACE
) -> Findings:
    rules = Rollout.model_validate({**CHECKED, "checks": list(checks)})
    now = START + timedelta(minutes=minutes)
    return (await Measures().ask("uid", vendor, "id", rules, place, now))[0]  # type: ignore[arg-type]  # it measures


@pytest.mark.parametrize(
    ("check", "new", "old", "verdict", "words"),
    [
        (ERRORS, {"ErrorRate": 5.0}, {}, Verdict.PASSING, ""),
        (ERRORS, {"ErrorRate": 5.1}, {}, Verdict.FAILING, "5.1 % over 100 requests in 3m, more "),
        (ERRORS, {}, {}, Verdict.UNSURE, "ErrorRate is not told yet"),
        (
            {"metric": "ErrorRate", "maxIncrease": 2},
            {"ErrorRate": 2.5},
            {"ErrorRate": 0.0},
            Verdict.FAILING,
            "2.5 percentage points more than the 0 % of r-old; 2 are allowed",
        ),
        (
            {"metric": "ErrorRate", "maxIncrease": 2},
            {"ErrorRate": 12.0},
            {"ErrorRate": 10.0},
            Verdict.PASSING,
            "",
        ),
        (
            {"metric": "LatencyP99", "maxIncrease": 20},
            {"LatencyP99": 130.0},
            {"LatencyP99": 100.0},
            Verdict.FAILING,
            "130 ms over 100 requests in 3m, 30 % more than the 100 ms of r-old; 20 are allowed",
        ),
        (
            {"metric": "LatencyP99", "max": 100, "maxIncrease": 20},
            {"LatencyP99": 110.0},
            {"LatencyP99": 100.0},
            Verdict.FAILING,
            "more than 100 ms",
        ),
        (
            {"metric": "LatencyP99", "maxIncrease": 20},
            {"LatencyP99": 110.0},
            {},
            Verdict.UNSURE,
            "LatencyP99 of r-old is not told yet",
        ),
    ],
)
async def test_figures_are_held_against_what_is_allowed(
    check: dict[str, Any],
    new: dict[str, float],
    old: dict[str, float],
    verdict: Verdict,
    words: str,
):
    vendor = Monitored()
    vendor.told = {"r-new": measured(**new), "r-old": measured(**old)}
    it = await found(vendor, check)
    assert it.verdict is verdict, it
    assert words in it.message


async def test_what_is_wrong_outweighs_what_is_not_known():
    vendor = Monitored()
    vendor.told = {"r-new": measured(ErrorRate=50.0)}
    it = await found(vendor, {"metric": "LatencyP95", "max": 1}, ERRORS)
    assert it.verdict is Verdict.FAILING


@pytest.mark.parametrize(("new", "old"), [(19, 1000), (1000, 19)])
async def test_with_too_few_requests_on_either_side_nothing_is_said(new: int, old: int):
    vendor = Monitored()
    vendor.told = {
        "r-new": measured(new, ErrorRate=100.0),
        "r-old": measured(old, ErrorRate=0.0),
    }
    it = await found(vendor, {"metric": "ErrorRate", "maxIncrease": 1})
    assert it.verdict is Verdict.UNSURE
    assert "fewer than 20 requests" in it.message


async def test_before_the_window_is_full_rates_can_fail_and_nothing_else_is_said():
    vendor = Monitored()
    slow = {"metric": "LatencyP95", "max": 100}
    vendor.told = {"r-new": measured(ErrorRate=0.0, LatencyP95=900.0)}
    it = await found(vendor, ERRORS, slow, minutes=4.5)
    assert (it.verdict, it.message) == (Verdict.UNSURE, "the window is not over yet")
    vendor.told = {"r-new": measured(ErrorRate=9.0, LatencyP95=900.0)}
    it = await found(vendor, ERRORS, slow, minutes=4.5)
    assert it.verdict is Verdict.FAILING
    assert it.message == "ErrorRate is 9 % over 100 requests in 1m, more than 5 %"
    it = await found(vendor, slow, minutes=10)
    assert it.verdict is Verdict.FAILING


@pytest.mark.parametrize(
    ("minutes", "first", "last"),
    [(2, None, None), (3.9, None, None), (4, 1, 2), (5.5, 1, 3), (6, 1, 4), (9, 4, 7)],
)
async def test_whole_minutes_since_the_step_was_reached_are_measured(
    minutes: float, first: int | None, last: int | None
):
    vendor = Monitored()
    it = await found(vendor, ERRORS, minutes=minutes)
    if first is None or last is None:
        assert vendor.asked == []
        # The step was reached within the first minute, and figures come two minutes later.
        assert it.due == pytest.approx((4 - minutes) * 60)
        return
    ((revision, metrics, span),) = vendor.asked
    assert (revision, metrics) == ("r-new", frozenset({Metric.ERROR_RATE}))
    assert span.start == START + timedelta(minutes=first)
    assert span.end == START + timedelta(minutes=last)


async def test_a_window_is_never_shorter_than_what_one_figure_is_about():
    vendor = Monitored()
    vendor.told = {"r-new": measured(ErrorRate=0.0)}
    rules = Rollout.model_validate({**CHECKED, "window": "0s"})
    now = START + timedelta(minutes=10)
    told, _ = await Measures().ask("uid", vendor, "id", rules, PLACE, now)  # type: ignore[arg-type]  # it measures
    assert told.verdict is Verdict.PASSING
    ((_, _, span),) = vendor.asked
    assert span.end - span.start == timedelta(minutes=1)


async def test_where_only_one_gets_traffic_nothing_is_compared():
    vendor, alone = Monitored(), Place("r-new", None, START)
    vendor.told = {"r-new": measured(ErrorRate=3.0)}
    it = await found(vendor, {**ERRORS, "maxIncrease": 1}, place=alone)
    assert it.verdict is Verdict.PASSING
    assert [revision for revision, *_ in vendor.asked] == ["r-new"]
    it = await found(vendor, {"metric": "ErrorRate", "maxIncrease": 1}, place=alone)
    assert it.verdict is Verdict.PASSING
    assert len(vendor.asked) == 1


async def test_it_is_asked_five_times_a_window_and_anew_of_another_step():
    vendor, it = Monitored(), Measures()
    rules = Rollout.model_validate({**CHECKED, "window": "50m"})
    for minutes in range(10, 60):
        now = START + timedelta(minutes=minutes)
        told, asked = await it.ask("uid", vendor, "id", rules, PLACE, now)  # type: ignore[arg-type]  # it measures
        assert asked is (minutes % 10 == 0)
        assert told.due == (10 - minutes % 10) * 60
    other = Place("r-new", "r-old", START + timedelta(minutes=30))
    assert (await it.ask("uid", vendor, "id", rules, other, now))[1]  # type: ignore[arg-type]  # it measures
    it.forget("uid")
    assert (await it.ask("uid", vendor, "id", rules, other, now))[1]  # type: ignore[arg-type]  # it measures


def test_a_mean_counts_each_minute_by_its_requests():
    assert mean({1: 100.0, 2: 200.0, 3: 900.0}, {1: 30, 2: 10}) == 125
    assert mean({1: 100.0}, {1: 0}) is None
    assert mean({}, {1: 5}) is None


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


async def begun(harness: Harness, rollout: dict[str, Any], new: Flow) -> Meter:
    """A first revision serves, another is declared, and its requests go so."""
    harness.apply(spec_of(harness, rollout))
    assert (await Roller(harness).run()).outcome == "Ready", harness.ready
    meter = harness.vendor.meter
    meter.known, meter.new = set(await revisions_of(harness)), new
    harness.apply(spec_of(harness, rollout, TWO))
    return meter


async def test_while_it_waits_for_requests_nothing_is_written(harness: Harness):
    meter = await begun(harness, CHECKED, Flow(requests=5))
    roller, waits = Roller(harness), 0

    async def quietly() -> bool:
        nonlocal waits
        waits += harness.subject.status["rollout"]["phase"] == "Measuring"
        if waits == 8:
            harness.cluster.writes.clear()
        if waits < 20:
            return False
        assert harness.cluster.writes == []
        meter.new = Flow()
        return True

    assert (await roller.run(quietly)).outcome == "Ready"
    assert {"Unsure", "Passing"} == set(harness.recorder.checks)


async def test_without_auto_rollback_what_fails_stays_and_is_told_once(harness: Harness):
    meter = await begun(harness, {**CHECKED, "autoRollback": False}, Flow(errors=50.0))
    assert (await Roller(harness).run()).outcome == "ProviderFailed"
    message = harness.ready["message"]
    assert "its checks fail: ErrorRate is 50 %" in message
    assert "autoRollback is false" in message
    for errors in (60.0, 70.0):
        meter.new = Flow(errors=errors)
        harness.cluster.pass_(minutes=20)
        await at_rest(harness)
    meter.new = Flow(requests=0)
    harness.cluster.pass_(minutes=20)
    await at_rest(harness)
    assert harness.ready["message"] == message
    meter.new = Flow()
    harness.cluster.pass_(minutes=20)
    assert (await Roller(harness).run()).outcome == "Ready"


async def test_a_promotion_is_asked_for_only_once_the_checks_have_passed(harness: Harness):
    rollout = {**CHECKED, "steps": [{"weight": 10, "pause": "UntilApproved"}]}
    meter = await begun(harness, rollout, Flow(requests=0))
    roller, waits = Roller(harness), 0

    async def silent() -> bool:
        nonlocal waits
        waits += harness.subject.status["rollout"]["phase"] == "Measuring"
        assert "plan" not in harness.subject.status
        if waits < 5:
            return False
        meter.new = Flow()
        return True

    assert (await roller.run(silent, approve=False)).outcome == "AwaitingApproval"
    # What has passed is not taken back by silence: the question stands.
    meter.new = Flow(requests=0)
    for _ in range(3):
        harness.cluster.pass_(minutes=30)
        await at_rest(harness)
        assert harness.ready["reason"] == "AwaitingApproval"
    # But bad figures go back from it, asked or not.
    meter.new = Flow(errors=50.0)
    harness.cluster.pass_(minutes=30)
    assert (await roller.run(approve=False)).outcome == "RolledBack"
    assert APPROVE not in harness.subject.annotations


async def test_a_pause_ends_early_for_what_is_bad(harness: Harness):
    await begun(harness, {**CANARY, "checks": [ERRORS], "window": "3m"}, Flow(errors=50.0))
    before = harness.cluster.clock
    assert (await Roller(harness).run()).outcome == "RolledBack"
    assert harness.cluster.clock - before < timedelta(minutes=8)


async def test_blue_green_keeps_the_old_one_until_the_checks_have_passed(harness: Harness):
    rollout = {**BLUE_GREEN, "keepOld": None, "checks": [ERRORS], "window": "3m"}
    rollout = {key: value for key, value in rollout.items() if value is not None}
    before = await begun(harness, rollout, Flow(errors=50.0))
    roller = Roller(harness)
    assert (await roller.run()).outcome == "RolledBack"
    assert 100 in roller.weights
    assert set(await revisions_of(harness)) == before.known


async def test_a_plan_asks_for_no_figures(harness: Harness):
    meter = await begun(harness, CHECKED, Flow(requests=0))
    roller = Roller(harness)

    async def waiting() -> bool:
        if harness.subject.status["rollout"]["phase"] != "Measuring":
            return False
        meter.asked.clear()
        plan = await planned(harness)
        assert plan.action is Action.UPDATE
        assert meter.asked == []
        meter.new = Flow()
        return True

    assert (await roller.run(waiting)).outcome == "Ready"


async def test_a_metric_that_the_vendor_does_not_tell_is_refused(harness: Harness):
    checks = [{"metric": "LatencyP50", "max": 100}]
    harness.apply(spec_of(harness, {**CHECKED, "checks": checks}))
    assert (await harness.visit()).outcome == "SpecRejected"
    assert harness.ready["message"] == (
        "spec.rollout.checks: fleet does not tell LatencyP50 of a revision; it tells "
        "ClientErrorRate, ErrorRate, LatencyP90, LatencyP95, LatencyP99"
    )


@pytest.mark.parametrize("harness", [Single], indirect=True)
async def test_where_nothing_is_told_of_revisions_checks_are_refused(harness: Harness):
    harness.apply(spec_of(harness, {**BLUE_GREEN, "checks": [ERRORS]}))
    assert (await harness.visit()).outcome == "SpecRejected"
    assert "spec.rollout" in harness.ready["message"]


@pytest.mark.parametrize(
    ("rollout", "words"),
    [
        ({"checks": [ERRORS]}, "Canary and BlueGreen"),
        ({**CHECKED, "checks": [{"metric": "ErrorRate"}]}, "max, maxIncrease"),
        ({**CHECKED, "checks": [{"metric": "ErrorRate", "max": 101}]}, "never more than 100"),
        ({**CHECKED, "checks": [ERRORS, ERRORS]}, "once"),
        ({**BLUE_GREEN, "checks": [{"metric": "LatencyP95", "maxIncrease": 1}]}, "needs max"),
    ],
)
def test_what_makes_no_sense_is_refused(rollout: dict[str, object], words: str):
    with pytest.raises(ValidationError, match=words):
        Rollout.model_validate(rollout)
