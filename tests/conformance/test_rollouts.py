"""What every provider with revisions must do in a rollout, with deaths and lost calls anywhere."""

from collections.abc import Awaitable, Callable

import pytest

from auterity.engine.contract import Phase
from tests.conformance.harness import Harness
from tests.conformance.rolling import (
    APPROVED,
    BLUE_GREEN,
    CANARY,
    Roller,
    at_rest,
    revisions_of,
    spec_of,
)
from tests.conformance.thoroughness import calls_to_try
from tests.conformance.vendor import JSON

Scenario = Callable[[Harness, Roller], Awaitable[None]]


def edit(harness: Harness) -> JSON:
    """What makes another revision."""
    return harness.vendor.edits[0].patch


def split(harness: Harness, rollout: JSON) -> JSON:
    """The way of rolling out, or BlueGreen where the traffic cannot be divided."""
    if harness.provider.traffic_split or rollout["strategy"] != "Canary":
        return rollout
    pause = rollout["steps"][0]["pause"]
    return {"strategy": "BlueGreen", "preview": pause}


async def promoted(harness: Harness, roller: Roller, rollout: JSON) -> None:
    harness.apply(spec_of(harness, rollout, edit(harness)))
    verdict = await roller.run()
    assert verdict.outcome == "Ready", harness.ready
    assert harness.subject.status["rollout"]["phase"] == "Complete"
    assert list((await revisions_of(harness)).values()) == [100]


async def canary(harness: Harness, roller: Roller) -> None:
    await promoted(harness, roller, split(harness, CANARY))
    if harness.provider.traffic_split and not roller.mishaps:
        assert [weight for weight in roller.weights if weight][-3:] == [10, 50, 100]


async def blue_green(harness: Harness, roller: Roller) -> None:
    await promoted(harness, roller, BLUE_GREEN)


async def approved(harness: Harness, roller: Roller) -> None:
    await promoted(harness, roller, split(harness, APPROVED))
    assert roller.approvals == 1


async def rolled_back(harness: Harness, roller: Roller) -> None:
    before = await revisions_of(harness)
    await harness.vendor.break_next_revision()
    harness.apply(spec_of(harness, split(harness, CANARY), edit(harness)))
    verdict = await roller.run()
    assert verdict.outcome == "RolledBack", harness.ready
    assert harness.condition("Stalled")
    assert harness.subject.status["rollout"]["phase"] == "RolledBack"
    assert await revisions_of(harness) == before
    assert any(reason == "RollingBack" for _, reason, _ in harness.cluster.events)


async def superseded(harness: Harness, roller: Roller) -> None:
    rollout = split(harness, CANARY)
    before = set(await revisions_of(harness))
    harness.apply(spec_of(harness, rollout, edit(harness)))

    async def once_it_has_begun() -> bool:
        rollout_now = harness.subject.status.get("rollout") or {}
        revisions = rollout_now.get("revisions") or []
        ready = [one for one in revisions if one["phase"] == Phase.READY]
        if len(ready) < 2 or rollout_now["phase"] != "Paused":
            return False
        harness.apply(spec_of(harness, rollout))
        return True

    verdict = await roller.run(once_it_has_begun)
    assert verdict.outcome == "Ready", harness.ready
    assert set(await revisions_of(harness)) == before


MISHAPS = ("kill_before", "kill_after", "fail_before", "fail_after")
SCENARIOS: list[Scenario] = [canary, blue_green, approved, rolled_back, superseded]


@pytest.fixture(params=SCENARIOS, ids=[one.__name__ for one in SCENARIOS])
def scenario(request: pytest.FixtureRequest) -> Scenario:
    found: Scenario = request.param
    return found


async def prepare(harness: Harness) -> None:
    harness.apply(spec_of(harness, CANARY if harness.provider.traffic_split else BLUE_GREEN))
    await harness.converge()
    assert harness.ready["status"] == "True", harness.ready
    harness.forget_faults()


