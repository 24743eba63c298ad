"""The commands for people, called through kubectl, on objects that are really stuck."""

import json
import os
import re
import subprocess
import time
from typing import Any

from e2e.conftest import SYSTEM, Cluster, Installation
from e2e.operator_process import ROOT, OperatorProcess
from e2e.person import BIN, Person
from e2e.team import Team
from e2e.vendors import Vendors
from tools.controlplane import KubectlError


def chain(answer: dict[str, Any]) -> list[str]:
    return [f"{x['object']['kind']} {x['object']['name']} {x['state']}" for x in answer["chain"]]


def carry_out(team: Team, answer: dict[str, Any]) -> None:
    """Run the first command that was told, word for word."""
    command = answer["next"][0]["command"]
    assert command.startswith("kubectl ")
    folders = [str(team.api.kubectl.program.parent), str(BIN), os.environ["PATH"]]
    env = {
        "PATH": os.pathsep.join(folders),
        "KUBECONFIG": str(team.api.kubectl.kubeconfig),
        "HOME": os.environ.get("HOME", "/"),
        "PYTHONPATH": f"{ROOT / 'operator'}:{ROOT}",
    }
    if " auterity approve " in command:
        command += " --yes"
    subprocess.run(["bash", "-c", command], env=env, check=True, capture_output=True, timeout=90)


def _may(team: Team, *args: str) -> bool:
    try:
        team.api.kubectl("auth", "can-i", *args)
    except KubectlError:
        return False
    return True


def test_a_missing_key_of_a_secret(vendors: Vendors, team: Team, person: Person):
    account = vendors.open()
    team.secret(other="x")
    team.create("vendor", account.block(), kind="Connection")
    team.index("docs")
    team.until_reason("docs", "DependencyNotReady", words="no key")
    team.until_reason("vendor", "DependencyNotReady", "Connection")
    answer = person.why(team, "vidx/docs")
    assert chain(answer) == [
        "VectorIndex docs DependencyNotReady",
        "Connection vendor DependencyNotReady",
        "Secret vendor NoSuchKey",
    ]
    assert answer["chain"][-1]["says"] == "has no key 'token'; it has: other"
    told = answer["next"][0]["command"]
    assert told.startswith("kubectl patch secret vendor --type=merge")
    answer["next"][0]["command"] = told.replace("...", account.token)
    carry_out(team, answer)
    team.until_ready("docs")
    assert person.why(team, "vectorindexes/docs")["ready"] is True


def test_wrong_credentials(vendors: Vendors, team: Team, person: Person):
    account = vendors.open()
    team.connect(account)
    team.secret(token=vendors.made_up_token())
    team.until_reason("vendor", "CredentialsRejected", "Connection")
    team.index("docs")
    team.until_reason("docs", "DependencyNotReady")
    answer = person.why(team, "VectorIndex/docs")
    assert chain(answer) == [
        "VectorIndex docs DependencyNotReady",
        "Connection vendor CredentialsRejected",
    ]
    assert "unknown token" in answer["chain"][-1]["says"]
    assert answer["chain"][-1]["details"] == [
        f"example.token: key 'token' of Secret {team.namespace}/vendor"
    ]
    told = answer["next"][0]["command"]
    answer["next"][0]["command"] = told.replace("...", account.token)
    carry_out(team, answer)
    team.until_ready("docs")


def test_a_reference_to_what_is_not_there(vendors: Vendors, team: Team, person: Person):
    team.connect(vendors.open())
    team.index("other", dependsOn=[{"kind": "VectorIndex", "name": "docs"}])
    team.index("docs", dependsOn=[{"kind": "AlertRoute", "name": "absent"}])
    team.until_reason("other", "DependencyNotReady")
    answer = person.why(team, "vidx/other")
    assert chain(answer) == [
        "VectorIndex other DependencyNotReady",
        "VectorIndex docs DependencyNotReady",
        "AlertRoute absent Missing",
    ]
    assert answer["next"][0]["command"] == (
        f"kubectl edit vectorindex docs --namespace={team.namespace}"
    )
    shown = person.run("tree", "vidx/docs", namespace=team.namespace)
    rows = [line.split() for line in shown.splitlines()]
    assert [
        "├─",
        "AlertRoute",
        f"{team.namespace}/absent",
        "depends",
        "on",
        "False",
        "Missing",
    ] in (rows)
    assert any(row[1:3] == ["VectorIndex", f"{team.namespace}/other"] for row in rows)


