"""Whose object at the vendor it is: marks, and what each policy makes of them."""

from enum import StrEnum
from hashlib import sha256
from typing import Final

from auterity.api.common import Policy

LONGEST_MARK: Final = 120
"""What vendors with short tags can carry."""


def mark(cluster: str, namespace: str, name: str) -> str:
    """The mark that an object at a vendor carries: `<cluster>/<namespace>/<name>`.

    No uid, so that it survives a restore of the cluster's objects. Where it would be too long for
    some vendor, its end is replaced by a digest of all of it.
    """
    whole = f"{cluster}/{namespace}/{name}"
    if len(whole) <= LONGEST_MARK:
        return whole
    digest = sha256(whole.encode()).hexdigest()[:16]
    return f"{whole[: LONGEST_MARK - 17]}+{digest}"


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
