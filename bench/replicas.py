"""One replica, then two: what the second adds where the vendor is the limit."""

import asyncio
from typing import Any

from bench.measure import Bench, Plan
from bench.operators import Replica
from bench.rig import Rig

Figures = dict[str, Any]


async def scale(objects: int, latency: int, calls_in_flight: int) -> Figures:
    """Seconds until so many objects have converged, by the number of replicas."""
    rig = Rig(Replica.group, calls_in_flight)
    seconds: dict[int, float] = {}
    async with rig.running():
        await rig.set_finalizer_at_admission()
        rig.slow_down(latency)
        replicas: list[Replica] = []
        try:
            for number in (1, 2):
                replicas.append(Replica(rig))
                replicas[-1].start()
                bench = Bench(rig, replicas[0], Plan(Replica, []))
                bench.figures["idle_kib"] = 0
                for replica in replicas:
                    replica.wait_until_ready()
                await bench.until(lambda: all(r.replicas() == len(replicas) for r in replicas))
                names = [f"r{n:05}" for n in range(objects)]
                seconds[number] = (await bench.converge(names, latency))["seconds"]
                await bench.delete(names, latency)
        finally:
            for replica in replicas:
                await asyncio.to_thread(replica.stop)
    return {
        "objects": objects,
        "latency_ms": latency,
        "workers": Replica.workers,
        "one_seconds": seconds[1],
        "two_seconds": seconds[2],
        "times_as_fast": seconds[1] / seconds[2],
    }
