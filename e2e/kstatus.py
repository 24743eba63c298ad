"""What GitOps tools make of an object: the rules of kstatus for custom resources.

https://github.com/kubernetes-sigs/cli-utils/blob/master/pkg/kstatus/README.md
"""

from enum import StrEnum
from typing import Any


class Kstatus(StrEnum):
    """The states that kstatus knows."""

    CURRENT = "Current"
    IN_PROGRESS = "InProgress"
    FAILED = "Failed"
    TERMINATING = "Terminating"
    NOT_FOUND = "NotFound"


def kstatus(found: dict[str, Any] | None) -> Kstatus:
    """The state of an object as the API server has it (None: it has none)."""
    if found is None:
        return Kstatus.NOT_FOUND
    meta, status = found["metadata"], found.get("status") or {}
    if meta.get("deletionTimestamp"):
        return Kstatus.TERMINATING
    if status.get("observedGeneration", meta["generation"]) != meta["generation"]:
        return Kstatus.IN_PROGRESS
    holds = {c["type"]: c["status"] for c in status.get("conditions") or ()}
    if holds.get("Reconciling") == "True":
        return Kstatus.IN_PROGRESS
    if holds.get("Stalled") == "True":
        return Kstatus.FAILED
    return Kstatus.CURRENT if holds.get("Ready", "True") == "True" else Kstatus.IN_PROGRESS
