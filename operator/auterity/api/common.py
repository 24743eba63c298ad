"""What every integration's spec and status have in common."""

from enum import StrEnum
from typing import Annotated, Any, Literal

from pydantic import Field

from auterity.api.fields import (
    IMMUTABLE,
    Duration,
    Keyed,
    Model,
    ObjectName,
    Reference,
    Text,
)

FieldPath = Annotated[str, Field(min_length=1, max_length=253)]


class Policy(StrEnum):
    """Whose object at the vendor this is."""

    MANAGE = "Manage"
    ADOPT = "Adopt"
    OBSERVE = "Observe"


class DeletionPolicy(StrEnum):
    """What becomes of the object at the vendor when the integration is deleted."""

    DELETE = "Delete"
    RETAIN = "Retain"


class DriftPolicy(StrEnum):
    """What is done about a change made at the vendor by someone else."""

    REVERT = "Revert"
    REPORT = "Report"


class Approval(StrEnum):
    """Which plans wait for a person's approval."""

    AUTOMATIC = "Automatic"
    DESTRUCTIVE = "Destructive"
    ALWAYS = "Always"


class ConnectionRef(Model):
    """The Connection or ClusterConnection that holds endpoint and credentials."""

    kind: Literal["Connection", "ClusterConnection"] = "Connection"
    """Connection (in the same namespace) or ClusterConnection."""
    name: ObjectName
    """Its name."""


class Outputs(Model):
    """Where the outputs go."""

    secret_name: ObjectName
    """A Secret in the same namespace, made and owned by this integration."""


class CommonSpec(Model):
    """The part of a spec that is the same for every kind."""

    connection_ref: ConnectionRef
    """The connection to the vendor."""
    external_name: Annotated[
        Annotated[str, Field(min_length=1, max_length=512)] | None, IMMUTABLE
    ] = None
    """Name at the vendor; the object's own name if left out. Cannot change."""
    policy: Policy = Policy.MANAGE
    """Manage: keep what this object made. Adopt: take over what exists. Observe: only read."""
    deletion_policy: DeletionPolicy | None = None
    """Whether deleting this object deletes at the vendor. Kinds that hold data default to Retain,
    all others to Delete."""
    drift_policy: DriftPolicy = DriftPolicy.REVERT
    """Revert: undo changes made at the vendor. Report: only show them in status.drift."""
    approval: Approval = Approval.AUTOMATIC
    """Automatic: act at once. Destructive: deletions and risky changes wait. Always: every change
    waits. Approve by the annotation integrations.auterity.io/approve with status.plan.hash."""
    interval: Duration = "10m"
    """How often the vendor is checked for drift."""
    suspend: bool = False
    """Leave the vendor alone until set back to false. Deleting the object still works."""
    ttl: Duration | None = None
    """Deleted at the vendor this long after creation, with a warning before."""
    create_only: Annotated[list[FieldPath], Field(max_length=32)] = Field(default_factory=list)
    """Fields (such as scaling.min) that are set at creation and then left to others."""
    depends_on: Annotated[list[Reference], Field(max_length=16)] = Field(default_factory=list)
    """Integrations that must be ready first."""
    outputs: Outputs | None = None
    """Publish endpoint, ids and credentials to a Secret."""


class Change(Model):
    """One field that differs."""

    field: Annotated[str, Field(max_length=512)]
    """Path below spec, such as tags.team."""
    from_: Annotated[str | None, Field(max_length=256, alias="from")] = None
    """The value at the vendor."""
    to: Annotated[str | None, Field(max_length=256)] = None
    """The declared value."""


class PlanStatus(Model):
    """What will be done at the vendor once approved."""

    hash: Annotated[str, Field(max_length=64)]
    """Write this into the annotation integrations.auterity.io/approve."""
    action: Literal["Create", "Update", "Adopt", "Delete", "Promote"]
    """What will be done."""
    changes: Annotated[list[Change], Field(max_length=100)] = Field(default_factory=list)
    """The fields that will change."""


class DriftStatus(Model):
    """A field that differs at the vendor."""

    field: Annotated[str, Field(max_length=512)]
    """Path below spec."""
    want: Annotated[str | None, Field(max_length=256)] = None
    """The declared value."""
    actual: Annotated[str | None, Field(max_length=256)] = None
    """The value at the vendor."""


class Condition(Model):
    """A Kubernetes condition."""

    type: Annotated[str, Field(max_length=64)]
    """Ready, Reconciling or Stalled."""
    status: Literal["True", "False", "Unknown"]
    """Whether it holds."""
    reason: Annotated[str, Field(max_length=64)]
    """Why, in one word."""
    message: Annotated[str, Field(max_length=2048)] = ""
    """Why, for a person."""
    observed_generation: int | None = None
    """The generation of the spec that this is about."""
    last_transition_time: Annotated[str, Field(max_length=32)]
    """When the status last changed."""


class ConditionedStatus(Model):
    """The part of a status that GitOps tools read."""

    observed_generation: int = -1
    """The generation that was last looked at; -1 until the operator has seen the object."""
    conditions: Annotated[list[Condition], Keyed("type"), Field(max_length=8)] = Field(
        default_factory=list
    )
    """Ready, and while they hold Reconciling and Stalled."""
    last_handled_reconcile_at: Annotated[str, Field(max_length=128)] | None = None
    """The last value of the annotation integrations.auterity.io/requestedAt that was handled."""


class Status(ConditionedStatus):
    """The truth about an integration."""

    id: Annotated[str, Field(max_length=2048)] | None = None
    """The vendor's own id."""
    vendor: Annotated[str, Field(max_length=63)] | None = None
    """The vendor."""
    url: Annotated[str, Field(max_length=2048)] | None = None
    """Where a person looks at it."""
    synced_generation: int | None = None
    """The generation of the spec that the vendor last held in full."""
    plan: PlanStatus | None = None
    """What waits for approval or is about to be taken over."""
    approved: Annotated[str, Field(max_length=64)] | None = None
    """The approval that was used last. The next plan's hash depends on it, so that no plan is
    carried out twice by one approval."""
    drift: Annotated[list[DriftStatus], Field(max_length=100)] | None = None
    """What differs at the vendor and is reported, not undone."""
    outputs: Annotated[dict[str, Text], Field(max_length=64)] | None = None
    """Outputs that are not secret."""
    summary: (
        Annotated[dict[str, Annotated[str, Field(max_length=512)]], Field(max_length=32)] | None
    ) = None
    """What the vendor tells about it at a glance, such as the last run of a pipeline."""
    owned: Annotated[list[FieldPath], Field(max_length=500)] | None = None
    """Entries of shared maps that this object has set."""
    written: (
        Annotated[dict[str, Annotated[str, Field(max_length=256)]], Field(max_length=500)] | None
    ) = None
    """For values that the vendor never tells: which version of their source was last written."""


def by_alias(model: Model) -> dict[str, Any]:
    """A status part as it stands in the API: camelCase, nothing that is unset."""
    return model.model_dump(mode="json", by_alias=True, exclude_none=True)
