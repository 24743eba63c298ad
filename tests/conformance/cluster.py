"""A cluster in memory: the engine's side of the Kubernetes API, counting every write."""

import copy
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any

from auterity.api.annotations import FINALIZER
from auterity.api.kinds import PRICED
from auterity.engine.changelog import ChangeRecord
from auterity.engine.cluster import ClusterUnavailable, SubjectGone
from auterity.engine.errors import Busy, Conflict
from auterity.engine.subject import JSON, Key, SecretData, Subject
from auterity.engine.tally import Tally

NAMESPACE = "team"


@dataclass
class MemoryCluster:
    """Objects, Secrets and Events in dictionaries. Time stands still unless moved by `pass_`."""

    identity: str = "testcluster"
    subjects: dict[Key, Subject] = field(default_factory=dict)
    secrets: dict[tuple[str, str], dict[str, str]] = field(default_factory=dict)
    secret_versions: dict[tuple[str, str], int] = field(default_factory=dict)
    owners: dict[tuple[str, str], str] = field(default_factory=dict)
    events: list[tuple[str, str, str]] = field(default_factory=list)
    writes: list[str] = field(default_factory=list)
    clock: datetime = datetime(2026, 1, 1, tzinfo=UTC)
    uids: int = 0
    shared: bool = False
    """Whether there are other replicas."""

    def now(self) -> str:
        return self.clock.strftime("%Y-%m-%dT%H:%M:%SZ")

    def pass_(self, **time: float) -> None:
        self.clock += timedelta(**time)

    def put(self, kind: str, name: str, spec: JSON, namespace: str = NAMESPACE, **more: Any) -> Key:
        """Create an object, or edit its spec as `kubectl apply` would."""
        key = Key(kind, namespace, name)
        if (old := self.subjects.get(key)) is not None:
            generation = old.generation + (old.spec != spec)
            self.subjects[key] = _newer(
                old, spec=copy.deepcopy(spec), generation=generation, **more
            )
            return key
        self.uids += 1
        blank: dict[str, Any] = {"labels": {}, "annotations": {}, "finalizers": []}
        self.subjects[key] = Subject(
            key=key,
            uid=f"uid-{self.uids}",
            generation=1,
            resource_version="1",
            created_at=self.now(),
            deleting=False,
            spec=copy.deepcopy(spec),
            status={"observedGeneration": -1},
            **{**blank, **more},
        )
        return key

    def put_secret(self, name: str, data: Mapping[str, str], namespace: str = NAMESPACE) -> None:
        where = (namespace, name)
        self.secrets[where] = dict(data)
        self.secret_versions[where] = self.secret_versions.get(where, 0) + 1

    def delete(self, key: Key) -> None:
        """As `kubectl delete`: gone at once unless our finalizer keeps it."""
        subject = self.subjects[key]
        if subject.kept:
            self.subjects[key] = _newer(subject, deleting=True)
        else:
            del self.subjects[key]

    def find(self, key: Key) -> Subject | None:
        return self.subjects.get(key)

    def select(self, kind: str, namespace: str, labels: Mapping[str, str]) -> list[Subject]:
        return [
            s
            for k, s in self.subjects.items()
            if (k.kind, k.namespace) == (kind, namespace) and labels.items() <= s.labels.items()
        ]

    def users(self, connection: Key) -> list[Key]:
        def uses(subject: Subject) -> bool:
            ref = subject.spec.get("connectionRef", {})
            namespace = (
                subject.key.namespace if ref.get("kind", "Connection") == "Connection" else ""
            )
            return Key(ref.get("kind", "Connection"), namespace, ref.get("name", "")) == connection

        return [k for k, s in self.subjects.items() if uses(s)]

    def tally(self, namespace: str) -> Tally:
        return Tally(s for kind in PRICED for s in self.select(kind, namespace, {}))

    async def read_all(self, kind: str, namespace: str) -> list[Subject]:
        return self.select(kind, namespace, {})

    async def exists(self, subject: Subject) -> bool:
        found = self.subjects.get(subject.key)
        return found is not None and found.uid == subject.uid

    async def secret(self, namespace: str, name: str) -> SecretData | None:
        where = (namespace, name)
        if where not in self.secrets:
            return None
        version = f"{name}/{self.secret_versions.get(where, 0)}"
        return SecretData(dict(self.secrets[where]), version, self.owners.get(where))

    def secret_store(self, namespace: str) -> "MemorySecrets":
        return MemorySecrets(self, namespace)

    async def patch_metadata(
        self,
        subject: Subject,
        *,
        finalizer: bool | None = None,
        annotations: Mapping[str, str | None] | None = None,
    ) -> Subject:
        self.writes.append("metadata")
        newest = self._newest(subject)
        finalizers = list(newest.finalizers)
        if finalizer and FINALIZER not in finalizers:
            finalizers.append(FINALIZER)
        if finalizer is False:
            finalizers = [f for f in finalizers if f != FINALIZER]
        merged = {**newest.annotations, **(annotations or {})}
        newest = _newer(
            newest,
            finalizers=finalizers,
            annotations={k: v for k, v in merged.items() if v is not None},
        )
        if newest.deleting and not finalizers:
            del self.subjects[subject.key]
        else:
            self.subjects[subject.key] = newest
        return newest

    async def write_status(
        self, subject: Subject, status: JSON, *, unchanged: bool = False
    ) -> Subject:
        newest = self._newest(subject)
        if unchanged and newest.resource_version != subject.resource_version:
            raise ClusterUnavailable("the object has been modified")
        self.writes.append("status")
        newest = _newer(newest, status=copy.deepcopy(status))
        self.subjects[subject.key] = newest
        return newest

    async def publish(
        self, subject: Subject, name: str, data: Mapping[str, str], *, exactly: bool = False
    ) -> None:
        where = (subject.key.namespace, name)
        if where in self.secrets and self.owners.get(where) != subject.uid:
            raise Conflict(f"Secret {name!r} exists and is not ours")
        merged = {**({} if exactly else self.secrets.get(where, {})), **data}
        if self.secrets.get(where) != merged:
            self.writes.append("secret")
            self.put_secret(name, merged, subject.key.namespace)
            self.owners[where] = subject.uid

    async def event(self, subject: Subject, type_: str, reason: str, message: str) -> None:
        self.writes.append("event")
        self.events.append((type_, reason, message))

    def _newest(self, subject: Subject) -> Subject:
        found = self.subjects.get(subject.key)
        if found is None or found.uid != subject.uid:
            raise SubjectGone(str(subject.key))
        return found


