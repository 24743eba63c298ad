"""Keeping an integration: what happens on a visit while the object is to exist."""

from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any, Final

from auterity.api.annotations import APPROVE, CREATE_PENDING
from auterity.api.common import DriftPolicy, by_alias
from auterity.api.cost import Priced
from auterity.api.fields import IMMUTABLE, Params
from auterity.api.rollout import Revisioned
from auterity.engine import cost
from auterity.engine.calls import trail
from auterity.engine.cluster import SubjectGone
from auterity.engine.conditions import Reason
from auterity.engine.contract import Observed, Phase, Provider
from auterity.engine.declared import Declared
from auterity.engine.drift import (
    CUT,
    Difference,
    Memory,
    compare,
    fingerprints,
    shared_entries,
    unknown_paths,
)
from auterity.engine.errors import Conflict, Failure, Rejected, Unavailable
from auterity.engine.expiry import Expiry
from auterity.engine.ownership import Claim
from auterity.engine.redaction import hide, remember
from auterity.engine.revisions import Revisions
from auterity.engine.verdict import Again, Verdict
from auterity.engine.visit import Visit

ADOPT_AFTER: Final = 1.0
"""Seconds between showing the plan of a take-over and carrying it out."""
SECOND_STEP_AFTER: Final = 0.5
"""Seconds from a creation to the update that brings what only an existing object can have."""
SHOWN_WITHIN: Final = timedelta(minutes=1)
"""How long a vendor may take to show what it has made, before it counts as gone."""
LONGEST_OUTPUT: Final = 1024
LONGEST_SUMMARY: Final = 512
MOST_WRITTEN: Final = 500
"""Entries of status.written."""
FEWEST_FOR_A_LIST: Final = 4
"""With fewer objects on a connection, reading each costs less than listing all."""


@dataclass(frozen=True, slots=True)
class _Found:
    observed: Observed[Any]
    differences: list[Difference]


