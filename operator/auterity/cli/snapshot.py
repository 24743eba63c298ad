"""What was read of a cluster: our objects, the keys of their Secrets, the operator's replicas."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Final, NamedTuple

from auterity.api.common import ConnectionRef
from auterity.api.kinds import CONNECTIONS, LOCAL, ROUTE
from auterity.engine.connections import connection_key
from auterity.engine.subject import JSON, Key, Subject

LONG_AGO: Final = datetime.fromtimestamp(0, UTC)


class SecretUse(NamedTuple):
    """A key of a Secret that a spec refers to."""

    namespace: str
    name: str
    key: str
    path: str
    """Where it stands in the spec, such as `pinecone.apiKey`."""


class ObjectUse(NamedTuple):
    """Other integrations that a spec refers to: one by name, or those with these labels."""

    kind: str
    name: str | None
    labels: tuple[tuple[str, str], ...]
    output: str | None
    """The output that is taken from it; None if it must only be ready."""
    path: str

    def __str__(self) -> str:
        if self.name is not None:
            return f"{self.kind} {self.name}"
        return f"{self.kind} with {','.join(f'{k}={v}' for k, v in self.labels)}"


@dataclass(frozen=True, slots=True)
class SecretSeen:
    """A Secret, without its values."""

    keys: frozenset[str] | None
    """None if there is no such Secret."""
    owner_uid: str | None = None
    readable: bool = True
    """Whether it may be read by whoever asks."""


@dataclass(frozen=True, slots=True)
class Replica:
    """A process of the operator, as its Lease tells."""

    name: str
    namespace: str
    alive: bool
    renewed: datetime
    serves: tuple[str, ...] = ()
    """Namespaces; all if empty."""
    without: tuple[str, ...] = ()
    """Kinds that it leaves alone."""
    release: str = ""
    goes_by: frozenset[str] = frozenset()
    """The replicas that it knows of."""

    def keeps(self, key: Key) -> bool:
        """Whether an object is among those that it serves."""
        if self.leaves_out(key.kind) is not None:
            return False
        return not self.serves or not key.namespace or key.namespace in self.serves

    def leaves_out(self, kind: str) -> str | None:
        """The kind that it leaves alone, and this one with it."""
        if kind in self.without:
            return kind
        # Without deployments, say, there is nothing to route to.
        about = LOCAL[kind].about if kind in LOCAL else ()
        return about[0] if about and {*about} <= {*self.without} else None


def replica(lease: JSON, *, alive: bool) -> Replica:
    """A replica from its Lease. What is unreadable in it is left out."""
    meta, spec = lease["metadata"], lease.get("spec") or {}
    notes = meta.get("annotations") or {}
    prefix = "integrations.auterity.io/"
    serves = _parsed(notes.get(f"{prefix}serves"), {})
    return Replica(
        name=meta["name"],
        namespace=meta["namespace"],
        alive=alive,
        renewed=time_of(spec.get("renewTime")),
        serves=tuple(serves.get("namespaces") or ()),
        without=tuple(serves.get("without") or ()),
        release=str(notes.get(f"{prefix}release", "")),
        goes_by=frozenset(_parsed(notes.get(f"{prefix}members"), [])),
    )


def time_of(text: str | None) -> datetime:
    """A time of the API; long ago if there is none."""
    try:
        return datetime.fromisoformat(text or "")
    except ValueError:
        return LONG_AGO


def _parsed(text: str | None, otherwise: Any) -> Any:
    try:
        found = json.loads(text or "")
    except ValueError:
        return otherwise
    return found if isinstance(found, type(otherwise)) else otherwise


@dataclass(frozen=True, slots=True)
class Snapshot:
    """Everything that is looked at; nothing is asked for later."""

    objects: Mapping[Key, Subject]
    secrets: Mapping[tuple[str, str], SecretSeen] = field(default_factory=dict)
    """By namespace and name."""
    replicas: tuple[Replica, ...] | None = None
    """None if Leases may not be listed by whoever asks."""
    now: datetime = LONG_AGO
    """By the API server's clock."""
    unread: frozenset[str] = frozenset()
    """Kinds that may not be listed by whoever asks, or are not installed."""

    def find(self, key: Key) -> Subject | None:
        """An object."""
        return self.objects.get(key)

    def meant(self, use: ObjectUse, namespace: str) -> list[Subject]:
        """The objects that a reference means."""
        if use.name is not None:
            found = self.find(Key(use.kind, namespace, use.name))
            return [found] if found else []
        labels = dict(use.labels)
        return [
            subject
            for key, subject in sorted(self.objects.items())
            if (key.kind, key.namespace) == (use.kind, namespace)
            and labels.items() <= subject.labels.items()
        ]

    def needs(self, subject: Subject) -> list[Key]:
        """What an object waits for: its connection and the integrations that it refers to."""
        connection = connection_of(subject)
        found = [connection] if connection is not None else []
        for use in uses(subject):
            found += [other.key for other in self.meant(use, subject.key.namespace)]
        return found

    def users(self, connection: Key) -> list[Subject]:
        """The integrations that use a connection."""
        return [s for _, s in sorted(self.objects.items()) if connection_of(s) == connection]

    def dependants(self, key: Key) -> list[tuple[Subject, ObjectUse]]:
        """The integrations that wait for an object, with one reference each."""
        found = []
        for _, other in sorted(self.objects.items()):
            if other.key.namespace != key.namespace:
                continue
            for use in uses(other):
                if any(subject.key == key for subject in self.meant(use, key.namespace)):
                    found.append((other, use))
                    break
        return found

    def secret(self, namespace: str, name: str) -> SecretSeen:
        """A Secret; taken for unreadable if it was not looked at."""
        return self.secrets.get((namespace, name), SecretSeen(None, readable=False))


