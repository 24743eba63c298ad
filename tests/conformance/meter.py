"""What the monitoring of a stand-in tells: so many requests a minute, and how they went."""

from dataclasses import dataclass, field
from datetime import UTC, datetime

from auterity.api.rollout import Metric

MINUTE = 60
PERCENTILES = {
    Metric.LATENCY_P50: 50,
    Metric.LATENCY_P90: 90,
    Metric.LATENCY_P95: 95,
    Metric.LATENCY_P99: 99,
}


@dataclass(frozen=True, slots=True)
class Flow:
    """The requests that reach a revision."""

    requests: int = 60
    """A minute."""
    errors: float = 0.0
    """Percent of them that are answered with a status of 500."""
    refused: float = 0.0
    """Percent of them that are answered with a status of 400."""
    latency: float = 190.0
    """Milliseconds within which 95 % are answered."""

    def percentile(self, percent: int) -> float:
        """Milliseconds within which so many percent are answered."""
        return self.latency * percent / 95


@dataclass
class Meter:
    """The flow of every revision: `usual`, and `new` for those that are not known."""

    usual: Flow = field(default_factory=Flow)
    new: Flow | None = None
    known: set[str] = field(default_factory=set)
    asked: list[tuple[str, datetime, datetime]] = field(default_factory=list)
    """Which revision's figures were asked for, from when to when."""

    def of(self, revision: str, start: float, end: float) -> Flow:
        """What reaches a revision; the times are seconds since 1970."""
        span = (datetime.fromtimestamp(start, UTC), datetime.fromtimestamp(end, UTC))
        self.asked.append((revision, *span))
        return self.usual if self.new is None or revision in self.known else self.new


def minutes(start: float, end: float) -> range:
    """The whole minutes of a time, in seconds since 1970."""
    return range(int(start) // MINUTE * MINUTE, int(end), MINUTE)
