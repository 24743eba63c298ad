"""Several replicas never grant more than is allowed, in whatever order anything happens."""

import asyncio
import contextlib
import random
from collections.abc import Awaitable, Callable, Coroutine, Mapping, Sequence
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any, Self

import pytest

from auterity.api.kinds import BUDGET
from auterity.engine import reconcile
from auterity.engine.budgets import Readings
from auterity.engine.cluster import ClusterUnavailable
from auterity.engine.connections import Connections
from auterity.engine.listings import Listings
from auterity.engine.subject import JSON, Key, SecretData, Subject
from auterity.engine.visit import Engine
from tests.conformance.cluster import NAMESPACE, MemoryCluster
from tests.conformance.harness import Harness
from tests.unit.engine.shelf import WORLDS, ShelfConnection, Thing
from tests.unit.engine.test_cost import PRICES, Models, ShelfModel, ShelfModelParams
from tests.unit.engine.virtual import now, virtually

PRICE = 0.1
turn: ContextVar[Callable[[], Awaitable[None]]] = ContextVar("turn")
"""Waits until it is this task's turn: before each thing that others can see, or be seen by.

What happens after it and before the next is of no concern to others, so that all orders of turns
are all that can be told apart, however long an answer is under way.
"""


async def _at_once() -> None:
    pass


class TakesTurns(ShelfModel):
    """A vendor whose calls wait for their turn."""

    async def create(self, want: ShelfModelParams, owner: str) -> str:
        await turn.get()()
        return await super().create(want, owner)

    async def update(
        self, id: str, want: ShelfModelParams, changed: frozenset[str], owner: str
    ) -> None:
        await turn.get()()
        await super().update(id, want, changed, owner)


class TurningModels(Models):
    provider = TakesTurns


@dataclass
class View(MemoryCluster):
    """The cluster as one replica knows it: as it was, but for what it has written itself."""

    server: MemoryCluster = field(default_factory=MemoryCluster)

    def catch_up(self) -> None:
        self.subjects = dict(self.server.subjects)

    async def exists(self, subject: Subject) -> bool:
        return await self.server.exists(subject)

    async def secret(self, namespace: str, name: str) -> SecretData | None:
        return await self.server.secret(namespace, name)

    async def read_all(self, kind: str, namespace: str) -> list[Subject]:
        if kind == "ModelDeployment":
            await turn.get()()
        return await self.server.read_all(kind, namespace)

    async def patch_metadata(
        self,
        subject: Subject,
        *,
        finalizer: bool | None = None,
        annotations: Mapping[str, str | None] | None = None,
    ) -> Subject:
        await turn.get()()
        new = await self.server.patch_metadata(
            subject, finalizer=finalizer, annotations=annotations
        )
        self.subjects[subject.key] = new
        return new

    async def write_status(
        self, subject: Subject, status: JSON, *, unchanged: bool = False
    ) -> Subject:
        await turn.get()()
        new = await self.server.write_status(subject, status, unchanged=unchanged)
        self.subjects[subject.key] = new
        return new


class Replica:
    """One process of the operator."""

    def __init__(self, town: "Town", *, shared: bool = True) -> None:
        self.view = View(identity="testcluster", server=town.server, shared=shared)
        harness = town.harness
        self.connections = Connections(
            self.view,
            {"shelf": ShelfConnection},
            harness.recorder,
            allow_insecure=True,
            door=harness.script.door(),
        )
        self.engine = Engine(
            cluster=self.view,
            connections=self.connections,
            providers={("ModelDeployment", "shelf"): TakesTurns},
            listings=Listings(),
            observer=harness.recorder,
            changes=harness.recorder,
            prices=PRICES,
            # Steps are taken one by one, so that a reading takes as long as it likes.
            readings=Readings(rest=0),
        )
        self.view.catch_up()

    async def visit(self, name: str) -> str:
        subject = self.view.subjects[Key("ModelDeployment", NAMESPACE, name)]
        return (await reconcile.visit(self.engine, subject)).outcome


