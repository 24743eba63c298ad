"""Where plans and imports take objects and Secrets from: files first, else the cluster."""

import asyncio
import base64
import hashlib
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any, Final

from cyclopts import Parameter
from pydantic import ValidationError

from auterity.api import GROUP
from auterity.api.kinds import CONNECTIONS, KINDS, LOCAL, PLURALS
from auterity.cli.cluster import Cluster, Where
from auterity.cli.files import Manifest, price_lists
from auterity.cli.output import Problem, complain
from auterity.engine import declared as declaration
from auterity.engine.cluster import ClusterUnavailable
from auterity.engine.errors import Rejected
from auterity.engine.plan import DraftCluster, Planner
from auterity.engine.prices import Prices
from auterity.engine.subject import JSON, Key, SecretData, Subject
from auterity.providers import catalogue
from auterity.runtime.cluster import collection
from auterity.runtime.kube import KubeError
from auterity.runtime.kubeconfig import KubeconfigError
from auterity.runtime.store import trimmed

UNKNOWN: Final = "this-cluster"
"""Stands for the cluster in marks where nobody says how it is called."""


@Parameter(name="*")
@dataclass(frozen=True)
class Reach(Where):
    """Which cluster is asked for what the files do not have, and what connections may do."""

    cluster: bool | None = None
    """Whether to take from the cluster what is not in the files: status, Connections, Secrets. If
    left out, it is asked where there is a kubeconfig."""
    cluster_name: str | None = None
    """The operator's --cluster-name, by which it marks what it owns; without one, and without a
    cluster to ask, no object at a vendor can be told to be this cluster's."""
    allow_insecure_endpoints: Annotated[bool, Parameter(negative=())] = False
    """Allow connections whose endpoint is http, not https."""
    lend_identity: Annotated[bool, Parameter(negative=())] = False
    """Let Connections without credentials use the identity of whoever runs this command."""
    prices: Annotated[list[Path] | None, Parameter(negative=())] = None
    """The operator's --prices: files with price lists put over those that come along."""


@dataclass
class Sources:
    """Objects and Secrets, from files over what the cluster has."""

    namespace: str
    """Where objects belong that name none."""
    identity: str | None
    """How the cluster is called in marks; None if nobody says."""
    declared: list[Key]
    """The integrations in the files, in their order."""
    subjects: dict[Key, Subject]
    wrong: dict[Key, str]
    """Edits that the API server would refuse."""
    secrets: dict[tuple[str, str], SecretData] = field(repr=False)
    cluster: Cluster | None

    async def secret(self, namespace: str, name: str) -> SecretData | None:
        """A Secret: of the files, else of the cluster."""
        if (found := self.secrets.get((namespace, name))) is not None or self.cluster is None:
            return found
        path = f"/api/v1/namespaces/{namespace}/secrets/{name}"
        try:
            raw = await self.cluster.kube.find(path)
        except KubeError as error:
            raise ClusterUnavailable(f"Secret {namespace}/{name}: {error.message}") from None
        if raw is None:
            return None
        coded = raw.get("data") or {}
        data = {k: base64.b64decode(v).decode(errors="replace") for k, v in coded.items()}
        meta = raw["metadata"]
        # As the operator itself tells versions apart: what it has written is not written anew.
        return SecretData(data, f"{meta['uid'][:8]}/{meta['resourceVersion']}")


@asynccontextmanager
async def gathered(manifests: Iterable[Manifest], reach: Reach) -> AsyncIterator[Sources]:
    """What the files have, over what the cluster has. Raises Problem, KubeError and the like."""
    cluster = _cluster(reach)
    try:
        yield await _gathered(list(manifests), cluster, reach)
    finally:
        if cluster is not None:
            await cluster.kube.close()


@asynccontextmanager
async def planner(sources: Sources, reach: Reach) -> AsyncIterator[Planner]:
    """The engine over these sources; it can only look."""
    it = Planner(
        DraftCluster(sources.identity or UNKNOWN, sources.subjects, sources.secret),
        catalogue(),
        allow_insecure=reach.allow_insecure_endpoints,
        lend_identity=reach.lend_identity,
        prices=Prices(price_lists(reach.prices or ())),
    )
    try:
        yield it
    finally:
        await it.close()


def _cluster(reach: Reach) -> Cluster | None:
    if reach.cluster is False:
        return None
    try:
        return Cluster(reach)
    except KubeconfigError as error:
        if reach.cluster or reach.context:
            raise Problem(str(error)) from None
        return None


