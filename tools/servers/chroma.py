"""Chroma: one node of the vector database."""

from pathlib import Path

from typing_extensions import override

from tools import environments
from tools.loopback import HOST
from tools.process import Process
from tools.servers.server import Server


class Chroma(Server):
    """Its API is under `url`; it asks nobody for credentials."""

    name = "chroma"

    @classmethod
    @override
    def install(cls) -> Path:
        return environments.install("chroma")

    @override
    def prepare(self, installed: Path) -> Process:
        args = [str(installed / "bin" / "chroma"), "run", "--host", HOST]
        args += ["--port", str(self.port), "--path", str(self.folder / "data")]
        return Process(args, log=self.log, cwd=self.folder)

    @override
    def ready(self) -> bool:
        return self.answers("/api/v2/heartbeat")
