"""What an integration costs by the hour, and whether a visit may go on with it."""

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from typing import Any, Final

from auterity.api.common import by_alias
from auterity.api.cost import Cost, Limit, OnExceed, Priced
from auterity.api.fields import Params
from auterity.api.kinds import BUDGET
from auterity.engine.budgets import DIGITS, Use, budgets_of, dearest, money, total, uses
from auterity.engine.conditions import Reason
from auterity.engine.contract import Provider
from auterity.engine.declared import Declared
from auterity.engine.prices import CURRENCY, Price, Prices
from auterity.engine.subject import JSON, Subject
from auterity.engine.verdict import Verdict, Waits
from auterity.engine.visit import Visit

LONGEST_BASIS: Final = 1024
ENDED: Final = "the run has ended"


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
    if found is None:
        return f"cost what cannot be estimated at {vendor}, so that {name} cannot hold"
    if found.most is None:
        return f"cost what is not known, so that {name} cannot hold: {found.basis}"
    taken = total(used)
    if not found.most or round(found.most + taken, DIGITS) <= limit.hourly:
        return None
    told = f"cost up to {money(found.most)} {CURRENCY} an hour, and {name} allows "
    told += money(limit.hourly)
    return f"{told}, of which {money(taken)} is used by {dearest(used)}" if taken else told


@dataclass(frozen=True, slots=True)
class _Excess:
    words: str
    refuses: bool


async def permit(visit: Visit, declared: Declared, want: Priced) -> Verdict | None:
    """Show what it costs, and end the visit if a budget refuses that; None: it may go on.

    Asked for is only what costs more than what was granted before: what runs is left. A grant is
    seen by all visits of this process at once, and saved before anything is done for it.
    """
    if visit.status.get("completed") or (visit.status.get("cost") or {}).get("basis") == ENDED:
        return None
    assert visit.opened is not None  # noqa: S101 - the connection was looked up for it
    found = estimate(declared.provider, want, visit.engine.prices, visit.opened.region)
    namespace = visit.subject.key.namespace
    budgets = budgets_of(visit.cluster, namespace)
    if (want.budget is None and not budgets) or visit.observes:
        _show(visit, found)
        return None
    exceeded = list(_exceeded(visit, declared, want, found, budgets))
    started = declared.kind.runs_once and "id" in visit.status
    rises = not started and asks_for_more(visit.subject, found)
    if rises and any(one.refuses for one in exceeded):
        # What runs is told of budgets when it is looked at again; this waits for room.
        visit.references.waits.add(Waits(BUDGET, namespace))
        words = "; ".join(one.words for one in exceeded)
        left = "it is left as it was" if "id" in visit.status else "it is not made"
        return await visit.settle(Reason.OVER_BUDGET, f"it would {words}: {left}")
    _show(visit, found)
    if rises and budgets:
        with visit.engine.grants.held(visit.subject.uid, (found and found.most) or 0.0):
            await visit.save()
    if exceeded:
        await _remark(visit, f"it may {'; '.join(one.words for one in exceeded)}")
    return None


def end(visit: Visit) -> None:
    """A run has ended: it costs nothing any more."""
    visit.remark = None
    if "cost" in visit.status:
        told = Cost(least=0.0, most=0.0, basis=ENDED, generation=visit.generation)
        visit.status["cost"] = by_alias(told)


def _exceeded(
    visit: Visit,
    declared: Declared,
    want: Priced,
    found: Estimate | None,
    budgets: Collection[tuple[str, Limit]],
) -> Iterator[_Excess]:
    vendor = declared.provider.vendor
    if (own := want.budget) is not None:
        words = excess(found, own, "spec.budget", vendor)
        if words is not None:
            yield _Excess(words, own.on_exceed is OnExceed.REFUSE)
    if not budgets:
        return
    others = [
        use
        for use in uses(visit.cluster, visit.subject.key.namespace, visit.engine.grants)
        if use.key != visit.subject.key
    ]
    for name, limit in budgets:
        words = excess(found, limit, f"Budget {name!r}", vendor, others)
        if words is not None:
            yield _Excess(words, limit.on_exceed is OnExceed.REFUSE)


def asks_for_more(subject: Subject, found: Estimate | None) -> bool:
    """Whether an object asks for more than was granted to it before."""
    granted: JSON = subject.status.get("cost") or {}
    if subject.generation in (granted.get("generation"), subject.status.get("syncedGeneration")):
        # Just this was granted, whatever has become of prices and budgets since.
        return False
    if found is None or found.most is None:
        return True
    return found.most > (granted.get("most") or 0.0)


def _show(visit: Visit, found: Estimate | None) -> None:
    if found is None:
        visit.status.pop("cost", None)
        return
    told = Cost(least=found.least, most=found.most, basis=found.basis, generation=visit.generation)
    visit.status["cost"] = by_alias(told)


async def _remark(visit: Visit, words: str) -> None:
    """Tell what a budget would not allow: in every message, and once by an Event."""
    visit.remark = words
    ready = visit.subject.condition("Ready") or {}
    if words not in ready.get("message", ""):
        await visit.cluster.event(visit.subject, "Warning", Reason.OVER_BUDGET, words)
