"""What is special of Pinecone: meanings of its errors, its states, its kinds of index."""

import asyncio
from collections.abc import AsyncIterator

import msgspec
import pytest
from aiohttp import web

from auterity.api.connection import RateLimit
from auterity.engine import ownership
from auterity.engine.calls import Door, Trail, trail
from auterity.engine.contract import Access, Phase
from auterity.engine.drift import Memory, compare
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
from auterity.engine.limits import Budget
from auterity.providers.pinecone import OWNER, PineconeIndex, PineconeIndexParams, observed
from auterity.transport.pinecone import PineconeConnector, PineconeSession
from tests.conformance.cluster import NAMESPACE, MemoryCluster, Recorder
from tests.fakes.pinecone import KEY, PineconeProject, Refused

MARK = "testcluster/team/docs"
SERVERLESS = {"dimension": 8, "cloud": "aws", "region": "us-east-1"}
POD = {"environment": "us-east1-gcp", "podType": "p1.x1"}
PODS = {"dimension": 8, "pod": POD}


async def opened(url: str, key: str = KEY) -> PineconeSession:
    connector = PineconeConnector.model_validate(
        {"endpoint": url, "apiKey": {"secretKeyRef": {"name": "pinecone", "key": "apiKey"}}}
    )
    connector.api_key.resolve(key, "1")
    limit = RateLimit(per_second=10000, burst=10000, concurrent=50)
    access = Access(
        door=Door("pinecone", "test", Budget(limit), Recorder()),
        secrets=MemoryCluster().secret_store(NAMESPACE),
        allow_insecure=True,
    )
    return await connector.open(access)


def wanted(spec: dict[str, object], name: str = "docs") -> PineconeIndexParams:
    return PineconeIndexParams.model_validate({"name": name, **spec})


def drift(want: PineconeIndexParams, actual: PineconeIndexParams) -> list[str]:
    return [difference.path for difference in compare(want, actual, Memory(), {})]


@pytest.fixture
async def project() -> AsyncIterator[PineconeProject]:
    project = PineconeProject()
    await project.server.start()
    yield project
    await project.server.stop()
    assert not project.server.violations


@pytest.fixture
async def provider(project: PineconeProject) -> AsyncIterator[PineconeIndex]:
    session = await opened(project.server.url)
    yield PineconeIndex(session)
    await session.close()


@pytest.fixture
async def answering() -> AsyncIterator[tuple[PineconeSession, list[web.Response]]]:
    """A session with a vendor that gives the answers it is told to give."""
    answers: list[web.Response] = []

    async def handle(_: web.Request) -> web.Response:
        return answers.pop()

    app = web.Application()
    app.router.add_route("*", "/{tail:.*}", handle)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    session = await opened(f"http://127.0.0.1:{runner.addresses[0][1]}")
    yield session, answers
    await session.close()
    await runner.cleanup()


@pytest.mark.parametrize(
    ("status", "code", "message", "failure"),
    [
        (400, "INVALID_ARGUMENT", "Bad request.", Rejected),
        (401, "UNAUTHENTICATED", "Invalid API key.", Unauthorized),
        (402, "PAYMENT_REQUIRED", "Pay all past due invoices.", Rejected),
        (403, "FORBIDDEN", "Deletion protection is enabled for this index.", Busy),
        (403, "FORBIDDEN", "Increase your quota or upgrade to create more indexes.", Rejected),
        (403, "QUOTA_EXCEEDED", "No more indexes.", Rejected),
        (403, "FORBIDDEN", "Insufficient permissions.", Unauthorized),
        (404, "NOT_FOUND", "Resource docs not found", NotFound),
        (408, "DEADLINE_EXCEEDED", "Too slow.", Unavailable),
        (409, "ALREADY_EXISTS", "Resource already exists.", Conflict),
        (412, "FAILED_PRECONDITION", "There are pending collections for this index.", Busy),
        (422, "UNPROCESSABLE_ENTITY", "missing field `metric`", Rejected),
        (500, "UNKNOWN", "Internal server error", Unavailable),
    ],
)
async def test_each_refusal_is_named_by_its_reaction_and_tells_pinecones_words(
    answering, status, code, message, failure
):
    session, answers = answering
    body = {"error": {"code": code, "message": message}, "status": status}
    answers.append(web.json_response(body, status=status))
    with pytest.raises(Failure) as caught:
        await session.delete_index("docs")
    assert type(caught.value) is failure
    assert message in caught.value.message
    assert not answers, "there was no second try"


