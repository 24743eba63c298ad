"""Real-time endpoints of Amazon SageMaker, with their models, configurations and scaling."""

import re
from collections.abc import Mapping
from typing import Final

from auterity.api import GROUP
from auterity.api.model_deployment import ModelSource
from auterity.api.rollout import Metric, Probe, Strategy
from auterity.engine.contract import (
    Answer,
    Measured,
    Observed,
    Phase,
    Provider,
    Revision,
    Span,
)
from auterity.engine.errors import Busy, NotFound, Rejected
from auterity.providers.billing import Bill, of_replicas
from auterity.providers.sagemaker.definition import (
    LONGEST_NAME,
    VARIANT_FIELDS,
    configuration,
    data_capture_of,
    model_name,
    settings_in,
    settings_of,
    variable,
    variant_of,
    vpc_of,
)
from auterity.providers.sagemaker.monitoring import COUNTED, PERCENTILES, VariantMonitoring
from auterity.providers.sagemaker.params import SageMakerEndpointParams, Serverless
from auterity.providers.sagemaker.parts import EndpointParts, Made, listed
from auterity.providers.sagemaker.scaling import VariantScaling, live_of, resource_of
from auterity.transport.aws import JSON, OWNER_TAG, AwsConnection, AwsSession

BESIDE_CONTENT: Final = frozenset({"scaling", "tags", "keep_superseded"})
"""Fields that no model or endpoint configuration has to be made anew for."""
SETTINGS: Final = frozenset({"kms_key_id", "data_capture"})
"""Fields of a configuration that are none of its variants' own."""
SETTINGS_NAMES: Final = frozenset({"KmsKeyId", "DataCaptureConfig"})
NO_SECOND: Final = "SageMaker allows no second variant beside a serverless one; Rolling is possible"
FIRST: Final = "AllTraffic"
"""What the only variant is called where revisions have no names."""
ALL: Final = 100
MODEL_STATUS: Final = re.compile(r"\((\d{3})\)")
"""In `Received server error (500) from primary with message ...`, AWS's 424."""
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
    """One endpoint with all that it needs; each revision is a variant of it.

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
        "sagemaker:InvokeEndpoint",
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
        "cloudwatch:GetMetricData",
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
            "Of an adopted endpoint's variants one is left in the end. The models and endpoint "
            "configurations that it had before are left alone."
        ),
        "An artifact that ends in / is taken as a folder with an uncompressed model.",
        (
            "Rolling is SageMaker's own replacement of the one variant. Canary and BlueGreen keep "
            "two variants, which needs the instances of both at once. They are not possible with "
            "serverless: SageMaker allows no second variant there."
        ),
        "sagemaker:InvokeEndpoint is needed for spec.probe only; an endpoint has one path.",
        (
            "cloudwatch:GetMetricData is needed for rollout.checks only. A latency is the model's "
            "(ModelLatency), without SageMaker's own overhead: the mean of each minute's "
            "percentile by the minutes' requests."
        ),
    )
    poll_after = 15.0
    revisions = True
    in_place = True
    probes = True
    measures = frozenset({*COUNTED, *PERCENTILES})

    def __init__(self, session: AwsSession) -> None:
        super().__init__(session)
        self.scaling = VariantScaling(session)
        self.monitoring = VariantMonitoring(session)
        self.parts = EndpointParts(session)

    @classmethod
    def objections(cls, want: SageMakerEndpointParams) -> Mapping[str, str]:
        found = {}
        if not NAME.fullmatch(want.name) or len(want.name) > LONGEST_NAME:
            found["name"] = f"SageMaker takes 1 to {LONGEST_NAME} letters, digits and inner hyphens"
        if want.serverless and want.rollout.strategy is not Strategy.ROLLING:
            found["rollout"] = NO_SECOND
        if want.scaling.min == 0 and not want.serverless:
            found["scaling"] = "SageMaker keeps an instance at least; only serverless has none"
        return found

    @classmethod
    def billed(cls, want: SageMakerEndpointParams) -> Bill:
        if want.serverless:
            # What is kept warm is paid for by memory and time.
            return None if want.serverless.provisioned_concurrency else ()
        return (of_replicas(want.hardware, want.scaling),) if want.hardware else None

    async def read(self, id: str) -> Observed[SageMakerEndpointParams] | None:
        endpoint = await self.parts.find("DescribeEndpoint", EndpointName=id)
        if endpoint is None:
            return await self._remains(id)
        status, arn = endpoint["EndpointStatus"], endpoint["EndpointArn"]
        try:
            tags = await self.parts.tags(arn)
        except NotFound as failure:
            # It has come or gone between the two calls.
            raise Busy(failure.message) from failure
        phase = PHASES.get(status, Phase.PENDING)
        actual, revisions = SageMakerEndpointParams.seen(), _serving_meanwhile(endpoint)
        if phase in (Phase.READY, Phase.FAILED):
            actual, revisions = await self._actual(endpoint, tags, phase)
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
            revisions=revisions,
        )

    async def create(self, want: SageMakerEndpointParams, owner: str) -> str:
        variant = await self.parts.variant(want, owner, want.revision or FIRST)
        config = await self.parts.configure(want, owner, [variant], settings_of(want))
        await self.parts.after_definition(
            "CreateEndpoint",
            EndpointName=want.name,
            EndpointConfigName=config,
            Tags=listed({**(want.tags or {}), OWNER_TAG: owner}),
        )
        return want.name

    async def update(
        self, id: str, want: SageMakerEndpointParams, changed: frozenset[str], owner: str
    ) -> None:
        endpoint = await self.parts.find("DescribeEndpoint", EndpointName=id)
        if endpoint is None:
            await self.create(want, owner)
            return
        if changed and endpoint["EndpointStatus"] == "Failed":
            # Its creation has failed: SageMaker lets it be deleted, and nothing else.
            await self.delete(id)
            return
        await self._mark(endpoint["EndpointArn"], want, changed, owner)
        parts = {path.split(".")[0] for path in changed}
        if parts - BESIDE_CONTENT - SETTINGS:
            moved = bool(parts & {"hardware", "serverless"})
            await self._replace(endpoint, want, owner, moved=moved)
            return
        if parts & SETTINGS:
            await self._set(endpoint, want, owner)
            return
        if "scaling" in parts:
            await self.scaling.keep(endpoint, want.scaling)
        if "keep_superseded" in parts:
            await self.parts.remove(
                await self.parts.made_for(id, owner, besides=await self.parts.in_use(endpoint))
            )

    async def delete(self, id: str) -> None:
        endpoint = await self.parts.find("DescribeEndpoint", EndpointName=id)
        if endpoint is not None:
            if endpoint["EndpointStatus"] != "Deleting":
                for variant in live_of(endpoint):
                    await self.scaling.remove(resource_of(id, variant))
                await self.parts.find("DeleteEndpoint", EndpointName=id)
            # Not before the endpoint is gone: an endpoint without its configuration is billed
            # without being seen.
            return
        if made := await self.parts.made_for(id):
            mine = [item for item in made if item.owner == made[0].owner]
            for variant in {v for item in mine for v in await self.parts.variants_in(item)}:
                await self.scaling.remove(resource_of(id, variant))
            await self.parts.remove(mine)

    async def add_revision(self, id: str, want: SageMakerEndpointParams, owner: str) -> None:
        endpoint, config = await self._serving(id)
        there = config["ProductionVariants"]
        if any(one["VariantName"] == want.revision for one in there):
            return
        if want.serverless or any("ServerlessConfig" in one for one in there):
            raise Rejected(f"spec.rollout: {NO_SECOND}")
        variant = await self.parts.variant(want, owner, want.revision)
        old = [one | {"InitialVariantWeight": _weight(endpoint, one)} for one in there]
        new = [*old, variant | {"InitialVariantWeight": 0.0}]
        await self._change_variants(endpoint, want.name, owner, new, settings_in(config))

    async def set_traffic(self, id: str, weights: Mapping[str, int]) -> None:
        await self.session.call(
            "sagemaker",
            "UpdateEndpointWeightsAndCapacities",
            EndpointName=id,
            DesiredWeightsAndCapacities=[
                {"VariantName": name, "DesiredWeight": float(weight)}
                for name, weight in sorted(weights.items())
            ],
        )

    async def remove_revision(self, id: str, revision: str) -> None:
        endpoint, config = await self._serving(id)
        there = config["ProductionVariants"]
        if all(one["VariantName"] != revision for one in there):
            await self._forget(id, revision, endpoint)
            return
        await self.scaling.remove(resource_of(id, revision))
        left = [one | {} for one in there if one["VariantName"] != revision]
        if len(left) == 1:
            left[0].pop("InitialVariantWeight", None)
        owner = (await self.parts.tags(endpoint["EndpointArn"])).get(OWNER_TAG, "")
        await self._change_variants(endpoint, id, owner, left, settings_in(config))

    async def probe(self, id: str, request: Probe, revision: str | None) -> Answer:
        if request.path is not None:
            raise Rejected("probe.path: a SageMaker endpoint has one path")
        target = {"TargetVariant": revision} if revision else {}
        try:
            answer = await self.session.call(
                "sagemaker-runtime",
                "InvokeEndpoint",
                EndpointName=id,
                Body=(request.body or "").encode(),
                ContentType=request.content_type,
                **target,
            )
        except Rejected as failure:
            if (told := MODEL_STATUS.search(failure.message)) is None:
                raise
            return Answer(int(told[1]), failure.message)
        return Answer(200, answer["Body"].decode(errors="replace"))

    async def measure(
        self, id: str, revision: str, metrics: frozenset[Metric], span: Span
    ) -> Measured:
        return await self.monitoring.measure(id, revision, metrics, span)

    async def _actual(
        self, endpoint: JSON, tags: dict[str, str], phase: Phase
    ) -> tuple[SageMakerEndpointParams, list[Revision[SageMakerEndpointParams]]]:
        """What the endpoint has, and what each of its variants has."""
        id, name = endpoint["EndpointName"], endpoint["EndpointConfigName"]
        config = await self.parts.find("DescribeEndpointConfig", EndpointConfigName=name) or {}
        variants = config.get("ProductionVariants") or ()
        fields: JSON = {
            "kms_key_id": config.get("KmsKeyId"),
            "data_capture": data_capture_of(config.get("DataCaptureConfig")),
            "tags": {k: v for k, v in tags.items() if not k.startswith(("aws:", f"{GROUP}/"))},
        }
        revisions = [await self._revision(endpoint, one, phase) for one in variants]
        if phase is not Phase.FAILED:
            # One that has never served has nothing that was superseded.
            used = {name, *(one.get("ModelName") for one in variants)}
            made = await self.parts.made_for(id, tags.get(OWNER_TAG), besides=used)
            refused = await self._refused(endpoint, made) if endpoint.get("FailureReason") else []
            revisions += refused
            if made and not refused:
                # What tells of a refused variant goes with `remove_revision`, and not before.
                fields["keep_superseded"] = True
        return SageMakerEndpointParams.seen(**fields), revisions

    async def _revision(
        self, endpoint: JSON, variant: JSON, phase: Phase
    ) -> Revision[SageMakerEndpointParams]:
        model: JSON = {}
        if named := variant.get("ModelName"):
            model = await self.parts.find("DescribeModel", ModelName=named) or {}
        container = model.get("PrimaryContainer") or (model.get("Containers") or [{}])[0]
        source = container.get("ModelDataSource", {}).get("S3DataSource", {}).get("S3Uri")
        package = container.get("ModelPackageName")
        fields: JSON = {field: variant.get(name) for field, name in VARIANT_FIELDS.items()}
        serverless = variant.get("ServerlessConfig")
        if phase is not Phase.FAILED and serverless is None:
            # One that has never served has nothing to scale.
            fields["scaling"] = await self.scaling.seen(endpoint, variant)
        actual = SageMakerEndpointParams.seen(
            model=ModelSource.told(
                container.get("ModelDataUrl") or source or package,
                image=container.get("Image"),
                version=None,
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
            **fields,
        )
        name = variant["VariantName"]
        return Revision(name, round(_weight(endpoint, variant)), actual, phase)

    async def _refused(
        self, endpoint: JSON, made: list[Made]
    ) -> list[Revision[SageMakerEndpointParams]]:
        """The variant that SageMaker has gone back from: only a configuration is left of it."""
        tried = [item for item in made if item.kind == "EndpointConfig"]
        newest = max(tried, key=lambda item: item.created, default=None)
        if newest is None:
            return []
        return [
            Revision(
                name, 0, SageMakerEndpointParams.seen(), Phase.FAILED, endpoint["FailureReason"]
            )
            for name in await self.parts.variants_in(newest)
            if name not in live_of(endpoint)
        ]

    async def _forget(self, id: str, revision: str, endpoint: JSON) -> None:
        """Remove what is left of a variant that the endpoint does not have."""
        used = await self.parts.in_use(endpoint)
        left = []
        for item in await self.parts.made_for(id, besides=used):
            variants = await self.parts.variants_in(item)
            if revision in variants:
                left.append(item)
                model = str(variants[revision].get("ModelName"))
                if model not in used:
                    left.append(Made("Model", model, item.owner))
        await self.parts.remove(left)

    async def _serving(self, id: str) -> tuple[JSON, JSON]:
        """The endpoint and its configuration."""
        endpoint = await self.parts.find("DescribeEndpoint", EndpointName=id)
        if endpoint is None or endpoint["EndpointStatus"] != "InService":
            raise Busy(f"endpoint {id} is not in service")
        config = await self.parts.find(
            "DescribeEndpointConfig", EndpointConfigName=endpoint["EndpointConfigName"]
        )
        if config is None:
            raise Rejected(f"endpoint {id} has lost its configuration; delete it and make it anew")
        return endpoint, config

    async def _remains(self, id: str) -> Observed[SageMakerEndpointParams] | None:
        """What is left where there is no endpoint, or not yet: it is to be completed or deleted."""
        if not (made := await self.parts.made_for(id)):
            return None
        nothing = SageMakerEndpointParams.seen(
            **dict.fromkeys(("model", "hardware", "serverless", "execution_role_arn"))
        )
        return Observed(
            id=id,
            actual=nothing,
            phase=Phase.FAILED,
            owner=made[0].owner,
            message=f"there is no endpoint, but {made[0].kind} {made[0].name} that was made for it",
        )

    async def _change_variants(
        self, endpoint: JSON, id: str, owner: str, variants: list[JSON], settings: JSON
    ) -> None:
        """Serve these variants; those that were there go on as they are."""
        name, config = configuration(id, owner, variants, settings)
        await self.parts.make_configuration(id, owner, {}, name, config)
        await self.parts.after_definition(
            "UpdateEndpoint",
            EndpointName=endpoint["EndpointName"],
            EndpointConfigName=name,
            RetainAllVariantProperties=True,
        )

    async def _set(self, endpoint: JSON, want: SageMakerEndpointParams, owner: str) -> None:
        """Other settings for the variants that are there."""
        active = endpoint["EndpointConfigName"]
        config = await self.parts.find("DescribeEndpointConfig", EndpointConfigName=active) or {}
        kept = {k: v for k, v in settings_in(config).items() if k not in SETTINGS_NAMES}
        name, content = configuration(
            want.name, owner, config.get("ProductionVariants", ()), kept | settings_of(want)
        )
        if name == active:
            return
        await self._refuse_what_was_rolled_back(endpoint, name)
        await self.parts.make_configuration(want.name, owner, want.tags or {}, name, content)
        await self.parts.after_definition(
            "UpdateEndpoint",
            EndpointName=want.name,
            EndpointConfigName=name,
            RetainAllVariantProperties=True,
            ExcludeRetainedVariantProperties=[{"VariantPropertyType": "DataCaptureConfig"}],
        )

    async def _replace(
        self, endpoint: JSON, want: SageMakerEndpointParams, owner: str, *, moved: bool
    ) -> None:
        """SageMaker's own replacement of the one variant."""
        name = next(iter(live_of(endpoint)), FIRST)
        active, resource = endpoint["EndpointConfigName"], resource_of(want.name, name)
        planned = variant_of(want, model_name(want, owner), name)
        config, _ = configuration(want.name, owner, [planned], settings_of(want))
        if config != active:
            await self._refuse_what_was_rolled_back(endpoint, config)
        variant = await self.parts.variant(want, owner, name)
        await self.parts.configure(want, owner, [variant], settings_of(want))
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
        await self.parts.after_definition(
            "UpdateEndpoint", EndpointName=want.name, EndpointConfigName=config, **request
        )

    async def _refuse_what_was_rolled_back(self, endpoint: JSON, config: str) -> None:
        """An update that failed leaves no trace but a reason and a configuration not in use."""
        reason = endpoint.get("FailureReason")
        if not reason:
            return
        tried = await self.parts.find("DescribeEndpointConfig", EndpointConfigName=config)
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
            "sagemaker", "AddTags", ResourceArn=arn, Tags=listed({**tags, OWNER_TAG: owner})
        )
        named = {path.partition(".")[2] for path in changed if path.startswith("tags.")}
        if gone := sorted(named - set(tags)):
            await self.session.call("sagemaker", "DeleteTags", ResourceArn=arn, TagKeys=gone)


def _serving_meanwhile(endpoint: JSON) -> list[Revision[SageMakerEndpointParams]]:
    """The variants of an endpoint that is in between: those to come are not among them yet."""
    return [
        Revision(name, round(_weight(endpoint, one)), SageMakerEndpointParams.seen())
        for name, one in live_of(endpoint).items()
    ]


def _weight(endpoint: JSON, variant: JSON) -> float:
    """Percent of the traffic. SageMaker's weights are relative to their sum."""
    live = live_of(endpoint)
    weights = {name: float(one.get("CurrentWeight") or 0.0) for name, one in live.items()}
    total = sum(weights.values())
    if not total:
        return float(ALL if len(live) <= 1 else 0)
    return ALL * weights.get(variant["VariantName"], 0.0) / total


def _domain(arn: str) -> str:
    return "amazonaws.com.cn" if arn.startswith("arn:aws-cn:") else "amazonaws.com"
