"""The API server, the network and the operator itself come and go; nothing is missed."""

import time

import pytest

from e2e.conftest import Cluster, Installation
from e2e.kstatus import Kstatus, kstatus
from e2e.operator_process import OperatorProcess
from e2e.team import Team
from e2e.vendors import Vendors


def test_the_operator_outlives_a_restart_of_the_api_server(
    cluster: Cluster, vendors: Vendors, team: Team, operator: OperatorProcess, figure
):
    if cluster.controlplane is None:
        pytest.skip("only an embedded control plane can be restarted")
    account = vendors.open()
    team.connect(account)
    for name in ("edited", "checked"):
        team.index(name, interval="1s")
        team.until_ready(name)
    cluster.controlplane.restart_apiserver()
    start = time.monotonic()
    team.until("edited", lambda o: o is not None)
    team.edit("edited", example={"replicas": 5})
    team.index("new")
    team.delete("checked")
    team.until_ready("edited", seconds=60)
    team.until_ready("new", seconds=60)
    team.until_gone("checked", seconds=60)
    assert operator.alive
    assert {name: held["replicas"] for name, held in account.holds().items()} == {
        "edited": 5,
        "new": 1,
    }
    figure(f"handled what was done meanwhile {time.monotonic() - start:.1f} s after its return")


def test_what_happens_while_the_network_is_cut_is_caught_up_with(
    installation: Installation, vendors: Vendors, team: Team, figure
):
    if installation.network is None:
        pytest.skip("the API server is on another machine: its network cannot be cut")
    account, renewed = vendors.open(), vendors.made_up_token()
    team.connect(account, interval="1h")
    account.ask("foreign", {}, "watched", None)
    team.index("watched", policy="Observe", interval="2s")
    for name in ("edited", "deleted"):
        team.index(name)
        team.until_ready(name)
    team.until_ready("watched")

    installation.network.cut()
    try:
        team.edit("edited", example={"replicas": 7})
        team.index("new")
        team.delete("deleted")
        # Nothing keeps what is only observed: it is gone before the operator can see it.
        team.delete("watched")
        team.until_gone("watched")
        account.ask("accepts", renewed)
        team.secret(token=renewed)
        time.sleep(1.0)
    finally:
        installation.network.mend()
    start = time.monotonic()
    team.until_gone("deleted")
    team.until_ready("edited")
    team.until_ready("new")
    team.until("vendor", lambda o: kstatus(o) is Kstatus.CURRENT, "Connection")
    figure(f"handled what was done meanwhile {time.monotonic() - start:.1f} s after its mending")
    assert set(account.holds()) == {"edited", "new", "watched"}
    for name in ("edited", "new"):
        team.delete(name)
        team.until_gone(name)
    team.delete("vendor", "Connection")
    team.until_gone("vendor", "Connection")


def test_a_graceful_stop_finishes_what_is_in_hand(
    vendors: Vendors, new_team, the_operator: OperatorProcess, figure
):
    the_operator.kill()
    team, account = new_team(), vendors.open("numbered")
    team.secret(token=account.token)
    team.create("vendor", account.block(direct=True), kind="Connection")
    the_operator.start()
    the_operator.wait_until_ready()
    team.until_ready("vendor", "Connection")
    account.ask("latency", 0.5)
    for number in range(12):
        team.index(f"index-{number}", "numbered")
    team.until("index-0", lambda _: account.ask("requests", "POST") >= 1)
    start = time.monotonic()
    assert the_operator.stop() == 0
    seconds = time.monotonic() - start
    held = {index["id"] for index in account.ask("holds")}
    known = {
        o["status"]["id"]
        for o in team.api.list("vectorindexes", team.namespace)
        if "id" in o["status"]
    }
    assert held
    assert held == known
    figure(f"{len(held)} creations in hand finished in {seconds:.1f} s; exit code 0, no orphan")

    account.ask("latency", 0.0)
    the_operator.start()
    for number in range(12):
        team.until_ready(f"index-{number}")
    assert len(account.holds()) == 12
