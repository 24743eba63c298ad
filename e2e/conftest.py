"""The end-to-end tests: a real Kubernetes API, the operator and its vendors as processes.

They wait more than they work: `-n 3 --dist each` has three workers, each with a cluster and an
operator of its own, share the files.
"""

import itertools
import json
import os
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

import pytest
import yaml
from pytest_kubernetes.options import ClusterOptions
from pytest_kubernetes.providers.base import AClusterManager

from auterity.providers.catalogue import Catalogue, catalogue
from e2e.api import Api, Witness
from e2e.fleet import FleetDeployment, SoloDeployment
from e2e.forked import Forge
from e2e.network import Network
from e2e.numbered import NumberedIndex
from e2e.operator_process import OperatorProcess, installed_package, python_path
from e2e.person import Person
from e2e.replicas import Start
from e2e.team import Team
from e2e.vendors import Vendors
from tests.example.provider import ExampleIndex
from tools import helm
from tools.controlplane import Controlplane, Kubectl, Source, build, choose
from tools.generate import ROOT, definitions, files
from tools.loopback import HOST

KIND_CONFIG = """\
kind: Cluster
apiVersion: kind.x-k8s.io/v1alpha4
name: auterity-e2e
"""


LONGEST = 300
"""Seconds that a test may take which asks for no more by itself."""
SYSTEM = "auterity-system"
"""Where the chart is installed."""


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


@dataclass
class Installation:
    """CRDs with our stand-ins' vendor blocks, and the chart's rights for its ServiceAccount."""

    cluster: Cluster
    folder: Path
    packages: Path
    network: Network | None
    """None where the API server is on another machine."""
    forge: Forge | None = None
    tokens: list[str] = field(default_factory=list)
    """Of ServiceAccounts."""
    operators: list[OperatorProcess] = field(default_factory=list)
    """All that were ever made."""

    def rights(self, name: str, *namespaces: str) -> str:
        """Install the chart's ServiceAccount and roles; the ServiceAccount's name."""
        watched = [f"--set=watchNamespaces={{{','.join(namespaces)}}}"] if namespaces else []
        parts = ("templates/serviceaccount.yaml", "templates/rbac.yaml")
        done = subprocess.run(
            [
                *(str(helm.build()), "template", name, str(ROOT / "charts/auterity")),
                *(f"--namespace={SYSTEM}", *watched, *(f"--show-only={part}" for part in parts)),
            ],
            capture_output=True,
            text=True,
            check=True,
        )
        self.cluster.kubectl("apply", "--server-side", "-f", "-", input=done.stdout)
        documents = [d for d in yaml.safe_load_all(done.stdout) if d]
        (account,) = [d for d in documents if d["kind"] == "ServiceAccount"]
        return str(account["metadata"]["name"])

    def kubeconfig(self, account: str) -> Path:
        """A kubeconfig with nothing but the ServiceAccount's token, through the network."""
        token = self.cluster.kubectl("create", "token", account, f"--namespace={SYSTEM}").strip()
        self.tokens.append(token)
        raw = self.cluster.kubectl("config", "view", "--raw", "--minify", "-o", "json")
        cluster = json.loads(raw)["clusters"][0]["cluster"]
        if self.network is not None:
            cluster["server"] = f"https://{HOST}:{self.network.port}"
        config = {
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{"name": "here", "cluster": cluster}],
            "users": [{"name": account, "user": {"token": token}}],
            "contexts": [{"name": "here", "context": {"cluster": "here", "user": account}}],
            "current-context": "here",
        }
        path = self.folder / f"{account}.kubeconfig"
        path.write_text(json.dumps(config))
        return path

    def operator(self, name: str, account: str, *args: str, anew: bool = False) -> OperatorProcess:
        """An operator that is not started yet; `anew` starts it as users do, with all imports."""
        log, access = self.folder / f"{name}.log", self.kubeconfig(account)
        forge = None if anew else self.forge
        new = OperatorProcess(access, self.packages, log, SYSTEM, *args, forge=forge)
        self.operators.append(new)
        return new

    def bury(self) -> None:
        """Delete the Leases of operators that an earlier test killed: the next would wait for them.

        Each start would, for the eight seconds in which a Lease may still come alive.
        """
        killed = [each for each in self.operators if each.killed]
        if killed:
            leases = [each.name for each in killed]
            where = (f"--namespace={SYSTEM}", "--ignore-not-found")
            self.cluster.kubectl("delete", "leases", *leases, *where)
        for each in killed:
            each.killed = False


