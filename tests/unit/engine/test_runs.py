"""Kinds that run once: made once, never repeated, stopped when they are let go of."""

import logging
from collections.abc import AsyncIterator
from typing import ClassVar

import pytest

from auterity.api.tuning_job import TuningJob
from auterity.engine.contract import Observed, Phase, Provider
from tests.conformance.harness import NAME, Harness
from tests.conformance.vendor import JSON
from tests.unit.engine.shelf import WORLDS, Shelf, ShelfConnection, ShelfSession, Thing, World

DONE, RUNNING, FAILED = Phase.READY, Phase.PENDING, Phase.FAILED


class ShelfRunParams(TuningJob):
    """A run on the shelf."""


class ShelfRun(Provider[ShelfRunParams, ShelfSession]):
    """Keeps its records for ever."""

    kind, vendor = "TuningJob", "shelf"
    params, connection = ShelfRunParams, ShelfConnection
    poll_after = 0.0

    @property
    def world(self) -> World:
        return self.session.world

    async def locate(self, want: ShelfRunParams) -> str | None:
        things = self.world.things
        found = [i for i, t in things.items() if t.name == want.name and t.phase is not FAILED]
        return found[0] if found else None

    async def read(self, id: str) -> Observed[ShelfRunParams] | None:
        return await self.session.call("get", id, lambda: self._seen(id))

    async def create(self, want: ShelfRunParams, owner: str) -> str:
        fields = {"base_model": want.base_model}
        return await self.session.call(
            "create", want.name, lambda: self._put(Thing(want.name, fields, owner, RUNNING))
        )

    async def update(
        self, id: str, want: ShelfRunParams, changed: frozenset[str], owner: str
    ) -> None:
        raise AssertionError("a run is never changed")

    async def delete(self, id: str) -> None:
        await self.session.call("delete", id, lambda: self._end(id))

    async def cancel(self, id: str) -> None:
        await self.session.call("cancel", id, lambda: self._end(id))

    def _put(self, thing: Thing) -> str:
        self.world.made += 1
        self.world.things[f"run-{self.world.made}"] = thing
        return f"run-{self.world.made}"

    def _end(self, id: str) -> None:
        self.world.things[id].phase = FAILED

    def _seen(self, id: str) -> Observed[ShelfRunParams] | None:
        thing = self.world.things.get(id)
        if thing is None:
            return None
        return Observed(
            id=id,
            actual=ShelfRunParams.seen(**thing.fields),
            phase=thing.phase,
            owner=thing.owner,
            outputs={"model": f"model-of-{id}"} if thing.phase is DONE else {},
            message="cancelled" if thing.phase is FAILED else None,
        )


class Runs(Shelf):
    provider = ShelfRun
    spec: ClassVar[JSON] = {"baseModel": "base", "shelf": {}}


@pytest.fixture
async def runs(caplog: pytest.LogCaptureFixture) -> AsyncIterator[Harness]:
    caplog.set_level(logging.DEBUG)
    vendor = Runs()
    it = Harness(vendor)
    await it.start()
    yield it
    await it.stop()
    await vendor.stop()


@pytest.fixture
def world(runs: Harness) -> World:
    return WORLDS[runs.vendor.address]  # type: ignore[attr-defined]  # it is a Shelf


async def _complete(runs: Harness, world: World) -> str:
    runs.apply()
    assert (await runs.visit()).outcome == "Progressing"
    id = str(runs.subject.status["id"])
    world.things[id].phase = DONE
    assert (await runs.visit()).outcome == "Ready"
    return id


async def test_a_run_to_its_end_tells_its_model(runs: Harness, world: World):
    id = await _complete(runs, world)
    assert runs.subject.status["completed"] is True
    assert runs.subject.status["outputs"] == {"model": f"model-of-{id}"}
    assert runs.ready["message"] == "It has run to its end at shelf"


async def test_a_completed_run_that_the_vendor_forgets_stays_ready(runs: Harness, world: World):
    await _complete(runs, world)
    world.things.clear()
    world.calls.clear()
    assert (await runs.visit()).outcome == "Ready"
    assert runs.subject.status["outputs"]
    runs.cluster.writes.clear()
    await runs.visit()
    assert runs.cluster.writes == []
    assert not [c for c in world.calls if not c.startswith("get")]


async def test_a_run_that_vanishes_before_its_end_is_not_repeated(runs: Harness, world: World):
    runs.apply()
    await runs.visit()
    world.things.clear()
    runs.cluster.pass_(minutes=5)
    assert (await runs.visit()).outcome == "NotFound"
    assert "not repeated" in runs.ready["message"]
    assert world.made == 1


async def test_a_failed_run_is_not_repeated_but_one_declared_anew_runs(runs: Harness, world: World):
    runs.apply()
    await runs.visit()
    world.things["run-1"].phase = FAILED
    for _ in range(2):
        assert (await runs.visit()).outcome == "ProviderFailed"
    assert world.made == 1
    await runs.remove()
    runs.apply()
    await runs.visit()
    assert world.made == 2


async def test_an_edit_is_refused(runs: Harness, world: World):
    await _complete(runs, world)
    runs.apply({"baseModel": "another", "shelf": {}})
    assert (await runs.visit()).outcome == "SpecRejected"
    assert "baseModel" in runs.ready["message"]


async def test_retained_a_run_under_way_is_stopped(runs: Harness, world: World):
    runs.apply(deletionPolicy="Retain")
    await runs.visit()
    await runs.remove()
    assert "cancel run-1" in world.calls
    assert [e[1] for e in runs.cluster.events] == ["Retained"]


async def test_retained_a_completed_run_is_left_without_a_call(runs: Harness, world: World):
    await _complete(runs, world)
    runs.apply(deletionPolicy="Retain")
    world.calls.clear()
    await runs.remove()
    assert world.calls == []
    assert world.things["run-1"].phase is DONE


async def test_retained_a_run_of_another_owner_is_not_stopped(runs: Harness, world: World):
    world.put("x")
    world.things = {"run-9": Thing(NAME, {"base_model": "base"}, "other/team/it", RUNNING)}
    runs.apply(deletionPolicy="Retain")
    assert (await runs.visit()).outcome == "Conflict"
    await runs.remove()
    assert world.things["run-9"].phase is RUNNING


async def test_deleted_the_record_that_stays_counts_as_gone(runs: Harness, world: World):
    runs.apply()
    await runs.visit()
    await runs.remove()
    assert "delete run-1" in world.calls
    assert world.things["run-1"].phase is FAILED
