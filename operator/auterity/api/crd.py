"""From kinds, vendors' params and connectors to CustomResourceDefinitions."""

import re
from collections.abc import Iterable, Mapping
from typing import Any, Final

from auterity.api import GROUP, VERSION
from auterity.api.common import CommonSpec, ConditionedStatus
from auterity.api.connection import (
    ClusterConnectionSpec,
    ConnectionParams,
    ConnectionSpec,
    ConnectionStatus,
)
from auterity.api.cost import PricedStatus
from auterity.api.fields import Params, Rule
from auterity.api.kinds import Kind, Local
from auterity.api.schema import (
    RULES,
    Node,
    SchemaError,
    escaped,
    exactly_one,
    structural,
    validation,
)

CATEGORY: Final = "integrations"

# The name at the vendor is the object's own name where none is given: giving one later is a change.
_NAME_IS_FIXED: Final = Rule(
    "has(oldSelf.externalName) || !has(self.externalName)",
    "externalName cannot be set later: the object's own name is in use",
    ".externalName",
)
_VENDOR: Final = re.compile(r"[a-z][A-Za-z0-9]*")


def integration(kind: Kind, vendors: Mapping[str, type[Params]]) -> Node:
    """The CRD of a kind with the params of every vendor that offers it. Raises SchemaError."""
    path = f"{kind.name}.spec"
    common = structural(CommonSpec, path)
    common["properties"]["deletionPolicy"]["default"] = kind.deletion_policy.value
    common[RULES] = [*common[RULES], validation(_NAME_IS_FIXED)]
    portable = structural(kind.params, path)
    spec = _with_vendors(
        _joined(path, common, portable),
        {
            name: structural(params, f"{path}.{name}", beyond=kind.params)
            for name, params in vendors.items()
        },
        path,
    )
    return _definition(
        names=(kind.name, kind.plural, kind.short),
        scope="Namespaced",
        description=portable["description"],
        spec=spec,
        status=kind.status,
        columns=[
            _condition("Ready", "status"),
            _condition("Reason", "reason"),
            _column("Vendor", ".status.vendor"),
            _column("Id", ".status.id"),
            _column("Age", ".metadata.creationTimestamp", type="date"),
            _condition("Message", "message", priority=1),
            _column("Connection", ".spec.connectionRef.name", priority=1),
            *([_COST] if issubclass(kind.status, PricedStatus) else ()),
        ],
    )


def local(kind: Local) -> Node:
    """The CRD of a kind without a vendor. Raises SchemaError."""
    spec = structural(kind.spec, f"{kind.name}.spec")
    return _definition(
        names=(kind.name, kind.plural, kind.short),
        scope="Namespaced",
        description=spec["description"],
        spec={**spec, "description": "What is wanted."},
        status=kind.status,
        columns=[
            _condition("Ready", "status"),
            _condition("Reason", "reason"),
            *(_column(title, path, type=type_) for title, path, type_ in kind.columns),
            _column("Age", ".metadata.creationTimestamp", type="date"),
            _condition("Message", "message", priority=1),
        ],
    )


def connections(connectors: Mapping[str, type[ConnectionParams]]) -> list[Node]:
    """The CRDs of Connection and ClusterConnection. Raises SchemaError."""
    blocks = {
        name: structural(params, f"Connection.spec.{name}") for name, params in connectors.items()
    }
    found = []
    for kind, scope, short, model in (
        ("Connection", "Namespaced", "conn", ConnectionSpec),
        ("ClusterConnection", "Cluster", "cconn", ClusterConnectionSpec),
    ):
        path = f"{kind}.spec"
        spec = structural(model, path)
        crd = _definition(
            names=(kind, f"{kind.lower()}s", short),
            scope=scope,
            description=spec["description"],
            spec=_with_vendors(spec, blocks, path),
            status=ConnectionStatus,
            columns=[
                _condition("Ready", "status"),
                _condition("Reason", "reason"),
                _column("Vendor", ".status.vendor"),
                _column("Identity", ".status.identity"),
                _column("Age", ".metadata.creationTimestamp", type="date"),
                _condition("Message", "message", priority=1),
            ],
        )
        found.append(crd)
    return found


def _joined(path: str, *parts: Node) -> Node:
    """One object with the properties and rules of several."""
    properties: Node = {}
    for part in parts:
        _refuse_twins(path, properties, part.get("properties", {}))
        properties |= part.get("properties", {})
    return {
        "type": "object",
        "properties": properties,
        "required": sorted(name for part in parts for name in part.get("required", ())),
        RULES: [rule for part in parts for rule in part.get(RULES, ())],
    }


def _with_vendors(spec: Node, blocks: Mapping[str, Node], path: str) -> Node:
    """The spec with one optional block a vendor, of which exactly one is given for good."""
    if not blocks:
        raise SchemaError(path, "no vendor offers it")
    _refuse_twins(path, spec["properties"], blocks)
    for name, block in blocks.items():
        if not _VENDOR.fullmatch(name):
            raise SchemaError(path, f"{name} is not a name in camelCase")
        if "description" not in block:
            raise SchemaError(f"{path}.{name}", "is not documented")
    vendors = sorted(blocks)
    one = exactly_one(vendors, f"exactly one vendor must be given: {', '.join(vendors)}")
    same = " && ".join(f"(!has(oldSelf.{v}) || has(self.{v}))" for v in map(escaped, vendors))
    fixed = Rule(same, "the vendor cannot change: delete and create anew")
    return {
        **spec,
        "description": "What is wanted.",
        "properties": {**spec["properties"], **blocks},
        RULES: [*spec.get(RULES, ()), validation(one), validation(fixed)],
    }


def _refuse_twins(path: str, some: Iterable[str], others: Iterable[str]) -> None:
    for name in sorted(set(some) & set(others)):
        raise SchemaError(f"{path}.{name}", "declared twice")


def _definition(  # noqa: PLR0913 - every argument is a part of the manifest
    *,
    names: tuple[str, str, str],
    scope: str,
    description: str,
    spec: Node,
    status: type[ConditionedStatus],
    columns: list[Node],
) -> Node:
    kind, plural, short = names
    # GitOps tools wait for an object whose status says that its generation was never looked at.
    seen = structural(status, f"{kind}.status")
    seen["default"] = {"observedGeneration": -1}
    properties = {
        "apiVersion": {"type": "string", "description": "Version of the schema."},
        "kind": {"type": "string", "description": "Kind of the object."},
        "metadata": {"type": "object"},
        "spec": spec,
        "status": seen,
    }
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {
            "name": f"{plural}.{GROUP}",
            "labels": {"app.kubernetes.io/part-of": "auterity"},
        },
        "spec": {
            "group": GROUP,
            "scope": scope,
            "names": {
                "kind": kind,
                "listKind": f"{kind}List",
                "plural": plural,
                "singular": kind.lower(),
                "shortNames": [short],
                "categories": [CATEGORY],
            },
            "versions": [
                {
                    "name": VERSION,
                    "served": True,
                    "storage": True,
                    "subresources": {"status": {}},
                    "additionalPrinterColumns": columns,
                    "schema": {
                        "openAPIV3Schema": {
                            "type": "object",
                            "description": description,
                            "properties": properties,
                            "required": ["spec"],
                        }
                    },
                }
            ],
        },
    }


def _column(name: str, path: str, **more: Any) -> Node:
    return {"name": name, "type": "string", "jsonPath": path, **more}


def _condition(name: str, field: str, **more: Any) -> Node:
    return _column(name, f'.status.conditions[?(@.type=="Ready")].{field}', **more)


_COST: Final = _column("Cost", ".status.cost.most", type="number", priority=1)
