"""Annotations and finalizer that are part of the user's contract."""

from typing import Final

from auterity.api import GROUP

REQUESTED_AT: Final = f"{GROUP}/requestedAt"
"""Any new value asks for a visit now; echoed in status.lastHandledReconcileAt."""
APPROVE: Final = f"{GROUP}/approve"
"""The hash of the plan that a person approves."""
FORGET: Final = f"{GROUP}/forget"
"""`true`: on deletion, let go of the object without any call to the vendor."""
CREATE_PENDING: Final = f"{GROUP}/create-pending"
"""Written before a create whose outcome could be lost; removed when the id is known."""
FINALIZER: Final = f"{GROUP}/finalizer"
"""Keeps the object until the vendor's side is settled."""
