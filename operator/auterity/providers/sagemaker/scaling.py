"""How many instances serve an endpoint: autoscaling, or a fixed number."""

from typing import Any, Final

from auterity.api.model_deployment import Scaling, ScalingTarget
from auterity.engine.errors import NotFound
from auterity.transport.aws import JSON, AwsSession

VARIANT: Final = "AllTraffic"
POLICY: Final = "auterity"
DIMENSION: Final = "sagemaker:variant:DesiredInstanceCount"
INVOCATIONS: Final = "SageMakerVariantInvocationsPerInstance"


class VariantScaling:
    """Application Auto Scaling of an endpoint's first variant."""

    def __init__(self, session: AwsSession) -> None:
        self.session = session

    async def seen(self, endpoint: JSON, variant: JSON) -> Scaling:
        resource = resource_of(endpoint)
        if (target := await self.target(resource)) is None:
            live = (endpoint.get("ProductionVariants") or [{}])[0]
            count = live.get("DesiredInstanceCount", variant.get("InitialInstanceCount"))
            return Scaling.model_construct(min=count, max=count, target=None)
        policy = await self._policy(resource)
        tracking = (policy or {}).get("TargetTrackingScalingPolicyConfiguration")
        return Scaling.model_construct(
            min=target["MinCapacity"], max=target["MaxCapacity"], target=_followed(tracking)
        )

    async def keep(self, endpoint: JSON, scaling: Scaling) -> None:
        resource, most = resource_of(endpoint), scaling.max or scaling.min
        if scaling.target is None and most == scaling.min:
            await self.remove(resource)
            (variant,) = endpoint["ProductionVariants"][:1]
            if variant.get("DesiredInstanceCount") != most:
                capacity = {"VariantName": variant["VariantName"], "DesiredInstanceCount": most}
                await self.session.call(
                    "sagemaker",
                    "UpdateEndpointWeightsAndCapacities",
                    EndpointName=endpoint["EndpointName"],
                    DesiredWeightsAndCapacities=[capacity],
                )
            return
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


def resource_of(endpoint: JSON) -> JSON:
    """What autoscaling calls an endpoint's first variant."""
    variants = endpoint.get("ProductionVariants") or [{}]
    variant = variants[0].get("VariantName", VARIANT)
    return {
        "ServiceNamespace": "sagemaker",
        "ResourceId": f"endpoint/{endpoint['EndpointName']}/variant/{variant}",
        "ScalableDimension": DIMENSION,
    }


def _tracking(target: ScalingTarget, now: JSON, resource: str) -> JSON:
    """A policy's configuration, with what others have set in it."""
    kept = {k: v for k, v in now.items() if not k.endswith("MetricSpecification")}
    if target.metric == "InvocationsPerReplica":
        metric: JSON = {"PredefinedMetricSpecification": {"PredefinedMetricType": INVOCATIONS}}
    else:
        _, endpoint, _, variant = resource.split("/")
        metric = {
            "CustomizedMetricSpecification": {
                "Namespace": "/aws/sagemaker/Endpoints",
                "MetricName": target.metric,
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
    metric: Any = customized or predefined
    if predefined == INVOCATIONS:
        metric = "InvocationsPerReplica"
    return ScalingTarget.model_construct(metric=metric, value=tracking["TargetValue"])
