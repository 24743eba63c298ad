"""From what a vendor answers to a manifest that takes it over: only what the answer has."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from enum import Enum
from typing import Any, Final, get_args

from pydantic import BaseModel

from auterity.api import API_VERSION
from auterity.api.common import ConnectionRef, DeletionPolicy, Policy
from auterity.api.fields import (
    ENGINE,
    Model,
    Params,
    Resolved,
    SecretValue,
    Value,
    alias_of,
    is_secret,
    marked,
    resolvables,
)
from auterity.api.kinds import KINDS
from auterity.cli.check import PLACEHOLDER
from auterity.cli.files import JSON, Where, dotted, parse
from auterity.cli.output import as_yaml
from auterity.cli.schema import faults
from auterity.engine.contract import Observed, Provider
from auterity.engine.drift import Memory, compare

MOST_LEFT_OUT: Final = 50
LONGEST_NAME: Final = 63
_SECRETIVE: Final = re.compile(
    r"(?i)key|token|secret|passw|credential|private|dsn|webhook|://[^/\s]*:[^/\s]*@"
)
"""Names and values that are taken for secrets, though the vendor tells them to everyone."""
_SOURCES: Final = ("value", "secret_key_ref", "output_ref")


@dataclass
class Imported:
    """A manifest, and what a person has to know of it."""

    manifest: JSON
    vendor: str
    placeholders: list[str] = field(default_factory=list)
    """Fields to fill in: secrets, which no vendor tells and no manifest holds."""
    missing: list[str] = field(default_factory=list)
    """Required fields that the vendor does not tell."""
    left_out: list[str] = field(default_factory=list)
    """What the vendor has and a manifest cannot say, with the reason."""
    changes: list[str] = field(default_factory=list)
    """What taking it over would change, placeholders aside."""
    notes: list[str] = field(default_factory=list)

    def text(self) -> str:
        """The manifest as YAML, with what there is to know above it."""
        lines = [
            f"Imported from {self.vendor}. The operator shows a plan before it takes this over."
        ]
        for title, items in (
            ("Fill in", self.placeholders),
            ("Required, and not told by the vendor", self.missing),
            ("Left out", self.left_out),
            ("Taking it over changes", self.changes),
        ):
            lines += [f"{title}: {item}" for item in items]
        comment = "\n".join(f"# {' '.join(line.split())}" for line in [*lines, *self.notes])
        return f"{comment}\n{as_yaml(self.manifest)}"


_BEFORE: Final = ("connectionRef", "externalName", "policy", "deletionPolicy")


def imported(  # noqa: PLR0913 - what a manifest is made of
    provider: type[Provider[Any, Any]],
    observed: Observed[Any],
    *,
    name: str,
    namespace: str | None,
    connection: ConnectionRef,
    given: Mapping[str, Any],
) -> Imported:
    """The manifest of what was read. `given`: fields (YAML names) that it was found by."""
    writer = _Writer()
    kind = KINDS[provider.kind]
    observed = _whole(observed)
    portable, own = writer.spec(observed.actual, provider.params, kind.params)
    aliases = {alias_of(kind.params, one) for one in kind.params.model_fields}
    for key, value in given.items():
        (portable if key in aliases else own).setdefault(key, value)
    object_name = _object_name(name)
    spec: JSON = {"connectionRef": {"name": connection.name}}
    if connection.kind != "Connection":
        spec["connectionRef"] = {"kind": connection.kind, "name": connection.name}
    if object_name != name:
        spec["externalName"] = name
    spec["policy"] = Policy.ADOPT.value
    # It was there before: deleting the manifest must not delete it.
    spec["deletionPolicy"] = DeletionPolicy.RETAIN.value
    metadata = {"name": object_name, **({"namespace": namespace} if namespace else {})}
    it = Imported(
        {
            "apiVersion": API_VERSION,
            "kind": kind.name,
            "metadata": metadata,
            # Portable fields before the vendor's block, as people write them.
            "spec": {**spec, **portable, provider.vendor: own},
        },
        provider.vendor,
    )
    it.missing = [_shown(w, provider, aliases) for w in writer.missing if w[0] not in given]
    _drop_what_is_refused(it)
    it.placeholders = sorted(
        dotted(where[:-1])
        for where, value in _leaves(it.manifest, ())
        if where[-2:] == ("secretKeyRef", "name") and value == PLACEHOLDER
    )
    if not it.missing:
        _tell_changes(it, provider, observed)
    return it


def _whole(observed: Observed[Any]) -> Observed[Any]:
    """With what its serving revision has, where it has revisions."""
    if not observed.revisions:
        return observed
    serving = max(observed.revisions, key=lambda one: one.weight).actual
    told = {n: getattr(one, n) for one in (observed.actual, serving) for n in one.model_fields_set}
    return replace(observed, actual=type(observed.actual).seen(**told))


class _Writer:
    """Writes models as YAML, with placeholders for secrets."""

    def __init__(self) -> None:
        self.missing: list[Where] = []

    def spec(
        self, actual: Params, params: type[Params], portable: type[Params]
    ) -> tuple[JSON, JSON]:
        """The portable fields, and the vendor's own."""
        shared: JSON = {}
        own: JSON = {}
        for alias, value, name in self.fields(actual, params, ()):
            (shared if name in portable.model_fields else own)[alias] = value
        return shared, own

    def fields(
        self, value: BaseModel, model: type[BaseModel], where: Where, besides: tuple[str, ...] = ()
    ) -> Iterator[tuple[str, Any, str]]:
        """Every field that was told, by its YAML name, and required ones that were not."""
        besides = (*besides, *_other_choices(value))
        for name, info in model.model_fields.items():
            if name in besides or marked(model, name, ENGINE):
                continue
            alias = alias_of(model, name)
            told = getattr(value, name, None) if name in value.model_fields_set else None
            if isinstance(told, Resolved) and not isinstance(told, Value | SecretValue):
                # A reference to another object: no vendor knows of it.
                continue
            if told is not None:
                yield alias, self.plain(told, (*where, alias)), name
            elif info.is_required():
                if _is_resolved(info.annotation):
                    yield alias, _placeholder((*where, alias)), name
                else:
                    self.missing.append((*where, alias))

    def plain(self, value: Any, where: Where) -> Any:
        """A value as it stands in YAML."""
        if isinstance(value, Resolved):
            others = {
                alias: told
                for alias, told, _ in self.fields(value, type(value), where, besides=_SOURCES)
            }
            return {**others, **_source(value, (*where, *map(str, others.values())))}
        if isinstance(value, BaseModel):
            return {alias: told for alias, told, _ in self.fields(value, type(value), where)}
        if isinstance(value, Mapping):
            return {str(k): self.plain(v, (*where, str(k))) for k, v in value.items()}
        if isinstance(value, set | frozenset):
            return sorted(self.plain(item, where) for item in value)
        if isinstance(value, list | tuple):
            return [self.plain(item, (*where, index)) for index, item in enumerate(value)]
        return value.value if isinstance(value, Enum) else value


