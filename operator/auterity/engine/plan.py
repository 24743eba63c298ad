"""A plan: what the next visit would do at the vendor, found by that visit itself, nothing done.

The visit runs as always, over a draft of the cluster in which every change waits for approval. So
whatever it comes to is what the operator would come to. What asks for no approval (the next step of
a rollout, the end of a ttl) is stopped at the door, which refuses every call that could change
something: also one that a provider's read would make against its contract.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any, Final

from auterity.api.annotations import APPROVE, FINALIZER
from auterity.api.common import Approval
from auterity.api.kinds import PRICED
from auterity.engine import declared as declaration
from auterity.engine import reconcile
from auterity.engine.calls import Call, Door, reads
from auterity.engine.changelog import ChangeRecord
from auterity.engine.cluster import SubjectGone
from auterity.engine.conditions import Reason
from auterity.engine.connections import Connections
from auterity.engine.contract import SecretStore
from auterity.engine.declared import Providers
from auterity.engine.errors import Rejected
from auterity.engine.listings import Listings
from auterity.engine.measure import NoMeasures
from auterity.engine.prices import Prices
from auterity.engine.probe import NoProbes
from auterity.engine.subject import JSON, Key, SecretData, Subject
from auterity.engine.tally import Tally
from auterity.engine.verdict import Verdict
from auterity.engine.visit import Engine

MOST_ROUNDS: Final = 10
"""Visits of one object, as when what vanished is first forgotten and then made anew."""
AT_ONCE: Final = 16
"""Objects that are looked at at the same time; each connection's budget allows less."""
SecretReader = Callable[[str, str], Awaitable[SecretData | None]]


class Action(StrEnum):
    """What a visit would do."""

    NONE = "None"
    CREATE = "Create"
    UPDATE = "Update"
    ADOPT = "Adopt"
    """Take over what exists, and make it as declared."""
    DELETE = "Delete"
    WAIT = "Wait"
    """It waits for something else, or for the vendor: what it would do is not known yet."""
    FAIL = "Fail"
    """It would fail, or could not find out."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What the next visit of one object would do. Holds no secret."""

    key: Key
    vendor: str | None
    action: Action
    reason: str
    message: str
    id: str | None = None
    url: str | None = None
    changes: tuple[JSON, ...] = ()
    """Fields with their values at the vendor (`from`) and as declared (`to`)."""
    drift: tuple[JSON, ...] = ()
    """What differs and would be left alone."""
    cost: JSON | None = None
    """What it would cost by the hour; of what a budget refuses, what it costs as it is."""


class Refused(Rejected):
    """A call that could change something was stopped."""


class ReadingDoor(Door):
    """Lets only calls pass that change nothing. Raises Refused for all others."""

    @asynccontextmanager
    async def call(self, method: str) -> AsyncIterator[Call]:
        """Enclose one call, if it only looks."""
        if not reads(method):
            raise Refused(f"a plan only looks, and refuses the call {method} of {self.vendor}")
        async with super().call(method) as call:
            yield call


class NoObserver:
    """Tells nobody."""

    def called(self, vendor: str, method: str, status: str, seconds: float) -> None:
        """See Observer."""

    def waited(self, vendor: str, connection: str, seconds: float) -> None:
        """See Observer."""

    def visited(self, kind: str, vendor: str, outcome: str, seconds: float) -> None:
        """See Observer."""

    def drifted(self, kind: str, vendor: str, fields: Iterable[str]) -> None:
        """See Observer."""

    def probed(self, kind: str, vendor: str, seconds: float, *, passed: bool) -> None:
        """Nobody counts."""

    def checked(self, kind: str, vendor: str, verdict: str) -> None:
        """Nobody counts."""


@dataclass
class _Stopped:
    """The changes that were stopped at the door, by object."""

    records: dict[Key, ChangeRecord] = field(default_factory=dict)

    def write(self, record: ChangeRecord) -> None:
        if record.outcome == Refused.__name__:
            self.records[record.subject] = record


