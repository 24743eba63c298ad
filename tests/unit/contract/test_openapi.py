"""The checker of requests itself, on descriptions small enough to be seen whole."""

from time import monotonic
from typing import Any

import pytest

from tests.contract.openapi import Description, specs_missing

DOCUMENT: dict[str, Any] = {
    "openapi": "3.0.3",
    "paths": {
        "/indexes": {
            "get": {
                "parameters": [
                    {"name": "limit", "in": "query", "schema": {"type": "integer"}},
                    {"name": "kind", "in": "query", "required": True, "schema": {"enum": ["a"]}},
                ]
            },
            "post": {
                "requestBody": {
                    "required": True,
                    "content": {
                        "application/json": {"schema": {"$ref": "#/components/schemas/Index"}}
                    },
                }
            },
        },
        "/indexes/{id}": {
            "parameters": [{"$ref": "#/components/parameters/id"}],
            "get": {},
            "delete": {},
        },
        "/indexes/{id}:stop": {"post": {}},
        "/indexes/default": {"get": {}},
        "/files/{path}": {
            "get": {"parameters": [{"name": "path", "in": "path", "x-multi-segment": True}]}
        },
        "/form": {
            "post": {
                "requestBody": {
                    "content": {
                        "application/x-www-form-urlencoded": {
                            "schema": {
                                "type": "object",
                                "properties": {
                                    "amount": {"type": "integer"},
                                    "active": {"type": "boolean"},
                                    "metadata": {
                                        "type": "object",
                                        "additionalProperties": {"type": "string"},
                                    },
                                    "lines": {
                                        "type": "array",
                                        "items": {
                                            "type": "object",
                                            "properties": {"price": {"type": "string"}},
                                        },
                                    },
                                },
                            }
                        }
                    }
                }
            }
        },
    },
    "components": {
        "parameters": {
            "id": {"name": "id", "in": "path", "required": True, "schema": {"type": "integer"}}
        },
        "schemas": {
            "Named": {
                "type": "object",
                "required": ["name"],
                "properties": {"name": {"type": "string"}},
            },
            "Index": {
                "allOf": [
                    {"$ref": "#/components/schemas/Named"},
                    {
                        "type": "object",
                        "properties": {
                            "size": {"type": "integer", "nullable": True},
                            "tags": {"type": "object", "additionalProperties": {"type": "string"}},
                            "fields": {
                                "type": "array",
                                "items": {"$ref": "#/components/schemas/Named"},
                            },
                        },
                    },
                ]
            },
        },
    },
}
DESCRIPTION = Description(DOCUMENT)


def problem(
    method: str, path: str, body: Any = None, of: Description = DESCRIPTION, **query: str
) -> str | None:
    kind = None if body is None else "application/json"
    found = of.check(method, path, query=query, content_type=kind, body=body)
    return None if found is None else found.problem


def test_an_allowed_request_passes() -> None:
    body = {"name": "docs", "size": None, "tags": {"any": "thing"}, "fields": [{"name": "f"}]}
    assert problem("POST", "/indexes", body) is None
    assert problem("GET", "/indexes", kind="a", limit="10") is None
    assert problem("DELETE", "/indexes/7") is None


def test_unknown_paths_and_methods_are_violations() -> None:
    assert problem("GET", "/indices") == "the description knows no such path"
    assert problem("PUT", "/indexes/7") == "the description knows no PUT for it"
    assert problem("GET", "/indexes/7/more") == "the description knows no such path"


def test_the_most_specific_path_is_meant() -> None:
    assert problem("GET", "/indexes/default") is None
    assert problem("GET", "/indexes/other") == "path parameter id is not an integer: 'other'"
    assert problem("POST", "/indexes/7:stop") is None
    assert problem("DELETE", "/indexes/default") == (
        "path parameter id is not an integer: 'default'"
    )


def test_slashes_belong_to_a_parameter_only_where_it_says_so() -> None:
    assert problem("GET", "/files/a/b/c.txt") is None
    assert problem("GET", "/indexes/7%2F8") == "path parameter id is not an integer: '7/8'"


