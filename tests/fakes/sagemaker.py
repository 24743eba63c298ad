"""Amazon SageMaker endpoints and their autoscaling, as of 2026-11.

What it knows beyond the service models: endpoints take their time and refuse changes meanwhile,
names are taken, a failed update goes back to the earlier configuration, a failed creation can only
be deleted, an update needs another configuration, autoscaling needs an endpoint in service, lists
have pages. The texts of refusals are those seen from AWS.
"""

# ruff: noqa: N802, N803, FBT001, FBT002 - operations and members are called as AWS calls them

import itertools
import json
from collections.abc import Sequence
from copy import deepcopy
from typing import Any, ClassVar

from aiohttp import web

from auterity.providers.sagemaker.endpoint import SageMakerEndpoint
from tests.conformance.meter import MINUTE, Flow, Meter, minutes
from tests.conformance.vendor import Edit, Refusal
from tests.fakes.aws import ACCOUNT, JSON, REGION, AwsVendor, Refused

ROLE = f"arn:aws:iam::{ACCOUNT}:role/serving"
IMAGE = f"{ACCOUNT}.dkr.ecr.{REGION}.amazonaws.com/serving:1"
PAGE = 2


class SageMaker:
    """Models, endpoint configurations and endpoints."""

    def __init__(self, autoscaling: "AutoScaling", violations: list[str]) -> None:
        self.models: dict[str, JSON] = {}
        self.configs: dict[str, JSON] = {}
        self.endpoints: dict[str, JSON] = {}
        self.tags: dict[str, dict[str, str]] = {}
        self.slow = False
        self.breaks: str | None = None
        """Why the next creation or update of an endpoint fails."""
        self.answers: dict[str, int] = {}
        """Status with which the container of an image answers, other than 200."""
        self.quota: int | None = None
        """Most endpoints that there may be."""
        self.violations = violations
        self._autoscaling = autoscaling
        self._clock = itertools.count(1_700_000_000)

    def CreateModel(self, ModelName: str, Tags: Sequence[JSON] = (), **model: Any) -> JSON:
        arn = self._new("model", self.models, ModelName)
        self.models[ModelName] = {**model, "ModelName": ModelName, "ModelArn": arn}
        self.models[ModelName]["CreationTime"] = next(self._clock)
        self._tag(arn, Tags)
        return {"ModelArn": arn}

    def DescribeModel(self, ModelName: str) -> JSON:
        return self._get("model", self.models, ModelName)

    def DeleteModel(self, ModelName: str) -> None:
        model = self._get("model", self.models, ModelName)
        if any(ModelName in self._models_of(name) for name in self._configs_in_use()):
            self.violations.append(f"model {ModelName} was deleted under a live endpoint")
        self.tags.pop(model["ModelArn"], None)
        del self.models[ModelName]

    def ListModels(self, **query: Any) -> JSON:
        return self._list("Model", self.models, **query)

    def CreateEndpointConfig(
        self,
        EndpointConfigName: str,
        Tags: Sequence[JSON] = (),
        **config: Any,
    ) -> JSON:
        variants = config["ProductionVariants"]
        if len(variants) > 1 and any("ServerlessConfig" in one for one in variants):
            raise _invalid("Serverless endpoints support a single production variant")
        for variant in variants:
            self._get("model", self.models, variant["ModelName"])
            self._check_variant(variant)
        arn = self._new("endpoint-config", self.configs, EndpointConfigName)
        self.configs[EndpointConfigName] = {
            **config,
            "EndpointConfigName": EndpointConfigName,
            "EndpointConfigArn": arn,
            "CreationTime": next(self._clock),
        }
        self._tag(arn, Tags)
        return {"EndpointConfigArn": arn}

    def DescribeEndpointConfig(self, EndpointConfigName: str) -> JSON:
        return self._get("endpoint-config", self.configs, EndpointConfigName)

    def DeleteEndpointConfig(self, EndpointConfigName: str) -> None:
        config = self._get("endpoint-config", self.configs, EndpointConfigName)
        if EndpointConfigName in self._configs_in_use():
            self.violations.append(f"{EndpointConfigName} was deleted under a live endpoint")
        self.tags.pop(config["EndpointConfigArn"], None)
        del self.configs[EndpointConfigName]

    def ListEndpointConfigs(self, **query: Any) -> JSON:
        return self._list("EndpointConfig", self.configs, **query)

    def CreateEndpoint(
        self,
        EndpointName: str,
        EndpointConfigName: str,
        Tags: Sequence[JSON] = (),
    ) -> JSON:
        self._get("endpoint-config", self.configs, EndpointConfigName)
        if self.quota is not None and len(self.endpoints) >= self.quota:
            raise Refused(
                "ResourceLimitExceeded",
                "The account-level service limit 'ml.m5.large for endpoint usage' is "
                f"{self.quota} Instances, with current utilization of {self.quota} Instances.",
            )
        arn = self._new("endpoint", self.endpoints, EndpointName)
        now = next(self._clock)
        self.endpoints[EndpointName] = {
            "EndpointName": EndpointName,
            "EndpointArn": arn,
            "EndpointConfigName": EndpointConfigName,
            "EndpointStatus": "Creating",
            "CreationTime": now,
            "LastModifiedTime": now,
        }
        self._tag(arn, Tags)
        return {"EndpointArn": arn}

    def DescribeEndpoint(self, EndpointName: str) -> JSON:
        endpoint = self._get("endpoint", self.endpoints, EndpointName)
        told = {k: v for k, v in endpoint.items() if not k.startswith("_")}
        if not self.slow:
            self.advance(EndpointName)
        return deepcopy(told)

    def UpdateEndpoint(
        self,
        EndpointName: str,
        EndpointConfigName: str,
        RetainAllVariantProperties: bool = False,
        ExcludeRetainedVariantProperties: Sequence[JSON] = (),
    ) -> JSON:
        endpoint = self._changeable("update", EndpointName)
        config = self._get("endpoint-config", self.configs, EndpointConfigName)
        if EndpointConfigName == endpoint["EndpointConfigName"]:
            raise _invalid("Endpoint configuration is already in use by the endpoint")
        for model in self._models_of(EndpointConfigName):
            self._get("model", self.models, model)
        for variant in self.configs[endpoint["EndpointConfigName"]]["ProductionVariants"]:
            after = {v["VariantName"]: v for v in config["ProductionVariants"]}
            name = variant["VariantName"]
            moved = after.get(name, {}).get("InstanceType") != variant.get("InstanceType")
            if moved and self._autoscaling.registered(EndpointName, name):
                raise _invalid(
                    f"Cannot update endpoint: variant {name} is registered as a scalable target"
                )
        excluded = {one["VariantPropertyType"] for one in ExcludeRetainedVariantProperties}
        retained = {
            v["VariantName"]: {
                k: v[k]
                for k in ("DesiredInstanceCount", "DesiredWeight")
                if k in v and k not in excluded
            }
            for v in endpoint["ProductionVariants"]
        }
        endpoint |= {
            "EndpointStatus": "Updating",
            "LastModifiedTime": next(self._clock),
            "_next": EndpointConfigName,
            "_retained": retained if RetainAllVariantProperties else {},
        }
        return {"EndpointArn": endpoint["EndpointArn"]}

    def UpdateEndpointWeightsAndCapacities(
        self, EndpointName: str, DesiredWeightsAndCapacities: list[JSON]
    ) -> JSON:
        endpoint = self._changeable("update", EndpointName)
        live = {v["VariantName"]: v for v in endpoint["ProductionVariants"]}
        for wanted in DesiredWeightsAndCapacities:
            if wanted["VariantName"] not in live:
                raise _invalid(f"Could not find variant {wanted['VariantName']}")
        weights = {n: v["DesiredWeight"] for n, v in live.items()}
        weights |= {
            w["VariantName"]: w["DesiredWeight"]
            for w in DesiredWeightsAndCapacities
            if "DesiredWeight" in w
        }
        if not sum(weights.values()):
            raise _invalid("The sum of the weights of all variants must be more than 0")
        for wanted in DesiredWeightsAndCapacities:
            live[wanted["VariantName"]] |= {k: v for k, v in wanted.items() if k != "VariantName"}
        endpoint |= {"EndpointStatus": "Updating", "LastModifiedTime": next(self._clock)}
        return {"EndpointArn": endpoint["EndpointArn"]}

    def DeleteEndpoint(self, EndpointName: str) -> None:
        endpoint = self._get("endpoint", self.endpoints, EndpointName)
        if endpoint["EndpointStatus"] in ("Creating", "Updating", "Deleting"):
            raise _invalid(f'Cannot delete in-progress endpoint "{endpoint["EndpointArn"]}".')
        endpoint["EndpointStatus"] = "Deleting"

    def AddTags(self, ResourceArn: str, Tags: list[JSON]) -> JSON:
        self._known(ResourceArn)
        self._tag(ResourceArn, Tags)
        return {"Tags": _listed(self.tags[ResourceArn])}

    def DeleteTags(self, ResourceArn: str, TagKeys: list[str]) -> JSON:
        self._known(ResourceArn)
        for key in TagKeys:
            self.tags[ResourceArn].pop(key, None)
        return {}

    def ListTags(self, ResourceArn: str, NextToken: str = "0") -> JSON:
        self._known(ResourceArn)
        return _page("Tags", _listed(self.tags[ResourceArn]), NextToken)

    def advance(self, name: str) -> None:
        """The next state of an endpoint that is in between."""
        endpoint = self.endpoints[name]
        status, reason = endpoint["EndpointStatus"], self.breaks
        if status == "Deleting":
            self.tags.pop(endpoint["EndpointArn"], None)
            del self.endpoints[name]
        elif status in ("Creating", "Updating"):
            self.breaks = None
            endpoint["LastModifiedTime"] = next(self._clock)
            config, retained = endpoint.pop("_next", None), endpoint.pop("_retained", {})
            endpoint["EndpointStatus"] = "InService"
            endpoint.pop("FailureReason", None)
            if reason is not None:
                endpoint["FailureReason"] = reason
                if status == "Creating":
                    endpoint["EndpointStatus"] = "Failed"
            elif status == "Creating" or config is not None:
                endpoint["EndpointConfigName"] = config or endpoint["EndpointConfigName"]
                endpoint["ProductionVariants"] = self._started(endpoint, retained)
            for variant in endpoint.get("ProductionVariants", ()):
                variant["CurrentWeight"] = variant["DesiredWeight"]
                if "DesiredInstanceCount" in variant:
                    variant["CurrentInstanceCount"] = variant["DesiredInstanceCount"]

    def _started(self, endpoint: JSON, retained: dict[str, JSON]) -> list[JSON]:
        started = []
        for variant in self.configs[endpoint["EndpointConfigName"]]["ProductionVariants"]:
            name, weight = variant["VariantName"], variant.get("InitialVariantWeight", 1.0)
            live: JSON = {"VariantName": name, "DesiredWeight": weight}
            if (count := variant.get("InitialInstanceCount")) is not None:
                live["DesiredInstanceCount"] = count
            started.append(live | retained.get(name, {}))
        return started

    def invoke(self, name: str, variant: str | None, body: bytes) -> JSON:
        """What the runtime answers; `answers` may make a variant fail."""
        endpoint = self._get("endpoint", self.endpoints, name)
        live = [v["VariantName"] for v in endpoint["ProductionVariants"] if v["CurrentWeight"]]
        chosen = variant or live[0]
        if chosen not in {v["VariantName"] for v in endpoint["ProductionVariants"]}:
            raise Refused("ValidationError", f"Variant {chosen} not found for Request")
        config = self.configs[endpoint["EndpointConfigName"]]
        model = next(
            v["ModelName"] for v in config["ProductionVariants"] if v["VariantName"] == chosen
        )
        status = self.answers.get(self.models[model]["PrimaryContainer"]["Image"], 200)
        if status != 200:
            message = f'Received server error ({status}) from primary with message "no".'
            raise Refused("ModelError", message, 424)
        return {"variant": chosen, "received": len(body)}

    def _check_variant(self, variant: JSON) -> None:
        serverless = variant.get("ServerlessConfig")
        if (serverless is None) == ("InstanceType" not in variant):
            raise _invalid("Specify either InstanceType or ServerlessConfig for the variant")
        if serverless is None:
            if variant.get("InitialInstanceCount", 0) < 1:
                raise _invalid("InitialInstanceCount must be at least 1")
        elif "InitialInstanceCount" in variant or "VolumeSizeInGB" in variant:
            raise _invalid("Serverless variants have no instances")
        elif serverless["MemorySizeInMB"] % 1024:
            raise _invalid("MemorySizeInMB must be a multiple of 1024")

    def _changeable(self, verb: str, name: str) -> JSON:
        endpoint = self._get("endpoint", self.endpoints, name)
        arn, status = endpoint["EndpointArn"], endpoint["EndpointStatus"]
        if status in ("Creating", "Updating", "Deleting"):
            raise _invalid(f'Cannot {verb} in-progress endpoint "{arn}".')
        if status == "Failed":
            raise _invalid(f'Cannot {verb} failed endpoint "{arn}".')
        return endpoint

    def _configs_in_use(self) -> set[str]:
        used = {e["EndpointConfigName"] for e in self.endpoints.values()}
        return used | {e["_next"] for e in self.endpoints.values() if "_next" in e}

    def _models_of(self, config: str) -> set[str]:
        if config not in self.configs:
            return set()
        return {v["ModelName"] for v in self.configs[config]["ProductionVariants"]}

    def _new(self, kind: str, among: dict[str, JSON], name: str) -> str:
        arn = _arn(kind, name)
        if name.lower() in {taken.lower() for taken in among}:
            words = kind.replace("endpoint-config", "endpoint configuration")
            raise _invalid(f'Cannot create already existing {words} "{arn}".')
        return arn

    def _get(self, kind: str, among: dict[str, JSON], name: str) -> JSON:
        if name not in among:
            words = kind.replace("endpoint-config", "endpoint configuration")
            raise _invalid(f'Could not find {words} "{_arn(kind, name)}".')
        return among[name]

    def _known(self, arn: str) -> None:
        if arn not in self.tags:
            raise _invalid(f'Could not find resource "{arn}".')

    def _tag(self, arn: str, tags: Sequence[JSON]) -> None:
        kept = self.tags.setdefault(arn, {})
        kept |= {tag["Key"]: tag["Value"] for tag in tags}
        if len(kept) > 50 or any(key.lower().startswith("aws:") for key in kept):
            raise _invalid("Tags are more than 50 or begin with aws:")

    def _list(self, kind: str, among: dict[str, JSON], **query: Any) -> JSON:
        part = query.get("NameContains", "").lower()
        keys = (f"{kind}Name", f"{kind}Arn", "CreationTime")
        found = [{k: item[k] for k in keys} for n, item in among.items() if part in n.lower()]
        return _page(f"{kind}s", found, query.get("NextToken", "0"))


