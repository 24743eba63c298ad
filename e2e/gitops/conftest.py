"""GitOps tools end to end: a control plane of its own for each, a forge, vendors, the operator."""

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from e2e.conftest import SYSTEM, Cluster, Installation
from e2e.gitops import repository
from e2e.gitops.objects import Objects
from e2e.gitops.repository import Repository
from e2e.operator_process import installed_package
from e2e.vendors import Account, Vendors
from tools.controlplane import Controlplane, Source
from tools.generate import ROOT
from tools.nodes import Nodes
from tools.servers.gitea import Gitea

DOCS = ROOT / "docs/gitops"
EXAMPLE = "https://git.example.com/platform.git"
"""The repository that the documentation's manifests name."""


def documented(name: str, url: str) -> list[dict[str, Any]]:
    """The manifests of a file of the documentation, for a repository."""
    text = (DOCS / name).read_text()
    if name != "flux-helmrelease.yaml":
        assert EXAMPLE in text
    return list(yaml.safe_load_all(text.replace(EXAMPLE, url)))


@pytest.fixture(scope="module")
def controlplane() -> Iterator[Controlplane]:
    with Controlplane() as found, Nodes(found, 1):
        yield found


@pytest.fixture(scope="module")
def objects(controlplane: Controlplane) -> Objects:
    return Objects(controlplane.kubectl)


@pytest.fixture(scope="module")
def vendors(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Vendors]:
    found = Vendors(tmp_path_factory.mktemp("vendors"))
    found.start()
    yield found
    found.stop()


@pytest.fixture(scope="module")
def account(vendors: Vendors) -> Account:
    return vendors.open()


@pytest.fixture(scope="module")
def repo(account: Account, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Repository]:
    """On a forge: the chart, a team's connection, and one index that uses it."""
    with Gitea() as forge:
        found = Repository(forge, tmp_path_factory.mktemp("platform"))
        found.add_chart()
        found.copy(DOCS / "flux-helmrelease.yaml", "operator/helmrelease.yaml")
        found.write(f"{repository.CONNECTIONS}/namespace.yaml", repository.namespace())
        found.write(
            f"{repository.CONNECTIONS}/vendor.yaml",
            repository.secret(account.token),
            repository.connection(account),
        )
        found.write(f"{repository.INTEGRATIONS}/articles.yaml", repository.index("articles"))
        found.push("Begin")
        yield found


@pytest.fixture(scope="module")
def operator(
    controlplane: Controlplane, objects: Objects, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[None]:
    """The operator: starts as soon as the tool has installed the chart's ServiceAccount.

    The chart's own pods are placed and called Running, but no kubelet starts what is in them.
    """
    cluster = Cluster(Source.EMBEDDED, controlplane.kubeconfig, controlplane.kubectl, controlplane)
    folder: Path = tmp_path_factory.mktemp("operator")
    packages = installed_package(tmp_path_factory.mktemp("packages"))
    installation = Installation(cluster, folder, packages, network=None)
    ended = threading.Event()

    def start() -> None:
        while not ended.wait(0.5):
            if objects.find("clusterrolebinding", "", "auterity") is None:
                continue
            if objects.find("serviceaccount", SYSTEM, "auterity") is None:
                continue
            it = installation.operator("operator", "auterity")
            it.start()
            # A process dies with the thread that has started it.
            ended.wait()
            it.stop()
            return

    thread = threading.Thread(target=start)
    thread.start()
    yield
    ended.set()
    thread.join(60)
