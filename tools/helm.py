"""`python -m tools.helm`: Helm, built from its pinned module; prints where the program is."""

from pathlib import Path

from tools.golang import Module

_PACKAGE = "helm.sh/helm/v3"
_KUBERNETES = f"{_PACKAGE}/pkg/chartutil"


def build() -> Path:
    """The helm program; the first caller builds it."""
    module = Module("kubernetes", {"helm": f"{_PACKAGE}/cmd/helm"})
    # Without them Helm takes itself for one of Kubernetes 1.20 and refuses newer charts.
    minor = module.pinned("k8s.io/client-go").split(".")[1]
    values = {f"{_KUBERNETES}.k8sVersionMajor": "1", f"{_KUBERNETES}.k8sVersionMinor": minor}
    return module.build(values) / "helm"


if __name__ == "__main__":
    print(build())
