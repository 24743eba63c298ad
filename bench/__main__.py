"""`python -m bench`: how fast objects converge, what they cost, and what rest costs."""

import asyncio
import json
from time import monotonic
from typing import Any

from cyclopts import App
from rich.console import Console
from rich.table import Table

from bench.rig import Rig

app = App(help=__doc__)
console = Console()


@app.default
def bench(
    *,
    objects: int = 1000,
    latency: str = "20ms",
    workers: int = 400,
    calls_in_flight: int = 400,
    rest: float = 30.0,
    as_json: bool = False,
) -> None:
    """Create objects and measure until all are ready; then measure rest.

    Parameters
    ----------
    objects
        How many.
    latency
        Time that every call to the vendor takes.
    workers
        Most visits in hand.
    calls_in_flight
        Most calls to the vendor in flight.
    rest
        Seconds of rest that are measured.
    as_json
        Print JSON instead of a table.
    """
    figures = asyncio.run(_measure(objects, latency, workers, calls_in_flight, rest))
    if as_json:
        print(json.dumps(figures, indent=2))
        return
    table = Table(title=f"{objects} objects, vendor at {latency}, {workers} visits in hand")
    table.add_column("figure")
    table.add_column("value", justify="right")
    for name, value in figures.items():
        table.add_row(name, f"{value:,.2f}" if isinstance(value, float) else str(value))
    console.print(table)


async def _measure(
    objects: int, latency: str, workers: int, calls_in_flight: int, rest: float
) -> dict[str, Any]:
    async with Rig(latency, calls_in_flight).running() as rig:
        rig.start_operator(workers)
        await rig.ready()
        await rig.create(20, first=90000)
        while await rig.not_ready():
            await asyncio.sleep(0.1)
        await asyncio.sleep(2)
        idle = rig.memory_kib()
        cpu, writes, calls = rig.cpu_seconds(), rig.api_writes(), rig.vendor()
        start = monotonic()
        creating = asyncio.create_task(rig.create(objects))
        await creating
        created = monotonic() - start
        while await rig.not_ready():
            await asyncio.sleep(0.2)
        wall = monotonic() - start
        await asyncio.sleep(1)
        after = rig.api_writes()
        spent = rig.cpu_seconds() - cpu
        counted = rig.vendor()
        figures: dict[str, Any] = {
            "seconds to create them in the API": created,
            "seconds until all are ready": wall,
            "objects a second": objects / wall,
            "CPU seconds": spent,
            "CPU milliseconds an object": 1000 * spent / objects,
            "MiB resident, idle": idle / 1024,
            "KiB an object": (rig.memory_kib() - idle) / objects,
            "API writes an object": (sum(after.values()) - sum(writes.values())) / objects,
            "vendor calls an object": _calls(counted, calls) / objects,
            "objects at the vendor": counted["held"],
        }
        await asyncio.sleep(3)
        before, cpu, calls = rig.api_writes(), rig.cpu_seconds(), rig.vendor()
        await asyncio.sleep(rest)
        figures["API writes at rest"] = sum(rig.api_writes().values()) - sum(before.values())
        figures["vendor calls at rest"] = _calls(rig.vendor(), calls)
        figures["CPU percent at rest"] = 100 * (rig.cpu_seconds() - cpu) / rest
        return figures


def _calls(after: dict[str, Any], before: dict[str, Any]) -> int:
    kinds = ("get", "list", "post", "patch", "delete")
    return int(sum(after[kind] - before[kind] for kind in kinds))


if __name__ == "__main__":
    app()
