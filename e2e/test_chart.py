"""The life of an installation: a real Helm, a real control plane, and the chart's rights alone."""

import os
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import yaml

from e2e.api import JSON, Api, Witness
from e2e.database import Database
from e2e.kubelet import Kubelet, Running
from e2e.team import PATIENCE, Team
from tools import cache, helm, nodes
from tools.controlplane import Controlplane, Kubectl
from tools.controlplane import build as build_controlplane
from tools.generate import ROOT
from tools.nodes import Nodes

NAMESPACE = "auterity-system"
RELEASE = "auterity"
WITHIN = "--timeout=180s"
# The first run on a machine builds kwok and the scheduler.
pytestmark = pytest.mark.timeout(1800)


@dataclass(frozen=True)
class Helm:
    """Helm as its user calls it, with folders of its own."""

    program: Path
    kubeconfig: Path
    folder: Path

    def __call__(self, *args: str) -> str:
        homes = {
            f"HELM_{name}_HOME": str(self.folder / name) for name in ("CACHE", "CONFIG", "DATA")
        }
        done = subprocess.run(
            [self.program, *args, f"--namespace={NAMESPACE}", f"--kubeconfig={self.kubeconfig}"],
            capture_output=True,
            text=True,
            timeout=240,
            check=False,
            env={**os.environ, **homes},
        )
        if done.returncode != 0:
            raise ValueError(done.stderr)
        return done.stdout

    def install(self, name: str = RELEASE, **values: str) -> str:
        # The database of the test has no certificate.
        insecure = "--set=extraArgs={--allow-insecure-endpoints}"
        return self._apply("install", name, "--create-namespace", insecure, **values)

    def upgrade(self, **values: str) -> str:
        return self._apply("upgrade", RELEASE, "--reset-then-reuse-values", **values)

    def _apply(self, verb: str, name: str, *args: str, **values: str) -> str:
        chart, wait = str(ROOT / "charts/auterity"), ("--wait", WITHIN)
        return self(verb, name, chart, *wait, *args, *(f"--set={k}={v}" for k, v in values.items()))


@pytest.fixture(scope="module")
def controlplane() -> Iterator[Controlplane]:
    """One of its own: the chart brings the CRDs, and whole installations come and go."""
    try:
        build_controlplane()
        nodes.build()
        helm.build()
    except cache.InstallError as reason:
        pytest.skip(f"no nodes on this machine: {reason}")
    with Controlplane() as running, Nodes(running, 2):
        yield running


@pytest.fixture(scope="module")
def install(controlplane: Controlplane, tmp_path_factory: pytest.TempPathFactory) -> Helm:
    return Helm(helm.build(), controlplane.kubeconfig, tmp_path_factory.mktemp("helm"))


@pytest.fixture(scope="module")
def kubelet(
    controlplane: Controlplane, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Kubelet]:
    found = Kubelet(controlplane, NAMESPACE, tmp_path_factory.mktemp("pods"))
    with found.at_work():
        yield found


@pytest.fixture(scope="module")
def api(controlplane: Controlplane, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Api]:
    found = Api(controlplane.kubectl, tmp_path_factory.mktemp("api"))
    found.start()
    yield found
    found.stop()


@pytest.fixture(scope="module")
def database() -> Iterator[Database]:
    found = Database()
    found.start()
    yield found
    found.stop()


@pytest.fixture
def team(api: Api) -> Team:
    api.create("namespaces", "", {"metadata": {"name": "search"}})
    # Nobody listens to this witness: what was told is not looked at.
    return Team(api, Witness(api.url), "search")


def together(
    kubelet: Kubelet, *, with_arg: str = "", seconds: float = 2 * PATIENCE
) -> tuple[Running, Running]:
    """Wait until two operators, started with an argument, are ready and agree."""
    deadline = time.monotonic() + seconds
    while True:
        found = kubelet.ready()
        if len(found) == 2 and all(
            (not with_arg or with_arg in one.args) and one.tells("auterity_replicas 2.0")
            for one in found
        ):
            return found[0], found[1]
        if time.monotonic() > deadline:
            logs = {one.pod: one.process.tail() for one in kubelet.running.values()}
            raise AssertionError(f"no two operators after {seconds} s: {logs}")
        time.sleep(0.2)


def until(true: Callable[[], object], seconds: float = PATIENCE) -> None:
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline, f"not after {seconds} s"
        time.sleep(0.2)


