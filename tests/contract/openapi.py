"""Holds requests against a vendor's official description (OpenAPI 3 or Swagger 2)."""

import json
import os
import re
from collections.abc import Collection, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Final, Self
from urllib.parse import parse_qsl, unquote

from jsonschema.exceptions import best_match  # type: ignore[import-untyped]  # ships no types
from openapi_schema_validator import OAS30Validator, OAS30WriteValidator, OAS31Validator
from referencing import Registry
from referencing.jsonschema import DRAFT4, DRAFT202012

JSON = dict[str, Any]
FOLDER: Final = "AUTERITY_SPECS"
"""Environment variable that names the folder of descriptions."""
FORM: Final = "application/x-www-form-urlencoded"
_SELF: Final = "urn:description"
_COMBINED: Final = ("allOf", "anyOf", "oneOf")


def specs_folder() -> Path:
    """Where the descriptions are: they are not part of the project, some may not be passed on."""
    named = os.environ.get(FOLDER)
    return Path(named) if named else Path(__file__).parents[3] / "shared" / "specs"


def specs_missing() -> str | None:
    """Why requests cannot be held against official descriptions here, or None."""
    folder = specs_folder()
    if folder.is_dir():
        return None
    return f"no official descriptions in {folder}; name their folder by {FOLDER}"


@dataclass(frozen=True, slots=True)
class Violation:
    """A request that the vendor's description does not allow."""

    request: str
    problem: str

    def __str__(self) -> str:
        return f"{self.request}: {self.problem}"


