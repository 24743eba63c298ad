"""What the API server would say of a manifest: found from the models, without a cluster.

Types, bounds and required fields are told by the same pydantic models that the operator reads
with, in their strict form; unknown fields and duplicates by the structural schema of the CRD. Of
the CRD's CEL rules those are covered that a model checks itself.
"""

import difflib
import json
from collections.abc import Callable, Iterator, Mapping
from functools import cache
from typing import Any, Final

from pydantic import TypeAdapter, ValidationError

from auterity.api import API_VERSION, VERSION, crd
from auterity.api.common import CommonSpec
from auterity.api.connection import ClusterConnectionSpec, ConnectionSpec
from auterity.api.fields import Model, ObjectName, alias_of
from auterity.api.kinds import KINDS, LOCAL, PLURALS
from auterity.api.schema import FREE_FORM, LIST_TYPE, MAP_KEYS, Node
from auterity.cli.files import JSON, Fault, Manifest, Step, Where
from auterity.engine.declared import connectors, vendor_of
from auterity.engine.drift import Memory, unknown_paths
from auterity.providers import catalogue

CONNECTIONS: Final[Mapping[str, type[ConnectionSpec]]] = {
    "Connection": ConnectionSpec,
    "ClusterConnection": ClusterConnectionSpec,
}
_NAME: Final = TypeAdapter(ObjectName)
Tell = Callable[[Where, str], Fault]


def faults(manifest: Manifest) -> Iterator[Fault]:
    """What is wrong with one object of ours."""
    tell = manifest.fault
    version = manifest.data.get("apiVersion")
    if version != API_VERSION:
        yield tell(("apiVersion",), f"{version} is not known; this version serves {VERSION}")
        return
    if manifest.kind not in PLURALS:
        near = difflib.get_close_matches(manifest.kind, list(PLURALS), 1)
        hint = f"; did you mean {near[0]}?" if near else ""
        yield tell(("kind",), f"there is no kind {manifest.kind!r}{hint}")
        return
    yield from _metadata(manifest, tell)
    spec = manifest.data.get("spec")
    if not isinstance(spec, dict):
        yield tell(("spec",), "is required")
        return
    schema = definition(manifest.kind)
    top = {key: value for key, value in manifest.data.items() if key != "metadata"}
    yield from _shape(top, schema, (), tell)
    if manifest.kind in CONNECTIONS:
        yield from _connection(manifest.kind, spec, tell)
    elif manifest.kind in LOCAL:
        yield from _invalid(LOCAL[manifest.kind].spec, spec, tell)
    else:
        yield from _integration(manifest, spec, tell)


