"""The newest state of every object of ours, trimmed, with the indices that visits need."""

from collections.abc import Collection, Hashable, Iterator, Mapping
from dataclasses import dataclass
from enum import Flag, auto
from typing import Any, Final, Generic, TypeVar

from auterity.api import GROUP
from auterity.api.annotations import APPROVE, FORGET, REQUESTED_AT
from auterity.api.kinds import BUDGET, CONNECTIONS, KINDS, PRICED
from auterity.engine.connections import connection_named
from auterity.engine.subject import Key, Subject
from auterity.engine.tally import Tally
from auterity.engine.verdict import Waits

Name = TypeVar("Name", bound=Hashable)
_ASKING: Final = (REQUESTED_AT, APPROVE, FORGET)


class Change(Flag):
    """What is new about an object."""

    NOTHING = 0
    NEW = auto()
    EDIT = auto()
    """Its spec, a request by annotation, or its deletion."""
    STATE = auto()
    """Whether it is ready, its outputs or its cost: what others wait for."""
    ROOM = auto()
    """It takes less of the budgets of its namespace."""
    GONE = auto()


def trimmed(raw: Mapping[str, Any]) -> Subject:
    """What the engine looks at; no managedFields, no copies of what was last applied."""
    meta = raw["metadata"]
    return Subject(
        key=_key(raw),
        uid=meta["uid"],
        generation=meta.get("generation", 1),
        resource_version=meta["resourceVersion"],
        created_at=meta["creationTimestamp"],
        deleting=meta.get("deletionTimestamp") is not None,
        labels=dict(meta.get("labels") or {}),
        annotations={
            k: v for k, v in (meta.get("annotations") or {}).items() if k.startswith(GROUP)
        },
        finalizers=list(meta.get("finalizers") or ()),
        spec=raw.get("spec") or {},
        status=raw.get("status") or {},
    )


def _key(raw: Mapping[str, Any]) -> Key:
    meta = raw["metadata"]
    return Key(raw["kind"], meta.get("namespace") or "", meta["name"])


@dataclass(frozen=True, slots=True)
class Put:
    """An object as it now stands, and what is new about it."""

    subject: Subject
    change: Change


class Store:
    """Objects by key; who uses which connection; who waits for what."""

    def __init__(self) -> None:
        self._subjects: dict[Key, Subject] = {}
        self._of_kind: _Groups[tuple[str, str]] = _Groups()
        self._users: _Groups[Key] = _Groups()
        self._waits: dict[Key, frozenset[Waits]] = {}
        self._waiting: _Groups[tuple[str, str]] = _Groups()
        self._tallies: dict[str, Tally] = {}

    def __iter__(self) -> Iterator[Subject]:
        return iter(list(self._subjects.values()))

    def __len__(self) -> int:
        return len(self._subjects)

    def find(self, key: Key) -> Subject | None:
        """The newest known object with this key."""
        return self._subjects.get(key)

    def select(self, kind: str, namespace: str, labels: Mapping[str, str]) -> list[Subject]:
        """Objects that carry all these labels, by name."""
        found = (self._subjects[key] for key in self._of_kind.of((kind, namespace)))
        matching = (s for s in found if labels.items() <= s.labels.items())
        return sorted(matching, key=lambda s: s.key)

    def tally(self, namespace: str) -> Tally:
        """What the integrations of a namespace take of its budgets."""
        return self._tallies.get(namespace) or Tally()

    def users(self, connection: Key) -> list[Key]:
        """The integrations that refer to a connection."""
        return list(self._users.of(connection))

    def knows(self, raw: Mapping[str, Any]) -> bool:
        """Whether `put` would change nothing: the object is known as it is told, or newer."""
        meta = raw["metadata"]
        known = self._subjects.get(_key(raw))
        return (
            known is not None
            and known.uid == meta["uid"]
            and int(meta["resourceVersion"]) <= int(known.resource_version)
        )

    def put(self, raw: Mapping[str, Any]) -> Put:
        """Take in an object as the API server tells it; older news than known changes nothing."""
        new = trimmed(raw)
        old = self._subjects.get(new.key)
        if old is not None and old.uid == new.uid:
            if int(new.resource_version) <= int(old.resource_version):
                return Put(old, Change.NOTHING)
            if old.spec == new.spec:
                new.spec = old.spec
        change = _difference(old, new)
        self._subjects[new.key] = new
        if new.key.kind in PRICED and self._reckon(new):
            change |= Change.ROOM
        if Change.NEW in change:
            self._of_kind.add((new.key.kind, new.key.namespace), new.key)
        if Change.NEW in change or Change.EDIT in change:
            self._link(old, new)
        return Put(new, change)

    def remove(self, key: Key, uid: str | None = None) -> Subject | None:
        """The object is gone (if it still is the one with that uid)."""
        old = self._subjects.get(key)
        if old is None or (uid is not None and old.uid != uid):
            return None
        del self._subjects[key]
        self._of_kind.discard((key.kind, key.namespace), key)
        self._users.discard(connection_of(old), key)
        if (tally := self._tallies.get(key.namespace)) is not None:
            tally.drop(key)
            if not tally:
                del self._tallies[key.namespace]
        self.wait(key, frozenset())
        self._waits.pop(key, None)
        return old

    def wait(self, key: Key, waits: frozenset[Waits]) -> None:
        """Remember what an object is woken by, if it is still there."""
        if waits and key not in self._subjects:
            # It went while it was visited.
            return
        before = self._waits.get(key, frozenset())
        if waits == before:
            return
        for wait in before - waits:
            self._waiting.discard((wait.kind, wait.namespace), key)
        for wait in waits:
            self._waiting.add((wait.kind, wait.namespace), key)
        self._waits[key] = waits

    def waiting(self, key: Key, labels: Mapping[str, str]) -> list[Key]:
        """The objects that a change of this one wakes."""
        return [
            waiter
            for waiter in self._waiting.of((key.kind, key.namespace))
            if any(wait.woken_by(key, labels) for wait in self._waits[waiter])
        ]

    def _reckon(self, new: Subject) -> bool:
        """Add up what it takes; whether that is less than before."""
        tally = self._tallies.setdefault(new.key.namespace, Tally())
        before = tally.of(new.key).taken
        tally.put(new)
        return tally.of(new.key).taken < before

    def _link(self, old: Subject | None, new: Subject) -> None:
        if new.key.kind not in KINDS:
            return
        if old is not None:
            self._users.discard(connection_of(old), new.key)
        self._users.add(connection_of(new), new.key)


