"""Drives a rollout as the schedule, the clock and people would, and looks at every step."""

from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Any

from auterity.api.annotations import APPROVE
from auterity.engine.contract import Observed, Phase
from auterity.engine.verdict import Again, Verdict
from tests.conformance.faults import Killed
from tests.conformance.harness import Harness
from tests.conformance.vendor import JSON, merged

MOST_VISITS = 150

CANARY: JSON = {
    "strategy": "Canary",
    "steps": [{"weight": 10, "pause": "10m"}, {"weight": 50}],
}
APPROVED: JSON = {
    "strategy": "Canary",
    "steps": [{"weight": 20, "pause": "UntilApproved"}],
}
BLUE_GREEN: JSON = {"strategy": "BlueGreen", "preview": "5m", "keepOld": "10m"}
ROLLING: JSON = {"strategy": "Rolling"}


def spec_of(harness: Harness, rollout: JSON, *patches: JSON) -> JSON:
    """The stand-in's spec with a way of rolling out, and edits."""
    spec = merged(type(harness.vendor).spec, {"rollout": rollout})
    for patch in patches:
        spec = merged(spec, patch)
    return spec


class Roller:
    """One rollout after another of one object; the operator may die at one of the calls."""

    def __init__(self, harness: Harness) -> None:
        self.harness = harness
        self.weights: list[int] = []
        """The weight of the newest revision, whenever it changed."""
        self.approvals = 0
        self.mishaps = 0
        self.served = False

    async def run(
        self,
        meanwhile: Callable[[], Awaitable[bool]] | None = None,
        *,
        approve: bool = True,
    ) -> Verdict:
        """Visit until it rests; `meanwhile` runs after each visit until it returns True."""
        verdict = Verdict("none")
        for number in range(MOST_VISITS):
            self.harness.forgive()
            verdict = await self._visit(verdict)
            if meanwhile is not None and await meanwhile():
                meanwhile = None
                continue
            if verdict.outcome == "AwaitingApproval":
                if not approve:
                    return verdict
                self.approvals += 1
                plan = self.harness.subject.status["plan"]
                self.harness.subject.annotations[APPROVE] = plan["hash"]
                continue
            if verdict.again is Again.AFTER and verdict.outcome in ("RollingOut", "RateLimited"):
                self.harness.cluster.pass_(seconds=verdict.seconds + 1)
                continue
            if verdict.again in (Again.AFTER, Again.NEVER) and meanwhile is None:
                return verdict
            await self.harness.wait(number)
        message = f"not settled after {MOST_VISITS} visits: {self.harness.ready}"
        raise AssertionError(message)

    async def _visit(self, before: Verdict) -> Verdict:
        harness = self.harness
        try:
            verdict = await harness.visit()
        except Killed:
            self.mishaps += 1
            harness.script.clear()
            await harness.connections.close()
            harness.restart()
            return Verdict("none", Again.POLL)
        if verdict.again is Again.RETRY:
            self.mishaps += 1
        self._look()
        return verdict

    def _look(self) -> None:
        rollout: dict[str, Any] = self.harness.subject.status.get("rollout") or {}
        revisions = rollout.get("revisions") or []
        weights = [one["weight"] for one in revisions]
        assert sum(weights) in (0, 100), revisions
        ready = sum(one["weight"] for one in revisions if one["phase"] == Phase.READY)
        self.served = self.served or ready == 100
        if self.served and revisions and self.harness.ready["reason"] != "Progressing":
            assert ready > 0, revisions
        newest = next((o for o in revisions if o["name"] == rollout["revision"]), None)
        if newest is not None and (not self.weights or self.weights[-1] != newest["weight"]):
            self.weights.append(newest["weight"])


async def at_rest(harness: Harness) -> None:
    """A further visit changes nothing."""
    harness.forget_faults()
    harness.cluster.writes.clear()
    await harness.visit()
    assert harness.cluster.writes == [], harness.ready
    assert harness.vendor_writes() == []


async def unharmed(harness: Harness) -> Observed[Any] | None:
    """What the vendor has, asked by the test, whose calls nobody counts."""
    kept = replace(harness.script)
    harness.script.clear()
    try:
        return await harness.read()
    finally:
        vars(harness.script).update(vars(kept))


async def revisions_of(harness: Harness) -> dict[str, int]:
    """The vendor's revisions and their weights."""
    observed = await unharmed(harness)
    assert observed is not None
    return {one.name: one.weight for one in observed.revisions}
