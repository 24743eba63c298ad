"""What is special of Atlas: codes, whole definitions, builds beside the index that serves."""

from typing import Any

import pytest

from auterity.api.fields import SecretKeyRef, SecretValue
from auterity.engine.contract import Phase
from auterity.engine.errors import (
    Busy,
    Conflict,
    Failure,
    NotFound,
    Rejected,
    Throttled,
    Unauthorized,
    Unavailable,
)
from auterity.providers.mongodb_atlas.index import _definition, _phase
from auterity.providers.mongodb_atlas.params import MongodbAtlasIndexParams
from auterity.transport.http import Answer
from auterity.transport.mongodb_atlas import MongodbAtlasConnection, _held
from tests.conformance.harness import NAME, Harness
from tests.conformance.vendor import merged
from tests.fakes.mongodb_atlas import CLIENT, CLUSTER, NAMESPACE, PROJECT, MongodbAtlas

STAND_IN = MongodbAtlas
SECRET = SecretValue(secret_key_ref=SecretKeyRef(name="atlas", key="clientSecret"))
CONNECTION = MongodbAtlasConnection(project_id=PROJECT, client_id=CLIENT, client_secret=SECRET)


def fake(harness: Harness) -> MongodbAtlas:
    assert isinstance(harness.vendor, MongodbAtlas)
    return harness.vendor


def wanted(**spec: Any) -> MongodbAtlasIndexParams:
    place = {"cluster": CLUSTER, "database": "shop", "collection": "products"}
    return MongodbAtlasIndexParams.model_validate({"name": NAME, "dimension": 8, **place, **spec})


def told(code: str, detail: str = "Some words.") -> dict[str, Any]:
    return {"errorCode": code, "detail": detail, "reason": "Reason", "parameters": []}


@pytest.mark.parametrize(
    ("status", "body", "failure", "words"),
    [
        (400, told("INVALID_ATTRIBUTE"), Rejected, ": INVALID_ATTRIBUTE: Some words."),
        (402, told("NO_PAYMENT_INFORMATION_FOUND"), Rejected, "payment of the organization"),
        (403, told("IP_ADDRESS_NOT_ON_ACCESS_LIST"), Unauthorized, "ACCESS_LIST: Some words."),
        (404, told("CLUSTER_NOT_FOUND"), NotFound, "CLUSTER_NOT_FOUND"),
        (404, {"message": "no route"}, Unavailable, "endpoint right"),
        (404, None, Unavailable, "endpoint right"),
        (409, told("ATLAS_SEARCH_DUPLICATE_INDEX"), Conflict, "DUPLICATE"),
        (409, told("CLUSTER_BEING_MODIFIED"), Busy, "for now: CLUSTER_BEING_MODIFIED"),
        (429, told("RATE_LIMITED"), Throttled, "RATE_LIMITED"),
        (500, told("UNEXPECTED_ERROR"), Unavailable, "UNEXPECTED_ERROR"),
    ],
)
def test_failures_are_told_by_atlas_codes(
    status: int, body: Any, failure: type[Failure], words: str
):
    answer = Answer(status, {}, body)
    found = _held(answer) or CONNECTION.failure(answer)
    assert type(found) is failure
    assert words in str(found)


def test_what_is_not_declared_of_a_definition_stays():
    held = {
        "fields": [
            {"type": "vector", "path": "picture", "numDimensions": 4, "similarity": "cosine"},
            {
                "type": "vector",
                "path": "embedding",
                "numDimensions": 4,
                "similarity": "cosine",
                "quantization": "scalar",
                "hnswOptions": {"maxEdges": 16, "numEdgeCandidates": 100},
            },
            {"type": "filter", "path": "tenant"},
        ],
        "numPartitions": 2,
    }
    mine, *others = _definition(wanted(hnsw={"maxEdges": 32}), held)["fields"]
    assert mine == {
        "type": "vector",
        "path": "embedding",
        "numDimensions": 8,
        "similarity": "cosine",
        "quantization": "scalar",
        "hnswOptions": {"maxEdges": 32, "numEdgeCandidates": 100},
    }
    assert [of["path"] for of in others] == ["picture", "tenant"]
    changed = _definition(wanted(filters=["year"], partitions="4"), held)
    assert [of["path"] for of in changed["fields"]] == ["embedding", "picture", "year"]
    assert changed["numPartitions"] == 4


def version(number: int) -> dict[str, Any]:
    return {"version": number, "createdAt": "2026-11-24T10:00:00Z"}


