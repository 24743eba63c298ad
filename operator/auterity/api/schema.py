"""From pydantic models to the structural schemas of CRDs. Refuses what a CRD cannot say."""

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final, get_args

from pydantic import BaseModel
from pydantic.json_schema import GenerateJsonSchema, JsonSchemaValue
from pydantic_core import core_schema

from auterity.api.fields import (
    ENGINE,
    IMMUTABLE,
    Deprecated,
    Keyed,
    Marker,
    Model,
    Rule,
    alias_of,
    deprecation,
    key_field,
    marked,
)

Node = dict[str, Any]
"""A part of a schema."""

RULES: Final = "x-kubernetes-validations"
LIST_TYPE: Final = "x-kubernetes-list-type"
MAP_KEYS: Final = "x-kubernetes-list-map-keys"
FREE_FORM: Final = "x-kubernetes-preserve-unknown-fields"

_KEPT: Final = {
    *("type", "description", "default", "enum", "format", "pattern"),
    *("properties", "required", "additionalProperties", "items"),
    *("minimum", "maximum", "multipleOf", "minLength", "maxLength"),
    *("minItems", "maxItems", "minProperties", "maxProperties"),
    *(RULES, LIST_TYPE, MAP_KEYS, FREE_FORM),
}
_DROPPED: Final = {"title", "examples", "deprecated"}
_SUMS: Final = {"anyOf", "oneOf", "allOf", "discriminator", "not"}
_BOUNDS: Final = {"exclusiveMinimum": "ge", "exclusiveMaximum": "le"}
_RESERVED: Final = frozenset(
    [
        "true",
        "false",
        "null",
        "in",
        "as",
        "break",
        "const",
        "continue",
        "else",
        "for",
        "function",
        "if",
        "import",
        "let",
        "loop",
        "package",
        "namespace",
        "return",
        "var",
        "void",
        "while",
    ]
)


class SchemaError(TypeError):
    """A model says what a CRD cannot; the text begins with the field's path."""

    def __init__(self, path: str, problem: str) -> None:
        super().__init__(f"{path}: {problem}")


def structural(model: type[Model], path: str, beyond: type[Model] | None = None) -> Node:
    """The structural schema of a model, or of what it adds to the model it derives from.

    `path` is where it stands, for error messages. Raises SchemaError.
    """
    raw = model.model_json_schema(schema_generator=_WithMarkers)
    definitions = raw.pop("$defs", {})
    if beyond is not None:
        if "$ref" in raw:
            raise SchemaError(path, f"{model.__name__} contains itself")
        inherited = {alias_of(beyond, name) for name in beyond.model_fields}
        raw["properties"] = {k: v for k, v in raw["properties"].items() if k not in inherited}
        raw["required"] = [name for name in raw.get("required", ()) if name not in inherited]
        raw[RULES] = rules_of(model, beyond)
    return _Rewriter(definitions).node(raw, path)


def rules_of(model: type[Model], beyond: type[Model] | None = None) -> list[Node]:
    """The CEL rules of a model's objects, or those it adds to the model it derives from."""
    names = [name for name in model.model_fields if not beyond or name not in beyond.model_fields]
    found = [*_choices(model, names)]
    found += [rule for rule in model.rules if not beyond or rule not in beyond.rules]
    for name in names:
        found += _immutability(model, name)
    return [validation(rule) for rule in found]


def validation(rule: Rule) -> Node:
    """A rule as it stands in a schema."""
    node = {"rule": rule.rule, "message": rule.message}
    return {**node, "fieldPath": rule.field} if rule.field else node


def exactly_one(names: Iterable[str], message: str) -> Rule:
    """A rule that just one of these properties is there."""
    return Rule(f"{_count(names)} == 1", message)


def escaped(name: str) -> str:
    """A property's name as CEL writes it."""
    return f"__{name}__" if name in _RESERVED else name


def _choices(model: type[Model], names: list[str]) -> Iterator[Rule]:
    for fields, least in ((model.one_of, 1), (model.at_most_one_of, 0)):
        if not fields or not set(fields) & set(names):
            continue
        if missing := [name for name in fields if name not in names]:
            raise SchemaError(model.__name__, f"no field of its own: {', '.join(missing)}")
        aliases = [alias_of(model, name) for name in fields]
        for name, alias in zip(fields, aliases, strict=True):
            if model.model_fields[name].get_default(call_default_factory=False) is not None:
                raise SchemaError(f"{model.__name__}.{alias}", "a choice must default to None")
        few = "exactly" if least else "at most"
        message = f"{few} one of {', '.join(aliases)} must be set"
        if least:
            yield exactly_one(aliases, message)
        else:
            yield Rule(f"{_count(aliases)} <= 1", message)


def _count(names: Iterable[str]) -> str:
    present = ", ".join(f"has(self.{escaped(name)})" for name in names)
    return f"[{present}].filter(x, x).size()"


