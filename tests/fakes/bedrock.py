"""Amazon Bedrock: what models are served by, and customisation jobs, as of 2026-11.

What it knows beyond the service model: identifiers are names or ARNs, names are taken (those of
jobs for ever), things take their time, a failed update of a deployment leaves the earlier model,
throughput moves only among a base model and what was made of it, a commitment holds, a model that
is served is not deleted, lists have pages. Texts of refusals are those seen from AWS where some
were; otherwise they are worded alike.
"""

# ruff: noqa: N802, N803 - operations and members are called as AWS calls them

import itertools
import json
from collections.abc import Sequence
from copy import deepcopy
from typing import Any, ClassVar

from aiohttp import web

from auterity.providers.bedrock.customization import BedrockCustomization
from auterity.providers.bedrock.deployment import BedrockDeployment
from auterity.transport.aws import OWNER_TAG
from tests.conformance.vendor import Edit, Refusal
from tests.fakes.aws import ACCOUNT, JSON, REGION, AwsVendor, Refused

ROLE = f"arn:aws:iam::{ACCOUNT}:role/customization"
HERE = f"arn:aws:bedrock:{REGION}"
BASE = "amazon.nova-lite-v1:0"
OTHER_BASE = "meta.llama3-1-8b-instruct-v1:0"
FOUNDATION = {name: f"{HERE}::foundation-model/{name}" for name in (BASE, OTHER_BASE)}
ROUTED = f"eu.{BASE}"
"""A cross-region profile of AWS's."""
REGIONS = ("eu-central-1", "eu-west-1", "eu-west-3")
CUSTOM, NEWER, OF_ANOTHER = (
    f"{HERE}:{ACCOUNT}:custom-model/{base}/00000000000{number}"
    for number, base in enumerate((BASE, BASE, OTHER_BASE), 1)
)
UNKNOWN = CUSTOM.replace("000000000001", "999999999999")
PAGE = 2