class Description:
    """A vendor's official description.

    Strict: a query parameter or body field that the description does not name is a violation,
    unless the object's schema says itself (`additionalProperties`) what else it takes.
    """

    def __init__(
        self, document: JSON, *, strict: bool = True, spanning: Collection[str] = ()
    ) -> None:
        """`spanning` names path parameters whose value may contain slashes."""
        self.document, self.strict = document, strict
        self._swagger = "swagger" in document
        newer = str(document.get("openapi", "3.0")).startswith("3.1")
        self._validator: Any = (
            OAS31Validator if newer else OAS30Validator if self._swagger else OAS30WriteValidator
        )
        specification = DRAFT202012 if newer else DRAFT4
        # Looked into as far as a reference is followed: nothing is walked when it is loaded.
        self._registry: Registry[Any] = Registry().with_resource(
            _SELF, specification.create_resource(document)
        )
        self._paths = [
            _Template(template, item, self._spans(item, spanning))
            for template, item in document["paths"].items()
        ]

    @classmethod
    def load(cls, name: str, *, strict: bool = True, spanning: Collection[str] = ()) -> Self | None:
        """Load `<name>` from the folder of descriptions; None if that folder is not at hand.

        Raises FileNotFoundError if the folder is there and the description is not in it.
        """
        if specs_missing() is not None:
            return None
        return cls(_document(specs_folder() / name), strict=strict, spanning=spanning)

    def check(
        self,
        method: str,
        path: str,
        *,
        query: dict[str, str],
        content_type: str | None,
        body: Any,
    ) -> Violation | None:
        """Check one request; `path` without the server's base path. None if it is allowed.

        `path` may be percent-encoded; a slash within a parameter has to be. A form's body may be
        its bytes, text or fields.
        """
        problem = next(self._problems(method, path, query, content_type, body), None)
        return None if problem is None else Violation(f"{method} {path}", problem)

    def _problems(
        self, method: str, path: str, query: Mapping[str, str], content_type: str | None, body: Any
    ) -> Iterator[str]:
        segments = [unquote(part).replace("/", "%2F") for part in path.split("/")]
        plain = "/".join(segments).rstrip("/")
        matches = [t for t in self._paths if t.pattern.fullmatch(plain)]
        if not matches:
            yield "the description knows no such path"
            return
        usable = [t for t in matches if method.lower() in t.item]
        if not usable:
            yield f"the description knows no {method} for it"
            return
        template = max(usable, key=lambda t: (t.matches_query(query), t.specificity))
        operation = self._deref(template.item[method.lower()])
        parameters = self._parameters(template.item, operation)
        values = template.values(plain)
        for parameter in parameters.values():
            if parameter["in"] == "path" and parameter["name"] in values:
                value = values[parameter["name"]].replace("%2F", "/")
                yield from self._parameter(parameter, value)
        yield from self._query(parameters, {**query}, template)
        yield from self._body(operation, parameters, content_type, body)

    def _query(
        self,
        parameters: Mapping[tuple[str, str], JSON],
        query: Mapping[str, str],
        template: "_Template",
    ) -> Iterator[str]:
        known = {n: p for (where, n), p in parameters.items() if where == "query"}
        for name, parameter in known.items():
            given = name in query or any(_bare(key) == name for key in query)
            if parameter.get("required") and not given:
                yield f"query parameter {name} is missing"
            if name in query:
                yield from self._parameter(parameter, query[name])
        if self.strict and not any(self._is_object(p) for p in known.values()):
            for name in query:
                if not {name, _bare(name)} & {*known, *(_bare(n) for n in known)}:
                    if name in template.query:
                        continue
                    yield f"query parameter {name} is unknown"

    def _parameter(self, parameter: JSON, text: str) -> Iterator[str]:
        schema = self._deref(parameter.get("schema") or parameter)
        kinds = _kinds(schema)
        where = f"{parameter['in']} parameter {parameter['name']}"
        if kinds == {"integer"} and not re.fullmatch(r"-?[0-9]+", text):
            yield f"{where} is not an integer: {text!r}"
        elif kinds == {"number"} and not re.fullmatch(r"-?[0-9.]+([eE][-+]?[0-9]+)?", text):
            yield f"{where} is not a number: {text!r}"
        elif kinds == {"boolean"} and text.lower() not in ("true", "false"):
            yield f"{where} is not a boolean: {text!r}"
        elif "enum" in schema and text not in [_as_text(value) for value in schema["enum"]]:
            yield f"{where} is none of {schema['enum']}: {text!r}"

    def _body(
        self,
        operation: JSON,
        parameters: Mapping[tuple[str, str], JSON],
        content_type: str | None,
        body: Any,
    ) -> Iterator[str]:
        required, media = self._accepted(operation, parameters)
        if content_type is None or body is None:
            if required:
                yield "a body is required"
            return
        if not media:
            if self.strict and body:
                yield "no body is allowed"
            return
        kind = content_type.split(";")[0].strip().lower()
        schema = next((s for pattern, s in media.items() if _accepts(pattern, kind)), None)
        if schema is None:
            yield f"content type {kind} is none of {sorted(media)}"
            return
        if kind == FORM:
            body = self._typed(_fields(body), schema)
        elif not kind.endswith("json"):
            return
        yield from self._mismatches(schema, body)

    def _accepted(
        self, operation: JSON, parameters: Mapping[tuple[str, str], JSON]
    ) -> tuple[bool, JSON]:
        """Whether a body is required, and the schemas of bodies by content type."""
        if not self._swagger:
            request = self._deref(operation.get("requestBody") or {})
            media = {
                kind.split(";")[0].strip().lower(): item.get("schema") or {}
                for kind, item in (request.get("content") or {}).items()
            }
            return bool(request.get("required")), media
        consumes = (
            operation.get("consumes") or self.document.get("consumes") or ["application/json"]
        )
        whole = [p for (where, _), p in parameters.items() if where == "body"]
        fields = [p for (where, _), p in parameters.items() if where == "formData"]
        if whole:
            kinds = [kind.split(";")[0].lower() for kind in consumes]
            return bool(whole[0].get("required")), dict.fromkeys(kinds, whole[0]["schema"])
        if not fields:
            return False, {}
        must = [p["name"] for p in fields if p.get("required")]
        form: JSON = {
            "type": "object",
            "properties": {
                p["name"]: {k: p[k] for k in ("type", "items", "enum") if k in p} for p in fields
            },
            **({"required": must} if must else {}),
        }
        # Vendors with form parameters take the same fields as JSON where they say so.
        forms = {kind.split(";")[0].lower() for kind in consumes} | {FORM, "multipart/form-data"}
        return bool(must), dict.fromkeys(forms, form)

    def _mismatches(self, schema: JSON, body: Any) -> Iterator[str]:
        validator = self._validator(
            schema, registry=self._registry, _resolver=self._registry.resolver(_SELF)
        )
        error = best_match(validator.iter_errors(body))
        if error is not None:
            yield f"body{_pointer(error.absolute_path)}: {error.message[:300]}"
        elif self.strict:
            yield from self._unknown([schema], body, "body")

    def _unknown(self, schemas: list[JSON], value: Any, where: str) -> Iterator[str]:
        """Fields that no schema which may apply to their object names."""
        flat = [part for schema in schemas for part in self._flat(schema)]
        if isinstance(value, list):
            items = [s["items"] for s in flat if isinstance(s.get("items"), dict)]
            for index, item in enumerate(value):
                yield from self._unknown(items, item, f"{where}/{index}")
        if not isinstance(value, dict):
            return
        declared = [s["properties"] for s in flat if s.get("properties")]
        rest = [s["additionalProperties"] for s in flat if "additionalProperties" in s]
        open_ended = not declared or rest or any("patternProperties" in s for s in flat)
        for name, item in value.items():
            below = [fields[name] for fields in declared if name in fields]
            if not below and not open_ended:
                yield f"{where}/{name}: the description names no such field"
            below = below or [s for s in rest if isinstance(s, dict)]
            yield from self._unknown(below, item, f"{where}/{name}")

    def _flat(self, schema: Any, seen: tuple[int, ...] = ()) -> Iterator[JSON]:
        """A schema and all that it is combined of."""
        if not isinstance(schema, dict) or id(schema) in seen:
            return
        seen = (*seen, id(schema))
        yield schema
        if "$ref" in schema:
            yield from self._flat(self._deref(schema), seen)
        for word in _COMBINED:
            for part in schema.get(word, ()):
                yield from self._flat(part, seen)

    def _typed(self, value: Any, schema: JSON) -> Any:
        """A form's texts, as the types that the schema wants of them."""
        flat = list(self._flat(schema))
        kinds = {kind for part in flat for kind in _kinds(part)}
        if "array" in kinds and "string" not in kinds and not isinstance(value, list):
            numbered = isinstance(value, dict) and all(key.isdigit() for key in value)
            value = list(value.values()) if numbered else [value]
        if isinstance(value, dict):
            fields = {k: v for part in flat for k, v in (part.get("properties") or {}).items()}
            return {k: self._typed(v, fields.get(k, {})) for k, v in value.items()}
        if isinstance(value, list):
            each: JSON = next((part["items"] for part in flat if "items" in part), {})
            return [self._typed(item, each) for item in value]
        if kinds & {"integer", "number", "boolean"}:
            with suppress(ValueError):
                return json.loads(value)
        return value

    def _parameters(self, item: JSON, operation: JSON) -> dict[tuple[str, str], JSON]:
        listed = [*item.get("parameters", ()), *operation.get("parameters", ())]
        found = [self._deref(parameter) for parameter in listed]
        return {(parameter["in"], parameter["name"]): parameter for parameter in found}

    def _is_object(self, parameter: JSON) -> bool:
        """Whether its fields stand in the query by their own names."""
        return "object" in _kinds(self._deref(parameter.get("schema") or parameter))

    def _spans(self, item: JSON, spanning: Collection[str]) -> frozenset[str]:
        operations = [v for v in item.values() if isinstance(v, dict)]
        listed = [p for o in (item, *operations) for p in o.get("parameters", ())]
        marked = {p["name"] for p in map(self._deref, listed) if p.get("x-multi-segment")}
        return frozenset({*marked, *spanning})

    def _deref(self, value: JSON) -> JSON:
        while "$ref" in value:
            value = self._registry.resolver(_SELF).lookup(value["$ref"]).contents
        return value