def _other_choices(value: BaseModel) -> Iterator[str]:
    """Where several of what excludes each other were told: all but the first."""
    if isinstance(value, Model):
        for fields in (type(value).one_of, type(value).at_most_one_of):
            told = [n for n in fields if n in value.model_fields_set and getattr(value, n)]
            yield from told[1:]


def _source(value: Resolved, where: Where) -> JSON:
    """Where a value comes from: itself, if it may be told."""
    try:
        told = value.reveal()
    except LookupError:
        return _placeholder(where)
    secretive = any(isinstance(step, str) and _SECRETIVE.search(step) for step in where)
    if (
        is_secret(value)
        or not isinstance(value, Value)
        or secretive
        or _SECRETIVE.search(told[:2048])
    ):
        return _placeholder(where)
    return {"value": told}


def _placeholder(where: Where) -> JSON:
    named = [step for step in where if isinstance(step, str)]
    key = re.sub(r"[^-._a-zA-Z0-9]", "-", named[-1] if named else "value")[:253]
    return {"secretKeyRef": {"name": PLACEHOLDER, "key": key}}


def _is_resolved(annotation: Any) -> bool:
    if isinstance(annotation, type):
        return issubclass(annotation, Resolved)
    return any(_is_resolved(part) for part in get_args(annotation))