@dataclass
class DraftCluster:
    """Objects as they will be; what a visit writes stays in here. Secrets are only read."""

    identity: str
    subjects: dict[Key, Subject]
    read_secret: SecretReader = field(repr=False)

    def now(self) -> str:
        return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")

    def find(self, key: Key) -> Subject | None:
        return self.subjects.get(key)

    def select(self, kind: str, namespace: str, labels: Mapping[str, str]) -> list[Subject]:
        found = (s for k, s in self.subjects.items() if (k.kind, k.namespace) == (kind, namespace))
        return sorted((s for s in found if labels.items() <= s.labels.items()), key=lambda s: s.key)

    def users(self, connection: Key) -> list[Key]:
        return []

    def tally(self, namespace: str) -> Tally:
        return Tally(s for kind in PRICED for s in self.select(kind, namespace, {}))

    @property
    def shared(self) -> bool:
        return False

    async def read_all(self, kind: str, namespace: str) -> list[Subject]:
        return self.select(kind, namespace, {})

    async def exists(self, subject: Subject) -> bool:
        return True

    async def secret(self, namespace: str, name: str) -> SecretData | None:
        return await self.read_secret(namespace, name)

    def secret_store(self, namespace: str) -> SecretStore:
        return _ReadSecrets(self.read_secret, namespace)

    async def patch_metadata(
        self,
        subject: Subject,
        *,
        finalizer: bool | None = None,
        annotations: Mapping[str, str | None] | None = None,
    ) -> Subject:
        newest = self._newest(subject)
        merged = {**newest.annotations, **(annotations or {})}
        others = [one for one in newest.finalizers if one != FINALIZER]
        kept = newest.kept if finalizer is None else finalizer
        return self._put(
            replace(
                newest,
                finalizers=[*others, FINALIZER] if kept else others,
                annotations={k: v for k, v in merged.items() if v is not None},
            )
        )

    async def write_status(
        self, subject: Subject, status: JSON, *, unchanged: bool = False
    ) -> Subject:
        return self._put(replace(self._newest(subject), status=status))

    async def publish(
        self, subject: Subject, name: str, data: Mapping[str, str], *, exactly: bool = False
    ) -> None:
        """Outputs go nowhere."""

    async def event(self, subject: Subject, type_: str, reason: str, message: str) -> None:
        """Nobody is told."""

    def _newest(self, subject: Subject) -> Subject:
        if subject.key not in self.subjects:
            raise SubjectGone(str(subject.key))
        return self.subjects[subject.key]

    def _put(self, subject: Subject) -> Subject:
        self.subjects[subject.key] = subject
        return subject


@dataclass(frozen=True)
class _ReadSecrets:
    reader: SecretReader = field(repr=False)
    namespace: str

    async def read(self, name: str) -> tuple[dict[str, str], str] | None:
        found = await self.reader(self.namespace, name)
        return None if found is None else (found.data, found.version)

    async def write(self, name: str, data: Mapping[str, str], version: str | None) -> str:
        raise Refused(f"a plan only looks, and does not write Secret {self.namespace}/{name}")


