"""ModelDeployment: a model served behind an endpoint."""

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from auterity.api.fields import Keyed, Model, Params, Rule, ShortText, Text, Value


class ModelSource(Model):
    """Where the model comes from."""

    image: Text | None = None
    """Container image that serves the model."""
    artifact: Text | None = None
    """Model artifact, such as s3://bucket/model.tar.gz."""


class ScalingTarget(Model):
    """What the number of replicas follows."""

    metric: Literal["InvocationsPerReplica", "CPUUtilization", "MemoryUtilization"]
    """What is measured: invocations per replica and minute, or percent of use."""
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
    )

    min: Annotated[int, Field(ge=0, le=1000)] = 1
    """Fewest replicas."""
    max: Annotated[int, Field(ge=1, le=1000)] | None = None
    """Most replicas; the same as min if left out, so that nothing scales."""
    target: ScalingTarget | None = None
    """Scale automatically between min and max."""

    @model_validator(mode="after")
    def _fixed_unless_more_are_allowed(self) -> Self:
        if self.max is None:
            self.max = max(self.min, 1)
        return self


class EnvironmentVariable(Value):
    """An environment variable of the serving container."""

    name: Annotated[str, Field(min_length=1, max_length=256, pattern=r"^[A-Za-z_][A-Za-z0-9_]*$")]
    """Its name."""


class ModelDeployment(Params):
    """A model served behind an endpoint at an AI platform."""

    model: ModelSource
    """The model to serve."""
    hardware: ShortText | None = None
    """Machine type in the vendor's words, such as ml.m5.large."""
    scaling: Scaling = Field(default_factory=Scaling)
    """How many replicas serve it."""
    environment: Annotated[list[EnvironmentVariable], Keyed("name"), Field(max_length=64)] = Field(
        default_factory=list
    )
    """Environment variables of the serving container."""