class Bedrock:
    """One account in one region."""

    def __init__(self) -> None:
        self.throughputs: dict[str, JSON] = {}
        self.deployments: dict[str, JSON] = {}
        self.profiles: dict[str, JSON] = {}
        self.jobs: dict[str, JSON] = {}
        self.models: dict[str, JSON] = {}
        """Custom models that jobs have made; those in the constants above are always there."""
        self.tags: dict[str, dict[str, str]] = {}
        self.slow = False
        self.breaks: str | None = None
        """Why what comes next fails."""
        self.quota: int | None = None
        """Most model units, and jobs at a time."""
        self.answers: tuple[int, str, str] | None = None
        """Status, code and text with which models refuse."""
        self._ids = (f"{number:012d}" for number in itertools.count(1001))
        self._clock = itertools.count()

    # Provisioned throughput

    def CreateProvisionedModelThroughput(
        self,
        provisionedModelName: str,
        modelId: str,
        modelUnits: int,
        clientRequestToken: str,
        tags: Sequence[JSON] = (),
        **more: Any,
    ) -> JSON:
        model = self._model_of(modelId)
        if any(
            t["provisionedModelName"] == provisionedModelName for t in self.throughputs.values()
        ):
            raise _invalid("The provided provisioned model name is currently in use.")
        bought = modelUnits + sum(t["modelUnits"] for t in self.throughputs.values())
        if self.quota is not None and bought > self.quota:
            raise Refused(
                "ServiceQuotaExceededException",
                f"Your account has a limit of {self.quota} model units for this model.",
            )
        arn = f"{HERE}:{ACCOUNT}:provisioned-model/{next(self._ids)}"
        now = self._now()
        self.throughputs[arn] = {
            **more,
            "provisionedModelArn": arn,
            "provisionedModelName": provisionedModelName,
            "modelUnits": modelUnits,
            "desiredModelUnits": modelUnits,
            "modelArn": model,
            "desiredModelArn": model,
            "foundationModelArn": FOUNDATION[_base_of(model)],
            "status": "Creating",
            "creationTime": now,
            "lastModifiedTime": now,
        }
        self._tag(arn, tags)
        return {"provisionedModelArn": arn}

    def GetProvisionedModelThroughput(self, provisionedModelId: str) -> JSON:
        one = self._get(self.throughputs, "provisionedModelName", provisionedModelId)
        return self._told(one)

    def UpdateProvisionedModelThroughput(
        self, provisionedModelId: str, desiredModelId: str
    ) -> JSON:
        one = self._get(self.throughputs, "provisionedModelName", provisionedModelId)
        model = self._model_of(desiredModelId)
        if _base_of(model) != _base_of(one["modelArn"]):
            raise _invalid("The desired model must have the same base model as the current one.")
        if one["status"] != "InService":
            raise _invalid(f"The provisioned model is {one['status']}.")
        one |= {"status": "Updating", "desiredModelArn": model, "lastModifiedTime": self._now()}
        return {}

    def DeleteProvisionedModelThroughput(self, provisionedModelId: str) -> JSON:
        one = self._get(self.throughputs, "provisionedModelName", provisionedModelId)
        if "commitmentDuration" in one:
            raise Refused(
                "ConflictException",
                "The provisioned model cannot be deleted before the end of its commitment.",
            )
        return self._drop(self.throughputs, one["provisionedModelArn"])

    # Custom models on demand

    def CreateCustomModelDeployment(
        self,
        modelDeploymentName: str,
        modelArn: str,
        clientRequestToken: str,
        tags: Sequence[JSON] = (),
        **more: Any,
    ) -> JSON:
        self._model_of(modelArn)
        if any(d["modelDeploymentName"] == modelDeploymentName for d in self.deployments.values()):
            raise _invalid("The provided model deployment name is currently in use.")
        arn = f"{HERE}:{ACCOUNT}:custom-model-deployment/{next(self._ids)}"
        self.deployments[arn] = {
            **more,
            "customModelDeploymentArn": arn,
            "modelDeploymentName": modelDeploymentName,
            "modelArn": modelArn,
            "status": "Creating",
            "createdAt": self._now(),
        }
        self._tag(arn, tags)
        return {"customModelDeploymentArn": arn}

    def GetCustomModelDeployment(self, customModelDeploymentIdentifier: str) -> JSON:
        return self._told(
            self._get(self.deployments, "modelDeploymentName", customModelDeploymentIdentifier)
        )

    def UpdateCustomModelDeployment(
        self, customModelDeploymentIdentifier: str, modelArn: str
    ) -> JSON:
        one = self._get(self.deployments, "modelDeploymentName", customModelDeploymentIdentifier)
        self._model_of(modelArn)
        if one["status"] != "Active" or _updating(one):
            raise _invalid("The model deployment is not Active, or is being updated.")
        one["updateDetails"] = {"modelArn": modelArn, "updateStatus": "Updating"}
        return {"customModelDeploymentArn": one["customModelDeploymentArn"]}

    def DeleteCustomModelDeployment(self, customModelDeploymentIdentifier: str) -> JSON:
        one = self._get(self.deployments, "modelDeploymentName", customModelDeploymentIdentifier)
        return self._drop(self.deployments, one["customModelDeploymentArn"])

    # Inference profiles

    def CreateInferenceProfile(
        self,
        inferenceProfileName: str,
        modelSource: JSON,
        clientRequestToken: str,
        tags: Sequence[JSON] = (),
        **more: Any,
    ) -> JSON:
        source, id = modelSource["copyFrom"], next(self._ids)
        name = source.rpartition("/")[2]
        regions = REGIONS if name == ROUTED else REGIONS[:1]
        base = name.removeprefix("eu.")
        if base not in FOUNDATION:
            raise _invalid("The provided model identifier is invalid.")
        models = [{"modelArn": FOUNDATION[base].replace(REGION, region)} for region in regions]
        arn = f"{HERE}:{ACCOUNT}:application-inference-profile/{id}"
        self.profiles[arn] = {
            **more,
            "inferenceProfileArn": arn,
            "inferenceProfileId": id,
            "inferenceProfileName": inferenceProfileName,
            "models": models,
            "status": "ACTIVE",
            "type": "APPLICATION",
        }
        self._tag(arn, tags)
        return {"inferenceProfileArn": arn, "status": "ACTIVE"}

    def GetInferenceProfile(self, inferenceProfileIdentifier: str) -> JSON:
        if inferenceProfileIdentifier == ROUTED:
            return {
                "inferenceProfileArn": f"{HERE}:{ACCOUNT}:inference-profile/{ROUTED}",
                "inferenceProfileId": ROUTED,
                "inferenceProfileName": "EU Nova Lite",
                "models": [{"modelArn": FOUNDATION[BASE].replace(REGION, r)} for r in REGIONS],
                "status": "ACTIVE",
                "type": "SYSTEM_DEFINED",
            }
        return self._get(self.profiles, "inferenceProfileId", inferenceProfileIdentifier)

    def ListInferenceProfiles(self, typeEquals: str, nextToken: str = "0") -> JSON:
        assert typeEquals == "APPLICATION"
        return _page("inferenceProfileSummaries", [*self.profiles.values()], nextToken)

    def DeleteInferenceProfile(self, inferenceProfileIdentifier: str) -> JSON:
        one = self._get(self.profiles, "inferenceProfileId", inferenceProfileIdentifier)
        return self._drop(self.profiles, one["inferenceProfileArn"])

    def GetFoundationModel(self, modelIdentifier: str) -> JSON:
        if modelIdentifier not in FOUNDATION:
            raise _invalid("The provided model identifier is invalid.")
        return {
            "modelDetails": {"modelArn": FOUNDATION[modelIdentifier], "modelId": modelIdentifier}
        }

    # Customisation jobs and custom models

    def CreateModelCustomizationJob(
        self,
        jobName: str,
        customModelName: str,
        baseModelIdentifier: str,
        clientRequestToken: str,
        jobTags: Sequence[JSON] = (),
        customModelTags: Sequence[JSON] = (),
        customModelKmsKeyId: str | None = None,
        **job: Any,
    ) -> JSON:
        if jobName in self.jobs:
            raise _invalid("The provided job name is currently in use.")
        if any(model["modelName"] == customModelName for model in self.models.values()):
            raise _invalid("The provided model name is currently in use.")
        base = FOUNDATION[_base_of(self._model_of(baseModelIdentifier))]
        if not job["trainingDataConfig"]["s3Uri"].endswith(".jsonl"):
            raise _invalid(f"Could not access training data {job['trainingDataConfig']['s3Uri']}.")
        running = [one for one in self.jobs.values() if one["status"] == "InProgress"]
        if self.quota is not None and len(running) >= self.quota:
            raise Refused(
                "ServiceQuotaExceededException",
                f"You have reached the limit of {self.quota} customization jobs in progress.",
            )
        arn = f"{HERE}:{ACCOUNT}:model-customization-job/{BASE}/{next(self._ids)}"
        now = self._now()
        self.jobs[jobName] = {
            "validationDataConfig": {"validators": []},
            "customizationType": "FINE_TUNING",
            **job,
            "jobArn": arn,
            "jobName": jobName,
            "outputModelName": customModelName,
            "baseModelArn": base,
            "status": "InProgress",
            "statusDetails": {"trainingDetails": {"status": "InProgress"}},
            "creationTime": now,
            "lastModifiedTime": now,
            "_tags": list(customModelTags),
        }
        # What is left to the base model is told with its defaults.
        if "customizationConfig" not in job:
            told = self.jobs[jobName].setdefault("hyperParameters", {})
            self.jobs[jobName]["hyperParameters"] = {"batchSize": "1", **told}
        self._tag(arn, jobTags)
        return {"jobArn": arn}

    def GetModelCustomizationJob(self, jobIdentifier: str) -> JSON:
        return self._told(self._get(self.jobs, "jobArn", jobIdentifier))

    def ListModelCustomizationJobs(self, nameContains: str, nextToken: str = "0") -> JSON:
        found = [
            {
                "jobArn": job["jobArn"],
                "jobName": name,
                "baseModelArn": job["baseModelArn"],
                "status": job["status"],
                "creationTime": job["creationTime"],
                "customModelName": job["outputModelName"],
                **({"customModelArn": job["outputModelArn"]} if "outputModelArn" in job else {}),
            }
            for name, job in self.jobs.items()
            if nameContains in name
        ]
        return _page("modelCustomizationJobSummaries", found, nextToken)

    def StopModelCustomizationJob(self, jobIdentifier: str) -> JSON:
        job = self._get(self.jobs, "jobArn", jobIdentifier)
        if job["status"] not in ("InProgress", "Stopping"):
            raise Refused("ConflictException", f"The job is {job['status']}.")
        job["status"] = "Stopping"
        return {}

    def GetCustomModel(self, modelIdentifier: str) -> JSON:
        return self._get(self.models, "modelName", modelIdentifier)

    def DeleteCustomModel(self, modelIdentifier: str) -> JSON:
        model = self._get(self.models, "modelName", modelIdentifier)
        arn = model["modelArn"]
        if arn in {d["modelArn"] for d in self.deployments.values()}:
            raise Refused("ConflictException", "The model is in use by a custom model deployment.")
        return self._drop(self.models, arn)

    # Tags

    def TagResource(self, resourceARN: str, tags: list[JSON]) -> JSON:
        self._known(resourceARN)
        self._tag(resourceARN, tags)
        return {}

    def UntagResource(self, resourceARN: str, tagKeys: list[str]) -> JSON:
        for key in tagKeys:
            self._known(resourceARN).pop(key, None)
        return {}

    def ListTagsForResource(self, resourceARN: str) -> JSON:
        return {"tags": _listed(self._known(resourceARN))}

    def invoke(self, model: str, body: bytes) -> JSON:
        """What the runtime answers."""
        if model not in {**self.throughputs, **self.deployments, **self.profiles}:
            raise _absent(f"Could not resolve the model {model}.")
        if self.answers is not None:
            status, code, text = self.answers
            raise Refused(code, text, status)
        return {"model": model, "received": len(body)}

    def advance(self, one: JSON) -> None:
        """The next state of what is in between."""
        busy, now = one["status"] in _BETWEEN or _updating(one), self._now()
        reason = self.breaks if busy else None
        if busy:
            self.breaks = None
        if reason is not None:
            one["failureMessage"] = reason
        match one["status"]:
            case "Creating" | "Updating":
                done = "InService" if "provisionedModelArn" in one else "Active"
                one["status"] = "Failed" if reason else done
                if "desiredModelArn" in one and reason is None:
                    one["modelArn"] = one["desiredModelArn"]
            case "Active" if _updating(one):
                details = one["updateDetails"]
                details["updateStatus"] = "UpdateFailed" if reason else "UpdateCompleted"
                if reason is None:
                    one["modelArn"] = details["modelArn"]
            case "InProgress":
                one |= {"status": "Failed" if reason else "Completed", "lastModifiedTime": now}
                one["statusDetails"] = {"trainingDetails": {"status": one["status"]}}
                if reason is None:
                    self._made_by(one)
            case "Stopping":
                one |= {"status": "Stopped", "lastModifiedTime": now}

    def between(self) -> list[JSON]:
        """All that may change by itself."""
        return [*self.throughputs.values(), *self.deployments.values(), *self.jobs.values()]

    def _made_by(self, job: JSON) -> None:
        base = job["baseModelArn"].rpartition("/")[2]
        arn = f"{HERE}:{ACCOUNT}:custom-model/{base}/{next(self._ids)}"
        self.models[arn] = {
            "modelArn": arn,
            "modelName": job["outputModelName"],
            "jobName": job["jobName"],
            "creationTime": self._now(),
            "modelStatus": "Active",
        }
        job |= {"outputModelArn": arn, "trainingMetrics": {"trainingLoss": 0.25}}
        self._tag(arn, job["_tags"])

    def _told(self, one: JSON) -> JSON:
        told = {k: v for k, v in deepcopy(one).items() if not k.startswith("_")}
        if not self.slow:
            self.advance(one)
        return told

    def _get(self, among: dict[str, JSON], name: str, identifier: str) -> JSON:
        for key, one in among.items():
            if identifier in (key, one[name]):
                return one
        raise _absent(f"Could not find a resource with identifier {identifier}.")

    def _drop(self, among: dict[str, JSON], arn: str) -> JSON:
        self.tags.pop(arn, None)
        del among[arn]
        return {}

    def _model_of(self, identifier: str) -> str:
        arn = FOUNDATION.get(identifier, identifier)
        known = {CUSTOM, NEWER, OF_ANOTHER, *FOUNDATION.values(), *self.models}
        if arn not in known:
            raise _invalid("The provided model identifier is invalid.")
        return arn

    def _known(self, arn: str) -> dict[str, str]:
        if arn not in self.tags:
            raise _absent(f"Could not find a resource with ARN {arn}.")
        return self.tags[arn]

    def _tag(self, arn: str, tags: Sequence[JSON]) -> None:
        kept = self.tags.setdefault(arn, {})
        kept |= {tag["key"]: tag["value"] for tag in tags}
        if any(key.lower().startswith("aws:") for key in kept):
            raise _invalid("Tag keys must not begin with aws:")

    def _now(self) -> str:
        minutes, seconds = divmod(next(self._clock), 60)
        return f"2026-11-01T{minutes // 60 % 24:02d}:{minutes % 60:02d}:{seconds:02d}Z"


