"""The shape that every server has."""

import shutil
import tempfile
from abc import abstractmethod
from pathlib import Path
from typing import ClassVar, Self

from tools.cache import InstallError
from tools.loopback import HOST, answers, free_port
from tools.process import Process, Startable


class Server(Startable):
    """A real server; `with Moto() as moto:` or start and stop.

    Its data is in a folder of its own, and gone when it stops.
    """

    name: ClassVar[str]
    seconds_to_start: ClassVar[float] = 60

    def __init__(self) -> None:
        self._process: Process | None = None

    folder: Path
    """Data and log, from `start` on."""
    port: int

    @classmethod
    @abstractmethod
    def install(cls) -> Path:
        """Install the server into the cache, where that is not done, and return its folder."""

    @classmethod
    def available(cls) -> str | None:
        """Install the server; None when that worked, else why this machine cannot have it."""
        try:
            cls.install()
        except InstallError as reason:
            return f"{cls.name}: {reason}"
        return None

    @abstractmethod
    def prepare(self, installed: Path) -> Process:
        """Lay out `self.folder` for a start on `self.port`; return the process to start."""

    @abstractmethod
    def ready(self) -> bool:
        """Tell whether the server serves."""

    def reset(self) -> None:
        """Bring back the state after `start`: where the server has no way, by a new start."""
        self._end()
        for path in self.folder.iterdir():
            if path.is_dir():
                shutil.rmtree(path)
            else:
                path.unlink()
        self._launch()

    @property
    def url(self) -> str:
        return f"http://{HOST}:{self.port}"

    @property
    def log(self) -> Path:
        return self.folder / "log"

    def start(self) -> Self:
        self.folder = Path(tempfile.mkdtemp(prefix=f"auterity-{self.name}-"))
        self.port = free_port()
        try:
            self._launch()
        except BaseException:
            self.stop()
            raise
        return self

    def stop(self) -> None:
        self._end()
        shutil.rmtree(self.folder, ignore_errors=True)

    def _launch(self) -> None:
        self._process = self.prepare(self.install())
        self._process.start()
        self._process.wait_until(self.ready, self.seconds_to_start)

    def _end(self) -> None:
        if self._process is not None:
            self._process.stop()
            self._process = None

    def answers(self, path: str) -> bool:
        return answers(f"{self.url}{path}")
