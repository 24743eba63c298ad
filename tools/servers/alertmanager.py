"""Prometheus' Alertmanager."""

from pathlib import Path

from typing_extensions import override

from tools.golang import Module
from tools.loopback import HOST, request
from tools.process import Process
from tools.servers.server import Server

SOURCE = "github.com/prometheus/alertmanager"
SWALLOW_ALL = """\
route: {receiver: nobody}
receivers: [{name: nobody}]
"""


class Alertmanager(Server):
    """`config_file` may be written at any time; `reload` makes it count."""

    name = "alertmanager"

    def __init__(self, config: str = SWALLOW_ALL) -> None:
        super().__init__()
        self._config = config

    @property
    def config_file(self) -> Path:
        return self.folder / "alertmanager.yml"

    @classmethod
    @override
    def install(cls) -> Path:
        module = Module("alertmanager", {"alertmanager": f"{SOURCE}/cmd/alertmanager"})
        version = module.pinned(SOURCE)
        return module.build({"github.com/prometheus/common/version.Version": version})

    @override
    def prepare(self, installed: Path) -> Process:
        self.config_file.write_text(self._config)
        args = [
            str(installed / "alertmanager"),
            f"--config.file={self.config_file}",
            f"--storage.path={self.folder / 'data'}",
            f"--web.listen-address={HOST}:{self.port}",
            # Empty: alone, so no gossip port.
            "--cluster.listen-address=",
        ]
        return Process(args, log=self.log, cwd=self.folder)

    @override
    def ready(self) -> bool:
        return self.answers("/-/ready")

    def reload(self) -> None:
        """Take over the configuration file; a bad one is an OSError."""
        request("POST", f"{self.url}/-/reload")