class Town:
    """A namespace, the vendor, and what happens there. `limit` holds at every moment."""

    def __init__(self, limit: float, **models: int) -> None:
        self.limit = limit
        self.vendor = TurningModels()
        self.harness = Harness(self.vendor)
        self.models = models
        self.replicas: list[Replica] = []
        self.lost = False
        """Whether a replica has died or was paused."""

    async def __aenter__(self) -> Self:
        turn.set(_at_once)
        await self.harness.start()
        self.server = self.harness.cluster
        self.server.put(BUDGET, "all", {"hourly": self.limit})
        for name, most in self.models.items():
            self.declare(name, most)
        return self

    async def __aexit__(self, *_: object) -> None:
        for replica in self.replicas:
            await replica.connections.close()
        await self.harness.stop()
        await self.vendor.stop()

    def declare(self, name: str, most: int, **more: Any) -> None:
        spec = {
            "connectionRef": {"name": "vendor"},
            **Models.spec,
            "scaling": {"min": 1, "max": most},
            "deletionPolicy": "Delete",
        }
        self.server.put("ModelDeployment", name, {**spec, **more})

    def replica(self, **options: bool) -> Replica:
        self.replicas.append(Replica(self, **options))
        return self.replicas[-1]

    @property
    def made(self) -> dict[str, int]:
        """Replicas by model, as the vendor has them."""
        things: dict[str, Thing] = WORLDS[self.vendor.address].things
        return {id: thing.fields["scaling"].max for id, thing in things.items()}

    def check(self) -> None:
        """Nothing was made beyond the budget."""
        spent = sum(self.made.values()) * PRICE
        assert round(spent, 6) <= self.limit, f"{self.made} cost {spent}"

    def status(self, name: str) -> JSON:
        return self.server.subjects[Key("ModelDeployment", NAMESPACE, name)].status

    async def settle(self, *replicas: Replica) -> None:
        """What all come to in the end, each with all news at every visit."""
        while True:
            before = len(self.server.writes)
            for name in self.models:
                for replica in replicas:
                    replica.view.catch_up()
                    await replica.visit(name)
                    self.check()
            if len(self.server.writes) == before:
                break
        assert [name for name in self.models if "asking" in self.status(name)] == []


class Turns:
    """Tasks that go one step at a time, in a given order."""

    def __init__(self) -> None:
        self.tasks: dict[str, asyncio.Task[None]] = {}
        self.parked: dict[str, asyncio.Future[None]] = {}

    def begin(self, name: str, body: Coroutine[Any, Any, None]) -> None:
        async def park() -> None:
            mine = self.parked[name] = asyncio.get_running_loop().create_future()
            await mine

        async def run() -> None:
            turn.set(park)
            await body

        self.tasks[name] = asyncio.create_task(run())

    async def come_to_rest(self) -> None:
        """Until each has ended, or waits for its turn or for another one."""
        for _ in range(100):
            await asyncio.sleep(0)
            if all(task.done() or name in self.parked for name, task in self.tasks.items()):
                return

    async def step(self, name: str) -> None:
        self.parked.pop(name).set_result(None)
        await self.come_to_rest()

    async def kill(self, name: str) -> None:
        self.tasks[name].cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self.tasks[name]
        self.parked.pop(name, None)

    def end(self) -> None:
        for task in self.tasks.values():
            # Whatever a visit raises is a failure of the test.
            if not task.cancelled():
                task.result()


Run = Callable[[Sequence[str]], Coroutine[Any, Any, list[tuple[str, list[str]]]]]


async def every_order(run: Run) -> int:
    """Run with every order of steps; how many there are.

    `run` takes the first steps, goes on as it likes, and tells what it did and could have done.
    """
    count = 0
    begun: list[tuple[str, ...]] = [()]
    while begun:
        first = begun.pop()
        trace = await run(first)
        count += 1
        for at in range(len(first), len(trace)):
            done = tuple(step for step, _ in trace[:at])
            begun += [(*done, other) for other in trace[at][1] if other != trace[at][0]]
    return count


async def _race(
    town: Town, first: Sequence[str], bodies: Mapping[str, Coroutine[Any, Any, None]], dies: str
) -> list[tuple[str, list[str]]]:
    """Let these go on in the order of `first`, and then one after the other.

    `kill` ends the one that `dies`. `pause` does so too, but for the one request to the API server
    that it was about to send, which is sent at any time afterwards.
    """
    turns = Turns()
    trace: list[tuple[str, list[str]]] = []
    for name, body in bodies.items():
        turns.begin(name, body)
    await turns.come_to_rest()
    while True:
        options = sorted(turns.parked)
        if dies in turns.parked and not town.lost:
            options += ["kill", "pause"]
        if not options:
            break
        step = first[len(trace)] if len(trace) < len(first) else options[0]
        trace.append((step, options))
        if step == "pause":
            town.lost = True
        elif step == "kill":
            town.lost = True
            await turns.kill(dies)
        else:
            await turns.step(step)
            if step == dies and town.lost:
                await turns.kill(dies)
        town.check()
    turns.end()
    return trace


