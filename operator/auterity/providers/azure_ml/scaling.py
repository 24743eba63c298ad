"""How many instances serve a deployment: a fixed number, or autoscaling by Azure Monitor."""

from hashlib import sha256
from typing import Any, Final

from auterity.api.model_deployment import Scaling, ScalingTarget
from auterity.engine.errors import NotFound
from auterity.transport.azure import JSON, OWNER_TAG, AzureSession

VERSION: Final = "2022-10-01"
"""Of the API: the one that azure-mgmt-monitor 7.0 speaks."""
METRICS: Final = {
    "CPUUtilization": "CpuUtilizationPercentage",
    "MemoryUtilization": "MemoryUtilizationPercentage",
    "AcceleratorUtilization": "GpuUtilizationPercentage",
}
SLACK: Final = 0.7
"""Instances are taken away below this part of the target, so that none comes and goes."""
PROFILE: Final = "auterity"


class InstanceScaling:
    """Autoscaling settings, each named after its deployment: no second one can be made."""

    def __init__(self, session: AzureSession) -> None:
        self.session = session

    async def seen(self, deployment: JSON) -> Scaling:
        """How a deployment is scaled."""
        count = (deployment.get("sku") or {}).get("capacity", 1)
        setting = await self.session.find(self._path(deployment), VERSION)
        if setting is None:
            return Scaling.model_construct(min=count, max=count, target=None)
        profile = (setting["properties"].get("profiles") or [{}])[0]
        capacity = profile.get("capacity") or {}
        return Scaling.model_construct(
            min=int(capacity.get("minimum", count)),
            max=int(capacity.get("maximum", count)),
            target=_followed(profile.get("rules") or []),
        )

    async def keep(self, deployment: JSON, scaling: Scaling, owner: str, version: str) -> None:
        """Scale a deployment so."""
        most = scaling.max or scaling.min
        if scaling.target is not None or most != scaling.min:
            body = setting_of(deployment, scaling, owner)
            await self.session.arm("PUT", self._path(deployment), VERSION, json=body)
            return
        await self.remove(deployment)
        if (deployment.get("sku") or {}).get("capacity") != most:
            sku = {"name": "Default", "capacity": most}
            await self.session.arm("PATCH", deployment["id"], version, json={"sku": sku})

    async def remove(self, deployment: JSON) -> None:
        """Scale a deployment no more."""
        path = self._path(deployment)
        if await self.session.find(path, VERSION) is None:
            return
        try:
            await self.session.arm("DELETE", path, VERSION)
        except NotFound:
            return

    def _path(self, deployment: JSON) -> str:
        *_, endpoint, _, name = deployment["id"].split("/")
        digest = sha256(deployment["id"].lower().encode()).hexdigest()[:10]
        # As the SDK spells it; ids are the same in any case.
        group = self.session.group.replace("/resourceGroups/", "/resourcegroups/")
        settings = f"{group}/providers/Microsoft.Insights/autoscalesettings"
        return f"{settings}/auterity-{endpoint}-{name}-{digest}"


def impossible(scaling: Scaling) -> str | None:
    """What managed endpoints cannot do of it; None if they can."""
    if scaling.min < 1 or scaling.to_zero_after is not None:
        return "a managed online endpoint cannot scale to zero"
    if scaling.target is not None and scaling.target.metric not in METRICS:
        return f"Azure measures for each deployment {', '.join(METRICS)} only"
    return None


def setting_of(deployment: JSON, scaling: Scaling, owner: str) -> JSON:
    """The autoscaling setting of a deployment."""
    capacity = {
        "minimum": str(scaling.min),
        "maximum": str(scaling.max or scaling.min),
        "default": str(scaling.min),
    }
    rules = _rules(deployment["id"], scaling.target) if scaling.target else []
    return {
        "location": deployment["location"],
        "tags": {OWNER_TAG: owner},
        "properties": {
            "enabled": True,
            "targetResourceUri": deployment["id"],
            "profiles": [{"name": PROFILE, "capacity": capacity, "rules": rules}],
        },
    }


def _rules(id: str, target: ScalingTarget) -> list[JSON]:
    def rule(operator: str, threshold: float, direction: str) -> JSON:
        return {
            "metricTrigger": {
                "metricName": METRICS[target.metric],
                "metricResourceUri": id,
                "timeGrain": "PT1M",
                "statistic": "Average",
                "timeWindow": "PT5M",
                "timeAggregation": "Average",
                "operator": operator,
                "threshold": threshold,
            },
            "scaleAction": {
                "direction": direction,
                "type": "ChangeCount",
                "value": "1",
                "cooldown": "PT5M",
            },
        }

    return [
        rule("GreaterThan", target.value, "Increase"),
        rule("LessThan", round(target.value * SLACK, 3), "Decrease"),
    ]


def _followed(rules: list[JSON]) -> ScalingTarget | None:
    names = {metric: name for name, metric in METRICS.items()}
    for rule in rules:
        trigger, action = rule["metricTrigger"], rule["scaleAction"]
        if action["direction"] == "Increase":
            metric: Any = names.get(trigger["metricName"], trigger["metricName"])
            return ScalingTarget.model_construct(metric=metric, value=float(trigger["threshold"]))
    return None
