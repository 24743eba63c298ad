"""Whose object at the vendor it is: marks, and what each policy makes of them."""

from enum import StrEnum

from auterity.api.common import Policy


def mark(cluster: str, namespace: str, name: str) -> str:
    """The mark that an object at a vendor carries: `<cluster>/<namespace>/<name>`.

    No uid, so that it survives a restore of the cluster's objects.
    """
    return f"{cluster}/{namespace}/{name}"


class Claim(StrEnum):
    """What may be done with an object found at the vendor."""

    MANAGE = "manage"
    ADOPT = "adopt"
    OBSERVE = "observe"
    FOREIGN = "foreign"
    """It carries another owner's mark."""
    UNKNOWN = "unknown"
    """It carries no mark and is not known to be ours."""


def claim(*, found: str | None, ours: str, known: bool, marks_owner: bool, policy: Policy) -> Claim:
    """Decide by the table of ownership.

    `found` is the mark on the object, `ours` our own, `known` whether the object's id is in our
    status (or was about to be: see the create-pending annotation).
    """
    if policy is Policy.OBSERVE:
        return Claim.OBSERVE
    if found == ours:
        return Claim.MANAGE
    if found is not None:
        return Claim.FOREIGN
    if known and not marks_owner:
        return Claim.MANAGE
    if policy is Policy.ADOPT:
        return Claim.ADOPT
    return Claim.UNKNOWN