def _immutability(model: type[Model], name: str) -> Iterator[Rule]:
    """Rules on the parent, since one on the field itself is skipped when the field goes away.

    An optional field may still be set later: that states what the vendor has chosen, and the
    engine refuses it if the vendor has it otherwise.
    """
    alias = alias_of(model, name)
    new, old = f"self.{escaped(alias)}", f"oldSelf.{escaped(alias)}"
    if marked(model, name, IMMUTABLE):
        rule = f"!has({old}) || (has({new}) && {new} == {old})"
        yield Rule(rule, f"{alias} cannot change", f".{alias}")
        return
    part = _model_in(model.model_fields[name].annotation, through=())
    if part is None or model.model_fields[name].is_required():
        return
    for path, is_set in _held(part, old, alias, ()):
        message = f"{alias} cannot be removed: {path} cannot change"
        yield Rule(f"!has({old}) || !({is_set}) || has({new})", message, f".{alias}")


def _held(
    model: type[BaseModel], old: str, shown: str, above: tuple[type[BaseModel], ...]
) -> Iterator[tuple[str, str]]:
    """Immutable fields below an object: their paths, and CEL that tells whether they are set."""
    if not issubclass(model, Model) or model in above:
        return
    for name, info in model.model_fields.items():
        alias = alias_of(model, name)
        here, path = f"{old}.{escaped(alias)}", f"{shown}.{alias}"
        if marked(model, name, IMMUTABLE):
            yield path, f"has({here})"
        elif part := _model_in(info.annotation, through=()):
            for deeper, is_set in _held(part, here, path, (*above, model)):
                yield deeper, f"has({here}) && {is_set}"


def _model_in(annotation: Any, through: tuple[Any, ...] = (list,)) -> type[BaseModel] | None:
    """The model in an annotation: `X`, `X | None`, and with `through` also `list[X]`."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    origin = getattr(annotation, "__origin__", None)
    if origin in {list, dict, set, frozenset, tuple} and origin not in through:
        return None
    return next((found for arg in get_args(annotation) if (found := _model_in(arg, through))), None)


def _buried(annotation: Any) -> bool:
    """Whether a marker is inside the type, where nobody would find it."""
    here = getattr(annotation, "__metadata__", ())
    return any(isinstance(item, Marker | Keyed | Deprecated) for item in here) or any(
        _buried(part) for part in get_args(annotation)
    )


class _WithMarkers(GenerateJsonSchema):
    """pydantic's JSON schema, with our markers as the extensions of Kubernetes."""

    def model_schema(self, schema: core_schema.ModelSchema) -> JsonSchemaValue:
        node = super().model_schema(schema)
        model = schema["cls"]
        if issubclass(model, Model):
            properties = node.setdefault("properties", {})
            for name in model.model_fields:
                alias = alias_of(model, name)
                if _buried(model.model_fields[name].annotation):
                    problem = "markers belong around the whole type: Annotated[X | None, ...]"
                    raise SchemaError(f"{model.__name__}.{alias}", problem)
                if advice := deprecation(model, name):
                    told = f"Deprecated: {advice}. {properties[alias].get('description', '')}"
                    properties[alias]["description"] = told.strip()
                if marked(model, name, ENGINE):
                    del properties[alias]
                elif key := key_field(model, name):
                    item = _model_in(model.model_fields[name].annotation)
                    if item is None or key not in item.model_fields:
                        raise SchemaError(f"{model.__name__}.{alias}", f"items have no {key}")
                    properties[alias][LIST_TYPE] = "map"
                    properties[alias][MAP_KEYS] = [alias_of(item, key)]
            node["required"] = [name for name in node.get("required", ()) if name in properties]
            node[RULES] = rules_of(model)
        return node


class _Rewriter:
    """Makes a JSON schema structural: no references, no unions, every size bounded."""

    def __init__(self, definitions: Mapping[str, Node]) -> None:
        self.definitions = definitions

    def node(
        self, raw: Node, path: str, above: frozenset[str] = frozenset(), *, traceable: bool = True
    ) -> Node:
        """Rewrite one node. `traceable`: whether Kubernetes can tell its old value on an update."""
        raw, above = self._resolved(raw, path, above)
        raw = _respelled(raw, path)
        if not traceable and any("oldSelf" in rule["rule"] for rule in raw.get(RULES, ())):
            raise SchemaError(path, "nothing in a list without Keyed(...) can be immutable")
        match raw.get("type"):
            case "object":
                self._object(raw, path, above, traceable=traceable)
            case "array":
                _bounded(raw, path, "maxItems", "a list needs max_length")
                item = self.node(
                    raw["items"], f"{path}[]", above, traceable=traceable and MAP_KEYS in raw
                )
                raw["items"] = item
                _check_list(raw, item, path)
            case "string":
                if "enum" not in raw:
                    _bounded(raw, path, "maxLength", "a string needs max_length")
            case "number":
                _exact_minimum(raw)
            case "integer" | "boolean":
                pass
            case None if raw.get(FREE_FORM):
                pass
            case _:
                raise SchemaError(path, f"no single type: {raw.get('type')}")
        return {key: value for key, value in raw.items() if value not in ([], {})}

    def _object(self, raw: Node, path: str, above: frozenset[str], *, traceable: bool) -> None:
        values = raw.pop("additionalProperties", False)
        if isinstance(values, dict):
            _bounded(raw, path, "maxProperties", "a map needs max_length")
            raw["additionalProperties"] = self.node(values, f"{path}.*", above, traceable=traceable)
        elif values and not raw.get(FREE_FORM):
            raise SchemaError(path, "the type of its values is not given")
        properties = {}
        for name, value in raw.get("properties", {}).items():
            properties[name] = self.node(value, f"{path}.{name}", above, traceable=traceable)
            if "description" not in properties[name]:
                raise SchemaError(f"{path}.{name}", "is not documented")
        raw["properties"] = properties
        raw["required"] = sorted(raw.get("required", ()))

    def _resolved(self, raw: Node, path: str, above: frozenset[str]) -> tuple[Node, frozenset[str]]:
        """Follow references and drop `null`: `X | None` is an X that may be left out."""
        while True:
            if reference := raw.get("$ref"):
                name = reference.rpartition("/")[2]
                if name in above:
                    raise SchemaError(path, f"{name} contains itself")
                above |= {name}
                inner = self.definitions[name]
            elif "anyOf" in raw:
                members = [item for item in raw["anyOf"] if item.get("type") != "null"]
                if len(members) != 1:
                    raise SchemaError(path, "a union; use one optional field each, and one_of")
                inner = members[0]
            else:
                return dict(raw), above
            raw = {**inner, **{k: v for k, v in raw.items() if k not in {"$ref", "anyOf"}}}


