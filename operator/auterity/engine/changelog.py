"""The change log: who changed what at a vendor, when and why."""

from dataclasses import dataclass, field

from auterity.engine.subject import Key


@dataclass(frozen=True, slots=True)
class ChangeRecord:
    """One mutation at a vendor, whether it succeeded or not. Holds no secret."""

    subject: Key
    uid: str
    generation: int
    vendor: str
    connection: Key
    action: str
    """Create, Update, Adopt or Delete."""
    cause: str
    """Spec (an edit), Drift (an outside change), Deletion, Expiry."""
    id: str | None
    """The vendor's id of the object."""
    owner: str
    fields: tuple[str, ...] = ()
    """Paths of the changed fields below spec."""
    request_ids: tuple[str, ...] = ()
    """The vendor's own ids of the requests."""
    calls: tuple[str, ...] = ()
    """What was called and answered, such as `POST 201`."""
    outcome: str = "Succeeded"
    """Succeeded, or the class of the failure."""
    message: str = ""
    approved: str | None = field(default=None)
    """Hash of the plan that a person approved, if one was needed."""
