"""The door: the one gate that every call to a vendor passes."""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from time import monotonic
from typing import Final, Protocol

from auterity.engine.errors import (
    Busy,
    Conflict,
    Fenced,
    Rejected,
    Throttled,
    Unauthorized,
    Unavailable,
)
from auterity.engine.limits import Budget

READS: Final = (
    *("GET", "HEAD", "OPTIONS", "SELECT", "SHOW"),
    *("Get", "Head", "Describe", "List", "Query", "Search", "Count"),
)
"""How the names of calls begin that only look. A POST that does so needs such a name as label."""


def reads(method: str) -> bool:
    """Whether a call, by the door's name for it, changes nothing at the vendor."""
    return method.startswith(READS)


@dataclass(slots=True)
class Call:
    """One call in progress; the transport fills in what the vendor answered."""

    method: str
    status: str = ""
    """HTTP status, SQLSTATE or the vendor's error code; `error` if nothing was answered."""
    request_id: str | None = None
    """The vendor's own id of the request, for its support and for the change log."""
    seconds: float = 0.0
    """How long it took, waiting for the budget left out."""
    fence: Callable[[], None] = lambda: None
    """Raises Fenced if this replica may no longer act.

    The door asks. Who waits on the way out, as for a connection, or repeats a call, asks once more:
    a process that was paused there would go on with what another has taken over.
    """


call_in_hand: ContextVar[Call | None] = ContextVar("call_in_hand", default=None)
"""The call in progress, for what a client tells by its hooks; also in threads given the context."""


def fence() -> None:
    """Raises Fenced if a call is in hand that may no longer go out; see `Call.fence`."""
    if (call := call_in_hand.get()) is not None:
        call.fence()


@dataclass(slots=True)
class Trail:
    """What the calls of one visit left behind."""

    priority: int = 1
    calls: list[Call] = field(default_factory=list)


trail: ContextVar[Trail | None] = ContextVar("trail", default=None)
"""The trail of the visit in progress."""


class CallObserver(Protocol):
    """Told of every call and wait, for metrics."""

    def called(self, vendor: str, method: str, status: str, seconds: float) -> None:
        """A call has ended."""

    def waited(self, vendor: str, connection: str, seconds: float) -> None:
        """A call had to wait for the budget."""


class Door:
    """Every call passes here: budget and breaker before, metrics and change log after.

    A transport encloses each call in `async with door.call(...)`, sets `status` and `request_id`
    from the answer and raises one of the failures in `errors.py`. `fence` raises Fenced if
    this process may no longer act at all: a call that waited long must not be late.
    """

    def __init__(
        self,
        vendor: str,
        connection: str,
        budget: Budget,
        observer: CallObserver,
        fence: Callable[[], None] = lambda: None,
    ) -> None:
        self.vendor = vendor
        self.connection = connection
        self.budget = budget
        self._observer = observer
        self._fence = fence

    @asynccontextmanager
    async def call(self, method: str) -> AsyncIterator[Call]:
        """Enclose one call. `method` is a metric label: an HTTP method or an operation's name."""
        here = trail.get()
        waited = await self.budget.acquire(here.priority if here else 1)
        if waited:
            self._observer.waited(self.vendor, self.connection, waited)
        try:
            self._fence()
        except Fenced:
            self.budget.abandoned()
            self.budget.release()
            raise
        call = Call(method, fence=self._fence)
        before = call_in_hand.set(call)
        start = monotonic()
        try:
            yield call
        except Throttled as failure:
            self.budget.succeeded()
            self.budget.pause(failure.retry_after)
            call.status = call.status or "throttled"
            raise
        except Fenced:
            self.budget.abandoned()
            call.status = "fenced"
            raise
        except Unavailable:
            self.budget.failed()
            call.status = call.status or "error"
            raise
        except (Unauthorized, Rejected, Conflict, Busy) as failure:
            self.budget.succeeded()
            call.status = call.status or type(failure).__name__
            raise
        except BaseException:
            # A bug, a cancellation or a failure of our own side says nothing about the vendor.
            self.budget.abandoned()
            call.status = call.status or "error"
            raise
        else:
            self.budget.succeeded()
            call.status = call.status or "ok"
        finally:
            call_in_hand.reset(before)
            self.budget.release()
            call.seconds = monotonic() - start
            self._observer.called(self.vendor, method, call.status, call.seconds)
            if here is not None:
                here.calls.append(call)
