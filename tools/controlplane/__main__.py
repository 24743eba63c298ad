"""`python -m tools.controlplane build|start|kubeconfig`."""

import signal
import sys
from pathlib import Path

import cyclopts

from tools import cache
from tools.controlplane import Controlplane, build

app = cyclopts.App(name="python -m tools.controlplane", help="A Kubernetes API on this machine.")


def default_folder() -> Path:
    """One place for a control plane that people start by hand."""
    return cache.root() / "controlplane"


@app.command(name="build")
def build_() -> None:
    """Build the programs, where that is not done, and print their folder."""
    print(build())


@app.command
def start(*, folder: Path | None = None, keep_data: bool = False) -> None:
    """Run a control plane until Ctrl-C.

    Parameters
    ----------
    folder
        Where its data, logs and kubeconfig are.
    keep_data
        Leave them there, for the next start.
    """
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    with Controlplane(folder or default_folder(), keep_data=keep_data) as controlplane:
        print(f"export KUBECONFIG={controlplane.kubeconfig}", flush=True)
        try:
            controlplane.wait()
        except KeyboardInterrupt:
            return
    sys.exit("a process of the control plane ended; start with --keep-data to see its log")


@app.command
def kubeconfig(*, folder: Path | None = None) -> None:
    """Print the path of the kubeconfig of the control plane that was started there."""
    path = (folder or default_folder()) / "kubeconfig"
    if not path.exists():
        sys.exit(f"no control plane in {path.parent}: start one first")
    print(path)


app()
