"""`auterity doctor`: whether the cluster, the operator and our rights are as they should be."""

import asyncio
import sys
from collections.abc import AsyncIterator, Iterable, Mapping
from datetime import UTC, datetime
from typing import Annotated, Final

from cyclopts import Parameter

from auterity.api import GROUP
from auterity.api.rights import rules
from auterity.cli import checks
from auterity.cli.checks import Ask, Check, Level
from auterity.cli.cluster import FORBIDDEN, Cluster, Where, perform
from auterity.cli.output import FAILED, Cell, Output, Problem, Styled, Table, show
from auterity.cli.reasons import LABEL
from auterity.cli.snapshot import Replica
from auterity.engine.cluster import ClusterUnavailable
from auterity.engine.subject import JSON
from auterity.runtime.kube import KubeError
from auterity.runtime.kubeconfig import KubeconfigError

CRDS: Final = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
REVIEWS: Final = "/apis/authorization.k8s.io/v1"
ADMISSION: Final = "/apis/admissionregistration.k8s.io"
CONNECTIONS: Final = ("connections", "clusterconnections")
STYLES: Final = {Level.OK: "green", Level.WARN: "yellow", Level.FAIL: "bold red"}
FOR_PEOPLE: Final = (
    ("", "secrets", ("get",)),
    ("coordination.k8s.io", "leases", ("list",)),
)
"""What these commands ask for besides integrations."""


def doctor(
    *,
    service_account: Annotated[str | None, Parameter(name="--service-account")] = None,
    where: Where | None = None,
    output: Output = "table",
) -> None:
    """Check the cluster, the operator's replicas and rights, connections and objects.

    Exits with 1 if a check fails.

    Parameters
    ----------
    service_account
        The operator's, as NAMESPACE/NAME; those that the chart has made if left out.
    output
        How it is printed.
    """
    found = perform(_report(where or Where(), service_account))
    rows: list[tuple[Cell, ...]] = []
    for check in found:
        rows.append((Styled(check.level, STYLES[check.level]), check.about, check.says))
        if check.fix:
            rows.append(("", "", f"fix: {check.fix}"))
    show(checks.as_json(found), Table(("Result", "Check", "Found"), rows), output=output)
    if any(check.level is Level.FAIL for check in found):
        sys.exit(FAILED)


async def _report(where: Where, account: str | None) -> list[Check]:
    async with Cluster.reached(where) as cluster:
        return [check async for check in _checks(cluster, where, account)]


async def _checks(cluster: Cluster, where: Where, account: str | None) -> AsyncIterator[Check]:
    server = cluster.context.server or "its own cluster"
    try:
        version, now = await cluster.kube.version()
    except (ClusterUnavailable, KubeError, KubeconfigError) as error:
        fix = "see that the server can be reached and your credentials are good: kubectl version"
        yield Check("cluster", Level.FAIL, f"{server}: {error}", fix)
        return
    yield Check("cluster", Level.OK, f"Kubernetes {version['gitVersion']} at {server}")
    yield checks.clock(datetime.now(UTC), now)
    replicas = await cluster.replicas(now, patient=True)
    _, now = await cluster.kube.version()
    alive = [replica for replica in replicas or () if replica.alive]
    for check in checks.replicas(replicas, now, cluster.commands):
        yield check
    from auterity.cli import schema

    wanted = schema.crds()
    installed = await _definitions(cluster)
    releases = [replica.release for replica in alive if replica.release]
    for check in checks.definitions(wanted, installed, releases):
        yield check
    kinds = [crd["spec"]["names"]["plural"] for crd in wanted]
    yield await _own_rights(cluster, kinds)
    needed = rules(kind for kind in kinds if kind not in CONNECTIONS)
    async for check in _operators_rights(cluster, needed, replicas or (), alive, account):
        yield check
    yield await _policy(cluster)
    snapshot = await cluster.snapshot(everywhere=where.namespace is None, secrets=False)
    if snapshot.unread and where.namespace is None:
        snapshot = await cluster.snapshot(secrets=False)
    for check in checks.connections(snapshot, cluster.commands):
        yield check
    for check in checks.integrations(snapshot, cluster.commands):
        yield check


async def _definitions(cluster: Cluster) -> dict[str, JSON] | None:
    try:
        return {
            crd["metadata"]["name"]: crd
            async for crd in cluster.kube.list(CRDS)
            if crd["spec"]["group"] == GROUP
        }
    except KubeError as error:
        if error.status != FORBIDDEN:
            raise
        return None


