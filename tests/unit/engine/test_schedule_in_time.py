"""The queue over virtual time: whose turn it is, and when it comes again."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from auterity.api.fields import Params
from auterity.engine import schedule as module
from auterity.engine.contract import Observed
from auterity.engine.listings import Listings
from auterity.engine.schedule import FIRST_RETRY, LAST_RETRY, SLOWEST_POLL, Schedule
from auterity.engine.subject import Key
from auterity.engine.verdict import Again, Verdict
from tests.unit.engine.virtual import now, virtually

INTERVAL = 600.0


@pytest.fixture(autouse=True, scope="module")
def virtual_clock() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "monotonic", now)
        yield


def key(name: str | int, connection: str = "a", namespace: str = "team") -> Key:
    return Key(connection, namespace, str(name))


@dataclass
class Visits:
    """Records visits; a key's kind stands for its connection."""

    workers: int = 400
    lasts: float = 0.0
    made: list[tuple[float, Key, bool]] = field(default_factory=list)
    together: Counter[Key] = field(default_factory=Counter)
    verdicts: dict[Key, list[Verdict]] = field(default_factory=dict)
    held: dict[str, float] = field(default_factory=dict)
    """Until when a connection is held."""
    room: dict[str, int] = field(default_factory=dict)
    settled: list[tuple[Key, str]] = field(default_factory=list)
    at_once: int = 0

    def __post_init__(self) -> None:
        self.schedule = Schedule(
            self._visit,
            lane=lambda one: (one.kind, one.namespace),
            room=lambda connection: self.room.get(str(connection), 100),
            held=lambda connection: max(0.0, self.held.get(str(connection), 0.0) - now()),
            workers=self.workers,
        )

    async def _visit(self, one: Key, urgent: bool) -> Verdict:  # noqa: FBT001 - the schedule's
        self.together[one] += 1
        assert self.together[one] == 1, "one visit a key at a time"
        self.at_once = max(self.at_once, sum(self.together.values()))
        self.made.append((now(), one, urgent))
        try:
            await asyncio.sleep(self.lasts)
        except asyncio.CancelledError:
            self.settled.append((one, "Cancelled"))
            raise
        finally:
            self.together[one] -= 1
        planned = self.verdicts.get(one) or [Verdict("Ready", Again.AFTER, INTERVAL)]
        verdict = planned.pop(0) if len(planned) > 1 else planned[0]
        self.settled.append((one, verdict.outcome))
        return verdict

    def names(self) -> list[str]:
        return [one.name for _, one, _ in self.made]

    def times(self, one: Key) -> list[float]:
        return [at for at, who, _ in self.made if who == one]


NEVER = Verdict("Suspended")
RETRY = Verdict("ProviderUnavailable", Again.RETRY)
POLL = Verdict("Progressing", Again.POLL, 5.0)


def test_added_many_times_is_visited_once():
    async def main() -> None:
        it = Visits()
        for _ in range(5):
            it.schedule.add(key(1))
        it.schedule.start()
        await asyncio.sleep(1)
        assert it.names() == ["1"]
        await it.schedule.stop(0)

    virtually(main)


def test_added_while_it_is_visited_is_visited_again_once():
    async def main() -> None:
        it = Visits(lasts=5.0)
        it.verdicts[key(1)] = [NEVER]
        it.schedule.start()
        it.schedule.add(key(1))
        await asyncio.sleep(1)
        for _ in range(3):
            it.schedule.add(key(1))
        await asyncio.sleep(100)
        first, second = it.times(key(1))
        assert second - first == pytest.approx(5.0, abs=0.01)

    virtually(main)


def test_an_edit_goes_before_checks_even_if_it_waited_as_one():
    async def main() -> None:
        it = Visits(workers=1, lasts=1.0)
        for name in "abc":
            it.schedule.add(key(name), urgent=False)
        it.schedule.add(key("edit"))
        it.schedule.add(key("c"))
        assert it.schedule.depth() == {"edit": 2, "check": 2}
        it.schedule.start()
        await asyncio.sleep(10)
        assert it.names() == ["edit", "c", "a", "b"]
        assert [urgent for _, _, urgent in it.made] == [True, True, False, False]

    virtually(main)


