"""Checks: what the vendor's own monitoring says of a new revision, and what it means."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any, Final

from auterity.api.fields import seconds
from auterity.api.rollout import Check, Metric, Rollout
from auterity.engine.contract import Measured, Provider, Span
from auterity.engine.probe import Verdict

LOOKS: Final = 5
"""How often the vendor is asked in the time of a window, if its figures change as often."""


@dataclass(frozen=True, slots=True)
class Figure:
    """A metric of the new revision, and of the one it was compared with."""

    metric: Metric
    value: float
    stable: float | None = None


@dataclass(frozen=True, slots=True)
class Findings:
    """What checks have found."""

    verdict: Verdict
    """UNSURE: nothing can be said yet."""
    message: str
    """What is wrong, or why nothing can be said."""
    due: float
    """Seconds until they are to be asked again."""
    requests: int = 0
    figures: tuple[Figure, ...] = ()


@dataclass(frozen=True, slots=True)
class Place:
    """What checks are asked about: a step of a rollout."""

    revision: str
    stable: str | None
    """What it is compared with, if that gets traffic too."""
    since: datetime
    """When it got there: what was measured before is about another share of the traffic."""


@dataclass(slots=True)
class _Known:
    about: tuple[object, ...]
    asked: datetime
    found: Findings


class Measures:
    """What the checks of all objects have found. A restart forgets it, and they are asked anew."""

    def __init__(self) -> None:
        self._known: dict[str, _Known] = {}

    def forget(self, uid: str) -> None:
        """The object is gone."""
        self._known.pop(uid, None)

    async def ask(  # noqa: PLR0913 - whom, what, and on whose behalf
        self,
        uid: str,
        provider: Provider[Any, Any],
        id: str,
        rules: Rollout,
        place: Place,
        now: datetime,
    ) -> tuple[Findings, bool]:
        """Ask if it is due; what is known then, and whether the vendor was asked."""
        # Where only one gets traffic, there is nothing to be compared with.
        alone = place.stable is None
        checks = [c for c in rules.checks or () if not alone or c.max is not None]
        if not checks:
            return Findings(Verdict.PASSING, "", math.inf), False
        every = provider.measured_every
        window = max(math.ceil(seconds(rules.window) / every), 1) * every
        said = [check.model_dump_json() for check in checks]
        about = (place, rules.window, rules.min_requests, *said)
        known = self._known.get(uid)
        pace = max(every, window / LOOKS)
        if known is not None and known.about == about:
            left = pace - (now - known.asked).total_seconds()
            if 0 < left <= pace:
                return replace(known.found, due=left), False
        span = _span(place.since, now, window, every, provider.measured_after)
        if span.end <= span.start:
            first = (span.start - now).total_seconds() + every + provider.measured_after
            waits = "nothing of that is measured yet"
            return Findings(Verdict.UNSURE, waits, max(first, 1.0)), False
        whole = (span.end - span.start).total_seconds() >= window
        look = _Look(provider, id, place, span, rules.min_requests, whole=whole)
        found = await look.at(checks)
        self._known[uid] = _Known(about, now, found)
        return replace(found, due=pace), True


class NoMeasures(Measures):
    """Asks nothing, for whoever only looks: it may cost, and it says nothing of what is to come."""

    async def ask(self, *_: Any, **__: Any) -> tuple[Findings, bool]:
        return Findings(Verdict.PASSING, "", math.inf), False


def mean(values: Mapping[Any, float], weights: Mapping[Any, float]) -> float | None:
    """The mean of what was measured in each part of a time, by how many requests each part had.

    For vendors that tell percentiles of each minute, which have no exact percentile of all.
    """
    told = {at: value for at, value in values.items() if weights.get(at, 0) > 0}
    total = sum(weights[at] for at in told)
    return sum(value * weights[at] for at, value in told.items()) / total if total else None


@dataclass(frozen=True, slots=True)
class _Look:
    """One look at the vendor's figures."""

    provider: Provider[Any, Any]
    id: str
    place: Place
    span: Span
    fewest: int
    whole: bool
    """Whether the span is as long as the window: before that nothing can pass, and of a revision
    that has just begun to be asked a latency cannot fail either."""

    async def at(self, checks: Sequence[Check]) -> Findings:
        """What was measured, held against what is allowed. Silence decides nothing."""
        ask, metrics = self.provider.measure, frozenset(one.metric for one in checks)
        new, stable = await ask(self.id, self.place.revision, metrics, self.span), None
        if round(new.requests) < self.fewest:
            return _unsure(f"fewer than {self.fewest} requests were measured")
        compared = frozenset(one.metric for one in checks if one.max_increase is not None)
        if compared and self.place.stable is not None:
            stable = await ask(self.id, self.place.stable, compared, self.span)
        return self.judge(checks, new, stable)

    def judge(self, checks: Sequence[Check], new: Measured, stable: Measured | None) -> Findings:
        problems, gaps, figures = [], [], []
        for check in checks:
            value = new.values.get(check.metric)
            if value is None:
                gaps.append(f"{check.metric} is not told yet")
                continue
            base, gap = self._base(check, stable)
            gaps += [gap] * bool(gap)
            figures.append(Figure(check.metric, value, base))
            problem = _problem(check, value, base, self.place.stable)
            if problem and (self.whole or check.metric.is_rate):
                over = f"over {round(new.requests)} requests in {_length(self.span)}"
                problems.append(
                    f"{check.metric} is {_shown(check.metric, value)} {over}, {problem}"
                )
        told = Findings(Verdict.PASSING, "", 0.0, round(new.requests), tuple(figures))
        if problems:
            return replace(told, verdict=Verdict.FAILING, message="; ".join(problems))
        if not self.whole:
            return _unsure("the window is not over yet")
        return _unsure(gaps[0]) if gaps else told

    def _base(self, check: Check, stable: Measured | None) -> tuple[float | None, str]:
        """What a figure is compared with, or why it cannot be yet."""
        if stable is None or check.max_increase is None:
            return None, ""
        name = self.place.stable
        if round(stable.requests) < self.fewest:
            return None, f"fewer than {self.fewest} requests were measured at {name}"
        value = stable.values.get(check.metric)
        return value, "" if value is not None else f"{check.metric} of {name} is not told yet"


