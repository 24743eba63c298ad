"""The programs of a control plane, from their own Go modules."""

from pathlib import Path

from tools.golang import Module

PROGRAMS = Module(
    "controlplane",
    {
        "etcd": "go.etcd.io/etcd/server/v3",
        "kube-apiserver": "k8s.io/kubernetes/cmd/kube-apiserver",
        "kube-controller-manager": "k8s.io/kubernetes/cmd/kube-controller-manager",
        "kubectl": "k8s.io/kubernetes/cmd/kubectl",
    },
)


def build() -> Path:
    """Return the folder with etcd, kube-apiserver, kube-controller-manager and kubectl.

    The first call on a machine builds them, which takes minutes.
    """
    version = kubernetes_version()
    major, minor, _ = version.split(".", 2)
    # Without these a build calls itself v0.0.0, and clients refuse such a server.
    values = {"gitVersion": f"v{version}", "gitMajor": major, "gitMinor": minor}
    return PROGRAMS.build({f"k8s.io/component-base/version.{k}": v for k, v in values.items()})


def kubernetes_version() -> str:
    """The Kubernetes version that is pinned, such as `1.36.3`."""
    return PROGRAMS.pinned("k8s.io/kubernetes")
