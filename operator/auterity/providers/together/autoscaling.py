"""How many replicas a deployment has, in the words of both sides."""

from collections.abc import Collection, Iterable
from typing import Any, Final

from auterity.api.fields import seconds
from auterity.api.model_deployment import Scaling, ScalingTarget
from auterity.providers.together.params import (
    TogetherDeploymentParams,
    TogetherMetric,
    TogetherScalingPolicy,
    TogetherScalingRules,
)
from auterity.transport.rest import JSON

STOPPED: Final = {"minReplicas": 0, "maxReplicas": 0}
"""Together's way of stopping a deployment."""
TARGETS: Final = {
    "ConcurrentRequests": "inflight_requests",
    "AcceleratorUtilization": "gpu_utilization",
}
"""What `scaling.target` can follow."""
TARGETS_SEEN: Final = {name: metric for metric, name in TARGETS.items()}
KINDS: Final = {
    "active_sessions": "VALUE",
    "cache_hit_rate": "UTILIZATION",
    "decoding_speed": "VALUE",
    "e2e_latency": "VALUE",
    "gpu_utilization": "UTILIZATION",
    "inflight_requests": "AVERAGE_VALUE",
    "throughput_per_replica": "AVERAGE_VALUE",
    "token_utilization": "UTILIZATION",
    "ttft": "VALUE",
}
"""What the target of each metric means; Together has it fixed."""

WINDOWS: Final = {"scale_up_window": "scaleUpWindow", "scale_down_window": "scaleDownWindow"}
RULES: Final = {"scale_up": "scaleUp", "scale_down": "scaleDown"}
SELECT: Final = {
    "Most": "SCALING_POLICY_SELECT_MAX",
    "Least": "SCALING_POLICY_SELECT_MIN",
    "Nothing": "SCALING_POLICY_SELECT_DISABLED",
}
POLICIES: Final = {
    "Replicas": "SCALING_POLICY_TYPE_PODS",
    "Percent": "SCALING_POLICY_TYPE_PERCENT",
}


def autoscaling_of(want: TogetherDeploymentParams) -> JSON:
    """All of it, for a new deployment."""
    metrics = _metrics(want, {}, ["scaling.target", *(f"metrics.{k}" for k in KINDS)])
    body = {
        **_bounds(want),
        "scaleToZeroWindow": _protobuf(want.scaling.to_zero_after),
        "scalingMetrics": metrics,
        **{name: _protobuf(getattr(want, field)) for field, name in WINDOWS.items()},
        **{name: _rules(getattr(want, field)) for field, name in RULES.items()},
    }
    return {name: value for name, value in body.items() if value}


def autoscaling_changes(
    want: TogetherDeploymentParams, has: JSON, changed: Collection[str]
) -> tuple[JSON, list[str]]:
    """What of it has to change, and the update mask: what is named only there is cleared."""
    paths = {path for path in changed if path.partition(".")[0] in ("scaling", "metrics")}
    body: JSON = {}
    if paths & {"scaling.min", "scaling.max", "scaling"}:
        # Both at once: one alone may stand against the other.
        body |= _bounds(want)
    if paths & {"scaling.min", "scaling.to_zero_after", "scaling"}:
        body["scaleToZeroWindow"] = _protobuf(want.scaling.to_zero_after)
    if any(path.startswith(("scaling.target", "metrics.")) for path in paths):
        kept = {one["name"]: one for one in has.get("scalingMetrics") or ()}
        body["scalingMetrics"] = _metrics(want, kept, paths)
    for field, name in WINDOWS.items():
        if field in changed:
            body[name] = _protobuf(getattr(want, field))
    mask = [f"autoscaling.{name}" for name in body]
    for field, name in RULES.items():
        if any(path.partition(".")[0] == field for path in changed):
            rules = body[name] = _rules(getattr(want, field))
            mask += [f"autoscaling.{name}.{part}" for part in rules]
    return {name: value for name, value in body.items() if value is not None}, mask