_BETWEEN = ("Creating", "Updating", "InProgress")
SECRETS = {"aws": {"secretAccessKey": "v3Tn85jhMq2tXdP6oB4vSx0zWg9eRc7iLk1qVm+/"}}
WRONG = {"aws": {"secretAccessKey": "wrong4Tn85jhMq2tXdP6oB4vSx0zWg9eRc7iLk1qV"}}


class _Account(AwsVendor):
    """Bedrock behind a provider."""

    key = "AKIACONFORMANCE00003"
    secrets: ClassVar[dict[str, dict[str, str]]] = SECRETS
    wrong_secrets: ClassVar[dict[str, dict[str, str]]] = WRONG

    def serve(self) -> None:
        self.account = self.bedrock = Bedrock()
        self.aws.add_rest("bedrock", self.bedrock, "ValidationException")
        self.aws.route("/model/{id}/invoke", self._invoke)
        self.aws.route("/model/{id}/converse", self._converse)

    def _invoke(self, request: web.Request, raw: bytes) -> JSON:
        return self.bedrock.invoke(request.match_info["id"], raw)

    def _converse(self, request: web.Request, raw: bytes) -> JSON:
        said = json.loads(raw)["messages"][0]["content"][0]["text"]
        self.bedrock.invoke(request.match_info["id"], raw)
        return {"output": {"message": {"role": "assistant", "content": [{"text": said}]}}}

    def written(self, method: str) -> bool:
        return method not in ("InvokeModel", "Converse") and super().written(method)

    async def reset(self) -> None:
        fake = self.bedrock
        for held in (fake.throughputs, fake.deployments, fake.profiles, fake.jobs, fake.models):
            held.clear()
        fake.tags.clear()
        self.slow = False

    async def settle(self) -> None:
        for one in self.bedrock.between():
            self.bedrock.advance(one)

    async def vanish(self, id: str) -> None:
        slow = self.slow
        await self.reset()
        self.slow = slow

    async def told(self, id: str) -> str:
        return json.dumps([self.bedrock.between(), self.bedrock.tags])