class Keep:
    """The visit of an object that is to exist at the vendor."""

    def __init__(self, visit: Visit, declared: Declared, expiry: Expiry) -> None:
        self.visit = visit
        self.subject = visit.subject
        self.declared = declared
        self.want: Params = declared.want
        self._calls_before = 0
        self.expiry = visit.expiry = expiry
        self.revisions: Revisions | None = None
        """Only of kinds that have some."""
        self.left: frozenset[str] = frozenset()
        """Paths that differ by an outside change and are left, by driftPolicy Report."""
        self.memory = Memory(
            owned=frozenset(visit.subject.status.get("owned") or ()),
            written=visit.subject.status.get("written"),
            create_only=tuple(declared.common.create_only),
            vendor=declared.provider.vendor,
            portable=frozenset(declared.kind.params.model_fields),
        )

    async def run(self) -> Verdict:
        """Look at the vendor and act."""
        common = self.declared.common
        if unknown := unknown_paths(type(self.want), self.memory):
            raise Rejected(f"spec.createOnly names no field of this kind: {', '.join(unknown)}")
        provider = await self.visit.connect(self.declared)
        if isinstance(self.want, Revisioned):
            self.revisions = Revisions(self.visit, provider, self.want)
            self.want = self.revisions.want
        self.visit.references.ready(common.depends_on)
        await self.visit.references.resolve(self.want)
        if self.revisions is not None:
            self.want = self.revisions.name()
        if isinstance(self.want, Priced):
            refused = await cost.permit(self.visit, self.declared, self.want)
            if refused is not None:
                return refused
        if (unchanged := await self._unchanged_by_list(provider)) is not None:
            return await self._up_to_date(unchanged)
        observed = await self._read(provider)
        if observed is None:
            return await self._create(provider)
        return await self._decide(provider, observed)

    async def _read(self, provider: Provider[Any, Any]) -> Observed[Any] | None:
        known = self.visit.status.get("id")
        if known is not None and (observed := await provider.read(known)) is not None:
            return observed
        located = await provider.locate(self.want)
        if located is None or located == known:
            return None
        return await provider.read(located)

    async def _unchanged_by_list(self, provider: Provider[Any, Any]) -> _Found | None:
        """What the shared list says, if it shows that there is nothing to do."""
        known, opened = self.visit.status.get("id"), self.visit.opened
        if self.visit.urgent or known is None or opened is None or not provider.lists:
            return None
        if provider.revisions:
            # A rollout must not act upon an old truth.
            return None
        if len(self.visit.cluster.users(opened.key)) < FEWEST_FOR_A_LIST:
            return None
        observed = await self.visit.engine.listings.find(opened.key, provider, known)
        if observed is None or observed.phase is not Phase.READY:
            return None
        claim = self.visit.claim(observed, self.declared, known=True)
        found = _Found(observed, self._compare(observed))
        return found if claim is Claim.MANAGE and not found.differences else None

    def _compare(self, observed: Observed[Any], *, whole: bool = False) -> list[Difference]:
        if self.revisions is not None:
            return self.revisions.compare(observed, self.memory, everything=whole)
        return compare(self.want, observed.actual, self.memory, observed.versions)

    async def _decide(self, provider: Provider[Any, Any], observed: Observed[Any]) -> Verdict:
        known = self.visit.status.get("id") == observed.id or self._create_pending
        claim = self.visit.claim(observed, self.declared, known=known)
        vendor = self.declared.provider.vendor
        if claim is Claim.FOREIGN:
            raise Conflict(
                f"{observed.id} exists at {vendor} and belongs to {observed.owner}; delete or "
                "rename one of the two"
            )
        if claim is Claim.UNKNOWN:
            raise Conflict(
                f"{observed.id} exists at {vendor} and is not ours; to take it over set "
                "spec.policy to Adopt, else choose another spec.externalName"
            )
        self._show(observed)
        if not known and claim is not Claim.MANAGE and not provider.marks_owner:
            # Where nothing can be marked, an id in the status is the proof that it is ours.
            self.visit.status.pop("id", None)
        whole = claim in (Claim.OBSERVE, Claim.ADOPT)
        found = _Found(observed, self._compare(observed, whole=whole))
        if claim is Claim.OBSERVE:
            return await self._observe(found)
        if observed.phase is Phase.DELETING:
            return await self.visit.settle(
                Reason.PROGRESSING,
                observed.message or f"It is being deleted at {vendor}; made anew once it is gone",
                again=Again.POLL,
            )
        if observed.phase is Phase.PENDING:
            return await self._pending(observed)
        if claim is Claim.ADOPT:
            return await self._adopt(provider, found)
        return await self._keep(provider, found)

    async def _observe(self, found: _Found) -> Verdict:
        self.visit.report(found.differences)
        if found.observed.phase is not Phase.READY:
            return await self._not_ready(found.observed)
        return await self.visit.settle(
            Reason.OBSERVED, "It exists; policy Observe: nothing is changed", ready=True
        )

    async def _keep(self, provider: Provider[Any, Any], found: _Found) -> Verdict:
        edited = self.visit.status.get("syncedGeneration") != self.visit.generation
        if self.revisions is not None and self.revisions.under_way:
            edited = True
        differences = found.differences
        if not differences:
            if found.observed.phase is Phase.FAILED:
                self._synced()
                return await self._not_ready(found.observed)
            return await self._up_to_date(found)
        outside = [d for d in differences if not d.edited and (not edited or self._reported(d))]
        if outside and not edited:
            self.visit.engine.observer.drifted(
                self.subject.key.kind, provider.vendor, (d.shown for d in outside)
            )
        if outside and self.declared.common.drift_policy is DriftPolicy.REPORT:
            differences = [d for d in differences if d not in outside]
            if not differences:
                return await self._report(found.observed, outside)
            self.left = frozenset(d.path for d in outside)
        self._refuse_immutable(differences)
        cause = "Spec" if edited or all(d.edited for d in differences) else "Drift"
        return await self._update(provider, found.observed, differences, "Update", cause)

    def _reported(self, difference: Difference) -> bool:
        """Whether it was reported as drift before the edit, and the edit is not about it."""
        if CUT in (difference.want or ""):
            return False
        return self.visit.drift_of(difference) in (self.subject.status.get("drift") or ())

    async def _report(self, observed: Observed[Any], outside: list[Difference]) -> Verdict:
        self.visit.report(outside)
        self._synced()
        if observed.phase is not Phase.READY:
            return await self._not_ready(observed)
        fields = ", ".join(d.shown for d in outside[:5])
        return await self.visit.settle(
            Reason.DRIFTED,
            f"Changed at {self.declared.provider.vendor} by someone else: {fields}; "
            "driftPolicy is Report, so it is left: see status.drift",
            ready=True,
        )

    async def _adopt(self, provider: Provider[Any, Any], found: _Found) -> Verdict:
        self._refuse_immutable(found.differences)
        plan = self.visit.plan("Adopt", found.observed.id, found.differences)
        shown = (self.subject.status.get("plan") or {}).get("hash") == plan.hash
        if not self.visit.approved("Adopt", found.observed.id, found.differences):
            return await self.visit.await_approval()
        if not shown and self.subject.annotations.get(APPROVE) != plan.hash:
            self.visit.status["plan"] = by_alias(plan)
            return await self.visit.settle(
                Reason.ADOPTING,
                f"{found.observed.id} is about to be taken over: see status.plan",
                after=ADOPT_AFTER,
            )
        verdict = await self._update(provider, found.observed, found.differences, "Adopt", "Spec")
        await self.visit.cluster.event(
            self.visit.subject, "Normal", "Adopted", f"Took over {found.observed.id}"
        )
        return verdict

    async def _create(self, provider: Provider[Any, Any]) -> Verdict:
        vendor = provider.vendor
        vanished = self.visit.status.get("id")
        if self.visit.observes:
            self._forget_what_was_shown()
            return await self.visit.settle(
                Reason.NOT_FOUND, f"There is no {self.want.name} at {vendor}; policy is Observe"
            )
        if vanished and (verdict := await self._vanished(provider, vanished)) is not None:
            return verdict
        if self._create_pending and not provider.findable and vanished is None:
            raise Conflict(
                f"an earlier creation at {vendor} may have succeeded without our learning its id; "
                f"look there, and remove the annotation {CREATE_PENDING} if there is nothing"
            )
        self.declared.refuse(self.want)
        if not self.visit.approved("Create", None, self._all_fields):
            return await self.visit.await_approval()
        if vanished:
            await self._tell_vanished(vanished)
        return await self._make(provider)

    async def _vanished(self, provider: Provider[Any, Any], vanished: str) -> Verdict | None:
        """What to do about something that is gone; None if it is to be made anew, now."""
        if self._just_made:
            return await self._not_shown_yet(vanished)
        if self.declared.kind.runs_once:
            return await self._run_vanished(vanished)
        if self.declared.common.drift_policy is DriftPolicy.REPORT:
            return await self.visit.settle(
                Reason.NOT_FOUND,
                f"{vanished} is gone at {provider.vendor}; driftPolicy is Report, so it is not "
                "made anew",
            )
        if not await self.visit.cluster.exists(self.visit.subject):
            # Let go of by another replica, and we have not heard of it.
            raise SubjectGone(str(self.subject.key))
        return await self._forget_vanished(vanished) if _needs_note(provider) else None

    async def _run_vanished(self, vanished: str) -> Verdict:
        vendor = self.declared.provider.vendor
        cost.end(self.visit)
        if self.visit.status.get("completed"):
            return await self.visit.settle(
                Reason.READY, f"It has ended, and {vendor} no longer shows it", ready=True
            )
        return await self.visit.settle(
            Reason.NOT_FOUND,
            f"{vanished} is gone at {vendor} before its end was seen; a run is not repeated: "
            "declare another one to run again",
        )

    def _refuse_too_many(self) -> None:
        """Before anything is written: a status that remembers more would be refused."""
        if (count := len(fingerprints(self.want, {}))) > MOST_WRITTEN:
            raise Rejected(
                f"it has {count} values that are looked up or can never be read back, and no more "
                f"than {MOST_WRITTEN} can be remembered; divide them among several objects"
            )

    async def _make(self, provider: Provider[Any, Any]) -> Verdict:
        self._refuse_too_many()
        await self._refuse_foreign_secret()
        noted = self._create_pending
        await self._hold(creating=provider)
        try:
            cause = "Drift" if "syncedGeneration" in self.visit.status else "Spec"
            async with self.visit.change("Create", cause, None):
                answer = await provider.create(self.want, self.visit.owner)
        except Failure as failure:
            if not noted and self._create_pending and self._surely_not_made(provider, failure):
                await self._drop_note()
            if not isinstance(failure, Conflict):
                raise
            # It exists by now, or did before and was not shown: whose it is, its mark tells.
            if (existing := await self._read(provider)) is None:
                raise
            return await self._decide(provider, existing)
        return await self._created(provider, answer)

    async def _created(self, provider: Provider[Any, Any], answer: Observed[Any] | str) -> Verdict:
        if isinstance(answer, Observed):
            id, observed = answer.id, answer
        else:
            id, observed = answer, None
        self.visit.made = (provider, id)
        self.visit.status["id"] = id
        self.visit.status.pop("drift", None)
        self._remember_entries()
        if observed is not None and observed.secrets:
            self._show(observed)
            await self._publish(observed)
        if observed is None:
            observed = await provider.read(id)
        return await self._after_writing(provider, id, observed, created=True)

    async def _update(
        self,
        provider: Provider[Any, Any],
        observed: Observed[Any],
        differences: list[Difference],
        action: str,
        cause: str,
    ) -> Verdict:
        if differences:
            self.declared.refuse(self.want, named=True)
            self._refuse_too_many()
        if not self.visit.approved(action, observed.id, differences):
            return await self.visit.await_approval()
        await self._hold()
        self._remember_entries()
        changed = frozenset(d.path for d in differences if self._by_update(observed, d))
        async with self.visit.change(action, cause, observed.id, differences):
            await provider.update(observed.id, self.want, changed, self.visit.owner)
        if self.visit.opened is not None:
            self.visit.engine.listings.changed(self.visit.opened.key, provider, observed.id)
        now = await provider.read(observed.id)
        verdict = await self._after_writing(provider, observed.id, now, created=False)
        if cause == "Drift" and verdict.again is not Again.RETRY:
            fields = ", ".join(d.shown for d in differences[:5])
            await self.visit.cluster.event(
                self.visit.subject,
                "Normal",
                "DriftReverted",
                f"Someone else had changed {fields} at {provider.vendor}; undone",
            )
        return verdict

    async def _after_writing(
        self,
        provider: Provider[Any, Any],
        id: str,
        observed: Observed[Any] | None,
        *,
        created: bool,
    ) -> Verdict:
        """Read back what was written: the status tells what the vendor has, not what was sent."""
        if observed is None:
            return await self._not_shown_yet(id)
        self._show(observed)
        written = fingerprints(self.want, observed.versions)
        if self.revisions is not None and not created:
            written = self.revisions.written(observed, self.memory.written)
        self._set("written", written)
        self._set("owned", shared_entries(self.want))
        if observed.phase is not Phase.READY:
            # Not synced yet: what still differs once it is ready is the rest of this edit (such as
            # autoscaling, which needs a running endpoint), not a change made by someone else.
            return await self._not_ready(observed)
        self.memory = replace(
            self.memory, owned=frozenset(shared_entries(self.want)), written=written
        )
        left = self._compare(observed)
        if differences := [d for d in left if d.path not in self.left]:
            fields = ", ".join(d.shown for d in differences[:5])
            return await self.visit.settle(
                Reason.PROGRESSING,
                f"{provider.vendor} still answers other values for: {fields}",
                # What a creation leaves open, the first update brings; what an update leaves open
                # the vendor may never take: no hot loop then.
                again=Again.POLL if created else Again.RETRY,
                after=SECOND_STEP_AFTER if created else None,
            )
        if left:
            return await self._report(observed, left)
        return await self._up_to_date(_Found(observed, []))

    async def _not_shown_yet(self, id: str) -> Verdict:
        """Unknown, so that the condition tells how long it has been so."""
        return await self.visit.settle(
            Reason.PROGRESSING,
            f"{self.declared.provider.vendor} does not show {id} yet",
            ready=None,
            again=Again.POLL,
        )

    @property
    def _just_made(self) -> bool:
        ready = self.subject.condition("Ready") or {}
        if (ready.get("status"), ready.get("reason")) != ("Unknown", Reason.PROGRESSING):
            return False
        now = datetime.fromisoformat(self.visit.cluster.now())
        return now - datetime.fromisoformat(ready["lastTransitionTime"]) < SHOWN_WITHIN

    def _by_update(self, observed: Observed[Any], difference: Difference) -> bool:
        return self.revisions is None or self.revisions.by_update(observed, difference)

    async def _up_to_date(self, found: _Found) -> Verdict:
        self._show(found.observed)
        if self.revisions is not None:
            if (verdict := await self.revisions.advance(found.observed)) is not None:
                return verdict
            if (problem := await self.revisions.unwell(found.observed.id)) is not None:
                self._synced()
                return await self.visit.settle(Reason.PROBE_FAILING, f"spec.probe: {problem}")
        self.visit.report(())
        self.visit.status.pop("plan", None)
        self._synced()
        if self.declared.kind.runs_once:
            self.visit.status["completed"] = True
            cost.end(self.visit)
        # Also where a crash kept an earlier visit from remembering what it had written.
        self._set("owned", shared_entries(self.want))
        await self._publish(found.observed)
        if self._create_pending:
            await self._drop_note()
        warning = self.expiry.warning
        before = (self.subject.condition("Ready") or {}).get("message", "")
        if warning and not before.startswith(warning):
            await self.visit.cluster.event(self.visit.subject, "Warning", "Expiring", warning)
        return await self.visit.settle(
            Reason.READY,
            warning or self._all_is_well,
            ready=True,
        )

    @property
    def _all_is_well(self) -> str:
        vendor = self.declared.provider.vendor
        if self.declared.kind.runs_once:
            return f"It has run to its end at {vendor}"
        return f"{vendor} has what the spec says"

    def _synced(self) -> None:
        """The vendor has what the spec says, but for what is only reported."""
        self.visit.status["syncedGeneration"] = self.visit.generation
        cost.give_back(self.visit)
        self.visit.use_approval()

    async def _pending(self, observed: Observed[Any]) -> Verdict:
        self.visit.status.pop("plan", None)
        return await self._not_ready(observed)

    async def _not_ready(self, observed: Observed[Any]) -> Verdict:
        vendor = self.declared.provider.vendor
        if observed.phase is Phase.FAILED:
            if self.declared.kind.runs_once:
                cost.end(self.visit)
            return await self.visit.settle(
                Reason.PROVIDER_FAILED, observed.message or f"It is broken at {vendor}"
            )
        return await self.visit.settle(
            Reason.PROGRESSING,
            observed.message or f"{vendor} is still working on it",
            again=Again.POLL,
        )

    async def _forget_vanished(self, vanished: str) -> Verdict:
        """Before it is made anew: an id in the status must not be older than the note."""
        await self._tell_vanished(vanished)
        if self._create_pending:
            await self._drop_note()
        self._forget_what_was_shown()
        return await self.visit.settle(
            Reason.PROGRESSING,
            f"{vanished} is gone at {self.declared.provider.vendor}; it is made anew",
            again=Again.POLL,
        )

    async def _tell_vanished(self, vanished: str) -> None:
        await self.visit.cluster.event(
            self.visit.subject,
            "Warning",
            "Vanished",
            f"{vanished} is gone at {self.declared.provider.vendor} without our doing; "
            "it is made anew",
        )

    def _surely_not_made(self, provider: Provider[Any, Any], failure: Failure) -> bool:
        """Whether the note of a creation that failed would only stop us, or claim what others make.

        Where it can be found again, a note does no harm but after a conflict.
        """
        if provider.findable and not isinstance(failure, Conflict):
            return False
        here = trail.get()
        made = len(here.calls) - self._calls_before if here else 0
        return made == 0 or (made == 1 and not isinstance(failure, Unavailable))

    async def _drop_note(self) -> None:
        self.visit.subject = await self.visit.cluster.patch_metadata(
            self.visit.subject, annotations={CREATE_PENDING: None}
        )

    async def _hold(self, creating: Provider[Any, Any] | None = None) -> None:
        """Before anything is written: the finalizer, and a note where a loss could not be seen."""
        here = trail.get()
        self._calls_before = len(here.calls) if here else 0
        note = None
        if creating is not None and _needs_note(creating) and not self._create_pending:
            note = {CREATE_PENDING: self.want.name}
        if not self.visit.subject.kept or note:
            self.visit.subject = await self.visit.cluster.patch_metadata(
                self.visit.subject,
                finalizer=None if self.visit.subject.kept else True,
                annotations=note,
            )

    async def _refuse_foreign_secret(self) -> None:
        """Before a creation: what it tells only once must not be lost for want of a place."""
        outputs = self.declared.common.outputs
        if outputs is None:
            return
        found = await self.visit.cluster.secret(self.subject.key.namespace, outputs.secret_name)
        if found is not None and found.owner_uid != self.subject.uid:
            raise Conflict(
                f"Secret {outputs.secret_name!r} exists and was not made by this object; choose "
                "another spec.outputs.secretName"
            )

    async def _publish(self, observed: Observed[Any]) -> None:
        outputs = self.declared.common.outputs
        if outputs is None:
            return
        data = dict(observed.outputs)
        data.update({k: v.get_secret_value() for k, v in observed.secrets.items()})
        await self.visit.cluster.publish(self.visit.subject, outputs.secret_name, data)

    def _show(self, observed: Observed[Any]) -> None:
        for secret in observed.secrets.values():
            remember(secret.get_secret_value())
        self.visit.status["id"] = observed.id
        self._set("url", observed.url)
        # What the API server would refuse must not keep the rest from being told.
        shown = {k: v for k, v in observed.outputs.items() if 0 < len(v) <= LONGEST_OUTPUT}
        self._set("outputs", shown)
        # Hidden before it is cut: half a secret would not be known again.
        told = {k: hide(v)[:LONGEST_SUMMARY] for k, v in observed.summary.items()}
        self._set("summary", told)
        if self.revisions is not None:
            self.revisions.show(observed)

    def _set(self, field: str, value: Any) -> None:
        if value:
            self.visit.status[field] = value
        else:
            self.visit.status.pop(field, None)

    def _forget_what_was_shown(self) -> None:
        for field in ("id", "url", "outputs", "summary", "drift"):
            self.visit.status.pop(field, None)

    def _remember_entries(self) -> None:
        """Ours before they are written, so that a crash in between leaves none behind."""
        owned = sorted({*(self.visit.status.get("owned") or ()), *shared_entries(self.want)})
        self._set("owned", owned)

    def _refuse_immutable(self, differences: list[Difference]) -> None:
        fixed = [d for d in differences if d.has(IMMUTABLE)]
        if fixed:
            told = "; ".join(f"{d.shown} is {d.actual}, not {d.want}" for d in fixed[:5])
            raise Rejected(
                f"it exists at {self.declared.provider.vendor} with values that cannot change: "
                f"{told}; delete it and create it anew, or declare what it has"
            )

    def _all_fields(self) -> list[Difference]:
        empty = type(self.want).seen()
        everything = empty.model_copy(update=dict.fromkeys(type(self.want).model_fields))
        named = Memory(vendor=self.memory.vendor, portable=self.memory.portable)
        return compare(self.want, everything, named, {})

    @property
    def _create_pending(self) -> bool:
        return CREATE_PENDING in self.visit.subject.annotations


def _needs_note(provider: Provider[Any, Any]) -> bool:
    """Whether a creation with a lost answer could not be told from someone else's."""
    return not (provider.marks_owner and provider.findable)
