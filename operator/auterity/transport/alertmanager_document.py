"""Alertmanager's configuration as a document that many own a part of each.

Works on YAML nodes instead of values: what belongs to others keeps its order and its spelling (read
as a value, the time 17:30 would become the number 1050).
"""

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

import yaml
from yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode
from yaml.representer import SafeRepresenter

from auterity.api.fields import seconds
from auterity.engine.errors import Conflict
from auterity.engine.redaction import HIDDEN

JSON = dict[str, Any]
MARKED: Final = re.compile(r"auterity:(?P<owner>[^:]+):(?P<name>.+)", re.DOTALL)
MASKED: Final = "<secret>"
"""What Alertmanager tells instead of any secret."""
SHORTEST_SECRET: Final = 6
_QUOTED: Final = re.compile(r'"(?:[^"\\]|\\.)*"')
_VALUE: Final = re.compile(r"`[^`]*`|[a-z]+://[^\s\"]+")
"""How a value stands in an error of Alertmanager's parser."""
_TEXT: Final = "tag:yaml.org,2002:str"
_LOADER: Final = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_DUMPER: Final = getattr(yaml, "CSafeDumper", yaml.SafeDumper)
_DURATION: Final = re.compile(r"(?:[0-9]+(?:ms|[smhdwy]))+")
_LONG_UNITS: Final = {"d": 24, "w": 168, "y": 8760}


class Unreadable(Exception):  # noqa: N818 - named by what is the matter
    """The text is no configuration of Alertmanager; the message quotes nothing of it."""


@dataclass(frozen=True, slots=True)
class Part:
    """One route below the root and the receivers it leads to, every scalar as text."""

    owner: str | None
    """The mark it carries."""
    route: JSON
    receivers: dict[str, JSON]


def marker(owner: str, name: str) -> str:
    """The name of the receiver that marks a route: empty, and no alert ever reaches it."""
    return f"auterity:{owner.replace(':', '%3A')}:{name}"


