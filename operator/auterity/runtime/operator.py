"""The operator: store, queue and engine put together, fed by events, visiting objects."""

import asyncio
import json
import logging
from collections import OrderedDict, deque
from collections.abc import Awaitable, Callable, Hashable, Mapping
from dataclasses import dataclass
from functools import partial
from itertools import islice
from time import monotonic
from typing import Any, Final

from auterity import __version__
from auterity.api.kinds import BUDGET, CONNECTIONS, LOCAL, PLURALS, PRICED, ROUTE
from auterity.engine import reconcile
from auterity.engine.budgets import Budgeting
from auterity.engine.calls import CallObserver, Door
from auterity.engine.cluster import ClusterUnavailable, SubjectGone
from auterity.engine.conditions import Reason
from auterity.engine.connections import Connections
from auterity.engine.declared import Providers, connectors
from auterity.engine.limits import Budget
from auterity.engine.listings import Listings
from auterity.engine.local import LocalVisit
from auterity.engine.prices import PriceList, Prices
from auterity.engine.redaction import private
from auterity.engine.route import Routing
from auterity.engine.schedule import Schedule
from auterity.engine.subject import Key, Subject
from auterity.engine.verdict import Again, Verdict, Waits
from auterity.engine.visit import Engine
from auterity.runtime.cluster import KubeCluster, collection
from auterity.runtime.kube import Kube, KubeError
from auterity.runtime.logs import LoggedChanges
from auterity.runtime.metrics import Metrics
from auterity.runtime.shards import RELEASE, RENEW, SERVES, Members
from auterity.runtime.store import Change, Put, Store, connection_of

log = logging.getLogger("auterity.runtime")
ROOM_PER_CALL: Final = 2
"""Visits of one connection in hand for each call it may have in flight."""
REMEMBERED: Final = 10_000
"""Objects that are no more and still remembered."""
REFUSALS: Final = 5
"""How often the API server must refuse a kind, a second apart, before it is taken at its word."""
GATHERED_FOR: Final = 1.0
"""Seconds between two visits of a Budget while what it is about changes all the time."""
ROOM_UNKNOWN: Final = 16
"""Visits in hand for a connection that was not opened yet."""


@dataclass(frozen=True, slots=True)
class Options:
    """How the operator is run."""

    namespaces: tuple[str, ...] = ()
    """Namespaces that are served; all if empty."""
    without: frozenset[str] = frozenset()
    """Kinds of integration that are left alone, as if there were none of them."""
    cluster_name: str | None = None
    allow_insecure: bool = False
    lend_identity: bool = False
    """Whether Connections without credentials may use the operator's own identity."""
    replica: str = "auterity"
    """Tells this process from the other replicas; the name of its Lease."""
    lease_namespace: str = "default"
    """Where the replicas keep their Leases."""
    admission: str | None = None
    """The ValidatingWebhookConfiguration that is served; none if left out."""
    admission_listen: str = "0.0.0.0:9443"
    """Address and port of the admission webhook."""
    prices: tuple[PriceList, ...] = ()
    """What is put over the price lists that come along."""
    workers: int = 400
    grace: float = 25.0
    """Seconds that visits in hand get to finish when the operator stops."""