TAGS = Edit("a tag more and one less", {"bedrock": {"tags": {"stage": None, "cost": "42"}}})
OWN: JSON = {"tags": {"team": "search", "stage": "test"}}


class _Deployments(_Account):
    """Something that models are served by."""

    provider = BedrockDeployment

    async def count(self) -> int:
        fake = self.bedrock
        return len(fake.throughputs) + len(fake.deployments) + len(fake.profiles)


class ThroughputVendor(_Deployments):
    """Provisioned throughput."""

    variant = "provisionedThroughput"
    spec: ClassVar[JSON] = {
        "model": {"name": BASE},
        "bedrock": {**OWN, "provisionedThroughput": {"modelUnits": 1}},
    }
    edits = (
        Edit("a custom model", {"model": {"name": CUSTOM}}),
        Edit("another custom model of the same base", {"model": {"name": NEWER}}),
        TAGS,
    )
    immutable: ClassVar[JSON] = {"bedrock": {"provisionedThroughput": {"modelUnits": 2}}}
    refusal = Refusal({"model": {"name": "amazon.no-such-v1:0"}}, "identifier is invalid")
    has_pending = True

    async def tamper(self, id: str) -> str:
        one = self.bedrock.throughputs[id]
        one["modelArn"] = one["desiredModelArn"] = CUSTOM
        return "model.name"

    async def foreign(self, spec: JSON, name: str, owner: str | None) -> None:
        units = spec["bedrock"]["provisionedThroughput"]["modelUnits"]
        self.bedrock.CreateProvisionedModelThroughput(
            name, spec["model"]["name"], units, "token", _mark(owner)
        )
        await self.settle()


