"""What Together tells of an endpoint's deployments, in the words of the spec."""

from collections.abc import Mapping
from typing import Any, Final

from auterity.api.model_deployment import ModelSource
from auterity.engine.contract import Phase, Revision
from auterity.providers.together.autoscaling import scaling_seen, stops_by_itself
from auterity.providers.together.params import TogetherDeploymentParams, TogetherPlacement
from auterity.transport.rest import JSON

REMOVED: Final = "removed-"
"""What the names of deployments begin with that are stopped in order to be deleted."""
ALL: Final = 100
VISIBILITY: Final = {"Private": "VISIBILITY_PRIVATE", "Internal": "VISIBILITY_INTERNAL"}
CONSTRAINT: Final = {"Required": "ENFORCEMENT_REQUIRED", "Preferred": "ENFORCEMENT_PREFERRED"}
AT_REST: Final = ("STOPPED", "FAILED")


def revision_of(deployment: JSON, weight: int) -> Revision[TogetherDeploymentParams]:
    """A deployment as a revision."""
    model, _, version = deployment["model"].partition("/revisions/")
    phase, message = _phase(deployment)
    return Revision(
        name=name_of(deployment),
        weight=weight,
        phase=phase,
        message=message,
        actual=TogetherDeploymentParams.seen(
            model=ModelSource.told(model, version=version or None),
            config=deployment["config"],
            placement=_placement_seen(deployment.get("placement")),
            inactive_timeout=deployment.get("inactiveTimeout") or 0,
            **scaling_seen(deployment),
        ),
    )


def _phase(deployment: JSON) -> tuple[Phase, str | None]:
    status, state = deployment["status"], state_of(deployment)
    serving = (status.get("readyReplicas") or 0) > 0
    told = f"deployment {name_of(deployment)} is {state}"
    if status.get("message"):
        told = f"{told}: {status['message']}"
    phase = Phase.PENDING
    if removed(deployment):
        # Once it is at rest it has to be deleted: whatever failed is removed.
        phase = Phase.FAILED if state in AT_REST else Phase.DELETING
    elif state == "FAILED":
        phase = Phase.FAILED
    elif state == "READY" or (state in ("SCALING", "DEGRADED") and serving):
        return Phase.READY, None
    elif state in ("STOPPED", "STOPPING") and (
        stops_by_itself(deployment) or not deployment["autoscaling"].get("maxReplicas")
    ):
        phase = Phase.READY
    return phase, told


def state_of(deployment: JSON) -> str:
    """Its state, such as READY or STOPPED."""
    return str(deployment["status"]["state"]).removeprefix("DEPLOYMENT_STATE_")


def bare(name: str) -> str:
    """A name without project and endpoint, which Together puts before it."""
    return name.rpartition("/")[2]


def name_of(deployment: JSON) -> str:
    """Its name within the endpoint."""
    return bare(deployment["name"])


def removed(deployment: JSON) -> bool:
    """Whether it is stopped in order to be deleted."""
    return name_of(deployment).startswith(REMOVED)


def shadows(deployment: JSON) -> bool:
    """Whether it gets copies of requests only."""
    return bool(deployment["trafficMode"] == "TRAFFIC_MODE_SHADOW")


def percents(weights: Mapping[str, float], ids: list[str]) -> dict[str, int]:
    """Weights of any sum as whole percents that are 100 together, or 0 if nothing has any."""
    held = {id: weights.get(id, 0) for id in ids}
    total = sum(held.values())
    if not total:
        return dict.fromkeys(ids, 0)
    exact = {id: weight * ALL / total for id, weight in held.items()}
    found = {id: int(share) for id, share in exact.items()}
    for id in sorted(ids, key=lambda id: (found[id] - exact[id], id))[: ALL - sum(found.values())]:
        found[id] += 1
    return found


def _placement_seen(told: JSON | None) -> TogetherPlacement | None:
    if not told:
        return None
    if told.get("profile"):
        return TogetherPlacement.model_construct({"profile"}, profile=told["profile"])
    inline = told["inline"]
    by_word = {word: name for name, word in CONSTRAINT.items()}
    fields: dict[str, Any] = {
        "regions": set(inline.get("regions") or ()),
        "hipaa": bool((inline.get("compliancePolicy") or {}).get("hipaa")),
    }
    if inline.get("constraint"):
        fields["constraint"] = by_word.get(inline["constraint"], inline["constraint"])
    return TogetherPlacement.model_construct(set(fields), **fields)