class AutoScaling:
    """Application Auto Scaling of variants."""

    def __init__(self) -> None:
        self.targets: dict[str, JSON] = {}
        self.policies: dict[tuple[str, str], JSON] = {}
        self.sagemaker: SageMaker

    def registered(self, endpoint: str, variant: str) -> bool:
        return f"endpoint/{endpoint}/variant/{variant}" in self.targets

    def RegisterScalableTarget(self, ResourceId: str, **target: Any) -> JSON:
        _, endpoint, _, variant = ResourceId.split("/")
        live = self.sagemaker.endpoints.get(endpoint, {})
        names = {v["VariantName"] for v in live.get("ProductionVariants", ())}
        if live.get("EndpointStatus") != "InService" or variant not in names:
            raise _invalid(f"No endpoint in service with such a variant: {ResourceId}")
        if target["MinCapacity"] > target["MaxCapacity"] or target["MinCapacity"] < 1:
            raise _invalid("Minimum capacity must be from 1 to the maximum capacity")
        kept = self.targets.setdefault(
            ResourceId,
            {
                "ResourceId": ResourceId,
                "RoleARN": f"arn:aws:iam::{ACCOUNT}:role/aws-service-role/scaling",
                "CreationTime": 1_700_000_000,
            },
        )
        kept |= target
        where = f"arn:aws:application-autoscaling:{REGION}:{ACCOUNT}"
        return {"ScalableTargetARN": f"{where}:scalable-target/1"}

    def DescribeScalableTargets(
        self, ServiceNamespace: str, ResourceIds: list[str], ScalableDimension: str
    ) -> JSON:
        return {"ScalableTargets": [self.targets[r] for r in ResourceIds if r in self.targets]}

    def DeregisterScalableTarget(
        self, ServiceNamespace: str, ResourceId: str, ScalableDimension: str
    ) -> JSON:
        self._target(ResourceId)
        del self.targets[ResourceId]
        self.policies = {k: v for k, v in self.policies.items() if k[0] != ResourceId}
        return {}

    def PutScalingPolicy(self, PolicyName: str, ResourceId: str, **policy: Any) -> JSON:
        self._target(ResourceId)
        tracking = policy["TargetTrackingScalingPolicyConfiguration"]
        metrics = ("PredefinedMetricSpecification", "CustomizedMetricSpecification")
        if sum(name in tracking for name in metrics) != 1:
            raise _invalid("Specify exactly one metric")
        arn = f"arn:aws:autoscaling:{REGION}:{ACCOUNT}:scalingPolicy:1:{PolicyName}"
        self.policies[ResourceId, PolicyName] = {
            **policy,
            "PolicyName": PolicyName,
            "PolicyARN": arn,
            "ResourceId": ResourceId,
            "CreationTime": 1_700_000_000,
            "Alarms": [],
        }
        return {"PolicyARN": arn, "Alarms": []}

    def DescribeScalingPolicies(
        self, ServiceNamespace: str, ResourceId: str, ScalableDimension: str
    ) -> JSON:
        found = [p for (resource, _), p in self.policies.items() if resource == ResourceId]
        return {"ScalingPolicies": found}

    def _target(self, resource: str) -> None:
        if resource not in self.targets:
            raise Refused(
                "ObjectNotFoundException",
                f"No scalable target registered for service namespace: sagemaker, {resource}",
            )


