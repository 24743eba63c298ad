"""Milvus Lite, the engine of one process, behind Milvus' REST interface."""

from pathlib import Path

from typing_extensions import override

from tools import environments
from tools.process import Process
from tools.servers.server import Server

ROOT = Path(__file__).parents[2]


class Milvus(Server):
    """Its API is under `url`; it asks nobody for credentials."""

    name = "milvus"

    @classmethod
    @override
    def install(cls) -> Path:
        return environments.install("milvus")

    @override
    def prepare(self, installed: Path) -> Process:
        args = [str(installed / "bin" / "python"), "-m", "tools.servers.milvus_rest"]
        args += [str(self.folder / "data"), str(self.port)]
        return Process(args, log=self.log, cwd=self.folder, env={"PYTHONPATH": str(ROOT)})

    @override
    def ready(self) -> bool:
        return self.answers("/healthz")
