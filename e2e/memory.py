"""The memory of a process over a long life: does it grow for ever, or only until it is warm?"""

import statistics
from collections import defaultdict
from dataclasses import dataclass, field
from itertools import combinations

STEP = 10.0
"""Seconds that are one moment: what comes and goes within them is no growth."""
WARM_AFTER = 1 / 3
"""Share of a life after which caches are full, and buffers as large as they will be."""


@dataclass
class Memory:
    """Resident MiB, by seconds since the start."""

    samples: list[tuple[float, float]] = field(default_factory=list)

    def note(self, at: float, mib: float) -> None:
        self.samples.append((at, mib))

    @property
    def now(self) -> float:
        return self.samples[-1][1]

    def each(self, seconds: float) -> list[tuple[float, float]]:
        """The middle of every so many seconds, as (seconds since the start, MiB)."""
        groups: defaultdict[int, list[tuple[float, float]]] = defaultdict(list)
        for at, mib in self.samples:
            groups[int(at // seconds)].append((at, mib))
        return [
            (statistics.median(at for at, _ in group), statistics.median(mib for _, mib in group))
            for group in groups.values()
        ]

    def warm(self) -> list[tuple[float, float]]:
        """What came after it was warm."""
        since = self.samples[-1][0] * WARM_AFTER
        return [(at, mib) for at, mib in self.each(STEP) if at >= since]

    @property
    def slope(self) -> float:
        """MiB a minute since it was warm: the median of the slopes between any two moments.

        A burst, or an odd first or last moment, does not bend it, as it would a fitted line.
        """
        pairs = combinations(self.warm(), 2)
        return statistics.median((b - a) / (then - at) * 60 for (at, a), (then, b) in pairs)

    @property
    def grown(self) -> float:
        """MiB that it has grown by at that slope since it was warm."""
        warm = self.warm()
        return self.slope * (warm[-1][0] - warm[0][0]) / 60

    def __str__(self) -> str:
        return " ".join(f"{mib:.0f}" for _, mib in self.each(60.0))
