"""A connection's budget, over virtual time."""

import asyncio
from dataclasses import dataclass
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from auterity.api.connection import RateLimit
from auterity.engine import limits
from auterity.engine.calls import Call, Door
from auterity.engine.errors import DependencyNotReady, Failure, Fenced, Throttled, Unavailable
from auterity.engine.limits import (
    FAILURES_TO_OPEN,
    FIRST_PROBE_AFTER,
    LAST_PROBE_AFTER,
    Budget,
)
from tests.conformance.cluster import Recorder
from tests.unit.engine.virtual import now, virtually


def budget(per_second: float = 1000.0, burst: int = 1000, concurrent: int = 100) -> Budget:
    return Budget(RateLimit(per_second=per_second, burst=burst, concurrent=concurrent), clock=now)


async def call(it: Budget, priority: int = 1, lasts: float = 0.0) -> float:
    """One call; when it began."""
    await it.acquire(priority)
    began = now()
    await asyncio.sleep(lasts)
    it.release()
    return began


async def eventful(it: Budget, event: str) -> None:
    """A call that ends as the event says."""
    await it.acquire(1)
    try:
        await asyncio.sleep(0.1)
        if event == "failed":
            it.failed()
        elif event in {"succeeded", "pause"}:
            it.succeeded()
        if event == "pause":
            it.pause(3.0)
    except asyncio.CancelledError:
        it.abandoned()
        raise
    finally:
        it.release()


async def until(moment: float) -> None:
    await asyncio.sleep(max(0.0, moment - now()))


@given(
    per_second=st.floats(0.5, 200.0),
    burst=st.integers(1, 20),
    calls=st.integers(1, 60),
    pauses=st.lists(st.floats(0.0, 3.0), max_size=60),
)
def test_no_window_holds_more_calls_than_rate_and_burst_allow(
    per_second: float, burst: int, calls: int, pauses: list[float]
):
    async def main() -> list[float]:
        it = budget(per_second, burst)
        tasks = []
        for number in range(calls):
            tasks.append(asyncio.create_task(call(it)))
            await asyncio.sleep(pauses[number] if number < len(pauses) else 0.0)
        return sorted(await asyncio.gather(*tasks))

    began = virtually(main)
    assert len(began) == calls
    for i, first in enumerate(began):
        for j in range(i, calls):
            allowed = burst + (began[j] - first) * per_second
            assert j - i + 1 <= allowed + 0.01, (first, began[j])


@given(per_second=st.floats(0.5, 200.0), burst=st.integers(1, 5), calls=st.integers(6, 40))
def test_the_rate_is_used_in_full(per_second: float, burst: int, calls: int):
    async def main() -> float:
        it = budget(per_second, burst)
        start = now()
        await asyncio.gather(*(call(it) for _ in range(calls)))
        return now() - start

    ideal = (calls - burst) / per_second
    assert virtually(main) == pytest.approx(ideal, rel=0.05, abs=0.05)


@given(
    concurrent=st.integers(1, 5),
    lasting=st.lists(st.floats(0.01, 2.0), min_size=1, max_size=30),
    cancelled=st.sets(st.integers(0, 29)),
)
def test_calls_in_flight_are_never_too_many_and_nothing_leaks(
    concurrent: int, lasting: list[float], cancelled: set[int]
):
    async def main() -> None:
        it = budget(concurrent=concurrent)
        most = 0
        done: list[int] = []

        async def one(number: int) -> None:
            nonlocal most
            await it.acquire(1)
            try:
                most = max(most, it.in_flight)
                await asyncio.sleep(lasting[number])
                done.append(number)
            finally:
                it.release()

        tasks = [asyncio.create_task(one(n)) for n in range(len(lasting))]
        await asyncio.sleep(0.005)
        for number in cancelled & set(range(len(lasting))):
            tasks[number].cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        assert most <= concurrent
        assert it.in_flight == 0
        assert not it._waiting
        assert set(range(len(lasting))) - cancelled == set(done)

    virtually(main)


@given(st.lists(st.integers(0, 2), min_size=2, max_size=20))
def test_lower_numbers_are_served_first_and_equals_in_order(priorities: list[int]):
    async def main() -> list[int]:
        it = budget(concurrent=1)
        await it.acquire(1)
        order: list[int] = []

        async def one(number: int) -> None:
            await it.acquire(priorities[number])
            order.append(number)
            it.release()

        tasks = [asyncio.create_task(one(n)) for n in range(len(priorities))]
        await asyncio.sleep(0)
        it.release()
        await asyncio.gather(*tasks)
        return order

    assert virtually(main) == sorted(range(len(priorities)), key=lambda n: (priorities[n], n))


def test_a_place_that_is_given_to_a_call_just_cancelled_goes_to_the_next():
    async def main() -> None:
        it = budget(concurrent=1)
        await it.acquire(1)
        first, second = (asyncio.create_task(call(it)) for _ in range(2))
        await asyncio.sleep(0)
        it.release()
        first.cancel()
        await second
        assert it.in_flight == 0

    virtually(main)


