"""The queue: which object is visited next, and no object twice at once."""

import asyncio
import heapq
import itertools
import logging
import random
from collections import Counter, deque
from collections.abc import Awaitable, Callable, Hashable, Iterable, Iterator
from contextvars import copy_context
from dataclasses import dataclass, field
from functools import partial
from time import monotonic

from auterity.engine.conditions import Reason
from auterity.engine.subject import Key
from auterity.engine.verdict import Again, Verdict

log = logging.getLogger("auterity.engine")
FIRST_RETRY = 5.0
LAST_RETRY = 600.0
SLOWEST_POLL = 60.0
POLL_GROWTH = 1.5
GATHERED = 2 / 3
"""Share of its interval by which a drift check is brought forward at most. With half or less, two
halves of the objects could stay apart for ever."""

Lane = tuple[Hashable, Hashable]
"""A connection, and a namespace that uses it."""
VisitKey = Callable[[Key, bool], Awaitable[Verdict]]


@dataclass(slots=True)
class _Entry:
    lane: Lane = (None, None)
    urgent: bool = False
    ready_since: float | None = None
    """Set while it stands in its lane."""
    due: float | None = None
    """Set while it waits for a time."""
    running: bool = False
    again: bool = False
    """Asked for again while it was running."""
    attempts: int = 0
    """In a row, of the same kind: polls do not make the first retry late."""
    growing: Again | None = None
    interval: float = 0.0
    """Seconds between two drift checks, while it only waits for the next one."""


@dataclass(slots=True)
class _LaneState:
    urgent: deque[Key] = field(default_factory=deque)
    checks: deque[Key] = field(default_factory=deque)


