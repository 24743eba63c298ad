"""Mailpit: SMTP that keeps what it gets, to be read over HTTP."""

from pathlib import Path

from typing_extensions import override

from tools.golang import Module
from tools.loopback import HOST, free_port, request
from tools.process import Process
from tools.servers.server import Server


class Mailpit(Server):
    """Mail goes to `smtp_port` and is read under `url`."""

    name = "mailpit"
    smtp_port: int

    @classmethod
    @override
    def install(cls) -> Path:
        return Module("mailpit", {"mailpit": "github.com/axllent/mailpit"}).build()

    @override
    def prepare(self, installed: Path) -> Process:
        self.smtp_port = free_port()
        args = [
            str(installed / "mailpit"),
            f"--listen={HOST}:{self.port}",
            f"--smtp={HOST}:{self.smtp_port}",
            "--smtp-disable-rdns",
            "--disable-version-check",
        ]
        return Process(args, log=self.log, cwd=self.folder)

    @override
    def ready(self) -> bool:
        return self.answers("/readyz")

    @override
    def reset(self) -> None:
        request("DELETE", f"{self.url}/api/v1/messages", b"{}")
