"""The watch of Secrets: whatever interrupts it, no change is missed."""

import asyncio

import pytest

from auterity.runtime import secrets
from auterity.runtime.kube import Kube
from tests.unit.runtime.conftest import ApiServer


def secret(name: str, version: int) -> dict[str, object]:
    return {"metadata": {"namespace": "team", "name": name, "resourceVersion": str(version)}}


def listed(version: int, *items: dict[str, object]) -> dict[str, object]:
    return {"metadata": {"resourceVersion": str(version)}, "items": list(items)}


async def told(kube: Kube, until: int, server: ApiServer) -> list[str]:
    """The names told of, until so many requests were made."""
    found: list[str] = []
    task = asyncio.create_task(secrets.watch(kube, "", lambda _, name: found.append(name)))
    async with asyncio.timeout(10):
        while len(server.requests) < until:
            await server.asked.wait()
            server.asked.clear()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    return found


@pytest.fixture(autouse=True)
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(secrets, "AGAIN_AFTER", 0.01)


async def test_a_watch_that_ends_goes_on_where_it_was(server: ApiServer, kube: Kube):
    server.says(listed(5, secret("old", 4)))
    server.streams({"type": "MODIFIED", "object": secret("first", 6)})
    server.streams({"type": "BOOKMARK", "object": {"metadata": {"resourceVersion": "9"}}})
    server.streams({"type": "DELETED", "object": secret("second", 10)})
    server.streams()
    assert await told(kube, 5, server) == ["first", "second"]
    since = [path.partition("resourceVersion=")[2] for _, path in server.requests]
    assert since[:5] == ["", "5", "6", "9", "10"]


@pytest.mark.parametrize("told_by", ["an event", "a status"])
async def test_what_the_server_has_forgotten_is_found_by_a_list(
    server: ApiServer, kube: Kube, told_by: str
):
    server.says(listed(5, secret("old", 4), secret("renewed", 3)))
    if told_by == "an event":
        server.streams({"type": "ERROR", "object": {"code": 410, "message": "too old"}})
    else:
        server.refuses(410, "too old")
    server.says(listed(20, secret("old", 4), secret("renewed", 15)))
    server.streams({"type": "ADDED", "object": secret("new", 21)})
    server.streams()
    assert await told(kube, 5, server) == ["renewed", "new"]


async def test_an_api_server_that_is_away_is_asked_again(server: ApiServer, kube: Kube):
    server.refuses(503, "starting")
    server.says(listed(5))
    server.refuses(503, "stopping")
    server.streams({"type": "MODIFIED", "object": secret("first", 6)})
    server.streams()
    assert await told(kube, 5, server) == ["first"]


async def test_a_secret_with_long_annotations_does_not_end_the_watch(server: ApiServer, kube: Kube):
    long = secret("long", 6)
    long["metadata"]["annotations"] = {"last-applied": "x" * 262_144}
    server.says(listed(5))
    server.streams({"type": "MODIFIED", "object": long})
    server.streams()
    assert await told(kube, 3, server) == ["long"]


async def test_an_api_server_that_refuses_while_it_starts_is_soon_asked_again(
    server: ApiServer, kube: Kube, caplog
):
    server.says(listed(5))
    server.refuses(403, "secrets is forbidden")
    server.streams({"type": "MODIFIED", "object": secret("first", 6)})
    server.streams()
    assert await told(kube, 4, server) == ["first"]
    assert not [r for r in caplog.records if r.name == "auterity.runtime"]


async def test_where_secrets_may_not_be_watched_it_is_said_once(
    server: ApiServer, kube: Kube, monkeypatch, caplog
):
    monkeypatch.setattr(secrets, "REFUSED_AGAIN_AFTER", 0.01)
    server.refuses(403, "secrets is forbidden")
    assert await told(kube, 8, server) == []
    (record,) = [r for r in caplog.records if r.name == "auterity.runtime"]
    assert "secrets is forbidden" in record.getMessage()
    assert "interval only" in record.getMessage()