def _unsure(why: str) -> Findings:
    return Findings(Verdict.UNSURE, why, 0.0)


def _problem(check: Check, value: float, base: float | None, stable: str | None) -> str:
    if check.max is not None and value > check.max:
        return f"more than {_shown(check.metric, check.max)}"
    if check.max_increase is None or base is None:
        return ""
    than = f"than the {_shown(check.metric, base)} of {stable}"
    if check.metric.is_rate:
        more = value - base
        unit = "percentage points"
    else:
        more = (value - base) / base * 100 if base else 0.0
        unit = "%"
    if more <= check.max_increase:
        return ""
    return f"{more:.3g} {unit} more {than}; {check.max_increase:g} are allowed"


def _span(since: datetime, now: datetime, window: float, every: float, lag: float) -> Span:
    """The last whole part of the window that the vendor tells of, and that is all of this step."""
    # Written down in whole seconds, it may have been a moment later.
    reached = math.ceil((since.timestamp() + 1) / every) * every
    end = math.floor((now.timestamp() - lag) / every) * every
    start = max(reached, end - window)
    return Span(datetime.fromtimestamp(start, UTC), datetime.fromtimestamp(end, UTC))


def _shown(metric: Metric, value: float) -> str:
    return f"{value:.3g} %" if metric.is_rate else f"{value:.0f} ms"


def _length(span: Span) -> str:
    minutes, rest = divmod(round((span.end - span.start).total_seconds(), 3), 60)
    return "".join([f"{minutes:g}m"] * (minutes > 0) + [f"{rest:g}s"] * (rest > 0))
