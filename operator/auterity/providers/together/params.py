"""What users write of a dedicated endpoint at Together AI."""

from typing import Annotated, Literal

from pydantic import Field

from auterity.api.fields import UNVERSIONED, WRITE_ONLY, Duration, Keyed, Model, Rule, ShortText
from auterity.api.model_deployment import ModelDeployment

ConfigName = Annotated[
    str, Field(min_length=1, max_length=256, pattern=r"^projects/[^/]+/configs/[^/]+$")
]
MODEL: str = r"projects/[^/]+/models/[^/]+"


class TogetherPlacement(Model):
    """Where replicas may run."""

    one_of = ("regions", "profile")
    rules = (
        Rule(
            "!has(self.profile) || (!has(self.constraint) && !has(self.hipaa))",
            "constraint and hipaa belong to regions; a profile has its own",
            ".profile",
        ),
    )

    regions: (
        Annotated[
            set[Annotated[str, Field(min_length=1, max_length=63)]],
            Field(min_length=1, max_length=32),
        ]
        | None
    ) = None
    """Names of regions."""
    constraint: Literal["Required", "Preferred"] | None = None
    """Whether replicas may run elsewhere if the regions have no room; Together decides if left
    out."""
    hipaa: bool | None = None
    """Only clusters that are attested for HIPAA."""
    profile: ShortText | None = None
    """UID of a placement profile saved at Together."""


class TogetherMetric(Model):
    """A measurement that the number of replicas follows."""

    name: Literal[
        "active_sessions",
        "cache_hit_rate",
        "decoding_speed",
        "e2e_latency",
        "throughput_per_replica",
        "token_utilization",
        "ttft",
    ]
    """What is measured. For inflight_requests and gpu_utilization see scaling.target, with
    ConcurrentRequests and AcceleratorUtilization."""
    target: Annotated[float, Field(ge=0, le=1_000_000)]
    """The value to keep: percent of rates and utilizations, milliseconds of times."""
    percentile: Literal["p50", "p90", "p95", "p99"] | None = None
    """Which of the requests count, for ttft, decoding_speed and e2e_latency; p95 if left out at
    creation."""


class TogetherScalingPolicy(Model):
    """How many replicas may come or go within a time."""

    type: Literal["Replicas", "Percent"]
    """What value counts: replicas, or percent of those at the start of the time."""
    value: Annotated[int, Field(ge=1, le=1000)]
    """How many."""
    period_seconds: Annotated[int, Field(ge=1, le=1800)]
    """The time."""


class TogetherScalingRules(Model):
    """How fast the number of replicas may change in one direction."""

    policies: Annotated[list[TogetherScalingPolicy] | None, Field(max_length=8)] = None
    """What may change within which time; Together's defaults if left out."""
    select: Literal["Most", "Least", "Nothing"] | None = None
    """Which of the policies counts: the one that allows the most, or the least. With Nothing the
    number does not change in this direction."""


class TogetherDeploymentParams(ModelDeployment):
    """A dedicated endpoint at Together AI; each revision is a deployment of it."""

    config: ConfigName | None = None
    """How the model runs (engine, GPUs, optimization), as projects/<id>/configs/<id>. It may be
    left out where Together has only one for the model."""
    placement: TogetherPlacement | None = None
    """Where replicas may run; anywhere if left out."""
    visibility: Annotated[Literal["Private", "Internal"] | None, UNVERSIONED] = None
    """Who finds the endpoint: Private: the project. Internal: the organization."""
    inactive_timeout: Annotated[Annotated[int, Field(ge=0, le=1440)] | None, UNVERSIONED] = None
    """Minutes without a request after which a deployment stops, 30 to 1440; 0: never."""
    max_concurrent_requests_per_replica: Annotated[
        Annotated[int, Field(ge=0, le=1_000_000)] | None, UNVERSIONED, WRITE_ONLY
    ] = None
    """Most requests in flight at a replica. Together lowers it to what the config allows, so what
    it has is not compared."""
    scale_up_window: Annotated[Duration | None, UNVERSIONED] = None
    """How long more replicas must be called for until they are added."""
    scale_down_window: Annotated[Duration | None, UNVERSIONED] = None
    """How long fewer replicas must be called for until some are removed; 5m if left out at
    creation."""
    scale_up: Annotated[TogetherScalingRules | None, UNVERSIONED] = None
    """How fast replicas are added."""
    scale_down: Annotated[TogetherScalingRules | None, UNVERSIONED] = None
    """How fast replicas are removed."""
    metrics: Annotated[
        list[TogetherMetric] | None, Keyed("name"), Field(max_length=8), UNVERSIONED
    ] = None
    """Measurements besides scaling.target that the number of replicas follows."""
