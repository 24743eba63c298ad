"""Budgets: what the integrations of a namespace cost by the hour, and whether that is allowed."""

from collections.abc import Collection, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final

from auterity.api.common import Policy
from auterity.api.cost import MOST_NAMED, BudgetSpec, OnExceed
from auterity.api.kinds import BUDGET, PRICED
from auterity.engine.cluster import Cluster
from auterity.engine.conditions import Reason
from auterity.engine.local import LocalVisit
from auterity.engine.prices import CURRENCY
from auterity.engine.subject import JSON, Key, Subject
from auterity.engine.verdict import Verdict, Waits

DIGITS: Final = 6
"""Amounts are rounded to so many: sums of decimal fractions are a little off."""
MOST_TOLD: Final = 3
"""Most integrations that a message names."""


@dataclass(frozen=True, slots=True)
class Use:
    """What one integration takes of the budgets of its namespace."""

    key: Key
    least: float = 0.0
    most: float | None = None
    """None: its price is not known."""


class Grants:
    """What was granted to integrations, and does not stand in their status yet."""

    def __init__(self) -> None:
        self._most: dict[str, float] = {}

    @contextmanager
    def held(self, uid: str, most: float) -> Iterator[None]:
        """Let everybody see a grant while it is being written."""
        self._most[uid] = most
        try:
            yield
        finally:
            del self._most[uid]

    def of(self, uid: str) -> float:
        """What was granted to an integration; 0 if all that was stands in its status."""
        return self._most.get(uid, 0.0)


def uses(cluster: Cluster, namespace: str, grants: Grants | None = None) -> Iterator[Use]:
    """What the integrations of a namespace take of its budgets.

    Those that are only observed take nothing: they are someone else's.
    """
    for kind in PRICED:
        for subject in cluster.select(kind, namespace, {}):
            if subject.spec.get("policy") == Policy.OBSERVE:
                continue
            granted = grants.of(subject.uid) if grants else 0.0
            cost = subject.status.get("cost") or {}
            if (most := cost.get("most")) is not None:
                yield Use(subject.key, cost.get("least") or 0.0, max(most, granted))
            elif granted:
                yield Use(subject.key, most=granted)
            elif cost or _runs(subject):
                yield Use(subject.key)


def _runs(subject: Subject) -> bool:
    """Whether there is something at the vendor that may cost."""
    return "id" in subject.status and not subject.status.get("completed")


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
        used = list(uses(self.cluster, namespace))
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
        if most <= spec.hourly:
            told = f"Up to {money(most)} of {allowed} is used{unknown}"
            verdict = await self.told(Reason.READY, told, ready=True)
            if before == Reason.OVER_BUDGET:
                await self.cluster.event(self.subject, "Normal", "Recovered", told)
            return verdict
        refuses = spec.on_exceed is OnExceed.REFUSE
        more = "what would cost more is refused" if refuses else "more is only warned of"
        told = f"Up to {money(most)} of {allowed} is used, by {dearest(used)}; {more}{unknown}"
        verdict = await self.told(Reason.OVER_BUDGET, told, ready=False)
        if before != Reason.OVER_BUDGET:
            await self.cluster.event(self.subject, "Warning", Reason.OVER_BUDGET, told)
        return verdict


def budgets_of(cluster: Cluster, namespace: str) -> list[tuple[str, BudgetSpec]]:
    """The budgets of a namespace by name; one that cannot be read says so itself."""
    return [
        (subject.key.name, spec)
        for subject in cluster.select(BUDGET, namespace, {})
        if not subject.deleting and (spec := _spec(subject.spec)) is not None
    ]


def _spec(spec: JSON) -> BudgetSpec | None:
    try:
        return BudgetSpec.model_validate(spec)
    except ValueError:
        return None
