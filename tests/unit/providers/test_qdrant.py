"""What is special of Qdrant: its wording, several vectors in one collection, dotted fields."""

from collections.abc import AsyncIterator
from typing import Any

import pytest
from aiohttp import web

from auterity.api.connection import RateLimit
from auterity.api.fields import DESTRUCTIVE, SecretKeyRef, SecretValue
from auterity.engine.calls import Door
from auterity.engine.contract import Access, Phase
from auterity.engine.drift import Memory, compare
from auterity.engine.errors import (
    Conflict,
    NotFound,
    Rejected,
    Throttled,
    Unauthorized,
    Unavailable,
)
from auterity.engine.limits import Budget
from auterity.providers.qdrant.index import QdrantIndex
from auterity.providers.qdrant.params import (
    OWNER,
    VECTOR,
    QdrantIndexParams,
    QdrantQuantization,
)
from auterity.transport.qdrant import QdrantConnection
from tests.conformance.cluster import NAMESPACE, MemoryCluster, Recorder
from tests.fakes.qdrant import KEY, QdrantNode
from tests.fakes.server import FakeServer

MARK = "testcluster/team/docs"
DENSE = {"size": 8, "distance": "Cosine"}


async def opened(url: str, key: str | None = KEY) -> QdrantIndex:
    secret = None
    if key is not None:
        secret = SecretValue(secret_key_ref=SecretKeyRef(name="qdrant", key="apiKey"))
        secret.resolve(key, "1")
    limit = RateLimit(per_second=10000, burst=10000, concurrent=50)
    access = Access(
        door=Door("qdrant", "test", Budget(limit), Recorder()),
        secrets=MemoryCluster().secret_store(NAMESPACE),
        allow_insecure=True,
    )
    return QdrantIndex(await QdrantConnection(endpoint=url, api_key=secret).open(access))


def wanted(name: str = "docs", **spec: Any) -> QdrantIndexParams:
    return QdrantIndexParams.model_validate({"name": name, "dimension": 8, **spec})


@pytest.fixture
async def node() -> AsyncIterator[QdrantNode]:
    node = QdrantNode()
    await node.server.start()
    yield node
    await node.server.stop()
    assert not node.server.violations


@pytest.fixture
async def provider(node: QdrantNode) -> AsyncIterator[QdrantIndex]:
    provider = await opened(node.server.url)
    yield provider
    await provider.session.close()


async def failing(answer: web.Response) -> tuple[FakeServer, QdrantIndex]:
    server = FakeServer()

    async def handle(_: web.Request, __: object) -> web.Response:
        return web.Response(body=answer.body, status=answer.status, headers=answer.headers.copy())

    server.route("GET", "/collections/docs", handle)
    return server, await opened(await server.start())


async def test_a_404_that_is_not_qdrants_own_is_not_taken_for_absent():
    server, provider = await failing(web.Response(status=404, text="default backend - 404"))
    try:
        with pytest.raises(Unavailable, match="is the endpoint right"):
            await provider.read("docs")
    finally:
        await provider.session.close()
        await server.stop()


@pytest.mark.parametrize(
    ("status", "failure"), [(503, Unavailable), (429, Throttled), (507, Rejected)]
)
async def test_a_failure_is_told_without_the_time_that_the_call_took(
    status: int, failure: type[Exception]
):
    body = {"status": {"error": "Service internal error: shard 3"}, "time": 0.00417}
    server, provider = await failing(web.json_response(body, status=status))
    try:
        with pytest.raises(failure) as caught:
            await provider.read("docs")
        assert str(caught.value).endswith(": Service internal error: shard 3")
    finally:
        await provider.session.close()
        await server.stop()


async def test_a_server_that_asks_for_a_key_says_so(node: QdrantNode):
    provider = await opened(node.server.url, key=None)
    with pytest.raises(Unauthorized, match="Must provide an API key"):
        await provider.session.verify()
    await provider.session.close()


async def test_the_declared_vector_is_known_among_those_that_were_added_later(
    node: QdrantNode, provider: QdrantIndex
):
    await provider.create(wanted(vectorName="dense"), MARK)
    node.collections["docs"]["config"]["params"]["vectors"]["another"] = {**DENSE, "size": 2}
    found = await provider.read("docs")
    assert found is not None
    assert (found.actual.vector_name, found.actual.dimension) == ("dense", 8)
    assert found.actual.metadata == {}


async def test_of_several_vectors_nothing_is_told_until_one_is_declared(
    node: QdrantNode, provider: QdrantIndex
):
    node.make("docs", {"vectors": {"a": DENSE, "b": DENSE}})
    found = await provider.read("docs")
    assert found is not None
    assert not {"dimension", "metric", "vector_name"} & found.actual.model_fields_set
    await provider.update("docs", wanted(vectorName="b"), frozenset(), MARK)
    found = await provider.read("docs")
    assert found is not None
    assert (found.owner, found.actual.vector_name) == (MARK, "b")


