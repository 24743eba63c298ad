"""Tells, as an OpenAPI description, what Azure's SDKs send. Run by an interpreter that has them.

Nothing of the project is imported here: the SDKs are in an environment of their own.
"""

import importlib
import inspect
import json
import re
import sys
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Union, get_args, get_origin

JSON = dict[str, Any]
MACHINE_LEARNING = "azure.ai.ml._restclient.arm_ml_service"
CLIENT = "MachineLearningServicesMgmtClient"
COGNITIVE = "azure.mgmt.cognitiveservices"
MONITOR = "azure.mgmt.monitor"

OPERATIONS: dict[str, dict[str, dict[str, str | None]]] = {
    COGNITIVE: {
        "_deployments_operations": {
            "build_list_request": None,
            "build_get_request": None,
            "build_create_or_update_request": "Deployment",
            "build_delete_request": None,
        },
        "_accounts_operations": {
            "build_get_request": None,
            "build_list_by_resource_group_request": None,
            "build_list_keys_request": None,
        },
    },
    MONITOR: {
        "_autoscale_settings_operations": {
            "build_get_request": None,
            "build_create_or_update_request": "AutoscaleSettingResource",
            "build_delete_request": None,
        },
        "_metrics_operations": {"build_list_request": None},
    },
    MACHINE_LEARNING: {
        "_operations": {
            "build_workspaces_get_request": None,
            "build_online_endpoints_get_request": None,
            "build_online_endpoints_create_or_update_request": "OnlineEndpoint",
            "build_online_endpoints_delete_request": None,
            "build_online_endpoints_list_request": None,
            "build_online_endpoints_list_keys_request": None,
            "build_online_deployments_get_request": None,
            "build_online_deployments_list_request": None,
            "build_online_deployments_create_or_update_request": "OnlineDeployment",
            "build_online_deployments_update_request": "PartialMinimalTrackedResourceWithSku",
            "build_online_deployments_delete_request": None,
            "build_model_versions_list_request": None,
            "build_model_versions_delete_request": None,
            "build_jobs_get_request": None,
            "build_jobs_create_or_update_request": "JobBase",
            "build_jobs_cancel_request": None,
            "build_jobs_delete_request": None,
        },
    },
}
"""Which requests to tell, by package and module, and the model of their body."""
ABOUT: dict[str, str] = {
    "/{resourceUri}": "/subscriptions/{s}/resourceGroups/{g}/providers"
    "/Microsoft.MachineLearningServices/workspaces/{w}/onlineEndpoints/{e}",
}
"""What requests about any resource are sent about here."""
SIMPLE: dict[str, JSON] = {
    "str": {"type": "string"},
    "int": {"type": "integer"},
    "bool": {"type": "boolean"},
    "float": {"type": "number"},
    "iso-8601": {"type": "string"},
    "duration": {"type": "string", "pattern": "^P"},
}
LIMITS = {
    "pattern": "pattern",
    "max_length": "maxLength",
    "min_length": "minLength",
    "minimum": "minimum",
    "maximum": "maximum",
}


def loaded(package: str) -> tuple[Any, dict[str, Any]]:
    """The module of models, and those of operations."""
    if package == MACHINE_LEARNING:
        # What stands above it loads a hundred packages, which describe nothing.
        above = types.ModuleType("azure.ai.ml")
        where = next(
            Path(p) / "azure/ai/ml" for p in sys.path if (Path(p) / "azure/ai/ml").is_dir()
        )
        above.__path__ = [str(where)]
        sys.modules["azure.ai.ml"] = above
    modules = {
        name: importlib.import_module(f"{package}.operations.{name}")
        for name in OPERATIONS[package]
    }
    return importlib.import_module(f"{package}.models"), modules