async def test_pinecones_patience_is_asked_for_as_long_as_it_says(answering):
    session, answers = answering
    body = {"error": {"code": "RESOURCE_EXHAUSTED", "message": "slow down"}, "status": 429}
    answers.append(web.json_response(body, status=429, headers={"Retry-After": "1.5"}))
    with pytest.raises(Throttled) as caught:
        await session.describe_index("docs")
    assert caught.value.retry_after == 1.5


async def test_a_web_page_that_is_not_pinecones_does_not_mean_that_the_index_is_gone(answering):
    session, answers = answering
    page = "<html><body>Not found</body></html>"
    answers.append(web.Response(text=page, status=404, content_type="text/html"))
    with pytest.raises(Unavailable, match="is the endpoint right"):
        await PineconeIndex(session).read("docs")


async def test_an_answer_that_the_sdk_cannot_read_may_come_of_a_success(answering):
    session, answers = answering
    answers.append(web.json_response({"name": "docs"}, status=201))
    with pytest.raises(Unavailable, match="cannot read"):
        await PineconeIndex(session).create(wanted(SERVERLESS), MARK)


async def test_what_the_sdk_refuses_by_itself_is_rejected_without_a_request(project, provider):
    with pytest.raises(Rejected, match="max 45 characters"):
        await provider.create(wanted(SERVERLESS, "x" * 46), MARK)
    assert project.server.requests == []


@pytest.mark.parametrize("key", ["", " ", f"{KEY}\n"])
async def test_a_broken_key_is_told_without_the_key(monkeypatch, project, key):
    monkeypatch.setenv("PINECONE_API_KEY", KEY)
    session = await opened(project.server.url, key)
    with pytest.raises(Unauthorized) as caught:
        await session.verify()
    assert KEY not in caught.value.message
    assert project.server.requests == []
    await session.close()


async def test_the_environment_of_the_operator_adds_no_header(monkeypatch, project):
    monkeypatch.setenv("PINECONE_ADDITIONAL_HEADERS", '{"X-Pinecone-Api-Version": "2024-07"}')
    session = await opened(project.server.url)
    await session.verify()
    await session.close()


async def test_the_sdk_calls_by_our_own_client_and_the_door_learns_what_was_answered(provider):
    here = trail.set(Trail())
    try:
        await provider.create(wanted(SERVERLESS), MARK)
        with pytest.raises(Conflict):
            await provider.create(wanted(SERVERLESS), MARK)
        visited = trail.get()
    finally:
        trail.reset(here)
    assert visited is not None
    assert [(c.method, c.status, c.request_id) for c in visited.calls] == [
        ("CreateIndex", "201", "r1"),
        ("CreateIndex", "409", "r2"),
    ]
    sdk = provider.session._sdk
    assert sdk is not None
    assert sdk._http._client is provider.session._http


async def test_only_a_read_is_repeated_and_only_when_its_connection_was_closed():
    seen = []

    async def cut_the_first(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while request := await reader.readline():
            seen.append(request.split()[0])
            while (await reader.readline()).strip():
                pass
            if len(seen) == 1:
                break
            body = b'{"indexes": []}'
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body))
        writer.close()

    server = await asyncio.start_server(cut_the_first, "127.0.0.1", 0)
    session = await opened(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}")
    await session.list_indexes()
    assert seen == [b"GET", b"GET"]
    seen.clear()
    with pytest.raises(Unavailable):
        await PineconeIndex(session).create(wanted(SERVERLESS), MARK)
    assert seen == [b"POST"]
    await session.close()
    server.close()
    await server.wait_closed()


