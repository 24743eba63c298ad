"""What an integration costs by the hour, and whether a visit may go on with it."""

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from typing import Any, Final

from auterity.api.common import by_alias
from auterity.api.cost import Cost, Limit, OnExceed, Priced
from auterity.api.fields import Params
from auterity.api.kinds import BUDGET
from auterity.engine.budgets import budgets_of, dearest, money, total
from auterity.engine.conditions import Reason
from auterity.engine.contract import Provider
from auterity.engine.declared import Declared
from auterity.engine.prices import CURRENCY, Price, Prices
from auterity.engine.subject import JSON, Subject
from auterity.engine.tally import DIGITS, Tally, Use
from auterity.engine.verdict import Again, Verdict, Waits
from auterity.engine.visit import Visit

LONGEST_BASIS: Final = 1024
ENDED: Final = "the run has ended"
UNASKED: Final = -1
"""The generation of what is someone else's: nothing was granted to it."""
LOOKS_AGAIN: Final = 0.3
"""Seconds until one whose turn it is looks whether those after it have stood back."""
STANDS_BACK: Final = 2.0
"""Seconds until one asks again that has stood back: others may not be granted what they ask for."""


@dataclass(frozen=True, slots=True)
class Estimate:
    """What something costs by the hour."""

    least: float | None
    most: float | None
    """None: a price is not known."""
    basis: str
    """Which prices it is reckoned by, or what has none."""


def estimate(
    provider: type[Provider[Any, Any]], want: Params, prices: Prices, region: str | None
) -> Estimate | None:
    """What it costs as it is declared; None if the provider cannot tell what is paid for."""
    billed = provider.billed(want)
    if billed is None:
        return None
    vendor = provider.vendor
    if not billed:
        return Estimate(0.0, 0.0, f"{vendor} charges nothing by the hour for it")
    found = {one.item: prices.find(vendor, one.item, region) for one in billed}
    if unknown := [item for item, price in found.items() if price is None]:
        where = f" in {region}" if region else ""
        names = ", ".join(unknown)
        return Estimate(None, None, f"no price is known for {names} at {vendor}{where}")
    amounts = {item: price.amount for item, price in found.items() if price is not None}
    bases = dict.fromkeys(_basis(price, region) for price in found.values() if price is not None)
    return Estimate(
        round(sum(amounts[one.item] * one.least for one in billed), DIGITS),
        round(sum(amounts[one.item] * one.most for one in billed), DIGITS),
        "; ".join(bases)[:LONGEST_BASIS],
    )


def _basis(price: Price, region: str | None) -> str:
    told = f"of {price.as_of}, {price.source}"
    if price.region is None:
        return f"prices {told}"
    if price.region == region:
        return f"prices in {region} {told}"
    why = f"none is known for {region}" if region else "the connection names no region"
    return f"prices in {price.region}, since {why}, {told}"


def excess(
    found: Estimate | None, limit: Limit, name: str, vendor: str, used: Collection[Use] = ()
) -> str | None:
    """Why the limit of this name does not allow it: what follows on `it would`; None if it does."""
    taken = total(used)
    words = _excess(found, limit, name, vendor, taken)
    named = words is not None and taken and found is not None and found.most is not None
    return f"{words}, of which {money(taken)} is used by {dearest(used)}" if named else words


def _excess(
    found: Estimate | None, limit: Limit, name: str, vendor: str, taken: float
) -> str | None:
    if found is None:
        return f"cost what cannot be estimated at {vendor}, so that {name} cannot hold"
    if found.most is None:
        return f"cost what is not known, so that {name} cannot hold: {found.basis}"
    if not found.most or round(found.most + taken, DIGITS) <= limit.hourly:
        return None
    return (
        f"cost up to {money(found.most)} {CURRENCY} an hour, and {name} allows "
        f"{money(limit.hourly)}"
    )


Budgets = Collection[tuple[str, Limit]]


@dataclass(frozen=True, slots=True)
class _Judgement:
    """What the budgets say to what something would cost."""

    refusals: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()

    @property
    def words(self) -> str:
        return "; ".join((*self.refusals, *self.warnings))


