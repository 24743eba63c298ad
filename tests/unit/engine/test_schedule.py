"""The queue: nothing gets stuck in it, and nobody is starved."""

import asyncio
from collections.abc import AsyncIterator
from contextvars import ContextVar

import pytest

from auterity.engine.schedule import Schedule
from auterity.engine.subject import Key
from auterity.engine.verdict import Again, Verdict


class Visits:
    """Records who is visited."""

    def __init__(self) -> None:
        self.made: list[Key] = []
        self.room = 1
        self.broken: set[Key] = set()
        self.verdict = Verdict("Ready", Again.AFTER, 600.0)
        self.schedule = Schedule(
            self._visit,
            lane=lambda key: ("connection", key.namespace),
            room=lambda _: self.room,
            held=lambda _: 0.0,
        )

    async def _visit(self, key: Key, _urgent: bool) -> Verdict:  # noqa: FBT001 - the schedule's
        if key in self.broken:
            raise ValueError
        self.made.append(key)
        return self.verdict


@pytest.fixture
async def visits() -> AsyncIterator[Visits]:
    found = Visits()
    found.schedule.start()
    yield found
    await found.schedule.stop(1.0)


def _key(namespace: str, name: str = "docs") -> Key:
    return Key("VectorIndex", namespace, name)


async def _rest(schedule: Schedule) -> None:
    """Let all visits that may begin come to their end."""
    async with asyncio.timeout(10):
        while not schedule.idle:  # noqa: ASYNC110 - nothing tells when it is
            await asyncio.sleep(0)


async def test_a_visit_that_is_broken_off_before_it_began_is_made_later(visits: Visits):
    visits.schedule.add(_key("a"))
    visits.schedule.cancel(visits.schedule.in_hand())
    await _rest(visits.schedule)
    visits.schedule.add(_key("a"))
    await _rest(visits.schedule)
    assert visits.made == [_key("a")]


async def test_a_visit_that_raises_leaves_its_place_to_others(visits: Visits):
    visits.broken.add(_key("a"))
    visits.schedule.add(_key("a"))
    visits.schedule.add(_key("b"))
    await _rest(visits.schedule)
    assert visits.made == [_key("b")]


async def test_many_namespaces_take_turns(visits: Visits):
    visits.room = 0
    for namespace in range(100):
        for name in range(3):
            visits.schedule.add(_key(f"n{namespace}", f"index-{name}"))
    visits.room = 1
    visits.schedule.poke()
    await _rest(visits.schedule)
    assert len(visits.made) == 300
    assert len({key.namespace for key in visits.made[:100]}) == 100


async def test_what_was_due_and_has_been_visited_since_takes_no_room(visits: Visits):
    for _ in range(1000):
        visits.schedule.add(_key("a"))
        await _rest(visits.schedule)
    assert len(visits.made) == 1000
    assert len(visits.schedule._due) < 100


async def test_a_visit_knows_nothing_of_the_one_that_asked_for_it():
    known: ContextVar[frozenset[str]] = ContextVar("known", default=frozenset())
    found: dict[str, frozenset[str]] = {}

    async def visit(key: Key, _urgent: bool) -> Verdict:  # noqa: FBT001 - the schedule's
        found[key.name] = known.get()
        known.set(known.get() | {f"secret of {key.name}"})
        if (number := int(key.name)) < 30:
            # At once, or by the timer.
            schedule.add(_key("a", str(number + 1)), after=0.001 * (number % 2))
        return Verdict("Ready", Again.NEVER)

    schedule = Schedule(visit, lane=lambda _: ("c", "n"), room=lambda _: 1, held=lambda _: 0.0)
    schedule.start()
    schedule.add(_key("a", "0"))
    async with asyncio.timeout(10):
        while len(found) < 31:  # noqa: ASYNC110 - nothing tells when it is
            await asyncio.sleep(0.001)
    await schedule.stop(1.0)
    assert set(found.values()) == {frozenset()}
