"""Visits of kinds without a vendor: what they have in common."""

from abc import ABC, abstractmethod
from typing import Final, Generic, TypeVar

from pydantic import ValidationError

from auterity.api.annotations import REQUESTED_AT
from auterity.api.fields import Model
from auterity.api.kinds import LOCAL
from auterity.engine.cluster import Cluster
from auterity.engine.conditions import Reason, conditioned
from auterity.engine.declared import first_problem
from auterity.engine.subject import JSON, Subject
from auterity.engine.verdict import Again, Verdict, Waits

S = TypeVar("S", bound=Model)
CHECKED_EVERY: Final = 600.0
"""Seconds between two looks where nothing happens."""


class LocalVisit(ABC, Generic[S]):
    """One visit of one object of a kind without a vendor. Safe to repeat at any time."""

    def __init__(self, cluster: Cluster, subject: Subject) -> None:
        self.cluster, self.subject = cluster, subject
        self.status: JSON = dict(subject.status)
        """A draft: what `told` writes."""
        self.waits: set[Waits] = set()

    @abstractmethod
    async def run(self, spec: S) -> Verdict:
        """Look, decide, and end by `told`."""

    async def visit(self) -> Verdict:
        """The whole visit, that of an object that is being deleted or cannot be read included."""
        subject = self.subject
        if subject.deleting:
            # Nothing is left behind: what it has made goes with its owner.
            if subject.kept:
                await self.cluster.patch_metadata(subject, finalizer=False)
            return Verdict(Reason.DELETING, gone=True)
        try:
            spec = LOCAL[subject.key.kind].spec.model_validate(subject.spec)
        except ValidationError as error:
            problem = first_problem(error, ["spec"])
            return await self.told(Reason.SPEC_REJECTED, problem, ready=False)
        return await self.run(spec)  # type: ignore[arg-type]  # LOCAL has the model of the kind

    async def told(
        self,
        reason: Reason,
        message: str,
        *,
        ready: bool | None,
        wait: float | None = CHECKED_EVERY,
    ) -> Verdict:
        """End the visit: write the status if it changed, say when to look again."""
        subject = self.subject
        status = {
            **self.status,
            **conditioned(
                subject,
                ready=ready,
                reason=reason,
                message=message,
                generation=subject.generation,
                now=self.cluster.now(),
                requested=subject.annotations.get(REQUESTED_AT),
                settled=reason is Reason.SUSPENDED,
            ),
        }
        if status != subject.status:
            await self.cluster.write_status(subject, status)
        if reason is Reason.SUSPENDED:
            return Verdict(reason, Again.NEVER)
        # A little late rather than a little early, whatever the jitter: too early is for nothing.
        after = CHECKED_EVERY if wait is None else min(wait / 0.9 + 0.1, CHECKED_EVERY)
        return Verdict(reason, Again.AFTER, after, frozenset(self.waits))
