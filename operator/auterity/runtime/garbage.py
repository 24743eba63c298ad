"""The garbage collector of a process that lives for months: seldom in the way, and never too late.

Python collects by counts of objects: the old ones when the young have been collected hundreds of
times, which an operator that keeps little takes days for. Until then, whatever lived for a while
and then ended in a cycle stays: above all each interrupted watch, with its connection, what it had
read and the stack that it was interrupted in. So the old are collected by the clock.
"""

import asyncio
import gc
from time import perf_counter
from typing import Final

EVERY: Final = 60.0
"""Seconds from one collection to the next, at least."""
SHARE: Final = 0.001
"""Share of the time that collections may take: they hold up everything else."""


def leave_what_lasts() -> None:
    """Spare the collector what lasts as long as the process: modules, models, the store.

    Otherwise every collection walks all objects of the cluster, and visits cost the more the more
    objects there are. So the young are collected when most visits in hand have ended meanwhile, and
    what outlives them is left to the clock: in a storm that is what is kept, not garbage.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 1_000, 1_000)


async def collect() -> None:
    """Collect what has ended since, the old included; for ever."""
    pause = EVERY
    while True:
        await asyncio.sleep(pause)
        begun = perf_counter()
        gc.collect()
        pause = max(EVERY, (perf_counter() - begun) / SHARE)
