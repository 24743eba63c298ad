"""What is special of Redis: errors in words, aliases, several vectors, TLS, background scans."""

import asyncio
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
import trustme

from auterity.api.connection import RateLimit
from auterity.api.fields import SecretKeyRef, SecretValue
from auterity.api.vector_index import Metric
from auterity.engine.calls import Door
from auterity.engine.contract import Access, Phase
from auterity.engine.drift import Memory, compare
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
from auterity.providers.redis.index import RedisIndex, _phase
from auterity.providers.redis.params import RedisIndexParams
from auterity.transport.redis import RedisConnection
from tests.conformance.cluster import NAMESPACE, MemoryCluster, Recorder
from tests.conformance.harness import Harness
from tests.conformance.vendor import merged
from tests.fakes.redis import PASSWORD, USER, Redis, server
from tools.loopback import HOST

STAND_IN = Redis
MARK = "testcluster/team/docs"
INFO = [
    *("index_name", "docs", "index_options", []),
    *("index_definition", ["key_type", "HASH", "prefixes", ["docs:"], "default_score", "1"]),
    *("attributes", [], "indexing", 0, "percent_indexed", "1"),
]


def secret(value: str) -> SecretValue:
    it = SecretValue(secret_key_ref=SecretKeyRef(name="redis", key="password"))
    it.resolve(value, "1")
    return it


async def opened(*, insecure: bool = True, **fields: Any) -> RedisIndex:
    limit = RateLimit(per_second=10000, burst=10000, concurrent=50)
    access = Access(
        door=Door("redis", "test", Budget(limit), Recorder()),
        secrets=MemoryCluster().secret_store(NAMESPACE),
        allow_insecure=insecure,
    )
    connection = RedisConnection.model_validate({"host": HOST, "tls": False, **fields})
    return RedisIndex(await connection.open(access))


def wanted(name: str = "docs", **spec: Any) -> RedisIndexParams:
    return RedisIndexParams.model_validate({"name": name, "dimension": 4, **spec})


def resp(answer: Any) -> bytes:
    if isinstance(answer, bytes):
        return answer
    if isinstance(answer, list):
        return b"*%d\r\n" % len(answer) + b"".join(map(resp, answer))
    if isinstance(answer, int):
        return b":%d\r\n" % answer
    return b"$%d\r\n%s\r\n" % (len(str(answer)), str(answer).encode())


@asynccontextmanager
async def answering(
    *answers: Any, context: ssl.SSLContext | None = None
) -> AsyncIterator[tuple[int, list[bytes]]]:
    """A server that answers each command with the next of these, and then hangs up."""
    heard: list[bytes] = []
    left = list(answers)

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while said := await reader.read(65536):
            heard.append(said)
            if not left or (answer := left.pop(0)) is None:
                break
            writer.write(resp(answer))
        writer.close()

    listening = await asyncio.start_server(serve, HOST, 0, ssl=context)
    async with listening:
        yield listening.sockets[0].getsockname()[1], heard


@pytest.fixture
async def vendor() -> AsyncIterator[Redis]:
    if (reason := Redis.missing()) is not None:
        pytest.skip(reason)
    it = Redis()
    await it.start()
    await it.reset()
    await it.ask("ACL", "SETUSER", USER, "~*")
    yield it
    await it.stop()


@pytest.fixture
async def provider(vendor: Redis) -> AsyncIterator[RedisIndex]:
    it = await opened(port=server().port, user=USER, password=secret(PASSWORD))
    yield it
    await it.session.close()


@pytest.mark.parametrize(
    ("answer", "failure", "words"),
    [
        ("NOAUTH Authentication required.", Unauthorized, "refuses the user default"),
        ("WRONGPASS invalid username-password pair", Unauthorized, "check user and password"),
        ("NOPERM No permissions to access a key", Unauthorized, "widen the access rules"),
        ("LOADING Redis is loading the dataset in memory", Unavailable, "still loading"),
        ("BUSY Redis is busy running a script.", Unavailable, "running a script"),
        ("READONLY You can't write against a read only replica.", Unavailable, "read only"),
        ("CLUSTERDOWN The cluster is down", Unavailable, "cluster is down"),
        ("MASTERDOWN Link with MASTER is down", Unavailable, "Link with MASTER"),
        ("MOVED 6080 10.1.2.3:6379", Rejected, "node of a cluster"),
        ("ERR max number of clients reached", Throttled, "no more connections"),
        ("OOM command not allowed when used memory > 'maxmemory'.", Rejected, "not allowed"),
        ("ERR unknown command 'FT.CREATE', with args", Rejected, "has no search module"),
        ("Cannot create index on db != 0", Rejected, "db != 0"),
        ("Index already exists", Conflict, "already exists"),
        ("SEARCH_INDEX_EXISTS Index already exists", Conflict, "already exists"),
    ],
)
async def test_failures_are_told_by_what_redis_says(
    answer: str, failure: type[Failure], words: str
):
    async with answering(f"-{answer}\r\n".encode()) as (port, _):
        it = await opened(port=port)
        with pytest.raises(failure, match=words) as told:
            await it.create(wanted(), MARK)
        assert type(told.value) is failure
        await it.session.close()


@pytest.mark.parametrize(
    "answer",
    [
        "Unknown index name",
        "Unknown Index name",
        "docs: no such index",
        "SEARCH_INDEX_NOT_FOUND Index not found",
    ],
)
async def test_an_index_is_absent_in_the_words_of_every_version(answer: str):
    async with answering(*[f"-{answer}\r\n".encode()] * 2) as (port, _):
        it = await opened(port=port)
        assert await it.read("docs") is None
        await it.delete("docs")
        await it.session.close()


