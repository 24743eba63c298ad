"""Budgets: what the integrations of a namespace cost by the hour, and whether that is allowed."""

import asyncio
from collections.abc import Collection, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Final

from auterity.api.cost import MOST_NAMED, BudgetSpec, OnExceed
from auterity.api.kinds import BUDGET, PRICED
from auterity.engine.cluster import Cluster
from auterity.engine.conditions import Reason
from auterity.engine.local import LocalVisit
from auterity.engine.prices import CURRENCY
from auterity.engine.subject import JSON, Key, Subject
from auterity.engine.tally import DIGITS, Tally, Use
from auterity.engine.verdict import Verdict, Waits

MOST_TOLD: Final = 3
"""Most integrations that a message names."""
RESTS: Final = 3.0
"""A reading takes no more than a quarter of the time, however much there is to read."""
LONGEST_REST: Final = 1.0


class Grants:
    """What is being granted to integrations, and does not stand in their status yet."""

    def __init__(self) -> None:
        self._held: dict[str, dict[Key, float]] = {}

    def __bool__(self) -> bool:
        """Whether anything is being granted."""
        return bool(self._held)

    @contextmanager
    def held(self, key: Key, most: float) -> Iterator[None]:
        """Let all visits of this process see a grant while it is being written."""
        held = self._held.setdefault(key.namespace, {})
        held[key] = most
        try:
            yield
        finally:
            del held[key]
            if not held:
                self._held.pop(key.namespace, None)

    def beyond(self, tally: Tally, but: Key) -> float:
        """What others of a namespace are being granted beyond what their statuses say."""
        held = self._held.get(but.namespace) or {}
        return sum(max(m - tally.of(key).taken, 0.0) for key, m in held.items() if key != but)


@dataclass(frozen=True, slots=True)
class Reading:
    """The budgets of a namespace and what is taken of them, as the API server has them."""

    budgets: list[tuple[str, BudgetSpec]]
    tally: Tally


@dataclass(slots=True)
class _Queue:
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    waiting: int = 0
    asked: int = 0
    answered: int = 0
    """How many of those who have asked the last reading is for."""
    last: Reading | None = None
    rests_until: float = 0.0


class Readings:
    """Reads a namespace anew. A reading is shared by all who asked before it began.

    Of many that ask at once each would read what all others wrote: as much as its square. Of many
    that ask one after the other, too: so after each reading comes a rest, so many times as long.
    """

    def __init__(self, rest: float = RESTS) -> None:
        self._rest = rest
        self._queues: dict[str, _Queue] = {}

    async def read(self, cluster: Cluster, namespace: str) -> Reading:
        """What stands there at a moment after this call. Raises ClusterUnavailable."""
        now = asyncio.get_running_loop().time
        queue = self._queues.setdefault(namespace, _Queue())
        queue.asked += 1
        mine = queue.asked
        queue.waiting += 1
        try:
            async with queue.lock:
                if queue.last is None or queue.answered < mine:
                    await asyncio.sleep(max(0.0, queue.rests_until - now()))
                    for_all_until, begun = queue.asked, now()
                    queue.last = await _read(cluster, namespace)
                    queue.answered = for_all_until
                    queue.rests_until = now() + min((now() - begun) * self._rest, LONGEST_REST)
                return queue.last
        finally:
            queue.waiting -= 1
            if not queue.waiting:
                queue.last = None
                self._tidy(now())

    def _tidy(self, now: float) -> None:
        for namespace, queue in list(self._queues.items()):
            if not queue.waiting and queue.rests_until <= now:
                del self._queues[namespace]


async def _read(cluster: Cluster, namespace: str) -> Reading:
    found = [subject for kind in PRICED for subject in await cluster.read_all(kind, namespace)]
    return Reading(_specs(await cluster.read_all(BUDGET, namespace)), Tally(found))


def total(used: Iterable[Use]) -> float:
    """What they may cost at most, as far as prices are known."""
    return round(sum(one.most or 0.0 for one in used), DIGITS)


def dearest(used: Collection[Use]) -> str:
    """Those that take most, in words."""
    ordered = sorted(
        (one for one in used if one.most), key=lambda one: (-(one.most or 0.0), one.key)
    )
    told = [f"{one.key.kind} {one.key.name} ({money(one.most or 0.0)})" for one in ordered]
    more = len(told) - MOST_TOLD
    return ", ".join(told[:MOST_TOLD]) + (f" and {more} more" if more > 0 else "")


def money(amount: float) -> str:
    """An amount for people: at least two digits after the point, more where they count."""
    whole, _, part = f"{amount:.4f}".partition(".")
    return f"{whole}.{part[:2]}{part[2:].rstrip('0')}"


class Budgeting(LocalVisit[BudgetSpec]):
    """One visit of a Budget: add up, compare, tell. It refuses nothing itself: see `cost`."""

    async def run(self, spec: BudgetSpec) -> Verdict:
        namespace = self.subject.key.namespace
        self.waits |= {Waits(kind, namespace) for kind in PRICED}
        used = self.cluster.tally(namespace).uses
        priced = [one for one in used if one.most]
        unpriced = sorted(f"{u.key.kind} {u.key.name}" for u in used if u.most is None)
        most = total(used)
        self.status |= {
            "currency": CURRENCY,
            "least": round(sum(one.least for one in priced), DIGITS),
            "most": most,
            "objects": len(priced),
        }
        self.status.pop("unpriced", None)
        if unpriced:
            self.status["unpriced"] = unpriced[:MOST_NAMED]
        allowed = f"{money(spec.hourly)} {CURRENCY} an hour"
        unknown = f"; no price is known for {len(unpriced)}: see status.unpriced"
        unknown = unknown if unpriced else ""
        before = (self.subject.condition("Ready") or {}).get("reason")
        by = f", by {dearest(used)}" if most else ""
        if most <= spec.hourly:
            told = f"Up to {money(most)} of {allowed} is used{by}{unknown}"
            verdict = await self.told(Reason.READY, told, ready=True)
            if before == Reason.OVER_BUDGET:
                await self.cluster.event(self.subject, "Normal", "Recovered", told)
            return verdict
        refuses = spec.on_exceed is OnExceed.REFUSE
        more = "what would cost more is refused" if refuses else "more is only warned of"
        told = f"Up to {money(most)} of {allowed} is used{by}; {more}{unknown}"
        verdict = await self.told(Reason.OVER_BUDGET, told, ready=False)
        if before != Reason.OVER_BUDGET:
            await self.cluster.event(self.subject, "Warning", Reason.OVER_BUDGET, told)
        return verdict


def budgets_of(cluster: Cluster, namespace: str) -> list[tuple[str, BudgetSpec]]:
    """The budgets of a namespace by name; one that cannot be read says so itself."""
    return _specs(cluster.select(BUDGET, namespace, {}))


def _specs(subjects: Iterable[Subject]) -> list[tuple[str, BudgetSpec]]:
    return [
        (subject.key.name, spec)
        for subject in subjects
        if not subject.deleting and (spec := _spec(subject.spec)) is not None
    ]


def _spec(spec: JSON) -> BudgetSpec | None:
    try:
        return BudgetSpec.model_validate(spec)
    except ValueError:
        return None