@cache
def definition(kind: str) -> Node:
    """The schema of a kind, as its CRD has it."""
    found = next(one for one in crds() if one["spec"]["names"]["kind"] == kind)
    schema: Node = found["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
    return schema


@cache
def crds() -> tuple[Node, ...]:
    """The CRD of every kind that some vendor offers, and of every other one."""
    providers = catalogue()
    made = []
    for kind in KINDS.values():
        offered = {v: p.params for (name, v), p in providers.items() if name == kind.name}
        if offered:
            made.append(crd.integration(kind, offered))
    return (*made, *map(crd.local, LOCAL.values()), *crd.connections(connectors(providers)))


def _metadata(manifest: Manifest, tell: Tell) -> Iterator[Fault]:
    given = manifest.metadata
    if "name" not in given and "generateName" not in given:
        yield tell(("metadata", "name"), "is required")
    for field in ("name", "namespace"):
        if field in given:
            try:
                _NAME.validate_python(given[field], strict=True)
            except ValidationError:
                where = ("metadata", field)
                yield tell(where, "is not a name: lower-case letters, digits, - and . only")
    if manifest.kind == "ClusterConnection" and "namespace" in given:
        yield tell(("metadata", "namespace"), "a ClusterConnection has none")
    for field in ("labels", "annotations"):
        for key, value in (given.get(field) or {}).items():
            if not isinstance(value, str):
                yield tell(("metadata", field, key), "must be a string: put it in quotes")


def _shape(value: Any, schema: Node, where: Where, tell: Tell) -> Iterator[Fault]:
    """Unknown fields and duplicates; what has the wrong type is told by the model."""
    if isinstance(value, dict):
        properties: Mapping[str, Node] = schema.get("properties", {})
        for key, item in value.items():
            below = properties.get(key, schema.get("additionalProperties"))
            if isinstance(below, dict):
                yield from _shape(item, below, (*where, key), tell)
            elif FREE_FORM not in schema:
                near = difflib.get_close_matches(str(key), properties, 1)
                hint = f"; did you mean {near[0]}?" if near else ""
                yield tell((*where, key), f"is not a field{hint}")
    elif isinstance(value, list):
        for index, item in enumerate(value):
            yield from _shape(item, schema.get("items", {}), (*where, index), tell)
        for index in _twins(value, schema):
            yield tell((*where, index), "is given twice")


def _twins(items: list[Any], schema: Node) -> Iterator[int]:
    """Items that a set or a keyed list has twice."""
    if LIST_TYPE not in schema:
        return
    seen: list[Any] = []
    for index, item in enumerate(items):
        keys = schema.get(MAP_KEYS)
        if keys and not isinstance(item, dict):
            continue
        key = [item.get(name) for name in keys] if keys else item
        if key in seen:
            yield index
        seen.append(key)


def _connection(kind: str, spec: JSON, tell: Tell) -> Iterator[Fault]:
    known = connectors(catalogue())
    given = [name for name in spec if name in known]
    blocks = [(tuple(given[:1]), known[given[0]])] if len(given) == 1 else []
    if len(given) != 1:
        few = ", ".join(given) or "none"
        yield tell(("spec",), f"must have exactly one vendor block, of {_few(known)}; has {few}")
    yield from _invalid(CONNECTIONS[kind], {k: v for k, v in spec.items() if k not in known}, tell)
    for path, connector in blocks:
        block = spec[path[0]]
        if block is not None and not isinstance(block, dict):
            yield tell(("spec", *path), "must be an object")
            continue
        yield from _invalid(connector, block or {}, tell, *path)


def _integration(manifest: Manifest, spec: JSON, tell: Tell) -> Iterator[Fault]:
    kind, providers = KINDS[manifest.kind], catalogue()
    vendors = [vendor for name, vendor in providers if name == kind.name]
    vendor = vendor_of(kind.name, spec, providers)
    yield from _invalid(CommonSpec, spec, tell)
    if vendor is None:
        given = ", ".join(name for name in spec if name in vendors) or "none"
        yield tell(
            ("spec",), f"must have exactly one vendor block, of {_few(vendors)}; has {given}"
        )
        yield from _invalid(kind.params, {k: v for k, v in spec.items() if k not in vendors}, tell)
        return
    block = spec[vendor]
    if block is not None and not isinstance(block, dict):
        yield tell(("spec", vendor), "must be an object")
        return
    params = providers[kind.name, vendor].params
    portable = {alias_of(kind.params, name) for name in kind.params.model_fields}
    name = spec.get("externalName") or manifest.name
    merged = {
        **{k: v for k, v in spec.items() if k in portable},
        **{k: v for k, v in (block or {}).items() if k not in portable},
        "name": name if isinstance(name, str) else "",
    }
    yield from _invalid(params, merged, tell, vendor, portable=portable)
    names = spec.get("createOnly")
    if isinstance(names, list) and all(isinstance(one, str) for one in names):
        fields = frozenset(kind.params.model_fields)
        memory = Memory(create_only=tuple(names), vendor=vendor, portable=fields)
        for path in unknown_paths(params, memory):
            where = ("spec", "createOnly", names.index(path))
            yield tell(where, f"{path} names no field of this kind")


def _invalid(
    model: type[Model], data: JSON, tell: Tell, *block: str, portable: set[str] | None = None
) -> Iterator[Fault]:
    """What the model refuses. `portable`: fields that stand outside of the block."""
    try:
        model.model_validate_json(json.dumps(data, default=str), strict=True)
    except ValidationError as error:
        for problem in error.errors(include_url=False, include_input=False):
            path = problem["loc"]
            outside = portable is not None and path and path[0] in portable
            where: tuple[Step, ...] = ("spec", *(() if outside else block), *_plain(path))
            yield tell(where, _words(problem["msg"], str(problem["type"])))


def _plain(path: tuple[Step, ...]) -> Iterator[Step]:
    """Without what pydantic adds, such as [key]."""
    return (step for step in path if step != "[key]")


def _words(message: str, type_: str) -> str:
    if type_ == "missing":
        return "is required"
    message = message.removeprefix("Value error, ")
    return f"{message[:1].lower()}{message[1:]}"


def _few(names: Any) -> str:
    shown = sorted(names)
    return ", ".join(shown[:12]) + (f" and {len(shown) - 12} more" if len(shown) > 12 else "")  # noqa: PLR2004 - fits a line
