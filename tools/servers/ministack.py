"""ministack: AWS in memory, for the services that moto lacks (Bedrock, running Lambda code)."""

from pathlib import Path

from typing_extensions import override

from tools import environments
from tools.loopback import HOST, request
from tools.process import Process
from tools.servers.server import Server


class Ministack(Server):
    """The endpoint for every AWS service is `url`; any credentials do."""

    name = "ministack"

    @classmethod
    @override
    def install(cls) -> Path:
        return environments.install("ministack")

    @override
    def prepare(self, installed: Path) -> Process:
        # Without BIND_HOST it listens on every interface.
        env = {"BIND_HOST": HOST, "GATEWAY_PORT": str(self.port)}
        args = [str(installed / "bin" / "ministack")]
        return Process(args, log=self.log, cwd=self.folder, env=env)

    @override
    def ready(self) -> bool:
        return self.answers("/_ministack/health")

    @override
    def reset(self) -> None:
        request("POST", f"{self.url}/_ministack/reset")
