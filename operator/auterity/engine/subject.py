"""The integration that a visit is about, as the API server has it."""

from dataclasses import dataclass, field
from typing import Any, NamedTuple

from auterity.api.annotations import FINALIZER

JSON = dict[str, Any]


class Key(NamedTuple):
    """Names one object in the cluster."""

    kind: str
    namespace: str
    name: str

    def __str__(self) -> str:
        return f"{self.kind}/{self.namespace}/{self.name}"


@dataclass(slots=True)
class Subject:
    """An object of ours, trimmed to what the engine looks at."""

    key: Key
    uid: str
    generation: int
    resource_version: str
    created_at: str
    deleting: bool
    labels: dict[str, str]
    annotations: dict[str, str]
    finalizers: list[str]
    spec: JSON
    status: JSON

    @property
    def kept(self) -> bool:
        """Whether our finalizer keeps it."""
        return FINALIZER in self.finalizers

    @property
    def ready(self) -> bool:
        """Whether its Ready condition is True for the newest spec."""
        if self.deleting or self.status.get("observedGeneration") != self.generation:
            return False
        return any(
            c.get("type") == "Ready" and c.get("status") == "True"
            for c in self.status.get("conditions") or ()
        )

    def condition(self, type_: str) -> JSON | None:
        """One of its conditions."""
        for condition in self.status.get("conditions") or ():
            if condition.get("type") == type_:
                return condition  # type: ignore[no-any-return]  # JSON from the API server
        return None


@dataclass(frozen=True, slots=True)
class SecretData:
    """A Secret as read from the cluster."""

    data: dict[str, str] = field(repr=False)
    version: str
    """Changes with the Secret; tells nothing of its content."""
    owner_uid: str | None = None
    """The uid of the object that owns it."""
