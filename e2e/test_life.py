"""The life of an integration, and what GitOps tools see of it."""

import itertools

from e2e.conftest import Cluster
from e2e.kstatus import Kstatus, kstatus
from e2e.operator_process import OperatorProcess
from e2e.team import Team
from e2e.vendors import Vendors


def test_an_index_is_declared_edited_and_deleted(
    cluster: Cluster, vendors: Vendors, team: Team, operator: OperatorProcess, figure
):
    account = vendors.open()
    team.connect(account)
    assert team.status("vendor", "Connection")["identity"] == "acme"

    made = team.index("docs", outputs={"secretName": "docs-index"}, interval="1s")
    team.until_ready("docs")
    held = account.holds()["docs"]
    assert held["dimension"] == 8
    assert held["tags"]["owner"].endswith(f"/{team.namespace}/docs")
    secret = team.api.find("secrets", team.namespace, "docs-index")
    assert secret is not None
    (owner,) = secret["metadata"]["ownerReferences"]
    assert (owner["kind"], owner["uid"]) == ("VectorIndex", made["metadata"]["uid"])
    assert set(secret["data"]) == {"host", "name"}

    team.edit("docs", example={"replicas": 3})
    assert team.until_ready("docs")["metadata"]["generation"] == 2
    assert account.holds()["docs"]["replicas"] == 3

    account.ask("tamper", "docs")
    team.until("docs", lambda _: account.holds()["docs"]["replicas"] == 3)

    listed = cluster.kubectl("get", "integrations", f"--namespace={team.namespace}")
    lines = [" ".join(line.split()) for line in listed.splitlines()]
    assert "NAME READY REASON VENDOR ID AGE" in lines
    assert any(
        line.startswith("vectorindex.integrations.auterity.io/docs True Ready example docs ")
        for line in lines
    ), listed

    team.delete("docs")
    team.until_gone("docs")
    assert account.holds() == {}


def test_what_gitops_tools_see_is_true_at_every_moment(vendors: Vendors, team: Team):
    account = vendors.open()
    team.connect(account)
    account.ask("slow", True)
    uid = team.index("docs")["metadata"]["uid"]
    team.until_reason("docs", "Progressing")
    assert kstatus(team.find("docs")) is Kstatus.IN_PROGRESS
    account.ask("slow", False)
    account.ask("settle")
    team.until_ready("docs")
    team.edit("docs", example={"replicas": 2})
    team.until_ready("docs")
    account.ask("accepts")
    team.edit("docs", example={"replicas": 3})
    team.until_reason("docs", "DependencyNotReady", words="refuses the credentials")
    assert kstatus(team.find("vendor", "Connection")) is Kstatus.FAILED
    account.ask("accepts", account.token)
    team.secret(token=account.token, touched="yes")
    team.until_ready("docs")
    team.delete("docs")
    team.until_gone("docs")

    versions = team.witness.versions[uid]
    team.until("docs", lambda _: [v["watched"] for v in versions][-1:] == ["DELETED"])
    assert versions[0]["status"] == {"observedGeneration": -1}
    for version in versions:
        if kstatus(version) is Kstatus.CURRENT:
            assert version["status"]["syncedGeneration"] == version["metadata"]["generation"]
    states = [kstatus(v) for v in versions if v["watched"] != "DELETED"] + [kstatus(None)]
    assert [state for state, _ in itertools.groupby(states)] == [
        Kstatus.IN_PROGRESS,
        Kstatus.CURRENT,
        Kstatus.IN_PROGRESS,
        Kstatus.CURRENT,
        Kstatus.IN_PROGRESS,
        Kstatus.FAILED,
        Kstatus.IN_PROGRESS,
        Kstatus.CURRENT,
        Kstatus.TERMINATING,
        Kstatus.NOT_FOUND,
    ]