@dataclass(frozen=True, slots=True)
class _Asking:
    """What a visit wants to be allowed."""

    visit: Visit
    found: Estimate | None
    own: Limit | None
    vendor: str

    def judge(self, budgets: Budgets, taken: float) -> _Judgement:
        """By what others take of the budgets of the namespace.

        What that is changes all the time, and the words are told on every visit: so they leave it
        out, and the Budget tells it.
        """
        refusals: list[str] = []
        warnings: list[str] = []

        def hear(limit: Limit, words: str | None) -> None:
            if words is not None:
                (refusals if limit.on_exceed is OnExceed.REFUSE else warnings).append(words)

        if self.own is not None:
            hear(self.own, _excess(self.found, self.own, "spec.budget", self.vendor, 0.0))
        for name, limit in budgets:
            words = _excess(self.found, limit, f"Budget {name!r}", self.vendor, taken)
            used = words is not None and self.most and self.most <= limit.hourly
            hear(limit, f"{words}, of which too much is used" if used else words)
        return _Judgement(tuple(refusals), tuple(warnings))

    @property
    def most(self) -> float:
        return (self.found and self.found.most) or 0.0

    def full(self, budgets: Budgets, tally: Tally) -> bool:
        """Whether it is refused by what others were granted, whatever becomes of their asking."""
        return bool(self.judge(budgets, tally.granted(self.visit.subject.key)).refusals)

    async def refuse(self, judgement: _Judgement, *, sure: bool) -> Verdict:
        """What runs is told of budgets when it is looked at again; this waits for room."""
        visit = self.visit
        known = (visit.subject.condition("Ready") or {}).get("reason") == Reason.OVER_BUDGET
        # Of room that there was before it was known to wait for some, nothing has told it.
        after = None if sure and known else STANDS_BACK
        visit.references.waits.add(Waits(BUDGET, visit.subject.key.namespace))
        left = "it is left as it was" if "id" in visit.status else "it is not made"
        words = f"it would {judgement.words}: {left}"
        return await visit.settle(Reason.OVER_BUDGET, words, after=after)

    async def compete(self) -> Verdict | None:
        """Ask where all replicas see it, then see who else does; None: it was granted.

        Whoever asks has written so before it reads what the others have. Of any two the later
        writer sees the other, and is granted nothing unless both fit: so what is granted never
        comes to more than is allowed, in whatever order all this happens, and whoever dies or
        sleeps in between. The order of turns only says who stands back.
        """
        visit = self.visit
        visit.status["asking"] = self.most
        await visit.save()
        # Unless it goes on asking, whatever is written next takes it back.
        del visit.status["asking"]
        key = visit.subject.key
        reading = await visit.engine.readings.read(visit.cluster, key.namespace)
        tally = reading.tally
        judgement = self.judge(reading.budgets, tally.taken(key))
        if judgement.refusals:
            if self.full(reading.budgets, tally):
                return await self.refuse(judgement, sure=True)
            before = sum(
                use.taken - use.granted
                for use in tally.uses
                if use.key != key and use.turn < tally.of(key).turn
            )
            if self.judge(reading.budgets, tally.granted(key) + before).refusals:
                return await self.refuse(judgement, sure=False)
            # Those after it stand back: it goes on asking.
            return Verdict(Reason.PROGRESSING, Again.POLL, LOOKS_AGAIN, visit.waits)
        _show(visit, self.found)
        # Nobody else may have taken back the asking, or changed what is asked for.
        await visit.save(unchanged=True)
        return None


async def permit(visit: Visit, declared: Declared, want: Priced) -> Verdict | None:
    """Show what it costs, and end the visit if a budget refuses that; None: it may go on.

    Asked for is only what costs more than what was granted before: what runs is left. A grant is
    seen by all visits of this process at once, and saved before anything is done for it.
    """
    if visit.status.get("completed") or (visit.status.get("cost") or {}).get("basis") == ENDED:
        return None
    assert visit.opened is not None  # noqa: S101 - the connection was looked up for it
    found = estimate(declared.provider, want, visit.engine.prices, visit.opened.region)
    key, cluster, grants = visit.subject.key, visit.cluster, visit.engine.grants
    budgets = budgets_of(cluster, key.namespace)
    if (want.budget is None and not budgets) or visit.observes:
        _show(visit, found)
        return None
    asking = _Asking(visit, found, want.budget, declared.provider.vendor)
    tally = cluster.tally(key.namespace)
    taken = tally.taken(key) + grants.beyond(tally, key)
    judgement = asking.judge(budgets, taken)
    started = declared.kind.runs_once and "id" in visit.status
    rises = not started and asks_for_more(visit.subject, found)
    if rises and judgement.refusals:
        return await asking.refuse(judgement, sure=asking.full(budgets, tally))
    if rises and budgets:
        with grants.held(key, asking.most):
            if cluster.shared and _refusing(budgets):
                if (verdict := await asking.compete()) is not None:
                    return verdict
            else:
                _show(visit, found)
                await visit.save()
    elif budgets and found is not None and _lowers(visit, found):
        # Until the vendor has less, it is paid for, and nobody else's.
        visit.lowered = _told(visit, found)
    else:
        _show(visit, found)
    if judgement.words:
        await _remark(visit, f"it may {judgement.words}")
    return None


def _refusing(budgets: Iterable[tuple[str, Limit]]) -> bool:
    return any(limit.on_exceed is OnExceed.REFUSE for _, limit in budgets)


def give_back(visit: Visit) -> None:
    """The vendor has what the spec says: what that costs less is for others."""
    if visit.lowered is not None:
        visit.status["cost"] = visit.lowered


def end(visit: Visit) -> None:
    """A run has ended: it costs nothing any more."""
    visit.remark = None
    if "cost" in visit.status:
        told = Cost(least=0.0, most=0.0, basis=ENDED, generation=visit.generation)
        visit.status["cost"] = by_alias(told)


def asks_for_more(subject: Subject, found: Estimate | None) -> bool:
    """Whether an object asks for more than was granted to it before."""
    granted: JSON = subject.status.get("cost") or {}
    if granted.get("generation") == UNASKED:
        granted = {}
    if subject.generation in (granted.get("generation"), subject.status.get("syncedGeneration")):
        # Just this was granted, whatever has become of prices and budgets since.
        return False
    if found is None or found.most is None:
        return True
    return found.most > (granted.get("most") or 0.0)


def _lowers(visit: Visit, found: Estimate) -> bool:
    granted = (visit.subject.status.get("cost") or {}).get("most")
    if granted is None or found.most is None or found.most >= granted:
        return False
    return visit.generation != visit.subject.status.get("syncedGeneration")


def _show(visit: Visit, found: Estimate | None) -> None:
    if found is None:
        visit.status.pop("cost", None)
    else:
        visit.status["cost"] = _told(visit, found)


def _told(visit: Visit, found: Estimate) -> JSON:
    generation = UNASKED if visit.observes else visit.generation
    told = Cost(least=found.least, most=found.most, basis=found.basis, generation=generation)
    return by_alias(told)


async def _remark(visit: Visit, words: str) -> None:
    """Tell what a budget would not allow: in every message, and once by an Event."""
    visit.remark = words
    ready = visit.subject.condition("Ready") or {}
    if words not in ready.get("message", ""):
        await visit.cluster.event(visit.subject, "Warning", Reason.OVER_BUDGET, words)
