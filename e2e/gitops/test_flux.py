"""Flux installs the operator and applies what a team declares, by the manifests of docs/gitops."""

import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from e2e.conftest import SYSTEM
from e2e.gitops.conftest import documented
from e2e.gitops.objects import Objects, condition, settled
from e2e.gitops.repository import (
    CONNECTIONS,
    INTEGRATIONS,
    TEAM,
    Repository,
    connection,
    index,
    secret,
)
from e2e.gitops.sources import Sources
from e2e.vendors import Account, Vendors
from tools.controlplane import Controlplane
from tools.flux import NAMESPACE, Flux

pytestmark = pytest.mark.timeout(400)


class Kustomizations:
    """The Kustomizations of the documentation."""

    def __init__(self, objects: Objects) -> None:
        self.objects = objects

    def until(self, name: str, status: str, commit: str, seconds: float = 120) -> Any:
        """Wait until a Kustomization is Ready, or not, under a commit."""

        def true(found: Any) -> bool:
            attempted = ((found or {}).get("status") or {}).get("lastAttemptedRevision", "")
            return commit in attempted and settled(found, status)

        return self.objects.until("kustomization", NAMESPACE, name, true, seconds)


@pytest.fixture(scope="module")
def flux(
    controlplane: Controlplane,
    objects: Objects,
    repo: Repository,
    operator: None,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Kustomizations]:
    with Flux(controlplane), Sources(objects, tmp_path_factory.mktemp("sources")):
        yield Kustomizations(objects)


def test_the_operator_then_connections_then_integrations_become_ready(
    flux: Kustomizations, repo: Repository, account: Account, figure: Callable[[str], None]
):
    begun = time.monotonic()
    flux.objects.apply(*documented("flux.yaml", repo.url))
    flux.until("auterity", "True", "", seconds=240)
    figure(f"the operator is ready after {time.monotonic() - begun:.0f} s")
    release = flux.objects.find("helmrelease", SYSTEM, "auterity")
    assert condition(release)["reason"] == "InstallSucceeded"
    flux.until("search-integrations", "True", "")
    figure(f"the team's integrations after {time.monotonic() - begun:.0f} s")
    assert account.holds().keys() == {"articles"}
    vendor = flux.objects.find("connection", TEAM, "vendor")
    articles = flux.objects.find("vectorindex", TEAM, "articles")
    assert condition(vendor)["lastTransitionTime"] <= articles["metadata"]["creationTimestamp"]


def test_a_refused_name_fails_at_once_and_a_commit_heals(
    flux: Kustomizations, repo: Repository, account: Account, figure: Callable[[str], None]
):
    path = f"{INTEGRATIONS}/pictures.yaml"
    repo.write(path, index("pictures", externalName="_pictures"))
    begun = time.monotonic()
    commit = repo.push("Name it as the vendor does not like")
    found = flux.until("search-integrations", "False", commit, seconds=60)
    figure(f"failed {time.monotonic() - begun:.1f} s after the push, of 300 s that it may wait")
    assert condition(found)["reason"] == "HealthCheckFailed"
    assert "VectorIndex/search/pictures" in condition(found)["message"]
    repo.write(path, index("paintings"))
    begun = time.monotonic()
    flux.until("search-integrations", "True", repo.push("Name it well"))
    figure(f"ready {time.monotonic() - begun:.1f} s after the next")
    assert account.holds().keys() == {"articles", "paintings"}
    assert flux.objects.find("vectorindex", TEAM, "pictures") is None


def test_refused_credentials_fail_at_once_and_a_commit_heals(
    flux: Kustomizations, repo: Repository, account: Account, vendors: Vendors
):
    path = f"{CONNECTIONS}/vendor.yaml"
    # Another Secret, and so another Connection to wait for: see docs/gitops/flux.md.
    wrong = secret(vendors.made_up_token(), "vendor-2")
    repo.write(path, wrong, connection(account, "vendor-2"))
    found = flux.until("search-connections", "False", repo.push("Mistype the token"), seconds=60)
    assert "Connection/search/vendor" in condition(found)["message"]
    repo.write(path, secret(account.token, "vendor-3"), connection(account, "vendor-3"))
    commit = repo.push("Type it right")
    flux.until("search-connections", "True", commit)
    flux.until("search-integrations", "True", commit)


def test_what_waits_for_approval_waits(flux: Kustomizations, repo: Repository):
    repo.write(f"{INTEGRATIONS}/manual.yaml", index("manual", approval="Always"))
    commit = repo.push("Ask a person first")
    manual = flux.objects.until(
        "vectorindex", TEAM, "manual", lambda found: found and found["status"].get("plan")
    )
    note = f"integrations.auterity.io/approve={manual['status']['plan']['hash']}"
    flux.objects.annotate("vectorindex", TEAM, "manual", note)
    flux.until("search-integrations", "True", commit)


def test_what_was_edited_in_the_cluster_is_set_back(flux: Kustomizations, account: Account):
    patch = '{"spec": {"example": {"replicas": 5}}}'
    flux.objects.kubectl(
        *("patch", "vectorindex", "articles", f"--namespace={TEAM}"),
        *("--type=merge", f"--patch={patch}"),
    )
    note = "reconcile.fluxcd.io/requestedAt=now"
    flux.objects.annotate("kustomization", NAMESPACE, "search-integrations", note)
    flux.objects.until(
        "vectorindex",
        TEAM,
        "articles",
        lambda found: found["spec"]["example"]["replicas"] == 1 and settled(found, "True"),
    )
    assert account.holds()["articles"]["replicas"] == 1


def test_what_git_loses_is_pruned_and_retained_data_stays(
    flux: Kustomizations, repo: Repository, account: Account
):
    repo.write(f"{INTEGRATIONS}/articles.yaml", index("articles", deletionPolicy="Retain"))
    # Its deletion would have to be approved, too.
    repo.write(f"{INTEGRATIONS}/manual.yaml", index("manual"))
    flux.until("search-integrations", "True", repo.push("Keep the data"))
    repo.remove(f"{INTEGRATIONS}/articles.yaml")
    repo.remove(f"{INTEGRATIONS}/manual.yaml")
    flux.until("search-integrations", "True", repo.push("Declare them no more"))
    flux.objects.until("vectorindex", TEAM, "articles", lambda found: found is None)
    flux.objects.until("vectorindex", TEAM, "manual", lambda found: found is None)
    assert account.holds().keys() == {"articles", "paintings"}


def test_no_token_is_in_what_flux_tells(controlplane: Controlplane, vendors: Vendors):
    logs = [
        controlplane.folder / name / "log" for name in ("kustomize-controller", "helm-controller")
    ]
    told = "".join(path.read_text() for path in logs)
    told += controlplane.kubectl("get", "kustomizations,helmreleases", "-A", "-o", "yaml")
    told += controlplane.kubectl("get", "events", "-A", "-o", "yaml")
    assert not [token for token in vendors.secrets if token in told]
