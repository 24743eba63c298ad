"""The kinds of integration: their names in Kubernetes and their portable models."""

from dataclasses import dataclass
from typing import Final

from auterity.api.alert_route import AlertRoute
from auterity.api.ci_pipeline_binding import CIPipelineBinding
from auterity.api.common import DeletionPolicy, Status
from auterity.api.fields import Params
from auterity.api.identity_provider import IdentityProvider
from auterity.api.model_deployment import ModelDeployment
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
"""A kind of its own: it has no vendor, and stands before integrations that have."""
PLURALS: Final = {
    "Connection": "connections",
    "ClusterConnection": "clusterconnections",
    **{kind.name: kind.plural for kind in KINDS.values()},
    ROUTE: "modelroutes",
}
"""The plural of everything that is declared."""
SHORT_NAMES: Final = {
    "Connection": "conn",
    "ClusterConnection": "cconn",
    **{kind.name: kind.short for kind in KINDS.values()},
    ROUTE: "mroute",
}
"""The short name of everything that is declared."""