class Planner:
    """Finds the plans of objects. Close it when done."""

    def __init__(
        self,
        cluster: DraftCluster,
        providers: Providers,
        *,
        allow_insecure: bool = False,
        lend_identity: bool = False,
        prices: Prices | None = None,
    ) -> None:
        self.cluster = cluster
        self.providers = providers
        self._stopped = _Stopped()
        self.connections = Connections(
            cluster,
            declaration.connectors(providers),
            NoObserver(),
            allow_insecure=allow_insecure,
            lend_identity=lend_identity,
            door=ReadingDoor,
        )
        self._engine = Engine(
            cluster=cluster,
            connections=self.connections,
            providers=providers,
            listings=Listings(),
            observer=NoObserver(),
            changes=self._stopped,
            probes=NoProbes(),
            prices=prices or Prices(),
            measures=NoMeasures(),
        )

    async def close(self) -> None:
        """Close every connection."""
        await self.connections.close()

    async def plans(self, keys: Iterable[Key]) -> list[Plan]:
        """What would be done about each object; those that others depend on are looked at first."""
        order = list(keys)
        found: dict[Key, Plan] = {}
        room = asyncio.Semaphore(AT_ONCE)

        async def one(key: Key) -> None:
            async with room:
                found[key] = await self.plan(key)

        waiting = order
        while waiting:
            await asyncio.gather(*(one(key) for key in waiting))
            left = [key for key in waiting if found[key].reason == Reason.DEPENDENCY_NOT_READY]
            if len(left) == len(waiting):
                break
            waiting = left
        return [found[key] for key in order]

    async def plan(self, key: Key) -> Plan:
        """What the next visit of an object of the draft would do."""
        subject = self.cluster.subjects[key]
        vendor = declaration.vendor_of(key.kind, subject.spec, self.providers)
        verdict = await self._visited(subject)
        after = self.cluster.subjects.get(key)
        if verdict.gone or after is None:
            message = "it is let go; what is at the vendor stays there, or is gone already"
            return Plan(key, vendor, Action.NONE, verdict.outcome, message)
        stopped = self._stopped.records.pop(key, None)
        plan = self._told(after, vendor, verdict) if stopped is None else _step(stopped, after)
        if plan.action in (Action.UPDATE, Action.ADOPT):
            # What it is changed into can be referred to as it is now.
            self.cluster.subjects[key] = replace(after, status=_ready(after))
        return plan

    async def _visited(self, subject: Subject) -> Verdict:
        spec = {**subject.spec, "approval": Approval.ALWAYS.value}
        annotations = {k: v for k, v in subject.annotations.items() if k != APPROVE}
        draft = replace(subject, spec=spec, annotations=annotations)
        self.cluster.subjects[subject.key] = draft
        verdict = Verdict(Reason.INTERNAL_ERROR)
        for _ in range(MOST_ROUNDS):
            before = self.cluster.subjects[subject.key]
            verdict = await reconcile.visit(self._engine, before)
            after = self.cluster.subjects.get(subject.key)
            forgotten = "id" in before.status and after is not None and "id" not in after.status
            if verdict.outcome != Reason.PROGRESSING or not forgotten:
                break
        return verdict

    @staticmethod
    def _told(subject: Subject, vendor: str | None, verdict: Verdict) -> Plan:
        status: Mapping[str, Any] = subject.status
        condition = subject.condition("Ready") or {}
        reason, message = condition.get("reason", ""), condition.get("message", "")
        if reason != verdict.outcome:
            # The visit was cut short, and what the status says is older.
            words = "the cluster does not answer, or does not let the Secrets be read"
            return Plan(subject.key, vendor, Action.FAIL, verdict.outcome, words)
        plan = status.get("plan") or {}
        action = _ACTIONS.get(reason, Action.FAIL)
        if reason == Reason.AWAITING_APPROVAL:
            action, message = _PLANNED.get(plan["action"], Action.UPDATE), ""
        return Plan(
            key=subject.key,
            vendor=vendor,
            action=action,
            reason=reason,
            message=message,
            id=status.get("id"),
            url=status.get("url"),
            changes=tuple(plan.get("changes") or ()) if message == "" else (),
            drift=tuple(status.get("drift") or ()),
            cost=status.get("cost"),
        )


def _step(stopped: ChangeRecord, subject: Subject) -> Plan:
    """What needs no approval, and was stopped at the door."""
    return Plan(
        key=stopped.subject,
        vendor=stopped.vendor,
        action=_PLANNED.get(stopped.action, Action.UPDATE),
        reason=Reason.PROGRESSING,
        message="",
        id=stopped.id,
        url=subject.status.get("url"),
        changes=tuple({"field": shown} for shown in stopped.fields),
        cost=subject.status.get("cost"),
    )


_PLANNED: Final[Mapping[str, Action]] = {
    "Create": Action.CREATE,
    "Update": Action.UPDATE,
    "Adopt": Action.ADOPT,
    "Delete": Action.DELETE,
    "Cancel": Action.DELETE,
}
_ACTIONS: Final[Mapping[str, Action]] = {
    Reason.READY: Action.NONE,
    Reason.OBSERVED: Action.NONE,
    Reason.DRIFTED: Action.NONE,
    Reason.SUSPENDED: Action.NONE,
    Reason.EXPIRED: Action.NONE,
    Reason.PROBE_FAILING: Action.NONE,
    Reason.ROLLING_OUT: Action.WAIT,
    Reason.PROGRESSING: Action.WAIT,
    Reason.DELETING: Action.WAIT,
    Reason.DEPENDENCY_NOT_READY: Action.WAIT,
}
"""What the reasons mean that a visit ends with where nothing waits for approval."""


def _ready(subject: Subject) -> JSON:
    condition = {**(subject.condition("Ready") or {}), "status": "True"}
    return {
        **subject.status,
        "observedGeneration": subject.generation,
        "conditions": [condition],
    }
