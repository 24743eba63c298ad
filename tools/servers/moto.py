"""moto: AWS in memory, with signatures and IAM enforced when asked to."""

from pathlib import Path

from typing_extensions import override

from tools import environments
from tools.loopback import HOST, request
from tools.process import Process
from tools.servers.server import Server


class Moto(Server):
    """The endpoint for every AWS service is `url`; any credentials do until `enforce_iam`."""

    name = "moto"

    @classmethod
    @override
    def install(cls) -> Path:
        return environments.install("moto")

    @override
    def prepare(self, installed: Path) -> Process:
        args = [str(installed / "bin" / "moto_server"), "-H", HOST, "-p", str(self.port)]
        return Process(args, log=self.log, cwd=self.folder)

    @override
    def ready(self) -> bool:
        return self.answers("/moto-api/data.json")

    @override
    def reset(self) -> None:
        self._accept_unsigned_calls("inf")
        request("POST", f"{self.url}/moto-api/reset")

    def enforce_iam(self) -> None:
        """From now on refuse unknown keys, wrong signatures and what no policy allows."""
        self._accept_unsigned_calls("0")

    def _accept_unsigned_calls(self, count: str) -> None:
        request("POST", f"{self.url}/moto-api/reset-auth", count.encode())