def test_a_held_connection_delays_no_other_and_goes_on_when_it_opens():
    async def main() -> None:
        it = Visits(workers=4)
        it.held["slow"] = now() + 50
        for number in range(10):
            it.schedule.add(key(number, "slow"))
            it.schedule.add(key(number, "fast"))
        it.schedule.start()
        start = now()
        await asyncio.sleep(200)
        for at, one, _ in it.made:
            wait = at - start
            assert wait < 1.0 if one.kind == "fast" else 50.0 <= wait < 51.0
        assert len(it.made) == 20

    virtually(main)


def test_a_slow_connection_keeps_to_its_room():
    async def main() -> None:
        it = Visits(workers=10, lasts=30.0)
        it.room["slow"] = 2
        for number in range(20):
            it.schedule.add(key(number, "slow"))
        it.schedule.add(key("x", "fast"))
        it.schedule.start()
        start = now()
        await asyncio.sleep(1)
        assert it.at_once == 3
        assert it.times(key("x", "fast"))[0] == pytest.approx(start, abs=0.1)
        await asyncio.sleep(29.5 * 10)
        assert it.at_once == 3
        assert len(it.made) >= 19

    virtually(main)


def test_namespaces_share_the_room_of_their_connection_in_turn():
    async def main() -> None:
        it = Visits(lasts=1.0)
        it.room["a"] = 2
        for number in range(50):
            it.schedule.add(key(number, namespace="storm"))
        for number in range(2):
            it.schedule.add(key(number, namespace="calm"))
        it.schedule.start()
        await asyncio.sleep(3)
        assert it.at_once == 2
        early = [one.namespace for _, one, _ in it.made[:4]]
        assert early.count("calm") == 2

    virtually(main)


def test_a_ready_object_is_visited_on_its_interval_with_jitter():
    async def main() -> list[float]:
        it = Visits()
        it.schedule.start()
        it.schedule.add(key(1))
        await asyncio.sleep(INTERVAL * 50)
        return it.times(key(1))

    times = virtually(main)
    gaps = [b - a for a, b in pairwise(times)]
    assert all(INTERVAL * 0.9 <= gap <= INTERVAL * 1.1 + 0.1 for gap in gaps)
    assert max(gaps) - min(gaps) > INTERVAL * 0.05, "no two objects stay in step"


def test_an_object_that_rests_is_not_visited_until_it_is_asked_for():
    async def main() -> None:
        it = Visits()
        it.verdicts[key(1)] = [NEVER]
        it.schedule.start()
        it.schedule.add(key(1))
        await asyncio.sleep(1e6)
        assert len(it.made) == 1
        it.schedule.add(key(1))
        await asyncio.sleep(1)
        assert len(it.made) == 2

    virtually(main)