@pytest.fixture(scope="session")
def installation(
    cluster: Cluster, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Installation]:
    server = cluster.kubectl("config", "view", "--minify", "-o", "jsonpath={..server}")
    there = urlsplit(server)
    network = Network(there.port) if there.hostname == HOST and there.port else None
    if network is not None:
        network.start()
    ours = (ExampleIndex, NumberedIndex, FleetDeployment, SoloDeployment)
    found: Catalogue = {**catalogue(), **{(p.kind, p.vendor): p for p in ours}}
    crds = "---\n".join(definitions(files(found)).values())
    cluster.kubectl("apply", "--server-side", "-f", "-", input=crds)
    part = "app.kubernetes.io/part-of=auterity"
    cluster.kubectl("wait", "--for=condition=Established", "crd", f"--selector={part}")
    # Makes kubectl forget what it has learnt of this API before.
    cluster.kubectl("api-resources", "--output=name")
    cluster.kubectl("create", "namespace", SYSTEM)
    folder = tmp_path_factory.mktemp("operator")
    packages = installed_package(tmp_path_factory.mktemp("packages"))
    forge = Forge(folder, python_path(packages))
    forge.start()
    try:
        yield Installation(cluster, folder, packages, network, forge)
    finally:
        forge.stop()
        if cluster.source is Source.EXTERNAL:
            cluster.kubectl("delete", "-f", "-", "--ignore-not-found", input=crds, timeout=120)
            cluster.kubectl("delete", "namespace", SYSTEM)
            for kind in ("clusterrole", "clusterrolebinding"):
                cluster.kubectl("delete", kind, "-l", "app.kubernetes.io/name=auterity")
        if network is not None:
            network.stop()


@pytest.fixture(scope="session")
def api(cluster: Cluster, installation: Installation) -> Iterator[Api]:
    found = Api(cluster.kubectl, installation.folder)
    found.start()
    yield found
    found.stop()


@pytest.fixture(scope="session")
def witness(api: Api) -> Iterator[Witness]:
    found = Witness(api.url)
    found.start()
    yield found
    found.stop()


@pytest.fixture(scope="session")
def vendors(installation: Installation) -> Iterator[Vendors]:
    found = Vendors(installation.folder)
    found.start()
    yield found
    found.stop()


@pytest.fixture(scope="session")
def the_operator(installation: Installation) -> Iterator[OperatorProcess]:
    found = installation.operator("operator", installation.rights("auterity"))
    yield found
    found.kill()


@pytest.fixture
def operator(
    installation: Installation, the_operator: OperatorProcess, told: list[str]
) -> Iterator[OperatorProcess]:
    """The operator of the whole cluster, running and ready."""
    installation.bury()
    if not the_operator.alive:
        the_operator.start()
    the_operator.wait_until_ready()
    yield the_operator
    if the_operator.alive:
        told.append(the_operator.metrics_text())


@pytest.fixture
def start(
    installation: Installation, the_operator: OperatorProcess, told: list[str]
) -> Iterator[Start]:
    """Starts a replica; all are gone when the test ends, and nobody else is there before."""
    the_operator.kill()
    installation.cluster.kubectl("delete", "leases", "--all", f"--namespace={SYSTEM}")
    started: list[OperatorProcess] = []

    def start(
        among: Installation = installation, rights: str = "replicated-auterity"
    ) -> OperatorProcess:
        account = installation.rights(rights)
        new = among.operator(f"replica-{time.monotonic_ns()}", account)
        started.append(new)
        new.start()
        return new

    yield start
    for each in started:
        if each.alive:
            told.append(each.metrics_text())
        each.kill()
    installation.cluster.kubectl("delete", "leases", "--all", f"--namespace={SYSTEM}")