async def _gathered(manifests: list[Manifest], cluster: Cluster | None, reach: Reach) -> Sources:
    namespace = cluster.namespace if cluster else reach.namespace or "default"
    it = Sources(namespace, reach.cluster_name, [], {}, {}, {}, cluster)
    ours = [one for one in manifests if one.ours]
    keys = [_key(one, namespace) for one in ours]
    if cluster is not None:
        try:
            await _ask(cluster, it, {namespace, *(key.namespace for key in keys)} - {""})
        except ClusterUnavailable as error:
            raise Problem(f"{error}; --no-cluster makes do with the files") from None
    for key, one in zip(keys, ours, strict=True):
        live = it.subjects.get(key)
        if live is not None and (words := _refused(live, one)) is not None:
            it.wrong[key] = words
        it.subjects[key] = _subject(key, one, live)
        if key.kind in KINDS:
            it.declared.append(key)
    for key, subject in it.subjects.items():
        if key.kind in CONNECTIONS:
            # Whether it works is found out here, and not taken from what the operator has found.
            it.subjects[key] = replace(subject, status={})
    for one in manifests:
        if (one.kind, one.group) == ("Secret", ""):
            where = (one.namespace or namespace, one.name)
            it.secrets[where] = await _secret(one, where, it)
    return it


def _key(one: Manifest, namespace: str) -> Key:
    home = "" if one.kind == "ClusterConnection" else one.namespace or namespace
    return Key(one.kind, home, one.name)


def _subject(key: Key, one: Manifest, live: Subject | None) -> Subject:
    """The object as it will be once the file is applied."""
    spec: JSON = dict(one.data["spec"])
    annotations = _ours(one.metadata.get("annotations"))
    labels = dict(one.metadata.get("labels") or {})
    if live is None:
        now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        return Subject(key, "", 1, "", now, False, labels, annotations, [], spec, {})  # noqa: FBT003 - not deleting
    edited = not _same(live, spec)
    return replace(
        live,
        spec=spec,
        generation=live.generation + edited,
        labels={**live.labels, **labels},
        annotations={**live.annotations, **annotations},
    )


def _ours(annotations: Any) -> dict[str, str]:
    return {k: str(v) for k, v in (annotations or {}).items() if k.startswith(GROUP)}


def _same(live: Subject, spec: JSON) -> bool:
    """Whether a spec says what the live one does, defaults filled in or not."""
    if live.key.kind in CONNECTIONS:
        return live.spec == spec
    if (kind := LOCAL.get(live.key.kind)) is not None:
        try:
            return kind.spec.model_validate(live.spec) == kind.spec.model_validate(spec)
        except ValidationError:
            return False
    try:
        now = declaration.read(live, catalogue())
        new = declaration.read(replace(live, spec=spec), catalogue())
    except Rejected:
        return False
    return (now.common, now.want) == (new.common, new.want)


def _refused(live: Subject, one: Manifest) -> str | None:
    """Why the API server would refuse the edit of a live object, if it would."""
    if live.key.kind not in KINDS:
        return None
    spec, providers = one.data["spec"], catalogue()
    before = declaration.vendor_of(one.kind, live.spec, providers)
    after = declaration.vendor_of(one.kind, spec, providers)
    if before is not None and before != after:
        return f"the vendor cannot change from {before}: delete it and create it anew"
    if live.spec.get("externalName") != spec.get("externalName"):
        return "spec.externalName cannot change"
    return None


async def _ask(cluster: Cluster, it: Sources, namespaces: set[str]) -> None:
    it.subjects = await live(cluster, namespaces)
    if it.identity is None:
        it.identity = await _identity(cluster)


async def live(cluster: Cluster, namespaces: set[str]) -> dict[Key, Subject]:
    """Every object of ours in these namespaces, and the ClusterConnections."""
    found: dict[Key, Subject] = {}

    async def read(kind: str, namespace: str) -> None:
        try:
            async for raw in cluster.kube.list(collection(kind, namespace)):
                subject = trimmed({"kind": kind, **raw})
                found[subject.key] = subject
        except KubeError as error:
            if error.status == 403:  # noqa: PLR2004 - HTTP
                complain(f"{PLURALS[kind]} may not be listed: {error.message}", "warning")
            elif error.status != 404:  # noqa: PLR2004 - HTTP: its CRD is not installed
                raise

    where = [
        (kind, namespace)
        for kind in PLURALS
        for namespace in ([""] if kind == "ClusterConnection" else sorted(namespaces))
    ]
    await asyncio.gather(*(read(kind, namespace) for kind, namespace in where))
    return found


async def _identity(cluster: Cluster) -> str | None:
    try:
        raw = await cluster.kube.call("GET", "/api/v1/namespaces/kube-system")
    except KubeError:
        return None
    return str(raw["metadata"]["uid"]).replace("-", "")[:12]


async def _secret(one: Manifest, where: tuple[str, str], it: Sources) -> SecretData:
    data: dict[str, str] = {}
    try:
        for name, value in (one.data.get("data") or {}).items():
            data[name] = base64.b64decode(value, validate=True).decode(errors="replace")
    except (ValueError, TypeError, AttributeError):
        raise Problem(f"{one.file}: Secret {one.name}: data is not in base64") from None
    for name, value in (one.data.get("stringData") or {}).items():
        data[name] = str(value)
    live = await it.secret(*where) if it.cluster is not None else None
    if live is not None and live.data.items() >= data.items():
        # Applying the file changes nothing: so what was written from it is not written anew.
        return live
    whole = hashlib.sha256(repr(sorted(data.items())).encode()).hexdigest()[:16]
    return SecretData({**(live.data if live else {}), **data}, f"file/{whole}")
