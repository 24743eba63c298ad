"""An event loop whose clock jumps to whatever is next: hours pass in no time."""

import asyncio
import selectors
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

T = TypeVar("T")


class _Jumping(selectors.SelectSelector):
    """Never waits: moves the loop's clock instead."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 1000.0

    def select(self, timeout: float | None = None) -> Any:
        if timeout is None:
            raise RuntimeError("everything waits for nothing")
        # A hair more, as the real clock is never exactly on time.
        self.now += timeout + (1e-6 if timeout else 0.0)
        return super().select(0)


class VirtualLoop(asyncio.SelectorEventLoop):
    """A loop over a clock of its own."""

    def __init__(self) -> None:
        self._jumping = _Jumping()
        super().__init__(self._jumping)

    def time(self) -> float:
        return self._jumping.now if hasattr(self, "_jumping") else 0.0


def virtually(main: Callable[[], Coroutine[Any, Any, T]]) -> T:
    """Run a test body over virtual time."""
    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        return runner.run(main())


def now() -> float:
    """The virtual time."""
    return asyncio.get_running_loop().time()