@pytest.fixture
def person(cluster: Cluster, installation: Installation, vendors: Vendors) -> Person:
    program = cluster.kubectl.program
    return Person(program, cluster.kubeconfig, installation.packages, vendors.secrets)


@pytest.fixture(scope="session")
def told() -> list[str]:
    """Everything that machines were told: the metrics after each test."""
    return []


_numbers = itertools.count(1)


@pytest.fixture
def new_team(api: Api, witness: Witness) -> Iterator[Callable[[], Team]]:
    """Makes teams; what they declared goes with them."""
    teams: list[Team] = []

    def make() -> Team:
        namespace = f"team-{next(_numbers)}"
        api.create("namespaces", "", {"metadata": {"name": namespace}})
        teams.append(Team(api, witness, namespace))
        return teams[-1]

    yield make
    for team in teams:
        team.disband()


@pytest.fixture
def team(request: pytest.FixtureRequest, new_team: Callable[[], Team]) -> Team:
    """A team whose objects the running operator keeps."""
    request.getfixturevalue("operator")
    return new_team()


@pytest.fixture
def figure(request: pytest.FixtureRequest) -> Callable[[str], None]:
    """Notes a measured figure, to be shown at the end."""
    name = request.node.originalname.removeprefix("test_").replace("_", " ")
    # Properties of a test reach the process that writes the summary, whoever ran the test.
    noted = request.node.user_properties
    return lambda text: noted.append(("figure", f"{name}: {text}"))


_figures: list[str] = []


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    if report.when == "teardown":
        _figures.extend(str(text) for name, text in report.user_properties if name == "figure")


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    if _figures:
        terminalreporter.section("figures")
        for line in _figures:
            terminalreporter.line(line)


SECONDS = {
    "test_admission.py": 24,
    "test_at_rest.py": 12,
    "test_bad_input.py": 12,
    "test_chaos.py": 30,
    "test_chart.py": 50,
    "test_cli.py": 65,
    "test_cli_plan.py": 16,
    "test_cost.py": 60,
    "test_fairness.py": 48,
    "test_interruptions.py": 10,
    "test_moving.py": 10,
    "test_replicas.py": 65,
    "test_rollouts.py": 45,
    "test_route.py": 27,
    "test_soak.py": 30,
    "test_use_cases.py": 45,
}
"""What a file takes, where that is much more than `OTHERS`: no more than a help to share evenly."""
OTHERS = 5
IN_EVERY_PROCESS = "test_secrets.py"
"""What was told in a process is searched by this process."""


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    mine = _share(config, {item.path.name for item in items})
    items[:] = [item for item in items if item.path.name in mine]
    for item in items:
        # A slow machine gets its time, and what never ends does end.
        if item.get_closest_marker("timeout") is None:
            item.add_marker(pytest.mark.timeout(LONGEST))
    # What was told during all tests is searched for secrets at the end.
    # The doctor looks at everyone's rights: before other tests have made accounts with few.
    healthy = ("the_doctor_finds_nothing", "a_route_that_nobody_serves")
    items.sort(
        key=lambda item: (
            "nothing_tells" in item.name,
            not any(name in item.name for name in healthy),
        )
    )


def _share(config: pytest.Config, files: set[str]) -> set[str]:
    """The files of this process: the same in every run, and about the same time for each worker."""
    worker = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))
    workers = int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))
    if _source(config) is not Source.EMBEDDED:
        workers = 1  # There is one cluster, and it is the first worker's.
    shares: list[set[str]] = [set() for _ in range(max(workers, worker + 1))]
    seconds = [0] * workers
    for file in sorted(files, key=lambda file: (-SECONDS.get(file, OTHERS), file)):
        least = seconds.index(min(seconds))
        shares[least].add(file)
        seconds[least] += SECONDS.get(file, OTHERS)
    return shares[worker] | ({IN_EVERY_PROCESS} & files if worker < workers else set())