@pytest.mark.parametrize(
    "spec",
    [
        SERVERLESS,
        {**SERVERLESS, "metric": "dotProduct", "sparse": True},
        {**SERVERLESS, "cmekId": "key-1"},
        {
            **SERVERLESS,
            "readCapacity": {"mode": "Dedicated", "nodeType": "t1", "shards": 2, "replicas": 0},
        },
        {
            **SERVERLESS,
            "dimension": 1024,
            "embed": {"field": "body", "model": "llama-text-embed-v2"},
        },
        PODS,
        {"dimension": 8, "pod": {**POD, "shards": 2, "replicas": 3}},
        {"dimension": 8, "byoc": "aws-us-east-1-b921"},
    ],
    ids=["serverless", "hybrid", "key", "nodes", "embedding", "pod", "pods", "byoc"],
)
async def test_every_kind_of_index_reads_back_as_it_was_declared(provider, spec):
    want = wanted(spec)
    made = await provider.create(want, MARK)
    read = await provider.read("docs")
    assert made == read
    assert (read.owner, read.phase) == (MARK, Phase.READY)
    assert drift(want, read.actual) == []
    assert read.outputs["dimension"] == str(want.dimension)


async def test_an_index_that_does_not_tell_of_sparse_vectors_is_no_drift(project, provider):
    want = wanted({**SERVERLESS, "metric": "dotProduct", "sparse": True})
    await provider.create(want, MARK)
    del project.indexes["docs"]["schema"]["fields"]["_sparse_values"]
    assert drift(want, (await provider.read("docs")).actual) == []


async def test_pods_are_scaled_and_nothing_else_of_them_is_sent(project, provider):
    await provider.create(wanted(PODS), MARK)
    project.slow = True
    want = wanted({"dimension": 8, "pod": {**POD, "podType": "p1.x2", "replicas": 2}})
    changed = drift(want, (await provider.read("docs")).actual)
    assert changed == ["pod.pod_type", "pod.replicas"]
    await provider.update("docs", want, frozenset(changed), MARK)
    read = await provider.read("docs")
    assert (read.phase, drift(want, read.actual)) == (Phase.PENDING, [])
    project.settle()
    assert (await provider.read("docs")).phase is Phase.READY


async def test_tags_of_others_stay_and_the_mark_is_written_with_every_change(project, provider):
    await provider.create(wanted({**SERVERLESS, "tags": {"team": "a"}}), MARK)
    project.change("docs", {"tags": {"theirs": "1", OWNER: ""}})
    await provider.update("docs", wanted(SERVERLESS), frozenset({"tags.team"}), MARK)
    read = await provider.read("docs")
    assert (read.actual.tags, read.owner) == ({"theirs": "1"}, MARK)


async def test_a_protected_index_is_deleted_and_its_name_is_free_only_when_it_is_gone(
    project, provider
):
    await provider.create(wanted(SERVERLESS), MARK)
    project.slow = True
    await provider.delete("docs")
    read = await provider.read("docs")
    assert read.phase is Phase.DELETING
    project.server.requests.clear()
    await provider.delete("docs")
    assert [method for method, _ in project.server.requests] == ["GET"]
    with pytest.raises(Conflict):
        await provider.create(wanted(SERVERLESS), MARK)
    project.settle()
    assert await provider.read("docs") is None
    await provider.delete("docs")


async def test_protection_that_comes_back_between_two_calls_is_lifted_on_the_next_visit(
    project, provider
):
    await provider.create(wanted(SERVERLESS), MARK)
    with pytest.raises(Busy):
        await provider.session.delete_index("docs")
    await provider.delete("docs")
    assert project.indexes == {}


async def test_a_full_project_is_told_as_a_quota(project, provider):
    project.quota = 0
    with pytest.raises(Rejected, match="quota of the Pinecone project"):
        await provider.create(wanted(SERVERLESS), MARK)


@pytest.mark.parametrize(
    ("status", "reads", "phase"),
    [
        ({"ready": True, "state": "Ready"}, None, Phase.READY),
        ({"ready": False, "state": "Ready"}, None, Phase.PENDING),
        ({"ready": True, "state": "ScalingDown"}, None, Phase.PENDING),
        ({"ready": False, "state": "InitializationFailed"}, None, Phase.FAILED),
        ({"ready": False, "state": "Disabled"}, None, Phase.FAILED),
        ({"ready": False, "state": "Terminating"}, {"state": "Scaling"}, Phase.DELETING),
        ({"ready": True, "state": "Ready"}, {"state": "Migrating"}, Phase.PENDING),
        (
            {"ready": True, "state": "Ready"},
            {"state": "Error", "error_message": "too few shards"},
            Phase.FAILED,
        ),
    ],
)
async def test_each_state_has_its_phase(project, provider, status, reads, phase):
    await provider.create(wanted(SERVERLESS), MARK)
    project.indexes["docs"]["status"] = status
    if reads is not None:
        project.indexes["docs"]["read_capacity"]["status"] = reads
    read = await provider.read("docs")
    assert read.phase is phase
    assert (read.message is None) == (phase is Phase.READY)
    assert (reads or {}).get("error_message", "") in (read.message or "")


