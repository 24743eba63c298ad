"""Replicas share the objects by Leases: each object has one member at a time, whatever happens.

Every member keeps a Lease of its own and reads those of the others. Whose an object is follows from
the set of live members alone (rendezvous hashing of its uid), so nothing is ever negotiated about
single objects. What is agreed upon is the set:

- A member that sees another set first finishes the visits of objects that are no longer its own,
  then says in its Lease which set it goes by. An object is visited only while *all* live members
  go by the same set.
- A Lease counts as lost once it has not been *seen to change* for its duration, by the watcher's
  own clock: clocks of machines are never compared. An answer is as old as its question, so that
  one which was under way for long, or lay there while the process was paused, proves nothing.
- A member acts only while its last renewal is younger than a part of that duration, by its own
  clock, checked before every call to a vendor: one that was paused or cut off has stopped before
  the others begin, and forgets what it had agreed upon.
"""

import asyncio
import hashlib
import json
import logging
from collections.abc import Awaitable, Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from time import monotonic
from typing import Any, Final

from auterity.engine.cluster import ClusterUnavailable
from auterity.engine.errors import Fenced
from auterity.runtime.kube import MERGE_PATCH, Kube, KubeError

log = logging.getLogger("auterity.runtime")
DURATION: Final = 8.0
"""Seconds without a renewal after which a member is lost to the others."""
SURE: Final = 5.0
"""Seconds after its last renewal during which a member may act."""
RENEW: Final = 1.5
"""Seconds between renewals, and between looks at the others."""
TIDY_AFTER: Final = 60.0
LABEL: Final = "integrations.auterity.io/member"
SET: Final = "integrations.auterity.io/members"
SERVES: Final = "integrations.auterity.io/serves"
"""What a member serves, as JSON: `namespaces` (all if empty), `without` kinds."""
RELEASE: Final = "integrations.auterity.io/release"
"""The member's version."""


def owner(uid: str, members: Iterable[str]) -> str | None:
    """The member that an object falls to: rendezvous hashing, so that few objects move."""

    def weight(member: str) -> bytes:
        return hashlib.blake2b(f"{member}/{uid}".encode(), digest_size=8).digest()

    return max(members, key=weight, default=None)


def _told_set(annotations: Mapping[str, str]) -> frozenset[str]:
    """The set that a member goes by; none if its Lease says so in a way that nobody can read."""
    try:
        told = json.loads(annotations.get(SET, "[]"))
    except ValueError:
        return frozenset()
    names = isinstance(told, list) and all(isinstance(name, str) for name in told)
    return frozenset(told) if names else frozenset()


@dataclass(slots=True)
class _Seen:
    renewed: str
    at: float
    goes_by: frozenset[str]


