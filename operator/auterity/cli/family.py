"""What belongs together: an object, what it needs, what it publishes, and who needs it."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Final

from auterity.api.kinds import CONNECTIONS, LOCAL, ROUTE
from auterity.cli.commands import named, reference
from auterity.cli.output import Cell, Styled
from auterity.cli.reasons import NOT_SEEN
from auterity.cli.snapshot import (
    ObjectUse,
    Snapshot,
    connection_of,
    outputs_secret,
    secret_uses,
    uses,
)
from auterity.engine.subject import JSON, Key, Subject

_READY: Final[dict[bool | None, Cell]] = {
    True: Styled("True", "green"),
    False: Styled("False", "red"),
    None: "?",
}


@dataclass(frozen=True, slots=True)
class Node:
    """One object and those below it."""

    key: Key
    relation: str
    """What it is to the one above, such as `connection`."""
    ready: bool | None
    """None if nobody knows."""
    state: str
    children: tuple["Node", ...] = ()


def of_object(snapshot: Snapshot, key: Key) -> Node:
    """An object with all that it needs, publishes, and is needed by."""
    return _Family(snapshot).object(key, "", needed=True)


def of_namespace(snapshot: Snapshot, namespace: str | None) -> list[Node]:
    """Connections with what uses them, then what has no vendor; of one namespace, or all (None)."""
    here = [
        subject
        for _, subject in sorted(snapshot.objects.items())
        if namespace in (None, subject.key.namespace)
    ]
    used = {connection for subject in here if (connection := connection_of(subject)) is not None}
    used |= {subject.key for subject in here if subject.key.kind in CONNECTIONS}
    family = _Family(snapshot)
    found = [
        family.connection(connection, [s for s in here if connection_of(s) == connection])
        for connection in sorted(used)
    ]
    return found + [family.object(s.key, "") for s in here if s.key.kind in LOCAL]


class _Family:
    def __init__(self, snapshot: Snapshot) -> None:
        self.snapshot = snapshot
        self.shown: set[Key] = set()

    def object(self, key: Key, relation: str, *, needed: bool = False) -> Node:
        """With what it needs; with who needs it if `needed`. Shown in full once only."""
        subject = self.snapshot.find(key)
        if subject is None:
            known = key.kind not in self.snapshot.unread
            return Node(key, relation, False if known else None, "Missing" if known else "")
        if key in self.shown:
            return self._leaf(subject, relation)
        self.shown.add(key)
        children = [*self._needs(subject), *self._secrets(subject), *self._published(subject)]
        if needed:
            children += [
                self._leaf(other, f"needed by: {use.path}")
                for other, use in self.snapshot.dependants(key)
            ]
            children += [self._leaf(user, "used by") for user in self.snapshot.users(key)]
        return self._leaf(subject, relation, children)

    def connection(self, key: Key, users: Iterable[Subject]) -> Node:
        """A connection with those who use it below."""
        top = self.object(key, "")
        below = []
        for user in users:
            node = self.object(user.key, "used by")
            children = tuple(child for child in node.children if child.key != key)
            below.append(Node(user.key, "used by", node.ready, node.state, children))
        return Node(key, "", top.ready, top.state, (*top.children, *below))

    def _needs(self, subject: Subject) -> Iterator[Node]:
        namespace = subject.key.namespace
        if (connection := connection_of(subject)) is not None:
            yield self.object(connection, "connection")
        for use in uses(subject):
            relation = _relation(subject, use)
            found = self.snapshot.meant(use, namespace)
            for other in found:
                yield self.object(other.key, relation)
            if not found and use.name is not None:
                yield self.object(Key(use.kind, namespace, use.name), relation)
            elif not found:
                labels = ",".join(f"{name}={value}" for name, value in use.labels)
                yield Node(Key(use.kind, namespace, labels), relation, False, "Missing")  # noqa: FBT003 - a field

    def _secrets(self, subject: Subject) -> Iterator[Node]:
        for use in secret_uses(subject):
            seen = self.snapshot.secret(use.namespace, use.name)
            if not seen.readable:
                ready, state = None, ""
            elif seen.keys is None:
                ready, state = False, "Missing"
            else:
                ready = use.key in seen.keys
                state = "" if ready else f"NoSuchKey: {use.key}"
            key = Key("Secret", use.namespace, use.name)
            yield Node(key, f"secret of {use.path}", ready, state)

    def _published(self, subject: Subject) -> Iterator[Node]:
        name = outputs_secret(subject)
        if name is None:
            return
        seen = self.snapshot.secret(subject.key.namespace, name)
        key = Key("Secret", subject.key.namespace, name)
        if not seen.readable:
            yield Node(key, "outputs", None, "")
        elif seen.keys is None:
            yield Node(key, "outputs", False, "NotPublished")  # noqa: FBT003 - a field
        else:
            own = seen.owner_uid == subject.uid
            yield Node(key, "outputs", own, "" if own else "Foreign")

    @staticmethod
    def _leaf(subject: Subject, relation: str, children: Iterable[Node] = ()) -> Node:
        state = str((subject.condition("Ready") or {}).get("reason", NOT_SEEN))
        if subject.status.get("observedGeneration") != subject.generation:
            state = NOT_SEEN
        return Node(subject.key, relation, subject.ready, state, tuple(children))


def _relation(subject: Subject, use: ObjectUse) -> str:
    if subject.key.kind == ROUTE:
        return "in use" if subject.status.get("active") == use.name else "candidate"
    return "depends on" if use.output is None else f"takes output {use.output}"


def rows(nodes: Iterable[Node]) -> list[tuple[Cell, ...]]:
    """Object, relation, readiness, reason: the object drawn as a tree."""
    return [row for node in nodes for row in _rows(node, "", "")]


def _rows(node: Node, here: str, below: str) -> Iterator[tuple[Cell, ...]]:
    yield (f"{here}{named(node.key)}", node.relation, _READY[node.ready], node.state)
    for number, child in enumerate(node.children, 1):
        last = number == len(node.children)
        yield from _rows(
            child, below + ("└─ " if last else "├─ "), below + ("   " if last else "│  ")
        )


def as_json(node: Node) -> JSON:
    """A node for programs."""
    return {
        "object": reference(node.key),
        "relation": node.relation,
        "ready": node.ready,
        "state": node.state,
        "children": [as_json(child) for child in node.children],
    }
