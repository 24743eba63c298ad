"""The operators that are compared, as processes."""

import os
import re
import sys
from abc import ABC, abstractmethod
from typing import ClassVar

from auterity.api import GROUP
from bench.rig import ROOT, YARDSTICK_GROUP, Rig, cpu_seconds, get, resident_kib
from tools import golang
from tools.loopback import free_port
from tools.process import Process


class Operator(ABC):
    """One operator; started and stopped at will, measured from outside."""

    name: str
    group: ClassVar[str]
    helped_at_admission: ClassVar[bool] = False
    """Whether a policy in the API server sets its finalizer."""

    def __init__(self, rig: Rig) -> None:
        self._rig = rig
        self._health, self._metrics = free_port(), free_port()
        self._log = rig.folder / f"operator-{self._health}.log"
        self._process: Process | None = None

    @abstractmethod
    def command(self) -> tuple[list[str], dict[str, str]]:
        """Program and environment."""

    @abstractmethod
    def visits(self) -> int:
        """How often an object was looked at since the start."""

    def start(self) -> None:
        args, env = self.command()
        env = {"KUBECONFIG": str(self._rig.kubeconfig), **env}
        self._process = Process(args, log=self._log, env=env)
        self._process.start()

    def stop(self) -> None:
        """Ask it to stop, and wait."""
        if self._process is not None:
            self._process.stop(seconds=30)
            self._process = None

    @property
    def running(self) -> Process:
        if self._process is None or not self._process.alive:
            raise RuntimeError(f"{self.name} has ended:\n{self._log.read_text()[-2000:]}")
        return self._process

    def wait_until_ready(self) -> None:
        self.running.wait_until(self._ready)

    def cpu_seconds(self) -> float:
        return cpu_seconds(self.running.pid)

    def resident_kib(self) -> int:
        return resident_kib(self.running.pid)

    def _ready(self) -> bool:
        try:
            get(f"http://127.0.0.1:{self._health}/readyz")
        except OSError:
            return False
        return True

    def _sum(self, metric: str, port: int) -> int:
        text = get(f"http://127.0.0.1:{port}/metrics")
        return int(
            sum(float(n) for n in re.findall(rf"^{metric}\{{.*\}} (\S+)$", text, re.MULTILINE))
        )


class Auterity(Operator):
    """This project's operator, with the example provider as another package would bring it."""

    name = "Auterity"
    group = GROUP
    helped_at_admission = True
    workers: ClassVar[int] = 400

    def command(self) -> tuple[list[str], dict[str, str]]:
        package = self._rig.folder / "example-1.dist-info"
        package.mkdir(exist_ok=True)
        (package / "METADATA").write_text("Metadata-Version: 2.1\nName: example\nVersion: 1\n")
        (package / "entry_points.txt").write_text(
            "[auterity.providers]\nexample = tests.example.provider\n"
        )
        args = [sys.executable, "-m", "auterity", "run", "--allow-insecure-endpoints"]
        args += ["--listen", f"127.0.0.1:{self._health}", "--workers", str(self.workers)]
        args += ["--log-format", "json", "--log-level", "warning"]
        # What this Python was told to import from, such as the tools of a profiler, stays there.
        path = [str(self._rig.folder), str(ROOT), os.environ.get("PYTHONPATH", "")]
        return args, {"PYTHONPATH": os.pathsep.join(filter(None, path))}

    def visits(self) -> int:
        return self._sum("auterity_visits_total", self._health)


class Replica(Auterity):
    """With so few visits in hand that the vendor's slowness is the limit, not the machine."""

    workers = 40

    def replicas(self) -> int:
        """How many share the objects, as this one sees it."""
        text = get(f"http://127.0.0.1:{self._health}/metrics")
        found = re.search(r"^auterity_replicas (\S+)$", text, re.MULTILINE)
        return int(float(found[1])) if found else 0


class Yardstick(Operator):
    """The same in Go with controller-runtime."""

    group = YARDSTICK_GROUP
    workers: ClassVar[int]

    def command(self) -> tuple[list[str], dict[str, str]]:
        args = [str(golang.program(ROOT / "bench" / "yardstick"))]
        args += ["-workers", str(self.workers), "-vendor", self._rig.vendor_url]
        args += ["-metrics", f"127.0.0.1:{self._metrics}", "-probes", f"127.0.0.1:{self._health}"]
        return args, {}

    def visits(self) -> int:
        return self._sum("controller_runtime_reconcile_total", self._metrics)


class Yardstick1(Yardstick):
    """With one worker, which is controller-runtime's default."""

    name = "Go, 1 worker"
    workers = 1


class Yardstick50(Yardstick):
    """With fifty."""

    name = "Go, 50 workers"
    workers = 50