def test_a_plan_is_shown_approved_and_asked_for_again_at_the_same_drift(
    vendors: Vendors, team: Team, person: Person
):
    account = vendors.open()
    team.connect(account)
    team.index("docs")
    team.until_ready("docs")
    team.edit("docs", approval="Always", interval="1s")
    team.until_reason("docs", "Ready")
    hashes = []
    for _ in range(2):
        account.ask("tamper", "docs")
        team.until_reason("docs", "AwaitingApproval")
        answer = person.why(team, "vidx/docs")
        assert chain(answer) == ["VectorIndex docs AwaitingApproval"]
        assert answer["chain"][0]["details"] == ["example.replicas: 6 -> 1"]
        hashes.append(team.status("docs")["plan"]["hash"])
        refused = person.run("approve", "vidx/docs", namespace=team.namespace, code=1)
        assert "there is nobody to ask: give --yes" in refused
        assert "example.replicas" in refused
        carry_out(team, answer)
        team.until_reason("docs", "Ready")
        assert account.holds()["docs"]["replicas"] == 1
        assert team.status("docs")["approved"] == hashes[-1]
    assert hashes[0] != hashes[1]
    nothing = person.run("approve", "vidx/docs", "--yes", namespace=team.namespace, code=1)
    assert "has no plan that waits for approval" in nothing


def test_a_foreign_object_of_the_same_name(vendors: Vendors, team: Team, person: Person):
    account = vendors.open()
    account.ask("foreign", {}, "docs", None)
    account.ask("foreign", {}, "wiki", "another/team/wiki")
    team.connect(account)
    team.index("docs")
    team.index("wiki")
    team.until_reason("wiki", "Conflict")
    team.until_reason("docs", "Conflict")
    told = person.run("why", "vidx", "wiki", namespace=team.namespace)
    assert "belongs to another/team/wiki" in told
    answer = person.why(team, "vidx/docs")
    assert chain(answer) == ["VectorIndex docs Conflict"]
    assert "is not ours" in answer["chain"][0]["says"]
    carry_out(team, answer)
    team.until_ready("docs")


def test_an_object_is_suspended_resumed_and_looked_at_on_demand(
    vendors: Vendors, team: Team, person: Person
):
    account = vendors.open()
    team.connect(account)
    team.index("docs", interval="1h")
    team.until_ready("docs")
    ours: dict[str, Any] = {"namespace": team.namespace}
    person.run("suspend", "vidx/docs", **ours)
    team.until_reason("docs", "Suspended")
    assert chain(person.why(team, "vidx/docs")) == ["VectorIndex docs Suspended"]
    account.ask("tamper", "docs")
    person.run("resume", "vidx/docs", **ours)
    team.until_reason("docs", "Ready")
    account.ask("tamper", "docs")
    told = person.run("reconcile", "vidx/docs", **ours)
    assert told == (f"VectorIndex {team.namespace}/docs: Ready: example has what the spec says\n")
    assert account.holds()["docs"]["replicas"] == 1
    assert "Connected as acme" in person.run("reconcile", "conn/vendor", **ours)


def test_an_object_whose_vendor_is_gone_is_forgotten(vendors: Vendors, team: Team, person: Person):
    account = vendors.open()
    team.connect(account)
    team.index("docs")
    team.until_ready("docs")
    account.ask("fault", "SERVER_ERROR")
    team.delete("docs")
    team.until_reason("docs", "ProviderUnavailable")
    answer = person.why(team, "vidx/docs")
    assert answer["next"][-1]["command"] == (
        f"kubectl auterity forget VectorIndex/docs --namespace={team.namespace}"
    )
    told = person.run("forget", "vidx/docs", "--yes", namespace=team.namespace)
    assert told.startswith("docs stays at example, and nobody looks after it")
    team.until_gone("docs")


def test_kubectl_completes_commands_kinds_and_names(vendors: Vendors, team: Team, person: Person):
    team.connect(vendors.open())
    team.index("docs")
    ask = ("__complete", "auterity")
    assert "doctor\n" in person.call(*ask, "do")
    assert "vectorindex/\n" in person.call(*ask, "why", "vec")
    ours = ("why", "--namespace", team.namespace)
    assert "vectorindex/docs\n" in person.call(*ask, *ours, "vectorindex/")


