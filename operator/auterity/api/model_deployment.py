"""ModelDeployment: a model served behind an endpoint."""

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from auterity.api.fields import (
    UNVERSIONED,
    Duration,
    Keyed,
    Model,
    OutputRef,
    Resolved,
    Rule,
    ShortText,
    Text,
    Value,
)
from auterity.api.rollout import Revisioned


class ModelRef(OutputRef, Resolved):
    """The model that another integration has made, such as a TuningJob: one of its outputs."""


class ModelSource(Model):
    """Where the model comes from."""

    at_most_one_of = ("artifact", "name", "model_ref")

    image: Text | None = None
    """Container image that serves the model."""
    artifact: Text | None = None
    """Model artifact, such as s3://bucket/model.tar.gz."""
    name: Text | None = None
    """Name of the model in the vendor's registry or catalogue, or on a hub it takes models from."""
    version: Text | None = None
    """Which version of the named model, where the vendor counts them."""
    model_ref: ModelRef | None = None
    """Taken from another integration's outputs; waits until it is ready."""

    @property
    def reference(self) -> str | None:
        """Artifact, name, or what the reference stands for, whichever is given."""
        if self.model_ref is not None:
            return self.model_ref.reveal()
        return self.artifact or self.name

    @classmethod
    def told(cls, reference: str | None, **others: str | None) -> Self:
        """As a vendor tells it: `reference` is compared with whichever of the three is declared.

        Of image and version, those that it tells; None: it has none.
        """
        ref = None
        if reference is not None:
            ref = ModelRef.model_construct(kind="", output="")
            ref.resolve(reference, "")
        told = cls()
        told.artifact = told.name = reference
        told.model_ref = ref
        for name, value in others.items():
            setattr(told, name, value)
        return told


class ScalingTarget(Model):
    """What the number of replicas follows."""

    metric: Literal[
        "InvocationsPerReplica",
        "ConcurrentRequests",
        "CPUUtilization",
        "MemoryUtilization",
        "AcceleratorUtilization",
    ]
    """What is measured: invocations per replica and minute, requests in flight per replica, or
    percent of use."""
    value: Annotated[float, Field(ge=1, le=1_000_000)]
    """The value to keep."""


class Scaling(Model):
    """How many replicas serve the model."""

    rules = (
        Rule("!has(self.max) || !has(self.min) || self.min <= self.max", "min is more than max"),
        Rule(
            "!has(self.target) || (has(self.max) && self.max > 0)",
            "target needs max, the most replicas it may scale to",
            ".target",
        ),
        Rule(
            "!has(self.toZeroAfter) || (has(self.min) && self.min == 0)",
            "toZeroAfter needs min: 0",
            ".toZeroAfter",
        ),
    )

    min: Annotated[int, Field(ge=0, le=1000)] = 1
    """Fewest replicas; 0 where the vendor can scale to zero."""
    max: Annotated[int, Field(ge=1, le=1000)] | None = None
    """Most replicas; the same as min if left out, so that nothing scales."""
    target: ScalingTarget | None = None
    """Scale automatically between min and max."""
    to_zero_after: Duration | None = None
    """Without requests for so long, no replica is kept; needs min: 0."""

    @model_validator(mode="after")
    def _fixed_unless_more_are_allowed(self) -> Self:
        if self.max is None:
            self.max = max(self.min, 1)
        return self


class EnvironmentVariable(Value):
    """An environment variable of the serving container."""

    name: Annotated[str, Field(min_length=1, max_length=256, pattern=r"^[A-Za-z_][A-Za-z0-9_]*$")]
    """Its name."""


class ModelDeployment(Revisioned):
    """A model served behind an endpoint at an AI platform."""

    model: ModelSource
    """The model to serve."""
    hardware: ShortText | None = None
    """Machine type in the vendor's words, such as ml.m5.large."""
    scaling: Annotated[Scaling, UNVERSIONED] = Field(default_factory=Scaling)
    """How many replicas serve it."""
    environment: Annotated[list[EnvironmentVariable], Keyed("name"), Field(max_length=64)] = Field(
        default_factory=list
    )
    """Environment variables of the serving container."""
