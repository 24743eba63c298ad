"""What is special of Milvus: codes instead of statuses, creation in steps, marks that get lost."""

from typing import Any

import pytest

from auterity.api.connection import RateLimit
from auterity.engine.calls import Door
from auterity.engine.contract import Access, Phase
from auterity.engine.errors import (
    Conflict,
    Failure,
    NotFound,
    Rejected,
    Throttled,
    Unauthorized,
    Unavailable,
)
from auterity.engine.limits import Budget
from auterity.providers.milvus.index import MilvusIndex, _phase, _typed
from auterity.providers.milvus.params import MilvusIndexParams
from auterity.transport.http import Answer
from auterity.transport.milvus import MilvusConnection, _held, _label
from tests.conformance.cluster import NAMESPACE, MemoryCluster, Recorder
from tests.conformance.harness import NAME, Harness
from tests.conformance.vendor import merged
from tests.fakes.milvus import Milvus
from tools.servers.milvus_rest import as_go_writes

STAND_IN = Milvus
CONNECTION = MilvusConnection(endpoint="http://127.0.0.1:1")


def fake(harness: Harness) -> Milvus:
    assert isinstance(harness.vendor, Milvus)
    return harness.vendor


@pytest.mark.parametrize(
    ("status", "body", "failure", "words"),
    [
        (200, {"code": 100, "message": "collection not found[collection=a]"}, NotFound, "found"),
        (200, {"code": 700, "message": "index not found"}, NotFound, "index not found"),
        (200, {"code": 1807, "message": "request is rejected by limiter"}, Throttled, "limiter"),
        (200, {"code": 8, "message": "rate limit exceeded"}, Throttled, "rate limit"),
        (200, {"code": 9, "message": "quota exceeded"}, Rejected, "quota"),
        (200, {"code": 2, "message": "service unavailable"}, Unavailable, "unavailable"),
        (200, {"code": 1800, "message": "user hasn't authenticated"}, Unauthorized, "hasn't"),
        (200, {"code": 1602, "message": "alias already exist"}, Conflict, "alias"),
        (200, {"code": 65535, "message": "create duplicate collection with"}, Conflict, "dupl"),
        (200, {"code": 65535, "message": "context deadline exceeded"}, Unavailable, "deadline"),
        (200, {"code": 65535, "message": "at most one distinct index"}, Rejected, "code 65535"),
        (200, {"data": {}}, Unavailable, "endpoint right"),
        (401, {"code": 1800, "message": "user hasn't authenticated"}, Unauthorized, "credentials"),
        (403, {"code": 65535, "message": "permission deny"}, Unauthorized, "permission deny"),
        (404, {"message": "no route"}, Unavailable, "endpoint right"),
    ],
)
def test_failures_are_told_by_milvus_codes(
    status: int, body: Any, failure: type[Failure], words: str
):
    answer = Answer(status, {}, body)
    found = CONNECTION.failure(answer)
    assert type(found) is failure
    assert words in str(found)
    if status == 200 and "code" in body:
        assert (_held(answer) is not None) == issubclass(failure, Throttled | Unavailable)


@pytest.mark.parametrize("code", [0, 200])
def test_success_has_two_codes(code: int):
    assert CONNECTION.failure(Answer(200, {}, {"code": code, "data": {}})) is None


def test_a_post_that_only_looks_is_known_by_its_label():
    assert _label("collections/describe") == "DescribeCollections"
    assert _label("collections/fields/add") == "AddCollectionsFields"


async def test_without_a_token_whoever_asks_is_the_identity():
    limit = RateLimit(per_second=10000, burst=10000, concurrent=50)
    access = Access(
        door=Door("milvus", "test", Budget(limit), Recorder()),
        secrets=MemoryCluster().secret_store(NAMESPACE),
        allow_insecure=True,
    )
    session = await CONNECTION.open(access)

    async def listed(*_: Any, **__: Any) -> list[str]:
        return []

    session.call = listed  # type: ignore[method-assign]  # answers without a server
    assert (await session.verify()).name == "whoever asks at 127.0.0.1"
    await session.close()


def test_hyphens_are_objected_to_before_anything_is_asked():
    want = MilvusIndexParams.model_validate({"name": "my-docs", "dimension": 8})
    assert "externalName" in MilvusIndex.objections(want)["name"]


@pytest.mark.parametrize(
    ("text", "sent"),
    [
        ("86400", 86400),
        ("999999", 999999),
        # Go's %v, by which Milvus reads numbers in JSON, makes 1e+06 of it.
        ("1000000", "1000000"),
        ("2592000", "2592000"),
        ("-5", -5),
        ("0.5", 0.5),
        ("1.0", "1.0"),
        ("007", "007"),
        ("true", True),
        ("NaN", "NaN"),
        ("eu,us", "eu,us"),
    ],
)
def test_a_property_is_sent_as_what_milvus_makes_the_same_text_of_again(text: str, sent: Any):
    assert _typed(text) == sent
    assert type(_typed(text)) is type(sent)
    assert as_go_writes(_typed(text)) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (86400, "86400"),
        (604800, "604800"),
        (2592000, "2.592e+06"),
        (3155760000, "3.15576e+09"),
        (999999999, "9.99999999e+08"),
        (0.5, "0.5"),
        (0.00001, "1e-05"),
        (1.0, "1"),
        (0, "0"),
        (-1, "-1"),
        (True, "true"),
        ("2592000", "2592000"),
    ],
)
def test_the_stand_ins_write_numbers_as_go_does(value: object, text: str):
    assert as_go_writes(value) == text


