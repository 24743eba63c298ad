"""What is special of Chroma: its dimension, its two kinds of index, its places and pages."""

from collections.abc import AsyncIterator
from typing import Any

import pytest
from aiohttp import web

from auterity.api.connection import RateLimit
from auterity.engine.calls import Door
from auterity.engine.contract import Access
from auterity.engine.drift import Memory, compare
from auterity.engine.errors import NotFound, Rejected, Unavailable
from auterity.engine.limits import Budget
from auterity.providers.chroma import ChromaConnection, ChromaIndex, ChromaIndexParams
from tests.conformance.cluster import NAMESPACE, MemoryCluster, Recorder
from tests.fakes.chroma import COLLECTIONS, DATABASE, TENANT, Chroma, ask, server
from tests.fakes.server import FakeServer

MARK = "testcluster/team/docs"


async def opened(url: str, database: str = DATABASE) -> ChromaIndex:
    limit = RateLimit(per_second=10000, burst=10000, concurrent=50)
    access = Access(
        door=Door("chroma", "test", Budget(limit), Recorder()),
        secrets=MemoryCluster().secret_store(NAMESPACE),
        allow_insecure=True,
    )
    connector = ChromaConnection(endpoint=url, tenant=TENANT, database=database)
    return ChromaIndex(await connector.open(access))


def wanted(name: str = "docs", **spec: Any) -> ChromaIndexParams:
    return ChromaIndexParams.model_validate({"name": name, "dimension": 3, **spec})


@pytest.fixture
async def provider() -> AsyncIterator[ChromaIndex]:
    if (reason := Chroma.missing()) is not None:
        pytest.skip(reason)
    provider = await opened(server().url)
    yield provider
    await provider.session.close()
    await Chroma().reset()


async def test_records_know_the_dimension_better_than_the_note(provider: ChromaIndex):
    await provider.create(wanted(), MARK)
    found = await provider.read("docs")
    assert found is not None
    assert found.actual.dimension == 3
    id = found.outputs["collectionId"]
    ask("POST", f"{COLLECTIONS}/{id}/add", {"ids": ["a"], "embeddings": [[1.0, 2.0]]})
    found = await provider.read("docs")
    assert found is not None
    (difference,) = compare(wanted(), found.actual, Memory(), {})
    assert (difference.path, difference.actual) == ("dimension", "2")


async def test_what_others_noted_stays_in_its_own_type(provider: ChromaIndex):
    ask("POST", COLLECTIONS, {"name": "docs", "metadata": {"shelf": 7, "lent": True}})
    await provider.update("docs", wanted(), frozenset(), MARK)
    held = ask("GET", f"{COLLECTIONS}/docs")["metadata"]
    assert (held["shelf"], held["lent"]) == (7, True)


async def test_only_what_changed_is_sent_as_chroma_refuses_the_rest(provider: ChromaIndex):
    await provider.create(wanted(hnsw={"efConstruction": 50}), MARK)
    want = wanted(hnsw={"efConstruction": 50, "efSearch": 90})
    await provider.update("docs", want, frozenset({"hnsw.ef_search"}), MARK)
    held = ask("GET", f"{COLLECTIONS}/docs")["configuration_json"]["hnsw"]
    assert (held["ef_construction"], held["ef_search"]) == (50, 90)


async def test_every_page_is_read(provider: ChromaIndex, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(ChromaIndex, "page_size", 2)
    names = [f"docs-{number}" for number in range(5)]
    for name in names:
        ask("POST", COLLECTIONS, {"name": name})
    assert sorted([seen.id async for seen in provider.read_all()]) == names


async def test_a_missing_database_is_told(provider: ChromaIndex):
    elsewhere = await opened(server().url, database="not-there")
    with pytest.raises(NotFound, match=r"Database \[not-there\] not found"):
        await elsewhere.session.verify()
    with pytest.raises(Rejected, match=r"Database \[not-there\] does not exist"):
        await elsewhere.create(wanted(), MARK)
    await elsewhere.session.close()


async def test_the_identity_is_the_database(provider: ChromaIndex):
    identity = await provider.session.verify()
    assert identity.name == f"database {DATABASE} of tenant {TENANT} at 127.0.0.1"


async def test_an_endpoint_that_is_not_chromas_is_not_taken_for_absent(provider: ChromaIndex):
    elsewhere = await opened(f"{server().url}/api")
    with pytest.raises(Unavailable, match="is the endpoint right"):
        await elsewhere.read("docs")
    await elsewhere.session.close()


async def test_clusters_are_asked_for_and_read_as_chroma_cloud_keeps_them():
    kept: dict[str, Any] = {}
    place = f"/api/v2/tenants/{TENANT}/databases/{DATABASE}/collections"

    async def create(_: web.Request, body: Any) -> web.Response:
        more = {"id": "6f1c", "dimension": None, "tenant": TENANT, "database": DATABASE}
        kept.update(body, **more, configuration_json={"hnsw": None, **body["configuration"]})
        return web.json_response(kept)

    async def update(_: web.Request, body: Any) -> web.Response:
        kept["changes"] = body["new_configuration"]
        return web.json_response({})

    async def read(*_: object) -> web.Response:
        return web.json_response(kept)

    cloud = FakeServer()
    cloud.route("POST", place, create)
    cloud.route("GET", f"{place}/docs", read)
    cloud.route("PUT", f"{place}/6f1c", update)
    provider = await opened(await cloud.start())
    want = wanted(metric="dotProduct", spann={"searchNprobe": 64, "writeNprobe": 32})
    made = await provider.create(want, MARK)
    assert not isinstance(made, str)
    assert compare(want, made.actual, Memory(), {}) == []
    assert made.actual.hnsw is None
    await provider.update("docs", want, frozenset({"spann.search_nprobe"}), MARK)
    assert kept["changes"] == {"spann": {"search_nprobe": 64}}
    await provider.session.close()
    await cloud.stop()


@pytest.mark.parametrize(
    ("name", "fine"), [("docs", True), ("a", False), ("Docs_v2.1", True), ("docs-", False)]
)
def test_names_are_objected_to_as_chroma_would(name: str, fine: bool):  # noqa: FBT001 - a parameter of the test
    assert (not ChromaIndex.objections(wanted(name))) is fine
