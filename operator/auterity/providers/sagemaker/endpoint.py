"""Real-time endpoints of Amazon SageMaker, with their models, configurations and scaling."""

import re
from collections.abc import Container, Mapping
from dataclasses import dataclass
from typing import Any, Final

from auterity.api import GROUP
from auterity.api.model_deployment import ModelSource
from auterity.engine.contract import Observed, Phase, Provider
from auterity.engine.errors import Busy, Conflict, NotFound, Rejected
from auterity.providers.sagemaker.definition import (
    LONGEST_NAME,
    VARIANT_FIELDS,
    count_of,
    data_capture_of,
    definition,
    model_of,
    prefix,
    variable,
    vpc_of,
)
from auterity.providers.sagemaker.params import SageMakerEndpointParams, Serverless
from auterity.providers.sagemaker.scaling import VARIANT, VariantScaling, resource_of
from auterity.transport.aws import JSON, OWNER_TAG, AwsConnection, AwsSession

ENDPOINT_TAG: Final = f"{GROUP}/endpoint"
"""On a model or an endpoint configuration: the endpoint that it was made for."""
BESIDE_CONTENT: Final = frozenset({"scaling", "tags", "keep_superseded"})
"""Fields that no model or endpoint configuration has to be made anew for."""
PHASES: Final = {
    "InService": Phase.READY,
    "Deleting": Phase.DELETING,
    "Failed": Phase.FAILED,
    "OutOfService": Phase.FAILED,
    "UpdateRollbackFailed": Phase.FAILED,
}
"""Of all other states the endpoint leaves by itself."""
NAME: Final = re.compile(r"[A-Za-z0-9](-*[A-Za-z0-9]){0,62}")


