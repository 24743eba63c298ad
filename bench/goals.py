"""What Auterity is to reach, and whether a run shows it."""

import math
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any

Figures = dict[str, Any]
PAGE = 500
"""Objects in a page of the vendor's lists."""
MANY = 10_000
"""From so many objects on, what an object costs in memory is told apart from noise."""


@dataclass(frozen=True)
class Goal:
    """One goal and what was measured."""

    text: str
    target: float
    measured: float
    unit: str
    at_least: bool = False

    @property
    def met(self) -> bool:
        return self.measured >= self.target if self.at_least else self.measured <= self.target

    def told(self) -> dict[str, Any]:
        return {**asdict(self), "met": self.met}


def goals(operators: Figures) -> list[Goal]:
    """All goals that these figures tell about; those of operators left out are left out."""
    ours = operators.get("Auterity")
    if ours is None:
        return []
    return [
        *_speed(ours, operators.get("Go, 50 workers"), operators.get("Go, 1 worker")),
        *_growth(ours),
        *_cost(ours),
    ]


def _speed(ours: Figures, fifty: Figures | None, one: Figures | None) -> Iterator[Goal]:
    for run in ours["converge"]:
        objects, latency = run["objects"], run["latency_ms"]
        what = f"{objects:,} objects at {latency} ms"
        limit = 0.9 if latency < 100 else 0.35
        if fifty and (other := converged(fifty, objects, latency)):
            ratio = run["seconds"] / other["seconds"]
            yield Goal(f"{what}: time to converge, to 50 Go workers", limit, ratio, "x")
            ratio = run["cpu_ms_an_object"] / other["cpu_ms_an_object"]
            yield Goal(f"{what}: CPU an object, to Go's", 1.7, ratio, "x")
        if one and (other := converged(one, objects, latency)):
            ratio = other["seconds"] / run["seconds"]
            yield Goal(f"{what}: times as fast as 1 Go worker", 10.0, ratio, "x", at_least=True)


def _growth(ours: Figures) -> Iterator[Goal]:
    for latency in sorted({run["latency_ms"] for run in ours["converge"]}):
        runs = [run for run in ours["converge"] if run["latency_ms"] == latency]
        few, many = (pick(runs, key=lambda run: run["objects"]) for pick in (min, max))
        if few is not many:
            ratio = (many["seconds"] / many["objects"]) / (few["seconds"] / few["objects"])
            what = f"{many['objects']:,} instead of {few['objects']:,} objects at {latency} ms"
            yield Goal(f"{what}: time an object", 1.2, ratio, "x")


def _cost(ours: Figures) -> Iterator[Goal]:
    writes = max(run["api_writes_an_object"] for run in ours["converge"])
    yield Goal("API writes an object on creation, finalizer set at admission", 1.0, writes, "")
    writes = ours["warm_up"]["api_writes_an_object"]
    # Two writes more: the connection's own finalizer and status, once.
    few = ours["warm_up"]["objects"]
    yield Goal("API writes an object on creation elsewhere", 2 + 2 / few, writes, "")
    if rest := ours.get("rest"):
        yield Goal("API writes at rest", 0, rest["api_writes"], "")
        pages = math.ceil((rest["objects"] + few) / PAGE)
        told = f"vendor calls in a drift sweep of {rest['objects']:,} objects"
        yield Goal(told, pages, rest["vendor_calls_a_sweep"], "")
    if edits := ours.get("edits"):
        told = "p99 from an edit to the vendor, while all objects are checked for drift"
        yield Goal(told, 1.0, edits["p99_seconds"], "s")
    if replicas := ours.get("replicas"):
        told = "two replicas to one, where the vendor is the limit: times as fast"
        yield Goal(told, 1.7, replicas["times_as_fast"], "x", at_least=True)
    yield Goal("memory at idle", 90, ours["idle_kib"] / 1024, "MiB")
    largest = max(ours["converge"], key=lambda run: run["objects"])
    note = "" if largest["objects"] >= MANY else " (coarse below 10,000 objects)"
    yield Goal(f"memory an object{note}", 25, largest["kib_an_object"], "KiB")


def converged(figures: Figures, objects: int, latency: int) -> Figures | None:
    """The convergence of so many objects; None if it was not measured."""
    for run in figures["converge"]:
        if (run["objects"], run["latency_ms"]) == (objects, latency):
            return dict(run)
    return None
