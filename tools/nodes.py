"""`python -m tools.nodes`: nodes without machines, on which pods count as running.

kwok plays the kubelets: a node is ready, and a pod that the scheduler gives to it is Running and
Ready as soon as the API server knows of it, though no process is started.
"""

from pathlib import Path
from typing import Self

import yaml

from tools.controlplane import Controlplane
from tools.controlplane.binaries import SCHEDULER, link_values
from tools.golang import Module
from tools.loopback import HOST, free_port
from tools.process import Process, Startable

STAGES = Path(__file__).with_name("stages.yaml")
KWOK = Module("kubernetes", {"kwok": "sigs.k8s.io/kwok/cmd/kwok"})


def build() -> tuple[Path, Path]:
    """Return kwok and kube-scheduler; the first caller builds them, which takes minutes."""
    return KWOK.build() / "kwok", SCHEDULER.build(link_values()) / "kube-scheduler"


class Nodes(Startable):
    """Nodes of an embedded control plane, and a real scheduler; `with Nodes(controlplane, 2):`."""

    def __init__(self, controlplane: Controlplane, count: int = 2) -> None:
        self._controlplane = controlplane
        self._names = [f"node-{number}" for number in range(1, count + 1)]
        self._processes: list[Process] = []

    def start(self) -> Self:
        kwok, scheduler = build()
        folder, access = self._controlplane.folder, f"--kubeconfig={self._controlplane.kubeconfig}"
        kubelets = [
            *(str(kwok), access, "--manage-all-nodes=true", f"--node-ip={HOST}"),
            *(f"--server-address={HOST}:{free_port()}", f"--config={STAGES}"),
        ]
        placing = [str(scheduler), access, "--leader-elect=false", "--secure-port=0"]
        self._processes = [
            Process(kubelets, log=folder / "kwok.log"),
            Process(placing, log=folder / "kube-scheduler.log"),
        ]
        try:
            for process in self._processes:
                process.start()
            made = yaml.safe_dump_all(map(_node, self._names))
            self._controlplane.kubectl("apply", "--server-side", "-f", "-", input=made)
            self._processes[0].wait_until(self._ready)
            # Set on every new node by the API server; the controller that takes it off is not run.
            taint = "node.kubernetes.io/not-ready:NoSchedule-"
            self._controlplane.kubectl("taint", "nodes", *self._names, taint)
        except BaseException:
            self.stop()
            raise
        return self

    def stop(self) -> None:
        for process in self._processes:
            process.stop()
        self._processes = []

    def _ready(self) -> bool:
        status = '{.items[*].status.conditions[?(@.type=="Ready")].status}'
        told = self._controlplane.kubectl("get", "nodes", "-o", f"jsonpath={status}")
        return told.split() == ["True"] * len(self._names)


def _node(name: str) -> dict[str, object]:
    labels = {"kubernetes.io/hostname": name, "kubernetes.io/os": "linux"}
    return {"apiVersion": "v1", "kind": "Node", "metadata": {"name": name, "labels": labels}}


if __name__ == "__main__":
    print(*build(), sep="\n")