class Schedule:
    """Visits objects: edits before drift checks, lanes in turn, each object by one visit at a time.

    A lane holds the objects of one namespace on one connection, so that a storm of edits in one
    namespace does not starve another. `room(connection)` tells how many objects of a connection
    may be visited at once, `held(connection)` for how many seconds it is to be left alone, so that
    a throttled or broken connection holds back nobody else's objects.
    """

    def __init__(
        self,
        visit: VisitKey,
        *,
        lane: Callable[[Key], Lane],
        room: Callable[[Hashable], int],
        held: Callable[[Hashable], float],
        workers: int = 400,
    ) -> None:
        self._visit = visit
        self._lane_of = lane
        self._room = room
        self._held = held
        self._workers = workers
        self._entries: dict[Key, _Entry] = {}
        self._lanes: dict[Lane, _LaneState] = {}
        self._turn: deque[Lane] = deque()
        self._in_hand: Counter[Hashable] = Counter()
        """Visits in hand by connection."""
        self._due: list[tuple[float, int, Key]] = []
        self._order = itertools.count()
        self._timer: asyncio.TimerHandle | None = None
        self._tasks: dict[Key, asyncio.Task[Verdict]] = {}
        self._context = copy_context()
        """What each visit begins with. Often it is another visit that asks for it, whose trail and
        secrets are none of its business; handed on and on, they would become ever more."""
        self._open = False

    def start(self) -> None:
        """Begin to visit what was added so far, and what will be."""
        self._open = True
        self._pump()

    async def stop(self, grace: float) -> None:
        """Start no more visits; give those in hand so many seconds to finish."""
        self._open = False
        if self._timer is not None:
            self._timer.cancel()
        if self._tasks:
            _, late = await asyncio.wait(set(self._tasks.values()), timeout=grace)
            for task in late:
                task.cancel()
            if late:
                await asyncio.wait(late, timeout=1.0)

    def add(self, key: Key, *, urgent: bool = True, after: float = 0.0) -> None:
        """Ask for a visit, now or later. An object is in the queue once; the sooner wins."""
        entry = self._entries.setdefault(key, _Entry())
        if entry.running:
            if after <= 0.0:
                entry.again = True
                entry.urgent = entry.urgent or urgent
            return
        if after > 0.0:
            self._later(key, entry, after)
        elif entry.ready_since is None:
            entry.urgent = urgent
            self._stand(key, entry)
        elif urgent and not entry.urgent:
            entry.urgent = True
            self._lanes[entry.lane].urgent.append(key)
        self._pump()

    def gather(self, keys: Iterable[Key]) -> None:
        """Bring forward the drift checks that are due within `GATHERED` of their interval.

        What was just read at the vendor for one of these objects serves them all then.
        """
        now = monotonic()
        for key in keys:
            entry = self._entries.get(key)
            if entry is None or entry.due is None or entry.due - now > entry.interval * GATHERED:
                continue
            entry.urgent = False
            self._stand(key, entry)
        self._pump()

    def discard(self, key: Key) -> None:
        """The object is gone."""
        entry = self._entries.get(key)
        if entry is not None and not entry.running:
            del self._entries[key]

    def in_hand(self) -> list[Key]:
        """The objects that are being visited."""
        return list(self._tasks)

    def cancel(self, keys: Iterable[Key]) -> None:
        """Break off the visits of these objects; they are asked for again when they are due."""
        for key in keys:
            if (task := self._tasks.get(key)) is not None:
                task.cancel()

    def poke(self) -> None:
        """Look again at what may be started: what held it back has changed."""
        self._pump()

    @property
    def running(self) -> int:
        """Visits in hand."""
        return len(self._tasks)

    @property
    def idle(self) -> bool:
        """Whether nothing is running or waiting for its turn."""
        return not self._tasks and not any(True for _ in self._standing())

    def depth(self) -> dict[str, int]:
        """How many objects wait for their turn, by `edit` and `check`."""
        counts = {"edit": 0, "check": 0}
        for entry in self._standing():
            counts["edit" if entry.urgent else "check"] += 1
        return counts

    def oldest_age(self) -> float:
        """Seconds that the longest-waiting object has waited for its turn."""
        since = [e.ready_since for e in self._standing() if e.ready_since is not None]
        return monotonic() - min(since) if since else 0.0

    def _standing(self) -> Iterator[_Entry]:
        return (e for e in self._entries.values() if e.ready_since is not None)

    def _stand(self, key: Key, entry: _Entry) -> None:
        entry.due = None
        entry.ready_since = monotonic()
        entry.lane = self._lane_of(key)
        lane = self._lanes.get(entry.lane)
        if lane is None:
            lane = self._lanes[entry.lane] = _LaneState()
            self._turn.append(entry.lane)
        (lane.urgent if entry.urgent else lane.checks).append(key)

    def _later(self, key: Key, entry: _Entry, after: float) -> None:
        due = monotonic() + after
        if entry.ready_since is not None or (entry.due is not None and entry.due <= due):
            return
        entry.due = due
        heapq.heappush(self._due, (due, next(self._order), key))
        if len(self._due) > 2 * len(self._entries) + 64:
            self._due = [it for it in self._due if self._is_due(it[2], it[0])]
            heapq.heapify(self._due)

    def _is_due(self, key: Key, due: float) -> bool:
        """Whether that is still when the object is due; it may have been visited since."""
        entry = self._entries.get(key)
        return entry is not None and entry.due == due

    def _pump(self) -> None:
        if not self._open:
            return
        self._wake_due()
        soonest = self._start_visits()
        self._set_timer(soonest)

    def _wake_due(self) -> None:
        now = monotonic()
        while self._due and self._due[0][0] <= now:
            due, _, key = heapq.heappop(self._due)
            entry = self._entries.get(key)
            if entry is not None and entry.due == due and not entry.running:
                entry.urgent = False
                self._stand(key, entry)

    def _start_visits(self) -> float | None:
        """Start what may be started; seconds until a held lane opens, if one holds objects."""
        soonest: float | None = None
        for urgent in (True, False):
            idle_turns = 0
            while len(self._tasks) < self._workers and idle_turns < len(self._turn):
                name = self._turn[0]
                self._turn.rotate(-1)
                lane = self._lanes[name]
                queue = lane.urgent if urgent else lane.checks
                if not queue:
                    idle_turns += 1
                    continue
                connection = name[0]
                if (held := self._held(connection)) > 0.0:
                    soonest = held if soonest is None else min(soonest, held)
                    idle_turns += 1
                elif self._in_hand[connection] >= self._room(connection):
                    idle_turns += 1
                elif self._start_next(name, queue, urgent=urgent):
                    idle_turns = 0
        self._drop_empty_lanes()
        return soonest

    def _start_next(self, name: Lane, queue: deque[Key], *, urgent: bool) -> bool:
        while queue:
            key = queue.popleft()
            entry = self._entries.get(key)
            stale = entry is None or entry.ready_since is None or entry.urgent is not urgent
            if entry is None or stale or entry.lane != name:
                continue
            entry.ready_since, entry.running, entry.again = None, True, False
            self._in_hand[name[0]] += 1
            entry.urgent = False
            task = asyncio.create_task(
                self._visit_one(key, urgent=urgent), context=self._context.copy()
            )
            # Not the visit's own last act: one that is cancelled before it begins has none.
            task.add_done_callback(
                partial(self._ended, key, entry, name[0]), context=self._context.copy()
            )
            self._tasks[key] = task
            return True
        return False

    async def _visit_one(self, key: Key, *, urgent: bool) -> Verdict:
        return await self._visit(key, urgent)

    def _ended(
        self, key: Key, entry: _Entry, connection: Hashable, task: asyncio.Task[Verdict]
    ) -> None:
        self._in_hand[connection] -= 1
        if not self._in_hand[connection]:
            del self._in_hand[connection]
        entry.running = False
        del self._tasks[key]
        if task.cancelled():
            verdict = Verdict("Cancelled", Again.RETRY)
        elif (error := task.exception()) is not None:
            log.error("visit failed: %s", type(error).__name__, extra={"object": str(key)})
            verdict = Verdict("InternalError", Again.RETRY)
        else:
            verdict = task.result()
        self._finish(key, entry, verdict)

    def _finish(self, key: Key, entry: _Entry, verdict: Verdict) -> None:
        again = entry.again
        if verdict.gone:
            self._entries.pop(key, None)
            if again:
                # Made anew under the same name while the old one was let go.
                self.add(key)
        else:
            delay = self._delay(entry, verdict)
            if entry.again:
                self._stand(key, entry)
            elif delay is not None:
                self._later(key, entry, delay)
        self._pump()

    @staticmethod
    def _delay(entry: _Entry, verdict: Verdict) -> float | None:
        entry.interval = verdict.seconds if verdict.outcome == Reason.READY else 0.0
        # Spreads visits in time; guards nothing.
        spread = random.random()  # noqa: S311
        if verdict.again in (Again.AFTER, Again.NEVER):
            entry.attempts = 0
            return verdict.seconds * (0.9 + spread * 0.2) if verdict.again is Again.AFTER else None
        if entry.growing is not verdict.again:
            entry.growing, entry.attempts = verdict.again, 0
        attempt, entry.attempts = entry.attempts, entry.attempts + 1
        if verdict.again is Again.POLL:
            return min(verdict.seconds * POLL_GROWTH ** min(attempt, 20), SLOWEST_POLL)
        ceiling = min(FIRST_RETRY * 2.0 ** min(attempt, 20), LAST_RETRY)
        return max(0.5, ceiling * spread)

    def _set_timer(self, held: float | None) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        due = self._due[0][0] - monotonic() if self._due else None
        waits = [wait for wait in (held, due) if wait is not None]
        if waits:
            loop = asyncio.get_running_loop()
            self._timer = loop.call_later(
                max(0.001, min(waits)), self._pump, context=self._context.copy()
            )

    def _drop_empty_lanes(self) -> None:
        if len(self._lanes) > 64:  # noqa: PLR2004 - few lanes cost nothing
            empty = [n for n, s in self._lanes.items() if not (s.urgent or s.checks)]
            for name in empty:
                del self._lanes[name]
            if empty:
                # Whose turn it is stays: else the first lanes would be served again and again.
                self._turn = deque(name for name in self._turn if name in self._lanes)