def test_a_short_pause_is_waited_for_and_a_long_one_ends_the_visit():
    async def main() -> None:
        it = budget()
        it.pause(1.5)
        start = now()
        assert await call(it) == pytest.approx(start + 1.5, abs=0.01)
        waiting = asyncio.create_task(call(it))
        it.pause(60.0)
        with pytest.raises(Throttled) as caught:
            await it.acquire(1)
        assert caught.value.retry_after == pytest.approx(60.0, abs=0.1)
        assert it.held_for == pytest.approx(60.0, abs=0.1)
        await asyncio.gather(waiting, return_exceptions=True)
        await until(start + 62.0)
        assert it.held_for == 0.0
        await call(it)

    virtually(main)


def test_a_long_pause_ends_the_visits_that_wait():
    async def main() -> None:
        it = budget(concurrent=1)
        await it.acquire(1)
        waiting = asyncio.create_task(it.acquire(1))
        await asyncio.sleep(0)
        it.pause(60.0)
        with pytest.raises(Throttled):
            await waiting
        it.release()
        assert it.in_flight == 0

    virtually(main)


def test_a_later_shorter_pause_does_not_end_an_earlier_longer_one():
    async def main() -> None:
        it = budget()
        it.pause(60.0)
        it.pause(5.0)
        assert it.held_for == pytest.approx(60.0)

    virtually(main)


def test_a_budget_that_shrinks_and_grows_is_kept_from_then_on():
    async def main() -> None:
        it = budget(concurrent=3)
        for _ in range(3):
            await it.acquire(1)
        it.resize(RateLimit(per_second=1000, burst=1000, concurrent=1))
        waiting = asyncio.create_task(it.acquire(1))
        it.release()
        it.release()
        await asyncio.sleep(0)
        assert not waiting.done()
        it.release()
        await waiting
        assert it.in_flight == 1

    virtually(main)


def broken(it: Budget) -> None:
    for _ in range(FAILURES_TO_OPEN):
        it.failed()


def test_the_breaker_opens_after_failures_in_a_row_only():
    async def main() -> None:
        it = budget()
        for _ in range(3):
            for _ in range(FAILURES_TO_OPEN - 1):
                it.failed()
            it.succeeded()
        assert it.breaker.value == "closed"
        broken(it)
        assert it.breaker.value == "open"
        with pytest.raises(Unavailable):
            await it.acquire(1)
        assert FIRST_PROBE_AFTER * 0.9 <= it.held_for <= FIRST_PROBE_AFTER * 1.1

    virtually(main)


def test_half_open_lets_one_probe_through_and_its_success_closes():
    async def main() -> None:
        it = budget()
        broken(it)
        await asyncio.sleep(it.held_for)
        assert it.breaker.value == "half-open"
        await it.acquire(1)
        for _ in range(3):
            with pytest.raises(Unavailable):
                await it.acquire(1)
        it.succeeded()
        it.release()
        assert it.breaker.value == "closed"
        await call(it)

    virtually(main)


def test_probes_come_less_and_less_often():
    async def main() -> list[float]:
        it = budget()
        broken(it)
        waits = []
        for _ in range(8):
            waits.append(it.held_for)
            await asyncio.sleep(it.held_for)
            await it.acquire(1)
            it.failed()
            it.release()
        return waits

    waits = virtually(main)
    ideal = [min(FIRST_PROBE_AFTER * 2**n, LAST_PROBE_AFTER) for n in range(8)]
    for got, want in zip(waits, ideal, strict=True):
        assert want * 0.89 <= got <= want * 1.11
    assert all(later > sooner * 0.8 for sooner, later in pairwise(waits))


def test_calls_that_were_under_way_when_it_opened_do_not_put_the_probe_off():
    async def main() -> None:
        it = budget()
        broken(it)
        for _ in range(45):
            it.failed()
        assert it.held_for <= FIRST_PROBE_AFTER * 1.1

    virtually(main)


def test_those_that_wait_are_refused_when_it_opens():
    async def main() -> None:
        it = budget(concurrent=1)
        await it.acquire(1)
        waiting = [asyncio.create_task(it.acquire(1)) for _ in range(3)]
        await asyncio.sleep(0)
        broken(it)
        for one in waiting:
            with pytest.raises(Unavailable):
                await one
        it.release()
        assert it.in_flight == 0

    virtually(main)


def test_a_probe_that_is_cancelled_before_its_call_leaves_its_place_to_another():
    async def main() -> None:
        it = budget(concurrent=1)
        await it.acquire(1)
        broken(it)
        await asyncio.sleep(it.held_for)
        probe = asyncio.create_task(it.acquire(1))
        await asyncio.sleep(0)
        it.release()
        probe.cancel()
        await asyncio.gather(probe, return_exceptions=True)
        assert it.in_flight == 0
        await it.acquire(1)

    virtually(main)


