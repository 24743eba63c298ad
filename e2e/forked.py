"""Commands as forks of one process that has imported everything: a start costs no imports.

The tests start and kill the operator some eighty times, and most of such a start is Python reading
modules. `python -m e2e.forked SOCKET` has read them, waits on a Unix socket, and becomes what it is
asked for in a child: a process of its own, with its own session, environment and log, that dies of
its own SIGKILL. The operators of the chart's pods start as users start theirs, and so does the idle
one.
"""

import ctypes
import importlib
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from auterity.cli import main
from auterity.providers import catalogue
from tools.orphan import PR_SET_PDEATHSIG
from tools.process import Process

IMPORTED = ("auterity.cli.files", "auterity.cli.run", "auterity.runtime.app")
"""What the operator imports at its start, besides the providers."""


def serve(path: str) -> None:
    """Fork what is asked for, and tell what became of it; for ever."""
    for name in IMPORTED:
        importlib.import_module(name)
    catalogue()
    ended: dict[int, int] = {}
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(path)
        listening.listen()
        while True:
            connection, _ = listening.accept()
            with connection, connection.makefile("rw") as stream:
                asked = json.loads(stream.readline())
                if "args" in asked:
                    answer: int | None = _fork(asked, listening, connection)
                else:
                    answer = _ended(asked["pid"], ended)
                stream.write(f"{json.dumps(answer)}\n")


def _fork(asked: dict[str, Any], *ours: socket.socket) -> int:
    parent = os.getpid()
    if pid := os.fork():
        return pid
    code = 1
    try:
        for one in ours:
            one.close()
        os.setsid()
        if sys.platform == "linux":
            ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
            if os.getppid() != parent:
                os._exit(1)
        log = os.open(asked["log"], os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
        for output in (1, 2):
            os.dup2(log, output)
        os.environ.update(asked["env"])
        sys.argv = list(asked["args"])
        main()
        code = 0
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else int(end.code is not None)
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        # Never back into the loop, which is the parent's.
        os._exit(code)


def _ended(pid: int, ended: dict[int, int]) -> int | None:
    """The exit code of a child; None while it lives."""
    if pid not in ended:
        done, status = os.waitpid(pid, os.WNOHANG)
        if not done:
            return None
        ended[pid] = os.waitstatus_to_exitcode(status)
    return ended[pid]


class Forge:
    """The tests' side of it."""

    def __init__(self, folder: Path, python_path: str) -> None:
        # A folder of its own: the path of a socket must be short.
        self._sockets = tempfile.TemporaryDirectory(prefix="auterity-")
        self._path = f"{self._sockets.name}/forge"
        self._process = Process(
            [sys.executable, "-m", "e2e.forked", self._path],
            log=folder / "forked.log",
            env={"PYTHONPATH": python_path, "PYTHONUNBUFFERED": "1"},
        )

    def start(self) -> None:
        self._process.start()
        self._process.wait_until(Path(self._path).exists)

    def stop(self) -> None:
        self._process.stop()
        self._sockets.cleanup()

    def fork(self, args: Sequence[str], env: Mapping[str, str], log: Path) -> "Forked":
        """Start a command of ours in a new child."""
        pid = self.ask({"args": args, "env": dict(env), "log": str(log)})
        assert pid is not None
        return Forked(self, pid)

    def ask(self, question: dict[str, Any]) -> int | None:
        with socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(60)
            connection.connect(self._path)
            with connection.makefile("rw") as stream:
                stream.write(f"{json.dumps(question)}\n")
                stream.flush()
                answer: int | None = json.loads(stream.readline())
                return answer


class Forked(subprocess.Popen[bytes]):
    """A child of the forge, to be treated as one of ours."""

    def __init__(self, forge: Forge, pid: int) -> None:
        # Nothing of Popen's own is started, nor waited for.
        self._child_created = False
        self._forge = forge
        self.pid = pid
        self.returncode: Any = None

    def poll(self) -> int | None:
        if self.returncode is None:
            self.returncode = self._forge.ask({"pid": self.pid})
        code: int | None = self.returncode
        return code

    def wait(self, timeout: float | None = None) -> int:
        deadline = None if timeout is None else time.monotonic() + timeout
        while (code := self.poll()) is None:
            if deadline is not None and time.monotonic() > deadline:
                raise subprocess.TimeoutExpired("auterity", timeout or 0.0)
            time.sleep(0.02)
        return code

    def send_signal(self, sig: int) -> None:
        if self.poll() is None:
            os.kill(self.pid, sig)


@dataclass(eq=False)
class ForkedProcess(Process):
    """A command of ours that is forked where there is a forge, and else started as users do."""

    forge: Forge | None = field(default=None, kw_only=True)

    def start(self) -> None:
        if self.forge is None:
            super().start()
        else:
            self._popen = self.forge.fork(self.args, self.env, self.log)


if __name__ == "__main__":
    serve(sys.argv[1])
