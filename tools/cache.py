"""The folder outside the checkout that keeps what the tools build and install."""

import fcntl
import hashlib
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path


class InstallError(Exception):
    """Something cannot be built or installed on this machine; the text says why."""


def root() -> Path:
    """`$AUTERITY_CACHE`, else `auterity` under `$XDG_CACHE_HOME` or `~/.cache`."""
    if own := os.environ.get("AUTERITY_CACHE"):
        return Path(own).absolute()
    shared = os.environ.get("XDG_CACHE_HOME")
    return (Path(shared) if shared else Path.home() / ".cache").absolute() / "auterity"


def once(name: str, inputs: list[str], make: Callable[[Path], None]) -> Path:
    """Return the folder that `make` fills for these inputs, once, by one caller alone."""
    digest = hashlib.sha256("\0".join(inputs).encode()).hexdigest()[:12]
    folder = root() / f"{name}-{digest}"
    complete = folder / ".complete"
    if complete.exists():
        return folder
    with _lock(folder.with_suffix(".lock")):
        if not complete.exists():
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir(parents=True)
            make(folder)
            complete.touch()
    return folder


@contextmanager
def _lock(path: Path) -> Iterator[None]:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
