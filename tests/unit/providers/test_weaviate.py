"""What is special of Weaviate: its wording, its spelling of names, the mark in the description."""

from collections.abc import AsyncIterator
from typing import Any

import pytest
from aiohttp import web

from auterity.api.connection import RateLimit
from auterity.api.fields import SecretKeyRef, SecretValue
from auterity.engine.calls import Door
from auterity.engine.contract import Access
from auterity.engine.drift import Memory, compare
from auterity.engine.errors import Conflict, NotFound, Rejected, Unavailable
from auterity.engine.limits import Budget
from auterity.providers.weaviate.index import WeaviateIndex
from auterity.providers.weaviate.params import WeaviateIndexParams
from auterity.transport.http import Answer
from auterity.transport.weaviate import WeaviateConnection
from tests.conformance.cluster import NAMESPACE, MemoryCluster, Recorder
from tests.contract.openapi import Description, specs_missing
from tests.fakes.server import FakeServer
from tests.fakes.weaviate import KEY, Weaviate, ask, server

# One Weaviate is enough for a machine.
pytestmark = pytest.mark.xdist_group(Weaviate.__module__)
MARK = "testcluster/team/docs"
CONNECTION = WeaviateConnection(endpoint="http://127.0.0.1:1")


async def opened(url: str = "http://127.0.0.1:1", key: SecretValue | None = None) -> WeaviateIndex:
    limit = RateLimit(per_second=10000, burst=10000, concurrent=50)
    access = Access(
        door=Door("weaviate", "test", Budget(limit), Recorder()),
        secrets=MemoryCluster().secret_store(NAMESPACE),
        allow_insecure=True,
    )
    return WeaviateIndex(await WeaviateConnection(endpoint=url, api_key=key).open(access))


def wanted(name: str = "Docs", **spec: Any) -> WeaviateIndexParams:
    return WeaviateIndexParams.model_validate({"name": name, "dimension": 8, **spec})


def collection(**more: Any) -> dict[str, Any]:
    vector = {"vectorIndexType": "hnsw", "vectorIndexConfig": {"distance": "dot"}}
    return {"class": "Docs", "vectorConfig": {"default": vector}, **more}


@pytest.mark.parametrize(
    ("status", "body", "failure", "words"),
    [
        (404, None, NotFound, "knows no such object"),
        (404, {"code": 404, "message": "path /v2 was not found"}, Unavailable, "endpoint right"),
        (422, {"error": [{"message": "class name Docs already exists"}]}, Conflict, "Docs already"),
        (422, {"error": [{"message": "a"}, {"message": "b"}]}, Rejected, ": a; b"),
    ],
)
def test_failures_are_told_by_what_weaviate_says(
    status: int, body: Any, failure: type[Exception], words: str
):
    found = CONNECTION.failure(Answer(status, {}, body))
    assert type(found) is failure
    assert words in str(found)


async def answering(status: int, body: Any) -> tuple[FakeServer, WeaviateIndex]:
    server = FakeServer()

    async def handle(*_: object) -> web.Response:
        return web.json_response(body, status=status)

    server.route("GET", "/v1/schema/Docs", handle)
    return server, await opened(await server.start())


@pytest.mark.parametrize(
    ("status", "failure"), [(500, Unavailable), (503, Unavailable), (429, Rejected)]
)
async def test_a_limit_that_is_reached_holds_nothing_else_up(status: int, failure: type[Exception]):
    body = {"error": [{"message": "limit of 1000 collections"}]}
    server, provider = await answering(status, body)
    with pytest.raises(failure, match=": limit of 1000 collections"):
        await provider.read("Docs")
    await provider.session.close()
    await server.stop()


async def test_what_an_alias_leads_to_is_not_taken_for_ours():
    mark = f"auterity: {MARK} vector=default dimension=8"
    server, provider = await answering(200, collection(description=mark) | {"class": "DocsV2"})
    found = await provider.read("Docs")
    assert found is not None
    assert (found.id, found.owner) == ("Docs", None)
    assert "alias of the collection DocsV2" in (found.message or "")
    with pytest.raises(Conflict, match="alias of the collection DocsV2"):
        await provider.update("Docs", wanted(), frozenset(), MARK)
    await provider.session.close()
    await server.stop()


async def test_names_are_found_as_weaviate_spells_them():
    provider = await opened()
    assert await provider.locate(wanted("docs_v2")) == "Docs_v2"


