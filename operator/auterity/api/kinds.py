"""The kinds of integration: their names in Kubernetes and their portable models."""

from dataclasses import dataclass
from typing import Final

from auterity.api.alert_route import AlertRoute
from auterity.api.ci_pipeline_binding import CIPipelineBinding
from auterity.api.common import ConditionedStatus, DeletionPolicy, Status
from auterity.api.cost import BudgetSpec, BudgetStatus, Priced
from auterity.api.fields import Model, Params
from auterity.api.identity_provider import IdentityProvider
from auterity.api.model_deployment import ModelDeployment
from auterity.api.model_route import ModelRouteSpec, ModelRouteStatus
from auterity.api.rollout import RevisionedStatus
from auterity.api.tuning_job import RunStatus, TuningJob
from auterity.api.vector_index import VectorIndex


@dataclass(frozen=True, slots=True)
class Kind:
    """One kind of integration."""

    params: type[Params]
    """The portable fields; its name is the kind's name, its docstring the kind's description."""
    plural: str
    short: str
    holds_data: bool = False
    """Kinds that hold data are retained at the vendor unless told otherwise."""
    runs_once: bool = False
    """Kinds that are a run to an end: never made anew, and stopped when they are let go of."""
    status: type[Status] = Status
    """What the status has; more than usual for kinds that have revisions or run once."""

    @property
    def name(self) -> str:
        """The kind as it stands in manifests, such as VectorIndex."""
        return self.params.__name__

    @property
    def deletion_policy(self) -> DeletionPolicy:
        """What happens at the vendor on deletion if the spec does not say."""
        return DeletionPolicy.RETAIN if self.holds_data else DeletionPolicy.DELETE


@dataclass(frozen=True, slots=True)
class Local:
    """A kind that no vendor holds: it is in the cluster alone, and about integrations there."""

    spec: type[Model]
    """What is wanted; its docstring is the kind's description."""
    status: type[ConditionedStatus]
    plural: str
    short: str
    about: tuple[str, ...]
    """The kinds of integration that it is about: without all of them there is no use for it."""
    columns: tuple[tuple[str, str, str], ...]
    """What `kubectl get` shows of it besides readiness and age: title, path, type."""

    @property
    def name(self) -> str:
        """The kind as it stands in manifests, such as ModelRoute."""
        return self.spec.__name__.removesuffix("Spec")


KINDS: dict[str, Kind] = {
    kind.name: kind
    for kind in (
        Kind(ModelDeployment, "modeldeployments", "mdep", status=RevisionedStatus),
        Kind(TuningJob, "tuningjobs", "tune", holds_data=True, runs_once=True, status=RunStatus),
        Kind(VectorIndex, "vectorindexes", "vidx", holds_data=True),
        Kind(CIPipelineBinding, "cipipelinebindings", "cib"),
        Kind(AlertRoute, "alertroutes", "aroute"),
        Kind(IdentityProvider, "identityproviders", "idp", holds_data=True),
    )
}
"""Every kind of integration by name."""

CONNECTIONS: Final = ("Connection", "ClusterConnection")
"""How vendors are reached: kinds of their own."""
ROUTE: Final = "ModelRoute"
BUDGET: Final = "Budget"
PRICED: Final = tuple(kind.name for kind in KINDS.values() if issubclass(kind.params, Priced))
"""The kinds of integration that may be paid for by the hour."""
LOCAL: Final[dict[str, Local]] = {
    kind.name: kind
    for kind in (
        Local(
            ModelRouteSpec,
            ModelRouteStatus,
            "modelroutes",
            "mroute",
            about=("ModelDeployment",),
            columns=(
                ("Active", ".status.active", "string"),
                ("Vendor", ".status.vendor", "string"),
            ),
        ),
        Local(
            BudgetSpec,
            BudgetStatus,
            "budgets",
            "bud",
            about=PRICED,
            columns=(
                ("Hourly", ".spec.hourly", "number"),
                ("Most", ".status.most", "number"),
                ("Objects", ".status.objects", "integer"),
            ),
        ),
    )
}
"""Every kind without a vendor by name."""
PLURALS: Final = {
    "Connection": "connections",
    "ClusterConnection": "clusterconnections",
    **{kind.name: kind.plural for kind in KINDS.values()},
    **{kind.name: kind.plural for kind in LOCAL.values()},
}
"""The plural of everything that is declared."""
SHORT_NAMES: Final = {
    "Connection": "conn",
    "ClusterConnection": "cconn",
    **{kind.name: kind.short for kind in KINDS.values()},
    **{kind.name: kind.short for kind in LOCAL.values()},
}
"""The short name of everything that is declared."""