async def _own_rights(cluster: Cluster, kinds: Iterable[str]) -> Check:
    wanted = [
        Ask(verb, GROUP, plural, "" if plural == CONNECTIONS[1] else cluster.namespace)
        for plural in kinds
        for verb in ("get", "list", "patch")
    ]
    wanted += [
        Ask(verb, group, resource, "" if group else cluster.namespace)
        for group, resource, verbs in FOR_PEOPLE
        for verb in verbs
    ]
    denied = await _denied(cluster, "selfsubjectaccessreviews", wanted)
    fix = "ask for a role with these rights; without them these commands tell less"
    return checks.rights("your rights", denied, level=Level.WARN, fix=fix)


async def _operators_rights(
    cluster: Cluster,
    needed: Mapping[str, list[JSON]],
    replicas: Iterable[Replica],
    alive: Iterable[Replica],
    account: str | None,
) -> AsyncIterator[Check]:
    accounts = [account] if account else await _accounts(cluster, replicas)
    served = sorted({namespace for replica in alive for namespace in replica.serves}) or [""]
    if not accounts:
        fix = "name it: --service-account NAMESPACE/NAME"
        yield Check("operator's rights", Level.WARN, "its ServiceAccount was not found", fix)
    for one in accounts:
        namespace, slash, name = one.partition("/")
        if not slash or not name:
            raise Problem("--service-account is written NAMESPACE/NAME")
        wanted = checks.asks(needed["cluster"])
        for place in served:
            wanted += checks.asks(needed["namespaced"], place)
        wanted += checks.asks(needed["own"], namespace)
        user = {
            "user": f"system:serviceaccount:{namespace}:{name}",
            "groups": [
                "system:serviceaccounts",
                f"system:serviceaccounts:{namespace}",
                "system:authenticated",
            ],
        }
        denied = await _denied(cluster, "subjectaccessreviews", wanted, user)
        fix = "install the chart of this version with rbac.create, or grant the rules in its files"
        yield checks.rights(f"rights of {one}", denied, level=Level.FAIL, fix=fix)


async def _accounts(cluster: Cluster, replicas: Iterable[Replica]) -> list[str]:
    """The chart's ServiceAccounts, where replicas have their Leases."""
    found = []
    for namespace in sorted({replica.namespace for replica in replicas}):
        where = f"/api/v1/namespaces/{namespace}/serviceaccounts"
        try:
            there = [one async for one in cluster.kube.list(where, labelSelector=LABEL)]
        except KubeError as error:
            if error.status != FORBIDDEN:
                raise
            continue
        found += [f"{namespace}/{one['metadata']['name']}" for one in there]
    return found


async def _denied(
    cluster: Cluster, reviews: str, wanted: Iterable[Ask], user: JSON | None = None
) -> list[Ask] | None:
    """The rights that are missing; None if they may not be asked for."""

    async def allowed(ask: Ask) -> bool:
        resource, _, part = ask.resource.partition("/")
        attributes = {
            "verb": ask.verb,
            "group": ask.group,
            "resource": resource,
            "subresource": part,
            "namespace": ask.namespace,
            "name": ask.name,
        }
        spec = {**(user or {}), "resourceAttributes": attributes}
        kind = "SelfSubjectAccessReview" if user is None else "SubjectAccessReview"
        body = {"apiVersion": "authorization.k8s.io/v1", "kind": kind, "spec": spec}
        answer = await cluster.kube.call("POST", f"{REVIEWS}/{reviews}", body)
        return bool(answer["status"]["allowed"])

    asked = list(wanted)
    try:
        answers = await asyncio.gather(*(allowed(ask) for ask in asked))
    except KubeError as error:
        if error.status != FORBIDDEN:
            raise
        return None
    return [ask for ask, answer in zip(asked, answers, strict=True) if not answer]


async def _policy(cluster: Cluster) -> Check:
    group = await cluster.kube.find(ADMISSION) or {}
    for version in group.get("versions") or ():
        where = f"/apis/{version['groupVersion']}"
        listed = await cluster.kube.find(where) or {}
        if any(r["name"] == "mutatingadmissionpolicies" for r in listed.get("resources") or ()):
            name = f"{where}/mutatingadmissionpolicies/finalizer.{GROUP}"
            try:
                return checks.policy(
                    available=True, installed=await cluster.kube.find(name) is not None
                )
            except KubeError as error:
                if error.status != FORBIDDEN:
                    raise
                return checks.policy(available=True, installed=None)
    return checks.policy(available=False, installed=None)