async def test_a_life_time_of_a_month_is_kept_as_it_is_declared(harness: Harness):
    # The description has a number there; Milvus takes a text as well, and garbles the number.
    fake(harness).cluster.server.description = None
    month = {"collection.ttl.seconds": "2592000"}
    harness.apply(merged(Milvus.spec, {"milvus": {"properties": month}}))
    await harness.converge()
    assert harness.ready["status"] == "True", harness.ready
    harness.forget_faults()
    assert (await harness.visit()).outcome == "Ready"
    assert harness.vendor_writes() == []


async def test_an_index_that_is_refused_leaves_nothing_once_the_object_is_deleted(
    harness: Harness,
):
    spec = merged(Milvus.spec, {"milvus": {"indexType": "HNSW_FAST", "indexParams": None}})
    harness.apply(spec)
    for _ in range(2):
        assert (await harness.converge()).outcome == "SpecRejected"
        assert "invalid index type: HNSW_FAST" in harness.ready["message"]
    assert await harness.vendor.count() > harness.baseline
    await harness.remove()
    assert await harness.vendor.count() == harness.baseline


async def test_a_property_that_is_refused_leaves_nothing_once_the_object_is_deleted(
    harness: Harness,
):
    ttl = {"collection.ttl.seconds": "-5"}
    harness.apply(merged(Milvus.spec, {"milvus": {"properties": ttl}}))
    assert (await harness.converge()).outcome == "SpecRejected"
    assert "collection TTL is out of range" in harness.ready["message"]
    await harness.remove()
    assert await harness.vendor.count() == harness.baseline


async def test_an_index_dropped_by_hand_is_made_again_and_loaded(harness: Harness):
    id = await harness.make()
    collection = fake(harness).cluster.collections["search", NAME]
    collection |= {"indexes": [], "load": "LoadStateNotLoad"}
    await harness.converge()
    assert harness.ready["status"] == "True", harness.ready
    assert [of["indexType"] for of in collection["indexes"]] == ["HNSW"]
    assert collection["load"] == "LoadStateLoaded"
    assert id == f"search/{NAME}"


async def test_an_index_of_another_type_made_by_hand_is_never_dropped(harness: Harness):
    await harness.make()
    collection = fake(harness).cluster.collections["search", NAME]
    collection["indexes"][0]["indexType"] = "DISKANN"
    harness.forget_faults()
    assert (await harness.converge()).outcome == "SpecRejected"
    assert harness.vendor_writes() == []


async def test_a_server_that_drops_the_description_is_managed_by_what_the_status_says(
    harness: Harness,
):
    fake(harness).cluster.forgets = True
    await harness.make()
    seen = await harness.read()
    assert seen is not None
    assert seen.owner is None
    assert (await harness.visit()).outcome == "Ready"
    await harness.remove()
    assert await harness.vendor.count() == harness.baseline


async def test_a_mark_of_another_owner_is_respected_where_the_server_keeps_it(harness: Harness):
    await harness.vendor.foreign(Milvus.spec, NAME, "other/cluster/object")
    harness.apply(policy="Adopt")
    assert (await harness.converge()).outcome == "Conflict"
    assert "other/cluster/object" in harness.ready["message"]


async def test_an_alias_is_not_taken_for_the_collection(harness: Harness):
    cluster = fake(harness).cluster
    await harness.vendor.foreign(Milvus.spec, "docs_v2", None)
    cluster.aliases["search", NAME] = "docs_v2"
    harness.apply()
    verdict = await harness.converge()
    assert verdict.outcome == "Conflict", harness.ready
    assert "conflicts with an existing alias" in harness.ready["message"]
    await harness.remove()
    assert ("search", "docs_v2") in cluster.collections


async def test_a_collection_with_aliases_is_not_dropped(harness: Harness):
    await harness.make()
    cluster = fake(harness).cluster
    cluster.aliases["search", "current"] = NAME
    harness.cluster.delete(harness.key)
    await harness.visit()
    assert "remove" in harness.ready["message"] or "aliases" in harness.ready["message"]
    assert harness.key in harness.cluster.subjects
    cluster.aliases.clear()
    await harness.remove()
    assert await harness.vendor.count() == harness.baseline


def test_an_index_that_cannot_be_built_is_told():
    index = {"indexState": "Failed", "failReason": "out of disk"}
    assert _phase("LoadStateLoaded", index) == (
        Phase.FAILED,
        "Milvus cannot build the index: out of disk",
    )
    building = {"indexState": "InProgress", "failReason": ""}
    assert _phase("LoadStateLoaded", building) == (Phase.READY, None)
