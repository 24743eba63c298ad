"""Connections: sessions and budgets of vendor accounts, and the health of their credentials."""

import asyncio
import logging
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatchcase

from pydantic import ValidationError

from auterity.api.annotations import REQUESTED_AT
from auterity.api.common import ConnectionRef
from auterity.api.connection import ClusterConnectionSpec, ConnectionSpec, RateLimit
from auterity.api.fields import is_secret, resolvables, seconds
from auterity.engine.calls import CallObserver, Door
from auterity.engine.cluster import Cluster, ClusterUnavailable
from auterity.engine.conditions import Reason, conditioned, reason_of
from auterity.engine.contract import Access, Connector, Identity, Session
from auterity.engine.declared import first_problem
from auterity.engine.errors import (
    DependencyNotReady,
    Failure,
    Rejected,
    Throttled,
    Unauthorized,
)
from auterity.engine.limits import Budget
from auterity.engine.redaction import frames_of, hide, remember_spellings, spellings, words_of
from auterity.engine.references import References
from auterity.engine.subject import JSON, Key, Subject
from auterity.engine.verdict import Again, Verdict, Waits

log = logging.getLogger("auterity.engine")
CLOSE_AFTER = 60.0
"""Seconds that a replaced session is kept for the calls still in flight."""
SHOWN_USERS = 5
SHORTEST_INTERVAL = 1.0
"""Seconds between two visits of the same object, whatever its interval."""
DoorFactory = Callable[[str, str, Budget, CallObserver], Door]


@dataclass(frozen=True, slots=True)
class Opened:
    """An open connection."""

    key: Key
    vendor: str
    session: Session
    declared: tuple[str, JSON]
    """The Connection's uid and spec that it was opened for."""
    secret_versions: tuple[str, ...]
    """The versions of the Secrets that it was opened with."""
    waits: frozenset[Waits]
    """Those Secrets, so that a change of one wakes the connection."""
    secrets: frozenset[str] = field(repr=False)
    """Their values in every spelling, to be hidden from all that its users tell."""
    region: str | None = None
    """The region whose prices hold for what it leads to, if the connection says so."""


def connection_key(namespace: str, ref: ConnectionRef) -> Key:
    """The key of the connection that an object in a namespace refers to."""
    return connection_named(namespace, ref.kind, ref.name)


def mismatch(ref: ConnectionRef, there: str, vendor: str, needed: str) -> str:
    """What is said of a connection to `there` where a vendor needs one to what is `needed`."""
    return f"{ref.kind} {ref.name!r} is a connection to {there}; {vendor} needs one to {needed}"


def connection_named(namespace: str, kind: str, name: str) -> Key:
    """The key of a connection of that kind and name, as referred to from a namespace."""
    return Key(kind, namespace if kind == "Connection" else "", name)


