"""Python environments of their own for servers, so that their pins never meet the project's."""

import shutil
import sys
from pathlib import Path

from tools import cache, progress

LOCKS = Path(__file__).parent / "servers" / "requirements"


def install(name: str) -> Path:
    """Install `servers/requirements/<name>.lock` into the cache once; return its environment."""
    lock = LOCKS / f"{name}.lock"

    def make(folder: Path) -> None:
        create(folder)
        sync = ["pip", "sync", "--quiet", "--python", str(folder / "bin" / "python"), str(lock)]
        progress.run(f"installing {name}", [uv(), *sync])

    return cache.once(name, [sys.version, lock.read_text()], make)


def create(folder: Path) -> None:
    """Make an empty environment with this interpreter."""
    args = ["venv", "--quiet", "--allow-existing", "--python", sys.executable, str(folder)]
    progress.run(f"environment {folder.name}", [uv(), *args])


def uv() -> str:
    """The uv beside this interpreter, else the one on the path."""
    beside = Path(sys.executable).with_name("uv")
    found = str(beside) if beside.exists() else shutil.which("uv")
    if found is None:
        raise cache.InstallError("uv is not installed")
    return found
