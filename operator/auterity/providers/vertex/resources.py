"""What a deployed model runs on: machines, replicas, and what their number follows."""

from typing import Any, Final

from auterity.api.model_deployment import Scaling, ScalingTarget
from auterity.engine.errors import Rejected
from auterity.providers.vertex.params import RequestLogging, VertexEndpointParams
from auterity.transport.google import JSON

METRICS: Final = {
    "CPUUtilization": "aiplatform.googleapis.com/prediction/online/cpu/utilization",
    "AcceleratorUtilization": "aiplatform.googleapis.com/prediction/online/accelerator/duty_cycle",
    "InvocationsPerReplica": "aiplatform.googleapis.com/prediction/online/request_count",
}
NO_ZERO: Final = "Vertex AI does not scale to zero: scaling.min must be 1 or more"


def resources(want: VertexEndpointParams, recommended: JSON) -> JSON:
    """What a deployed model runs on. `recommended` is the machine of Model Garden's recipe."""
    scaled = replicas(want.scaling)
    if machine := _machine(want, recommended):
        dedicated = {"machineSpec": machine, **scaled, **metrics(want.scaling)}
        return {"dedicatedResources": dedicated | ({"spot": True} if want.spot else {})}
    return {"automaticResources": scaled} if "scaling" in want.model_fields_set else {}


def replicas(scaling: Scaling) -> JSON:
    """How many replicas there may be."""
    if scaling.min == 0:
        raise Rejected(NO_ZERO)
    return {"minReplicaCount": scaling.min, "maxReplicaCount": scaling.max or scaling.min}


def metrics(scaling: Scaling) -> JSON:
    """What their number follows."""
    if (target := scaling.target) is None:
        return {}
    if target.metric not in METRICS:
        known = ", ".join(sorted(METRICS))
        raise Rejected(f"scaling.target.metric: Vertex AI knows {known}, not {target.metric}")
    spec = {"metricName": METRICS[target.metric], "target": round(target.value)}
    return {"autoscalingMetricSpecs": [spec]}


def scaling_of(resources: JSON) -> Scaling:
    """The scaling of a deployed model."""
    spec = next(iter(resources.get("autoscalingMetricSpecs", ())), None)
    target = None
    if spec is not None:
        ours = {v: k for k, v in METRICS.items()}
        metric: Any = ours.get(spec["metricName"], spec["metricName"])
        target = ScalingTarget.model_construct(metric=metric, value=float(spec.get("target", 60)))
    least = resources.get("minReplicaCount", 0)
    most = resources.get("maxReplicaCount") or least
    return Scaling.model_construct(min=least, max=most, target=target)


def same_scaling(has: Scaling, want: Scaling) -> bool:
    """Whether nothing is to be changed."""
    wanted = want.target and (want.target.metric, round(want.target.value))
    target = has.target and (has.target.metric, round(has.target.value))
    return (has.min, has.max, target) == (want.min, want.max or want.min, wanted)


def logging_config(want: RequestLogging) -> JSON:
    """Keeping requests, as Vertex AI takes it."""
    return {
        "enabled": True,
        "samplingRate": want.sampling_rate,
        "bigqueryDestination": {"outputUri": want.destination},
    }


def logging_in(told: JSON | None) -> RequestLogging | None:
    """The same as it tells it."""
    if not told or not told.get("enabled"):
        return None
    return RequestLogging.model_construct(
        destination=told.get("bigqueryDestination", {}).get("outputUri"),
        sampling_rate=told.get("samplingRate", 1.0),
    )


def _machine(want: VertexEndpointParams, recommended: JSON) -> JSON:
    machine = dict(recommended)
    if want.hardware and want.hardware != recommended.get("machineType"):
        # Another machine than the recommended one has not its accelerators.
        machine = {"machineType": want.hardware}
    if want.accelerator_type:
        machine["acceleratorType"] = want.accelerator_type
        machine["acceleratorCount"] = want.accelerator_count or 1
    return machine
