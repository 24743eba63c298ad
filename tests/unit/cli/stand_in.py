"""A stand-in that answers beside a command: the command has an event loop of its own."""

import asyncio
import threading
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

from tests.conformance.vendor import Vendor

V = TypeVar("V", bound=Vendor)
T = TypeVar("T")


class Beside:
    """Runs what belongs to the stand-in in its own thread."""

    def __init__(self) -> None:
        self.loop = asyncio.new_event_loop()
        self.thread = threading.Thread(target=self.loop.run_forever, daemon=True)

    def __call__(self, act: Callable[[], Awaitable[T]]) -> T:
        async def acted() -> T:
            return await act()

        return asyncio.run_coroutine_threadsafe(acted(), self.loop).result(30)


@contextmanager
def beside(vendor: V) -> Iterator[tuple[V, Beside]]:
    """The stand-in, listening, and the way to have it do something."""
    there = Beside()
    there.thread.start()
    try:
        there(vendor.start)
        there(vendor.reset)
        yield vendor, there
    finally:
        there(vendor.stop)
        there.loop.call_soon_threadsafe(there.loop.stop)
        there.thread.join(10)
        there.loop.close()


def writes(requests: list[tuple[str, Any]]) -> list[tuple[str, Any]]:
    """Of the requests that a stand-in saw, those that may have changed something."""
    return [request for request in requests if request[0] not in ("GET", "HEAD")]