@pytest.mark.parametrize(
    "error",
    [asyncio.CancelledError(), RuntimeError("bug"), DependencyNotReady("later"), Failure("odd")],
    ids=repr,
)
def test_a_probe_that_tells_nothing_leaves_its_place_to_another(error: BaseException):
    async def main() -> None:
        it = budget()
        recorder = Recorder()
        door = Door("shelf", "c", it, recorder)
        broken(it)
        await asyncio.sleep(it.held_for)
        with pytest.raises(type(error)):
            async with door.call("GET"):
                raise error
        assert it.in_flight == 0
        async with door.call("GET"):
            pass
        assert it.breaker.value == "closed"
        assert recorder.calls == [("shelf", "GET", "error"), ("shelf", "GET", "ok")]

    virtually(main)


def test_the_door_tells_the_budget_what_happened():
    async def main() -> None:
        it = budget()
        door = Door("shelf", "c", it, Recorder())

        async def raising(failure: Exception) -> None:
            with pytest.raises(type(failure)):
                async with door.call("GET"):
                    raise failure

        for _ in range(FAILURES_TO_OPEN):
            await raising(Unavailable("down"))
        assert it.breaker.value == "open"
        it.reset()
        for _ in range(FAILURES_TO_OPEN):
            await raising(Unavailable("down"))
            it.reset()
            await raising(Throttled("slow", 100.0))
            assert it.held_for > 90.0
            it.reset()
        assert it.breaker.value == "closed"

    virtually(main)


def test_a_call_that_is_fenced_off_gives_its_place_back():
    async def main() -> None:
        it = budget()

        def fence() -> None:
            raise Fenced("another replica")

        door = Door("shelf", "c", it, Recorder(), fence)
        entered: list[Call] = []
        with pytest.raises(Fenced):
            async with door.call("GET") as one:
                entered.append(one)
        assert entered == []
        assert it.in_flight == 0
        assert it.breaker.value == "closed"

    virtually(main)


@given(
    st.lists(
        st.sampled_from(["succeeded", "failed", "cancelled", "pause", "wait", "reset"]),
        max_size=40,
    )
)
def test_whatever_happens_a_call_can_be_made_in_the_end(events: list[str]):
    async def main() -> None:
        it = budget(per_second=50, burst=2, concurrent=2)

        tasks = []
        for event in events:
            if event == "wait":
                await asyncio.sleep(7.0)
            elif event == "reset":
                it.reset()
            else:
                tasks.append(asyncio.create_task(eventful(it, event)))
                await asyncio.sleep(0)
                if event == "cancelled":
                    tasks[-1].cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        assert it.in_flight == 0
        await asyncio.sleep(LAST_PROBE_AFTER * 1.2)
        await it.acquire(1)
        it.succeeded()
        it.release()
        assert it.breaker.value == "closed"

    virtually(main)


def test_the_pause_without_a_time_is_short():
    async def main() -> None:
        it = budget()
        it.pause(None)
        assert limits.SHORT_PAUSE < it.held_for <= 10.0

    virtually(main)


@dataclass
class Metered:
    """A vendor that allows so many calls a second and answers all others with Retry-After."""

    allows: float
    tokens: float = 0.0
    at: float = 0.0
    served: int = 0
    refused: int = 0

    def ask(self, it: Budget) -> bool:
        self.tokens = min(self.allows, self.tokens + (now() - self.at) * self.allows)
        self.at = now()
        it.succeeded()
        if self.tokens < 1.0:
            self.refused += 1
            it.pause(1.0)
            return False
        self.tokens -= 1.0
        self.served += 1
        return True


async def _work(it: Budget, vendor: Metered, seconds: float, latency: float = 0.02) -> None:
    end = now() + seconds

    async def one() -> None:
        while now() < end:
            try:
                await it.acquire(1)
            except Throttled as failure:
                await asyncio.sleep(failure.retry_after or 1.0)
                continue
            await asyncio.sleep(latency)
            vendor.ask(it)
            it.release()

    await asyncio.gather(*(one() for _ in range(400)))


@pytest.mark.parametrize("allows", [5.0, 100.0])
def test_calls_come_down_to_what_the_vendor_allows_and_stay_there(allows: float):
    async def main() -> None:
        it, vendor = budget(per_second=10_000, burst=10_000, concurrent=400), Metered(allows)
        vendor.at = now()
        await _work(it, vendor, 30)
        vendor.served = vendor.refused = 0
        await _work(it, vendor, 60)
        assert vendor.served > 0.75 * 60 * allows
        assert vendor.refused < 0.05 * vendor.served
        assert it.rate < 2 * allows

    virtually(main)


def test_calls_grow_again_to_what_is_declared():
    async def main() -> None:
        it, vendor = budget(per_second=50, burst=50, concurrent=50), Metered(5.0)
        vendor.at = now()
        await _work(it, vendor, 20)
        assert it.rate < 10
        vendor.allows = 1000.0
        await _work(it, vendor, 120)
        assert it.rate == 50
        it.pause(1.0)
        assert it.rate < 50
        it.reset()
        assert it.rate == 50

    virtually(main)
