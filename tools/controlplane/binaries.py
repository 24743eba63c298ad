"""The programs of a control plane, from their own Go modules."""

from pathlib import Path

from tools.golang import Module

PROGRAMS = Module(
    "kubernetes",
    {
        "etcd": "go.etcd.io/etcd/server/v3",
        "kube-apiserver": "k8s.io/kubernetes/cmd/kube-apiserver",
        "kube-controller-manager": "k8s.io/kubernetes/cmd/kube-controller-manager",
        "kubectl": "k8s.io/kubernetes/cmd/kubectl",
    },
)
SCHEDULER = Module("kubernetes", {"kube-scheduler": "k8s.io/kubernetes/cmd/kube-scheduler"})
"""Apart from the rest: only what has nodes needs it."""


def build() -> Path:
    """Return the folder with etcd, kube-apiserver, kube-controller-manager and kubectl.

    The first call on a machine builds them, which takes minutes.
    """
    return PROGRAMS.build(link_values())


def link_values() -> dict[str, str]:
    """What tells a program its version; clients refuse a server of v0.0.0, as it would be."""
    version = kubernetes_version()
    major, minor, _ = version.split(".", 2)
    values = {"gitVersion": f"v{version}", "gitMajor": major, "gitMinor": minor}
    return {f"k8s.io/component-base/version.{key}": value for key, value in values.items()}


def kubernetes_version() -> str:
    """The Kubernetes version that is pinned, such as `1.36.3`."""
    return PROGRAMS.pinned("k8s.io/kubernetes")
