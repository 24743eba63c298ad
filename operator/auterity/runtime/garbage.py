"""The memory of a process that lives for months: garbage is collected in time, and given back.

Python collects by counts of objects: the old ones when the young have been collected hundreds of
times, which an operator that keeps little takes days for. Until then, whatever lived for a while
and then ended in a cycle stays: above all each interrupted watch, with its connection, what it had
read and the stack that it was interrupted in. So the old are collected by the clock.
"""

import asyncio
import ctypes
import gc
from contextlib import suppress
from time import perf_counter
from typing import Final

EVERY: Final = 60.0
"""Seconds from one collection to the next, at least."""
SHARE: Final = 0.001
"""Share of the time that collections may take: they hold up everything else."""
M_MMAP_THRESHOLD: Final = -3
"""From malloc.h."""
LARGE: Final = 128 * 1024
"""Bytes."""


def give_back_large_buffers() -> None:
    """Let the C library return each large buffer to the system when it is freed.

    Such as the 256 KiB of every TLS connection, of which a restart of the API server brings dozens
    at once. By itself glibc takes the first that is freed for a sign to keep the next ones in its
    heap, where they leave holes. https://man7.org/linux/man-pages/man3/mallopt.3.html
    """
    with suppress(AttributeError):  # another C library
        ctypes.CDLL(None).mallopt(M_MMAP_THRESHOLD, LARGE)


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