class CloudWatch:
    """What is measured of the variants of endpoints, each minute."""

    def __init__(self, meter: Meter) -> None:
        self.meter = meter

    def GetMetricData(
        self,
        MetricDataQueries: list[JSON],
        StartTime: float,
        EndTime: float,
        NextToken: str = "0",
    ) -> JSON:
        if EndTime <= StartTime:
            raise _invalid("The parameter StartTime must be less than the parameter EndTime.")
        results = [self._result(one, StartTime, EndTime) for one in MetricDataQueries]
        return _page("MetricDataResults", results, NextToken)

    def _result(self, query: JSON, start: float, end: float) -> JSON:
        stat = query["MetricStat"]
        metric, period = stat["Metric"], stat["Period"]
        dimensions = {one["Name"]: one["Value"] for one in metric["Dimensions"]}
        told: JSON = {"Id": query["Id"], "Label": metric["MetricName"], "StatusCode": "Complete"}
        if metric["Namespace"] != "AWS/SageMaker" or period != MINUTE:
            return told | {"Timestamps": [], "Values": []}
        assert dimensions.keys() == {"EndpointName", "VariantName"}, dimensions
        flow = self.meter.of(dimensions["VariantName"], start, end)
        value = _measured(flow, metric["MetricName"], stat["Stat"])
        times = [float(at) for at in minutes(start, end)] if flow.requests else []
        return told | {"Timestamps": times[::-1], "Values": [value] * len(times)}


