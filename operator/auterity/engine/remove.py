"""Removing an integration from its vendor: on deletion of the object, or when its ttl ends."""

import logging
from typing import Any

from auterity.api.annotations import CREATE_PENDING, FORGET
from auterity.engine import declared as declaration
from auterity.engine.conditions import Reason
from auterity.engine.contract import Observed, Phase, Provider
from auterity.engine.declared import Declared
from auterity.engine.errors import Conflict, Failure, Rejected
from auterity.engine.ownership import Claim
from auterity.engine.redaction import hide
from auterity.engine.verdict import Again, Verdict
from auterity.engine.visit import Visit

log = logging.getLogger("auterity.engine")
MADE = (
    *("id", "url", "outputs", "summary", "plan", "drift", "owned", "written", "syncedGeneration"),
    *("rollout", "probe", "cost"),
)
"""What the status tells of an object at the vendor."""


async def finalize(visit: Visit) -> Verdict:  # noqa: PLR0911 - one return a way to let go
    """The visit of an object that is being deleted.

    The finalizer is dropped only when the vendor's side is settled: gone, retained by policy, not
    ours, or forgotten on demand. A failure never drops it.
    """
    subject = visit.subject
    if not subject.kept:
        return Verdict(Reason.DELETING, gone=True)
    id = subject.status.get("id")
    if subject.annotations.get(FORGET) == "true":
        left = id or "whatever it may have made"
        return await _let_go(visit, "Forgotten", f"Let go without asking the vendor; left: {left}")
    try:
        declared = declaration.read(subject, visit.engine.providers)
    except Rejected:
        if id is None:
            return await _let_go(visit, "Forgotten", "Its spec was never valid; nothing was made")
        raise
    visit.declared = declared
    if visit.observes:
        return await _let_go(visit)
    if declared.retains and not _may_be_running(visit, declared):
        return await _retain(visit, declared, id)
    provider = await visit.connect(declared)
    observed, known = await _find(visit, declared, provider)
    if observed is None:
        return await _let_go(visit)
    if declared.retains:
        if observed.phase is Phase.PENDING and (
            visit.claim(observed, declared, known=known) is Claim.MANAGE
        ):
            async with visit.change("Cancel", "Deletion", observed.id):
                await provider.cancel(observed.id)
        return await _retain(visit, declared, observed.id)
    return await _remove(visit, declared, provider, observed, known=known)


def _only_a_record(visit: Visit, left: Observed[Any]) -> bool:
    """Whether it is a run that has ended: vendors keep such records, some for ever."""
    runs_once = visit.declared is not None and visit.declared.kind.runs_once
    return runs_once and left.phase in (Phase.READY, Phase.FAILED)


def _may_be_running(visit: Visit, declared: Declared) -> bool:
    """Whether a run may be under way: nobody would be left to stop it, and it costs."""
    made = visit.subject.status.get("id") or visit.subject.kept
    return declared.kind.runs_once and bool(made) and not visit.subject.status.get("completed")


async def _retain(visit: Visit, declared: Declared, id: str | None) -> Verdict:
    left = f"Left at {declared.provider.vendor}: {id}" if id else None
    return await _let_go(visit, "Retained", left)


async def expire(visit: Visit, declared: Declared) -> Verdict:
    """The visit of an object whose ttl has passed: its side at the vendor goes, itself stays."""
    visit.declared = declared
    told = "it was deleted at the vendor"
    if visit.observes:
        told = "it is no longer looked at"
    else:
        provider = await visit.connect(declared)
        observed, known = await _find(visit, declared, provider)
        if observed is not None:
            claim = visit.claim(observed, declared, known=known)
            if claim is Claim.MANAGE:
                verdict = await _delete(visit, provider, observed, "Expiry")
                if verdict is not None:
                    return verdict
            else:
                told = f"{observed.id} is not ours and was left alone"
    for field in MADE:
        visit.status.pop(field, None)
    return await visit.settle(Reason.EXPIRED, f"spec.ttl has passed: {told}", again=Again.NEVER)


async def take_back(visit: Visit) -> None:
    """Delete what this visit has created, since its object was gone by then.

    That takes a memory that is behind, and nobody would ever delete it. An object that goes by the
    same name by now finds it by its mark and keeps it.
    """
    if visit.made is None:
        return
    now = visit.cluster.find(visit.subject.key)
    if now is not None and now.uid != visit.subject.uid:
        return
    provider, id = visit.made
    try:
        async with visit.change("Delete", "Gone", id):
            await provider.delete(id)
    except Failure as failure:
        log.error(  # noqa: TRY400 - the failure says it all
            "%s was made at %s for an object that is gone, and is left there: %s",
            *(id, provider.vendor, hide(failure.message)),
            extra={"object": str(visit.subject.key)},
        )


async def _find(
    visit: Visit, declared: Declared, provider: Provider[Any, Any]
) -> tuple[Observed[Any] | None, bool]:
    """What is still there, and whether we know it to be what this object made."""
    known = visit.subject.status.get("id")
    pending = CREATE_PENDING in visit.subject.annotations
    if known is not None and (observed := await provider.read(known)) is not None:
        return observed, True
    located = await provider.locate(declared.want)
    if located is None or located == known:
        if located is None and known is None and pending and not provider.findable:
            raise Conflict(
                "a creation may have succeeded without our learning its id; look at the vendor, "
                f"then annotate the object with {FORGET}=true"
            )
        return None, False
    return await provider.read(located), pending


async def _remove(
    visit: Visit,
    declared: Declared,
    provider: Provider[Any, Any],
    observed: Observed[Any],
    *,
    known: bool,
) -> Verdict:
    subject = visit.subject
    claim = visit.claim(observed, declared, known=known)
    if claim is not Claim.MANAGE:
        if not known or "syncedGeneration" not in subject.status:
            # Only looked at, or shown as about to be taken over.
            return await _let_go(visit, "LeftAlone", f"{observed.id} is not ours; left alone")
        raise Conflict(
            f"{observed.id} no longer carries our mark, so it is not deleted; delete it by hand, "
            f"or let go of it by the annotation {FORGET}=true"
        )
    visit.status["id"] = observed.id
    if not visit.approved("Delete", observed.id, []):
        return await visit.await_approval()
    verdict = await _delete(visit, provider, observed, "Deletion")
    return verdict or await _let_go(visit)


async def _delete(
    visit: Visit, provider: Provider[Any, Any], observed: Observed[Any], cause: str
) -> Verdict | None:
    """Delete and look; None once it is gone."""
    if observed.phase is not Phase.DELETING:
        async with visit.change("Delete", cause, observed.id):
            await provider.delete(observed.id)
        left = await provider.read(observed.id)
    else:
        left = observed
    if left is None or _only_a_record(visit, left):
        return None
    return await visit.settle(
        Reason.DELETING,
        left.message or f"{provider.vendor} is deleting {observed.id}",
        again=Again.POLL,
    )


async def _let_go(visit: Visit, reason: str | None = None, message: str | None = None) -> Verdict:
    if reason is not None and message is not None:
        await visit.cluster.event(visit.subject, "Normal", reason, message)
    await visit.cluster.patch_metadata(visit.subject, finalizer=False)
    return Verdict(Reason.DELETING, gone=True)
