"""`python -m tools.flux`: Flux on a control plane of this machine, the parts that apply.

Those are kustomize-controller and helm-controller. source-controller cannot be built from its
module, for want of one that it requires; whoever starts this plays its part.
"""

from pathlib import Path
from typing import Self

from tools import crds
from tools.controlplane import Controlplane
from tools.golang import Module
from tools.loopback import HOST, answers, free_port
from tools.process import Process, Startable

SOURCE = "github.com/fluxcd"
CONTROLLERS = ("helm-controller", "kustomize-controller")
MODULE = Module(
    "flux",
    {name: f"{SOURCE}/{name}" for name in CONTROLLERS},
    files={
        f"{name}-crds": f"{SOURCE}/{name}//config/crd/bases"
        for name in (*CONTROLLERS, "source-controller")
    },
)
NAMESPACE = "flux-system"


def build() -> Path:
    """Return the folder with the controllers and, beside them, the CRDs of each."""
    return MODULE.build()


class Flux(Startable):
    """`with Flux(controlplane):`."""

    def __init__(self, controlplane: Controlplane) -> None:
        self._controlplane = controlplane
        self._processes: list[Process] = []

    def start(self) -> Self:
        installed = build()
        kubectl = self._controlplane.kubectl
        crds.install(kubectl, sorted(installed.glob("*-crds")))
        kubectl("create", "namespace", NAMESPACE)
        try:
            for name in CONTROLLERS:
                self._launch(name, installed)
        except BaseException:
            self.stop()
            raise
        return self

    def stop(self) -> None:
        for process in self._processes:
            process.stop()
        self._processes = []

    def _launch(self, name: str, installed: Path) -> None:
        folder = self._controlplane.folder / name
        folder.mkdir()
        health = free_port()
        args = [str(installed / name), "--enable-leader-election=false", "--events-addr="]
        args += [f"--metrics-addr={HOST}:{free_port()}", f"--health-addr={HOST}:{health}"]
        # Half a minute by default: what waits for others need not wait that long here.
        args += ["--requeue-dependency=1s"]
        env = {
            "KUBECONFIG": str(self._controlplane.kubeconfig),
            "RUNTIME_NAMESPACE": NAMESPACE,
            "HOME": str(folder),
            "TMPDIR": str(folder),
        }
        process = Process(args, log=folder / "log", env=env, cwd=folder)
        process.start()
        self._processes.append(process)
        process.wait_until(lambda: answers(f"http://{HOST}:{health}/readyz"))


if __name__ == "__main__":
    print(build())
