"""What every visit has at hand: the object, the provider, a draft of the status, the record."""

import hashlib
import json
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from auterity.api.annotations import APPROVE, REQUESTED_AT
from auterity.api.common import Approval, Change, DriftStatus, PlanStatus, Policy, by_alias
from auterity.api.fields import DESTRUCTIVE, seconds
from auterity.engine import ownership
from auterity.engine.budgets import Grants, Readings
from auterity.engine.calls import trail
from auterity.engine.changelog import ChangeRecord
from auterity.engine.cluster import ChangeLog, Cluster, Observer
from auterity.engine.conditions import STALLED, Reason, conditioned, cut
from auterity.engine.connections import (
    SHORTEST_INTERVAL,
    Connections,
    Opened,
    connection_key,
    mismatch,
)
from auterity.engine.contract import Observed, Provider
from auterity.engine.declared import Declared, Providers
from auterity.engine.drift import CUT, Difference, digest
from auterity.engine.errors import DependencyNotReady, Failure
from auterity.engine.expiry import Expiry
from auterity.engine.listings import Listings
from auterity.engine.measure import Measures
from auterity.engine.prices import Prices
from auterity.engine.probe import Probes
from auterity.engine.redaction import hide
from auterity.engine.references import References
from auterity.engine.subject import JSON, Subject
from auterity.engine.verdict import Again, Verdict, Waits

MOST_SHOWN = 100
"""Most differences that a plan or a drift report shows."""
LONGEST_PATH = 512
LONGEST_APPROVAL = 64
"""Longer than the hash of any plan: the rest of such an annotation need not be remembered."""


@dataclass(frozen=True, slots=True)
class Engine:
    """What all visits share."""

    cluster: Cluster
    connections: Connections
    providers: Providers
    listings: Listings
    observer: Observer
    changes: ChangeLog
    probes: Probes = field(default_factory=Probes)
    prices: Prices = field(default_factory=Prices)
    grants: Grants = field(default_factory=Grants)
    readings: Readings = field(default_factory=Readings)
    measures: Measures = field(default_factory=Measures)


