"""Drift: which declared fields differ at the vendor."""

import hashlib
import json
import re
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from enum import Enum
from functools import cache
from typing import Any, Final

from pydantic import BaseModel, SecretStr

from auterity.api.fields import (
    CREATE_ONLY,
    ENGINE,
    GOVERNS,
    SHARED,
    WRITE_ONLY,
    Marker,
    Params,
    Resolved,
    SecretValue,
    Value,
    alias_of,
    is_secret,
    key_field,
    marked,
    resolvables,
    seconds,
)
from auterity.engine.redaction import HIDDEN, hide

LONGEST_TEXT: Final = 256
CUT: Final = "…"
"""Ends a text that was too long to be shown."""
_DURATION = re.compile(r"([0-9]+(\.[0-9]+)?(ms|s|m|h))+")


@dataclass(frozen=True, slots=True)
class Difference:
    """One declared field that the vendor has otherwise."""

    path: str
    """By Python names, as providers get it in `changed`."""
    shown: str
    """By YAML names, as users know it."""
    want: str | None
    """As text for people; None: not declared (an entry to be removed)."""
    actual: str | None
    """As text for people; None: not at the vendor."""
    markers: frozenset[Marker] = frozenset()
    edited: bool = False
    """Certainly our side's doing: the Secret that the value comes from has changed."""

    def has(self, marker: Marker) -> bool:
        """Whether the field, or one it is part of, carries a marker."""
        return marker in self.markers


@dataclass(frozen=True, slots=True)
class Memory:
    """What the status remembers of earlier writes."""

    owned: Collection[str] = ()
    """Entries of shared maps that we set, by path."""
    written: Mapping[str, str] | None = None
    """What was last written to fields the vendor never tells, by path."""
    create_only: Collection[str] = ()
    """YAML paths that the user leaves to others after creation."""
    vendor: str = ""
    """The block in which the vendor's own fields stand."""
    portable: Collection[str] = ()
    """Fields (Python names) that stand directly below spec."""


def compare(
    want: Params, actual: Params, memory: Memory, versions: Mapping[str, str]
) -> list[Difference]:
    """The declared fields that differ; empty if the vendor has all of them.

    Not compared: what is not declared (None), what the vendor does not tell (left out of
    `actual`), and what is create-only.
    """
    walk = _Walk(memory, versions)
    return list(walk.model(want, actual, "", "", frozenset()))


def fingerprints(want: Params, versions: Mapping[str, str]) -> dict[str, str]:
    """What to remember of the fields that cannot be read back, once they are written."""
    return {path: _fingerprint(value, versions.get(path, "")) for path, value in _untold(want, "")}


def digest(value: object) -> str:
    """Changes with anything in a value, also with what is shown to nobody; tells no secret."""
    versions = [field.version for field in resolvables(value)]
    whole = json.dumps([_plain(value), versions], sort_keys=True, default=str)
    return hashlib.sha256(whole.encode()).hexdigest()[:16]


def shared_entries(want: Params) -> list[str]:
    """Paths of the entries of shared maps that are declared, to remember that they are ours."""
    return sorted(
        f"{name}.{key}" for name in _shared(type(want)) for key in (getattr(want, name, None) or {})
    )


@cache
def _shared(model: type[BaseModel]) -> tuple[str, ...]:
    return tuple(name for name in model.model_fields if marked(model, name, SHARED))


def unknown_paths(model: type[BaseModel], memory: Memory) -> list[str]:
    """Those create-only paths that name no field of the model."""
    if not memory.create_only:
        return []
    portable = {alias_of(model, name) for name in memory.portable}
    own = {alias_of(model, name) for name in model.model_fields if name not in memory.portable}
    known = portable | {f"{memory.vendor}.{name}" for name in own}
    return [
        path
        for path in memory.create_only
        if not any(path == name or path.startswith(f"{name}.") for name in known)
    ]


