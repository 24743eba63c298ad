"""Kopf is set up so that it never writes, never asks for more rights, and never gives up."""

import asyncio
import getpass
import itertools
from types import SimpleNamespace
from typing import cast

import kopf
import pytest

from auterity.api.annotations import FINALIZER
from auterity.runtime import app
from auterity.runtime.handlers import NoMemories, _settings
from auterity.runtime.operator import Operator, Options
from auterity.runtime.store import Store


async def test_kopf_leaves_objects_alone_and_never_gives_up():
    settings = kopf.OperatorSettings()
    await _settings(settings)
    assert settings.posting.enabled is False
    assert settings.scanning.disabled is True
    assert settings.persistence.finalizer != FINALIZER
    backoffs = settings.networking.error_backoffs
    for _ in range(2):
        first = list(itertools.islice(iter(backoffs), 1000))  # type: ignore[arg-type]  # not a float
        assert len(first) == 1000
        assert max(first) <= 10


async def test_kopf_remembers_no_object_whose_end_it_may_not_be_told_of():
    memories = NoMemories()
    for number in range(100):
        await memories.recall(cast("kopf.RawBody", {"metadata": {"uid": str(number)}}))
    assert not list(memories.iter_all_memories())


async def test_kopf_is_started_without_memories(monkeypatch: pytest.MonkeyPatch):
    given: dict[str, object] = {}

    async def spawn_tasks(**options: object) -> list[object]:
        given.update(options)
        return []

    monkeypatch.setattr(kopf, "spawn_tasks", spawn_tasks)
    await app._watches(
        cast("Operator", SimpleNamespace(kinds=[], options=Options(), store=Store()))
    )
    assert isinstance(given["memories"], NoMemories)


async def test_the_user_needs_no_name(monkeypatch: pytest.MonkeyPatch):
    def nobody() -> str:
        raise KeyError("getpwuid(): uid not found: 65532")

    monkeypatch.setattr(getpass, "getuser", nobody)
    operator = cast("Operator", SimpleNamespace(kinds=[], options=Options(), store=Store()))
    tasks = await app._watches(operator)
    for task in tasks:
        task.cancel()
    await asyncio.wait(tasks)
    assert tasks
