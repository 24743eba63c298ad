"""What is measured of one operator, phase by phase."""

import asyncio
import os
import random
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from rich.console import Console

from bench.operators import Operator
from bench.rig import LEASES, PLURAL, READS, VENDOR_CALLS, Calls, Rig, busy_seconds

Figures = dict[str, Any]
console = Console(stderr=True)
WARM_UP = 100
EDITS_A_SECOND = 20.0
EDITED_MEANWHILE = 0.02
"""Share of the objects that are edited while the operator is away."""
ERRORS, LIMIT = 0.02, 100
"""A troubled vendor: the share of its calls that fail, and the calls a second that it allows."""
PATIENCE = 1800.0
TROUBLED_PATIENCE = 300.0
"""Seconds for what a troubled vendor makes slow: exponential back-off may take half an hour."""
WRITES = ("PUT", "PATCH")


@dataclass
class Plan:
    """What to do with one operator."""

    operator: type[Operator]
    converge: list[tuple[int, int]]
    """(objects, the vendor's milliseconds), one after the other."""
    life: int | None = None
    """After the convergence at this place: rest, edits, restart."""
    delete_last: bool = False
    sweep: int = 5
    """Seconds between two drift checks of an object, while rest and edits are measured."""
    rest: float = 10.0
    edits: int = 200
    troubled: int = 0
    """Objects that are made at a vendor with errors and a limit, at the end."""