class ProfileVendor(_Deployments):
    """Application inference profiles."""

    variant = "inferenceProfile"
    spec: ClassVar[JSON] = {
        "model": {"name": ROUTED},
        "bedrock": {**OWN, "inferenceProfile": {"description": "Costs of search"}},
    }
    edits = (TAGS,)
    immutable: ClassVar[JSON] = {"bedrock": {"inferenceProfile": {"description": "Other costs"}}}
    refusal = Refusal({"model": {"name": "amazon.no-such-v1:0"}}, "identifier is invalid")

    async def tamper(self, id: str) -> str:
        self.bedrock.tags[id]["team"] = "someone-else"
        return "bedrock.tags.team"

    async def foreign(self, spec: JSON, name: str, owner: str | None) -> None:
        source = f"{HERE}:{ACCOUNT}:inference-profile/{spec['model']['name']}"
        self.bedrock.CreateInferenceProfile(
            name, {"copyFrom": source}, "token", _mark(owner), **spec["bedrock"]["inferenceProfile"]
        )


class OnDemandVendor(_Deployments):
    """Custom models on demand."""

    spec: ClassVar[JSON] = {
        "model": {"name": CUSTOM},
        "bedrock": {**OWN, "customModelDeployment": {"description": "Search"}},
    }
    edits = (
        Edit("another model", {"model": {"name": NEWER}}),
        Edit("a model of another base", {"model": {"name": OF_ANOTHER}}),
        TAGS,
    )
    immutable: ClassVar[JSON] = {"bedrock": {"customModelDeployment": {"description": "Other"}}}
    refusal = Refusal({"model": {"name": UNKNOWN}}, "identifier is invalid")
    has_pending = True

    async def tamper(self, id: str) -> str:
        self.bedrock.deployments[id]["modelArn"] = NEWER
        return "model.name"

    async def foreign(self, spec: JSON, name: str, owner: str | None) -> None:
        self.bedrock.CreateCustomModelDeployment(
            name,
            spec["model"]["name"],
            "token",
            _mark(owner),
            **spec["bedrock"]["customModelDeployment"],
        )
        await self.settle()