def _measured(flow: Flow, name: str, stat: str) -> float:
    if name == "ModelLatency":
        return flow.percentile(int(stat.removeprefix("p"))) * 1000
    assert stat == "Sum", (name, stat)
    share = {
        "Invocations": 100.0,
        "Invocation5XXErrors": flow.errors,
        "Invocation4XXErrors": flow.refused,
    }
    return flow.requests * share[name] / 100


class SageMakerVendor(AwsVendor):
    """SageMaker behind the provider."""

    provider = SageMakerEndpoint
    key = "AKIACONFORMANCE00001"
    spec: ClassVar[JSON] = {
        "model": {"image": IMAGE, "artifact": "s3://models/churn/model.tar.gz"},
        "hardware": "ml.m5.large",
        "scaling": {
            "min": 1,
            "max": 3,
            "target": {"metric": "InvocationsPerReplica", "value": 600},
        },
        "environment": [
            {"name": "LOG_LEVEL", "value": "info"},
            {"name": "TOKEN", "secretKeyRef": {"name": "model", "key": "token"}},
        ],
        "sageMaker": {
            "executionRoleArn": ROLE,
            "vpc": {"subnets": ["subnet-2", "subnet-1"], "securityGroups": ["sg-1"]},
            "volumeSizeInGB": 30,
            "kmsKeyId": "alias/serving",
            "tags": {"team": "search", "stage": "test"},
        },
    }
    edits = (
        Edit("another image", {"model": {"image": IMAGE.replace(":1", ":2")}}),
        Edit("another artifact", {"model": {"artifact": "s3://models/churn/2/model.tar.gz"}}),
        Edit("an artifact that is a folder", {"model": {"artifact": "s3://models/churn/2/"}}),
        Edit(
            "one variable more",
            {
                "environment": [
                    *spec["environment"],
                    {"name": "WORKERS", "value": "4"},
                ]
            },
        ),
        Edit("one variable less", {"environment": spec["environment"][1:]}),
        Edit("the secret variable gone", {"environment": spec["environment"][:1]}),
        Edit("other bounds", {"scaling": {"min": 2, "max": 5}}),
        Edit("another target", {"scaling": {"target": {"metric": "CPUUtilization", "value": 70}}}),
        Edit("a fixed number", {"scaling": {"min": 2, "max": None, "target": None}}),
        Edit("other hardware", {"hardware": "ml.c5.xlarge"}),
        Edit(
            "serverless",
            {
                "hardware": None,
                "scaling": None,
                "sageMaker": {
                    "volumeSizeInGB": None,
                    "serverless": {"memorySizeInMB": 2048, "maxConcurrency": 5},
                },
            },
        ),
        Edit("another role", {"sageMaker": {"executionRoleArn": f"{ROLE}-2"}}),
        Edit("other networks", {"sageMaker": {"vpc": {"subnets": ["subnet-3"]}}}),
        Edit("isolation", {"sageMaker": {"enableNetworkIsolation": True}}),
        Edit(
            "disk and time-outs",
            {
                "sageMaker": {
                    "volumeSizeInGB": 60,
                    "kmsKeyId": "alias/other",
                    "modelDataDownloadTimeoutInSeconds": 900,
                    "containerStartupHealthCheckTimeoutInSeconds": 600,
                }
            },
        ),
        Edit(
            "data capture",
            {"sageMaker": {"dataCapture": {"destination": "s3://c/x", "samplingPercentage": 20}}},
        ),
        Edit("a tag more and one less", {"sageMaker": {"tags": {"stage": None, "cost": "42"}}}),
        Edit("what is superseded stays", {"sageMaker": {"keepSuperseded": True}}),
    )
    refusal = Refusal(
        {"sageMaker": {"executionRoleArn": "arn:aws:iam::of-nobody:role/serving"}},
        "satisfy regular expression pattern",
    )
    secrets: ClassVar[dict[str, dict[str, str]]] = {
        "aws": {"secretAccessKey": "x9Kd72hfLq0sVbN4mZ1tRw8yUe6cPa3gJi5oTk+/"},
        "model": {"token": "tok-5f0c2b7a9d314e66"},
    }
    wrong_secrets: ClassVar[dict[str, dict[str, str]]] = {
        "aws": {"secretAccessKey": "wrong0Kd72hfLq0sVbN4mZ1tRw8yUe6cPa3gJi5oT"}
    }
    rotated_secrets: ClassVar[dict[str, dict[str, str]]] = {
        "model": {"token": "tok-new-81be3f60c2d94a7f"}
    }
    has_pending = True
    fast = False  # An update is some forty calls over four visits: one fault at each is enough.

    def serve(self) -> None:
        self.autoscaling = AutoScaling()
        self.account = self.sagemaker = SageMaker(self.autoscaling, self.aws.violations)
        self.autoscaling.sagemaker = self.sagemaker
        self.aws.add("sagemaker", self.sagemaker, "ValidationException")
        self.aws.add("application-autoscaling", self.autoscaling, "ValidationException")
        self.aws.add("cloudwatch", CloudWatch(self.meter), "InvalidParameterValueException")
        self.aws.route("/endpoints/{name}/invocations", self._invoke)

    def _invoke(self, request: web.Request, raw: bytes) -> JSON:
        variant = request.headers.get("X-Amzn-SageMaker-Target-Variant")
        return self.sagemaker.invoke(request.match_info["name"], variant, raw)

    async def break_next_revision(self) -> None:
        self.sagemaker.breaks = "The container did not pass the ping health check."

    def written(self, method: str) -> bool:
        return method != "InvokeEndpoint" and super().written(method)

    async def reset(self) -> None:
        for held in (
            self.sagemaker.models,
            self.sagemaker.configs,
            self.sagemaker.endpoints,
            self.sagemaker.tags,
            self.autoscaling.targets,
            self.autoscaling.policies,
        ):
            held.clear()
        self.slow = False

    async def count(self) -> int:
        return (
            len(self.sagemaker.models)
            + len(self.sagemaker.configs)
            + len(self.sagemaker.endpoints)
            + len(self.autoscaling.targets)
            + len(self.autoscaling.policies)
        )

    async def tamper(self, id: str) -> str:
        (target,) = self.autoscaling.targets.values()
        target["MaxCapacity"] = 9
        return "scaling.max"

    async def vanish(self, id: str) -> None:
        slow = self.slow
        await self.reset()
        self.slow = slow

    async def foreign(self, spec: JSON, name: str, owner: str | None) -> None:
        fake, block = self.sagemaker, spec["sageMaker"]
        fake.CreateModel(
            "by-hand",
            ExecutionRoleArn=block["executionRoleArn"],
            PrimaryContainer={"Image": spec["model"]["image"], "Environment": {"LEFT": "over"}},
        )
        variant = {
            "VariantName": "blue",
            "ModelName": "by-hand",
            "InstanceType": spec["hardware"],
            "InitialInstanceCount": 1,
        }
        fake.CreateEndpointConfig("by-hand", ProductionVariants=[variant])
        tags = [{"Key": "integrations.auterity.io/owner", "Value": owner}] if owner else []
        fake.CreateEndpoint(name, "by-hand", Tags=tags)
        fake.advance(name)

    async def settle(self) -> None:
        for name in list(self.sagemaker.endpoints):
            self.sagemaker.advance(name)

    async def told(self, id: str) -> str:
        return json.dumps([self.sagemaker.models, self.sagemaker.configs, self.sagemaker.tags])


def _arn(kind: str, name: str) -> str:
    return f"arn:aws:sagemaker:{REGION}:{ACCOUNT}:{kind}/{name.lower()}"


def _invalid(message: str) -> Refused:
    return Refused("ValidationException", message)


def _listed(tags: dict[str, str]) -> list[JSON]:
    return [{"Key": key, "Value": value} for key, value in tags.items()]


def _page(key: str, items: list[JSON], token: str) -> JSON:
    first = int(token)
    page: JSON = {key: items[first : first + PAGE]}
    if first + PAGE < len(items):
        page["NextToken"] = str(first + PAGE)
    return page