class Members:
    """This member among the others."""

    def __init__(  # noqa: PLR0913 - what it asks of its owner
        self,
        kube: Kube,
        namespace: str,
        name: str,
        *,
        drained: Callable[[], Awaitable[None]],
        refreshed: Callable[[], Awaitable[None]],
        changed: Callable[[], None],
        lost: Callable[[], None],
        tells: Mapping[str, str] | None = None,
        clock: Callable[[], float] = monotonic,
    ) -> None:
        self._path = f"/apis/coordination.k8s.io/v1/namespaces/{namespace}/leases"
        self._namespace = namespace
        self._kube = kube
        self.name = name
        self._drained = drained
        """Wait until no visit is in hand whose object is not ours."""
        self._refreshed = refreshed
        """Learn anew what there is: what is about to be ours was in the hands of others."""
        self._changed = changed
        """Told when all members agree on another set: objects are now ours, or no longer."""
        self._lost = lost
        """Told when this member may no longer act."""
        self._tells = dict(tells or {})
        """Annotations of our Lease, for people who ask who is there."""
        self._clock = clock
        self._renewed_at = float("-inf")
        self._seen: dict[str, _Seen] = {}
        self._live = frozenset[str]()
        self._goes_by = frozenset[str]()
        self._agreed = False
        self._asked_at = float("-inf")
        """When what is known of the others was asked for."""
        self._lapsed = True
        self._lapses = 0
        """How often our Lease has not been surely valid."""
        self._renewing = asyncio.Lock()
        self._left = False
        self.met = False
        """Whether another member was ever seen, alive or not."""

    @property
    def live(self) -> frozenset[str]:
        """The members that are alive, as far as is known here."""
        return self._live

    @property
    def sure(self) -> bool:
        """Whether our own Lease is surely valid."""
        return self._clock() - self._renewed_at < SURE

    @property
    def acting(self) -> bool:
        """Whether this member may begin visits: it is sure, and all agree on who is there."""
        return self._agreed and self.sure

    @property
    def alone(self) -> bool:
        """Whether no other member can have acted since this one last learnt what there is."""
        return self._agreed and self._seen.keys() <= {self.name}

    def mine(self, uid: str) -> bool:
        """Whether an object falls to this member."""
        return owner(uid, self._live) == self.name

    def fence(self) -> None:
        """Raises Fenced if this member may no longer act: called before every vendor call."""
        if not self.sure:
            raise Fenced("this replica has lost touch with the cluster; another takes over")

    async def meet(self) -> None:
        """See whether there are others, without telling them of us."""
        try:
            await self._read()
        except (ClusterUnavailable, KubeError):
            self.met = True

    async def join(self) -> None:
        """Make our Lease, and wait until every other member knows of it."""
        while True:
            try:
                await self._renew()
                await self.look()
            except (ClusterUnavailable, KubeError) as error:
                log.warning("waiting for a Lease in namespace %s: %s", self._namespace, error)
            if self._agreed:
                return
            await asyncio.sleep(RENEW / 3)

    async def run(self) -> None:
        """Renew, look at the others, and stop acting when our Lease runs out; for ever."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._every(RENEW, self._renew))
            group.create_task(self._every(RENEW, self.look))
            group.create_task(self._every(SURE / 20, self._watch_ourselves))

    @staticmethod
    async def _every(period: float, act: Callable[[], Awaitable[None]]) -> None:
        while True:
            await asyncio.sleep(period)
            try:
                await act()
            except ClusterUnavailable as error:
                log.warning("membership is in doubt: %s", error)
            except KubeError as error:
                # An API server that has just started refuses what it will allow in a moment.
                log.warning("membership is in doubt: the API server answered %s", error.status)

    async def _watch_ourselves(self) -> None:
        if not self.sure and not self._lapsed:
            log.warning("our Lease was not renewed in time: visits in hand are broken off")
            self._lapse()

    def _lapse(self) -> None:
        """Others may have begun with what was ours: nothing that was begun or agreed upon holds."""
        self._lapsed, self._agreed = True, False
        self._lapses += 1
        self._lost()

    async def leave(self) -> None:
        """Give up our Lease, so that others take over at once. No visit may be in hand."""
        async with self._renewing:
            # A renewal after this would bring back a member that nobody waits for in vain.
            self._left, self._agreed = True, False
            self._renewed_at = float("-inf")
            try:
                await self._kube.call("DELETE", f"{self._path}/{self.name}", resource="leases")
            except (KubeError, ClusterUnavailable) as error:
                log.warning("the Lease was not given up: %s", error)

    async def look(self) -> None:
        """Read all Leases; act on what has changed."""
        lapses = self._lapses
        await self._read()
        live = self._living()
        if live != self._live:
            self._live, self._agreed = live, False
            log.info("members: %s", ", ".join(sorted(live)))
        if self._goes_by != live:
            await self._drained()
            self._goes_by = live
            await self._renew()
            # What the others told before we did may no longer be so.
            await self._read()
        agreed = self._all_go_by(live)
        if agreed and not self._agreed:
            await self._refreshed()
            if self.sure and lapses == self._lapses:
                self._agreed = True
                self._changed()
        elif not agreed:
            self._agreed = False
        await self._tidy()

    def _all_go_by(self, live: frozenset[str]) -> bool:
        if self.name not in live or self._goes_by != live or self._living() != live:
            return False
        return all(name == self.name or self._seen[name].goes_by == live for name in live)

    async def _read(self) -> None:
        asked_at = self._clock()
        raw = await self._kube.call("GET", self._path, params={"labelSelector": LABEL})
        self._asked_at = asked_at
        self._learn(raw.get("items") or ())

    async def _tidy(self) -> None:
        """Remove the Leases of members that are long gone."""
        now = self._clock()
        for name in [n for n, seen in self._seen.items() if now - seen.at > TIDY_AFTER]:
            with suppress(KubeError):
                await self._kube.call("DELETE", f"{self._path}/{name}", resource="leases")

    def _learn(self, items: Iterable[dict[str, Any]]) -> None:
        now = self._clock()
        there = set()
        for item in items:
            name = item["metadata"]["name"]
            there.add(name)
            renewed = (item.get("spec") or {}).get("renewTime", "")
            goes_by = _told_set(item["metadata"].get("annotations") or {})
            old = self._seen.get(name)
            at = old.at if old is not None and old.renewed == renewed else now
            self._seen[name] = _Seen(renewed, at, goes_by)
        for name in self._seen.keys() - there:
            del self._seen[name]
        self.met = self.met or bool(there - {self.name})

    def _living(self) -> frozenset[str]:
        return frozenset(
            name
            for name, seen in self._seen.items()
            if name == self.name or self._asked_at - seen.at < DURATION
        )

    async def _renew(self) -> None:
        # One at a time: an answer that overtakes another would tell of a set that is past.
        async with self._renewing:
            if self._left:
                return
            started = self._clock()
            await self._write()
            if not self.sure and not self._lapsed:
                self._lapse()
            # Reckoned from before the call: the others may have seen the renewal as early as then.
            self._renewed_at = started
            self._lapsed = not self.sure

    async def _write(self) -> None:
        body: dict[str, Any] = {
            "metadata": {
                "name": self.name,
                "labels": {LABEL: "true"},
                "annotations": {**self._tells, SET: json.dumps(sorted(self._goes_by))},
            },
            "spec": {
                "holderIdentity": self.name,
                "leaseDurationSeconds": int(DURATION),
                "renewTime": datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ"),
            },
        }
        path = f"{self._path}/{self.name}"
        try:
            await self._kube.call("PATCH", path, body, resource="leases", content_type=MERGE_PATCH)
        except KubeError as error:
            if error.status != 404:  # noqa: PLR2004 - HTTP
                raise
            # New, or taken for lost and tidied up: begin with nothing agreed.
            self._agreed, self._goes_by = False, frozenset()
            body["metadata"]["annotations"][SET] = "[]"
            await self._kube.call("POST", self._path, body, resource="leases")
