"""What the engine needs of the cluster; `runtime/` implements it."""

from collections.abc import Iterable, Mapping
from typing import Protocol

from auterity.engine.calls import CallObserver
from auterity.engine.changelog import ChangeRecord
from auterity.engine.contract import SecretStore
from auterity.engine.subject import JSON, Key, SecretData, Subject
from auterity.engine.tally import Tally


class ClusterUnavailable(Exception):  # noqa: N818 - named by what is the matter
    """The Kubernetes API did not answer, or refused; the visit is to be repeated."""


class SubjectGone(Exception):  # noqa: N818 - named by what is the matter
    """The object that was to be written no longer exists."""


class Cluster(Protocol):
    """The Kubernetes API as the engine sees it. Every write returns the newest object.

    Raises ClusterUnavailable where the API cannot be reached, SubjectGone where it says so.
    """

    identity: str
    """Tells this cluster from others in marks at vendors."""

    def now(self) -> str:
        """The time, as RFC 3339 in UTC to the second."""

    def find(self, key: Key) -> Subject | None:
        """The newest known object of ours with this key."""

    def select(self, kind: str, namespace: str, labels: Mapping[str, str]) -> list[Subject]:
        """Objects of ours that carry all these labels."""

    def users(self, connection: Key) -> list[Key]:
        """The integrations that use a connection, those being deleted included."""

    def tally(self, namespace: str) -> Tally:
        """What the integrations of a namespace take of its budgets."""

    @property
    def shared(self) -> bool:
        """Whether others may write what is not known here yet: there are several replicas."""

    async def read_all(self, kind: str, namespace: str) -> list[Subject]:
        """Every object of a kind, with all that was written before this was asked."""

    async def exists(self, subject: Subject) -> bool:
        """Whether this very object is still there: not from memory."""

    async def secret(self, namespace: str, name: str) -> SecretData | None:
        """Read a Secret."""

    def secret_store(self, namespace: str) -> SecretStore:
        """The Secrets of a namespace, for vendors whose configuration lives in one."""

    async def patch_metadata(
        self,
        subject: Subject,
        *,
        finalizer: bool | None = None,
        annotations: Mapping[str, str | None] | None = None,
    ) -> Subject:
        """Add (True) or drop (False) our finalizer and set or remove (None) annotations."""

    async def write_status(
        self, subject: Subject, status: JSON, *, unchanged: bool = False
    ) -> Subject:
        """Replace the status; only if the object is still `unchanged`, when that is asked for.

        Raises ClusterUnavailable if it is not.
        """

    async def publish(
        self, subject: Subject, name: str, data: Mapping[str, str], *, exactly: bool = False
    ) -> None:
        """Write a Secret owned by the subject; nothing is written if it already says so.

        Other keys are left, unless it is to have `exactly` these. Raises Conflict if a Secret of
        that name belongs to someone else.
        """

    async def event(self, subject: Subject, type_: str, reason: str, message: str) -> None:
        """Record an Event (`Normal` or `Warning`); never raises."""


class Observer(CallObserver, Protocol):
    """Told what happens, for metrics."""

    def visited(self, kind: str, vendor: str, outcome: str, seconds: float) -> None:
        """A visit has ended."""

    def drifted(self, kind: str, vendor: str, fields: Iterable[str]) -> None:
        """A visit found drift."""

    def probed(self, kind: str, vendor: str, seconds: float, *, passed: bool) -> None:
        """A probe was answered, or not."""

    def checked(self, kind: str, vendor: str, verdict: str) -> None:
        """The checks of a rollout were asked: Passing, Unsure or Failing."""


class ChangeLog(Protocol):
    """Keeps a record of every change made at a vendor."""

    def write(self, record: ChangeRecord) -> None:
        """Append a record."""
