"""Argo CD installs the operator and syncs what a team declares, by the manifests of docs/gitops."""

import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from e2e.gitops.conftest import DOCS, documented
from e2e.gitops.objects import Objects, condition
from e2e.gitops.repository import CONNECTIONS, INTEGRATIONS, TEAM, Repository, index
from e2e.vendors import Account, Vendors
from tools.argocd import CLUSTER, NAMESPACE, ArgoCD
from tools.controlplane import Controlplane

pytestmark = pytest.mark.timeout(400)


class Applications:
    """The Applications of the documentation."""

    def __init__(self, objects: Objects, repo: Repository) -> None:
        self.objects = objects
        self._repo = repo

    def push(self, message: str) -> str:
        """Push, and tell Argo CD of it as a webhook of the forge would."""
        commit = self._repo.push(message)
        self.objects.annotate("application", NAMESPACE, TEAM, "argocd.argoproj.io/refresh=normal")
        return commit

    def until(self, name: str, health: str, commit: str = "", seconds: float = 120) -> Any:
        """Wait until an Application has a health under a commit; a healthy one is also synced."""

        def true(found: Any) -> bool:
            status = (found or {}).get("status") or {}
            last = status.get("operationState") or {}
            done = last.get("phase") == "Succeeded" and status["sync"]["status"] == "Synced"
            return bool(
                (status.get("health") or {}).get("status") == health
                and commit in (last.get("syncResult") or {}).get("revision", "")
                and (health != "Healthy" or done)
            )

        return self.objects.until("application", NAMESPACE, name, true, seconds)


@pytest.fixture(scope="module")
def apps(
    controlplane: Controlplane, objects: Objects, repo: Repository, operator: None
) -> Iterator[Applications]:
    with ArgoCD(controlplane):
        controlplane.kubectl("apply", "--server-side", f"--filename={DOCS / 'argocd-cm.yaml'}")
        yield Applications(objects, repo)


def test_the_operator_then_connections_then_integrations_become_healthy(
    apps: Applications, repo: Repository, account: Account, figure: Callable[[str], None]
):
    made = documented("argocd-applications.yaml", repo.url)
    for application in made:
        application["spec"]["destination"]["name"] = CLUSTER
    begun = time.monotonic()
    apps.objects.apply(*made)
    apps.until("auterity", "Healthy", seconds=180)
    figure(f"the operator is healthy after {time.monotonic() - begun:.0f} s")
    found = apps.until(TEAM, "Healthy", seconds=180)
    figure(f"the team's integrations after {time.monotonic() - begun:.0f} s")
    assert account.holds().keys() == {"articles"}
    connection = apps.objects.find("connection", TEAM, "vendor")
    articles = apps.objects.find("vectorindex", TEAM, "articles")
    assert condition(connection)["lastTransitionTime"] <= articles["metadata"]["creationTimestamp"]
    assert found["status"]["sync"]["status"] == "Synced", "nothing of ours looks like drift to it"


def test_a_refused_name_degrades_and_a_commit_heals(
    apps: Applications, repo: Repository, account: Account, figure: Callable[[str], None]
):
    path = f"{INTEGRATIONS}/pictures.yaml"
    repo.write(path, index("pictures", externalName="_pictures"))
    begun = time.monotonic()
    commit = apps.push("Name it as the vendor does not like")
    found = apps.until(TEAM, "Degraded", commit)
    figure(f"degraded {time.monotonic() - begun:.1f} s after the push")
    assert "VectorIndex:search/pictures" in found["status"]["health"]["message"]
    refused = condition(apps.objects.find("vectorindex", TEAM, "pictures"))
    assert "name must start with a letter" in refused["message"]
    # A name cannot change: another object takes the place of the refused one.
    repo.write(path, index("paintings"))
    begun = time.monotonic()
    apps.until(TEAM, "Healthy", apps.push("Name it well"))
    figure(f"healthy {time.monotonic() - begun:.1f} s after the next")
    assert account.holds().keys() == {"articles", "paintings"}
    assert apps.objects.find("vectorindex", TEAM, "pictures") is None