def test_what_is_wrongly_asked_for_is_said(team: Team, person: Person):
    ours: dict[str, Any] = {"namespace": team.namespace, "code": 1}
    assert "there is no kind 'pod'" in person.run("why", "pod/docs", **ours)
    assert "named KIND/NAME" in person.run("why", "vidx", **ours)
    assert "does not exist" in person.run("why", "vidx/docs", **ours)
    assert "does not exist" in person.run("tree", "vidx/docs", **ours)
    assert "no context 'other'" in person.run("tree", "--context=other", **ours)


def test_an_operator_that_does_not_run_is_told(
    vendors: Vendors, team: Team, person: Person, operator: OperatorProcess
):
    team.connect(vendors.open())
    team.index("docs")
    team.until_ready("docs")
    operator.kill()
    team.edit("docs", example={"replicas": 2})
    deadline = time.monotonic() + 60
    while (
        "no replica of the operator is alive"
        not in (answer := person.why(team, "vidx/docs"))["chain"][0]["says"]
    ):
        assert chain(answer) == ["VectorIndex docs NotLookedAt"]
        assert time.monotonic() < deadline, answer
    report = person.run("doctor", namespace=team.namespace, code=1)
    assert re.search(r"fail +operator +no replica is alive", report)


def test_the_doctor_finds_nothing_amiss_and_what_is(
    vendors: Vendors, team: Team, person: Person, installation: Installation
):
    account = vendors.open()
    team.connect(account)
    team.index("docs")
    team.until_ready("docs")
    report = json.loads(person.run("doctor", "--output=json", namespace=team.namespace))
    levels = {(one["check"], one["level"]) for one in report}
    assert {level for _, level in levels} <= {"ok", "warn"}, report
    for about in ("cluster", "clock here", "operator", "CRDs", "your rights", "connections"):
        assert (about, "ok") in levels, report
    assert (f"rights of {SYSTEM}/auterity", "ok") in levels
    assert any(about.startswith("clock of replica-") for about, _ in levels)

    team.secret(token=vendors.made_up_token())
    team.until_reason("vendor", "CredentialsRejected", "Connection")
    team.api.kubectl("create", "serviceaccount", "powerless", f"--namespace={team.namespace}")
    account_name = f"{team.namespace}/powerless"
    report = person.run(
        *("doctor", f"--service-account={account_name}"), namespace=team.namespace, code=1
    )
    assert re.search(
        rf"fail +connections +Connection {team.namespace}/vendor: CredentialsRejected", report
    )
    assert re.search(
        rf"fail +rights of {account_name} +may not get/list/patch/watch clusterconn", report
    )


def test_a_person_with_few_rights_is_told_what_is_hidden(
    vendors: Vendors, team: Team, person: Person, installation: Installation, cluster: Cluster
):
    team.connect(vendors.open())
    team.index("docs")
    team.until_ready("docs")
    own = ["--namespace", team.namespace]
    kubectl = team.api.kubectl
    kubectl("create", "serviceaccount", "viewer", *own)
    resources = "vectorindexes.integrations.auterity.io,connections.integrations.auterity.io"
    kubectl("create", "role", "viewer", "--verb=get,list", f"--resource={resources}", *own)
    kubectl(
        "create",
        "rolebinding",
        "viewer",
        "--role=viewer",
        f"--serviceaccount={team.namespace}:viewer",
        *own,
    )
    # The API server takes a moment to go by what it was just told of rights.
    viewer = f"--as=system:serviceaccount:{team.namespace}:viewer"
    team.until("docs", lambda _: _may(team, "list", "connections", viewer, *own))
    token = kubectl("create", "token", "viewer", *own).strip()
    config = json.loads(kubectl("config", "view", "--raw", "--minify", "-o", "json"))
    config["users"][0]["user"] = {"token": token}
    path = installation.folder / f"{team.namespace}.kubeconfig"
    path.write_text(json.dumps(config))
    shown = person.run("tree", namespace=team.namespace, kubeconfig=path)
    assert re.search(r"Secret \S+/vendor +secret of example.token +\?", shown)
    assert person.run("why", "vidx/docs", namespace=team.namespace, kubeconfig=path)
    report = person.run("doctor", namespace=team.namespace, kubeconfig=path)
    assert re.search(r"warn +operator +its Leases may not be read by you", report)
    patch = f"patch connections.integrations.auterity.io in {team.namespace}"
    assert re.search(rf"warn +your rights +may not .*{patch}", report)
    assert re.search(r"warn +CRDs +may not be read by you", report)
