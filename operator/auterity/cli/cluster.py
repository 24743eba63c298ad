"""The cluster that a command is about: found as kubectl finds it, and read as far as needed."""

import asyncio
from collections.abc import AsyncIterator, Coroutine, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Annotated, Any, Final, TypeVar

from cyclopts import Parameter

from auterity.api import GROUP, VERSION
from auterity.api.kinds import PLURALS, SHORT_NAMES
from auterity.cli.commands import Commands
from auterity.cli.output import Problem
from auterity.cli.snapshot import (
    Replica,
    SecretSeen,
    Snapshot,
    outputs_secret,
    replica,
    secret_uses,
    time_of,
)
from auterity.engine.cluster import ClusterUnavailable
from auterity.engine.subject import JSON, Key, Subject
from auterity.runtime.cluster import collection
from auterity.runtime.kube import MERGE_PATCH, Kube, KubeError
from auterity.runtime.kubeconfig import Context, KubeconfigError, context
from auterity.runtime.shards import DURATION, LABEL, RENEW
from auterity.runtime.store import trimmed

T = TypeVar("T")
LEASES: Final = "/apis/coordination.k8s.io/v1/leases"
FORBIDDEN: Final = 403
NOT_FOUND: Final = 404
CONFLICT: Final = 409


TheObject = Annotated[
    str,
    Parameter(
        help="The object as KIND/NAME, such as vectorindex/docs or vidx/docs; or its kind alone."
    ),
]
ItsName = Annotated[
    str | None, Parameter(help="Its name, where it does not stand behind the kind.")
]


@Parameter(name="*")
@dataclass(frozen=True)
class Where:
    """Which cluster and namespace, as with kubectl."""

    namespace: Annotated[str | None, Parameter(name=["--namespace", "-n"])] = None
    """Namespace; that of the context if left out."""
    context: str | None = None
    """Context of the kubeconfig; the current one if left out."""


@Parameter(name="*")
@dataclass(frozen=True)
class Scope(Where):
    """The same for commands that can look at all namespaces."""

    all_namespaces: Annotated[bool, Parameter(name=["--all-namespaces", "-A"], negative=())] = False
    """Look at all namespaces."""


def perform(command: Coroutine[Any, Any, T]) -> T:
    """Run a command that talks to a cluster. Raises Problem where the cluster refuses."""
    try:
        return asyncio.run(command)
    except (KubeconfigError, ClusterUnavailable) as error:
        raise Problem(str(error)) from None
    except KubeError as error:
        raise Problem(f"the Kubernetes API refuses: {error.message}") from None


def kind_of(text: str) -> str:
    """The kind that is meant: `VectorIndex`, its plural or short name, with the group or without.

    Raises Problem.
    """
    word = text.lower().removesuffix(f".{GROUP}").removesuffix(f".{VERSION}")
    for name, plural in PLURALS.items():
        if word in (name.lower(), plural, SHORT_NAMES[name]):
            return name
    raise Problem(f"there is no kind {text!r}; there are: {', '.join(PLURALS)}")


def named(kind: str, name: str | None, namespace: str) -> Key:
    """The object that is meant by KIND/NAME or KIND NAME. Raises Problem."""
    if name is None:
        kind, slash, name = kind.partition("/")
        if not slash or not name:
            raise Problem(f"an object is named KIND/NAME, such as VectorIndex/docs; not {kind!r}")
    found = kind_of(kind)
    return Key(found, "" if found == "ClusterConnection" else namespace, name)