class Visit:
    """One visit of one integration."""

    def __init__(self, engine: Engine, subject: Subject, *, urgent: bool) -> None:
        self.engine = engine
        self.cluster = engine.cluster
        self.subject = subject
        self.generation = subject.generation
        """What this visit is about; `subject` may turn newer by our own writes."""
        self.requested = subject.annotations.get(REQUESTED_AT)
        self.urgent = urgent
        """Caused by an edit or a request, not by the interval."""
        self.references = References(engine.cluster, subject.key.namespace)
        self.declared: Declared | None = None
        self.opened: Opened | None = None
        self.expiry: Expiry | None = None
        self.sooner: float | None = None
        """Seconds until something is due before the interval."""
        self.approval: str | None = None
        """Hash of the plan that a person approved and that is being carried out."""
        self.made: tuple[Provider[Any, Any], str] | None = None
        """What this visit has created, and its id."""
        self.lowered: JSON | None = None
        """What it costs once the vendor has what the spec says, if that is less than before."""
        self.remark: str | None = None
        """What every message of this visit ends with."""
        self.status: JSON = dict(subject.status)
        # Whatever keeps a visit from going so far, what it once asked for is left to others.
        self.status.pop("asking", None)
        self.owner = ownership.mark(
            engine.cluster.identity, subject.key.namespace, subject.key.name
        )

    async def connect(self, declared: Declared) -> Provider[Any, Any]:
        """The provider, over the connection's session.

        Raises DependencyNotReady if there is none, or one to another vendor.
        """
        self.declared = declared
        try:
            self.opened = await self._session(declared)
        except DependencyNotReady:
            ref = declared.common.connection_ref
            self.references.waits.add(Waits(*connection_key(self.subject.key.namespace, ref)))
            raise
        self.engine.connections.hold(self.opened)
        return declared.provider(self.opened.session)

    async def _session(self, declared: Declared) -> Opened:
        ref, needed = declared.common.connection_ref, declared.provider.connection.vendor
        opened = await self.engine.connections.session(
            self.subject.key.namespace, ref, leaving=self.subject.deleting
        )
        if opened.vendor != needed:
            words = mismatch(ref, opened.vendor, declared.provider.vendor, needed)
            raise DependencyNotReady(words)
        return opened

    @property
    def waits(self) -> frozenset[Waits]:
        """What this object is woken by."""
        return frozenset(self.references.waits)

    def claim(self, observed: Observed[Any], declared: Declared, *, known: bool) -> ownership.Claim:
        """What may be done with what was found."""
        return ownership.claim(
            found=observed.owner,
            ours=self.owner,
            known=known,
            marks_owner=declared.provider.marks_owner,
            policy=declared.common.policy,
        )

    def approved(
        self,
        action: str,
        id: str | None,
        changes: list[Difference] | Callable[[], list[Difference]],
    ) -> bool:
        """Whether a plan may be carried out; if not, the draft says what waits for approval.

        `changes` may be a function: most plans need no approval, and then it is never asked.
        """
        assert self.declared is not None  # noqa: S101 - plans are made after reading the spec
        approval = self.declared.common.approval
        if approval is Approval.AUTOMATIC:
            self.status.pop("plan", None)
            return True
        changes = changes() if callable(changes) else changes
        risky = action == "Delete" or (
            action != "Create"
            and any(change.has(DESTRUCTIVE) or change.want is None for change in changes)
        )
        if approval is Approval.DESTRUCTIVE and not risky:
            self.status.pop("plan", None)
            return True
        plan = self.plan(action, id, changes)
        if self.subject.annotations.get(APPROVE) == plan.hash:
            self.approval = plan.hash
            self.status.pop("plan", None)
            return True
        self.status["plan"] = by_alias(plan)
        return False

    def use_approval(self) -> None:
        """What was approved is done: the annotation, which stays, approves nothing else.

        Not before, since an attempt that fails is repeated. And for whatever annotation there is,
        not only for one that this visit has gone by: the visit that did may not have lived to tell.
        """
        if given := self.subject.annotations.get(APPROVE):
            self.status["approved"] = given[:LONGEST_APPROVAL]

    async def await_approval(self) -> Verdict:
        """End the visit: the plan in the draft waits for a person."""
        plan = self.status["plan"]
        return await self.settle(
            Reason.AWAITING_APPROVAL,
            f"{plan['action']} waits for approval: annotate the object with "
            f"{APPROVE}={plan['hash']}",
        )

    def plan(self, action: str, id: str | None, changes: list[Difference]) -> PlanStatus:
        """A plan, with a hash that changes when anything it would do changes."""
        # What is shown leaves out secrets and the ends of long values; the approval is of them too.
        declared = digest(self.declared.want) if self.declared and action != "Delete" else ""
        essence = [action, id, [(c.path, c.want, c.actual) for c in changes], declared]
        essence += [self.subject.uid, self.status.get("approved")]
        hashed = hashlib.sha256(json.dumps(essence).encode()).hexdigest()[:12]
        shown = [Change(field=_path(c), from_=c.actual, to=c.want) for c in changes[:MOST_SHOWN]]
        return PlanStatus(hash=hashed, action=action, changes=shown)

    @asynccontextmanager
    async def change(
        self, action: str, cause: str, id: str | None, changes: Iterable[Difference] = ()
    ) -> AsyncIterator[None]:
        """Enclose a change at the vendor: whatever comes of it goes into the change log."""
        assert self.declared is not None  # noqa: S101 - nothing is changed before
        assert self.opened is not None  # noqa: S101 - nor without a connection
        here = trail.get()
        first = len(here.calls) if here else 0
        outcome, message = "Succeeded", ""
        try:
            yield
        except Failure as failure:
            outcome, message = type(failure).__name__, hide(failure.message)
            raise
        except BaseException as error:
            outcome = type(error).__name__
            raise
        finally:
            calls = here.calls[first:] if here else []
            self.engine.changes.write(
                ChangeRecord(
                    subject=self.subject.key,
                    uid=self.subject.uid,
                    generation=self.generation,
                    vendor=self.declared.provider.vendor,
                    connection=self.opened.key,
                    action=action,
                    cause=cause,
                    id=id or self.status.get("id"),
                    owner=self.owner,
                    fields=tuple(change.shown for change in changes),
                    request_ids=tuple(c.request_id for c in calls if c.request_id),
                    calls=tuple(f"{c.method} {c.status}" for c in calls),
                    outcome=outcome,
                    message=message,
                    approved=self.approval,
                )
            )

    def report(self, differences: Iterable[Difference]) -> None:
        """Show differences as drift in the draft."""
        shown = [self.drift_of(d) for d in list(differences)[:MOST_SHOWN]]
        if shown:
            self.status["drift"] = shown
        else:
            self.status.pop("drift", None)

    @staticmethod
    def drift_of(difference: Difference) -> JSON:
        """A difference as it stands in status.drift."""
        told = DriftStatus(field=_path(difference), want=difference.want, actual=difference.actual)
        return by_alias(told)

    async def save(self, *, unchanged: bool = False) -> None:
        """Write the draft: what is decided must be known before it is acted upon.

        With `unchanged` only if nobody has written the object since this visit did.
        """
        if self.status != self.subject.status:
            self.subject = await self.cluster.write_status(
                self.subject, dict(self.status), unchanged=unchanged
            )

    async def settle(  # noqa: PLR0913 - the parts of a condition and of a verdict
        self,
        reason: Reason,
        message: str,
        *,
        ready: bool | None = False,
        again: Again = Again.AFTER,
        after: float | None = None,
        settled: bool = False,
    ) -> Verdict:
        """End the visit: write the status if it changed, tell of it, say when to look again."""
        message = message if self.remark is None else f"{message}; {self.remark}"
        # Hidden before it is cut, and cut before it is held against what was told before.
        subject, message = self.subject, cut(hide(message))
        before = subject.condition("Ready") or {}
        status: JSON = {
            **self.status,
            **conditioned(
                subject,
                ready=ready,
                reason=reason,
                message=message,
                generation=self.generation,
                now=self.cluster.now(),
                requested=self.requested,
                settled=settled,
            ),
        }
        if self.declared is not None:
            status["vendor"] = self.declared.provider.vendor
        if status != subject.status:
            self.subject = await self.cluster.write_status(subject, status)
        await self._tell(before, reason, message, ready=ready)
        return Verdict(reason, again, self._seconds(again, after), self.waits)

    async def _tell(
        self, before: JSON, reason: Reason, message: str, *, ready: bool | None
    ) -> None:
        """An Event when a problem begins, changes or ends; none when nothing happens."""
        if (before.get("reason"), before.get("message")) == (reason, message):
            return
        quiet = {
            Reason.PROGRESSING,
            Reason.ROLLING_OUT,
            Reason.DELETING,
            Reason.READY,
            Reason.OBSERVED,
        }
        if reason not in quiet:
            type_ = "Warning" if reason in STALLED or not ready else "Normal"
            await self.cluster.event(self.subject, type_, reason, message)
        elif ready and before.get("reason") not in (None, *quiet):
            await self.cluster.event(self.subject, "Normal", "Recovered", message)

    def _seconds(self, again: Again, after: float | None) -> float:
        if after is not None:
            return after
        if again is Again.POLL and self.declared is not None:
            return self.declared.provider.poll_after
        if self.declared is None:
            return seconds("10m")
        interval = self.declared.common.interval
        due = self.expiry.next_visit(interval) if self.expiry is not None else None
        times = (seconds(interval), due, self.sooner)
        return max(SHORTEST_INTERVAL, min(time for time in times if time is not None))

    @property
    def observes(self) -> bool:
        """Whether nothing may be changed at the vendor."""
        return self.declared is not None and self.declared.common.policy is Policy.OBSERVE


def _path(difference: Difference) -> str:
    """A path as a status can hold it: what is in it may be the vendor's."""
    path = difference.shown
    return path if len(path) <= LONGEST_PATH else path[: LONGEST_PATH - 1] + CUT