async def test_without_a_key_whoever_asks_is_the_identity():
    server = FakeServer()

    async def schema(*_: object) -> web.Response:
        return web.json_response({"classes": []})

    server.route("GET", "/v1/schema", schema)
    provider = await opened(await server.start())
    assert (await provider.session.verify()).name == "whoever asks at 127.0.0.1"
    await provider.session.close()
    await server.stop()


@pytest.mark.parametrize("text", ["", "Articles", "Two\nlines", "auterity: not a mark\nof ours"])
async def test_the_mark_stands_below_the_description(text: str):
    provider = await opened()
    body = provider.encode(wanted(description=text or None), MARK)
    seen = provider.decode(collection(description=body["description"]))
    assert (seen.owner, seen.actual.description) == (MARK, text or None)
    assert seen.actual.dimension == 8


async def test_a_description_without_a_mark_is_nobodys():
    provider = await opened()
    seen = provider.decode(collection(description="Made by hand"))
    assert (seen.owner, seen.actual.description) == (None, "Made by hand")


async def test_a_mark_that_was_spoilt_by_hand_is_read_as_far_as_it_goes():
    provider = await opened()
    seen = provider.decode(collection(description=f"auterity: {MARK} dimension=many and more"))
    assert seen.owner == MARK
    assert "dimension" not in seen.actual.model_fields_set


async def test_the_declared_vector_is_known_among_several():
    provider = await opened()
    vectors = {name: collection()["vectorConfig"]["default"] for name in ("a", "b")}
    seen = provider.decode(
        collection(vectorConfig=vectors, description=f"auterity: {MARK} vector=b")
    )
    assert seen.actual.vector_name == "b"
    seen = provider.decode(
        collection(vectorConfig=vectors, description=f"auterity: {MARK} vector=c")
    )
    assert seen.actual.vector_name is None
    seen = provider.decode(collection(vectorConfig=vectors))
    assert not {"vector_name", "metric"} & seen.actual.model_fields_set


async def test_a_collection_of_an_older_application_has_one_vector_without_a_name():
    provider = await opened()
    want = wanted(vectorName="", vectorizer={"module": "text2vec-x", "settings": {"n": "2"}})
    body = provider.encode(want, MARK)
    assert (body["vectorizer"], body["moduleConfig"]) == ("text2vec-x", {"text2vec-x": {"n": 2}})
    seen = provider.decode(body)
    assert (seen.owner, seen.actual.vector_name) == (MARK, "")
    assert seen.actual.vectorizer == want.vectorizer


@pytest.mark.skipif(specs_missing() is not None, reason=specs_missing() or "")
@pytest.mark.parametrize("more", [{}, *(edit.patch["weaviate"] for edit in Weaviate.edits)])
async def test_what_is_sent_is_what_the_official_description_names(more: dict[str, Any]):
    description = Description.load("weaviate.swagger.json")
    assert description is not None
    spec = {**Weaviate.spec["weaviate"], **more}
    spec = {name: value for name, value in spec.items() if value is not None}
    spec = {
        name: {**Weaviate.spec["weaviate"].get(name, {}), **value}
        if isinstance(value, dict)
        else value
        for name, value in spec.items()
    }
    properties = {
        name: {**Weaviate.spec["weaviate"]["properties"].get(name, {}), **of}
        for name, of in spec["properties"].items()
    }
    body = (await opened()).encode(wanted(**{**spec, "properties": properties}), MARK)
    kind = "application/json"
    for method, path in (("POST", "/schema"), ("PUT", "/schema/Docs")):
        found = description.check(method, path, query={}, content_type=kind, body=body)
        assert found is None


@pytest.mark.parametrize("kind", ["hnsw", "flat", "dynamic"])
async def test_what_is_told_of_a_plain_collection_could_be_declared(kind: str):
    provider = await opened()
    body = provider.encode(wanted(indexType=kind), MARK)
    body["multiTenancyConfig"] = {"enabled": False, "autoTenantCreation": False}
    body["shardingConfig"] = {"desiredCount": 0}
    seen = provider.decode(body).actual
    told = {name: getattr(seen, name) for name in seen.model_fields_set}
    assert (told["hnsw"] is None, told["shards"]) == (kind != "hnsw", None)
    assert told["multi_tenancy"].model_fields_set == {"enabled"}
    assert told["quantization"] == (None if kind == "dynamic" else "none")