def test_failures_back_off_exponentially_up_to_a_cap(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("random.random", lambda: 1.0)

    async def main() -> list[float]:
        it = Visits()
        it.verdicts[key(1)] = [RETRY]
        it.schedule.start()
        it.schedule.add(key(1))
        await asyncio.sleep(6000)
        return it.times(key(1))

    times = virtually(main)
    gaps = [round(b - a) for a, b in pairwise(times)]
    ideal = [min(FIRST_RETRY * 2**n, LAST_RETRY) for n in range(len(gaps))]
    assert gaps == ideal
    assert gaps[-1] == LAST_RETRY


def test_back_off_has_full_jitter_but_is_never_a_hot_loop():
    async def main() -> list[float]:
        it = Visits()
        it.verdicts = {key(n): [RETRY] for n in range(200)}
        it.schedule.start()
        for n in range(200):
            it.schedule.add(key(n))
        await asyncio.sleep(FIRST_RETRY + 0.1)
        return [gap[1] - gap[0] for n in range(200) if len(gap := it.times(key(n))) > 1]

    gaps = virtually(main)
    assert len(gaps) == 200
    assert min(gaps) >= 0.5
    assert max(gaps) - min(gaps) > FIRST_RETRY / 2


def test_success_forgets_the_back_off(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("random.random", lambda: 1.0)

    async def main() -> list[float]:
        it = Visits()
        good = Verdict("Ready", Again.AFTER, 10.0)
        it.verdicts[key(1)] = [RETRY, RETRY, RETRY, good, RETRY, good]
        it.schedule.start()
        it.schedule.add(key(1))
        await asyncio.sleep(65)
        return it.times(key(1))

    times = virtually(main)
    gaps = [round(b - a) for a, b in pairwise(times)]
    assert gaps[:5] == [5, 10, 20, 11, 5]


def test_polls_grow_to_a_minute():
    async def main() -> list[float]:
        it = Visits()
        it.verdicts[key(1)] = [POLL]
        it.schedule.start()
        it.schedule.add(key(1))
        await asyncio.sleep(600)
        return it.times(key(1))

    times = virtually(main)
    gaps = [b - a for a, b in pairwise(times)]
    assert gaps[0] == pytest.approx(5.0, abs=0.01)
    assert gaps[1] == pytest.approx(7.5, abs=0.01)
    assert gaps == sorted(gaps) or max(gaps) == pytest.approx(SLOWEST_POLL, abs=0.01)
    assert gaps[-1] == pytest.approx(SLOWEST_POLL, abs=0.01)


def test_a_failure_after_long_polling_is_retried_soon(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("random.random", lambda: 1.0)

    async def main() -> list[float]:
        it = Visits()
        it.verdicts[key(1)] = [POLL] * 20 + [RETRY, POLL, NEVER]
        it.schedule.start()
        it.schedule.add(key(1))
        await asyncio.sleep(3000)
        return it.times(key(1))

    times = virtually(main)
    gaps = [b - a for a, b in pairwise(times)]
    assert gaps[20] == pytest.approx(FIRST_RETRY, abs=0.01)
    assert gaps[21] == pytest.approx(5.0, abs=0.01)


def test_the_sooner_of_two_times_wins():
    async def main() -> None:
        it = Visits()
        it.schedule.start()
        start = now()
        it.schedule.add(key(1), after=100)
        it.schedule.add(key(1), after=10)
        it.schedule.add(key(1), after=50)
        await asyncio.sleep(200)
        assert [round(at - start) for at in it.times(key(1))] == [10]

    virtually(main)


def test_what_is_asked_for_now_is_not_visited_again_when_it_was_due():
    async def main() -> None:
        it = Visits()
        it.verdicts[key(1)] = [NEVER]
        it.schedule.start()
        it.schedule.add(key(1), after=100)
        it.schedule.add(key(1))
        await asyncio.sleep(200)
        assert len(it.made) == 1

    virtually(main)


def test_what_is_gone_is_forgotten():
    async def main() -> None:
        it = Visits()
        it.verdicts[key(1)] = [Verdict("Deleting", gone=True)]
        it.schedule.start()
        it.schedule.add(key(1))
        it.schedule.add(key(2), after=10)
        await asyncio.sleep(1)
        it.schedule.discard(key(2))
        await asyncio.sleep(1000)
        assert it.names() == ["1"]
        assert not it.schedule._entries
        assert it.settled == [(key(1), "Deleting")]

    virtually(main)


def test_one_made_anew_while_the_old_one_was_let_go_is_visited():
    async def main() -> None:
        it = Visits(lasts=5.0)
        it.verdicts[key(1)] = [Verdict("Deleting", gone=True), NEVER]
        it.schedule.start()
        it.schedule.add(key(1))
        await asyncio.sleep(1)
        it.schedule.add(key(1))
        await asyncio.sleep(10)
        assert len(it.made) == 2

    virtually(main)


@pytest.mark.parametrize(("lasts", "finished"), [(3.0, True), (100.0, False)])
def test_stopping_gives_those_in_hand_a_grace_and_starts_no_more(lasts: float, finished):
    async def main() -> None:
        it = Visits(workers=2, lasts=lasts)
        for number in range(5):
            it.schedule.add(key(number))
        it.schedule.start()
        await asyncio.sleep(1)
        start = now()
        await it.schedule.stop(10.0)
        assert now() - start < (3.1 if finished else 11.1)
        assert it.schedule.running == 0
        outcome = "Ready" if finished else "Cancelled"
        assert [told for _, told in it.settled] == [outcome, outcome]
        await asyncio.sleep(1000)
        it.schedule.add(key(9))
        assert len(it.made) == 2

    virtually(main)


@given(
    actions=st.lists(
        st.tuples(
            st.integers(0, 5),
            st.sampled_from(["edit", "check", "later", "wait", "discard", "hold"]),
        ),
        max_size=60,
    ),
    workers=st.integers(1, 3),
    room=st.integers(1, 2),
)
def test_whatever_is_asked_for_is_visited_in_the_end(
    actions: list[tuple[int, str]], workers: int, room: int
):
    async def main() -> None:
        it = Visits(workers=workers, lasts=0.7)
        it.room = {"a": room, "b": room}
        it.schedule.start()
        owed: dict[Key, float] = {}
        for number, action in actions:
            one = key(number, "ab"[number % 2], namespace=str(number % 3))
            if action == "wait":
                await asyncio.sleep(number * 0.5)
            elif action == "hold":
                it.held[one.kind] = now() + number
            elif action == "discard":
                running = one in it.schedule.in_hand()
                it.schedule.discard(one)
                if not running:
                    owed.pop(one, None)
            else:
                it.schedule.add(one, urgent=action == "edit", after=9.0 * (action == "later"))
                if action != "later":
                    owed[one] = now()
        await asyncio.sleep(100)
        for one, asked in owed.items():
            assert any(at >= asked for at in it.times(one)), one
        assert it.at_once <= min(workers, 2 * room)
        assert it.schedule.idle
        await it.schedule.stop(0)

    virtually(main)


class _Lister:
    """A vendor that lists everything, and counts how often."""

    taken = 0
    session: object = None

    async def read_all(self) -> AsyncIterator[Observed[Params]]:
        self.taken += 1
        for number in range(200):
            yield Observed(id=str(number), actual=Params.model_construct())


def test_one_list_an_interval_serves_all_objects_however_they_were_spread():
    async def main() -> None:
        lister = _Lister()
        connection = Key("Connection", "team", "a")
        keys = [key(number) for number in range(200)]
        checks: Counter[Key] = Counter()

        async def visit(one: Key, _urgent: bool) -> Verdict:  # noqa: FBT001 - the schedule's
            checks[one] += 1
            await listings.find(connection, lister, one.name)  # type: ignore[arg-type]  # lists
            return Verdict("Ready", Again.AFTER, INTERVAL)

        schedule = Schedule(
            visit, lane=lambda _: ("a", "team"), room=lambda _: 100, held=lambda _: 0.0
        )
        listings = Listings(taken=lambda _: schedule.gather(keys), clock=now)
        for number, one in enumerate(keys):
            schedule.add(one, urgent=False, after=1 + number * INTERVAL / 200)
        schedule.start()
        await asyncio.sleep(2 * INTERVAL)
        lister.taken = 0
        checks.clear()
        await asyncio.sleep(10 * INTERVAL)
        # Each list is asked for by whoever is due first: up to a tenth before its interval is over.
        assert 10 <= lister.taken <= 12
        assert all(9 <= checks[one] <= 12 for one in keys)
        await schedule.stop(0)

    virtually(main)


def test_what_waits_for_another_reason_is_not_brought_forward():
    async def main() -> None:
        it = Visits()
        it.verdicts[key("asked to wait")] = [Verdict("RateLimited", Again.AFTER, INTERVAL)]
        it.verdicts[key("pending")] = [Verdict("Progressing", Again.POLL, 5.0)]
        it.verdicts[key("just checked")] = [Verdict("Ready", Again.AFTER, INTERVAL)]
        for one in it.verdicts:
            it.schedule.add(one)
        it.schedule.start()
        await asyncio.sleep(1)
        before = len(it.made)
        it.schedule.gather([*it.verdicts, key("unknown")])
        await asyncio.sleep(1)
        assert len(it.made) == before
        await asyncio.sleep(INTERVAL / 2)
        it.schedule.gather([key("just checked")])
        await asyncio.sleep(1)
        assert len(it.times(key("just checked"))) == 2
        await it.schedule.stop(0)

    virtually(main)