@dataclass
class Scene:
    """An installation, and a team whose one index is kept by it."""

    install: Helm
    kubelet: Kubelet
    kubectl: Kubectl
    database: Database
    team: Team
    replicas: tuple[Running, Running] | None = None
    made: JSON = field(default_factory=dict)

    def declare(self, m: int) -> None:
        """Have the index with this `m`, made or changed, and see it at PostgreSQL."""
        if self.made:
            self.team.edit("docs", pgvector={"hnsw": {"m": m}})
        else:
            self.team.connect_by(self.database.block(), self.database.token)
            spec = {"connectionRef": {"name": "vendor"}, "dimension": 8}
            self.made = self.team.create("docs", {**spec, "pgvector": {"hnsw": {"m": m}}})
        self.team.until_ready("docs")
        self.is_at_the_vendor(m)

    def is_at_the_vendor(self, m: int) -> None:
        assert list(self.database.holds().values()) == [m], "not once, or not as declared"

    def installed(self) -> None:
        notes = self.install.install(logLevel="info", replicaCount="2")
        assert "rollout status deployment/auterity" in notes
        where = "-o=jsonpath={.items[*].spec.nodeName}"
        placed = self.kubectl("get", "pods", f"--namespace={NAMESPACE}", where)
        assert sorted(placed.split()) == ["node-1", "node-2"], "not spread over the nodes"
        self.replicas = together(self.kubelet, with_arg="--log-level=info")
        self.declare(16)

    def upgraded(self) -> None:
        self.install.upgrade(logLevel="debug", **{"resources.requests.cpu": "50m"})
        self._replaced("--log-level=debug")
        self.declare(24)

    def rolled_back(self) -> None:
        self.install("rollback", RELEASE, "1", "--wait", WITHIN)
        self._replaced("--log-level=info")
        self.declare(16)

    def _replaced(self, with_arg: str) -> None:
        before, self.replicas = self.replicas, together(self.kubelet, with_arg=with_arg)
        assert before is not None
        assert {one.pod for one in before}.isdisjoint(one.pod for one in self.replicas)
        assert {one.exit_code for one in self.kubelet.ended} == {0}

    def uninstalled(self) -> None:
        self.install("uninstall", RELEASE, "--wait", WITHIN)
        until(lambda: not self.kubelet.running)
        assert {one.exit_code for one in self.kubelet.ended} == {0}
        left = self.team.find("docs")
        assert left is not None
        assert left["metadata"]["uid"] == self.made["metadata"]["uid"]
        self.is_at_the_vendor(16)
        kinds = "deployments,pods,services,serviceaccounts,roles,rolebindings,configmaps"
        everyone_has = {"serviceaccount/default", "configmap/kube-root-ca.crt"}

        def left_in_namespace() -> set[str]:
            told = self.kubectl("get", kinds, f"--namespace={NAMESPACE}", "-o=name")
            return set(told.split()) - everyone_has

        # Helm does not wait for pods, and they take a moment to end.
        until(lambda: not left_in_namespace())
        assert "auterity" not in self.kubectl("get", "clusterroles,clusterrolebindings", "-o=name")

    def installed_again(self) -> None:
        """What was edited in between is carried out, at the same thing."""
        with pytest.raises(ValueError, match="invalid ownership metadata"):
            self.install.install("another")
        before = self.team.edit("docs", pgvector={"hnsw": {"m": 32}})
        self.install.install(finalizerAtAdmission="true")
        self.replicas = together(self.kubelet)
        after = self.team.until_ready("docs")
        assert after["metadata"]["uid"] == before["metadata"]["uid"]
        assert after["status"]["id"] == before["status"]["id"]
        self.is_at_the_vendor(32)

    def cleaned_up(self) -> None:
        """What is declared goes first, then the operator, then the CRDs."""
        self.team.edit("docs", deletionPolicy="Delete")
        self.team.until_ready("docs")
        self.team.delete("docs")
        self.team.until_gone("docs")
        assert self.database.holds() == {}
        self.team.delete("vendor", "Connection")
        self.team.until_gone("vendor", "Connection")
        self.install.upgrade(**{"crds.keep": "false"})
        self.install("uninstall", RELEASE, "--wait", WITHIN)
        until(lambda: "auterity" not in self.kubectl("get", "crds", "-o=name"))


def test_an_installation_lives_rolls_goes_and_comes_back(
    install: Helm,
    kubelet: Kubelet,
    controlplane: Controlplane,
    database: Database,
    team: Team,
    figure,
):
    scene = Scene(install, kubelet, controlplane.kubectl, database, team)
    begun = time.monotonic()

    def took(what: str) -> None:
        nonlocal begun
        now = time.monotonic()
        figure(f"{what}: {now - begun:.1f} s")
        begun = now

    scene.installed()
    took("helm install --wait, two replicas ready, an index made at PostgreSQL")
    scene.upgraded()
    took("helm upgrade --wait, all replaced, an edit carried out")
    scene.rolled_back()
    took("helm rollback --wait, all replaced, an edit carried out")
    with pytest.raises(ValueError, match="already holds release auterity"):
        install.install("another", **{"crds.enabled": "false"})
    scene.uninstalled()
    took("helm uninstall --wait, nothing lost")
    scene.installed_again()
    took("helm install --wait again, everything taken over")
    scene.cleaned_up()
    took("everything deleted, CRDs included")


def test_the_chart_as_it_is_packed_renders_the_same(install: Helm, tmp_path: Path):
    told = install("package", str(ROOT / "charts/auterity"), f"--destination={tmp_path}")
    (packed,) = tmp_path.glob("*.tgz")
    assert str(packed) in told
    from_folder = install("template", "ours", str(ROOT / "charts/auterity"))
    from_package = install("template", "ours", str(packed))
    assert list(yaml.safe_load_all(from_package)) == list(yaml.safe_load_all(from_folder))