class _Walk:
    def __init__(self, memory: Memory, versions: Mapping[str, str]) -> None:
        self.memory = memory
        self.written = memory.written or {}
        self.versions = versions

    def model(
        self, want: BaseModel, actual: BaseModel, path: str, shown: str, above: frozenset[Marker]
    ) -> Iterator[Difference]:
        cls = type(want)
        for name, info in cls.model_fields.items():
            # SHARED is about the keys of a map, not about what its entries leave to the vendor.
            markers = (above - {SHARED}) | {m for m in info.metadata if isinstance(m, Marker)}
            if markers & {ENGINE, GOVERNS, CREATE_ONLY}:
                continue
            here, there = f"{path}{name}", f"{shown}{info.alias or name}"
            if not path and self.memory.vendor and name not in self.memory.portable:
                there = f"{self.memory.vendor}.{there}"
            if self._left_to_others(there):
                continue
            wanted = getattr(want, name)
            if isinstance(wanted, Resolved) and WRITE_ONLY not in markers:
                told = getattr(actual, name, None) if name in actual.model_fields_set else wanted
                yield from self.resolved(wanted, told, here, there, markers)
                continue
            if WRITE_ONLY in markers:
                if wanted is not None:
                    yield from self.untold(wanted, here, there, markers)
                continue
            if name not in actual.model_fields_set:
                yield from self.unread(wanted, here, there, markers, key_field(cls, name))
                continue
            has = getattr(actual, name)
            if wanted is None and SHARED not in markers:
                continue
            yield from self.value(
                wanted, has, here, there, frozenset(markers), key_field(cls, name)
            )

    def value(  # noqa: PLR0913 - one place for every shape of a value
        self,
        want: Any,
        has: Any,
        path: str,
        shown: str,
        markers: frozenset[Marker],
        key: str | None = None,
    ) -> Iterator[Difference]:
        if key is not None:
            yield from self.keyed(want or [], has or [], path, shown, markers, key)
        elif isinstance(want, dict) or (want is None and isinstance(has, dict)):
            yield from self.mapping(want or {}, has or {}, path, shown, markers)
        elif isinstance(want, Resolved):
            yield from self.resolved(want, has, path, shown, markers)
        elif isinstance(want, BaseModel) and isinstance(has, BaseModel):
            if isinstance(want, Value):
                yield from self.resolved(want, has, path, shown, markers)
            else:
                yield from self.model(want, has, f"{path}.", f"{shown}.", markers)
        elif not _same(want, has):
            yield Difference(path, shown, text(want), self.told(has, path), markers)

    def keyed(  # noqa: PLR0913 - see value
        self,
        want: list[Any],
        has: list[Any],
        path: str,
        shown: str,
        markers: frozenset[Marker],
        key: str,
    ) -> Iterator[Difference]:
        wanted = {getattr(item, key): item for item in want}
        present = {getattr(item, key): item for item in has}
        for name in sorted({*wanted, *present}):
            here, there = f"{path}.{name}", f"{shown}.{name}"
            if self._left_to_others(there):
                continue
            if name not in present:
                yield Difference(here, there, text(wanted[name]), None, markers)
            elif name not in wanted:
                yield Difference(here, there, None, self.told(present[name], here), markers)
            else:
                item, told = wanted[name], present[name]
                if isinstance(item, Resolved):
                    yield from self.resolved(item, told, here, there, markers)
                else:
                    yield from self.model(item, told, f"{here}.", f"{there}.", markers)

    def mapping(
        self,
        want: Mapping[str, Any],
        has: Mapping[str, Any],
        path: str,
        shown: str,
        markers: frozenset[Marker],
    ) -> Iterator[Difference]:
        extra = set(has) - set(want)
        if SHARED in markers:
            extra = {k for k in extra if f"{path}.{k}" in self.memory.owned}
        for name in sorted({*want, *extra}):
            here, there = f"{path}.{name}", f"{shown}.{name}"
            if self._left_to_others(there):
                continue
            if name in want and name in has:
                yield from self.value(want[name], has[name], here, there, markers)
            else:
                yield Difference(
                    here, there, text(want.get(name)), self.told(has.get(name), here), markers
                )

    def resolved(
        self, want: Resolved, has: object, path: str, shown: str, markers: frozenset[Marker]
    ) -> Iterator[Difference]:
        if not isinstance(has, Resolved):
            yield Difference(path, shown, text(want), None, markers)
            return
        try:
            told = has.reveal() if has is not want else None
        except LookupError:
            told = None
        if told is None:
            yield from self.untold(want, path, shown, markers)
        elif told != want.reveal():
            secret = is_secret(want) or is_secret(has) or self._had_another_source(want, path)
            yield Difference(path, shown, text(want), HIDDEN if secret else text(told), markers)

    def untold(
        self, want: Any, path: str, shown: str, markers: frozenset[Marker]
    ) -> Iterator[Difference]:
        now = _fingerprint(want, self.versions.get(path, ""))
        if self.written.get(path) != now:
            before = self.written.get(path)
            known = HIDDEN if before is not None or path in self.versions else None
            edited = before is not None and before.split("|")[0] != now.split("|")[0]
            yield Difference(path, shown, HIDDEN, known, markers, edited)

    def unread(
        self,
        want: Any,
        path: str,
        shown: str,
        markers: frozenset[Marker],
        key: str | None,
    ) -> Iterator[Difference]:
        """A field that the vendor does not tell: only what is resolved in it is followed."""
        for here, value in _untold_below(want, path, key):
            yield from self.untold(value, here, f"{shown}{here[len(path) :]}", markers)

    def told(self, has: object, path: str) -> str | None:
        """What the vendor has of what is declared otherwise or no more.

        Hidden where something was looked up for it once: that may have been a secret.
        """
        looked_up = any(p == path or p.startswith(f"{path}.") for p in self.written)
        return HIDDEN if looked_up and has is not None else text(has)

    def _had_another_source(self, want: Resolved, path: str) -> bool:
        before = self.written.get(path)
        return before is not None and before.split("|")[0] != _fingerprint(want, "").split("|")[0]

    def _left_to_others(self, shown: str) -> bool:
        return any(shown == p or shown.startswith(f"{p}.") for p in self.memory.create_only)