def _respelled(raw: Node, path: str) -> Node:
    """JSON Schema's words in those of Kubernetes."""
    if "const" in raw:
        raw["enum"] = [raw.pop("const")]
    if raw.pop("uniqueItems", False):
        raw[LIST_TYPE] = "set"
    _respell_keys(raw, path)
    if raw.get("default") is None or isinstance(raw["default"], dict | list):
        raw.pop("default", None)
    if "description" in raw:
        raw["description"] = _flowing(raw["description"])
    if raw.get("format") == "password":
        raise SchemaError(path, "a secret comes from a Secret; use SecretValue")
    for word in raw.keys() - _KEPT - _DROPPED:
        if word in _BOUNDS:
            raise SchemaError(path, f"a bound that excludes its value; use {_BOUNDS[word]}")
        raise SchemaError(path, "a union" if word in _SUMS else f"a CRD has no word for {word}")
    return {key: value for key, value in raw.items() if key not in _DROPPED}


def _respell_keys(raw: Node, path: str) -> None:
    """What a map asks of its keys, as a rule: Kubernetes has no other way to say it."""
    keys = dict(raw.pop("propertyNames", {}))
    if patterns := raw.pop("patternProperties", None):
        (keys["pattern"], raw["additionalProperties"]), *others = patterns.items()
        if others:
            raise SchemaError(path, "several patterns for keys")
    wants, words = [], []
    if least := keys.pop("minLength", 0):
        wants.append(f"size(k) >= {least}")
        words.append(f"at least {least} characters")
    if most := keys.pop("maxLength", None):
        wants.append(f"size(k) <= {most}")
        words.append(f"at most {most} characters")
    if pattern := keys.pop("pattern", None):
        wants.append(f"k.matches({_quoted(pattern)})")
        words.append(f"the form {pattern}")
    if unsaid := keys.keys() - {"type", *_DROPPED}:
        raise SchemaError(path, f"no rule is made of {', '.join(sorted(unsaid))} of its keys")
    if wants:
        rule = Rule(f"self.all(k, {' && '.join(wants)})", f"every key has {' and '.join(words)}")
        raw[RULES] = [*raw.get(RULES, ()), validation(rule)]


def _quoted(text: str) -> str:
    escapes = text.replace("\\", "\\\\").replace("'", "\\'")
    return f"'{escapes}'"


def _flowing(text: str) -> str:
    """Without the line breaks of the source; blank lines stay."""
    paragraphs = re.split(r"\n\s*\n", text.strip())
    return "\n\n".join(" ".join(paragraph.split()) for paragraph in paragraphs)


def _exact_minimum(raw: Node) -> None:
    """The API server truncates the bound when the value is written without a fraction.

    With a minimum of 0.01 it lets 0 pass: github.com/kubernetes/kube-openapi, MinimumNativeType.
    """
    least = raw.get("minimum", 0)
    if least > 0 and least != int(least):
        rule = Rule(f"self >= {float(least)!r}", f"must be at least {least}")
        raw[RULES] = [*raw.get(RULES, ()), validation(rule)]


def _bounded(raw: Node, path: str, bound: str, problem: str) -> None:
    if bound not in raw:
        raise SchemaError(path, problem)


def _check_list(raw: Node, item: Node, path: str) -> None:
    if raw.get(LIST_TYPE) == "set" and item["type"] in {"object", "array"}:
        raise SchemaError(path, "a set holds plain values only; use a list with Keyed(...)")
    for key in raw.get(MAP_KEYS, ()):
        if key not in item.get("required", ()) and "default" not in item["properties"][key]:
            raise SchemaError(path, f"the key {key} must be required or have a default")
