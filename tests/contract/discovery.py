"""Holds requests against the discovery documents of Google's APIs, which its client carries."""

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from importlib.resources import files
from typing import Any, Final

from tests.contract.openapi import Violation

JSON = dict[str, Any]
EVERYWHERE: Final = ("$alt", "$.xgafv")
"""Query parameters that every method takes; the first is how Google's own clients write `alt`."""
RAW: Final = ("GoogleApiHttpBody", "RawPredictRequest")
"""Requests whose body is anything."""
FORMATS: Final[dict[str | None, str]] = {
    "google-duration": r"[0-9]+(\.[0-9]{1,9})?s",
    "google-datetime": r"[0-9-]{10}T[0-9:]{8}(\.[0-9]+)?(Z|[+-][0-9:]{5})",
}
KINDS: Final[dict[str, Any]] = {
    "string": str,
    "boolean": bool,
    "integer": int,
    "number": (int, float),
    "object": dict,
    "array": list,
}


class Discovery:
    """One API's discovery document; strict: what it does not name is a violation."""

    def __init__(self, document: JSON, beside: Sequence["Discovery"] = ()) -> None:
        """`beside`: other APIs that are served at the same address."""
        self.document = document
        self._methods = list(_methods(document))
        self._beside = beside
        # An API has a thousand methods, and a test asks about the same few paths again and again.
        self._at: dict[str, list[JSON]] = {}

    @classmethod
    @cache
    def load(cls, api: str, *beside: str) -> "Discovery":
        """Load an API such as aiplatform.v1, and others beside it; the same one each time."""
        return cls(_document(api), [cls.load(other) for other in beside])

    def check(
        self,
        method: str,
        path: str,
        *,
        query: Mapping[str, str],
        content_type: str | None,
        body: Any,
    ) -> Violation | None:
        """Check one request. None if it is allowed."""
        problem = next(self._problems(method, path, query, body), None)
        return None if problem is None else Violation(f"{method} {path}", problem)

    def _problems(
        self, method: str, path: str, query: Mapping[str, str], body: Any
    ) -> Iterator[str]:
        found = self._found(path)
        if not found:
            known = [other for other in self._beside if other._found(path)]
            if known:
                yield from known[0]._problems(method, path, query, body)
            else:
                yield "the document knows no such path"
            return
        usable = [m for m in found if m["httpMethod"] == method]
        if not usable:
            yield f"the document knows no {method} for it"
            return
        called = usable[0]
        yield from self._query(called, query)
        if "request" in called:
            ref = called["request"]["$ref"]
            if not ref.endswith(RAW):
                yield from self._value({"$ref": ref}, {} if body is None else body, "body")
        elif body:
            yield "no body is allowed"

    def _found(self, path: str) -> list[JSON]:
        path = path.lstrip("/")
        if path not in self._at:
            self._at[path] = [m for pattern, m in self._methods if pattern.fullmatch(path)]
        return self._at[path]

    def _query(self, called: JSON, query: Mapping[str, str]) -> Iterator[str]:
        known = {**self.document["parameters"], **called.get("parameters", {})}
        for name, value in query.items():
            if name in EVERYWHERE:
                continue
            if name not in known:
                yield f"query parameter {name} is unknown"
            elif known[name].get("location") != "query":
                yield f"{name} belongs into the path"
            elif known[name]["type"] == "integer" and not value.isdigit():
                yield f"query parameter {name} is not an integer: {value!r}"
            elif known[name]["type"] == "boolean" and value not in ("true", "false"):
                yield f"query parameter {name} is not a boolean: {value!r}"
            elif value not in known[name].get("enum", [value]):
                yield f"query parameter {name} is none of {known[name]['enum']}: {value!r}"
            elif not re.fullmatch(FORMATS.get(known[name].get("format"), "(?s:.*)"), value):
                yield f"query parameter {name} is no {known[name]['format']}: {value!r}"
            elif known[name].get("format") == "google-fieldmask":
                yield from self._mask(called, name, value)

    def _mask(self, called: JSON, name: str, mask: str) -> Iterator[str]:
        schema = {"$ref": called["request"]["$ref"]}
        for path in mask.split(","):
            here: JSON | None = schema
            for part in path.split("."):
                here = self._schema(here or {}).get("properties", {}).get(part)
                if here is None:
                    yield f"{name} names what is not there: {path}"
                    break

    def _schema(self, schema: JSON) -> JSON:
        while "$ref" in schema:
            schema = self.document["schemas"][schema["$ref"]]
        return schema

    def _value(self, declared: JSON, value: Any, where: str) -> Iterator[str]:
        if declared.get("readOnly"):
            yield f"{where} is the vendor's to say"
            return
        schema = self._schema(declared)
        kind = schema.get("type", "any")
        if kind == "any":
            return
        if "enum" in schema:
            if not isinstance(value, int) and value not in schema["enum"]:
                yield f"{where} is none of {schema['enum']}: {value!r}"
            return
        if not isinstance(value, KINDS[kind]) or (kind != "boolean" and isinstance(value, bool)):
            yield f"{where} is no {kind}: {value!r}"
        elif (
            kind == "string" and schema.get("format") == "int64" and not value.lstrip("-").isdigit()
        ):
            yield f"{where} is no number: {value!r}"
        elif kind == "array":
            for number, item in enumerate(value):
                yield from self._value(schema["items"], item, f"{where}/{number}")
        elif kind == "object":
            yield from self._object(schema, value, where)

    def _object(self, schema: JSON, value: JSON, where: str) -> Iterator[str]:
        properties, others = schema.get("properties", {}), schema.get("additionalProperties")
        for name, item in value.items():
            if name in properties:
                yield from self._value(properties[name], item, f"{where}/{name}")
            elif others is not None:
                yield from self._value(others, item, f"{where}/{name}")
            else:
                yield f"{where}/{name}: the document names no such field"


def _document(api: str) -> JSON:
    folder = files("googleapiclient").joinpath("discovery_cache", "documents")
    document: JSON = json.loads(folder.joinpath(f"{api}.json").read_text())
    return document


def _methods(resource: JSON) -> Iterator[tuple[re.Pattern[str], JSON]]:
    for method in resource.get("methods", {}).values():
        parts = re.split(r"(\{[^{}]+\})", method["flatPath"])
        pattern = "".join(
            re.escape(part) if number % 2 == 0 else _placeholder(part)
            for number, part in enumerate(parts)
        )
        yield re.compile(pattern), method
    for below in resource.get("resources", {}).values():
        yield from _methods(below)


def _placeholder(part: str) -> str:
    return ".+" if part == "{invokeId}" else "[^/:]+"
