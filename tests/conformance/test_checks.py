"""What every provider that tells figures must do where checks gate a rollout, whatever dies."""

from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta

import pytest

from auterity.engine.contract import Measured, Span
from tests.conformance.harness import Harness
from tests.conformance.meter import Flow
from tests.conformance.rolling import Roller, at_rest, revisions_of, spec_of
from tests.conformance.test_rollouts import MISHAPS, edit, prepare
from tests.conformance.thoroughness import calls_to_try
from tests.conformance.vendor import JSON

Scenario = Callable[[Harness, Roller], Awaitable[None]]
CHECKED: JSON = {
    "strategy": "Canary",
    "steps": [{"weight": 10}, {"weight": 50}],
    "checks": [
        {"metric": "ErrorRate", "max": 5},
        {"metric": "ClientErrorRate", "maxIncrease": 2},
        {"metric": "LatencyP95", "max": 800, "maxIncrease": 50},
    ],
    "window": "3m",
    "minRequests": 100,
}
THREE_MINUTES = Span(
    datetime(2026, 11, 3, 9, 0, tzinfo=UTC), datetime(2026, 11, 3, 9, 3, tzinfo=UTC)
)
BAD = Flow(errors=10.0)
SLOW = Flow(latency=300.0)


async def begun(harness: Harness, new: Flow) -> dict[str, int]:
    """Another revision is wanted, whose requests go so; what is there before."""
    before = await revisions_of(harness)
    meter = harness.vendor.meter
    meter.known, meter.new = set(before), new
    meter.asked.clear()
    harness.apply(spec_of(harness, CHECKED, edit(harness)))
    return before


async def promoted(harness: Harness, roller: Roller) -> None:
    before = await begun(harness, Flow(latency=200.0))
    verdict = await roller.run()
    assert verdict.outcome == "Ready", harness.ready
    after = await revisions_of(harness)
    assert list(after.values()) == [100]
    assert after.keys().isdisjoint(before)
    if not roller.mishaps:
        # Who dies between the last verdict and the end may not have told of it.
        told = harness.subject.status["rollout"]["checks"]
        assert (told["verdict"], told["weight"]) == ("Passing", 100)
        assert [weight for weight in roller.weights if weight][-3:] == [10, 50, 100]


async def gone_back(harness: Harness, roller: Roller) -> None:
    before = await begun(harness, BAD)
    verdict = await roller.run()
    assert verdict.outcome == "RolledBack", harness.ready
    assert "its checks fail: ErrorRate is 10 % over" in harness.ready["message"]
    assert "more than 5 %" in harness.ready["message"]
    assert await revisions_of(harness) == before
    told = harness.subject.status["rollout"]["checks"]
    assert (told["verdict"], told["weight"]) == ("Failing", 10)
    assert 50 not in roller.weights


@pytest.fixture(params=[promoted, gone_back], ids=["promoted", "gone_back"])
def scenario(request: pytest.FixtureRequest) -> Scenario:
    found: Scenario = request.param
    return found


async def test_the_figures_decide_and_nothing_is_left_behind(harness: Harness, scenario: Scenario):
    await prepare(harness)
    full = await harness.vendor.count()
    await scenario(harness, Roller(harness))
    assert await harness.vendor.count() == full
    asked = len(harness.vendor.meter.asked)
    await at_rest(harness)
    assert len(harness.vendor.meter.asked) == asked, "at rest nothing is measured"
    await harness.remove()


async def test_they_decide_the_same_in_spite_of_death_and_loss_at_any_call(
    harness: Harness, scenario: Scenario
):
    await prepare(harness)
    full = await harness.vendor.count()
    await scenario(harness, Roller(harness))
    calls = harness.script.seen
    fast = type(harness.vendor).fast
    numbers = list(calls_to_try(harness.vendor, calls, scenario.__name__))
    # Of a slow vendor, all of what other rollouts have in common is tried by them.
    numbers = numbers if fast else numbers[:: max(1, len(numbers) // 8)]
    for number in numbers:
        for when in MISHAPS if fast else ("kill_after",):
            await harness.remove()
            harness.forget_faults()
            await prepare(harness)
            setattr(harness.script, when, number)
            await scenario(harness, Roller(harness))
            assert await harness.vendor.count() == full, (number, when)
            await at_rest(harness)


async def test_without_requests_nothing_is_decided(harness: Harness):
    await prepare(harness)
    await begun(harness, Flow(requests=0))
    roller, waited = Roller(harness), 0

    async def for_an_hour() -> bool:
        nonlocal waited
        waited += harness.subject.status["rollout"]["phase"] == "Measuring"
        if waited < 10:
            return False
        assert roller.weights[-1] == 10
        assert "fewer than 100 requests were measured" in harness.ready["message"]
        harness.cluster.writes.clear()
        harness.vendor.meter.new = Flow()
        return True

    verdict = await roller.run(for_an_hour)
    assert verdict.outcome == "Ready", harness.ready


async def test_only_what_was_measured_since_the_step_was_reached_counts(harness: Harness):
    await prepare(harness)
    await begun(harness, Flow())
    meter, after = harness.vendor.meter, harness.provider.measured_after
    since, steps, spans = "", set(), []
    for _ in range(100):
        outcome = (await harness.visit()).outcome
        now = harness.cluster.clock.timestamp()
        for _, start, end in meter.asked:
            assert start.strftime("%Y-%m-%dT%H:%M:%SZ") >= since
            assert end.timestamp() <= now - after
            assert (start.second, end.second) == (0, 0)
            spans.append(end - start)
            steps.add(since)
        meter.asked.clear()
        if outcome == "Ready":
            break
        # The one that a look of the next visit is about: it is told before anything is measured.
        since = harness.subject.status["rollout"].get("since", "")
        await harness.vendor.settle()
        harness.cluster.pass_(seconds=31)
    assert outcome == "Ready", harness.ready
    assert len(steps) == 3
    assert max(spans) == timedelta(minutes=3)


async def test_slower_than_what_served_before_is_gone_back_from_once_the_window_is_full(
    harness: Harness,
):
    await prepare(harness)
    before = await begun(harness, SLOW)
    verdict = await Roller(harness).run()
    assert verdict.outcome == "RolledBack", harness.ready
    assert (
        "LatencyP95 is 300 ms over 180 requests in 3m, 57.9 % more than the 190 ms of"
        in (harness.ready["message"])
    )
    assert await revisions_of(harness) == before


async def test_all_that_the_vendor_tells_is_told_in_percent_and_milliseconds(harness: Harness):
    await prepare(harness)
    provider, meter = await harness.opened(), harness.vendor.meter
    id, metrics = harness.subject.status["id"], type(provider).measures
    (revision,) = await revisions_of(harness)
    meter.usual = Flow(requests=40, errors=5.0, refused=10.0, latency=95.0)
    told = await provider.measure(id, revision, metrics, THREE_MINUTES)
    expected: dict[str, float] = {f"LatencyP{percent}": percent for percent in (50, 90, 95, 99)}
    expected |= {"ErrorRate": 5, "ClientErrorRate": 10}
    assert told.requests == 120
    assert told.values == pytest.approx({metric: expected[metric] for metric in metrics})
    meter.usual = Flow(requests=0)
    assert await provider.measure(id, revision, metrics, THREE_MINUTES) == Measured()
