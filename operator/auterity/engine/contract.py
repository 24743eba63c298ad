"""What a provider is: five verbs; the rest is data. Read this before writing one.

A provider answers *what is there* and *do this*. It never decides, compares, sleeps, retries, logs
or reads Secrets: the engine does. Failures are those of `errors.py`, raised by the transport.
"""

from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import ClassVar, Generic, Protocol, TypeVar

from pydantic import SecretStr

from auterity.api.connection import ConnectionParams
from auterity.api.fields import Params
from auterity.api.rollout import Metric, Probe
from auterity.engine.calls import Door

P = TypeVar("P", bound=Params)
S = TypeVar("S", bound="Session")


class Phase(StrEnum):
    """What the vendor is doing with an object."""

    READY = "Ready"
    PENDING = "Pending"
    """Being created or changed: the engine only looks again, and sends no change."""
    FAILED = "Failed"
    """Broken at the vendor: `message` says why; only an edit or a person can mend it."""
    DELETING = "Deleting"
    """Being deleted: the engine waits until it is gone."""


@dataclass(frozen=True, slots=True)
class Revision(Generic[P]):
    """One of several versions of an object that stand beside each other at the vendor."""

    name: str
    """As `add_revision` got it in `want.revision`, or whatever someone else has called it."""
    weight: int
    """Percent of the traffic that it gets; of all revisions together 100, or 0 if none gets any."""
    actual: P
    """What it has: `params.seen(...)` with the fields that make a revision, and of the fields
    marked UNVERSIONED those that each revision has for itself, such as scaling."""
    phase: Phase = Phase.READY
    """READY: it serves, or would at once. PENDING: still starting, or its weight still moving.
    FAILED: it will not serve; told also where the vendor has thrown it away by itself, until
    `remove_revision` has removed what is left of it."""
    message: str | None = None
    """What the vendor says about the phase. The same text while nothing changes."""


@dataclass(frozen=True, slots=True)
class Observed(Generic[P]):
    """What exists at the vendor."""

    id: str
    """The vendor's own id: what `read`, `update` and `delete` are called with."""
    actual: P
    """What the vendor has, in the desired model's own type: `params.seen(...)`, with the fields
    that the vendor does not tell left out."""
    phase: Phase = Phase.READY
    owner: str | None = None
    """The owner's mark found on it, if any."""
    outputs: Mapping[str, str] = field(default_factory=dict)
    """What others need to use it: endpoint, ids. Shown in status and put into the Secret."""
    secrets: Mapping[str, SecretStr] = field(default_factory=dict)
    """Credentials: only ever put into the Secret."""
    url: str | None = None
    """Where a person looks at it."""
    message: str | None = None
    """What the vendor says about the phase. The same text while nothing changes."""
    summary: Mapping[str, str] = field(default_factory=dict)
    """What to tell at a glance, such as the last run of a pipeline. Changes here are written to
    status, so nothing that moves at every look."""
    versions: Mapping[str, str] = field(default_factory=dict)
    """For write-only fields, by path (such as `secrets.TOKEN`): what the vendor tells about their
    last write, such as a time. Another value than after our own write is drift."""
    revisions: Sequence[Revision[P]] = ()
    """If the provider has `revisions`: all there are. `actual` then has only what belongs to the
    object as a whole (the fields marked UNVERSIONED that are no revision's own), and `phase` is
    PENDING only while nothing at all can be changed, FAILED only if the whole object is broken."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back from a probe, whatever it was."""

    status: int
    """HTTP status, or the one that comes nearest."""
    body: str = ""
    """The body as text; more than 64 KiB of it is of no use."""


@dataclass(frozen=True, slots=True)
class Span:
    """A time that something is measured over: from its start to just before its end, in UTC."""

    start: datetime
    end: datetime


@dataclass(frozen=True, slots=True)
class Measured:
    """What a vendor's monitoring tells of a revision."""

    requests: float = 0
    """How many requests it has answered, failures included."""
    values: Mapping[Metric, float] = field(default_factory=dict)
    """By metric: percent of the requests for a rate, milliseconds for a latency. What the vendor
    does not tell, or not yet, is left out."""


@dataclass(frozen=True, slots=True)
class Billed:
    """Something that is paid for by the hour, whether it is used or not."""

    item: str
    """As the vendor's price list (`auterity/prices/`) names it, such as ml.m5.large."""
    least: float = 1.0
    """How many of it there are at least, such as the fewest replicas."""
    most: float = 1.0
    """How many there may be, such as the most replicas."""


@dataclass(frozen=True, slots=True)
class Identity:
    """Who the credentials belong to."""

    name: str
    """A person's words for it, such as an account and user; never a secret."""
    expires_at: str | None = None
    """RFC 3339 time at which the credentials expire, if the vendor tells."""