@dataclass
class Bench:
    """One operator on one rig, and the figures found so far."""

    rig: Rig
    operator: Operator
    plan: Plan
    figures: Figures = field(default_factory=dict)

    async def run(self) -> Figures:
        """Carry out the plan."""
        self.rig.slow_down(20)
        self.operator.start()
        self.operator.wait_until_ready()
        await self._warm_up()
        self.figures["converge"] = []
        for place, (objects, latency) in enumerate(self.plan.converge):
            names = [f"i{n:05}" for n in range(objects)]
            self.rig.slow_down(latency)
            self.figures["converge"].append(await self.converge(names, latency))
            if place == self.plan.life:
                await self.live(names, latency)
            if place + 1 < len(self.plan.converge) or self.plan.delete_last:
                deletion = await self.delete(names, latency)
                self.figures.setdefault("deletion", []).append(deletion)
        if self.plan.troubled:
            self.figures["trouble"] = await self.trouble(self.plan.troubled)
        return self.figures

    async def live(self, names: list[str], latency: int) -> None:
        """Rest, edits during a sweep, and a restart, with these objects there."""
        self.say(f"every object is checked for drift each {self.plan.sweep} s from now on")
        self.figures["storm"] = await self.storm(names)
        self.figures["rest"] = await self.rest(len(names), latency)
        self.figures["edits"] = await self.edit(names, latency)
        self.figures["restart"] = await self.restart(names, latency)

    async def converge(self, names: list[str], latency: int) -> Figures:
        """Create objects; the time until all are ready and what it took."""
        held = self.rig.vendor()["vendor", "held"]
        window = await Window.open(self)
        await self.rig.create(names)
        created = window.seconds
        await self.until(lambda: self.rig.vendor()["vendor", "held"] >= held + len(names))
        edited = self.rig.edited()
        at_vendor = max(edited[name] for name in names) - window.started_at
        seconds = await self.until_told(window, len(names))
        figures = await window.close(len(names), seconds)
        await asyncio.sleep(2)
        figures = {
            "objects": len(names),
            "latency_ms": latency,
            "created_seconds": created,
            "at_vendor_seconds": at_vendor,
            **figures,
            "objects_a_second": len(names) / figures["seconds"],
            "kib_an_object": (self.operator.resident_kib() - self.figures["idle_kib"]) / len(names),
        }
        self.say(
            f"{len(names):,} objects at {latency} ms: {figures['seconds']:.1f} s, "
            f"{figures['cpu_ms_an_object']:.2f} CPU ms and "
            f"{figures['api_writes_an_object']:.2f} API writes an object"
        )
        return figures

    async def trouble(self, objects: int) -> Figures:
        """Create objects at a vendor where some calls fail and only so many are allowed."""
        before = self.rig.vendor()
        self.rig.slow_down(20)
        self.rig.trouble(ERRORS, LIMIT)
        names = [f"t{n:05}" for n in range(objects)]
        try:
            figures = await asyncio.wait_for(self.converge(names, 20), TROUBLED_PATIENCE)
        except TimeoutError:
            left = await self.rig.not_ready()
            self.say(f"at a troubled vendor, {left} objects lack after {TROUBLED_PATIENCE:.0f} s")
            return {"left": left, "patience_seconds": TROUBLED_PATIENCE}
        finally:
            self.rig.trouble(0, 0)
        told = self.rig.vendor()
        told.subtract(before)
        refused = {name: told["vendor", name] for name in ("throttled", "failed")}
        # What the limit alone would take, at two calls an object.
        return {**figures, **refused, "least_seconds": max(0, 2 * objects - LIMIT) / LIMIT}

    async def storm(self, names: list[str]) -> Figures:
        """Edit every object at once, in a way that leaves the vendor alone."""
        window = await Window.open(self)
        spec = {"interval": f"{self.plan.sweep}s"}
        await self.rig.edit_all(names, spec)
        seconds = await self.until_told(window, len(names))
        return await window.close(len(names), seconds)

    async def rest(self, objects: int, latency: int) -> Figures:
        """Nothing is to be done but checking for drift."""
        await asyncio.sleep(1)
        visits = self.operator.visits()
        window = await Window.open(self)
        await asyncio.sleep(self.plan.rest)
        figures = await window.close(objects)
        visits = self.operator.visits() - visits
        sweeps = visits / objects
        # A list serves many of these short sweeps, but one at most at the usual interval: what one
        # list costs counts in full, whenever it was taken.
        told = self.rig.vendor()
        pages = told["vendor", "list"] / max(1, told["vendor", "lists"])
        single = figures["vendor_calls"] - figures["vendor"].get("list", 0)
        figures = {
            "objects": objects,
            "latency_ms": latency,
            "checks": visits,
            "sweeps": sweeps,
            "as_minutes_at_10m": sweeps * 10,
            "vendor_calls_a_sweep": pages + (single / sweeps if sweeps else 0.0),
            "cpu_percent": 100 * figures["cpu_seconds"] / figures["seconds"],
            "cpu_ms_a_check": 1000 * figures["cpu_seconds"] / visits if visits else 0.0,
            **figures,
        }
        self.say(
            f"at rest: {visits:,} checks, {figures['api_writes']} API writes, "
            f"{figures['vendor_calls']} vendor calls, {figures['cpu_percent']:.0f} % of a core"
        )
        return figures

    async def edit(self, names: list[str], latency: int) -> Figures:
        """Edit some objects, one after the other, while all are checked for drift."""
        chosen = random.Random(1).sample(names, min(self.plan.edits, len(names)))
        visits = self.operator.visits()
        sent: dict[str, float] = {}
        start = time.monotonic()

        async def one(place: int, name: str) -> None:
            await asyncio.sleep(max(0.0, start + place / EDITS_A_SECOND - time.monotonic()))
            sent[name] = time.time()
            await self.rig.edit(name, {"example": {"replicas": 2}})

        await asyncio.gather(*(one(place, name) for place, name in enumerate(chosen)))
        await self.until(lambda: self._edits_at_vendor(sent), pause=0.25)
        seconds = time.monotonic() - start
        edited = self.rig.edited()
        took = sorted(edited[name] - at for name, at in sent.items())
        figures = {
            "edits": len(took),
            "latency_ms": latency,
            "checks_a_second": (self.operator.visits() - visits) / seconds,
            "p50_seconds": statistics.median(took),
            "p99_seconds": took[min(len(took) - 1, int(len(took) * 0.99))],
            "max_seconds": took[-1],
            "load_average": os.getloadavg()[0],
        }
        self.say(
            f"from an edit to the vendor, with {figures['checks_a_second']:.0f} checks a second: "
            f"p50 {figures['p50_seconds']:.2f} s, p99 {figures['p99_seconds']:.2f} s"
        )
        return figures

    async def restart(self, names: list[str], latency: int) -> Figures:
        """Stop, edit some objects, start: until they and all others have been looked at."""
        chosen = random.Random(2).sample(names, max(1, int(len(names) * EDITED_MEANWHILE)))
        stopping = time.monotonic()
        self.operator.stop()
        stopped = time.monotonic() - stopping
        sent = {name: time.time() for name in chosen}
        for name in chosen:
            await self.rig.edit(name, {"example": {"replicas": 3}})
        self.operator.start()
        window = await Window.open(self)
        self.operator.wait_until_ready()
        ready = window.seconds
        await self.until(lambda: self._edits_at_vendor(sent))
        edits = window.seconds
        await self.until(lambda: self.operator.visits() >= len(names) + WARM_UP)
        seconds = max(window.seconds, await self.until_told(window, len(chosen)))
        figures = {
            "stop_seconds": stopped,
            "ready_seconds": ready,
            "edits_seconds": edits,
            "latency_ms": latency,
            "objects": len(names),
            **await window.close(len(names), seconds),
        }
        self.say(f"restart: caught up after {seconds:.1f} s")
        return figures

    async def delete(self, names: list[str], latency: int) -> Figures:
        """Delete objects; the time until they are gone on both sides."""
        held = self.rig.vendor()["vendor", "held"]
        window = await Window.open(self)
        await self.rig.delete(names)
        await self.until(lambda: self.rig.vendor()["vendor", "held"] <= held - len(names))
        while await self.rig.count() > WARM_UP:  # noqa: ASYNC110 - asks another process
            await asyncio.sleep(0.1)
        figures = await window.close(len(names))
        figures = {"objects": len(names), "latency_ms": latency, **figures}
        self.say(f"{len(names):,} objects deleted in {figures['seconds']:.1f} s")
        return figures

    async def until(self, done: Callable[[], bool], pause: float = 0.1) -> None:
        """Wait; the operator's log is shown if it ends or takes for ever."""
        deadline = time.monotonic() + PATIENCE
        while not done():
            assert self.operator.running.alive
            if time.monotonic() > deadline:
                raise TimeoutError(f"{self.operator.name}: {self.operator.running.tail()}")
            await asyncio.sleep(pause)

    async def until_told(self, window: "Window", statuses: int) -> float:
        """Wait until so many statuses were written and every object is ready; the seconds it took.

        A list of thousands of objects would take from what is measured: it is the last step only.
        """
        while True:
            asked = window.seconds
            told = written(await self.rig.api()) - written(window.api)
            if told >= statuses and not await self.rig.not_ready():
                return asked
            assert self.operator.running.alive
            await asyncio.sleep(max(0.1, window.seconds - asked))

    def say(self, text: str) -> None:
        load = os.getloadavg()[0]
        console.print(f"{self.operator.name}: {text} [dim](load {load:.1f})[/dim]", highlight=False)

    async def _warm_up(self) -> None:
        """Some objects first; with Auterity they show what it costs without the policy."""
        window = await Window.open(self)
        await self.rig.create(f"w{n:05}" for n in range(WARM_UP))
        seconds = await self.until_told(window, WARM_UP)
        self.figures["warm_up"] = {"objects": WARM_UP, **await window.close(WARM_UP, seconds)}
        if self.operator.helped_at_admission:
            await self.rig.set_finalizer_at_admission()
        await asyncio.sleep(2)
        self.figures["idle_kib"] = self.operator.resident_kib()

    def _edits_at_vendor(self, sent: dict[str, float]) -> bool:
        edited = self.rig.edited()
        return all(edited.get(name, 0.0) > at for name, at in sent.items())