async def test_a_read_is_repeated_once_if_the_connection_was_dropped_and_a_write_never():
    async with answering(None, resp(INFO)) as (port, heard):
        it = await opened(port=port)
        assert (await it.read("docs")) is not None
        assert len(heard) == 2
        await it.session.close()
    async with answering(None, "OK") as (port, heard):
        it = await opened(port=port)
        with pytest.raises(Unavailable, match="cannot be reached"):
            await it.create(wanted(), MARK)
        assert len(heard) == 1
        await it.session.close()


async def test_what_is_no_redis_is_told():
    async with answering(b"HTTP/1.1 400 Bad Request\r\n\r\n") as (port, _):
        it = await opened(port=port)
        with pytest.raises(Unavailable, match="is the port right"):
            await it.read("docs")
        await it.session.close()


async def test_an_unknown_authority_is_refused_and_a_declared_one_is_trusted():
    authority = trustme.CA()
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert(HOST).configure_cert(context)
    pem = authority.cert_pem.bytes().decode()
    async with answering(resp(INFO), context=context) as (port, _):
        it = await opened(port=port, tls=True, insecure=False)
        with pytest.raises(Rejected, match="check host, tls and caCertificate"):
            await it.read("docs")
        await it.session.close()
        trusted = RedisConnection.model_validate(
            {"host": HOST, "port": port, "caCertificate": {"value": pem}}
        )
        assert trusted.ca_certificate is not None
        trusted.ca_certificate.resolve(pem, "1")
        it = await opened(port=port, tls=True, insecure=False)
        it.session.connector = trusted
        assert await it.read("docs") is not None
        await it.session.close()


async def test_no_tls_needs_an_operator_that_allows_it():
    with pytest.raises(Rejected, match="--allow-insecure-endpoints"):
        await opened(insecure=False)
    with pytest.raises(Rejected, match="metadata"):
        await opened(host="169.254.169.254")


async def test_an_empty_password_does_not_log_in_as_nobody():
    it = await opened(password=secret(""))
    with pytest.raises(Unauthorized, match="empty"):
        await it.session.verify()


def test_indexing_what_is_there_is_pending_and_told_in_quarters():
    assert _phase({"indexing": "0", "percent_indexed": "1"}) == (Phase.READY, None)
    phase, message = _phase({"indexing": 1, "percent_indexed": "0.61"})
    assert (phase, message) == (Phase.PENDING, "Redis indexes the documents that are there: 50 %")


async def test_deleting_keeps_the_documents(vendor: Redis, provider: RedisIndex):
    await provider.create(wanted(), MARK)
    await vendor.ask("HSET", "docs:1", "embedding", "0123456789abcdef")
    await provider.delete("docs")
    assert await provider.read("docs") is None
    assert await vendor.ask("EXISTS", "docs:1") == 1


async def test_an_alias_is_never_changed_nor_dropped_nor_taken_for_ours(
    vendor: Redis, provider: RedisIndex
):
    await provider.create(wanted("docs-v2"), MARK)
    await vendor.ask("FT.ALIASADD", "docs", "docs-v2")
    seen = await provider.read("docs")
    assert seen is not None
    assert (seen.owner, seen.actual.model_fields_set) == (None, set())
    with pytest.raises(Conflict, match="docs is an alias of the index docs-v2"):
        await provider.update("docs", wanted(), frozenset(), MARK)
    await provider.delete("docs")
    assert await provider.read("docs-v2") is not None


async def test_an_index_with_several_vectors_is_told_by_its_mark(
    vendor: Redis, provider: RedisIndex
):
    one = ("VECTOR", "FLAT", 6, "TYPE", "FLOAT32", "DIM", 4, "DISTANCE_METRIC", "L2")
    two = ("VECTOR", "HNSW", 6, "TYPE", "FLOAT64", "DIM", 8, "DISTANCE_METRIC", "COSINE")
    await vendor.ask("FT.CREATE", "docs", "SCHEMA", "picture", *one, "text", *two)
    seen = await provider.read("docs")
    assert seen is not None
    assert "dimension" not in seen.actual.model_fields_set
    want = wanted(vectorName="text", dimension=8, dataType="float64")
    assert compare(want, seen.actual, Memory(), {}) == []
    await provider.update("docs", want, frozenset(), MARK)
    seen = await provider.read("docs")
    assert seen is not None
    assert (seen.owner, seen.actual.dimension, seen.actual.metric) == (MARK, 8, Metric.COSINE)
    await provider.update("docs", want, frozenset(), MARK)
    assert len((await vendor.info("docs"))["attributes"]) == 3


async def test_what_is_gone_is_not_changed(provider: RedisIndex):
    with pytest.raises(NotFound):
        await provider.update("docs", wanted(), frozenset({"fields.x"}), MARK)


async def test_a_field_is_added_whatever_is_lost_on_the_way(harness: Harness):
    assert isinstance(harness.vendor, Redis)
    fields = len((await _made(harness)).actual.fields or {})
    for number, fault in enumerate(("fail_before", "fail_after", "kill_before", "kill_after") * 2):
        # The first call of an update that is due is a look, the second adds the field.
        harness.forget_faults()
        calls = harness.script.seen
        setattr(harness.script, fault, calls + (2 if number < 4 else 1))
        name = f"more{number}"
        patch = {"redis": {"fields": {name: {"type": "tag", "path": f"$.{name}"}}}}
        harness.apply(merged(Redis.spec, patch))
        await harness.converge_in_spite_of_death()
        assert harness.ready["status"] == "True", (fault, harness.ready)
        seen = await harness.read()
        assert seen is not None
        assert len(seen.actual.fields) == fields + number + 1
    await harness.remove()
    assert await harness.vendor.count() == harness.baseline


async def _made(harness: Harness) -> Any:
    await harness.make()
    return await harness.read()