class Cluster:
    """Reads and annotates. Raises ClusterUnavailable and KubeError."""

    def __init__(self, where: Where) -> None:
        self.context: Context = context(where.context)
        self.namespace = where.namespace or self.context.namespace
        self.commands = Commands.here(where.context)
        self.kube = Kube(login=self.context.login)

    @classmethod
    @asynccontextmanager
    async def reached(cls, where: Where) -> AsyncIterator["Cluster"]:
        """The cluster, until the connections to it are closed. Raises Problem if it is away."""
        cluster = cls(where)
        try:
            yield cluster
        except ClusterUnavailable as error:
            raise Problem(f"{cluster.context.server or cluster.context.name}: {error}") from None
        finally:
            await cluster.kube.close()

    async def find(self, key: Key) -> Subject | None:
        """One object."""
        raw = await self.kube.find(path(key))
        return None if raw is None else trimmed(raw)

    async def required(self, key: Key) -> Subject:
        """The same. Raises Problem if there is none."""
        if (found := await self.find(key)) is None:
            where = f" in namespace {key.namespace}" if key.namespace else ""
            raise Problem(f"{key.kind} {key.name!r} does not exist{where}")
        return found

    async def patch(self, subject: Subject, body: JSON) -> Subject:
        """Change an object, if it is still the one that was read. Raises KubeError 409 if not."""
        meta = {
            **body.pop("metadata", {}),
            "uid": subject.uid,
            "resourceVersion": subject.resource_version,
        }
        raw = await self.kube.call(
            "PATCH", path(subject.key), {"metadata": meta, **body}, content_type=MERGE_PATCH
        )
        return trimmed(raw)

    async def snapshot(
        self, *, everywhere: bool = False, about: Key | None = None, secrets: bool = True
    ) -> Snapshot:
        """What there is in the namespace, or in all; Secrets only of what `about` may wait for."""
        unread: set[str] = set()
        objects: dict[Key, Subject] = {}

        async def read(kind: str) -> None:
            within = "" if everywhere or kind == "ClusterConnection" else self.namespace
            try:
                async for raw in self.kube.list(collection(kind, within)):
                    subject = trimmed({"kind": kind, **raw})
                    objects[subject.key] = subject
            except KubeError as error:
                if error.status not in (FORBIDDEN, NOT_FOUND):
                    raise
                unread.add(kind)

        _, now = await self.kube.version()
        await asyncio.gather(*(read(kind) for kind in PLURALS))
        if about is not None and about.kind in unread and (one := await self.find(about)):
            objects[about] = one
        found = Snapshot(objects, now=now, unread=frozenset(unread))
        there = list(objects.values()) if about is None else _closure(found, about)
        seen = await self._secrets(there) if secrets else {}
        patient = any(s.status.get("observedGeneration") != s.generation for s in there)
        return Snapshot(
            objects,
            seen,
            await self.replicas(now, patient=patient),
            now,
            frozenset(unread),
        )

    async def replicas(self, now: datetime, *, patient: bool) -> tuple[Replica, ...] | None:
        """The operator's replicas; None if Leases may not be listed.

        One is alive if its Lease was renewed of late. Where clocks may differ, `patient` looks
        twice: a Lease that changes is alive whatever it says.
        """
        try:
            first = await self._leases()
            late = {m["metadata"]["uid"] for m in first if not _fresh(m, now)}
            if not (patient and late):
                return tuple(replica(m, alive=_fresh(m, now)) for m in first)
            await asyncio.sleep(RENEW * 2)
            renewed = {m["metadata"]["uid"]: m["spec"].get("renewTime") for m in first}
            return tuple(
                replica(m, alive=m["spec"].get("renewTime") != renewed.get(m["metadata"]["uid"]))
                for m in await self._leases()
            )
        except KubeError as error:
            if error.status != FORBIDDEN:
                raise
            return None

    async def _leases(self) -> list[JSON]:
        found = await self.kube.call("GET", LEASES, params={"labelSelector": LABEL})
        return list(found.get("items") or ())

    async def _secrets(self, subjects: Iterable[Subject]) -> dict[tuple[str, str], SecretSeen]:
        wanted = {(use.namespace, use.name) for s in subjects for use in secret_uses(s)}
        wanted |= {
            (s.key.namespace, name) for s in subjects if (name := outputs_secret(s)) is not None
        }

        async def read(namespace: str, name: str) -> SecretSeen:
            try:
                raw = await self.kube.find(f"/api/v1/namespaces/{namespace}/secrets/{name}")
            except KubeError as error:
                if error.status != FORBIDDEN:
                    raise
                return SecretSeen(None, readable=False)
            if raw is None:
                return SecretSeen(None)
            owners = raw["metadata"].get("ownerReferences") or ()
            owner = next((o["uid"] for o in owners if o.get("controller")), None)
            # Its values go no further.
            return SecretSeen(frozenset(raw.get("data") or ()), owner)

        places = sorted(wanted)
        return dict(
            zip(places, await asyncio.gather(*(read(*place) for place in places)), strict=True)
        )


def path(key: Key) -> str:
    """Where an object is in the API."""
    return f"{collection(key.kind, key.namespace)}/{key.name}"


def _fresh(lease: JSON, now: datetime) -> bool:
    renewed = time_of((lease.get("spec") or {}).get("renewTime"))
    # The server tells whole seconds.
    return abs((now - renewed.astimezone(UTC)).total_seconds()) < DURATION + 1


def _closure(snapshot: Snapshot, about: Key) -> list[Subject]:
    """The object and all that it waits for, whatever it waits for in its turn."""
    found: dict[Key, Subject] = {}
    left = [about]
    while left:
        key = left.pop()
        subject = snapshot.find(key)
        if subject is None or key in found:
            continue
        found[key] = subject
        left += snapshot.needs(subject)
        if subject.deleting:
            left += [user.key for user in snapshot.users(key)]
    return list(found.values())