async def test_a_collection_of_unnamed_vectors_has_no_named_one(
    node: QdrantNode, provider: QdrantIndex
):
    node.make("docs", {"vectors": DENSE, "metadata": {OWNER: MARK, VECTOR: ""}})
    found = await provider.read("docs")
    assert found is not None
    (difference,) = compare(wanted(vectorName="dense"), found.actual, Memory(), {})
    assert difference.path == "vector_name"


async def test_vectors_move_to_disk_also_where_they_have_no_name(
    node: QdrantNode, provider: QdrantIndex
):
    node.make("docs", {"vectors": DENSE})
    await provider.update("docs", wanted(onDisk=True), frozenset({"on_disk"}), MARK)
    assert node.collections["docs"]["config"]["params"]["vectors"]["on_disk"] is True


async def test_where_things_are_kept_is_also_read_in_the_newer_words(
    node: QdrantNode, provider: QdrantIndex
):
    node.make("docs", {"vectors": {**DENSE, "memory": "cold"}})
    params = node.collections["docs"]["config"]["params"]
    params["payload"] = {"memory": "cached"}
    found = await provider.read("docs")
    assert found is not None
    assert (found.actual.on_disk, found.actual.on_disk_payload) == (True, False)


async def test_an_index_whose_name_begins_like_another_is_left_alone(
    node: QdrantNode, provider: QdrantIndex
):
    spec: dict[str, Any] = {
        "payloadIndexes": {"author": {"type": "keyword"}, "author.type": {"type": "text"}}
    }
    await provider.create(wanted(**spec), MARK)
    spec["payloadIndexes"]["author"] = {"type": "uuid"}
    await provider.update(
        "docs", wanted(**spec), frozenset({"payload_indexes.author.is_tenant"}), MARK
    )
    assert {
        field: index["data_type"]
        for field, index in node.collections["docs"]["payload_schema"].items()
    } == {"author": "uuid", "author.type": "text"}


@pytest.mark.parametrize("change", [{"type": "uuid"}, {"isTenant": True}, {"onDisk": True}])
async def test_whatever_removes_an_index_of_the_payload_is_destructive(
    provider: QdrantIndex, change: dict[str, Any]
):
    index: dict[str, Any] = {"type": "keyword", "isTenant": False, "onDisk": False}
    await provider.create(wanted(payloadIndexes={"author": index}), MARK)
    found = await provider.read("docs")
    assert found is not None
    edited = wanted(payloadIndexes={"author": {**index, **change}})
    (difference,) = compare(edited, found.actual, Memory(), {})
    assert difference.has(DESTRUCTIVE)


async def test_a_red_collection_has_failed_and_says_why(node: QdrantNode, provider: QdrantIndex):
    node.make("docs", {"vectors": DENSE})
    node.collections["docs"].update(status="red", optimizer_status={"error": "disk is full"})
    found = await provider.read("docs")
    assert found is not None
    assert found.phase is Phase.FAILED
    assert found.message is not None
    assert "disk is full" in found.message
    node.collections["docs"].update(status="yellow", optimizer_status="ok")
    found = await provider.read("docs")
    assert found is not None
    assert found.phase is Phase.READY


async def test_what_is_not_there_is_not_updated_and_may_be_deleted(provider: QdrantIndex):
    with pytest.raises(NotFound, match="doesn't exist"):
        await provider.update("docs", wanted(), frozenset(), MARK)
    await provider.delete("docs")


async def test_an_alias_that_took_the_place_of_a_collection_is_not_waited_for_to_go(
    node: QdrantNode, provider: QdrantIndex
):
    node.make("docs-2", {"vectors": DENSE, "metadata": {OWNER: MARK, VECTOR: ""}})
    node.aliases["docs"] = "docs-2"
    found = await provider.read("docs")
    assert found is not None
    with pytest.raises(Conflict, match="docs is an alias by now"):
        await provider.delete("docs")
    assert set(node.collections) == {"docs-2"}


async def test_what_is_told_of_a_plain_collection_could_be_declared(
    node: QdrantNode, provider: QdrantIndex
):
    node.make("docs", {"vectors": DENSE})
    found = await provider.read("docs")
    assert found is not None
    told = found.actual.quantization
    assert told is not None
    assert QdrantQuantization.model_validate(told.model_dump(exclude_none=True)) == told
    assert "always_ram" not in told.model_fields_set


@pytest.mark.parametrize(
    ("name", "fine"), [("docs-v2", True), ("docs:v2", False), ("a\\b", False), ("d" * 256, False)]
)
def test_names_are_objected_to_as_qdrant_would(name: str, fine: bool):  # noqa: FBT001 - a parameter of the test
    assert (not QdrantIndex.objections(wanted(name))) is fine