class Connections:
    """Opens each connection once and shares its session and budget among all its users."""

    def __init__(  # noqa: PLR0913 - what it asks of its owner
        self,
        cluster: Cluster,
        connectors: Mapping[str, type[Connector]],
        observer: CallObserver,
        *,
        allow_insecure: bool = False,
        lend_identity: bool = False,
        door: DoorFactory = Door,
    ) -> None:
        self._cluster = cluster
        self._connectors = connectors
        self._observer = observer
        self._allow_insecure = allow_insecure
        self._lend_identity = lend_identity
        self._door = door
        self._opened: dict[Key, Opened] = {}
        self._stale: set[Key] = set()
        self._opening: dict[Key, asyncio.Lock] = {}
        self._closing: set[asyncio.Task[None]] = set()
        self._held: Counter[int] = Counter()
        """Visits in hand, by the identity of the session that they use."""
        self.budgets: dict[Key, Budget] = {}
        self._limits: dict[Key, RateLimit] = {}
        self._replicas = 1

    async def session(self, namespace: str, ref: ConnectionRef, *, leaving: bool = False) -> Opened:
        """The open session for an object of this namespace.

        For one that is `leaving` it may be what was opened with a Secret that is gone by now: with
        a namespace, Secrets go first, and nobody can put them back.

        Raises DependencyNotReady if the connection is missing, not allowed for the namespace, or
        known not to work; Rejected if its spec is.
        """
        key = connection_key(namespace, ref)
        subject = self._cluster.find(key)
        if subject is None:
            raise DependencyNotReady(f"{ref.kind} {ref.name!r} does not exist")
        allowed = subject.spec.get("allowedNamespaces", ["*"])
        if not any(fnmatchcase(namespace, pattern) for pattern in allowed):
            raise DependencyNotReady(
                f"ClusterConnection {ref.name!r} may not be used from namespace {namespace!r}; "
                "add it to spec.allowedNamespaces"
            )
        ready = subject.condition("Ready")
        if (
            ready is not None
            and ready["status"] == "False"
            and ready["reason"] in (Reason.CREDENTIALS_REJECTED, Reason.SPEC_REJECTED)
            and subject.status.get("observedGeneration") == subject.generation
            and key not in self._stale
        ):
            raise DependencyNotReady(f"{ref.kind} {ref.name!r} is not ready: {ready['message']}")
        try:
            return await self._open(subject)
        except DependencyNotReady:
            before = self._opened.get(key)
            if not leaving or before is None or before.declared != _declared(subject):
                raise
            remember_spellings(before.secrets)
            return before
        except Rejected as failure:
            raise DependencyNotReady(f"{ref.kind} {ref.name!r}: {failure.message}") from None

    def hold(self, opened: Opened) -> None:
        """A visit uses it: should it be replaced, its session stays open until then."""
        self._held[id(opened.session)] += 1

    def release(self, opened: Opened) -> None:
        """The visit has ended."""
        self._held[id(opened.session)] -= 1
        if not self._held[id(opened.session)]:
            del self._held[id(opened.session)]

    def doubt(self, key: Key) -> None:
        """Read the connection's Secrets again before its next use: they may have changed."""
        self._stale.add(key)

    def share(self, replicas: int) -> None:
        """So many replicas use each credential: every one takes its part of the budget."""
        self._replicas = replicas
        for key, budget in self.budgets.items():
            budget.resize(_share(self._limits[key], replicas))

    def using_secret(self, namespace: str, name: str) -> list[Key]:
        """The open connections whose credentials come from a Secret."""
        wanted = Waits("Secret", namespace, name)
        return [key for key, opened in self._opened.items() if wanted in opened.waits]

    def forget(self, key: Key) -> None:
        """The connection is no more."""
        if (opened := self._opened.pop(key, None)) is not None:
            self._close_later(opened.session)
        self.budgets.pop(key, None)
        self._limits.pop(key, None)
        self._stale.discard(key)
        if (lock := self._opening.get(key)) is not None and not lock.locked():
            del self._opening[key]

    async def visit(self, subject: Subject) -> Verdict:
        """One visit of a Connection or ClusterConnection: verify, and tell in its status."""
        if subject.deleting:
            return await self._remove(subject)
        if not subject.kept:
            subject = await self._cluster.patch_metadata(subject, finalizer=True)
        identity, waits, failure = await self._verified(subject)
        reason = Reason.READY if failure is None else reason_of(failure)
        message = (
            f"Connected as {identity.name}" if identity else failure.message if failure else ""
        )
        status: JSON = {
            **{k: v for k, v in subject.status.items() if k not in ("identity", "expiresAt")},
            **conditioned(
                subject,
                ready=failure is None,
                reason=reason,
                message=hide(message),
                generation=subject.generation,
                now=self._cluster.now(),
                requested=subject.annotations.get(REQUESTED_AT),
            ),
            "vendor": self.vendor(subject),
        }
        if identity is not None:
            status["identity"] = hide(identity.name)
            if identity.expires_at:
                status["expiresAt"] = identity.expires_at
        if status != subject.status:
            before = subject.condition("Ready") or {}
            await self._cluster.write_status(subject, status)
            if failure is not None and before.get("reason") != reason:
                await self._cluster.event(subject, "Warning", reason, hide(message))
        if failure is None or isinstance(failure, Unauthorized | Rejected):
            return Verdict(reason, Again.AFTER, self._interval(subject), waits)
        if isinstance(failure, Throttled):
            return Verdict(reason, Again.AFTER, failure.retry_after or 30.0, waits)
        return Verdict(reason, Again.RETRY, waits=waits)

    async def _verified(
        self, subject: Subject
    ) -> tuple[Identity | None, frozenset[Waits], Failure | None]:
        """Who we are, the Secrets that it depends on, and what went wrong."""
        waits = frozenset(
            Waits("Secret", self._secret_namespace(subject), name)
            for name in _secret_names(subject.spec)
        )
        try:
            self._stale.add(subject.key)
            opened = await self._open(subject)
            waits = opened.waits
            return await opened.session.verify(), waits, None
        except Failure as failure:
            return None, waits, failure
        except ClusterUnavailable:
            raise
        except Exception as error:  # noqa: BLE001 - a bug is told, as with integrations
            log.error(  # noqa: TRY400 - a logged traceback may quote secrets
                "verification failed: %s: %s",
                type(error).__name__,
                words_of(error),
                extra={"object": str(subject.key), "frames": frames_of(error)},
            )
            words = f"A bug in the operator ({type(error).__name__}); its log has the details"
            return None, waits, Failure(words)

    def _interval(self, subject: Subject) -> float:
        try:
            return max(SHORTEST_INTERVAL, seconds(self._spec(subject).interval))
        except Rejected:
            return seconds("10m")

    def vendor(self, subject: Subject) -> str | None:
        """The vendor whose block a Connection has."""
        found = [name for name in subject.spec if name in self._connectors]
        return found[0] if len(found) == 1 else None

    async def close(self) -> None:
        """Close every session."""
        for task in self._closing:
            task.cancel()
        await asyncio.gather(
            *(opened.session.close() for opened in self._opened.values()),
            *self._closing,
            return_exceptions=True,
        )
        self._opened.clear()

    async def _remove(self, subject: Subject) -> Verdict:
        users = self._cluster.users(subject.key)
        if users:
            names = ", ".join(f"{u.kind} {u.namespace}/{u.name}" for u in users[:SHOWN_USERS])
            more = f" and {len(users) - SHOWN_USERS} more" if len(users) > SHOWN_USERS else ""
            status = {
                **subject.status,
                **conditioned(
                    subject,
                    ready=subject.ready,
                    reason=Reason.IN_USE,
                    message=hide(f"Waits until it is no longer used by: {names}{more}"),
                    generation=subject.generation,
                    now=self._cluster.now(),
                ),
            }
            if status != subject.status:
                await self._cluster.write_status(subject, status)
            return Verdict(Reason.IN_USE, Again.AFTER, 30.0)
        self.forget(subject.key)
        if subject.kept:
            await self._cluster.patch_metadata(subject, finalizer=False)
        return Verdict(Reason.DELETING, gone=True)

    def _spec(self, subject: Subject) -> ConnectionSpec:
        cls = ClusterConnectionSpec if subject.key.kind == "ClusterConnection" else ConnectionSpec
        try:
            return cls.model_validate(subject.spec)
        except ValidationError as error:
            raise Rejected(first_problem(error, ["spec"])) from None

    def _secret_namespace(self, subject: Subject) -> str:
        return subject.key.namespace or str(subject.spec.get("secretNamespace", ""))

    async def _open(self, subject: Subject) -> Opened:
        try:
            async with self._opening.setdefault(subject.key, asyncio.Lock()):
                before = self._opened.get(subject.key)
                if (
                    before is None
                    or before.declared != _declared(subject)
                    or subject.key in self._stale
                ):
                    try:
                        self._opened[subject.key] = await self._open_anew(subject, before)
                    except (Unauthorized, Rejected):
                        # The connection's status will say so.
                        raise
                    except BaseException:
                        # What it is open with may be old.
                        self._stale.add(subject.key)
                        raise
                opened = self._opened[subject.key]
        finally:
            if self._cluster.find(subject.key) is None:
                # It went meanwhile: nobody else would come to close what was opened.
                self.forget(subject.key)
        remember_spellings(opened.secrets)
        return opened

    async def _open_anew(self, subject: Subject, before: Opened | None) -> Opened:
        key, declared = subject.key, _declared(subject)
        spec = self._spec(subject)
        vendor = self.vendor(subject)
        if vendor is None:
            known = ", ".join(sorted(self._connectors))
            raise Rejected(f"spec must have exactly one vendor block, of: {known}")
        try:
            connector = self._connectors[vendor].model_validate(subject.spec[vendor] or {})
        except ValidationError as error:
            raise Rejected(first_problem(error, ["spec", vendor])) from None
        references = References(self._cluster, self._secret_namespace(subject))
        # Before the Secrets are read: a doubt that comes meanwhile must not be lost.
        self._stale.discard(key)
        await references.resolve(connector)
        resolved = list(resolvables(connector))
        versions = tuple(field.version for field in resolved)
        if before and (before.declared, before.secret_versions) == (declared, versions):
            return before
        budget = self._budget(key, spec.rate_limit, type(connector).rate_limit)
        session = await connector.open(
            Access(
                door=self._door(vendor, str(key), budget, self._observer),
                secrets=self._cluster.secret_store(self._secret_namespace(subject)),
                allow_insecure=self._allow_insecure,
                lends_identity=self._lend_identity or key.kind == "ClusterConnection",
                namespace=key.namespace,
            )
        )
        if before is not None:
            self._close_later(before.session)
        return Opened(
            key,
            vendor,
            session,
            declared,
            versions,
            frozenset(references.waits),
            frozenset().union(*(spellings(it.reveal()) for it in resolved if is_secret(it))),
            connector.billing_region,
        )

    def _budget(self, key: Key, declared: RateLimit | None, default: RateLimit) -> Budget:
        limit = default.model_copy(
            update=declared.model_dump(exclude_none=True) if declared else {}
        )
        self._limits[key] = limit
        budget = self.budgets.get(key)
        if budget is None:
            budget = self.budgets[key] = Budget(_share(limit, self._replicas))
        else:
            budget.resize(_share(limit, self._replicas))
            budget.reset()
        return budget

    def _close_later(self, session: Session) -> None:
        async def close() -> None:
            try:
                held = True
                while held:
                    await asyncio.sleep(CLOSE_AFTER)
                    held = self._held[id(session)] > 0
            finally:
                await session.close()

        task = asyncio.create_task(close())
        self._closing.add(task)
        task.add_done_callback(self._closing.discard)


def _declared(subject: Subject) -> tuple[str, JSON]:
    # Not the generation: that grows with a deletion too.
    return subject.uid, subject.spec


def _secret_names(value: object) -> set[str]:
    """Names of the Secrets that a spec refers to, readable or not."""
    if isinstance(value, dict):
        found = set().union(*(_secret_names(item) for item in value.values()))
        ref = value.get("secretKeyRef")
        return found | ({str(ref.get("name"))} if isinstance(ref, dict) else set())
    if isinstance(value, list):
        return set().union(*(_secret_names(item) for item in value))
    return set()


def _share(limit: RateLimit, replicas: int) -> RateLimit:
    """One replica's part of a limit; at least one call at once, or nothing would ever be done."""
    if replicas == 1:
        return limit
    return limit.model_copy(
        update={
            "per_second": None if limit.per_second is None else limit.per_second / replicas,
            "burst": None if limit.burst is None else max(1, limit.burst // replicas),
            "concurrent": None
            if limit.concurrent is None
            else max(1, limit.concurrent // replicas),
        }
    )