class SecretStore(Protocol):
    """Secrets that a vendor's configuration itself is kept in, in the connection's namespace."""

    async def read(self, name: str) -> tuple[dict[str, str], str] | None:
        """The Secret's data, and its version; None if there is no such Secret."""

    async def write(self, name: str, data: Mapping[str, str], version: str | None) -> str:
        """Replace the Secret's data if it still has that version (None: create); the new version.

        Raises Busy if someone else was faster.
        """


@dataclass(frozen=True, slots=True)
class Access:
    """What a connection is opened with."""

    door: Door
    """Every call passes it."""
    secrets: SecretStore
    allow_insecure: bool = False
    """Whether http endpoints are allowed."""
    lends_identity: bool = False
    """Whether the connection may use the operator's own identity (its role or workload identity)
    where it declares no credentials: not for whoever may write a Connection in a namespace."""
    namespace: str = ""


class Session(ABC):
    """An open connection to one vendor account, shared by every provider that uses it."""

    @abstractmethod
    async def verify(self) -> Identity:
        """Ask the vendor, cheaply, who we are. Raises Unauthorized if the credentials are bad."""

    async def close(self) -> None:  # noqa: B027 - most sessions hold nothing
        """Let go of sockets and threads."""


class Connector(ConnectionParams, ABC):
    """A Connection's vendor block that knows how to open a session.

    Declared in `transport/`, or beside the provider if the vendor speaks plain REST.
    """

    @abstractmethod
    async def open(self, access: Access) -> Session:
        """Open a session; secret fields are resolved. Makes no call to the vendor.

        Raises Rejected for a bad endpoint or a missing SDK.
        """


