"""What has ended in a cycle is collected by the clock, however seldom Python would."""

import asyncio
import gc
import platform
import subprocess
import sys
import weakref
from collections.abc import Iterator
from contextlib import suppress

import pytest

from auterity.runtime import app, garbage
from auterity.runtime.operator import Options


class Watch:
    """Refers to itself, as an interrupted one does by its exception."""

    def __init__(self) -> None:
        self.error = self


@pytest.fixture
def never_by_itself() -> Iterator[None]:
    gc.disable()
    yield
    gc.enable()


async def _collect_for(seconds: float) -> None:
    with suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await garbage.collect()


@pytest.mark.usefixtures("never_by_itself")
async def test_what_has_lived_for_long_is_collected_as_well(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(garbage, "EVERY", 0.001)
    monkeypatch.setattr(garbage, "SHARE", 1.0)
    watch = Watch()
    for generation in range(3):
        gc.collect(generation)
    left = weakref.ref(watch)
    del watch
    gc.collect(1)
    assert left() is not None
    async with asyncio.timeout(10):
        collecting = asyncio.create_task(garbage.collect())
        while left() is not None:  # noqa: ASYNC110 - nothing tells when it is
            await asyncio.sleep(0.001)
        collecting.cancel()


async def test_the_longer_a_collection_takes_the_seldomer_it_is(monkeypatch: pytest.MonkeyPatch):
    slept: list[float] = []
    clock = iter((10.0, 10.5, 20.0, 20.001))

    async def sleep(seconds: float) -> None:
        slept.append(seconds)
        if len(slept) > 2:
            raise TimeoutError

    monkeypatch.setattr(garbage, "perf_counter", lambda: next(clock))
    monkeypatch.setattr("auterity.runtime.garbage.asyncio.sleep", sleep)
    await _collect_for(10)
    assert slept == [60.0, 500.0, 60.0]


HELD = """
import ctypes
from auterity.runtime.garbage import give_back_large_buffers

FIELDS = "arena ordblks smblks hblks hblkhd usmblks fsmblks uordblks fordblks keepcost"

class Info(ctypes.Structure):
    _fields_ = [(name, ctypes.c_size_t) for name in FIELDS.split()]

mallinfo2 = ctypes.CDLL(None).mallinfo2
mallinfo2.restype = Info
{first}
buffer = bytearray(256 * 1024)
del buffer
before = mallinfo2().hblkhd
buffer = bytearray(256 * 1024)
print(mallinfo2().hblkhd - before >= len(buffer))
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc keeps large buffers")
@pytest.mark.parametrize(
    ("first", "outside"), [("", "False"), ("give_back_large_buffers()", "True")]
)
def test_a_large_buffer_is_never_in_the_heap(first: str, outside: str):
    program = HELD.format(first=first)
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, check=True)
    assert done.stdout.decode().strip() == outside


def test_the_operator_gives_large_buffers_back(monkeypatch: pytest.MonkeyPatch):
    done: list[str] = []

    async def run(*_: object) -> None:
        done.append("run")

    monkeypatch.setattr(app, "_run", run)
    monkeypatch.setattr(garbage, "give_back_large_buffers", lambda: done.append("given back"))
    app.run({}, Options(), host="127.0.0.1", port=0)
    assert done == ["given back", "run"]