@pytest.mark.parametrize(
    ("before", "wanted", "fitting"),
    [
        ({}, {"a": 2, "b": 2}, 1),
        ({}, {"a": 1, "b": 2}, 1),
        ({"a": 1, "b": 1}, {"a": 2, "b": 2}, 1),
        ({"a": 1}, {"a": 2, "b": 1}, 1),
    ],
)
async def test_two_replicas_are_never_both_granted_the_last_room(before, wanted, fitting):
    """Every order of all that two visits do, of new objects and of edits of what runs."""

    async def run(first: Sequence[str]) -> list[tuple[str, list[str]]]:
        async with Town(0.2 + PRICE * max(0, len(before) - 1), **(before or wanted)) as town:
            pair = town.replica(), town.replica()
            if before:
                await town.settle(pair[0])
            for name, most in wanted.items():
                town.declare(name, most)
            for replica in pair:
                replica.view.catch_up()
            town.models = wanted

            async def body(replica: Replica, name: str) -> None:
                goes_on = await replica.visit(name) == "Progressing"
                assert ("asking" in town.status(name)) == goes_on

            bodies = {"0": body(pair[0], "a"), "1": body(pair[1], "b")}
            trace = await _race(town, first, bodies, dies="")
            await town.settle(*pair)
            done = [name for name, most in wanted.items() if town.made.get(name) == most]
            assert len(done) == fitting, f"{town.made} after {trace}"
            return trace

    assert await every_order(run) > 40


@pytest.mark.parametrize(("theirs", "ours"), ["ab", "ba"])
async def test_a_replica_that_dies_or_is_paused_at_any_moment_leaves_nothing_over_or_blocked(
    theirs, ours
):
    """Its last request may come at any time, also once another has taken over what it had."""

    async def run(first: Sequence[str]) -> list[tuple[str, list[str]]]:
        async with Town(0.2, a=2, b=2) as town:
            lost, other = town.replica(), town.replica()

            async def race() -> None:
                await lost.visit(theirs)

            async def take_over() -> None:
                await other.visit(ours)
                if town.lost:
                    other.view.catch_up()
                    await other.visit(theirs)
                    await other.visit(ours)

            trace = await _race(town, first, {"0": race(), "1": take_over()}, dies="0")
            await town.settle(other)
            assert len(town.made) == 1, f"{town.made} after {trace}"
            return trace

    assert await every_order(run) > 500


async def test_what_fits_beside_each_other_is_all_granted():
    async def run(first: Sequence[str]) -> list[tuple[str, list[str]]]:
        async with Town(0.4, a=2, b=2) as town:
            pair = town.replica(), town.replica()

            async def body(replica: Replica, name: str) -> None:
                assert await replica.visit(name) == "Ready"

            bodies = {"0": body(pair[0], "a"), "1": body(pair[1], "b")}
            trace = await _race(town, first, bodies, dies="")
            assert town.made == {"a": 2, "b": 2}
            return trace

    await every_order(run)


@pytest.mark.parametrize("seed", range(60))
async def test_many_on_many_replicas_with_old_news_and_sudden_deaths(seed: int):
    chance = random.Random(seed)
    models = {f"m{number}": chance.randint(1, 4) for number in range(8)}
    async with Town(chance.choice([0.4, 0.7, 1.0]), **models) as town:
        for _ in range(6):
            turns, homes = Turns(), [town.replica() for _ in range(3)]
            for name in models:
                home = chance.choice(homes)

                async def body(home: Replica = home, name: str = name) -> None:
                    await home.visit(name)

                turns.begin(name, body())
            await turns.come_to_rest()
            while turns.parked:
                name = chance.choice(sorted(turns.parked))
                if chance.random() < 0.03:
                    await turns.kill(name)
                else:
                    await turns.step(name)
                await turns.come_to_rest()
                if chance.random() < 0.3:
                    chance.choice(homes).view.catch_up()
                town.check()
            turns.end()
            for home in homes:
                home.view.catch_up()
        await town.settle(town.replica())
        left = town.limit - PRICE * sum(town.made.values())
        waiting = [most for name, most in models.items() if name not in town.made]
        assert all(round(most * PRICE, 6) > round(left, 6) for most in waiting), "room is left"


async def test_without_asking_the_others_both_would_be_made():
    """What all this is for: the tests above can fail."""
    async with Town(0.2, a=2, b=2) as town:
        pair = town.replica(shared=False), town.replica(shared=False)
        await pair[0].visit("a")
        await pair[1].visit("b")
        with pytest.raises(AssertionError, match="cost 0"):
            town.check()


async def test_one_replica_writes_no_more_than_before_and_several_write_once_more():
    writes = {}
    for shared in (False, True):
        async with Town(1, a=1) as town:
            replica = town.replica(shared=shared)
            town.server.writes.clear()
            assert await replica.visit("a") == "Ready"
            writes[shared] = town.server.writes
    assert writes[False] == ["status", "metadata", "status"]
    assert writes[True] == ["status", "status", "metadata", "status"]


