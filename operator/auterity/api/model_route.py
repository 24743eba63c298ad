"""ModelRoute: one name for several ModelDeployments, in order of preference."""

from enum import StrEnum
from typing import Annotated, Literal

from pydantic import Field

from auterity.api.common import ConditionedStatus, Outputs
from auterity.api.fields import Duration, Keyed, Model, ObjectName, Text


class Failback(StrEnum):
    """Whether a better candidate is used again once it serves again."""

    AUTOMATIC = "Automatic"
    NEVER = "Never"


class Candidate(Model):
    """A deployment that may be used."""

    name: ObjectName
    """Name of a ModelDeployment in the same namespace."""


class Failover(Model):
    """When another candidate takes over. Both delays keep the route from swinging to and fro."""

    after: Duration = "30s"
    """How long the candidate in use must be out of service before the next one takes over."""
    failback: Failback = Failback.AUTOMATIC
    """Automatic: a candidate that is preferred is used again once it serves again. Never: the one
    in use stays until it is out of service itself."""
    failback_after: Duration = "5m"
    """How long a preferred candidate must have served again before it is used."""


class ModelRouteSpec(Model):
    """Several ModelDeployments, at whatever vendors, for one name: the first that serves is used.

    Its endpoint, with all that its deployment publishes, stands in one Secret and in
    status.outputs, so that those who call the model need not know who serves it.
    """

    candidates: Annotated[list[Candidate], Keyed("name"), Field(min_length=1, max_length=16)]
    """The deployments in order of preference."""
    failover: Failover = Field(default_factory=Failover)
    """When another candidate takes over."""
    outputs: Outputs | None = None
    """The Secret that has the outputs of the candidate in use, and no others."""
    suspend: bool = False
    """Leave the route where it is until set back to false."""


class CandidateStatus(Model):
    """How a candidate is."""

    name: ObjectName
    """Its name."""
    state: Literal["Serving", "Out", "Missing"]
    """Serving: it can be used. Out: it is there and does not serve. Missing: it does not exist, is
    being deleted or was never ready."""
    since: Annotated[str, Field(max_length=32)]
    """Since when."""
    reason: Annotated[str, Field(max_length=64)] | None = None
    """Why it does not serve: the reason of its Ready condition."""


class ModelRouteStatus(ConditionedStatus):
    """The truth about a route."""

    active: ObjectName | None = None
    """The candidate in use."""
    vendor: Annotated[str, Field(max_length=63)] | None = None
    """The vendor of the candidate in use."""
    candidates: Annotated[list[CandidateStatus] | None, Keyed("name"), Field(max_length=16)] = None
    """How each candidate is."""
    outputs: Annotated[dict[str, Text], Field(max_length=64)] | None = None
    """What the candidate in use publishes, apart from secrets."""