class Document:
    """A configuration that parts are put into and taken out of."""

    def __init__(self, text: str) -> None:
        """Raises Unreadable."""
        try:
            root = yaml.compose(text, Loader=_LOADER)
        except yaml.MarkedYAMLError as error:
            line = f" (line {error.problem_mark.line + 1})" if error.problem_mark else ""
            raise Unreadable(f"it is not YAML{line}") from None
        except yaml.YAMLError:
            raise Unreadable("it is not YAML") from None
        if not isinstance(root, MappingNode) or not isinstance(_get(root, "route"), MappingNode):
            raise Unreadable("it has no route")
        _unresolve(root)
        self._root = root
        self._text: str | None = None

    def copy(self) -> "Document":
        """The same, to be edited: parsing it again would take several times as long."""
        other = Document.__new__(Document)
        root = _copy(self._root, {})
        assert isinstance(root, MappingNode)  # noqa: S101 - as what it is a copy of
        other._root = root  # noqa: SLF001 - same class
        other._text = None  # noqa: SLF001
        return other

    def text(self) -> str:
        """The document as it is to be written."""
        if self._text is None:
            self._text = str(
                yaml.serialize(self._root, Dumper=_DUMPER, allow_unicode=True, width=2**30)
            )
        return self._text

    def names(self) -> list[str]:
        """The routes that carry a mark, in order."""
        return [
            match["name"]
            for route in self._routes()
            if (match := MARKED.fullmatch(_receiver(route)))
        ]

    def part(self, name: str) -> Part | None:
        """The route of this name: the marked one, else the one that leads to such a receiver.

        Raises Conflict if several could be meant.
        """
        route = self._find(name)
        return None if route is None else _part(route, dict(self._receivers()))

    def parts(self) -> Iterator[tuple[str, Part]]:
        """Every route that carries a mark, by its name."""
        receivers = dict(self._receivers())
        for route in self._routes():
            if match := MARKED.fullmatch(_receiver(route)):
                yield match["name"], _part(route, receivers)

    def essence(self, name: str) -> str:
        """All but the other routes that carry a mark: what a refusal of this one can depend on."""
        whole = plain(self._root)
        others: set[str] = set()
        kept = []
        told = [said for said in whole["route"].get("routes") or () if isinstance(said, dict)]
        for route, said in zip(self._routes(), told, strict=True):
            match = MARKED.fullmatch(_receiver(route))
            if match and match["name"] != name:
                others |= _used(route)
            else:
                kept.append(said)
        whole["route"]["routes"] = kept
        whole["receivers"] = [plain(node) for key, node in self._receivers() if key not in others]
        return json.dumps(whole)

    def receiver_names(self) -> set[str]:
        """Every receiver."""
        return {name for name, _ in self._receivers()}

    def put(self, name: str, route: JSON, receivers: Mapping[str, JSON]) -> None:
        """Make a route and its receivers as given; what already is so keeps its spelling.

        A new route stands before all that carry no mark: they could keep its alerts to themselves.
        Raises Conflict if a receiver of such a name is not this route's.
        """
        self._text = None
        old = self._find(name)
        before = _used(old) if old is not None else set()
        present = dict(self._receivers())
        for taken in sorted((receivers.keys() & present.keys()) - before):
            raise Conflict(
                f"the configuration has a receiver {taken!r} that does not belong to this route; "
                "rename one of the two"
            )
        if old is None:
            routes = self._list(_get(self._root, "route"), "routes")
            marked = (bool(MARKED.fullmatch(_receiver(r))) for r in routes.value)
            place = next((i for i, ours in enumerate(marked) if not ours), len(routes.value))
            routes.value.insert(place, _node(route))
        else:
            _assign(old, route)
        everything = self._list(self._root, "receivers")
        for receiver, config in receivers.items():
            if receiver in present:
                _assign(present[receiver], config)
            else:
                everything.value.append(_node(config))
        self._drop_receivers(before)

    def remove(self, name: str) -> None:
        """Take a route out, and the receivers that nothing else leads to."""
        self._text = None
        route = self._find(name)
        if route is not None:
            self._list(_get(self._root, "route"), "routes").value.remove(route)
            self._drop_receivers(_used(route))

    def restore(self, name: str, other: "Document") -> None:
        """Make a route as it is in another document; gone if it has none."""
        self._text = None
        theirs = other._find(name)  # noqa: SLF001 - same class
        mine = self._find(name)
        if theirs is None:
            self.remove(name)
            return
        routes = self._list(_get(self._root, "route"), "routes")
        if mine is None:
            routes.value.insert(0, theirs)
        else:
            routes.value[routes.value.index(mine)] = theirs
            self._drop_receivers(_used(mine))
        everything = self._list(self._root, "receivers")
        present = dict(self._receivers())
        for receiver, config in other._receivers():  # noqa: SLF001 - same class
            if receiver not in _used(theirs):
                continue
            if receiver in present:
                everything.value[everything.value.index(present[receiver])] = config
            else:
                everything.value.append(config)

    def hide(self, words: str) -> str:
        """Words of Alertmanager about this document or an older one, without what may be secret."""
        if 'parse "' in words:
            # An error about a URL quotes all of it, and then the part that is wrong.
            words = _QUOTED.sub(HIDDEN, words)
        words = _VALUE.sub(HIDDEN, words)
        values = set(_values(_get(self._root, "receivers"))) | set(
            _values(_get(self._root, "global"))
        )
        for value in sorted(values, key=len, reverse=True):
            if len(value) >= SHORTEST_SECRET:
                words = words.replace(value, HIDDEN)
                words = words.replace(json.dumps(value)[1:-1], HIDDEN)
        return words

    def _routes(self) -> list[MappingNode]:
        routes = _get(_get(self._root, "route"), "routes")
        items = routes.value if isinstance(routes, SequenceNode) else []
        return [route for route in items if isinstance(route, MappingNode)]

    def _receivers(self) -> Iterator[tuple[str, MappingNode]]:
        receivers = _get(self._root, "receivers")
        for item in receivers.value if isinstance(receivers, SequenceNode) else []:
            if isinstance(item, MappingNode) and isinstance(name := _get(item, "name"), ScalarNode):
                yield name.value, item

    def _find(self, name: str) -> MappingNode | None:
        marked, unmarked = [], []
        for route in self._routes():
            receiver = _receiver(route)
            match = MARKED.fullmatch(receiver)
            if match and match["name"] == name:
                marked.append(route)
            elif receiver == name:
                unmarked.append(route)
        found = marked or unmarked
        if len(found) > 1:
            raise Conflict(
                f"{len(found)} routes of Alertmanager's configuration are named {name}; "
                "remove or rename all but one"
            )
        return found[0] if found else None

    def _drop_receivers(self, candidates: set[str]) -> None:
        used = _used(_get(self._root, "route"))
        receivers = self._list(self._root, "receivers")
        receivers.value = [
            item
            for item in receivers.value
            if not isinstance(name := _get(item, "name"), ScalarNode)
            or name.value not in candidates
            or name.value in used
        ]

    def _list(self, parent: Node | None, key: str) -> SequenceNode:
        """The list under a key, made if need be, in the style that can hold what we put in."""
        assert isinstance(parent, MappingNode)  # noqa: S101 - the root and its route are
        found = _get(parent, key)
        if not isinstance(found, SequenceNode):
            found = SequenceNode("tag:yaml.org,2002:seq", [])
            _set(parent, key, found)
        found.flow_style = parent.flow_style = self._root.flow_style = False
        return found


