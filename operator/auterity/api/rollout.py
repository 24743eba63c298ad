"""Kinds that have revisions: how a new one takes over, how it is probed, what is told of it."""

from enum import StrEnum
from itertools import pairwise
from typing import Annotated, ClassVar, Final, Literal, Self

from pydantic import Field, model_validator

from auterity.api.cost import Priced, PricedStatus
from auterity.api.fields import ENGINE, GOVERNS, Duration, Keyed, Model, Rule, Text

UNTIL_APPROVED: Final = "UntilApproved"
MOST_STEPS: Final = 20
MOST_CHECKS: Final = 8
ALL: Final = 100
RATE: Final = "Rate"
"""What the names of metrics end in that are percents of the requests."""
LONGEST_CONTENT: Final = 8192
"""Longest revision that the status remembers; a longer one cannot be rolled back to."""

Pause = Annotated[
    str,
    Field(max_length=32, pattern=rf"^({UNTIL_APPROVED}|([0-9]+(\.[0-9]+)?(ms|s|m|h))+)$"),
]
"""A duration such as `10m`, or UntilApproved."""
RevisionName = Annotated[str, Field(min_length=1, max_length=63)]


class Strategy(StrEnum):
    """How a new revision takes over."""

    ROLLING = "Rolling"
    CANARY = "Canary"
    BLUE_GREEN = "BlueGreen"


class Promotion(StrEnum):
    """What the last step to all of the traffic needs besides its pause."""

    AUTOMATIC = "Automatic"
    APPROVAL = "Approval"
    PROBE = "Probe"


class Metric(StrEnum):
    """What the vendor's own monitoring tells of a revision."""

    ERROR_RATE = "ErrorRate"
    """Percent of the requests that were answered with a status of 500 or more."""
    CLIENT_ERROR_RATE = "ClientErrorRate"
    """Percent of the requests that were answered with a status of 400 to 499."""
    LATENCY_P50 = "LatencyP50"
    """Milliseconds within which half of the requests were answered."""
    LATENCY_P90 = "LatencyP90"
    LATENCY_P95 = "LatencyP95"
    LATENCY_P99 = "LatencyP99"

    @property
    def is_rate(self) -> bool:
        """Whether it is in percent of the requests; else it is in milliseconds."""
        return self.value.endswith(RATE)


STATUS_CLASSES: Final = {Metric.ERROR_RATE: "5", Metric.CLIENT_ERROR_RATE: "4"}
"""What the statuses begin with that each rate is about."""


class Check(Model):
    """A figure of the vendor's own monitoring that a new revision has to keep to."""

    rules = (
        Rule(
            "has(self.max) || has(self.maxIncrease)",
            "a check needs max, maxIncrease, or both",
        ),
        Rule(
            f"!self.metric.endsWith('{RATE}') || !has(self.max) || self.max <= {ALL}.0",
            f"max: a rate is in percent, and never more than {ALL}",
            ".max",
        ),
    )

    metric: Metric
    """What is measured. ErrorRate: percent of the requests that were answered with a status of 500
    or more. ClientErrorRate: of 400 to 499. LatencyP50, LatencyP90, LatencyP95, LatencyP99:
    milliseconds within which so many percent of the requests were answered, as the vendor measures
    them. Not every vendor tells each of them: see its page."""
    max: Annotated[float, Field(ge=0, le=86_400_000)] | None = None
    """At most this much: percent for a rate, milliseconds for a latency."""
    max_increase: Annotated[float, Field(ge=0, le=100_000)] | None = None
    """At most so much more than the revision that served before, in the same time: percentage
    points for a rate, percent for a latency. Asked at steps where both get traffic."""

    @model_validator(mode="after")
    def _says_something(self) -> Self:
        if self.max is None and self.max_increase is None:
            raise ValueError("a check needs max, maxIncrease, or both")
        if self.metric.is_rate and (self.max or 0) > ALL:
            raise ValueError(f"max: a rate is in percent, and never more than {ALL}")
        return self


class CanaryStep(Model):
    """A share of the traffic that the new revision gets, and how long it stays at that."""

    weight: Annotated[int, Field(ge=1, le=100)]
    """Percent of the traffic; all other traffic stays with the revision that served before."""
    pause: Pause | None = None
    """How long to stay at it: a duration such as 10m, or UntilApproved: until the plan in status is
    approved. As soon as the traffic has moved, if left out."""