@dataclass
class Window:
    """Everything that is counted, between two moments."""

    bench: Bench
    api: Calls
    vendor: Calls
    cpu: float
    rig_cpu: float
    busy: float
    started_at: float
    start: float

    @classmethod
    async def open(cls, bench: Bench) -> "Window":
        return cls(
            bench,
            await bench.rig.api(),
            bench.rig.vendor(),
            bench.operator.cpu_seconds(),
            bench.rig.cpu_seconds(),
            busy_seconds(),
            time.time(),
            time.monotonic(),
        )

    @property
    def seconds(self) -> float:
        return time.monotonic() - self.start

    async def close(self, objects: int, seconds: float | None = None) -> Figures:
        """The figures, in total and an object; `seconds` if it was over before now."""
        elapsed = self.seconds
        cpu = self.bench.operator.cpu_seconds() - self.cpu
        others = busy_seconds() - self.busy - cpu - (self.bench.rig.cpu_seconds() - self.rig_cpu)
        api = await self.bench.rig.api()
        api.subtract(self.api)
        leases = api.pop(LEASES, 0)
        vendor = self.bench.rig.vendor()
        vendor.subtract(self.vendor)
        calls = sum(vendor["vendor", method] for method in VENDOR_CALLS)
        reads = sum(count for (verb, _), count in api.items() if verb in READS)
        writes = sum(count for (verb, _), count in api.items() if verb not in READS)
        return {
            "seconds": elapsed if seconds is None else seconds,
            "cpu_seconds": cpu,
            "cpu_ms_an_object": 1000 * cpu / objects,
            "api_reads": reads,
            "api_writes": writes,
            "api_writes_an_object": writes / objects,
            "lease_writes_a_minute": 60 * leases / elapsed,
            "api": {f"{verb} {what}": n for (verb, what), n in sorted(api.items()) if n},
            "vendor_calls": calls,
            "vendor_calls_an_object": calls / objects,
            "vendor": {m: n for m in VENDOR_CALLS if (n := vendor["vendor", m])},
            "others_cores": max(0.0, others / elapsed),
            "load_average": os.getloadavg()[0],
        }


def written(api: Calls) -> int:
    """How many statuses were written."""
    return sum(
        n for (verb, what), n in api.items() if what == f"{PLURAL}/status" and verb in WRITES
    )