class Operator:
    """Takes in events, keeps the newest objects, visits them. Knows nothing of Kopf."""

    def __init__(
        self, kube: Kube, providers: Providers, metrics: Metrics, options: Options
    ) -> None:
        self._kube = kube
        self.providers = providers
        self._metrics = metrics
        self.options = options
        served = {*CONNECTIONS, *(kind for kind, _ in providers)} - options.without
        local = {kind.name for kind in LOCAL.values() if served & {*kind.about}}
        served |= local - options.without
        self.kinds = [kind for kind in PLURALS if kind in served]
        """What is served: a kind without any vendor has no CRD, and nobody may look at it."""
        self.store = Store()
        self.synced = False
        self.started = False
        """Whether it has joined the other replicas and begun to visit."""
        self.stopping = False
        self._renewed: set[Key] = set()
        """Connections whose credentials were written and have not proved good since."""
        self._held_by_us: set[str] = set()
        """Uids of the objects that fell to this replica when all last agreed."""
        self._let_go: OrderedDict[str, None] = OrderedDict()
        """Uids of objects that are no more, of which a list or the watch may still tell."""
        self._news: deque[tuple[Key, Mapping[str, str]]] = deque()
        """What has changed since the first of the visits in hand began, and its labels."""
        self._news_told = 0
        """How much has ever stood there."""
        self._newest: dict[tuple[str, str], int] = {}
        """The number of the last of them, by kind and namespace."""
        self._begun: dict[Key, int] = {}
        """Visits in hand, the first one first, and how much had been told when they began."""
        self._gathered: dict[Hashable, bool] = {}
        """What was just acted upon, and whether it was asked for once more since."""
        self._passed_over: set[Key] = set()
        """Asked for while the replicas did not agree, when they seemed to be another's."""

    @property
    def _serves(self) -> dict[str, list[str]]:
        options = self.options
        return {"namespaces": list(options.namespaces), "without": sorted(options.without)}

    async def start(self, identity: str) -> None:
        """Learn what exists, then begin to visit it: connections first."""
        self.members = Members(
            self._kube,
            self.options.lease_namespace,
            self.options.replica,
            drained=self._drained,
            refreshed=self._refreshed,
            changed=self._members_changed,
            lost=self._lost,
            tells={SERVES: json.dumps(self._serves), RELEASE: __version__},
        )
        cluster = self.cluster = KubeCluster(
            self._kube,
            self.store,
            identity,
            self._learned,
            self.members.fence,
            lambda: self.members.alone,
            self.kinds,
        )
        self.connections = Connections(
            cluster,
            connectors(self.providers),
            self._metrics,
            allow_insecure=self.options.allow_insecure,
            lend_identity=self.options.lend_identity,
            door=self._door,
        )
        self.engine = Engine(
            cluster=cluster,
            connections=self.connections,
            providers=self.providers,
            listings=Listings(taken=self._listed),
            observer=self._metrics,
            changes=LoggedChanges(),
            prices=Prices(self.options.prices),
        )
        self.schedule = Schedule(
            self._visit,
            lane=self._lane,
            room=self._room,
            held=self._held,
            workers=self.options.workers,
        )
        self._metrics.watch(self)
        await self.members.meet()
        while True:
            try:
                for kind in list(self.kinds):
                    await self._learn_first(kind)
                break
            except ClusterUnavailable as error:
                log.warning("waiting for the Kubernetes API: %s", error)
                await asyncio.sleep(2)
        self.synced = True
        await self.members.join()
        self.schedule.start()
        self.started = True
        log.info("started", extra={"object": f"{len(self.store)} objects of {identity}"})

    async def stop(self) -> None:
        """Finish the visits in hand, start no more, close every connection."""
        self.stopping = True
        if self.synced:
            await self.schedule.stop(self.options.grace)
            await self.members.leave()
            await self.connections.close()

    def observe(self, raw: Mapping[str, Any], *, deleted: bool) -> None:
        """An event from the API server."""
        if not self.synced or self.stopping:
            return
        if deleted:
            key = Key(raw["kind"], raw["metadata"].get("namespace") or "", raw["metadata"]["name"])
            self._forget(key, raw["metadata"]["uid"])
            return
        if raw["metadata"]["uid"] not in self._let_go:
            self._take_in(raw)

    def _take_in(self, raw: Mapping[str, Any]) -> None:
        meta = raw["metadata"]
        key = Key(raw["kind"], meta.get("namespace") or "", meta["name"])
        before = self.store.find(key)
        succeeds = before is not None and before.uid != meta["uid"]
        if before and succeeds and int(meta["resourceVersion"]) > int(before.resource_version):
            # What is told of its predecessor from now on is old: visited, it would be deleted at
            # the vendor, where the two have the same mark.
            self._forget(key, before.uid)
        self._seen(self.store.put(raw))

    def _seen(self, put: Put) -> None:
        if Change.NEW in put.change or Change.EDIT in put.change:
            self._ask(put.subject.key)
        self._wake(put.subject, put.change)

    def _gone(self, key: Key, uid: str) -> None:
        gone = self.store.remove(key, uid)
        if gone is None:
            return
        self.schedule.discard(key)
        self.engine.probes.forget(gone.uid)
        self.engine.measures.forget(gone.uid)
        self.cluster.forget(gone.uid)
        if key.kind in CONNECTIONS:
            # Its visits, which close it, may be another replica's.
            self.connections.forget(key)
            self._metrics.forget(str(key))
            self._renewed.discard(key)
        self._wake(gone, Change.GONE)

    def _forget(self, key: Key, uid: str) -> None:
        """It is gone: a list or a watch that is behind must not bring it back as a new object."""
        self._let_go[uid] = None
        if len(self._let_go) > REMEMBERED:
            self._let_go.popitem(last=False)
        self._gone(key, uid)

    def secret_changed(self, namespace: str, name: str) -> None:
        """A Secret was written or deleted: whoever uses it looks again."""
        if not self.synced:
            return
        secret = Key("Secret", namespace, name)
        waiting = self.store.waiting(secret, {})
        for key in {*self.connections.using_secret(namespace, name), *waiting}:
            if key.kind in CONNECTIONS:
                self._renew(key)
                self._ask(key)
        self._wake_waiting(secret, {})

    def _renew(self, connection: Key) -> None:
        """Its credentials may be new."""
        self.connections.doubt(connection)
        subject = self.store.find(connection)
        if subject is None or self.members.mine(subject.uid):
            self._renewed.add(connection)
        elif subject.ready:
            # The replica that verifies it will see no change and tell of none.
            self._wake_users(connection, all_of_them=False)

    def _ask(self, key: Key, *, urgent: bool = True) -> None:
        """Ask for a visit, if it is for us to make."""
        subject = self.store.find(key)
        if subject is None:
            return
        if self.members.mine(subject.uid):
            self.schedule.add(key, urgent=urgent)
        elif not self.members.acting:
            # It may still fall to us, as it did before.
            self._passed_over.add(key)

    async def _drained(self) -> None:
        """Wait until nothing is visited here that falls to another replica.

        All replicas wait for this. So a visit that takes too long is broken off, as at a stop. Nor
        may anything be granted meanwhile by what is known here: the others grant things, too, then.
        """
        late = monotonic() + self.options.grace
        while True:
            left = [key for key in self.schedule.in_hand() if self._falls_to_another(key)]
            if not left and not self.engine.grants:
                return
            if monotonic() > late:
                self.schedule.cancel(left)
                late = float("inf")
            await asyncio.sleep(0.05)

    async def _refreshed(self) -> None:
        """Learn what has become of objects that were another's.

        Where our watch was interrupted, nothing told of those that the other let go of: visited,
        they would be made at the vendor once more, and for nobody.
        """
        if not self.members.met:
            return
        for kind in self.kinds:
            for namespace in self._namespaces(kind):
                known = {
                    subject.key: subject.uid
                    for subject in self.store
                    if subject.key.kind == kind and namespace in ("", subject.key.namespace)
                }
                there = await self._learn_all(kind, namespace)
                for key in known.keys() - there:
                    self._forget(key, known[key])

    def _falls_to_another(self, key: Key) -> bool:
        subject = self.store.find(key)
        return subject is not None and not self.members.mine(subject.uid)

    def _members_changed(self) -> None:
        """All replicas agree on who is there: take up what has become ours, drop the rest."""
        before, self._held_by_us = self._held_by_us, set()
        for subject in self.store:
            key = subject.key
            if not self.members.mine(subject.uid):
                self.schedule.discard(key)
                continue
            self._held_by_us.add(subject.uid)
            if key in self._passed_over:
                self.schedule.add(key)
            elif subject.uid not in before:
                self.schedule.add(key, urgent=_unsettled(subject))
        self._passed_over.clear()
        self.connections.share(len(self.members.live))
        self.schedule.poke()

    def _lost(self) -> None:
        """Our Lease ran out: others may begin with what was ours."""
        self.schedule.cancel(self.schedule.in_hand())

    def _door(self, vendor: str, connection: str, budget: Budget, observer: CallObserver) -> Door:
        return Door(vendor, connection, budget, observer, self.members.fence)

    async def _learn_first(self, kind: str) -> None:
        """Take in a kind at the start; one that may not be looked at is left out.

        Such as a new one, where the rights are those of an older release. An API server that has
        just started refuses what it allows in a moment.
        """
        for attempt in range(1, REFUSALS + 1):
            try:
                for namespace in self._namespaces(kind):
                    await self._learn_all(kind, namespace)
            except KubeError as error:
                if error.status != 403 or kind in CONNECTIONS:  # noqa: PLR2004 - HTTP
                    raise
                if attempt == REFUSALS:
                    log.error("%s is left out until the next start: %s", kind, error.message)  # noqa: TRY400 - the answer says it all
                    self.kinds.remove(kind)
                else:
                    await asyncio.sleep(1)
            else:
                return

    async def _learn_all(self, kind: str, namespace: str) -> set[Key]:
        """Take in every object of a kind; what there is. Raises ClusterUnavailable."""
        there = set()
        try:
            async for raw in self._kube.list(collection(kind, namespace)):
                key = Key(kind, raw["metadata"].get("namespace") or "", raw["metadata"]["name"])
                there.add(key)
                known = self.store.find(key)
                version = int(raw["metadata"]["resourceVersion"])
                if raw["metadata"]["uid"] in self._let_go:
                    continue
                if known is not None and version <= int(known.resource_version):
                    # The watch is ahead of the list.
                    continue
                if self.synced:
                    self._take_in({"kind": kind, **raw})
                else:
                    self.store.put({"kind": kind, **raw})
        except KubeError as error:
            if error.status != 404:  # noqa: PLR2004 - HTTP
                raise
            log.warning("the CRD of %s is not installed; the kind is left out", kind)
        return there

    def _namespaces(self, kind: str) -> tuple[str, ...]:
        if kind == "ClusterConnection" or not self.options.namespaces:
            return ("",)
        return self.options.namespaces

    async def _visit(self, key: Key, urgent: bool) -> Verdict:  # noqa: FBT001 - the schedule's word
        subject = self.store.find(key)
        if subject is None:
            return Verdict("Gone", gone=True)
        if not self.members.mine(subject.uid):
            self._held_by_us.discard(subject.uid)
            return Verdict("Handed over")
        self._begun[key] = self._news_told
        try:
            verdict = await self._look(subject, urgent=urgent)
            if verdict.gone:
                # Not whatever goes by its name by now.
                self._forget(key, subject.uid)
            else:
                self._wait(key, verdict.waits)
        finally:
            del self._begun[key]
            self._forget_news()
        return verdict

    def _wait(self, key: Key, waits: frozenset[Waits]) -> None:
        """Remember what wakes an object; now, if that came after the visit had looked for it."""
        self.store.wait(key, waits)
        begun = self._begun[key]
        # In a storm there is much news in the time of a visit, and hardly ever of what it is about.
        late = [w for w in waits if self._newest.get((w.kind, w.namespace), 0) > begun]
        news = islice(reversed(self._news), self._news_told - begun) if late else ()
        if any(wait.woken_by(*one) for one in news for wait in late):
            self._ask_waiting(key)

    def _forget_news(self) -> None:
        """What no visit in hand can have missed."""
        wanted = self._news_told - next(iter(self._begun.values()), self._news_told)
        while len(self._news) > wanted:
            self._news.popleft()
        if not self._news:
            self._newest.clear()

    def _wake_waiting(self, key: Key, labels: Mapping[str, str]) -> None:
        """Whoever waits for it looks again: those too that will only know that they do."""
        if self._begun:
            self._news.append((key, labels))
            self._news_told += 1
            self._newest[key.kind, key.namespace] = self._news_told
        for waiter in self.store.waiting(key, labels):
            self._ask_waiting(waiter)

    def _ask_waiting(self, waiter: Key) -> None:
        if waiter.kind == BUDGET:
            # Whatever changes in its namespace concerns it.
            self._gather(waiter, partial(self._ask, waiter))
        else:
            self._ask(waiter)

    async def _look(self, subject: Subject, *, urgent: bool) -> Verdict:
        key = subject.key
        if key.kind in LOCAL:
            return await self._look_locally(subject)
        if key.kind not in CONNECTIONS:
            if not (urgent or subject.kept) and not await self._exists(subject):
                return Verdict("Gone", gone=True)
            verdict = await reconcile.visit(self.engine, subject, urgent=urgent)
            if verdict.outcome == Reason.CREDENTIALS_REJECTED:
                # Whether they are still good for anything is told by the connection.
                self._ask(connection_of(subject), urgent=False)
            return verdict
        verdict = await self._verify(subject)
        if verdict.outcome == Reason.READY and key in self._renewed:
            self._renewed.discard(key)
            self._wake_users(key, all_of_them=False)
        return verdict

    async def _look_locally(self, subject: Subject) -> Verdict:
        start = monotonic()
        verdict = await self._guarded(
            _LOCALLY[subject.key.kind](self.cluster, subject).visit(), subject.key
        )
        # Without a vendor: which one a route leads to, say, is no property of the route.
        self._metrics.visited(subject.key.kind, "", verdict.outcome, monotonic() - start)
        return verdict

    async def _exists(self, subject: Subject) -> bool:
        """Whether an object that nothing keeps is still there.

        Where the watch was interrupted, Kopf tells of what exists, and never of what has gone.
        """
        try:
            return await self.cluster.exists(subject)
        except ClusterUnavailable:
            return True

    async def _verify(self, subject: Subject) -> Verdict:
        with private():
            return await self._guarded(self.connections.visit(subject), subject.key)

    async def _guarded(self, looking: Awaitable[Verdict], key: Key) -> Verdict:
        extra = {"object": str(key)}
        try:
            return await looking
        except SubjectGone:
            return Verdict("Gone", gone=True)
        except ClusterUnavailable as error:
            log.warning("visit cut short: %s", error, extra=extra)
        except Exception as error:  # noqa: BLE001 - a bug must not end the loop
            log.error("visit failed: %s", type(error).__name__, extra=extra)  # noqa: TRY400 - a traceback may quote secrets
        return Verdict("InternalError", Again.RETRY)

    def _listed(self, connection: Key) -> None:
        """The vendor has just told of all objects of a connection: check them by it."""
        self.schedule.gather(self.store.users(connection))

    def _learned(self, put: Put) -> None:
        """The answer of one of our own writes; the event that follows tells nothing new."""
        if Change.EDIT in put.change:
            # Someone's edit, of which our write was told first.
            self._ask(put.subject.key)
        self._wake(put.subject, put.change)

    def _wake(self, subject: Subject, change: Change) -> None:
        key = subject.key
        if Change.ROOM in change or (Change.GONE in change and key.kind in PRICED):
            self._gather(key.namespace, partial(self._tell_of_room, key.namespace))
        if not change & ~Change.ROOM:
            return
        self._wake_waiting(key, subject.labels)
        if key.kind in CONNECTIONS:
            self._wake_users(key, all_of_them=Change.EDIT in change)
        elif change & (Change.GONE | Change.NEW | Change.EDIT):
            connection = self.store.find(connection_of(subject))
            if connection is not None and connection.deleting:
                self._ask(connection.key)

    def _gather(self, name: Hashable, act: Callable[[], None]) -> None:
        """Of many calls of the same name at once, act for the first and once for the rest."""
        if name in self._gathered:
            self._gathered[name] = True
            return
        self._gathered[name] = False
        act()
        asyncio.get_running_loop().call_later(GATHERED_FOR, self._gather_rest, name, act)

    def _gather_rest(self, name: Hashable, act: Callable[[], None]) -> None:
        if self._gathered.pop(name) and not self.stopping:
            self._gather(name, act)

    def _tell_of_room(self, namespace: str) -> None:
        """Something takes less of the budgets of a namespace: what waits for room looks again."""
        self._wake_waiting(Key(BUDGET, namespace, ""), {})

    def _wake_users(self, connection: Key, *, all_of_them: bool) -> None:
        for user in self.store.users(connection):
            found = self.store.find(user)
            if found is None:
                continue
            # One that was never visited is in the queue anyway.
            waits = (found.condition("Ready") or {}).get("status") == "False"
            if waits or all_of_them:
                self._ask(user, urgent=waits)

    def _lane(self, key: Key) -> tuple[Key, str]:
        subject = self.store.find(key)
        if subject is None or key.kind in CONNECTIONS:
            # Verifying a connection must not wait behind the objects that it holds up.
            return Key("Verification", key.namespace, key.name), ""
        if key.kind in LOCAL:
            return Key(key.kind, key.namespace, ""), ""
        return connection_of(subject), key.namespace

    def _room(self, connection: Hashable) -> int:
        budget = self.connections.budgets.get(connection)  # type: ignore[call-overload]  # a key
        return ROOM_UNKNOWN if budget is None else budget.concurrent * ROOM_PER_CALL

    def _held(self, connection: Hashable) -> float:
        if not self.members.acting:
            return RENEW / 2
        budget = self.connections.budgets.get(connection)  # type: ignore[call-overload]  # a key
        return 0.0 if budget is None else float(budget.held_for)


_LOCALLY: Final[Mapping[str, type[LocalVisit[Any]]]] = {ROUTE: Routing, BUDGET: Budgeting}


def _unsettled(subject: Subject) -> bool:
    """Whether an object needs more than a drift check when the operator starts."""
    return not subject.ready or subject.key.kind in CONNECTIONS