@pytest.mark.parametrize(
    ("name", "fine"), [("Docs", True), ("docs_v2", True), ("docs-v2", False), ("2docs", False)]
)
def test_names_are_objected_to_as_weaviate_would(name: str, fine: bool):  # noqa: FBT001 - a parameter of the test
    assert (not WeaviateIndex.objections(wanted(name))) is fine


@pytest.fixture
async def real() -> AsyncIterator[WeaviateIndex]:
    if (reason := Weaviate.missing()) is not None:
        pytest.skip(reason)
    secret = SecretValue(secret_key_ref=SecretKeyRef(name="weaviate", key="apiKey"))
    secret.resolve(KEY, "1")
    provider = await opened(server().url, secret)
    yield provider
    await provider.session.close()
    await Weaviate().reset()


@pytest.mark.parametrize(
    "spec",
    [
        {},
        {"metric": "euclidean", "shards": 2, "quantization": "none"},
        {"indexType": "flat", "quantization": "bq"},
        {"vectorName": "", "hnsw": {"maxConnections": 8, "ef": 70}},
        {"vectorName": "", "indexType": "flat", "metric": "dotProduct"},
        {"quantization": "pq", "invertedIndex": {"indexNullState": True, "bm25K1": 1.1}},
        {"properties": {"author": {"dataType": "text", "tokenization": "lowercase"}}},
        {"reranker": {"module": "reranker-cohere"}, "deletionStrategy": "TimeBasedResolution"},
        {"vectorizer": {"module": "text2vec-openai", "settings": {"dimensions": "512"}}},
        {
            "vectorName": "",
            "vectorizer": {
                "module": "text2vec-openai",
                "settings": {"vectorizeClassName": "false"},
            },
        },
    ],
)
async def test_whatever_is_declared_is_read_back(real: WeaviateIndex, spec: dict[str, Any]):
    want = wanted(**spec)
    made = await real.create(want, MARK)
    assert not isinstance(made, str)
    found = await real.read("Docs")
    assert found is not None
    for seen in (made, found):
        assert compare(want, seen.actual, Memory(), {}) == []
        assert seen.owner == MARK


@pytest.mark.parametrize(
    ("before", "after", "changed"),
    [
        ({"vectorName": ""}, {"hnsw": {"ef": 70}}, {"hnsw.ef"}),
        ({"quantization": "pq"}, {"quantization": "none"}, {"quantization"}),
        ({"vectorName": ""}, {"properties": {"n": {"dataType": "int"}}}, {"properties.n"}),
    ],
)
async def test_other_kinds_of_index_are_changed_too(
    real: WeaviateIndex, before: dict[str, Any], after: dict[str, Any], changed: set[str]
):
    await real.create(wanted(**before), MARK)
    want = wanted(**{**before, **after})
    await real.update("Docs", want, frozenset(changed), MARK)
    found = await real.read("Docs")
    assert found is not None
    assert compare(want, found.actual, Memory(), {}) == []


async def test_what_weaviate_cannot_change_is_told_in_its_words(real: WeaviateIndex):
    await real.create(wanted(indexType="flat"), MARK)
    want = wanted(indexType="flat", quantization="bq")
    with pytest.raises(Rejected, match="bq is immutable"):
        await real.update("Docs", want, frozenset({"quantization"}), MARK)


async def test_taking_over_keeps_what_was_written_by_hand(real: WeaviateIndex):
    ask("POST", "/schema", {"class": "Docs", "vectorizer": "none", "description": "By hand"})
    await real.update("Docs", wanted(vectorName=""), frozenset(), MARK)
    found = await real.read("Docs")
    assert found is not None
    assert (found.owner, found.actual.description) == (MARK, "By hand")


async def test_a_vector_that_is_not_there_is_told(real: WeaviateIndex):
    vector = {"vectorizer": {"none": {}}, "vectorIndexType": "hnsw"}
    ask("POST", "/schema", {"class": "Docs", "vectorConfig": {"a": vector, "b": vector}})
    with pytest.raises(Rejected, match="has no vector default"):
        await real.update("Docs", wanted(), frozenset(), MARK)


async def test_a_name_that_differs_by_case_only_is_a_conflict(real: WeaviateIndex):
    ask("POST", "/schema", {"class": "DOCS", "vectorizer": "none"})
    with pytest.raises(Conflict, match="already exists"):
        await real.create(wanted(), MARK)


async def test_a_module_that_the_server_lacks_is_told(real: WeaviateIndex):
    with pytest.raises(Rejected, match="text2vec-nobody"):
        await real.create(wanted(vectorizer={"module": "text2vec-nobody"}), MARK)
