"""When an object is looked at again."""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum, auto

from auterity.engine.subject import Key


class Again(Enum):
    """How the time of the next visit is reckoned."""

    NEVER = auto()
    """Only when something changes."""
    AFTER = auto()
    """After so many seconds, with jitter."""
    POLL = auto()
    """Soon; the delay grows from so many seconds to a minute while nothing changes."""
    RETRY = auto()
    """With exponential back-off and full jitter."""


@dataclass(frozen=True, slots=True)
class Waits:
    """Something whose change wakes the object: one object, or all of a kind with these labels."""

    kind: str
    namespace: str
    name: str | None = None
    labels: tuple[tuple[str, str], ...] = ()

    def woken_by(self, key: Key, labels: Mapping[str, str]) -> bool:
        """Whether a change of that object is waited for."""
        if (self.kind, self.namespace) != (key.kind, key.namespace):
            return False
        if self.name is not None:
            return self.name == key.name
        return all(labels.get(name) == value for name, value in self.labels)


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a visit came to."""

    outcome: str
    """The reason shown in Ready, for metrics."""
    again: Again = Again.NEVER
    seconds: float = 0.0
    waits: frozenset[Waits] = frozenset()
    gone: bool = False
    """The object has been let go; there is nothing more to look at."""
