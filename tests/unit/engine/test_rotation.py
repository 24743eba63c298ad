"""Renewed credentials: no doubt about the old ones is lost."""

import asyncio
from typing import Any

import pytest

from auterity.engine import connections
from auterity.engine.contract import Access, Session
from auterity.engine.errors import Unavailable
from auterity.engine.subject import Key, SecretData
from tests.conformance.harness import Harness
from tests.unit.engine.shelf import ShelfConnection, ShelfIndex, World

NEW = "token-Yt55newer1"


async def test_a_secret_that_is_renewed_while_it_is_read_is_read_again(
    harness: Harness, monkeypatch
):
    harness.apply()
    await harness.converge()
    read: list[Key] = []
    secret = harness.cluster.secret

    async def renewed_meanwhile(namespace: str, name: str) -> SecretData | None:
        found = await secret(namespace, name)
        read.append(Key("Secret", namespace, name))
        if len(read) == 1:
            harness.connections.doubt(harness.connection)
        return found

    monkeypatch.setattr(harness.cluster, "secret", renewed_meanwhile)
    harness.connections.doubt(harness.connection)
    await harness.visit()
    before = len(read)
    await harness.visit()
    assert len(read) > before


def renew(harness: Harness, world: World) -> None:
    world.token = NEW
    harness.cluster.put_secret("shelf", {"token": NEW})
    harness.connections.doubt(harness.connection)


async def test_new_credentials_that_cannot_be_opened_at_once_are_tried_again(
    harness: Harness, world: World, monkeypatch: pytest.MonkeyPatch
):
    async def down(_: ShelfConnection, access: Access) -> Session:
        raise Unavailable("no token is given out now")

    await harness.make()
    renew(harness, world)
    with monkeypatch.context() as patch:
        patch.setattr(ShelfConnection, "open", down)
        assert (await harness.visit()).outcome == "ProviderUnavailable"
    assert (await harness.visit()).outcome == "Ready"


async def test_a_replaced_session_stays_open_for_the_visits_that_use_it(
    harness: Harness, world: World, monkeypatch: pytest.MonkeyPatch
):
    reading, goes_on = asyncio.Event(), asyncio.Event()
    read = ShelfIndex.read

    async def slowly(self: ShelfIndex, id: str) -> Any:
        reading.set()
        await goes_on.wait()
        return await read(self, id)

    await harness.make()
    monkeypatch.setattr(connections, "CLOSE_AFTER", 0.01)
    monkeypatch.setattr(ShelfIndex, "read", slowly)
    visit = asyncio.create_task(harness.visit())
    await reading.wait()
    renew(harness, world)
    await harness.connections.visit(harness.cluster.subjects[harness.connection])
    await asyncio.sleep(0.05)
    assert (world.opened, world.closed) == (2, 0)
    goes_on.set()
    await visit
    await asyncio.sleep(0.05)
    assert (world.opened, world.closed) == (2, 1)
