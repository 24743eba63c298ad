"""A connection's budget: token bucket, calls in flight, pauses and the circuit breaker."""

import asyncio
import heapq
import itertools
import random
import time
from collections.abc import Callable
from enum import StrEnum

from auterity.api.connection import RateLimit
from auterity.engine.errors import Throttled, Unavailable

FAILURES_TO_OPEN = 5
"""Consecutive failures after which the breaker opens."""
FIRST_PROBE_AFTER = 15.0
LAST_PROBE_AFTER = 300.0
SHORT_PAUSE = 2.0
"""A pause up to this long is waited for inside the visit; a longer one ends the visit."""
BELOW = 0.9
"""Share of what the vendor was seen to allow that is asked for after it has said no."""
FASTER, MORE = 1.02, 0.5
"""What the calls a second grow by in each second without a no: by this factor, and by so many."""
AT_ONCE = 0.1
"""Seconds of calls that may be made at once while they are fewer than declared."""


class Breaker(StrEnum):
    """State of a connection's circuit breaker."""

    CLOSED = "closed"
    OPEN = "open"
    HALF_OPEN = "half-open"


class Budget:
    """How hard one vendor account may be asked; shared by everything that uses the connection.

    `acquire` and `release` enclose each call. Lower priority numbers are served first.

    What is declared is a ceiling. Where the vendor allows less and says so, the calls a second are
    brought down to what it was seen to allow, and grow again while it does not object.
    """

    def __init__(self, limit: RateLimit, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._tokens_at = clock()
        self._waiting: list[tuple[int, int, asyncio.Future[None]]] = []
        self._order = itertools.count()
        self._timer: asyncio.TimerHandle | None = None
        self.in_flight = 0
        self._paused_until = 0.0
        self._rate = float("inf")
        """Calls a second that the vendor was seen to allow."""
        self._allowed = 0
        self._allowed_since = self._tokens_at
        self._cautious = False
        """One call at a time: the vendor asked for patience and has not answered well since."""
        self._failures = 0
        self._probe_after = FIRST_PROBE_AFTER
        self._probing = False
        self._open_until: float | None = None
        self.resize(limit)
        self._tokens = self.burst

    def resize(self, limit: RateLimit) -> None:
        """Take another limit; calls in flight are left alone."""
        self.per_second = limit.per_second or 10.0
        self.burst = float(limit.burst or max(1.0, self.per_second))
        self.concurrent = limit.concurrent or 8

    @property
    def rate(self) -> float:
        """Calls a second that are made at most: what is declared, or less where that is refused."""
        return min(self._rate, self.per_second)

    def reset(self) -> None:
        """Forget pauses and failures: the credentials or the endpoint are new."""
        self._paused_until = 0.0
        self._rate = float("inf")
        self.succeeded()

    @property
    def breaker(self) -> Breaker:
        """The breaker's state."""
        if self._open_until is None:
            return Breaker.CLOSED
        return Breaker.OPEN if self._clock() < self._open_until else Breaker.HALF_OPEN

    @property
    def held_for(self) -> float:
        """Seconds until the next call may be tried; 0 if nothing holds the connection back."""
        until = max(self._paused_until, self._open_until or 0.0)
        return max(0.0, until - self._clock())

    async def acquire(self, priority: int) -> float:
        """Wait for a place; the seconds waited.

        Raises Throttled or Unavailable at once if the vendor asked for a longer pause or the
        breaker is open, so that no visit sleeps for minutes.
        """
        self._refuse_if_held()
        if not self._waiting and self._take():
            return 0.0
        start = self._clock()
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        heapq.heappush(self._waiting, (priority, next(self._order), future))
        self._serve()
        try:
            await future
        except asyncio.CancelledError:
            if future.done() and not future.cancelled() and future.exception() is None:
                self.abandoned()
                self.release()
            raise
        return self._clock() - start

    def release(self) -> None:
        """A call has ended."""
        self.in_flight -= 1
        self._serve()

    def succeeded(self) -> None:
        """The vendor answered, whatever it said: the breaker closes."""
        self._allowed += 1
        self._failures = 0
        self._cautious = False
        self._open_until = None
        self._probing = False
        self._probe_after = FIRST_PROBE_AFTER

    def failed(self) -> None:
        """The vendor did not answer; too many in a row open the breaker."""
        if self._open_until is not None and not self._probing:
            # It was under way when the breaker opened, and tells nothing new.
            return
        self._failures += 1
        if self._probing or self._failures >= FAILURES_TO_OPEN:
            jitter = 0.9 + random.random() * 0.2  # noqa: S311 - spreads probes, guards nothing
            self._open_until = self._clock() + self._probe_after * jitter
            self._probe_after = min(self._probe_after * 2, LAST_PROBE_AFTER)
            self._probing = False
            self._refuse_waiting()

    def abandoned(self) -> None:
        """A call ended without telling anything about the vendor; another may probe."""
        self._probing = False

    def pause(self, retry_after: float | None) -> None:
        """The vendor asked for patience (`retry_after` in seconds; a guess if it did not say)."""
        self._cautious = True
        self._slow_down()
        self._paused_until = max(self._paused_until, self._clock() + (retry_after or 5.0))
        if self.held_for > SHORT_PAUSE:
            self._refuse_waiting()

    def _slow_down(self) -> None:
        now = self._clock()
        if now < self._paused_until:
            # It was under way already, and tells nothing new.
            return
        # Over a second at least: what a bucket holds at first is not what it gets.
        seen = (self._allowed - 1) / max(1.0, now - self._allowed_since)
        self._rate = max(MORE, min(self.rate, seen) * BELOW)
        self._allowed, self._allowed_since = 0, now
        # The one that asks whether the vendor allows calls again.
        self._tokens = 1.0

    def _refuse_if_held(self) -> None:
        if (failure := self._held()) is not None:
            raise failure

    def _held(self) -> Throttled | Unavailable | None:
        now = self._clock()
        if self._paused_until - now > SHORT_PAUSE:
            return Throttled(
                "the vendor asked for fewer calls; the connection is paused until it allows more",
                self._paused_until - now,
            )
        if self._open_until is not None and (now < self._open_until or self._probing):
            return Unavailable(
                "the vendor did not answer several calls in a row; it is probed now and then "
                "until it does"
            )
        return None

    def _refuse_waiting(self) -> None:
        waiting, self._waiting = self._waiting, []
        for _, _, future in waiting:
            if not future.done():
                failure = self._held()
                future.set_exception(failure or Unavailable("the vendor does not answer"))

    def _take(self) -> bool:
        now = self._clock()
        if now < self._paused_until or self.in_flight >= self._most_in_flight:
            return False
        self._refill(now)
        if self._tokens < 1.0:
            return False
        self._tokens -= 1.0
        self.in_flight += 1
        if self._open_until is not None:
            self._probing = True
        return True

    def _refill(self, now: float) -> None:
        passed = now - self._tokens_at
        self._tokens_at = now
        if self._rate >= self.per_second:
            self._rate = float("inf")
            self._tokens = min(self.burst, self._tokens + passed * self.per_second)
            return
        at_once = min(self.burst, max(1.0, self._rate * AT_ONCE))
        self._tokens = min(at_once, self._tokens + passed * self._rate)
        self._rate = self._rate * FASTER ** min(passed, 60.0) + MORE * passed

    @property
    def _most_in_flight(self) -> int:
        return 1 if self._cautious else self.concurrent

    def _serve(self) -> None:
        while self._waiting:
            if self._waiting[0][2].done():
                heapq.heappop(self._waiting)
                continue
            if (failure := self._held()) is not None:
                heapq.heappop(self._waiting)[2].set_exception(failure)
                continue
            if not self._take():
                break
            heapq.heappop(self._waiting)[2].set_result(None)
        if self._waiting and self.in_flight < self._most_in_flight:
            self._wake_later()

    def _wake_later(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        now = self._clock()
        wait = max((1.0 - self._tokens) / self.rate, self._paused_until - now, 0.001)
        self._timer = asyncio.get_running_loop().call_later(wait, self._serve)