async def test_where_no_budget_refuses_several_replicas_write_no_more_than_one():
    for budget in ({"hourly": 1, "onExceed": "Warn"}, None):
        async with Town(1, a=1) as town:
            town.server.delete(Key(BUDGET, NAMESPACE, "all"))
            if budget:
                town.server.put(BUDGET, "all", budget)
            town.server.writes.clear()
            assert await town.replica().visit("a") == "Ready"
            assert town.server.writes.count("status") == (2 if budget else 1)


async def test_the_first_goes_on_asking_and_the_later_stands_back():
    async with Town(0.2, a=2, b=2) as town:
        pair = town.replica(), town.replica()
        key = Key("ModelDeployment", NAMESPACE, "b")
        b = town.server.subjects[key]
        await town.server.write_status(b, {**b.status, "asking": 0.2})
        assert await pair[0].visit("a") == "Progressing"
        assert town.status("a")["asking"] == 0.2
        assert "conditions" not in town.status("a"), "nothing is told of a moment"
        pair[1].view.catch_up()
        assert await pair[1].visit("b") == "OverBudget"
        assert "asking" not in town.status("b")
        assert "Budget 'all' allows 0.20, of which too much is used" in str(town.status("b"))
        pair[0].view.catch_up()
        assert await pair[0].visit("a") == "Ready"


async def test_what_was_asked_for_is_dropped_by_a_visit_that_does_not_get_so_far():
    async with Town(0.2, a=2) as town:
        a = town.server.subjects[Key("ModelDeployment", NAMESPACE, "a")]
        await town.server.write_status(a, {**a.status, "asking": 0.2})
        town.declare("a", 2, suspend=True)
        assert await town.replica().visit("a") == "Suspended"
        assert "asking" not in town.status("a")


async def test_a_reading_is_shared_by_all_who_asked_before_it_began():
    server = MemoryCluster()
    begun: list[asyncio.Future[None]] = []

    class Slow(MemoryCluster):
        async def read_all(self, kind: str, namespace: str) -> list[Subject]:
            if kind == "ModelDeployment":
                begun.append(asyncio.get_running_loop().create_future())
                await begun[-1]
            return await server.read_all(kind, namespace)

    readings, slow = Readings(rest=0), Slow()
    first = asyncio.create_task(readings.read(slow, NAMESPACE))
    await asyncio.sleep(0)
    late = [asyncio.create_task(readings.read(slow, NAMESPACE)) for _ in range(5)]
    await asyncio.sleep(0)
    server.put("ModelDeployment", "new", {})
    key = Key("ModelDeployment", NAMESPACE, "new")
    await server.write_status(server.subjects[key], {"asking": 0.5})
    begun[0].set_result(None)
    await first
    await asyncio.sleep(0)
    begun[1].set_result(None)
    found = await asyncio.gather(*late)
    assert len(begun) == 2
    assert len({id(reading) for reading in found}) == 1
    assert found[0].tally.of(key).asking == 0.5
    assert readings._queues == {}


async def test_a_reading_that_fails_is_begun_anew_by_the_next():
    answers: list[Exception | None] = [ClusterUnavailable("down"), None]

    class Flaky(MemoryCluster):
        async def read_all(self, kind: str, namespace: str) -> list[Subject]:
            await asyncio.sleep(0)
            if kind == "ModelDeployment" and (error := answers.pop(0)) is not None:
                raise error
            return []

    readings, flaky = Readings(rest=0), Flaky()
    both = [readings.read(flaky, NAMESPACE) for _ in range(2)]
    found = await asyncio.gather(*both, return_exceptions=True)
    assert [type(one).__name__ for one in found] == ["ClusterUnavailable", "Reading"]
    assert answers == []


def test_readings_of_what_asks_one_after_the_other_take_a_part_of_the_time():
    async def main() -> None:
        count = 0

        class Large(MemoryCluster):
            async def read_all(self, kind: str, namespace: str) -> list[Subject]:
                nonlocal count
                if kind == "ModelDeployment":
                    count += 1
                    await asyncio.sleep(0.1)
                return []

        readings, large = Readings(), Large()
        begun = now()
        while now() - begun < 10:
            await readings.read(large, NAMESPACE)
        assert 24 <= count <= 26
        assert len(readings._queues) == 1
        await asyncio.sleep(1)
        await readings.read(large, "other")
        await asyncio.sleep(1)
        await readings.read(large, "third")
        assert list(readings._queues) == ["third"], "nothing is kept of who does not ask"

    virtually(main)
