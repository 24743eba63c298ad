"""How many instances serve an endpoint: autoscaling, or a fixed number."""

from typing import Any, Final

from auterity.api.model_deployment import Scaling, ScalingTarget
from auterity.engine.errors import NotFound
from auterity.transport.aws import JSON, AwsSession

POLICY: Final = "auterity"
DIMENSION: Final = "sagemaker:variant:DesiredInstanceCount"
PREDEFINED: Final = {
    "InvocationsPerReplica": "SageMakerVariantInvocationsPerInstance",
    "ConcurrentRequests": "SageMakerVariantConcurrentRequestsPerModelHighResolution",
}
MEASURED: Final = {"AcceleratorUtilization": "GPUUtilization"}
"""Metrics of instances that SageMaker calls otherwise."""


class VariantScaling:
    """Application Auto Scaling of an endpoint's variants."""

    def __init__(self, session: AwsSession) -> None:
        self.session = session

    async def seen(self, endpoint: JSON, variant: JSON) -> Scaling:
        name = variant["VariantName"]
        resource = resource_of(endpoint["EndpointName"], name)
        if (target := await self.target(resource)) is None:
            live: JSON = live_of(endpoint).get(name, {})
            count: Any = live.get("DesiredInstanceCount", variant.get("InitialInstanceCount"))
            return Scaling.model_construct(min=count, max=count, target=None)
        policy = await self._policy(resource)
        tracking = (policy or {}).get("TargetTrackingScalingPolicyConfiguration")
        return Scaling.model_construct(
            min=target["MinCapacity"], max=target["MaxCapacity"], target=_followed(tracking)
        )

    async def keep(self, endpoint: JSON, scaling: Scaling) -> None:
        """Scale all variants so. Serverless ones have no instances to scale."""
        name, most = endpoint["EndpointName"], scaling.max or scaling.min
        scaled = {k: v for k, v in live_of(endpoint).items() if "DesiredInstanceCount" in v}
        if scaling.target is not None or most != scaling.min:
            for variant in scaled:
                await self._follow(resource_of(name, variant), scaling, most)
            return
        for variant in scaled:
            await self.remove(resource_of(name, variant))
        other = [v for v, live in scaled.items() if live["DesiredInstanceCount"] != most]
        if other:
            await self.session.call(
                "sagemaker",
                "UpdateEndpointWeightsAndCapacities",
                EndpointName=name,
                DesiredWeightsAndCapacities=[
                    {"VariantName": variant, "DesiredInstanceCount": most} for variant in other
                ],
            )

    async def _follow(self, resource: JSON, scaling: Scaling, most: int) -> None:
        await self._call(
            "RegisterScalableTarget", **resource, MinCapacity=scaling.min, MaxCapacity=most
        )
        if scaling.target is not None:
            policy = await self._policy(resource)
            await self._call(
                "PutScalingPolicy",
                **resource,
                PolicyName=policy["PolicyName"] if policy else POLICY,
                PolicyType="TargetTrackingScaling",
                TargetTrackingScalingPolicyConfiguration=_tracking(
                    scaling.target,
                    (policy or {}).get("TargetTrackingScalingPolicyConfiguration", {}),
                    resource["ResourceId"],
                ),
            )

    async def remove(self, resource: JSON) -> None:
        if await self.target(resource) is not None:
            try:
                await self._call("DeregisterScalableTarget", **resource)
            except NotFound:
                return

    async def target(self, resource: JSON) -> JSON | None:
        answer = await self._call(
            "DescribeScalableTargets",
            ServiceNamespace=resource["ServiceNamespace"],
            ResourceIds=[resource["ResourceId"]],
            ScalableDimension=DIMENSION,
        )
        return next(iter(answer["ScalableTargets"]), None)

    async def _policy(self, resource: JSON) -> JSON | None:
        answer = await self._call("DescribeScalingPolicies", **resource)
        tracking = [p for p in answer["ScalingPolicies"] if p["PolicyType"].startswith("Target")]
        return min(
            tracking, key=lambda p: (p["PolicyName"] != POLICY, p["PolicyName"]), default=None
        )

    async def _call(self, operation: str, **parameters: Any) -> JSON:
        return await self.session.call("application-autoscaling", operation, **parameters)


def live_of(endpoint: JSON) -> dict[str, JSON]:
    """An endpoint's variants by name, as they are now."""
    return {one["VariantName"]: one for one in endpoint.get("ProductionVariants") or ()}


def resource_of(endpoint: str, variant: str) -> JSON:
    """What autoscaling calls a variant."""
    return {
        "ServiceNamespace": "sagemaker",
        "ResourceId": f"endpoint/{endpoint}/variant/{variant}",
        "ScalableDimension": DIMENSION,
    }


def _tracking(target: ScalingTarget, now: JSON, resource: str) -> JSON:
    """A policy's configuration, with what others have set in it."""
    kept = {k: v for k, v in now.items() if not k.endswith("MetricSpecification")}
    if target.metric in PREDEFINED:
        kind = PREDEFINED[target.metric]
        metric: JSON = {"PredefinedMetricSpecification": {"PredefinedMetricType": kind}}
    else:
        _, endpoint, _, variant = resource.split("/")
        metric = {
            "CustomizedMetricSpecification": {
                "Namespace": "/aws/sagemaker/Endpoints",
                "MetricName": MEASURED.get(target.metric, target.metric),
                "Dimensions": [
                    {"Name": "EndpointName", "Value": endpoint},
                    {"Name": "VariantName", "Value": variant},
                ],
                "Statistic": "Average",
                "Unit": "Percent",
            }
        }
    return {**kept, **metric, "TargetValue": target.value}


def _followed(tracking: JSON | None) -> ScalingTarget | None:
    if tracking is None:
        return None
    predefined = tracking.get("PredefinedMetricSpecification", {}).get("PredefinedMetricType")
    customized = tracking.get("CustomizedMetricSpecification", {}).get("MetricName")
    ours = {v: k for k, v in (PREDEFINED | MEASURED).items()}
    metric: Any = ours.get(customized or predefined, customized or predefined)
    return ScalingTarget.model_construct(metric=metric, value=tracking["TargetValue"])
