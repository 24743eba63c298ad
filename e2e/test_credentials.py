"""Connections: credentials that change, who may use them, and who still does."""

import pytest

from e2e.kstatus import Kstatus, kstatus
from e2e.operator_process import OperatorProcess
from e2e.team import Team
from e2e.vendors import Vendors


def test_a_rotated_secret_is_used_at_once(vendors: Vendors, team: Team):
    account, renewed = vendors.open(), vendors.made_up_token()
    team.connect(account, interval="1h")
    team.index("docs", interval="1h")
    team.until_ready("docs")
    asked = account.ask("requests", "GET")
    account.ask("accepts", renewed)
    team.secret(token=renewed)
    team.until("vendor", lambda _: account.ask("requests", "GET") > asked, kind="Connection")
    team.edit("docs", example={"replicas": 4})
    team.until_ready("docs")
    assert account.holds()["docs"]["replicas"] == 4
    assert team.ready("vendor", "Connection")["status"] == "True"


def test_wrong_credentials_are_told_and_right_ones_mend_everything(vendors: Vendors, team: Team):
    account = vendors.open()
    team.connect(account, interval="1h")
    team.index("edited", interval="1h")
    team.index("checked", interval="1s")
    team.until_ready("edited")
    team.until_ready("checked")

    team.secret(token=vendors.made_up_token())
    team.until_reason("vendor", "CredentialsRejected", "Connection")
    assert kstatus(team.find("vendor", "Connection")) is Kstatus.FAILED
    team.edit("edited", example={"replicas": 2})
    for name in ("edited", "checked"):
        told = team.until_reason(name, "DependencyNotReady")
        assert told == (
            "Connection 'vendor' is not ready: the vendor refuses the credentials: unknown token"
        )
    refused = account.ask("requests", "PATCH")

    team.secret(token=account.token)
    team.until_ready("vendor", "Connection")
    team.until_ready("edited")
    team.until_ready("checked")
    assert account.holds()["edited"]["replicas"] == 2
    assert refused == 0


def test_credentials_that_are_revoked_between_two_checks_are_told_by_the_connection(
    vendors: Vendors, team: Team
):
    account = vendors.open()
    team.connect(account, interval="1h")
    team.index("docs", interval="1h")
    team.until_ready("docs")
    account.ask("accepts")
    team.edit("docs", example={"replicas": 2})
    team.until_reason("vendor", "CredentialsRejected", "Connection")
    renewed = vendors.made_up_token()
    account.ask("accepts", renewed)
    team.secret(token=renewed)
    team.until_ready("docs")


def test_a_connection_in_use_names_its_users_and_goes_after_them(vendors: Vendors, team: Team):
    team.connect(vendors.open())
    for name in ("docs", "faq"):
        team.index(name)
        team.until_ready(name)
    team.delete("vendor", "Connection")
    told = team.until_reason("vendor", "InUse", "Connection")
    assert told == (
        "Waits until it is no longer used by: "
        f"VectorIndex {team.namespace}/docs, VectorIndex {team.namespace}/faq"
    )
    team.delete("docs")
    team.until_gone("docs")
    team.until_reason(
        "vendor", "InUse", "Connection", words=f"by: VectorIndex {team.namespace}/faq"
    )
    team.delete("faq")
    team.until_gone("faq")
    team.until_gone("vendor", "Connection")


@pytest.mark.usefixtures("operator")
def test_a_cluster_connection_serves_the_namespaces_that_it_allows(vendors: Vendors, new_team):
    account = vendors.open()
    owner, allowed, stranger = new_team(), new_team(), new_team()
    owner.secret(token=account.token)
    name = f"shared-{owner.namespace}"
    owner.create(
        name,
        {
            **account.block(),
            "secretNamespace": owner.namespace,
            "allowedNamespaces": [allowed.namespace],
        },
        kind="ClusterConnection",
    )
    owner.until_ready(name, "ClusterConnection")
    ref = {"kind": "ClusterConnection", "name": name}
    allowed.index("docs", connectionRef=ref)
    allowed.until_ready("docs")
    stranger.index("wiki", connectionRef=ref)
    told = stranger.until_reason("wiki", "DependencyNotReady")
    assert told == (
        f"ClusterConnection {name!r} may not be used from namespace {stranger.namespace!r}; "
        "add it to spec.allowedNamespaces"
    )
    assert set(account.holds()) == {"docs"}

    owner.edit(
        name,
        "ClusterConnection",
        allowedNamespaces=[allowed.namespace, f"{stranger.namespace[:-1]}*"],
    )
    stranger.until_ready("wiki")
    assert set(account.holds()) == {"docs", "wiki"}


def test_only_the_named_namespaces_are_served(
    vendors: Vendors, new_team, installation, operator: OperatorProcess
):
    operator.stop()
    ours, also_ours, not_ours = new_team(), new_team(), new_team()
    served = [ours.namespace, also_ours.namespace]
    account = installation.rights("narrow-auterity", *served)
    narrow = installation.operator(
        "narrow", account, *(f"--namespace={namespace}" for namespace in served)
    )
    narrow.start()
    try:
        narrow.wait_until_ready()
        vendor = vendors.open()
        for team in (not_ours, ours, also_ours):
            team.secret(token=vendor.token)
            team.create("vendor", vendor.block(), kind="Connection")
            team.index(f"docs-{team.namespace}")
        for team in (ours, also_ours):
            team.until_ready(f"docs-{team.namespace}")
        assert set(vendor.holds()) == {f"docs-{team.namespace}" for team in (ours, also_ours)}
        assert not_ours.status(f"docs-{not_ours.namespace}") == {"observedGeneration": -1}
        renewed = vendors.made_up_token()
        vendor.ask("accepts", renewed)
        ours.secret(token=renewed)
        ours.edit(f"docs-{ours.namespace}", example={"replicas": 2})
        ours.until_ready(f"docs-{ours.namespace}")
    finally:
        narrow.kill()
    assert "Traceback" not in narrow.log.read_text()
