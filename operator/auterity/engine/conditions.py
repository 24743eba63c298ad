"""Conditions as kstatus, Argo CD and Flux read them, and the reasons they can have."""

from collections.abc import Iterable
from enum import StrEnum
from typing import Final

from auterity.engine.errors import (
    Busy,
    Conflict,
    DependencyNotReady,
    Failure,
    Rejected,
    Throttled,
    Unauthorized,
    Unavailable,
)
from auterity.engine.subject import JSON, Subject

LONGEST_MESSAGE: Final = 1024
LONGEST_REQUEST: Final = 128
"""What is echoed of a request for a visit."""


class Reason(StrEnum):
    """Why an object is or isn't ready. The text after each is its documentation."""

    READY = "Ready"
    """The vendor has what the spec says."""
    OBSERVED = "Observed"
    """Policy Observe: the object exists and is only read."""
    DRIFTED = "Drifted"
    """The vendor's side was changed by someone else, and driftPolicy is Report."""
    SUSPENDED = "Suspended"
    """spec.suspend is true: the vendor is left alone."""
    PROGRESSING = "Progressing"
    """The vendor is still working on it."""
    ROLLING_OUT = "RollingOut"
    """A new revision is on its way: see status.rollout."""
    ROLLED_BACK = "RolledBack"
    """A new revision failed, and the one before serves again: see status.rollout. Edit the spec to
    try again."""
    PROBE_FAILING = "ProbeFailing"
    """It exists as the spec says, but spec.probe says that it does not serve as it should."""
    AWAITING_APPROVAL = "AwaitingApproval"
    """A plan waits for approval: see status.plan."""
    ADOPTING = "Adopting"
    """What exists is about to be taken over: see status.plan."""
    DELETING = "Deleting"
    """It is being deleted at the vendor."""
    IN_USE = "InUse"
    """A connection cannot go away before the integrations that use it."""
    EXPIRED = "Expired"
    """spec.ttl has passed, and it was deleted at the vendor."""
    DEPENDENCY_NOT_READY = "DependencyNotReady"
    """A connection, Secret or reference is missing or not ready."""
    PROVIDER_UNAVAILABLE = "ProviderUnavailable"
    """The vendor does not answer, or not sensibly; tried again with growing delay."""
    RATE_LIMITED = "RateLimited"
    """The vendor asked for fewer calls; the connection is paused until it allows more."""
    CREDENTIALS_REJECTED = "CredentialsRejected"
    """The vendor refuses the credentials, or what they may do. New ones are tried at once."""
    SPEC_REJECTED = "SpecRejected"
    """The vendor or the engine refuses what the spec asks for. Edit it."""
    OVER_BUDGET = "OverBudget"
    """It would cost more by the hour than spec.budget or a Budget of its namespace allows, so
    nothing is made or changed; of a Budget: what it is about costs more."""
    CONFLICT = "Conflict"
    """Something of that name exists and is not ours. A person decides."""
    PROVIDER_FAILED = "ProviderFailed"
    """The object is broken at the vendor."""
    NOT_FOUND = "NotFound"
    """There is no such object at the vendor, and by policy Observe or driftPolicy Report it is
    not made."""
    INTERNAL_ERROR = "InternalError"
    """A bug in the operator; its log has the details. Tried again with growing delay."""


STALLED: Final = frozenset(
    {
        Reason.CREDENTIALS_REJECTED,
        Reason.SPEC_REJECTED,
        Reason.OVER_BUDGET,
        Reason.CONFLICT,
        Reason.PROVIDER_FAILED,
        Reason.NOT_FOUND,
        Reason.EXPIRED,
        Reason.ROLLED_BACK,
    }
)
"""Reasons that only a person can mend."""

_REASONS: Final[tuple[tuple[type[Failure], Reason], ...]] = (
    (Unavailable, Reason.PROVIDER_UNAVAILABLE),
    (Throttled, Reason.RATE_LIMITED),
    (Unauthorized, Reason.CREDENTIALS_REJECTED),
    (Rejected, Reason.SPEC_REJECTED),
    (Conflict, Reason.CONFLICT),
    (Busy, Reason.PROGRESSING),
    (DependencyNotReady, Reason.DEPENDENCY_NOT_READY),
)


def reason_of(failure: Failure) -> Reason:
    """The reason that a failure shows as."""
    return next((r for cls, r in _REASONS if isinstance(failure, cls)), Reason.INTERNAL_ERROR)


def conditioned(  # noqa: PLR0913 - the parts of a condition
    subject: Subject,
    *,
    ready: bool | None,
    reason: Reason,
    message: str,
    generation: int,
    now: str,
    requested: str | None = None,
    settled: bool = False,
) -> JSON:
    """The part of a status that every kind has: what was looked at, and what came of it.

    `requested` is the request for a visit that is handled by this, if there was one.
    """
    status: JSON = {
        "observedGeneration": generation,
        "conditions": conditions(
            subject.status.get("conditions") or (),
            ready=ready,
            reason=reason,
            message=message,
            generation=generation,
            now=now,
            settled=settled,
        ),
    }
    if requested is not None:
        status["lastHandledReconcileAt"] = requested[:LONGEST_REQUEST]
    return status


def cut(message: str) -> str:
    """A message as long as a condition takes it."""
    return message if len(message) <= LONGEST_MESSAGE else message[: LONGEST_MESSAGE - 1] + "…"


def conditions(  # noqa: PLR0913 - the parts of a condition
    previous: Iterable[JSON],
    *,
    ready: bool | None,
    reason: Reason,
    message: str,
    generation: int,
    now: str,
    settled: bool = False,
) -> list[JSON]:
    """The new list of conditions.

    Ready is always there; Stalled while only a person can help; Reconciling while the engine is
    at work or will try again (unless `settled`). `lastTransitionTime` is kept where the status of
    a condition did not change, so that an unchanged object gives an unchanged list.
    """
    before = {c["type"]: c for c in previous}
    message = cut(message)

    def condition(type_: str, status: str) -> JSON:
        old = before.get(type_)
        same = old is not None and old.get("status") == status
        return {
            "type": type_,
            "status": status,
            "reason": str(reason),
            "message": message,
            "observedGeneration": generation,
            "lastTransitionTime": old["lastTransitionTime"] if same and old else now,
        }

    status = "Unknown" if ready is None else str(ready)
    result = [condition("Ready", status)]
    if not ready and not settled:
        result.append(condition("Stalled" if reason in STALLED else "Reconciling", "True"))
    return result