class _Template:
    """A path of the description, such as /indexes/{name}."""

    def __init__(self, template: str, item: JSON, spanning: Collection[str]) -> None:
        path, _, query = template.partition("?")
        self.item = item
        self.query = dict(parse_qsl(query, keep_blank_values=True))
        """Some descriptions tell paths apart by their query."""
        parts = re.split(r"\{([^{}]+)\}", path.rstrip("/"))
        self.names = [name.lstrip("+") for name in parts[1::2]]
        spans = [raw.startswith("+") or raw in spanning for raw in parts[1::2]]
        pattern = re.escape(parts[0])
        for spans_slashes, literal in zip(spans, parts[2::2], strict=True):
            pattern += ("(.+)" if spans_slashes else "([^/]+)") + re.escape(literal)
        self.pattern = re.compile(pattern)
        literals = [segment for segment in path.split("/") if "{" not in segment]
        self.specificity = (-sum(spans), len(literals), sum(map(len, parts[::2])))

    def matches_query(self, query: Mapping[str, str]) -> int:
        """How well the query tells that this path is meant; negative: it is not."""
        fits = all(query.get(name) == value for name, value in self.query.items())
        return len(self.query) if fits else -1

    def values(self, path: str) -> dict[str, str]:
        """The parameters in a path."""
        found = self.pattern.fullmatch(path)
        return dict(zip(self.names, found.groups() if found else (), strict=False))


@cache
def _document(path: Path) -> JSON:
    document: JSON = json.loads(path.read_bytes())
    return document


def _kinds(schema: JSON) -> set[str]:
    kind = schema.get("type", ())
    return ({kind} if isinstance(kind, str) else set(kind)) - {"null"}


def _bare(name: str) -> str:
    """The name of a parameter that is written with brackets, such as filter[name] or ids[]."""
    return name.partition("[")[0]


def _as_text(value: object) -> str:
    return value if isinstance(value, str) else json.dumps(value)


def _accepts(pattern: str, kind: str) -> bool:
    whole = pattern in (kind, "*/*")
    return whole or (pattern.endswith("/*") and kind.startswith(pattern[:-1]))


def _fields(body: Any) -> JSON:
    """A form's fields; `a[b][0]=c` is the field b of a, as several vendors write it."""
    if isinstance(body, bytes):
        body = body.decode()
    pairs = parse_qsl(body, keep_blank_values=True) if isinstance(body, str) else body.items()
    fields: JSON = {}
    for name, value in pairs:
        first, *below = re.split(r"\]\[|\[|\]", name.removesuffix("]"))
        here, key = fields, first
        for part in below:
            deeper = here.setdefault(key, {})
            if not isinstance(deeper, dict):
                break
            here, key = deeper, part or str(len(deeper))
        if key in here and not below:
            earlier = here[key] if isinstance(here[key], list) else [here[key]]
            here[key] = [*earlier, value]
        else:
            here[key] = value
    return fields


def _pointer(path: Collection[str | int]) -> str:
    return "".join(f"/{part}" for part in path)