@pytest.mark.parametrize(
    ("index", "phase", "words"),
    [
        ({"status": "READY", "queryable": True}, Phase.READY, None),
        ({"status": "STALE", "queryable": True}, Phase.READY, None),
        ({"status": "READY", "queryable": False}, Phase.PENDING, "READY"),
        ({"status": "BUILDING", "queryable": True}, Phase.PENDING, "BUILDING"),
        ({"status": "DELETING", "queryable": False}, Phase.DELETING, "deletes"),
        ({"status": "FAILED", "queryable": False}, Phase.FAILED, "no reason is told"),
        (
            {
                "status": "FAILED",
                "queryable": False,
                "statusDetail": [{}, {"mainIndex": {"message": "path is no array"}}],
            },
            Phase.FAILED,
            "path is no array",
        ),
        (
            {
                "status": "READY",
                "queryable": True,
                "latestDefinitionVersion": version(3),
                "statusDetail": [
                    {"mainIndex": {"definitionVersion": version(3)}},
                    {"mainIndex": {"definitionVersion": version(2)}},
                ],
            },
            Phase.PENDING,
            "the former one serves",
        ),
        (
            {
                "status": "READY",
                "queryable": True,
                "latestDefinitionVersion": version(3),
                "statusDetail": [
                    {
                        "mainIndex": {"definitionVersion": version(2)},
                        "stagedIndex": {"status": "FAILED", "definitionVersion": version(2)},
                    },
                ],
            },
            Phase.PENDING,
            "the former one serves",
        ),
    ],
)
def test_an_index_is_ready_once_every_host_serves_the_latest_definition(
    index: dict[str, Any], phase: Phase, words: str | None
):
    found, message = _phase(index)
    assert found is phase
    assert (words or "") in (message or "")


async def test_a_failed_build_is_told_and_mended_by_an_edit(harness: Harness):
    id = await harness.make()
    index = fake(harness).index(id)
    failed = {"mainIndex": {"message": "the field is no array"}}
    index |= {"status": "FAILED", "queryable": False, "statusDetail": [failed]}
    await harness.visit()
    assert "the field is no array" in harness.ready["message"]
    harness.apply(merged(MongodbAtlas.spec, {"mongodbAtlas": {"quantization": "none"}}))
    await harness.converge()
    assert harness.ready["status"] == "True", harness.ready


async def test_a_definition_that_cannot_be_built_is_told_while_the_former_one_serves(
    harness: Harness,
):
    await harness.make()
    fake(harness).project.unbuildable = "numPartitions needs search nodes"
    harness.apply(merged(MongodbAtlas.spec, {"mongodbAtlas": {"partitions": "2"}}))
    await harness.converge()
    assert harness.ready["reason"] == "ProviderFailed", harness.ready
    assert harness.ready["message"].endswith(
        "the former one serves: numPartitions needs search nodes"
    )
    harness.apply(merged(MongodbAtlas.spec, {"mongodbAtlas": {"partitions": "1"}}))
    assert (await harness.converge()).outcome == "Ready", harness.ready


async def test_an_index_made_anew_by_someone_else_is_not_ours(harness: Harness):
    id = await harness.make()
    await harness.vendor.vanish(id)
    await harness.vendor.foreign(MongodbAtlas.spec, NAME, None)
    harness.forget_faults()
    assert (await harness.converge()).outcome == "Conflict", harness.ready
    assert harness.vendor_writes() == []


async def test_a_text_index_of_the_name_is_left_alone_even_if_it_is_to_be_adopted(
    harness: Harness,
):
    project = fake(harness).project
    text = {"mappings": {"dynamic": True}}
    place = {"database": NAMESPACE[0], "collectionName": NAMESPACE[1], "name": NAME}
    index = project.make({**place, "type": "search", "definition": text})
    harness.apply(policy="Adopt")
    assert (await harness.converge()).outcome == "Conflict", harness.ready
    assert "of another type" in harness.ready["message"]
    assert index["latestDefinition"] == text


async def test_a_collection_or_cluster_that_is_not_there_is_told(harness: Harness):
    for field, words in (("collection", "shop.nowhere"), ("cluster", "No cluster named nowhere")):
        await harness.remove()
        harness.apply(merged(MongodbAtlas.spec, {"mongodbAtlas": {field: "nowhere"}}))
        assert (await harness.converge()).outcome == "SpecRejected"
        assert words in harness.ready["message"]


async def test_an_expired_token_is_replaced_once(harness: Harness):
    await harness.make()
    fake(harness).project.tokens.clear()
    assert (await harness.visit()).outcome == "Ready"
    assert len(fake(harness).project.tokens) == 1
