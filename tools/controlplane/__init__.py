"""A real Kubernetes API on any machine, without containers."""

from tools.controlplane.binaries import build
from tools.controlplane.choice import Source, choose
from tools.controlplane.kubectl import Kubectl, KubectlError
from tools.controlplane.server import Controlplane

__all__ = ["Controlplane", "Kubectl", "KubectlError", "Source", "build", "choose"]