def _newer(subject: Subject, **changes: Any) -> Subject:
    version = str(int(subject.resource_version) + 1)
    return replace(subject, resource_version=version, **changes)


@dataclass(frozen=True)
class MemorySecrets:
    """The Secrets of one namespace, with optimistic locking."""

    cluster: MemoryCluster
    namespace: str

    async def read(self, name: str) -> tuple[dict[str, str], str] | None:
        found = await self.cluster.secret(self.namespace, name)
        return None if found is None else (found.data, found.version)

    async def write(self, name: str, data: Mapping[str, str], version: str | None) -> str:
        found = await self.cluster.secret(self.namespace, name)
        if (found.version if found else None) != version:
            raise Busy(f"Secret {name!r} was changed by someone else")
        self.cluster.put_secret(name, data, self.namespace)
        return f"{name}/{self.cluster.secret_versions[self.namespace, name]}"


@dataclass
class Recorder:
    """Keeps all that the engine tells of its visits, calls and changes."""

    visits: list[tuple[str, str, str]] = field(default_factory=list)
    calls: list[tuple[str, str, str]] = field(default_factory=list)
    drift: list[str] = field(default_factory=list)
    probes: list[bool] = field(default_factory=list)
    checks: list[str] = field(default_factory=list)
    changes: list[ChangeRecord] = field(default_factory=list)

    def called(self, vendor: str, method: str, status: str, seconds: float) -> None:
        self.calls.append((vendor, method, status))

    def waited(self, vendor: str, connection: str, seconds: float) -> None:
        pass

    def visited(self, kind: str, vendor: str, outcome: str, seconds: float) -> None:
        self.visits.append((kind, vendor, outcome))

    def drifted(self, kind: str, vendor: str, fields: Iterable[str]) -> None:
        self.drift.extend(fields)

    def probed(self, kind: str, vendor: str, seconds: float, *, passed: bool) -> None:
        self.probes.append(passed)

    def checked(self, kind: str, vendor: str, verdict: str) -> None:
        self.checks.append(verdict)

    def write(self, record: ChangeRecord) -> None:
        self.changes.append(record)