def test_refused_credentials_degrade_and_a_commit_heals(
    apps: Applications, repo: Repository, account: Account, vendors: Vendors
):
    path = f"{CONNECTIONS}/vendor.yaml"
    good = (repo.folder / path).read_text()
    (repo.folder / path).write_text(good.replace(account.token, vendors.made_up_token()))
    apps.until(TEAM, "Degraded", apps.push("Mistype the token"))
    found = apps.objects.find("connection", TEAM, "vendor")
    assert condition(found)["reason"] == "CredentialsRejected"
    (repo.folder / path).write_text(good)
    apps.until(TEAM, "Healthy", apps.push("Type it right"))


def test_drift_at_the_vendor_is_the_operators_and_drift_in_the_cluster_is_argos(
    apps: Applications, account: Account
):
    before = apps.until(TEAM, "Healthy")["status"]["history"]
    account.ask("edit", "articles", {"replicas": 7})
    note = "integrations.auterity.io/requestedAt=now"
    apps.objects.annotate("vectorindex", TEAM, "articles", note)
    apps.objects.until(
        "vectorindex", TEAM, "articles", lambda _: account.holds()["articles"]["replicas"] == 1
    )
    after = apps.until(TEAM, "Healthy")["status"]["history"]
    assert after == before, "Argo CD had nothing to sync"
    patch = '{"spec": {"example": {"replicas": 5}}}'
    apps.objects.kubectl(
        *("patch", "vectorindex", "articles", f"--namespace={TEAM}"),
        *("--type=merge", f"--patch={patch}"),
    )
    apps.objects.until(
        "vectorindex",
        TEAM,
        "articles",
        lambda found: (
            found["spec"]["example"]["replicas"] == 1
            and found["status"]["observedGeneration"] == found["metadata"]["generation"]
        ),
    )
    apps.until(TEAM, "Healthy")
    assert account.holds()["articles"]["replicas"] == 1


def test_what_waits_for_approval_suspends(apps: Applications, repo: Repository):
    repo.write(f"{INTEGRATIONS}/manual.yaml", index("manual", approval="Always"))
    commit = apps.push("Ask a person first")

    def suspended(found: Any) -> bool:
        status = found["status"]
        running = status.get("operationState") or {}
        revision = ((running.get("operation") or {}).get("sync") or {}).get("revision")
        return bool(status["health"]["status"] == "Suspended" and revision == commit)

    apps.objects.until("application", NAMESPACE, TEAM, suspended)
    manual = apps.objects.find("vectorindex", TEAM, "manual")
    note = f"integrations.auterity.io/approve={manual['status']['plan']['hash']}"
    apps.objects.annotate("vectorindex", TEAM, "manual", note)
    apps.until(TEAM, "Healthy", commit)


def test_what_git_loses_is_pruned_and_retained_data_stays(
    apps: Applications, repo: Repository, account: Account
):
    repo.write(f"{INTEGRATIONS}/articles.yaml", index("articles", deletionPolicy="Retain"))
    # Its deletion would have to be approved, too.
    repo.write(f"{INTEGRATIONS}/manual.yaml", index("manual"))
    apps.until(TEAM, "Healthy", apps.push("Keep the data"))
    repo.remove(f"{INTEGRATIONS}/articles.yaml")
    repo.remove(f"{INTEGRATIONS}/manual.yaml")
    apps.until(TEAM, "Healthy", apps.push("Declare them no more"))
    apps.objects.until("vectorindex", TEAM, "articles", lambda found: found is None)
    apps.objects.until("vectorindex", TEAM, "manual", lambda found: found is None)
    assert account.holds().keys() == {"articles", "paintings"}


def test_deleting_the_application_deletes_integrations_before_their_connection(
    apps: Applications, account: Account
):
    apps.objects.kubectl("delete", "application", TEAM, f"--namespace={NAMESPACE}", "--wait=false")
    apps.objects.until("application", NAMESPACE, TEAM, lambda found: found is None)
    assert apps.objects.every("vectorindexes") == []
    assert apps.objects.every("connections") == []
    assert account.holds().keys() == {"articles"}


def test_no_token_is_in_what_argo_cd_tells(controlplane: Controlplane, vendors: Vendors):
    told = "".join(path.read_text() for path in (controlplane.folder / "argocd").glob("*.log"))
    told += controlplane.kubectl("get", "applications", "-A", "-o", "yaml")
    told += controlplane.kubectl("get", "events", "-A", "-o", "yaml")
    assert not [token for token in vendors.secrets if token in told]