class Rollout(Model):
    """How a new revision takes over from the one that serves."""

    rules = (
        Rule(
            "self.strategy != 'Canary' || has(self.steps)",
            "steps: strategy Canary needs at least one step",
            ".strategy",
        ),
        Rule(
            "self.strategy == 'Canary' || !has(self.steps)",
            "steps are for strategy Canary only",
            ".steps",
        ),
        Rule(
            "!has(self.steps) || (self.steps.map(s, s.weight).isSorted() && "
            "self.steps.all(s, self.steps.exists_one(o, o.weight == s.weight)))",
            "steps: the weight must grow from step to step",
            ".steps",
        ),
        Rule(
            "self.strategy == 'BlueGreen' || !has(self.preview)",
            "preview is for strategy BlueGreen only",
            ".preview",
        ),
        Rule(
            "self.strategy != 'Rolling' || !has(self.checks)",
            "checks are for strategies Canary and BlueGreen",
            ".checks",
        ),
        Rule(
            "self.strategy != 'BlueGreen' || !has(self.checks) || self.checks.all(c, has(c.max))",
            "checks: with BlueGreen, where two never share the traffic, each needs max",
            ".checks",
        ),
    )

    strategy: Strategy = Strategy.ROLLING
    """Rolling: the vendor's own way of replacing what serves, or the shortest one. Canary: the
    traffic moves in steps. BlueGreen: the new revision stands beside the old one without traffic
    (see preview), then gets all of it at once."""
    steps: Annotated[list[CanaryStep] | None, Field(min_length=1, max_length=MOST_STEPS)] = None
    """The steps of a Canary, with growing weights; after the last one all traffic moves."""
    preview: Pause | None = None
    """BlueGreen: how long the new revision is left without traffic once it is ready: a duration, or
    UntilApproved."""
    keep_old: Duration | None = None
    """How long the old revision is kept after all traffic has moved, to go back to it at once if
    the probe or a check fails. Not at all if left out, or until the checks have passed; a Rolling
    that the vendor does itself ignores it."""
    promotion: Promotion = Promotion.AUTOMATIC
    """What moving all of the traffic needs besides the pauses. Automatic: nothing. Approval: that
    the plan in status is approved. Probe: that spec.probe has passed at every step. Checks gate it
    in any case."""
    checks: Annotated[
        list[Check] | None, Keyed("metric"), Field(min_length=1, max_length=MOST_CHECKS)
    ] = None
    """What the vendor's own monitoring has to say of the new revision, with any promotion: at every
    step with traffic, the last one included, before it is left. Where autoRollback is on, a check
    that fails goes back: rates as soon as there are enough requests, latencies once the window is
    full."""
    window: Duration = "5m"
    """The time that checks are about, in whole minutes: a step is left when they have passed over
    the last so many minutes of it. So it takes at least as long, and a few minutes more until the
    vendor tells them."""
    min_requests: Annotated[int, Field(ge=1, le=1_000_000)] = 20
    """With fewer requests in the window, checks say nothing: the step is not left, nor gone back
    from."""
    auto_rollback: bool = True
    """Go back to the revision that served before if the new one fails, or its probe or a check
    does. The same revision is not tried again until the spec changes. If false, the rollout stops
    where it is."""
    revision_history_limit: Annotated[int, Field(ge=0, le=10)] = 3
    """How many earlier revisions are remembered in status, to go back to by rollbackTo."""
    rollback_to: RevisionName | None = None
    """Serve this earlier revision of status.rollout.history at once, instead of what the spec says,
    as long as this is set. What makes no revision, such as scaling, is taken from the spec."""

    @model_validator(mode="after")
    def _in_order(self) -> Self:
        if (self.strategy is Strategy.CANARY) != (self.steps is not None):
            raise ValueError("steps belong to strategy Canary, which needs at least one")
        if any(one.weight >= next_.weight for one, next_ in pairwise(self.steps or ())):
            raise ValueError("steps: the weight must grow from step to step")
        if self.preview is not None and self.strategy is not Strategy.BLUE_GREEN:
            raise ValueError("preview is for strategy BlueGreen only")
        return self

    @model_validator(mode="after")
    def _checked(self) -> Self:
        metrics = [one.metric for one in self.checks or ()]
        if metrics and self.strategy is Strategy.ROLLING:
            raise ValueError("checks are for strategies Canary and BlueGreen")
        if len(set(metrics)) < len(metrics):
            raise ValueError("checks: each metric can be checked once")
        if self.strategy is Strategy.BLUE_GREEN and any(c.max is None for c in self.checks or ()):
            raise ValueError(
                "checks: with BlueGreen, where two never share the traffic, each needs max"
            )
        return self


class JsonValue(Model):
    """A value within a JSON answer."""

    path: Annotated[str, Field(min_length=1, max_length=253, pattern=r"^[^.\s]+(\.[^.\s]+)*$")]
    """Where it stands: names and indices joined by dots, such as predictions.0.label."""
    value: Text
    """What it must be; numbers, true, false and null as JSON writes them."""


class Expectation(Model):
    """What an answer must be."""

    status: Annotated[int, Field(ge=100, le=599)] = 200
    """HTTP status."""
    json_value: Annotated[JsonValue | None, Field(alias="json")] = None
    """A value in the body."""