def connection_of(subject: Subject) -> Key | None:
    """The connection that an integration uses."""
    ref = subject.spec.get("connectionRef")
    if subject.key.kind in CONNECTIONS or not isinstance(ref, dict):
        return None
    named = ConnectionRef.model_construct(
        kind=ref.get("kind", "Connection"), name=ref.get("name", "")
    )
    return connection_key(subject.key.namespace, named)


def secret_uses(subject: Subject) -> list[SecretUse]:
    """The Secrets that an object's spec refers to."""
    namespace = subject.key.namespace or str(subject.spec.get("secretNamespace", ""))
    return [
        SecretUse(namespace, str(ref["name"]), str(ref["key"]), path)
        for path, ref in _refs(subject.spec, "secretKeyRef", "")
        if {"name", "key"} <= ref.keys()
    ]


def uses(subject: Subject) -> list[ObjectUse]:
    """The integrations that an object's spec refers to, in the order in which they are awaited."""
    first = [
        (f"dependsOn[{number}]", ref)
        for number, ref in enumerate(subject.spec.get("dependsOn") or ())
    ]
    if subject.key.kind == ROUTE:
        first = [
            (f"candidates[{number}]", {"kind": "ModelDeployment", **one})
            for number, one in enumerate(subject.spec.get("candidates") or ())
        ]
    return [_use(path, ref) for path, ref in (*first, *_refs(subject.spec, "outputRef", ""))]


def outputs_secret(subject: Subject) -> str | None:
    """The Secret that an integration publishes its outputs to."""
    name = (subject.spec.get("outputs") or {}).get("secretName")
    return str(name) if name else None


def _use(path: str, ref: JSON) -> ObjectUse:
    labels = (ref.get("selector") or {}).get("matchLabels") or {}
    name = ref.get("name")
    return ObjectUse(
        kind=str(ref.get("kind", "")),
        name=None if name is None else str(name),
        labels=tuple(sorted(labels.items())),
        output=ref.get("output"),
        path=path,
    )


def _refs(value: Any, word: str, path: str) -> Iterator[tuple[str, JSON]]:
    if isinstance(value, dict):
        if isinstance(value.get(word), dict):
            yield path, value[word]
        for name, inner in value.items():
            if name != word:
                yield from _refs(inner, word, f"{path}.{name}" if path else name)
    elif isinstance(value, list):
        for number, inner in enumerate(value):
            yield from _refs(inner, word, f"{path}[{number}]")