def scaling_seen(deployment: JSON) -> JSON:
    """The fields that a deployment tells."""
    has = deployment["autoscaling"]
    least, most = has.get("minReplicas") or 0, has.get("maxReplicas") or 0
    window = to_zero_window(deployment)
    metrics = {one["name"]: one for one in has.get("scalingMetrics") or ()}
    scaling: JSON = {"to_zero_after": window, "target": None}
    if not (most == 0 and stops_by_itself(deployment)):
        scaling |= {"min": least, "max": most}
    if window:
        scaling["min"] = 0
    for name in metrics.keys() & TARGETS_SEEN.keys():
        metric: Any = TARGETS_SEEN[name]
        scaling["target"] = ScalingTarget.model_construct(
            metric=metric, value=metrics[name]["target"]
        )
    return {
        "scaling": Scaling.model_construct(set(scaling), **scaling),
        "metrics": [_metric_seen(one) for name, one in metrics.items() if name not in TARGETS_SEEN],
        **{field: has.get(name) for field, name in WINDOWS.items()},
        **{field: _rules_seen(has.get(name) or {}) for field, name in RULES.items()},
    }


def to_zero_window(deployment: JSON) -> str | None:
    """After how long without requests it stops, if it does."""
    window = deployment["autoscaling"].get("scaleToZeroWindow")
    return str(window) if window and seconds(window) else None


def stops_by_itself(deployment: JSON) -> bool:
    """Whether it may have been stopped for want of requests."""
    return bool(to_zero_window(deployment) or deployment.get("inactiveTimeout"))


def _bounds(want: TogetherDeploymentParams) -> JSON:
    # With 0 it would not start at all: that it may stop, the window says.
    return {"minReplicas": want.scaling.min or 1, "maxReplicas": want.scaling.max}


def _metrics(want: TogetherDeploymentParams, kept: JSON, paths: Iterable[str]) -> list[JSON]:
    """The metrics that there are, with those exchanged that the paths name."""
    found = dict(kept)
    for path in paths:
        if path.startswith("scaling.target"):
            found = {name: one for name, one in found.items() if name not in TARGETS_SEEN}
        elif path.startswith("metrics."):
            found.pop(path.split(".")[1], None)
    if want.scaling.target and any(path.startswith("scaling.target") for path in paths):
        name = TARGETS[want.scaling.target.metric]
        found[name] = _metric(name, want.scaling.target.value)
    for one in want.metrics or ():
        if one.name not in found:
            found[one.name] = _metric(one.name, one.target, one.percentile)
    return list(found.values())


def _metric(name: str, target: float, percentile: str | None = None) -> JSON:
    told = {"name": name, "type": f"METRIC_TARGET_TYPE_{KINDS[name]}", "target": target}
    return told | ({"percentile": percentile} if percentile else {})


def _metric_seen(told: JSON) -> TogetherMetric:
    fields = {name: told[name] for name in ("name", "target", "percentile") if name in told}
    return TogetherMetric.model_construct(set(fields), **fields)


def _rules(want: TogetherScalingRules | None) -> JSON:
    """What is declared: the rest stays as it is."""
    rules: JSON = {}
    if want is not None and want.policies is not None:
        rules["policies"] = [
            {
                "type": POLICIES[one.type],
                "value": one.value,
                "periodSeconds": one.period_seconds,
            }
            for one in want.policies
        ]
    if want is not None and want.select is not None:
        rules["selectPolicy"] = SELECT[want.select]
    return rules


def _rules_seen(told: JSON) -> TogetherScalingRules:
    kinds = {word: name for name, word in POLICIES.items()}
    selects = {word: name for name, word in SELECT.items()}
    policies = [
        TogetherScalingPolicy.model_construct(
            type=kinds.get(one["type"], one["type"]),
            value=one["value"],
            period_seconds=one["periodSeconds"],
        )
        for one in told.get("policies") or ()
    ]
    select: Any = selects.get(told.get("selectPolicy", ""))
    return TogetherScalingRules.model_construct(policies=policies, select=select)


def _protobuf(duration: str | None) -> str | None:
    """A duration as protobuf's JSON has it: in seconds."""
    return None if duration is None else f"{seconds(duration):.9f}".rstrip("0").rstrip(".") + "s"