def _object_name(name: str) -> str:
    """A name that Kubernetes takes."""
    return (
        re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")[:LONGEST_NAME].strip("-") or "imported"
    )


def _shown(path: Where, provider: type[Provider[Any, Any]], portable: set[str]) -> str:
    block = () if path[0] in portable else (provider.vendor,)
    return dotted(("spec", *block, *path))


def _drop_what_is_refused(it: Imported) -> None:
    """Leave out what this version's schema does not take, as long as it can be left out."""
    for _ in range(MOST_LEFT_OUT):
        (manifest,), _broken = parse("", as_yaml(it.manifest))
        found = [f for f in faults(manifest) if f.message != "is required" and len(f.where) > 2]  # noqa: PLR2004 - below spec
        if not found:
            return
        fault = found[0]
        if not _remove(it.manifest, fault.where):
            it.left_out.append(f"{fault.field}: {fault.message}")
            return
        it.left_out.append(f"{fault.field}: {fault.message}")


def _remove(data: Any, where: Where) -> bool:
    for step in where[:-1]:
        try:
            data = data[step]
        except (KeyError, IndexError, TypeError):
            return False
    try:
        del data[where[-1]]
    except (KeyError, IndexError, TypeError):
        return False
    return True


def _tell_changes(
    it: Imported, provider: type[Provider[Any, Any]], observed: Observed[Any]
) -> None:
    """What the engine would change on taking it over, the placeholders' fields aside."""
    spec = it.manifest["spec"]
    block = spec[provider.vendor]
    portable = KINDS[provider.kind].params
    merged = {k: v for k, v in spec.items() if k not in (*_BEFORE, provider.vendor)}
    try:
        want = provider.params.model_validate({**merged, **block, "name": ""})
    except ValueError:
        # It is told already what is refused, or missing.
        return
    for value in resolvables(want):
        value.resolve(getattr(value, "value", None) or PLACEHOLDER, "")
    memory = Memory(vendor=provider.vendor, portable=frozenset(portable.model_fields))
    placeholders = [where.removeprefix("spec.") for where in _secret_paths(want)]
    for change in compare(want, observed.actual, memory, observed.versions):
        if not any(change.path == p or change.path.startswith(f"{p}.") for p in placeholders):
            it.changes.append(f"spec.{change.shown} from {change.actual} to {change.want}")


def _secret_paths(value: Any, path: str = "") -> Iterator[str]:
    """Paths, as the engine writes them, of what is taken from Secrets."""
    if isinstance(value, Resolved):
        if getattr(value, "secret_key_ref", None) is not None:
            yield path
    elif isinstance(value, BaseModel):
        for name in type(value).model_fields:
            yield from _secret_paths(getattr(value, name), f"{path}.{name}" if path else name)
    elif isinstance(value, Mapping):
        for name, item in value.items():
            yield from _secret_paths(item, f"{path}.{name}")
    elif isinstance(value, list):
        for item in value:
            yield from _secret_paths(item, f"{path}.{getattr(item, 'name', '')}")


def _leaves(value: Any, where: Where) -> Iterator[tuple[Where, Any]]:
    if isinstance(value, dict):
        for key, item in value.items():
            yield from _leaves(item, (*where, key))
    elif isinstance(value, list):
        for index, item in enumerate(value):
            yield from _leaves(item, (*where, index))
    else:
        yield where, value