def _fingerprint(value: object, version: str) -> str:
    source = value.version if isinstance(value, Resolved) else digest(value)
    return f"{source}|{version}"


def _untold(want: BaseModel, path: str) -> Iterator[tuple[str, object]]:
    for name, write_only, key in _declared(type(want)):
        value = getattr(want, name)
        if value is None:
            continue
        if write_only:
            yield f"{path}{name}", value
        elif not isinstance(value, str | int | float):
            yield from _untold_below(value, f"{path}{name}", key)


@cache
def _declared(model: type[BaseModel]) -> tuple[tuple[str, bool, str | None], ...]:
    """The fields that are sent to the vendor: name, whether write-only, the key of its entries."""
    return tuple(
        (name, marked(model, name, WRITE_ONLY), key_field(model, name))
        for name in model.model_fields
        if not marked(model, name, ENGINE)
    )


def _untold_below(value: object, path: str, key: str | None = None) -> Iterator[tuple[str, object]]:
    if isinstance(value, Resolved):
        yield path, value
    elif isinstance(value, BaseModel):
        yield from _untold(value, f"{path}.")
    elif isinstance(value, dict):
        for name, item in value.items():
            yield from _untold_below(item, f"{path}.{name}")
    elif isinstance(value, list):
        for index, item in enumerate(value):
            yield from _untold_below(item, f"{path}.{getattr(item, key) if key else index}")


def _same(want: object, has: object) -> bool:
    if isinstance(want, set | frozenset):
        return isinstance(has, set | frozenset | list | tuple) and set(want) == set(has)
    if isinstance(want, list | tuple):
        return (
            isinstance(has, list | tuple)
            and len(want) == len(has)
            and all(_same(a, b) for a, b in zip(want, has, strict=True))
        )
    if isinstance(want, BaseModel):
        return isinstance(has, BaseModel) and all(
            getattr(want, n) is None
            or n not in has.model_fields_set
            or _same(getattr(want, n), getattr(has, n))
            for n in type(want).model_fields
        )
    if want == has:
        return True
    if isinstance(want, str) and isinstance(has, str):
        # The vendor may spell a duration otherwise: 60s for 1m.
        return bool(
            _DURATION.fullmatch(want) and _DURATION.fullmatch(has) and seconds(want) == seconds(has)
        )
    return False


def text(value: object) -> str | None:
    """A value as people may see it: short, and without secrets."""
    if value is None:
        return None
    if isinstance(value, SecretStr) or (isinstance(value, Resolved) and is_secret(value)):
        return HIDDEN
    if isinstance(value, Resolved):
        try:
            shown = value.reveal()
        except LookupError:
            shown = _json(value)
    elif isinstance(value, str) and not isinstance(value, Enum):
        shown = value
    else:
        shown = _json(value)
    shown = hide(shown)
    return shown if len(shown) <= LONGEST_TEXT else shown[: LONGEST_TEXT - 1] + CUT


def _json(value: object) -> str:
    plain = _plain(value)
    return (
        plain if isinstance(plain, str) else json.dumps(plain, separators=(",", ":"), default=str)
    )


def _plain(value: object) -> object:
    if isinstance(value, SecretValue | SecretStr):
        return HIDDEN
    if isinstance(value, BaseModel):
        # Not by pydantic: it warns, with the value, of what a vendor told in another type.
        cls = type(value)
        given = ((n, getattr(value, n)) for n in cls.model_fields if n in value.model_fields_set)
        return {alias_of(cls, name): _plain(item) for name, item in given if item is not None}
    if isinstance(value, dict):
        return {k: _plain(v) for k, v in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [_plain(v) for v in (sorted(value) if isinstance(value, set | frozenset) else value)]
    return value.value if isinstance(value, Enum) else value
