"""The cluster that the end-to-end tests run on."""

import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
from pytest_kubernetes.options import ClusterOptions
from pytest_kubernetes.providers.base import AClusterManager

from tools.controlplane import Controlplane, Kubectl, Source, build, choose

KIND_CONFIG = """\
kind: Cluster
apiVersion: kind.x-k8s.io/v1alpha4
name: auterity-e2e
"""


@dataclass(frozen=True)
class Cluster:
    """A Kubernetes API with the rights of an administrator."""

    source: Source
    kubeconfig: Path
    kubectl: Kubectl
    controlplane: Controlplane | None = None
    """Where it is embedded: what can restart its API server."""


def pytest_report_header(config: pytest.Config) -> str:
    return f"cluster: {_source(config)}"


@pytest.fixture(scope="session")
def cluster(
    request: pytest.FixtureRequest,
    k8s_manager: Callable[[str], type[AClusterManager]],
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Cluster]:
    """The cluster named by --k8s-kubeconfig or $KUBECONFIG, else kind, else an embedded one."""
    source = _source(request.config)
    match source:
        case Source.EXTERNAL:
            path = request.config.getoption("k8s_kubeconfig") or os.environ["KUBECONFIG"]
            yield Cluster(source, Path(path), Kubectl(_kubectl(), Path(path)))
        case Source.KIND:
            with _kind(k8s_manager("kind"), tmp_path_factory.mktemp("kind")) as kubeconfig:
                yield Cluster(source, kubeconfig, Kubectl(_kubectl(), kubeconfig))
        case Source.EMBEDDED:
            with Controlplane() as controlplane:
                kubectl = controlplane.kubectl
                yield Cluster(source, controlplane.kubeconfig, kubectl, controlplane)


def _source(config: pytest.Config) -> Source:
    return Source.EXTERNAL if config.getoption("k8s_kubeconfig") else choose()


@contextmanager
def _kind(manager_class: type[AClusterManager], folder: Path) -> Iterator[Path]:
    # With a configuration file kind takes the node image of its own release; without one
    # pytest-kubernetes asks for Kubernetes 1.25.
    config = folder / "kind.yaml"
    config.write_text(KIND_CONFIG)
    kubeconfig = folder / "kubeconfig"
    # pytest-kubernetes finds kubectl on the path alone.
    os.environ["PATH"] = f"{os.environ['PATH']}{os.pathsep}{_kubectl().parent}"
    manager = manager_class()
    options = ClusterOptions(
        provider_config=config, kubeconfig_path=kubeconfig, cluster_timeout=600
    )
    try:
        manager.create(options, timeout=120)
        yield kubeconfig
    finally:
        manager.delete()


def _kubectl() -> Path:
    found = shutil.which("kubectl")
    return Path(found) if found else build() / "kubectl"
