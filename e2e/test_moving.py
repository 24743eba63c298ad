"""A cluster's objects move to another cluster: what is at the vendors does not notice."""

from collections.abc import Callable, Iterator

import pytest

from auterity.api.annotations import FORGET
from auterity.providers.catalogue import Catalogue, catalogue
from e2e.api import Api, Witness
from e2e.conftest import SYSTEM, Cluster, Installation
from e2e.operator_process import OperatorProcess
from e2e.team import Team
from e2e.vendors import Account, Vendors
from tests.example.provider import ExampleIndex
from tools.controlplane import Controlplane, Source
from tools.generate import definitions, files


@pytest.fixture(scope="module")
def elsewhere(
    cluster: Cluster, installation: Installation, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Installation]:
    """Another cluster, with our CRDs and the chart's rights."""
    if cluster.source is not Source.EMBEDDED:
        pytest.skip(f"a second cluster is embedded, and this one is {cluster.source.value}")
    found: Catalogue = {**catalogue(), (ExampleIndex.kind, ExampleIndex.vendor): ExampleIndex}
    with Controlplane() as controlplane:
        kubectl = controlplane.kubectl
        text = "---\n".join(definitions(files(found)).values())
        kubectl("apply", "--server-side", "-f", "-", input=text)
        kubectl("wait", "--for=condition=Established", "crd", "--all", "--timeout=120s")
        kubectl("create", "namespace", SYSTEM)
        there = Cluster(Source.EMBEDDED, controlplane.kubeconfig, kubectl, controlplane)
        folder = tmp_path_factory.mktemp("elsewhere")
        yield Installation(there, folder, installation.packages, None, installation.forge)


@pytest.fixture(scope="module")
def new_api(elsewhere: Installation) -> Iterator[Api]:
    found = Api(elsewhere.cluster.kubectl, elsewhere.folder)
    found.start()
    yield found
    found.stop()


@pytest.fixture
def old_home(new_team: Callable[[], Team]) -> Team:
    return new_team()


@pytest.fixture
def new_home(new_api: Api, witness: Witness, old_home: Team) -> Iterator[Team]:
    """The namespace of the same name elsewhere."""
    new_api.create("namespaces", "", {"metadata": {"name": old_home.namespace}})
    found = Team(new_api, witness, old_home.namespace)
    yield found
    found.disband()


def written(account: Account) -> int:
    """Requests that changed something at the vendor."""
    return sum(account.ask("requests", method) for method in ("POST", "PATCH", "PUT", "DELETE"))


def begin(place: Installation, cluster_name: str) -> OperatorProcess:
    place.bury()
    operator = place.operator(
        f"operator-{cluster_name}", place.rights("auterity"), f"--cluster-name={cluster_name}"
    )
    operator.start()
    operator.wait_until_ready()
    return operator


def test_under_the_old_clusters_name_everything_goes_on_without_a_write(
    vendors: Vendors,
    operator: OperatorProcess,
    elsewhere: Installation,
    old_home: Team,
    new_home: Team,
    installation: Installation,
):
    account = vendors.open()
    old_home.connect(account)
    old_home.index("docs")
    old_home.until_ready("docs")
    held = account.holds()
    before = written(account)
    old_name = held["docs"]["tags"]["owner"].partition("/")[0]

    operator.stop()
    moved = begin(elsewhere, old_name)
    try:
        new_home.connect(account)
        new_home.index("docs")
        assert new_home.until_ready("docs")["status"]["id"] == "docs"
        assert (account.holds(), written(account)) == (held, before)

        kubectl, here = installation.cluster.kubectl, f"--namespace={old_home.namespace}"
        kubectl("annotate", "integrations", "--all", here, f"{FORGET}=true")
        kubectl("delete", "integrations", "--all", here, "--wait=false")
        operator.start()
        old_home.until_gone("docs")
        assert (account.holds(), written(account)) == (held, before)

        new_home.edit("docs", example={"replicas": 4})
        new_home.until_ready("docs")
        assert account.holds()["docs"]["replicas"] == 4
    finally:
        moved.kill()


def test_under_another_name_what_is_the_old_clusters_is_left_alone(
    vendors: Vendors,
    operator: OperatorProcess,
    elsewhere: Installation,
    old_home: Team,
    new_home: Team,
):
    account = vendors.open()
    old_home.connect(account)
    old_home.index("docs")
    old_home.until_ready("docs")
    before = written(account)

    stranger = begin(elsewhere, "another")
    try:
        new_home.connect(account)
        new_home.index("docs", policy="Adopt")
        told = new_home.until_reason("docs", "Conflict")
        assert f"/{old_home.namespace}/docs" in told
        assert written(account) == before
    finally:
        stranger.kill()
