"""Runs what the pods of a Deployment would run, as they would: a process each, with their token."""

import json
import os
import re
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from e2e.api import JSON
from tools.controlplane import Controlplane, KubectlError
from tools.loopback import HOST, answers, free_port, request
from tools.process import Process

ROOT = Path(__file__).parents[1]


@dataclass
class Running:
    """The operator of one pod."""

    pod: str
    args: list[str]
    url: str
    process: Process
    exit_code: int | None = None
    """Once the pod was told to go."""

    @property
    def ready(self) -> bool:
        return self.process.alive and answers(f"{self.url}/readyz")

    def tells(self, line: str) -> bool:
        """Whether a line is among its metrics."""
        return line in request("GET", f"{self.url}/metrics").decode().splitlines()


@dataclass
class Kubelet:
    """Plays the nodes' part that kwok does not: it starts processes for pods, and ends them.

    A process has the args and environment that the pod has, the pod's own ServiceAccount token and
    nothing else; only where to listen is its own, as pods have addresses and processes have not.
    """

    controlplane: Controlplane
    namespace: str
    folder: Path
    running: dict[str, Running] = field(default_factory=dict)
    ended: list[Running] = field(default_factory=list)
    problem: BaseException | None = None
    _stopping: threading.Event = field(default_factory=threading.Event)

    @contextmanager
    def at_work(self) -> Iterator["Kubelet"]:
        # Processes end with the thread that started them, so all are started by this one.
        thread = threading.Thread(target=self._work, daemon=True)
        thread.start()
        try:
            yield self
        finally:
            self._stopping.set()
            thread.join(60)

    def ready(self) -> list[Running]:
        """The operators that are ready."""
        if self.problem is not None:
            raise self.problem
        return [one for one in list(self.running.values()) if one.ready]

    def _work(self) -> None:
        try:
            while not self._stopping.wait(0.3):
                self._look()
        except BaseException as error:  # noqa: BLE001 - told to the test
            self.problem = error
        finally:
            for one in self.running.values():
                one.process.stop()

    def _look(self) -> None:
        told = self.controlplane.kubectl("get", "pods", f"--namespace={self.namespace}", "-o=json")
        there = {pod["metadata"]["name"]: pod for pod in json.loads(told)["items"]}
        for name, pod in there.items():
            going = "deletionTimestamp" in pod["metadata"]
            if name not in self.running and not going and pod["status"].get("phase") == "Running":
                self._start(pod)
        for name in list(self.running):
            if name not in there or "deletionTimestamp" in there[name]["metadata"]:
                self._end(self.running.pop(name))

    def _start(self, pod: JSON) -> None:
        name = pod["metadata"]["name"]
        (container,) = pod["spec"]["containers"]
        environment = {entry["name"]: _value(entry, pod) for entry in container["env"]}
        args = [_expanded(text, environment) for text in container["args"]]
        try:
            access = self._access(pod)
        except KubectlError:
            # It went in the meantime.
            return
        address = f"{HOST}:{free_port()}"
        program = str(Path(sys.executable).with_name("auterity"))
        own = [f"--listen={address}", f"--lease-namespace={self.namespace}"]
        process = Process(
            [program, *args, *own],
            log=self.folder / f"{name}.log",
            env={
                **environment,
                "KUBECONFIG": str(access),
                "PYTHONPATH": str(ROOT / "operator"),
                "PATH": os.environ["PATH"],
            },
        )
        process.start()
        self.running[name] = Running(name, args, f"http://{address}", process)

    def _access(self, pod: JSON) -> Path:
        """A kubeconfig with nothing but a token of the pod, which ends with it."""
        name, account = pod["metadata"]["name"], pod["spec"]["serviceAccountName"]
        token = self.controlplane.kubectl(
            *("create", "token", account, f"--namespace={self.namespace}"),
            *("--bound-object-kind=Pod", f"--bound-object-name={name}"),
            f"--bound-object-uid={pod['metadata']['uid']}",
        ).strip()
        config = json.loads(self.controlplane.kubeconfig.read_text())
        config["users"][0]["user"] = {"token": token}
        path = self.folder / f"{name}.kubeconfig"
        path.touch(mode=0o600)
        path.write_text(json.dumps(config))
        return path

    def _end(self, one: Running) -> None:
        """SIGTERM, as a kubelet does when a pod is to go."""
        popen = one.process._popen
        assert popen is not None
        popen.terminate()
        one.process.ended_within(40)
        one.exit_code = popen.poll()
        one.process.stop()
        self.ended.append(one)


def _value(entry: JSON, pod: JSON) -> str:
    if "value" in entry:
        return str(entry["value"])
    assert entry["valueFrom"]["fieldRef"]["fieldPath"] == "metadata.name"
    return str(pod["metadata"]["name"])


def _expanded(text: str, environment: dict[str, str]) -> str:
    """As Kubernetes puts $(VARIABLES) into args."""
    return re.sub(r"\$\((\w+)\)", lambda found: environment[found[1]], text)