class Provider(ABC, Generic[P, S]):
    """One vendor's way of keeping one kind.

    Each verb makes the vendor's calls and returns; it may be called again at any time after a
    crash, so each must be safe to repeat. Names and ids are deterministic wherever the vendor
    allows, so that a lost answer to `create` can never make a second object.
    """

    kind: ClassVar[str]
    """Kind such as VectorIndex: a key of `auterity.api.kinds.KINDS`."""
    vendor: ClassVar[str]
    """Name of the block in spec, such as pinecone."""
    params: type[P]
    """The kind's portable model with this vendor's fields added."""
    connection: ClassVar[type[Connector]]
    """The vendor block of the Connection that it needs."""
    marks_owner: ClassVar[bool] = True
    """Whether the vendor's object can carry the owner's mark. If not, status.id is the proof."""
    findable: ClassVar[bool] = True
    """Whether `locate` finds what a `create` with a lost answer has made. If not, the engine stops
    for a person after such a loss instead of making a second object."""
    lists: ClassVar[bool] = False
    """Whether `read_all` is implemented: one list then serves every drift check."""
    docs: ClassVar[str] = ""
    """Link to the vendor's API reference."""
    permissions: ClassVar[tuple[str, ...]] = ()
    """The least rights that the credentials need, in the vendor's words."""
    maturity: ClassVar[str] = "alpha"
    proof: ClassVar[str] = ""
    """How it is tested: against which real server, fake or official description."""
    quirks: ClassVar[tuple[str, ...]] = ()
    """What users must know: limits, delays, what the vendor cannot do."""
    revisions: ClassVar[bool] = False
    """Whether the three verbs of revisions are implemented: several revisions can stand beside each
    other behind one address. If not, a new revision is brought by `update`, in the vendor's own
    way; the engine then refuses the strategies that need more."""
    traffic_split: ClassVar[bool] = True
    """If `revisions`: whether two revisions can share the traffic. If not, `set_traffic` is only
    ever asked to give all of it to one, and a Canary is refused."""
    in_place: ClassVar[bool] = False
    """If `revisions`: whether `update` also takes a new revision, in the vendor's own safe way,
    where only one serves (the old one goes on until the new one is healthy, and stays if it never
    is). Strategy Rolling then uses it, since it is shorter than three steps of ours."""
    probes: ClassVar[bool] = False
    """Whether `probe` is implemented."""
    measures: ClassVar[frozenset[Metric]] = frozenset()
    """If `revisions`: what `measure` can tell of each of them. Checks of anything else are
    refused."""
    measured_every: ClassVar[float] = 60.0
    """Seconds that one figure of the vendor's is about: spans begin and end at multiples of it."""
    measured_after: ClassVar[float] = 120.0
    """Seconds after which the vendor tells figures whole: no span ends later than that ago."""
    publishes: ClassVar[tuple[tuple[str, str], ...]] = ()
    """Every output that it may tell, and what it is: `Observed.outputs`, and `Observed.secrets`.
    A part in angle brackets stands for a name, as in `<application>.clientId`."""
    poll_after: ClassVar[float] = 5.0
    """Seconds until a pending object is looked at again; grows to a minute."""

    def __init__(self, session: S) -> None:
        self.session = session

    @classmethod
    def objections(cls, want: P) -> Mapping[str, str]:  # noqa: ARG003 - for those that override it
        """Fields (Python names) that the vendor would refuse, ignore or break at, and why.

        Told at admission, and again before anything is made or changed: no verb need ask. Only what
        is so whatever the vendor's state and what the schema cannot say: above all names, which
        cannot be mended later. Values are not looked up at admission, so none may be revealed.
        """
        return {}

    @classmethod
    def billed(cls, want: P) -> Sequence[Billed] | None:  # noqa: ARG003 - for those that override it
        """What of it is paid for by the hour: for the estimate in status.cost, and for budgets.

        Empty: nothing, since it is paid for by use. None: it cannot be estimated. Also asked at
        admission, when values are not looked up yet: then let LookupError pass.
        """
        return None

    async def locate(self, want: P) -> str | None:
        """The id under which the object would exist, or None if none can be found.

        The default is for vendors where the name is the id. Where ids are the vendor's, find it
        by name and mark. Raises Conflict if several could be meant. Of kinds that run once, only
        what is under way or has succeeded counts: who declares a failed run anew wants a new one.
        """
        return want.name

    @abstractmethod
    async def read(self, id: str) -> Observed[P] | None:
        """What is there under this id; None if nothing is.

        Not None as long as anything is left that `delete` still has to remove.
        """

    def read_all(self) -> AsyncIterator[Observed[P]]:
        """Everything of this kind in the account, page by page (if `lists`).

        Each item is as complete as `read` would tell it.
        """
        raise NotImplementedError

    @abstractmethod
    async def create(self, want: P, owner: str) -> Observed[P] | str:
        """Create it, carrying the owner's mark from the first moment.

        Returns the id, or all that `read` would tell if the vendor's answer has it: that saves a
        call, and is the way to hand over secrets that are shown only once (the engine puts them
        into the outputs Secret before anything else). Raises Conflict if it exists, also after a
        lost answer: the engine then reads and looks at the mark.
        """

    @abstractmethod
    async def update(self, id: str, want: P, changed: frozenset[str], owner: str) -> None:
        """Make the fields in `changed` as wanted, leave all others, and write the owner's mark.

        `changed` has paths by Python names, such as `metric`, `scaling.max`, `tags.team` (a key
        of a map) or `secrets.TOKEN` (an item of a keyed list); an entry that `want` does not have
        is to be removed. Empty: only the mark is to be written (taking over an object).
        """

    @abstractmethod
    async def delete(self, id: str) -> None:
        """Delete it, or go on deleting it; absent is fine. It need not be gone on return.

        Of kinds that run once: stop the run, and delete what it has made and its record, where the
        vendor lets one. A record that stays, of a run that has ended, counts as gone.
        """

    async def cancel(self, id: str) -> None:
        """Stop a run that is under way, and keep what it has made (kinds that run once).

        Absent or ended is fine. Not called for any other kind.
        """
        raise NotImplementedError

    async def add_revision(self, id: str, want: P, owner: str) -> None:
        """Add the revision `want.revision`, made of `want`, beside those that are there.

        It gets no traffic, unless there is no other. One of that name that is there already, or on
        its way, is the same one: nothing is to be done. May take its time: `read` tells it PENDING.
        `create` makes the object with its first revision, `want.revision`, or with none, and then
        this adds it.
        """
        raise NotImplementedError

    async def set_traffic(self, id: str, weights: Mapping[str, int]) -> None:
        """Divide the traffic: percent by revision, all revisions named, together 100."""
        raise NotImplementedError

    async def remove_revision(self, id: str, revision: str) -> None:
        """Remove a revision that gets no traffic, or what is left of it; absent is fine."""
        raise NotImplementedError

    async def probe(self, id: str, request: Probe, revision: str | None) -> Answer:
        """Send a request as a user would: to this revision, or wherever traffic goes (None).

        Whatever the model or function answers is an Answer, refusals and its own failures
        included; raises what `errors.py` has only where the vendor itself is in the way. Where a
        revision cannot be addressed by itself, the answer is whoever's the traffic reaches.
        """
        raise NotImplementedError

    async def measure(
        self, id: str, revision: str, metrics: frozenset[Metric], span: Span
    ) -> Measured:
        """What the vendor's own monitoring tells of the requests that a revision has answered.

        Reads only, and little: it is asked again and again while a rollout waits. Of a revision
        that has answered nothing, or that is not there, it tells no requests.
        """
        raise NotImplementedError
