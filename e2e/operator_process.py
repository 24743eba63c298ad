"""The operator as a process: `auterity run`, with the rights that the chart grants."""

import json
import os
import signal
import sys
from pathlib import Path
from typing import Any

from prometheus_client.parser import text_string_to_metric_families

from e2e.forked import Forge, ForkedProcess
from tools.loopback import HOST, answers, free_port, request

ROOT = Path(__file__).parents[1]
PROVIDERS = """\
[auterity.providers]
example = tests.example.provider
numbered = e2e.numbered
fleet = e2e.fleet
"""


def installed_package(folder: Path) -> Path:
    """A folder for PYTHONPATH in which a package brings providers, as a third party's would."""
    package = folder / "example-1.dist-info"
    package.mkdir()
    (package / "METADATA").write_text("Metadata-Version: 2.1\nName: example\nVersion: 1\n")
    (package / "entry_points.txt").write_text(PROVIDERS)
    return folder


def python_path(packages: Path) -> str:
    """Where our sources and those packages are."""
    return f"{ROOT / 'operator'}:{packages}:{ROOT}"


class OperatorProcess:
    """Started, killed and started again on the same address, with one log."""

    def __init__(
        self,
        kubeconfig: Path,
        packages: Path,
        log: Path,
        lease_namespace: str,
        *args: str,
        forge: Forge | None = None,
    ) -> None:
        """`forge` has it forked, None starts it as users do."""
        self.log = log
        self.killed = False
        """Whether it died with its Lease."""
        port = free_port()
        self.url = f"http://{HOST}:{port}"
        # Its own name at every start, so that it need not wait for the Lease of the last.
        self.name = f"replica-{port}"
        command = [
            *(str(Path(sys.executable).with_name("auterity")), "run", *args),
            f"--listen={self.url.removeprefix('http://')}",
            f"--replica-name={self.name}",
            f"--lease-namespace={lease_namespace}",
            f"--prices={ROOT / 'e2e' / 'prices.yaml'}",
            "--allow-insecure-endpoints",
            "--log-format=json",
        ]
        env = {
            "KUBECONFIG": str(kubeconfig),
            "PYTHONPATH": python_path(packages),
            "PYTHONUNBUFFERED": "1",
            "REPLICA": self.name,
        }
        self._process = ForkedProcess(command, log, env, forge=forge)

    @property
    def alive(self) -> bool:
        return self._process.alive

    def start(self) -> None:
        """Start, and do not wait."""
        self.killed = False
        self._process.start()

    def wait_until_ready(self) -> None:
        self._process.wait_until(lambda: answers(f"{self.url}/readyz"), 60)

    def kill(self) -> None:
        """SIGKILL: no time to finish anything."""
        if self.alive:
            self.killed = True
            os.kill(self._process.pid, signal.SIGKILL)
        self._process.stop()

    def pause(self) -> None:
        """SIGSTOP: the process is there, and does nothing."""
        os.kill(self._process.pid, signal.SIGSTOP)

    def resume(self) -> None:
        os.kill(self._process.pid, signal.SIGCONT)

    def lines(self, logger: str) -> list[dict[str, Any]]:
        """What a logger has told so far."""
        found = []
        for line in self.log.read_text(errors="replace").splitlines():
            try:
                told = json.loads(line)
            except ValueError:
                continue
            if told.get("logger") == logger:
                found.append(told)
        return found

    def terminate(self) -> None:
        """SIGTERM, and do not wait."""
        os.kill(self._process.pid, signal.SIGTERM)

    def stop(self) -> int:
        """SIGTERM; the exit code. Fails if it does not end."""
        popen = self._process._popen
        assert popen is not None, "the operator was not started"
        self.terminate()
        ended = self._process.ended_within(40)
        code = popen.returncode
        self._process.stop()
        assert ended, f"the operator did not end on SIGTERM: {self._process.tail()}"
        return code

    def metrics_text(self) -> str:
        return request("GET", f"{self.url}/metrics").decode()

    def metric(self, name: str, **labels: str) -> float:
        """The sum of a metric's samples that have these labels."""
        return sum(
            sample.value
            for family in text_string_to_metric_families(self.metrics_text())
            for sample in family.samples
            if sample.name == name and labels.items() <= sample.labels.items()
        )

    def writes(self) -> float:
        """Writes that objects cost; the heartbeat of the replica's Lease is there without any."""
        # Of one moment: a heartbeat between two looks would count.
        return sum(
            sample.value
            for family in text_string_to_metric_families(self.metrics_text())
            for sample in family.samples
            if sample.name == "auterity_api_writes_total" and sample.labels["resource"] != "leases"
        )

    def metric_or_none(self, name: str, **labels: str) -> float | None:
        """The same of one that may not answer yet."""
        try:
            return self.metric(name, **labels)
        except OSError:
            return None

    @property
    def resident_mib(self) -> float:
        status = Path(f"/proc/{self._process.pid}/status").read_text()
        line = next(line for line in status.splitlines() if line.startswith("VmRSS:"))
        return int(line.split()[1]) / 1024