class SageMakerEndpoint(Provider[SageMakerEndpointParams, AwsSession]):
    """One endpoint with all that it needs.

    It has the object's name. Models and endpoint configurations cannot be changed: their names end
    in a digest of what they hold, so that every step can be repeated.
    """

    kind = "ModelDeployment"
    vendor = "sageMaker"
    params = SageMakerEndpointParams
    connection = AwsConnection
    docs = "https://docs.aws.amazon.com/sagemaker/latest/APIReference/API_CreateEndpoint.html"
    permissions = (
        "sagemaker:CreateModel",
        "sagemaker:DescribeModel",
        "sagemaker:DeleteModel",
        "sagemaker:ListModels",
        "sagemaker:CreateEndpointConfig",
        "sagemaker:DescribeEndpointConfig",
        "sagemaker:DeleteEndpointConfig",
        "sagemaker:ListEndpointConfigs",
        "sagemaker:CreateEndpoint",
        "sagemaker:DescribeEndpoint",
        "sagemaker:UpdateEndpoint",
        "sagemaker:UpdateEndpointWeightsAndCapacities",
        "sagemaker:DeleteEndpoint",
        "sagemaker:AddTags",
        "sagemaker:ListTags",
        "sagemaker:DeleteTags",
        "application-autoscaling:RegisterScalableTarget",
        "application-autoscaling:DescribeScalableTargets",
        "application-autoscaling:DeregisterScalableTarget",
        "application-autoscaling:PutScalingPolicy",
        "application-autoscaling:DescribeScalingPolicies",
        "cloudwatch:PutMetricAlarm",
        "cloudwatch:DescribeAlarms",
        "cloudwatch:DeleteAlarms",
        "iam:PassRole",
        "iam:CreateServiceLinkedRole",
    )
    proof = (
        "against a stateful fake that holds requests and its own answers against botocore's "
        "service models and checks signatures; and against moto 5.2.5 with IAM enforced"
    )
    publishes = (
        ("endpointName", "Name that InvokeEndpoint is called with."),
        ("endpointArn", "ARN of the endpoint."),
        ("url", "Where requests are sent, signed for the service sagemaker."),
        ("region", "Region of the endpoint."),
    )
    quirks = (
        (
            "Creating or updating an endpoint takes 3 to 15 minutes; until then it cannot be "
            "changed or deleted. Autoscaling is set up once it is in service."
        ),
        (
            "If an update fails, SageMaker goes back to the earlier configuration. The object then "
            "shows why, and the same update is not tried again until the spec changes or the "
            "refused endpoint configuration is deleted at SageMaker."
        ),
        "If the first creation fails, an edit deletes the endpoint and makes it anew.",
        (
            "With autoscaling, the instances that it has started or stopped are left as they are. "
            "A change of hardware takes autoscaling off until the update is done."
        ),
        "Anyone who may call DescribeModel sees the environment, secrets included.",
        (
            "iam:PassRole is needed on executionRoleArn only, iam:CreateServiceLinkedRole only for "
            "the account's first autoscaled endpoint."
        ),
        (
            "An endpoint with several variants can be adopted only to be one with one variant. The "
            "models and endpoint configurations that it had before are left alone."
        ),
        "An artifact that ends in / is taken as a folder with an uncompressed model.",
    )
    poll_after = 15.0

    def __init__(self, session: AwsSession) -> None:
        super().__init__(session)
        self.scaling = VariantScaling(session)

    @classmethod
    def objections(cls, want: SageMakerEndpointParams) -> Mapping[str, str]:
        if NAME.fullmatch(want.name) and len(want.name) <= LONGEST_NAME:
            return {}
        return {"name": f"SageMaker takes 1 to {LONGEST_NAME} letters, digits and inner hyphens"}

    async def read(self, id: str) -> Observed[SageMakerEndpointParams] | None:
        endpoint = await self._find("DescribeEndpoint", EndpointName=id)
        if endpoint is None:
            return await self._remains(id)
        status, arn = endpoint["EndpointStatus"], endpoint["EndpointArn"]
        try:
            tags = await self._tags(arn)
        except NotFound as failure:
            # It has come or gone between the two calls.
            raise Busy(failure.message) from failure
        phase = PHASES.get(status, Phase.PENDING)
        actual = SageMakerEndpointParams.seen()
        if phase in (Phase.READY, Phase.FAILED):
            actual = await self._actual(endpoint, tags)
        reason, region = endpoint.get("FailureReason"), self.session.region
        return Observed(
            id=id,
            actual=actual,
            phase=phase,
            owner=tags.get(OWNER_TAG),
            outputs={
                "endpointName": id,
                "endpointArn": arn,
                "url": f"https://runtime.sagemaker.{region}.{_domain(arn)}/endpoints/{id}/invocations",
                "region": region,
            },
            url=f"https://{region}.console.aws.amazon.com/sagemaker/home?region={region}#/endpoints/{id}",
            message=f"the endpoint is {status}" + (f": {reason}" if reason else ""),
            summary={"failureReason": reason[:512]} if reason else {},
        )

    async def create(self, want: SageMakerEndpointParams, owner: str) -> str:
        _, config = await self._define(want, owner, VARIANT)
        await self._after_definition(
            "CreateEndpoint",
            EndpointName=want.name,
            EndpointConfigName=config,
            Tags=_listed({**(want.tags or {}), OWNER_TAG: owner}),
        )
        return want.name

    async def update(
        self, id: str, want: SageMakerEndpointParams, changed: frozenset[str], owner: str
    ) -> None:
        endpoint = await self._find("DescribeEndpoint", EndpointName=id)
        if endpoint is None:
            await self.create(want, owner)
            return
        if changed and endpoint["EndpointStatus"] == "Failed":
            # Its creation has failed: SageMaker lets it be deleted, and nothing else.
            await self.delete(id)
            return
        await self._mark(endpoint["EndpointArn"], want, changed, owner)
        parts = {path.split(".")[0] for path in changed}
        if parts - BESIDE_CONTENT:
            await self._replace(
                endpoint, want, owner, moved=bool(parts & {"hardware", "serverless"})
            )
            return
        if "scaling" in parts:
            await self.scaling.keep(endpoint, want.scaling)
        if "keep_superseded" in parts:
            await self._remove(
                await self._made_for(id, owner, besides=await self._in_use(endpoint))
            )

    async def delete(self, id: str) -> None:
        endpoint = await self._find("DescribeEndpoint", EndpointName=id)
        if endpoint is not None:
            if endpoint["EndpointStatus"] != "Deleting":
                await self.scaling.remove(resource_of(endpoint))
                await self._find("DeleteEndpoint", EndpointName=id)
            # Not before the endpoint is gone: an endpoint without its configuration is billed
            # without being seen.
            return
        await self.scaling.remove(resource_of({"EndpointName": id}))
        if made := await self._made_for(id):
            await self._remove([item for item in made if item.owner == made[0].owner])

    async def _actual(self, endpoint: JSON, tags: dict[str, str]) -> SageMakerEndpointParams:
        id, name = endpoint["EndpointName"], endpoint["EndpointConfigName"]
        config = await self._find("DescribeEndpointConfig", EndpointConfigName=name) or {}
        variant = (config.get("ProductionVariants") or [{}])[0]
        model: JSON = {}
        if named := variant.get("ModelName"):
            model = await self._find("DescribeModel", ModelName=named) or {}
        container = model.get("PrimaryContainer") or (model.get("Containers") or [{}])[0]
        fields: JSON = {field: variant.get(name) for field, name in VARIANT_FIELDS.items()}
        serverless = variant.get("ServerlessConfig")
        if endpoint["EndpointStatus"] != "Failed":
            # One that has never served has nothing to scale, and nothing that was superseded.
            if serverless is None:
                fields["scaling"] = await self.scaling.seen(endpoint, variant)
            if await self._made_for(id, tags.get(OWNER_TAG), besides={name, named}):
                fields["keep_superseded"] = True
        return SageMakerEndpointParams.seen(
            model=ModelSource.model_construct(
                image=container.get("Image"),
                artifact=container.get("ModelDataUrl")
                or container.get("ModelDataSource", {}).get("S3DataSource", {}).get("S3Uri"),
            ),
            hardware=variant.get("InstanceType"),
            environment=[variable(k, v) for k, v in container.get("Environment", {}).items()],
            execution_role_arn=model.get("ExecutionRoleArn"),
            serverless=serverless
            and Serverless.model_construct(
                memory_size_in_mb=serverless["MemorySizeInMB"],
                max_concurrency=serverless["MaxConcurrency"],
                provisioned_concurrency=serverless.get("ProvisionedConcurrency"),
            ),
            vpc=vpc_of(model.get("VpcConfig")),
            enable_network_isolation=model.get("EnableNetworkIsolation", False),
            kms_key_id=config.get("KmsKeyId"),
            data_capture=data_capture_of(config.get("DataCaptureConfig")),
            tags={k: v for k, v in tags.items() if not k.startswith(("aws:", f"{GROUP}/"))},
            **fields,
        )

    async def _remains(self, id: str) -> Observed[SageMakerEndpointParams] | None:
        """What is left where there is no endpoint, or not yet: it is to be completed or deleted."""
        if not (made := await self._made_for(id)):
            return None
        nothing = SageMakerEndpointParams.seen(
            **dict.fromkeys(("model", "hardware", "serverless", "execution_role_arn"))
        )
        return Observed(
            id=id,
            actual=nothing,
            owner=made[0].owner,
            message=f"there is no endpoint, but {made[0].kind} {made[0].name} that was made for it",
        )

    async def _define(
        self, want: SageMakerEndpointParams, owner: str, variant: str
    ) -> tuple[str, str]:
        """Make model and endpoint configuration, where they are not there yet; their names."""
        tags = _listed({**(want.tags or {}), OWNER_TAG: owner, ENDPOINT_TAG: want.name})
        model = model_of(want, {v.name: v.reveal() for v in want.environment})
        model_name, config_name, config = definition(want, owner, variant)
        await self._once("CreateModel", ModelName=model_name, Tags=tags, **model)
        config["ProductionVariants"][0] |= count_of(want)
        await self._once(
            "CreateEndpointConfig", EndpointConfigName=config_name, Tags=tags, **config
        )
        return model_name, config_name

    async def _replace(
        self, endpoint: JSON, want: SageMakerEndpointParams, owner: str, *, moved: bool
    ) -> None:
        resource = resource_of(endpoint)
        variant = resource["ResourceId"].rpartition("/")[2]
        _, config, _ = definition(want, owner, variant)
        active = endpoint["EndpointConfigName"]
        if config != active:
            await self._refuse_what_was_rolled_back(endpoint, config)
        await self._define(want, owner, variant)
        if config == active:
            return
        scaled = await self.scaling.target(resource) is not None
        if scaled and moved:
            # Refused otherwise: a registered variant's instance type cannot change.
            await self.scaling.remove(resource)
            scaled = False
        request: JSON = {"RetainAllVariantProperties": scaled}
        if scaled:
            request["ExcludeRetainedVariantProperties"] = [
                {"VariantPropertyType": kind} for kind in ("DesiredWeight", "DataCaptureConfig")
            ]
        await self._after_definition(
            "UpdateEndpoint", EndpointName=want.name, EndpointConfigName=config, **request
        )

    async def _refuse_what_was_rolled_back(self, endpoint: JSON, config: str) -> None:
        """An update that failed leaves no trace but a reason and a configuration not in use."""
        reason = endpoint.get("FailureReason")
        if not reason:
            return
        tried = await self._find("DescribeEndpointConfig", EndpointConfigName=config)
        if tried is not None and tried["CreationTime"] < endpoint["LastModifiedTime"]:
            raise Rejected(
                f"SageMaker went back to the earlier configuration: {reason}; change the spec, or "
                f"delete endpoint configuration {config} there to try the same again"
            )

    async def _mark(
        self, arn: str, want: SageMakerEndpointParams, changed: frozenset[str], owner: str
    ) -> None:
        tags = want.tags or {}
        await self.session.call(
            "sagemaker", "AddTags", ResourceArn=arn, Tags=_listed({**tags, OWNER_TAG: owner})
        )
        named = {path.partition(".")[2] for path in changed if path.startswith("tags.")}
        if gone := sorted(named - set(tags)):
            await self.session.call("sagemaker", "DeleteTags", ResourceArn=arn, TagKeys=gone)

    async def _tags(self, arn: str) -> dict[str, str]:
        tags = await self.session.pages("sagemaker", "ListTags", "Tags", ResourceArn=arn)
        return {tag["Key"]: tag["Value"] for tag in tags}

    async def _in_use(self, endpoint: JSON) -> set[str]:
        name = endpoint["EndpointConfigName"]
        config = await self._find("DescribeEndpointConfig", EndpointConfigName=name) or {}
        return {name, *(v["ModelName"] for v in config.get("ProductionVariants", ()))}

    async def _made_for(
        self, id: str, owner: str | None = None, besides: Container[str | None] = ()
    ) -> "list[_Made]":
        """Endpoint configurations, then models, that were made for an endpoint."""
        begins = prefix(id)
        ours = re.compile(rf"{re.escape(begins)}[0-9a-f]{{10}}")
        found = []
        for kind, operation in (("EndpointConfig", "ListEndpointConfigs"), ("Model", "ListModels")):
            listed = await self.session.pages(
                "sagemaker", operation, f"{kind}s", NameContains=begins, MaxResults=100
            )
            for item in listed:
                name = item[f"{kind}Name"]
                if not ours.fullmatch(name) or name in besides:
                    continue
                try:
                    tags = await self._tags(item[f"{kind}Arn"])
                except NotFound:
                    continue
                if tags.get(ENDPOINT_TAG) == id and owner in (None, tags.get(OWNER_TAG)):
                    found.append(_Made(kind, name, tags.get(OWNER_TAG)))
        return found

    async def _remove(self, made: "list[_Made]") -> None:
        for item in made:
            await self._find(f"Delete{item.kind}", **{f"{item.kind}Name": item.name})

    async def _find(self, operation: str, **parameters: Any) -> JSON | None:
        """The answer; None if there is no such thing."""
        try:
            return await self.session.call("sagemaker", operation, **parameters)
        except NotFound:
            return None

    async def _once(self, operation: str, **parameters: Any) -> None:
        """Create; one that is there already has the same name because it is the same."""
        try:
            await self._after_definition(operation, **parameters)
        except Conflict:
            return

    async def _after_definition(self, operation: str, **parameters: Any) -> None:
        try:
            await self.session.call("sagemaker", operation, **parameters)
        except NotFound as failure:
            # What it names was made a moment ago, and SageMaker does not show it everywhere yet.
            raise Busy(failure.message) from failure


@dataclass(frozen=True, slots=True)
class _Made:
    """A model or an endpoint configuration of ours."""

    kind: str
    name: str
    owner: str | None


def _listed(tags: dict[str, str]) -> list[JSON]:
    return [{"Key": key, "Value": value} for key, value in tags.items()]


def _domain(arn: str) -> str:
    return "amazonaws.com.cn" if arn.startswith("arn:aws-cn:") else "amazonaws.com"
