"""One list of a vendor's objects serves the drift checks of all objects of a connection."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from time import monotonic
from typing import Any

from auterity.engine.contract import Observed, Provider
from auterity.engine.errors import Rejected, Unauthorized
from auterity.engine.subject import Key

KEPT = 90.0
"""Seconds that a list may serve; then it is dropped, so that it costs no memory at rest."""


@dataclass(slots=True)
class _Listing:
    taken_at: float = float("-inf")
    session: object = None
    """What it was taken over. Over other credentials, or at another address, it says nothing."""
    found: dict[str, Observed[Any]] = field(default_factory=dict)
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)


class Listings:
    """Lists are taken when first asked for and serve everyone for a while.

    `taken(connection)` is told of each, so that the other objects of the connection come to be
    checked while it serves: then one list an interval is enough, however they were spread before.
    """

    def __init__(
        self,
        taken: Callable[[Key], None] = lambda _connection: None,
        clock: Callable[[], float] = monotonic,
    ) -> None:
        self._taken = taken
        self._clock = clock
        self._listings: dict[tuple[Key, type], _Listing] = {}

    async def find(
        self, connection: Key, provider: Provider[Any, Any], id: str
    ) -> Observed[Any] | None:
        """What a list not older than `KEPT` seconds tells about an object; None if nothing.

        An old truth: good enough to see that nothing has changed, never to act upon.
        """
        name = connection, type(provider)
        listing = self._listings.setdefault(name, _Listing())
        async with listing.lock:
            old = self._clock() - listing.taken_at > KEPT
            if old or listing.session is not provider.session:
                try:
                    listing.found = {seen.id: seen async for seen in provider.read_all()}
                except (Unauthorized, Rejected):
                    # Credentials that may read may not be allowed to list.
                    listing.found = {}
                listing.taken_at, listing.session = self._clock(), provider.session
                asyncio.get_running_loop().call_later(KEPT, self._drop, name)
                if listing.found:
                    self._taken(connection)
            return listing.found.get(id)

    def changed(self, connection: Key, provider: Provider[Any, Any], id: str) -> None:
        """The object was changed: what the list says of it is no longer true."""
        listing = self._listings.get((connection, type(provider)))
        if listing is not None:
            listing.found.pop(id, None)

    def _drop(self, name: tuple[Key, type]) -> None:
        listing = self._listings.get(name)
        if listing is not None and self._clock() - listing.taken_at >= KEPT:
            listing.found = {}
            if not listing.lock.locked():
                del self._listings[name]