class Probe(Model):
    """A request that tells whether it serves as it should."""

    path: Text | None = None
    """Path below the endpoint's address, where the vendor has more than one."""
    body: Annotated[str, Field(max_length=16384)] | None = None
    """Body of the request; with one it is a POST, without one a GET where the vendor has both."""
    content_type: Annotated[str, Field(min_length=1, max_length=128)] = "application/json"
    """Media type of the body."""
    expect: Expectation = Field(default_factory=Expectation)
    """What the answer must be."""
    within: Duration = "10s"
    """How long the answer may take."""
    interval: Duration = "5m"
    """How often it is asked, with a look at the vendor; also at every step of a rollout."""
    failures: Annotated[int, Field(ge=1, le=10)] = 3
    """How many failures in a row make it count as failing."""


class Revisioned(Priced):
    """Base of the portable models of kinds that have revisions."""

    rules: ClassVar[tuple[Rule, ...]] = (
        Rule(
            "!has(self.rollout) || self.rollout.promotion != 'Probe' || has(self.probe)",
            "rollout.promotion: Probe needs spec.probe",
            ".rollout.promotion",
        ),
    )

    revision: Annotated[str, ENGINE] = ""
    """The name of the revision that these params make, derived from what they say."""
    rollout: Annotated[Rollout, GOVERNS] = Field(default_factory=Rollout)
    """How a new revision takes over from the one that serves."""
    probe: Annotated[Probe | None, GOVERNS] = None
    """A request that is sent after every step of a rollout and on its interval."""

    @model_validator(mode="after")
    def _probed(self) -> Self:
        if self.rollout.promotion is Promotion.PROBE and self.probe is None:
            raise ValueError("rollout.promotion: Probe needs spec.probe")
        return self


class RevisionStatus(Model):
    """A revision at the vendor."""

    name: RevisionName
    """Its name."""
    weight: int
    """Percent of the traffic that it gets."""
    phase: Annotated[str, Field(max_length=32)]
    """Ready, Pending, Failed or Deleting."""


class EarlierRevision(Model):
    """A revision that can be rolled back to."""

    name: RevisionName
    """Its name, for spec.rollout.rollbackTo."""
    content: Annotated[str, Field(max_length=LONGEST_CONTENT)]
    """What it says, as JSON."""


class FailedRevision(Model):
    """A revision that was gone back from."""

    name: RevisionName
    """Its name."""
    generation: int
    """The generation of the spec that asked for it: another one is tried again."""
    message: Annotated[str, Field(max_length=1024)]
    """Why."""


class MeasuredFigure(Model):
    """What a check has found."""

    metric: Metric
    """What was measured."""
    value: float
    """Of the new revision: percent for a rate, milliseconds for a latency."""
    stable: float | None = None
    """Of the revision that served before, if it was compared with."""


class ChecksStatus(Model):
    """What the checks of a rollout have said last."""

    verdict: Literal["Passing", "Failing"]
    """Whether the step may be left."""
    message: Annotated[str, Field(max_length=512)] = ""
    """What is wrong."""
    weight: int
    """Percent of the traffic that it had."""
    requests: int
    """How many requests it is about."""
    figures: Annotated[list[MeasuredFigure], Keyed("metric"), Field(max_length=MOST_CHECKS)] = (
        Field(default_factory=list)
    )
    """What was measured when the verdict was found."""


class RolloutStatus(Model):
    """Where a rollout stands."""

    phase: Literal[
        "Progressing",
        "Paused",
        "Measuring",
        "AwaitingApproval",
        "RollingBack",
        "RolledBack",
        "Complete",
    ]
    """What it is doing."""
    revision: RevisionName
    """The revision that the spec asks for."""
    stable: RevisionName | None = None
    """The revision that is gone back to; the same as revision once it is complete."""
    weights: Annotated[list[int] | None, Field(max_length=MOST_STEPS + 2)] = None
    """The weights of the new revision, step by step."""
    step: int | None = None
    """Number of the step that it is at or on its way to; 0 is the new revision without traffic."""
    since: Annotated[str, Field(max_length=32)] | None = None
    """When it reached the step; not there on the way to it."""
    failed: FailedRevision | None = None
    """The revision that was gone back from."""
    checks: ChecksStatus | None = None
    """What its checks have said at the step that it is at, or at the last one; not there until
    they have said something."""
    revisions: Annotated[list[RevisionStatus], Keyed("name"), Field(max_length=32)] = Field(
        default_factory=list
    )
    """What the vendor has."""
    history: Annotated[list[EarlierRevision], Keyed("name"), Field(max_length=11)] = Field(
        default_factory=list
    )
    """Revisions that have served, the newest first."""


class ProbeStatus(Model):
    """What the probe says."""

    verdict: Literal["Passing", "Failing"]
    """Whether it serves as it should."""
    message: Annotated[str, Field(max_length=512)] = ""
    """What was wrong when it began to fail."""


class RevisionedStatus(PricedStatus):
    """The truth about an integration that has revisions."""

    rollout: RolloutStatus | None = None
    """Where its rollout stands, and what can be rolled back to."""
    probe: ProbeStatus | None = None
    """What its probe says."""
