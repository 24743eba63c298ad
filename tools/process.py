"""Servers as child processes that never outlive the one who started them."""

import atexit
import os
import signal
import subprocess
import sys
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Self

ORPHAN = Path(__file__).with_name("orphan.py")
_running: set["Process"] = set()


class Startable(ABC):
    """What is started and stopped; in a `with` statement by itself."""

    @abstractmethod
    def start(self) -> Self:
        """Start it, and wait until it answers."""

    @abstractmethod
    def stop(self) -> None:
        """Stop it, and leave nothing behind."""

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()


@dataclass(eq=False)
class Process:
    """A server in a process group of its own, with its output in a log file.

    It ends with `stop`, when the interpreter exits, and on Linux also when the thread that
    started it dies for whatever reason, a `kill -9` of the interpreter included. So start it from
    a thread that lives as long as the server is needed.
    """

    args: list[str]
    log: Path
    env: Mapping[str, str] = field(default_factory=dict, repr=False)
    """In addition to ours."""
    cwd: Path | None = None
    user: str | None = None
    stop_signal: signal.Signals = signal.SIGTERM
    orphan_signal: signal.Signals = signal.SIGKILL
    """What it gets when its parent has died."""
    _popen: subprocess.Popen[bytes] | None = field(default=None, init=False, repr=False)
    _owner: int = field(default_factory=os.getpid, init=False, repr=False)

    @property
    def pid(self) -> int:
        return self._child.pid

    @property
    def alive(self) -> bool:
        return self._popen is not None and self._popen.poll() is None

    def start(self) -> None:
        last_will = [str(int(self.orphan_signal)), str(os.getpid()), self.user or ""]
        with self.log.open("ab") as output:
            self._popen = subprocess.Popen(
                [sys.executable, "-I", "-S", str(ORPHAN), *last_will, *self.args],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env={**os.environ, **self.env},
                cwd=self.cwd,
                start_new_session=True,
            )
        _running.add(self)

    def wait_until(self, ready: Callable[[], bool], seconds: float = 60) -> None:
        """Return when `ready` says so; a server that ends or takes too long shows its log."""
        deadline = time.monotonic() + seconds
        while not ready():
            if not self.alive:
                raise RuntimeError(f"{self._name} ended before it was ready:\n{self.tail()}")
            if time.monotonic() > deadline:
                raise TimeoutError(f"{self._name} not ready after {seconds:.0f} s:\n{self.tail()}")
            time.sleep(0.05)

    def ended_within(self, seconds: float) -> bool:
        """Wait for the server to end by itself."""
        try:
            self._child.wait(seconds)
        except subprocess.TimeoutExpired:
            return False
        return True

    def stop(self, seconds: float = 10) -> None:
        """Ask the server to end, insist after `seconds`, and end what it left of its group."""
        if self._popen is None or os.getpid() != self._owner:
            return
        if self.alive:
            self._popen.send_signal(self.stop_signal)
            self.ended_within(seconds)
        with suppress(ProcessLookupError):
            os.killpg(self._popen.pid, signal.SIGKILL)
        self._popen.wait()
        self._popen = None
        _running.discard(self)

    def tail(self, lines: int = 20) -> str:
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-lines:])

    @property
    def _child(self) -> subprocess.Popen[bytes]:
        if self._popen is None:
            raise RuntimeError(f"{self._name} is not started")
        return self._popen

    @property
    def _name(self) -> str:
        return Path(self.args[0]).name


def _stop_all() -> None:
    for process in list(_running):
        process.stop(seconds=3)


atexit.register(_stop_all)