async def test_an_index_that_others_made_with_other_fields_can_be_seen(project, provider):
    project.make(
        {
            "name": "docs",
            "schema": {
                "fields": {
                    "embedding": {"type": "dense_vector", "dimension": 3, "metric": "cosine"}
                }
            },
        }
    )
    seen = await provider.read("docs")
    assert (seen.actual.dimension, seen.actual.metric, seen.owner) == (3, "cosine", None)
    project.indexes["docs"]["schema"]["fields"] = {
        "chunk": {"type": "semantic_text", "model": "multilingual-e5-large", "metric": "cosine"},
        "genre": {"filterable": True},
    }
    seen = await provider.read("docs")
    assert (seen.actual.embed.field, seen.actual.embed.model) == ("chunk", "multilingual-e5-large")
    assert "dimension" not in seen.actual.model_fields_set


async def test_the_longest_mark_fits_into_a_tag(provider):
    mark = ownership.mark("c" * 40, "n" * 63, "o" * 253)
    made = await provider.create(wanted(SERVERLESS), mark)
    assert made.owner == mark
    assert mark != ownership.mark("c" * 40, "n" * 63, "o" * 252)


async def test_the_fake_tells_nothing_that_the_sdk_does_not_know(project, provider):
    from pinecone.models.indexes.index import IndexModel

    def unknown(told: object, known: object, path: str = "") -> list[str]:
        if isinstance(told, dict) and isinstance(known, dict):
            pairs = ((told[key], known.get(key), f"{path}.{key}") for key in told)
            return [name for pair in pairs for name in unknown(*pair)]
        return [] if told == known else [path]

    nodes = {"mode": "Dedicated", "nodeType": "b1", "shards": 1, "replicas": 1}
    for name, spec in (("docs", {**SERVERLESS, "readCapacity": nodes}), ("pods", PODS)):
        await provider.create(wanted(spec, name), MARK)
        index = project.indexes[name]
        decoded = msgspec.to_builtins(msgspec.convert(index, IndexModel))
        assert unknown(index, decoded) == [".host"], "which the SDK makes a URL"


async def test_the_fake_is_as_strict_as_pinecone(project):
    good = {
        "name": "docs",
        "schema": {
            "fields": {"_values": {"type": "dense_vector", "dimension": 3, "metric": "cosine"}}
        },
    }
    loud = {"type": "dense_vector", "dimension": 3, "metric": "Cosine"}
    for bad, status in (
        ({"name": "-docs"}, 400),
        ({"tags": {"team": "a/b"}}, 400),
        ({"tags": {str(n): "x" for n in range(21)}}, 400),
        ({"schema": {"fields": {"_values": loud}}}, 400),
        ({"schema": {"fields": {"title": {"type": "string"}}}}, 400),
        ({"deployment": {"deployment_type": "pod", "environment": "e", "pod_type": "p1.x1"}}, 422),
    ):
        with pytest.raises(Refused) as refused:
            project.make({**good, **bad})
        assert refused.value.status == status, bad
    assert project.indexes == {}


def test_a_read_is_whole_without_tags_and_read_capacity():
    seen = observed(
        {
            "name": "docs",
            "host": None,
            "private_host": "https://docs.private",
            "status": {"ready": True, "state": "Ready"},
            "schema": {
                "fields": {"_values": {"type": "dense_vector", "dimension": 3, "metric": "x"}}
            },
            "deployment": {"deployment_type": "byoc", "environment": "mine"},
            "deletion_protection": "disabled",
            "read_capacity": None,
            "tags": None,
            "cmek_id": None,
        }
    )
    assert (seen.owner, seen.actual.tags, seen.actual.metric) == (None, {}, "x")
    assert seen.outputs == {
        "name": "docs",
        "privateHost": "https://docs.private",
        "dimension": "3",
        "metric": "x",
    }
