"""What a stand-in for a vendor, real server or stateful fake, offers the conformance suite."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from copy import deepcopy
from dataclasses import dataclass
from typing import Any, ClassVar

from auterity.engine.calls import reads
from auterity.engine.contract import Provider, SecretStore
from tests.conformance.faults import Spoil
from tests.conformance.meter import Meter

JSON = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Edit:
    """A change of the spec that an update must bring about at the vendor."""

    name: str
    patch: JSON
    """Merged into the spec (JSON merge patch: None removes, a list replaces)."""


@dataclass(frozen=True, slots=True)
class Refusal:
    """A spec that the vendor refuses, and words of its answer that the user must see.

    Or of the provider's objection, which comes first: where all that can be refused is a name.
    """

    patch: JSON
    words: str


class Vendor(ABC):
    """One provider's vendor. One class a provider, in `tests/fakes/<vendor>.py`, found by file.

    HTTP vendors listen on loopback and tell their address by `url`; the suite puts in between what
    injects faults, a proxy unless the stand-in lets its own server do it (`spoiled`), and gives
    the address of that to `connection`. Others (`url` None) get their faults at the door.
    """

    provider: ClassVar[type[Provider[Any, Any]]]
    variant: ClassVar[str] = ""
    """Of a provider of several things that the suite runs over each: which one, but for the first.
    """
    spec: ClassVar[JSON]
    """A whole spec without connectionRef: portable fields, vendor block, and no externalName."""
    edits: ClassVar[Sequence[Edit]] = ()
    """At least one for every mutable part of the spec."""
    immutable: ClassVar[JSON | None] = None
    """A patch of an immutable field, if the provider has any."""
    refusal: ClassVar[Refusal | None] = None
    """A spec that passes the CRD but that the vendor refuses."""
    secrets: ClassVar[dict[str, dict[str, str]]] = {}
    """Secrets (name -> key -> value) that the spec and the connection refer to. Values are random
    looking and at least 12 characters long: the suite searches everything written for them."""
    wrong_secrets: ClassVar[dict[str, dict[str, str]]] = {}
    """Replacements under which the vendor refuses the credentials."""
    rotated_secrets: ClassVar[dict[str, dict[str, str]]] = {}
    """Replacements of secrets in the *spec*: they must reach the vendor by an update."""
    has_pending: ClassVar[bool] = False
    """Whether objects take time: while `slow` is set, new and changed objects stay pending until
    `settle`, and deleted ones stay deleting."""

    fast: ClassVar[bool] = True
    """Whether every fault can be tried at every call. A slow real server, or one that takes many
    calls, gets one fault a call, at some of the calls: see thoroughness.py."""
    takes_time: ClassVar[bool] = False
    """Whether what is under way gets on by itself, in a real server, and not by `settle`."""

    def __init__(self) -> None:
        self.slow = False
        self.url: str | None = None
        self.meter = Meter()
        """What the vendor's monitoring tells, if the provider `measures`."""

    @property
    def violations(self) -> Sequence[object]:
        """Requests so far that broke the vendor's official description."""
        return ()

    @classmethod
    def missing(cls) -> str | None:
        """Why this vendor cannot run here (printed as the reason of the skip), or None."""
        return None

    @abstractmethod
    async def start(self) -> None:
        """Start listening; sets `url` for HTTP vendors."""

    async def spoiled(self, spoil: Spoil) -> str | None:
        """A second URL at which this answers every request; None: only a proxy can do that."""
        return None

    @abstractmethod
    async def stop(self) -> None:
        """Stop and leave nothing behind."""

    @abstractmethod
    async def reset(self) -> None:
        """Forget every object; `slow` is off again."""

    @abstractmethod
    def connection(self, endpoint: str | None) -> JSON:
        """The vendor block of the Connection's spec, with this endpoint (the proxy's)."""

    @abstractmethod
    async def count(self) -> int:
        """How many things exist at the vendor: everything that a leak would leave behind."""

    @abstractmethod
    async def tamper(self, id: str) -> str:
        """Change one declared field of an object as an outsider would; its path below spec."""

    @abstractmethod
    async def vanish(self, id: str) -> None:
        """Delete an object as an outsider would."""

    @abstractmethod
    async def foreign(self, spec: JSON, name: str, owner: str | None) -> None:
        """Make an object as an outsider would, with that owner's mark (None: no mark).

        It has what the spec says, or less; it is found under the same name.
        """

    async def settle(self) -> None:  # noqa: B027 - many vendors have nothing pending
        """Finish everything that is pending."""

    async def break_next_revision(self) -> None:
        """Make the next revision that is added fail, if the provider has revisions."""
        raise NotImplementedError

    def mount(self, secrets: SecretStore) -> None:  # noqa: B027 - few vendors live in a Secret
        """For vendors whose configuration is kept in a Secret: the store that holds it."""

    async def told(self, id: str) -> str:
        """Everything the vendor holds of an object, as text, secrets included.

        Shows that a value really arrived, and that others' entries were left alone.
        """
        raise NotImplementedError

    def written(self, method: str) -> bool:
        """Whether a call, by the door's name for it, changes anything at the vendor."""
        return not reads(method)


def merged(spec: JSON, patch: JSON) -> JSON:
    """The spec with a JSON merge patch applied."""
    result = deepcopy(spec)
    for key, value in patch.items():
        if value is None:
            result.pop(key, None)
        elif isinstance(value, dict) and isinstance(result.get(key), dict):
            result[key] = merged(result[key], value)
        else:
            result[key] = deepcopy(value)
    return result