class _Groups(Generic[Name]):
    """Keys in groups, each in the order of arrival; an empty group is no more.

    Namespaces and connections come and go, and what they are called seldom comes again.
    """

    def __init__(self) -> None:
        self._groups: dict[Name, dict[Key, None]] = {}

    def __len__(self) -> int:
        return len(self._groups)

    def of(self, name: Name) -> Collection[Key]:
        return self._groups.get(name, ())

    def add(self, name: Name, key: Key) -> None:
        self._groups.setdefault(name, {})[key] = None

    def discard(self, name: Name, key: Key) -> None:
        if (group := self._groups.get(name)) is not None:
            group.pop(key, None)
            if not group:
                del self._groups[name]


def connection_of(subject: Subject) -> Key:
    """The connection that an integration refers to; for a connection, itself."""
    if subject.key.kind in CONNECTIONS:
        return subject.key
    ref = subject.spec.get("connectionRef") or {}
    kind, name = ref.get("kind", "Connection"), ref.get("name", "")
    return connection_named(subject.key.namespace, kind, name)


def _difference(old: Subject | None, new: Subject) -> Change:
    if old is None or old.uid != new.uid:
        return Change.NEW
    change = Change.NOTHING
    asked = any(old.annotations.get(name) != new.annotations.get(name) for name in _ASKING)
    if old.generation != new.generation or old.deleting != new.deleting or asked:
        change |= Change.EDIT
    told_more = any(old.status.get(name) != new.status.get(name) for name in ("outputs", "cost"))
    if old.ready != new.ready or told_more or old.labels != new.labels:
        change |= Change.STATE
    # Why something is not ready is repeated by what waits for it; of what is no integration, in its
    # words, which say what has changed. Of a budget they say what is used: for room it is waited.
    told = _reason if new.key.kind in (*KINDS, BUDGET) else _told
    if told(old) != told(new):
        change |= Change.STATE
    return change


def _reason(subject: Subject) -> str | None:
    return (subject.condition("Ready") or {}).get("reason")


def _told(subject: Subject) -> tuple[str | None, str | None]:
    ready = subject.condition("Ready") or {}
    return ready.get("reason"), ready.get("message")
