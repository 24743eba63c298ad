"""The checker of Google's APIs refuses what a discovery document does not allow."""

from typing import Any

import pytest

from tests.contract.discovery import Discovery

ENDPOINTS = "/v1/projects/p/locations/l/endpoints"


@pytest.fixture(scope="module")
def vertex() -> Discovery:
    return Discovery.load("aiplatform.v1")


def problem(
    vertex: Discovery, method: str, path: str, body: Any = None, **query: str
) -> str | None:
    found = vertex.check(method, path, query=query, content_type=None, body=body)
    return None if found is None else found.problem


def test_what_the_document_names_is_allowed(vertex: Discovery):
    body = {"displayName": "x", "labels": {"a": "b"}, "trafficSplit": {"1": 100}}
    assert problem(vertex, "POST", ENDPOINTS, body, endpointId="x") is None
    query = {"updateMask": "labels,trafficSplit", "$alt": "json;enum-encoding=int"}
    assert problem(vertex, "PATCH", f"{ENDPOINTS}/x", body, **query) is None
    machine = {"machineType": "n1-standard-4", "acceleratorType": 4, "acceleratorCount": 1}
    deployed = {"model": "m", "dedicatedResources": {"machineSpec": machine}}
    path = f"{ENDPOINTS}/x:deployModel"
    assert problem(vertex, "POST", path, {"deployedModel": deployed}) is None
    assert problem(vertex, "POST", f"{ENDPOINTS}/x:rawPredict", b"anything") is None


@pytest.mark.parametrize(
    ("method", "path", "body", "query", "words"),
    [
        ("GET", "/v1/nowhere", None, {}, "no such path"),
        ("PUT", f"{ENDPOINTS}/x", None, {}, "no PUT"),
        ("GET", ENDPOINTS, None, {"colour": "red"}, "colour is unknown"),
        ("GET", ENDPOINTS, None, {"pageSize": "many"}, "not an integer"),
        ("GET", ENDPOINTS, {"a": 1}, {}, "no body"),
        ("PATCH", f"{ENDPOINTS}/x", {}, {"updateMask": "labels,colour"}, "colour"),
        ("POST", ENDPOINTS, {"colour": "red"}, {}, "body/colour"),
        ("POST", ENDPOINTS, {"displayName": 7}, {}, "is no string"),
        ("POST", ENDPOINTS, {"trafficSplit": {"1": True}}, {}, "is no integer"),
        ("POST", ENDPOINTS, {"name": "x", "createTime": "now"}, {}, "vendor's to say"),
        (
            "POST",
            "/v1/projects/p/locations/l/tuningJobs",
            {"supervisedTuningSpec": {"hyperParameters": {"adapterSize": "HUGE"}}},
            {},
            "is none of",
        ),
        (
            "POST",
            "/v1/projects/p/locations/l/tuningJobs",
            {"supervisedTuningSpec": {"hyperParameters": {"epochCount": "few"}}},
            {},
            "is no number",
        ),
    ],
)
def test_everything_else_is_a_violation(
    vertex: Discovery, method: str, path: str, body: Any, query: dict[str, str], words: str
):
    found = problem(vertex, method, path, body, **query)
    assert found is not None
    assert words in found


SERIES = "/v3/projects/p/timeSeries"
MEASURED = {
    "filter": 'metric.type = "x"',
    "interval.endTime": "2026-11-24T09:05:00Z",
    "aggregation.alignmentPeriod": "300s",
    "aggregation.perSeriesAligner": "ALIGN_SUM",
}


@pytest.mark.parametrize(
    ("query", "words"),
    [
        ({}, None),
        ({"aggregation.perSeriesAligner": "ALIGN_ALL"}, "is none of"),
        ({"aggregation.alignmentPeriod": "5m"}, "is no google-duration"),
        ({"interval.endTime": "now"}, "is no google-datetime"),
        ({"interval.begin": "2026-11-24T09:00:00Z"}, "unknown"),
    ],
)
def test_an_api_beside_another_is_held_against_its_own_document(
    query: dict[str, str], words: str | None
):
    both = Discovery.load("aiplatform.v1", "monitoring.v3")
    told = problem(both, "GET", SERIES, **{**MEASURED, **query})
    assert told is None if words is None else words in (told or "")
    assert problem(both, "GET", ENDPOINTS) is None
    assert problem(both, "GET", "/v3/nowhere") == "the document knows no such path"
