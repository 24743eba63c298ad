"""What the operator costs: nothing at rest, little at work."""

import re
import time

import pytest

from e2e.conftest import Installation
from e2e.operator_process import OperatorProcess
from e2e.team import Team
from e2e.vendors import Vendors
from tools.generate import ROOT

SDKS = {
    "boto3",
    "botocore",
    "github",
    "grpc",
    "grpclib",
    "modal_proto",
    "pinecone",
    "psycopg",
    "redis",
}
UNLIMITED = {"perSecond": 10000, "burst": 10000, "concurrent": 50}
VISITS = "auterity_visits_total"


def test_creation_costs_two_writes_and_rest_none(
    vendors: Vendors, team: Team, operator: OperatorProcess, figure
):
    account = vendors.open()
    team.connect(account, direct=True, rateLimit=UNLIMITED)
    for number in range(5):
        account.ask("foreign", {}, f"watched-{number}", None)
    before = operator.writes()
    for number in range(40):
        team.index(f"index-{number}", interval="1s")
    for number in range(40):
        team.until_ready(f"index-{number}")
    writes = (operator.writes() - before) / 40
    assert writes <= 2

    for number in range(5):
        team.create(f"watched-{number}", team.spec(policy="Observe", interval="1s"))
        team.until_ready(f"watched-{number}")
    versions = {o["metadata"]["name"]: o for o in team.api.list("vectorindexes", team.namespace)}
    at_rest, visits, reads = (
        operator.writes(),
        operator.metric(VISITS),
        account.ask("requests", "GET"),
    )
    team.until("index-0", lambda _: operator.metric(VISITS) >= visits + 45 * 4)
    assert operator.writes() == at_rest
    assert {
        o["metadata"]["name"]: o for o in team.api.list("vectorindexes", team.namespace)
    } == versions
    figure(
        f"{writes:.2f} writes an object at creation; at rest 0 writes in "
        f"{operator.metric(VISITS) - visits:.0f} visits, which took "
        f"{account.ask('requests', 'GET') - reads} calls to the vendor"
    )


def test_with_the_finalizer_set_at_admission_creation_costs_one_write(
    installation: Installation, vendors: Vendors, team: Team, operator: OperatorProcess, figure
):
    policy = ROOT / "charts/auterity/files/finalizer-policy.yaml"
    kubectl = installation.cluster.kubectl
    kubectl("apply", "--server-side", "-f", str(policy))
    try:
        team.connect(vendors.open(), direct=True, rateLimit=UNLIMITED)
        # A policy is not in force the moment it is there.
        for number in range(100):
            if team.index(f"probe-{number}")["metadata"].get("finalizers"):
                break
            time.sleep(0.1)
        for probe in range(number + 1):
            team.until_ready(f"probe-{probe}")
        before = operator.writes()
        for number in range(20):
            team.index(f"index-{number}")
        for number in range(20):
            team.until_ready(f"index-{number}")
        writes = (operator.writes() - before) / 20
        figure(f"{writes:.2f} writes an object")
        assert writes == 1
    finally:
        kubectl("delete", "--ignore-not-found", "-f", str(policy))


def test_an_idle_operator_is_small_and_has_loaded_no_sdk(
    installation: Installation, new_team, figure, monkeypatch: pytest.MonkeyPatch
):
    # It tells on stderr what it imports.
    monkeypatch.setenv("PYTHONPROFILEIMPORTTIME", "1")
    name = new_team().namespace
    account = installation.rights("idle-auterity", name)
    idle = installation.operator("idle", account, f"--namespace={name}", anew=True)
    start = time.monotonic()
    idle.start()
    try:
        idle.wait_until_ready()
        seconds = time.monotonic() - start
        time.sleep(1.0)
        figure(f"{idle.resident_mib:.0f} MiB resident, ready after {seconds:.1f} s")
        assert idle.resident_mib < 100
        told = idle.log.read_text(errors="replace")
        loaded = set(re.findall(r"^import time: .*\| +(\w+)$", told, re.MULTILINE))
        assert "kopf" in loaded
        assert not loaded & SDKS
    finally:
        assert idle.stop() == 0