class CustomizationVendor(_Account):
    """Customisation jobs."""

    provider = BedrockCustomization
    spec: ClassVar[JSON] = {
        "baseModel": BASE,
        "trainingData": "s3://acme/train.jsonl",
        "validationData": "s3://acme/check.jsonl",
        "method": "Supervised",
        "epochs": 2,
        "hyperparameters": {"learningRate": "0.00001"},
        "bedrock": {
            **OWN,
            "roleArn": ROLE,
            "output": "s3://acme/out",
            "vpc": {"subnets": ["subnet-2", "subnet-1"], "securityGroups": ["sg-1"]},
        },
    }
    immutable: ClassVar[JSON] = {"baseModel": OTHER_BASE}
    refusal = Refusal({"trainingData": "s3://acme/train.csv"}, "Could not access training data")
    has_pending = True

    async def count(self) -> int:
        # Records of jobs that have ended stay for ever.
        running = [
            j for j in self.bedrock.jobs.values() if j["status"] in ("InProgress", "Stopping")
        ]
        return len(self.bedrock.models) + len(running)

    async def tamper(self, id: str) -> str:
        raise NotImplementedError

    async def foreign(self, spec: JSON, name: str, owner: str | None) -> None:
        block = spec["bedrock"]
        self.bedrock.CreateModelCustomizationJob(
            name,
            name,
            spec["baseModel"],
            "token",
            _mark(owner),
            roleArn=block["roleArn"],
            trainingDataConfig={"s3Uri": spec["trainingData"]},
            validationDataConfig={"validators": [{"s3Uri": spec["validationData"]}]},
            outputDataConfig={"s3Uri": block["output"]},
            hyperParameters={"epochCount": str(spec["epochs"]), **spec["hyperparameters"]},
            vpcConfig={
                "subnetIds": block["vpc"]["subnets"],
                "securityGroupIds": block["vpc"]["securityGroups"],
            },
        )
        await self.settle()


def _mark(owner: str | None) -> list[JSON]:
    return _listed({OWNER_TAG: owner}) if owner else []


def _base_of(arn: str) -> str:
    """The foundation model of a custom one, or of itself."""
    return arn.split("/")[1]


def _updating(one: JSON) -> bool:
    return bool(one.get("updateDetails", {}).get("updateStatus") == "Updating")


def _invalid(message: str) -> Refused:
    return Refused("ValidationException", message)


def _absent(message: str) -> Refused:
    return Refused("ResourceNotFoundException", message, 404)


def _listed(tags: dict[str, str]) -> list[JSON]:
    return [{"key": key, "value": value} for key, value in tags.items()]


def _page(key: str, items: list[JSON], token: str) -> JSON:
    first = int(token)
    page: JSON = {key: items[first : first + PAGE]}
    if first + PAGE < len(items):
        page["nextToken"] = str(first + PAGE)
    return page