async def test_a_rollout_ends_as_it_should_and_leaves_nothing_behind(
    harness: Harness, scenario: Scenario
):
    await prepare(harness)
    full = await harness.vendor.count()
    await scenario(harness, Roller(harness))
    assert await harness.vendor.count() == full
    await at_rest(harness)
    await harness.remove()
    assert await harness.vendor.count() == harness.baseline


async def test_a_rollout_survives_death_and_loss_at_any_call(harness: Harness, scenario: Scenario):
    await prepare(harness)
    full = await harness.vendor.count()
    await scenario(harness, Roller(harness))
    calls = harness.script.seen
    await harness.remove()
    fast = type(harness.vendor).fast
    # Of a slow vendor each scenario takes its share of the calls: they have most in common.
    shared = range(SCENARIOS.index(scenario), calls, len(SCENARIOS))
    some = {*calls_to_try(harness.vendor, calls, scenario.__name__)}
    numbers = range(calls) if fast else [number for number in shared if number in some]
    for number in numbers:
        # What a slow vendor sees of a death after a call is a death before the next one.
        for when in MISHAPS if fast else ("kill_after",):
            harness.forget_faults()
            await prepare(harness)
            roller = Roller(harness)
            setattr(harness.script, when, number)
            await scenario(harness, roller)
            assert await harness.vendor.count() == full, (number, when)
            await at_rest(harness)
            await harness.remove()
            assert await harness.vendor.count() == harness.baseline, (number, when)


async def test_scaling_makes_no_revision(harness: Harness):
    await prepare(harness)
    before = await revisions_of(harness)
    rollout = CANARY if harness.provider.traffic_split else BLUE_GREEN
    harness.apply(spec_of(harness, rollout, {"scaling": {"min": 2, "max": 4}}))
    verdict = await harness.converge()
    assert verdict.outcome == "Ready", harness.ready
    assert await revisions_of(harness) == before


async def test_a_bad_revision_is_not_tried_again_until_the_spec_changes(harness: Harness):
    await prepare(harness)
    roller = Roller(harness)
    await rolled_back(harness, roller)
    for _ in range(3):
        await at_rest(harness)
        harness.cluster.pass_(hours=1)
    rollout = split(harness, CANARY)
    changed = spec_of(harness, {**rollout, "revisionHistoryLimit": 5}, edit(harness))
    harness.apply(changed)
    verdict = await roller.run()
    assert verdict.outcome == "Ready", harness.ready


async def test_an_earlier_revision_can_be_rolled_back_to(harness: Harness):
    await prepare(harness)
    first = await harness.read()
    assert first is not None
    roller = Roller(harness)
    await promoted(harness, roller, BLUE_GREEN)
    names = [one["name"] for one in harness.subject.status["rollout"]["history"]]
    assert len(names) == 2
    harness.apply(
        spec_of(harness, {**BLUE_GREEN, "rollbackTo": names[1]}, edit(harness)),
    )
    verdict = await roller.run()
    assert verdict.outcome == "Ready", harness.ready
    now = await harness.read()
    assert now is not None
    assert now.revisions[0].actual.model == first.revisions[0].actual.model
    await at_rest(harness)


async def test_a_revision_that_someone_else_adds_is_removed(harness: Harness):
    await prepare(harness)
    before = await revisions_of(harness)
    provider = await harness.opened()
    spec = spec_of(harness, BLUE_GREEN, edit(harness))
    vendor = harness.provider.vendor
    flat = {k: v for k, v in spec.items() if k != vendor} | spec.get(vendor, {})
    want = harness.provider.params.model_validate(
        {**flat, "name": harness.key.name, "revision": "theirs", "environment": []}
    )
    observed = await harness.read()
    assert observed is not None
    assert observed.owner is not None or not harness.provider.marks_owner
    await provider.add_revision(observed.id, want, observed.owner or "")
    roller = Roller(harness)
    verdict = await roller.run()
    assert verdict.outcome == "Ready", harness.ready
    assert await revisions_of(harness) == before
    assert any("theirs" in field for field in harness.recorder.drift)
