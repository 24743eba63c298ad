"""The reconcile loop's one step: a visit, and what becomes of its failures."""

import logging
from time import monotonic

from auterity.engine import declared as declaration
from auterity.engine import remove
from auterity.engine.calls import Trail, trail
from auterity.engine.cluster import ClusterUnavailable, SubjectGone
from auterity.engine.conditions import Reason, reason_of
from auterity.engine.errors import (
    Busy,
    Conflict,
    DependencyNotReady,
    Failure,
    Rejected,
    Throttled,
    Unauthorized,
)
from auterity.engine.expiry import Expiry
from auterity.engine.keep import Keep
from auterity.engine.limits import SHORT_PAUSE
from auterity.engine.redaction import frames_of, private, words_of
from auterity.engine.subject import Subject
from auterity.engine.verdict import Again, Verdict
from auterity.engine.visit import Engine, Visit

log = logging.getLogger("auterity.engine")
EDIT, CHECK = 0, 1
"""Priorities of vendor calls: edits by people go before drift checks."""


async def visit(engine: Engine, subject: Subject, *, urgent: bool = True) -> Verdict:
    """Look at the newest object and the vendor's present state, decide, act, tell.

    Never raises but on cancellation: a failure becomes a condition. Safe to repeat at any time.
    """
    start = monotonic()
    here = trail.set(Trail(priority=EDIT if urgent or subject.deleting else CHECK))
    it = Visit(engine, subject, urgent=urgent)
    verdict = Verdict(Reason.INTERNAL_ERROR, Again.RETRY)
    try:
        with private():
            try:
                verdict = await _guarded(it)
            except SubjectGone:
                await remove.take_back(it)
                verdict = Verdict(Reason.DELETING, gone=True)
    except ClusterUnavailable as error:
        log.warning("visit cut short: %s", error, extra={"object": str(subject.key)})
    finally:
        trail.reset(here)
        if it.opened is not None:
            engine.connections.release(it.opened)
        if verdict.gone:
            engine.probes.forget(subject.uid)
            engine.measures.forget(subject.uid)
        vendor = declaration.vendor_of(subject.key.kind, subject.spec, engine.providers)
        engine.observer.visited(
            subject.key.kind, vendor or "none", verdict.outcome, monotonic() - start
        )
    return verdict


async def _guarded(it: Visit) -> Verdict:
    try:
        return await _run(it)
    except Failure as failure:
        return await _failed(it, failure)
    except (SubjectGone, ClusterUnavailable):
        raise
    except Exception as error:  # noqa: BLE001 - a bug must not end the loop
        # The traceback may quote values: only its frames are logged, and the hidden message.
        log.error(  # noqa: TRY400 - a logged traceback may quote secrets
            "visit failed: %s: %s",
            type(error).__name__,
            words_of(error),
            extra={"object": str(it.subject.key), "frames": frames_of(error)},
        )
        return await it.settle(
            Reason.INTERNAL_ERROR,
            f"A bug in the operator ({type(error).__name__}); its log has the details",
            again=Again.RETRY,
        )


async def _run(it: Visit) -> Verdict:
    subject = it.subject
    if subject.deleting:
        return await remove.finalize(it)
    declared = declaration.read(subject, it.engine.providers)
    it.declared = declared
    if declared.common.suspend:
        before = subject.condition("Ready")
        ready = {"True": True, "False": False}.get((before or {}).get("status", ""))
        return await it.settle(
            Reason.SUSPENDED,
            "spec.suspend is true: the vendor is left alone",
            ready=ready,
            again=Again.NEVER,
            settled=True,
        )
    expiry = Expiry.of(declared.common.ttl, subject.created_at, it.cluster.now())
    if expiry.passed:
        return await remove.expire(it, declared)
    return await Keep(it, declared, expiry).run()


async def _failed(it: Visit, failure: Failure) -> Verdict:
    reason = reason_of(failure)
    it.status.pop("plan", None)
    if isinstance(failure, Throttled):
        return await _throttled(it, failure)
    if isinstance(failure, Unauthorized):
        if it.opened is not None:
            it.engine.connections.doubt(it.opened.key)
        return await it.settle(reason, failure.message)
    if isinstance(failure, Rejected | Conflict):
        return await it.settle(reason, failure.message)
    if isinstance(failure, Busy):
        return await it.settle(reason, failure.message, again=Again.POLL)
    if isinstance(failure, DependencyNotReady):
        return await it.settle(reason, failure.message)
    return await it.settle(reason, failure.message, again=Again.RETRY)


async def _throttled(it: Visit, failure: Throttled) -> Verdict:
    after = failure.retry_after or 30.0
    if _soon_over(it, after):
        return Verdict(Reason.RATE_LIMITED, Again.AFTER, after, it.waits)
    return await it.settle(Reason.RATE_LIMITED, failure.message, after=after)


def _soon_over(it: Visit, after: float) -> bool:
    """Whether there is nothing to tell: it takes a moment, and calls go through meanwhile.

    Two writes an object, that it waits and that it no longer does, would cost more than the wait.
    """
    if it.opened is None or after > SHORT_PAUSE or it.status != it.subject.status:
        return False
    budget = it.engine.connections.budgets.get(it.opened.key)
    return budget is not None and budget.rate >= 1.0