class Schemas:
    """The schemas of an SDK's models, as far as they are asked for."""

    def __init__(self, models: Any, prefix: str) -> None:
        self.models, self.prefix = models, prefix
        self.found: dict[str, JSON] = {}

    def ref(self, name: str) -> JSON:
        key = f"{self.prefix}{name}"
        if key not in self.found:
            self.found[key] = {}
            self.found[key] |= self.of(getattr(self.models, name))
        return {"$ref": f"#/components/schemas/{key}"}

    def of(self, model: Any) -> JSON:
        subtypes = self.subtypes(model)
        if subtypes:
            return {"anyOf": [self.ref(name) for name in subtypes]}
        fields = self.old(model) if hasattr(model, "_attribute_map") else self.new(model)
        whole = _object()
        for key, schema, needed in fields:
            # A key with dots is a field of an object that the SDK spares its users.
            *above, name = key.split(".")
            there = whole
            for part in above:
                there = there["properties"].setdefault(part, _object())
            there["properties"][name] = schema
            if needed:
                there["required"].append(name)
        return whole

    def subtypes(self, model: Any) -> list[str]:
        if hasattr(model, "_subtype_map"):
            return [name for each in model._subtype_map.values() for name in each.values()]
        return [each.__name__ for each in vars(model).get("__mapping__", {}).values()]

    def old(self, model: Any) -> Iterator[tuple[str, JSON, bool]]:
        for name, entry in model._attribute_map.items():
            rules = model._validation.get(name, {})
            if rules.get("readonly"):
                continue
            schema = self.enumerated(model, name) or self.typed(entry["type"])
            schema |= {
                LIMITS[k]: v for k, v in rules.items() if k in LIMITS and "$ref" not in schema
            }
            yield entry["key"], schema, bool(rules.get("required"))

    def enumerated(self, model: Any, name: str) -> JSON | None:
        parameter = inspect.signature(model.__init__).parameters.get(name)
        found = re.search(
            r'Union\[str, "?_models\.(\w+)"?\]', str(getattr(parameter, "annotation", ""))
        )
        if not found or "list[" in str(parameter):
            found = found or re.search(r"ForwardRef\('_models\.(\w+)'\)", str(parameter))
        if not found or not hasattr(getattr(self.models, found[1]), "__members__"):
            return None
        return {"enum": [each.value for each in getattr(self.models, found[1])]}

    def typed(self, kind: str) -> JSON:
        if kind.startswith("{"):
            return {"type": "object", "additionalProperties": self.typed(kind[1:-1])}
        if kind.startswith("["):
            return {"type": "array", "items": self.typed(kind[1:-1])}
        if kind in SIMPLE:
            return dict(SIMPLE[kind])
        return self.ref(kind) if hasattr(self.models, kind) else {}

    def new(self, model: Any) -> Iterator[tuple[str, JSON, bool]]:
        seen: dict[str, tuple[str, JSON, bool]] = {}
        for cls in reversed(model.__mro__):
            for name, annotation in vars(cls).get("__annotations__", {}).items():
                field = vars(cls).get(name)
                key = getattr(field, "_rest_name_input", None) or name
                if field is None or not hasattr(field, "_visibility"):
                    continue
                writable = not field._visibility or {"create", "update"} & set(field._visibility)
                optional = type(None) in get_args(annotation) or str(annotation).startswith("Opt")
                seen[name] = (key, self.annotated(annotation, cls), not optional)
                if not writable:
                    del seen[name]
        yield from seen.values()

    def annotated(self, annotation: Any, cls: Any) -> JSON:
        if isinstance(annotation, str):
            module = sys.modules[cls.__module__]
            names = {**vars(module), "_models": self.models}
            annotation = eval(annotation, names)
        return self.shape(annotation)

    def shape(self, kind: Any) -> JSON:  # noqa: PLR0911 - one return a shape
        origin, args = get_origin(kind), [a for a in get_args(kind) if a is not type(None)]
        if isinstance(kind, str) or type(kind).__name__ == "ForwardRef":
            name = str(getattr(kind, "__forward_arg__", kind)).removeprefix("_models.")
            kind = getattr(self.models, name)
        if origin is Union:
            shapes = [self.shape(each) for each in args]
            closed = [each for each in shapes if "enum" in each]
            return closed[0] if closed else shapes[0] if len(shapes) == 1 else {"anyOf": shapes}
        if origin is dict:
            return {"type": "object", "additionalProperties": self.shape(args[1])}
        if origin is list:
            return {"type": "array", "items": self.shape(args[0])}
        if str(origin) == "typing.Literal":
            return {"enum": [getattr(each, "value", each) for each in args]}
        if (members := getattr(kind, "__members__", None)) is not None:
            return {"enum": [each.value for each in members.values()]}
        if kind.__name__ in ("datetime", "date"):
            return {"type": "string"}
        if kind.__name__ == "timedelta":
            return {"type": "string", "pattern": "^P"}
        if kind.__name__ in SIMPLE:
            return dict(SIMPLE[kind.__name__])
        return self.ref(kind.__name__) if hasattr(self.models, kind.__name__) else {}


def _object() -> JSON:
    return {"type": "object", "properties": {}, "required": [], "additionalProperties": False}


def described() -> JSON:
    """The description."""
    document: JSON = {"openapi": "3.0.0", "paths": {}, "components": {"schemas": {}}}
    for number, (package, modules) in enumerate(OPERATIONS.items()):
        models, found = loaded(package)
        schemas = Schemas(models, f"s{number}.")
        for module, builders in modules.items():
            for builder, body in builders.items():
                source = inspect.getsource(getattr(found[module], builder))
                url = re.search(r'"(/(?:subscriptions|\{resourceUri\})/[^"]+)"', source)
                method = re.search(r'method="([A-Z]+)"', source)
                version = re.search(r'_params.pop\("api-version", "([^"]+)"\)', source)
                if url is None or method is None or version is None:
                    raise LookupError(builder)
                query = re.findall(r'_params\["([^"]+)"\]', source)
                operation: JSON = {
                    "parameters": [
                        {
                            "name": name,
                            "in": "query",
                            "required": name == "api-version",
                            "schema": {"type": "string"}
                            | ({"enum": [version[1]]} if name == "api-version" else {}),
                        }
                        for name in query
                    ]
                }
                if body is not None:
                    media = {"application/json": {"schema": schemas.ref(body)}}
                    operation["requestBody"] = {"required": True, "content": media}
                path = url[1]
                for any_of_them, one in ABOUT.items():
                    path = path.replace(any_of_them, one)
                document["paths"].setdefault(path, {})[method[1].lower()] = operation
        document["components"]["schemas"] |= schemas.found
    return document


if __name__ == "__main__":
    json.dump(described(), sys.stdout)
