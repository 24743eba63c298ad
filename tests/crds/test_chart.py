"""The chart renders with Helm itself, and what it renders runs under the restricted standard."""

import json
import subprocess
import time
from pathlib import Path

import pytest
import yaml

from auterity.cli.main import app
from auterity.cli.run import run as run_operator
from tests.crds.conftest import JSON, Api
from tools import cache, helm
from tools.generate import ROOT

CHART = ROOT / "charts" / "auterity"
SERVES_POLICIES = "--api-versions=admissionregistration.k8s.io/v1/MutatingAdmissionPolicy"
# The first call on a machine builds Helm.
pytestmark = pytest.mark.timeout(1200)


@pytest.fixture(scope="module")
def program() -> Path:
    try:
        return helm.build()
    except cache.InstallError as reason:
        pytest.skip(f"no Helm on this machine: {reason}")


def run(program: Path, *args: str) -> str:
    done = subprocess.run([program, *args], capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise ValueError(done.stderr)
    return done.stdout


def rendered(program: Path, *args: str) -> list[JSON]:
    text = run(program, "template", "ours", str(CHART), "--namespace=ops", *args)
    return [document for document in yaml.safe_load_all(text) if document]


def of_kind(documents: list[JSON], kind: str) -> list[JSON]:
    return [document for document in documents if document["kind"] == kind]


def test_helm_finds_no_fault(program: Path) -> None:
    assert "0 chart(s) failed" in run(program, "lint", "--strict", str(CHART))


def test_crds_are_installed_as_they_are_and_outlive_the_release(program: Path) -> None:
    found = of_kind(rendered(program), "CustomResourceDefinition")
    assert {crd["metadata"]["annotations"]["helm.sh/resource-policy"] for crd in found} == {"keep"}

    plain = of_kind(rendered(program, "--set=crds.keep=false"), "CustomResourceDefinition")
    committed = [yaml.safe_load(path.read_text()) for path in (ROOT / "crds").glob("*.yaml")]
    by_name = sorted(plain, key=lambda crd: crd["metadata"]["name"])
    assert by_name == sorted(committed, key=lambda crd: crd["metadata"]["name"])


def test_crds_can_be_left_out(program: Path) -> None:
    documents = rendered(program, "--set=crds.enabled=false")

    assert of_kind(documents, "CustomResourceDefinition") == []
    assert len(of_kind(documents, "Deployment")) == 1


def test_every_namespace_is_watched_unless_some_are_named(program: Path) -> None:
    everywhere = rendered(program)
    assert [b["metadata"]["name"] for b in of_kind(everywhere, "ClusterRoleBinding")] == [
        "ours-auterity-cluster",
        "ours-auterity",
    ]

    some = rendered(program, "--set=watchNamespaces={a,b}")
    # Its own namespace is where the replicas' Leases are.
    assert [b["metadata"]["namespace"] for b in of_kind(some, "RoleBinding")] == ["a", "b", "ops"]
    assert [b["metadata"]["name"] for b in of_kind(some, "ClusterRoleBinding")] == [
        "ours-auterity-cluster"
    ]
    (deployment,) = of_kind(some, "Deployment")
    assert arguments(deployment) == ["--namespace=a", "--namespace=b"]


def test_several_replicas_roll_and_one_of_them_stays_through_maintenance(program: Path) -> None:
    usual = rendered(program)
    (deployment,) = of_kind(usual, "Deployment")
    assert deployment["spec"]["replicas"] > 1
    assert deployment["spec"]["strategy"]["rollingUpdate"]["maxUnavailable"] == 0
    assert of_kind(usual, "PodDisruptionBudget")
    # With one, a budget would keep every node from being drained.
    assert not of_kind(rendered(program, "--set=replicas=1"), "PodDisruptionBudget")
    with pytest.raises(ValueError, match="replicas"):
        rendered(program, "--set=replicas=0")


def arguments(deployment: JSON) -> list[str]:
    """What its container is started with, beside what is always the same."""
    args: list[str] = deployment["spec"]["template"]["spec"]["containers"][0]["args"]
    assert args[:2] == ["run", "--log-format=json"]
    return args[2:]


def test_the_operator_understands_what_it_is_started_with(program: Path) -> None:
    values = "--set=clusterName=prod,watchNamespaces={a},args={--allow-insecure-endpoints}"
    (deployment,) = of_kind(rendered(program, values), "Deployment")
    container = deployment["spec"]["template"]["spec"]["containers"][0]

    command, bound, ignored = app.parse_args(container["args"])[:3]
    assert command is run_operator
    assert bound.arguments == {
        "namespace": ["a"],
        "cluster_name": "prod",
        "log_format": "json",
        "allow_insecure_endpoints": True,
    }
    assert ignored == {}


def test_the_policy_is_installed_on_request_where_it_is_served(program: Path) -> None:
    kind, wanted = "MutatingAdmissionPolicy", "--set=finalizerAtAdmission=true"

    assert len(of_kind(rendered(program, wanted, SERVES_POLICIES), kind)) == 1
    assert of_kind(rendered(program, wanted), kind) == []
    assert of_kind(rendered(program, SERVES_POLICIES), kind) == []


@pytest.mark.parametrize(
    ("value", "words"),
    [
        ("nonsense=1", "additional properties 'nonsense' not allowed"),
        ("crds.keep=yes", "/crds/keep"),
        ("watchNamespaces={A}", "/watchNamespaces/0"),
    ],
)
def test_wrong_values_are_refused(program: Path, value: str, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        rendered(program, f"--set={value}")


def test_its_pod_is_admitted_where_only_restricted_ones_are(program: Path, api: Api) -> None:
    api.kubectl("create", "namespace", "ops")
    api.kubectl("label", "namespace", "ops", "pod-security.kubernetes.io/enforce=restricted")
    documents = rendered(program, "--set=crds.enabled=false,watchNamespaces={ops}")
    api.kubectl("apply", "--server-side", "-f", "-", input=yaml.safe_dump_all(documents))

    def pods() -> list[JSON]:
        listed = json.loads(api.kubectl("get", "pods", "--namespace=ops", "-o", "json"))
        found: list[JSON] = listed["items"]
        return found

    deadline = time.monotonic() + 60
    while not pods():
        assert time.monotonic() < deadline, api.kubectl("get", "events", "--namespace=ops")
        time.sleep(0.5)
    assert pods()[0]["spec"]["serviceAccountName"] == "ours-auterity"
