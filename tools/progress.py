"""Long steps that show they are alive."""

import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from rich.console import Console
from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from tools.cache import InstallError

SECONDS_BETWEEN_LINES = 15


@contextmanager
def step(what: str) -> Iterator[None]:
    """Show `what` and its seconds: one living line on a terminal, else a line every 15 seconds."""
    started = time.monotonic()
    with _living_line(what) if sys.stderr.isatty() else _repeated_lines(what, started):
        yield
    _say(f"{what}: {time.monotonic() - started:.1f} s")


def run(
    what: str, args: list[str], *, cwd: Path | None = None, env: Mapping[str, str] | None = None
) -> None:
    """Run a command as one step; its output is shown only when it fails."""
    with step(what):
        try:
            done = subprocess.run(
                args,
                cwd=cwd,
                env=env,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                errors="replace",
                check=False,
            )
        except OSError as error:
            raise InstallError(f"{what}: {error}") from error
    if done.returncode != 0:
        last = "\n".join(done.stdout.strip().splitlines()[-15:])
        raise InstallError(f"{what}: exit status {done.returncode}\n{last}")


@contextmanager
def _living_line(what: str) -> Iterator[None]:
    columns = (SpinnerColumn(), TextColumn("{task.description}"), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        progress.add_task(what, total=None)
        yield


@contextmanager
def _repeated_lines(what: str, started: float) -> Iterator[None]:
    done = threading.Event()

    def repeat() -> None:
        while not done.wait(SECONDS_BETWEEN_LINES):
            _say(f"{what} ... {time.monotonic() - started:.0f} s")

    thread = threading.Thread(target=repeat, daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)