def test_query_parameters_are_required_typed_and_known() -> None:
    assert problem("GET", "/indexes") == "query parameter kind is missing"
    assert problem("GET", "/indexes", kind="b") == "query parameter kind is none of ['a']: 'b'"
    assert problem("GET", "/indexes", kind="a", limit="x") == (
        "query parameter limit is not an integer: 'x'"
    )
    assert problem("GET", "/indexes", kind="a", typo="x") == "query parameter typo is unknown"


def test_bodies_are_held_against_the_schema_behind_references() -> None:
    assert problem("POST", "/indexes") == "a body is required"
    assert problem("POST", "/indexes", {"size": 3}) == "body: 'name' is a required property"
    assert problem("POST", "/indexes", {"name": "a", "size": "3"}) == (
        "body/size: '3' is not of type 'integer'"
    )
    assert problem("POST", "/indexes", {"name": "a", "fields": [{"name": 3}]}) == (
        "body/fields/0/name: 3 is not of type 'string'"
    )
    assert problem("DELETE", "/indexes/7", {"a": 1}) == "no body is allowed"


def test_fields_that_no_schema_names_are_violations_unless_told_otherwise() -> None:
    body = {"name": "a", "fields": [{"name": "f", "typo": 1}]}
    assert problem("POST", "/indexes", body) == (
        "body/fields/0/typo: the description names no such field"
    )
    assert problem("POST", "/indexes", body, of=Description(DOCUMENT, strict=False)) is None


def test_another_content_type_is_a_violation() -> None:
    found = DESCRIPTION.check("POST", "/indexes", query={}, content_type="text/xml", body=b"<a/>")
    assert str(found) == ("POST /indexes: content type text/xml is none of ['application/json']")


@pytest.mark.parametrize(
    ("form", "expected"),
    [
        (b"amount=3&active=true&metadata[team]=7&lines[0][price]=p", None),
        (b"amount=x", "body/amount: 'x' is not of type 'integer'"),
        (b"lines[0][typo]=p", "body/lines/0/typo: the description names no such field"),
    ],
)
def test_forms_are_typed_before_they_are_checked(form: bytes, expected: str | None) -> None:
    kind = "application/x-www-form-urlencoded"
    found = DESCRIPTION.check("POST", "/form", query={}, content_type=kind, body=form)
    assert (found and found.problem) == expected


def test_the_newer_and_the_older_form_of_descriptions_are_read() -> None:
    schema = {"type": "object", "properties": {"name": {"type": ["string", "null"]}}}
    content = {"application/json": {"schema": schema}}
    newer = Description(
        {"openapi": "3.1.0", "paths": {"/a": {"post": {"requestBody": {"content": content}}}}}
    )
    assert problem("POST", "/a", {"name": None}, of=newer) is None
    assert problem("POST", "/a", {"name": 1}, of=newer) is not None
    older = Description(
        {
            "swagger": "2.0",
            "paths": {
                "/a": {
                    "post": {
                        "parameters": [
                            {
                                "name": "body",
                                "in": "body",
                                "required": True,
                                "schema": {"$ref": "#/definitions/A"},
                            }
                        ]
                    }
                }
            },
            "definitions": {"A": {"type": "object", "properties": {"name": {"type": "string"}}}},
        }
    )
    assert problem("POST", "/a", {"name": "x"}, of=older) is None
    assert problem("POST", "/a", {"nome": "x"}, of=older) == (
        "body/nome: the description names no such field"
    )
    assert problem("POST", "/a", of=older) == "a body is required"


def test_a_large_official_description_is_ready_within_a_second() -> None:
    if reason := specs_missing():
        pytest.skip(reason)
    start = monotonic()
    description = Description.load("github.openapi.json")
    assert description is not None
    found = description.check(
        "PUT",
        "/repos/acme/shop/environments/eu%2Fprod",
        query={},
        content_type="application/json",
        body={"wait_timer": 50000, "reviewers": None},
    )
    assert monotonic() - start < 1
    assert found is None
    assert description.check(
        "PUT",
        "/repos/acme/shop/environments/prod",
        query={},
        content_type="application/json",
        body={"wait_timer": "soon"},
    )


def test_without_the_folder_nothing_is_loaded_and_the_reason_is_told(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Any
) -> None:
    monkeypatch.setenv("AUTERITY_SPECS", str(tmp_path / "none"))
    assert Description.load("github.openapi.json") is None
    assert "AUTERITY_SPECS" in (specs_missing() or "")