def plain(node: Node | None) -> Any:
    """A node as dictionaries, lists and text; nothing (None) where it is null."""
    if isinstance(node, MappingNode):
        return {plain(key): plain(value) for key, value in node.value}
    if isinstance(node, SequenceNode):
        return [plain(item) for item in node.value]
    if node is None or node.tag == "tag:yaml.org,2002:null":
        return None
    value = str(node.value)
    return value.lower() if node.tag == "tag:yaml.org,2002:bool" else value


def carries(loaded: Any, written: Any) -> bool:
    """Whether what Alertmanager tells, defaults added and secrets masked, has what was written."""
    if loaded == MASKED:
        return written is not None
    if isinstance(written, dict):
        has = loaded if isinstance(loaded, dict) else {}
        return all(carries(has.get(key), value) for key, value in written.items())
    if isinstance(written, list) and isinstance(loaded, list):
        return len(written) == len(loaded) and all(map(carries, loaded, written))
    if not loaded:
        # Alertmanager leaves out what is empty.
        return written in (None, [], "", "false")
    return loaded == written or (
        isinstance(written, str) and duration(loaded) == duration(written) is not None
    )


def duration(text: object) -> float | None:
    """A duration of Alertmanager such as 1d12h in seconds; None if it is none."""
    if not isinstance(text, str) or not _DURATION.fullmatch(text):
        return None
    in_hours = re.sub(
        r"([0-9]+)([dwy])", lambda match: f"{int(match[1]) * _LONG_UNITS[match[2]]}h", text
    )
    return seconds(in_hours)


def _unresolve(node: Node) -> None:
    """Let times such as 17:30 be text: YAML 1.1 has them as numbers, which Alertmanager does not.

    Left a number, one in a list such as [17:30] would be written as !!int '17:30'.
    """
    if isinstance(node, ScalarNode):
        if node.style is None and ":" in node.value and node.tag != _TEXT:
            node.tag, node.style = _TEXT, "'"
        return
    for item in node.value:
        for child in item if isinstance(item, tuple) else (item,):
            _unresolve(child)


def _copy(node: Node, copies: dict[int, Node]) -> Node:
    """A node and all below it but scalars, which are replaced and never edited.

    What several refer to by an anchor stays one.
    """
    if (known := copies.get(id(node))) is not None:
        return known
    if isinstance(node, MappingNode):
        mapping = MappingNode(node.tag, [], flow_style=node.flow_style)
        copies[id(node)] = mapping
        mapping.value = [(key, _copy(value, copies)) for key, value in node.value]
        return mapping
    if isinstance(node, SequenceNode):
        sequence = SequenceNode(node.tag, [], flow_style=node.flow_style)
        copies[id(node)] = sequence
        sequence.value = [_copy(item, copies) for item in node.value]
        return sequence
    return node


def _part(route: MappingNode, receivers: Mapping[str, MappingNode]) -> Part:
    match, used = MARKED.fullmatch(_receiver(route)), _used(route)
    owner = match["owner"].replace("%3A", ":") if match else None
    defined = sorted(used & receivers.keys())
    return Part(owner, plain(route), {name: plain(receivers[name]) for name in defined})


def _get(node: Node | None, key: str) -> Node | None:
    if not isinstance(node, MappingNode):
        return None
    return next((value for name, value in node.value if name.value == key), None)


def _set(parent: MappingNode, key: str, node: Node) -> None:
    for place, (name, _) in enumerate(parent.value):
        if name.value == key:
            parent.value[place] = (name, node)
            return
    parent.value.append((_node(key), node))


def _receiver(route: MappingNode) -> str:
    node = _get(route, "receiver")
    return str(node.value) if isinstance(node, ScalarNode) else ""


def _used(route: Node | None) -> set[str]:
    """The receivers that a route and those below it lead to."""
    if not isinstance(route, MappingNode):
        return set()
    below = _get(route, "routes")
    children = below.value if isinstance(below, SequenceNode) else []
    return {_receiver(route)}.union(*map(_used, children)) - {""}


def _node(value: Any) -> Node:
    return SafeRepresenter(default_flow_style=False, sort_keys=False).represent_data(value)


def _assign(node: MappingNode, value: JSON) -> None:
    """Make a node say `value`; what already does is left as it is spelt."""
    node.value = [(key, item) for key, item in node.value if key.value in value]
    for key, wanted in value.items():
        new, old = _node(wanted), _get(node, key)
        if old is None or plain(old) != plain(new):
            node.flow_style = False
            _set(node, key, new)


def _values(node: Node | None) -> Iterator[str]:
    """Every text below a node but names."""
    if isinstance(node, MappingNode):
        for key, value in node.value:
            if key.value != "name":
                yield from _values(value)
    elif isinstance(node, SequenceNode):
        for item in node.value:
            yield from _values(item)
    elif isinstance(node, ScalarNode):
        yield str(node.value)
