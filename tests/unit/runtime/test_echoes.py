"""Kopf is spared what the answers of our own writes have told already, and nothing else."""

import asyncio
import json
from typing import Any

import aiohttp
import kopf
import pytest
from aiohttp import web

from auterity.runtime.echoes import Login
from auterity.runtime.store import Store
from tests.unit.runtime.conftest import ApiServer
from tests.unit.runtime.test_store import raw, ready

WATCH = "/apis/integrations.auterity.io/v1alpha1/vectorindexes?watch=true"


def event(type_: str, told: Any) -> dict[str, Any]:
    return {"type": type_, "object": told}


def bookmark(version: int) -> dict[str, Any]:
    return event("BOOKMARK", {"kind": "VectorIndex", "metadata": {"resourceVersion": str(version)}})


def lines(*events: object) -> bytes:
    """As the API server writes them, without a space."""
    told = (json.dumps(it, separators=(",", ":"), ensure_ascii=False) for it in events)
    return "".join(f"{line}\n" for line in told).encode()


def streams(server: ApiServer, content: bytes, piece: int) -> None:
    async def answer(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        for start in range(0, len(content), piece):
            await response.write(content[start : start + piece])
            await asyncio.sleep(0)
        return response

    server.answers.append(answer)


async def told(store: Store, path: str = WATCH) -> bytes:
    made = await Login(store.knows).login()
    async with made.aiohttp_session as session, session.get(made.server + path) as answer:
        return b"".join([chunk async for chunk in answer.content.iter_chunked(1 << 20)])


@pytest.mark.parametrize("piece", [7, 100, 1 << 20])
async def test_an_event_is_left_out_if_it_is_known_as_it_is_or_newer(server: ApiServer, piece: int):
    store = Store()
    store.put(raw(version=10, status=ready("True")))
    echoes = [event("MODIFIED", raw(version=9)), event("MODIFIED", raw(version=10))]
    news = [
        event("MODIFIED", raw(version=11)),
        event("MODIFIED", raw(version=3, meta={"uid": "made anew"})),
        event("MODIFIED", raw("ünknown", version=3)),
        event("ADDED", raw(version=10)),
        event("DELETED", raw(version=10)),
        bookmark(12),
        event("ERROR", {"code": 410, "message": "too old"}),
    ]
    streams(server, lines(*(it for each in news for it in (*echoes, each)), *echoes), piece)
    assert await told(store) == lines(*news)


async def test_an_event_that_was_cut_short_is_left_to_the_next_watch(server: ApiServer):
    # Kopf would end for what is no JSON; where it goes on from, the event comes once more.
    whole = lines(bookmark(1))
    streams(server, whole + lines(event("MODIFIED", raw(version=10)))[:-20], 1 << 20)
    assert await told(Store()) == whole


@pytest.mark.parametrize("said", [{"code": 500, "message": "no leader"}, {"code": 504}, {}])
async def test_a_watch_that_fails_is_begun_anew_by_a_list(server: ApiServer, said: Any):
    # Any other error but 410 ends Kopf, and with it the process.
    streams(server, lines(bookmark(1), event("ERROR", said)), 1 << 20)
    first, last = (await told(Store())).splitlines()
    assert first + b"\n" == lines(bookmark(1))
    assert json.loads(last) == event("ERROR", {**said, "code": 410})


async def test_other_answers_are_left_alone(server: ApiServer):
    store = Store()
    store.put(raw(version=10))
    echo = event("MODIFIED", raw(version=10))
    streams(server, lines(echo), 1 << 20)
    assert await told(store, WATCH.partition("?")[0]) == lines(echo)


async def test_a_session_is_logged_in_like_any_other(server: ApiServer):
    server.says({})
    made = await Login(Store().knows).login()
    async with made.aiohttp_session as session, session.get(made.server) as answer:
        assert answer.request_info.headers["Authorization"] == "Bearer token-of-the-operator"


async def test_refused_credentials_are_not_told_as_new_ones(
    server: ApiServer, monkeypatch: pytest.MonkeyPatch
):
    login = Login(Store().knows)
    before = await login.login()
    assert await login.login() == before
    renewed = kopf.ConnectionInfo(server=before.server, token="renewed")
    monkeypatch.setattr("auterity.runtime.echoes.login", lambda **_: renewed)
    after = await login.login()
    assert after != before
    for it in (before, after):
        await it.aiohttp_session.close()


async def test_a_watch_that_is_closed_from_outside_ends(server: ApiServer):
    """Kopf closes the answer when it stops, and waits for its content to end."""

    async def answer(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        await response.write(lines(bookmark(1)))
        await asyncio.sleep(30)
        return response

    server.answers.append(answer)
    made = await Login(Store().knows).login()
    async with made.aiohttp_session as session, session.get(made.server + WATCH) as watch:
        content = watch.content.iter_chunked(1 << 20)
        assert await anext(aiter(content)) == lines(bookmark(1))
        asyncio.get_running_loop().call_later(0.05, watch.close)
        with pytest.raises(aiohttp.ClientConnectionError):
            async with asyncio.timeout(5):
                await anext(aiter(content))


@pytest.mark.parametrize("version", [9, 10, 11])
@pytest.mark.parametrize("uid", ["uid-of-docs", "made anew"])
@pytest.mark.parametrize("name", ["docs", "another"])
def test_what_is_known_is_what_would_change_nothing(name: str, uid: str, version: int):
    store = Store()
    before = store.put(raw(version=10)).subject
    it = raw(name, version=version, meta={"uid": uid})
    known = store.knows(it)
    assert known == (store.put(it).subject is before)
