"""Model customisation jobs of Amazon Bedrock."""

import itertools
import re
from collections.abc import Mapping
from typing import Any, Final

from auterity.api.tuning_job import Method
from auterity.engine.contract import Observed, Phase, Provider
from auterity.engine.errors import Conflict, NotFound
from auterity.providers.bedrock.params import (
    BedrockCustomizationParams,
    CustomizationVpc,
    Distillation,
    short,
)
from auterity.providers.bedrock.tags import SOURCE_TAG, listed, of_users, retag, tags_of
from auterity.providers.billing import Bill, by_tokens
from auterity.transport.aws import JSON, OWNER_TAG, AwsConnection, AwsSession

NAME: Final = re.compile(r"[a-zA-Z0-9](-?[a-zA-Z0-9])*")
LONGEST_NAME: Final = 58
"""Jobs may have 63: the rest is for the number of another attempt."""
AGAIN: Final = "+"
"""Between the name and that number: in no name of Kubernetes, so no other object's job has it."""
DISTILLATION: Final = "DISTILLATION"
TYPES: Final = {
    Method.SUPERVISED: "FINE_TUNING",
    Method.REINFORCEMENT: "REINFORCEMENT_FINE_TUNING",
}
EPOCHS: Final = "epochCount"
PHASES: Final = {
    "InProgress": Phase.PENDING,
    "Stopping": Phase.PENDING,
    "Completed": Phase.READY,
    "Failed": Phase.FAILED,
    "Stopped": Phase.FAILED,
}


class BedrockCustomization(Provider[BedrockCustomizationParams, AwsSession]):
    """One job, whose name is the id, and the custom model that it makes.

    Bedrock keeps the records of jobs for ever, with their names: a further attempt has another.
    """

    kind = "TuningJob"
    vendor = "bedrock"
    params = BedrockCustomizationParams
    connection = AwsConnection
    docs = (
        "https://docs.aws.amazon.com/bedrock/latest/APIReference/"
        "API_CreateModelCustomizationJob.html"
    )
    permissions = (
        "bedrock:CreateModelCustomizationJob",
        "bedrock:GetModelCustomizationJob",
        "bedrock:ListModelCustomizationJobs",
        "bedrock:StopModelCustomizationJob",
        "bedrock:GetCustomModel",
        "bedrock:DeleteCustomModel",
        "bedrock:TagResource",
        "bedrock:UntagResource",
        "bedrock:ListTagsForResource",
        "iam:PassRole",
    )
    proof = (
        "against a stateful fake that holds requests and its own answers against botocore's "
        "service model and checks signatures; and against moto 5.2.5"
    )
    publishes = (
        ("model", "ARN of the custom model."),
        ("modelName", "Name of the custom model."),
        ("jobArn", "ARN of the job."),
    )
    quirks = (
        "A job takes from half an hour to days.",
        (
            "Bedrock never deletes the record of a job nor frees its name: a further attempt is "
            "called <name>+2, and so on. Its model is called <name>-2 if modelName is left out."
        ),
        (
            "A model that is being served is not deleted: Bedrock says so, and the object stays "
            "until it is served no more."
        ),
        "What the job has written to output is in your bucket, and stays there.",
        "Hyperparameters are Bedrock's, by base model, such as batchSize or learningRate.",
        "iam:PassRole is needed on roleArn only.",
    )
    poll_after = 30.0

    @classmethod
    def objections(cls, want: BedrockCustomizationParams) -> Mapping[str, str]:
        found = {}
        if not NAME.fullmatch(want.name) or len(want.name) > LONGEST_NAME:
            found["name"] = f"Bedrock takes letters, digits and inner hyphens, {LONGEST_NAME} here"
        if want.base_model is None:
            found["base_model"] = "Bedrock needs it: the id of a foundation model"
        if want.training_data is None:
            found["training_data"] = "Bedrock needs it: an address such as s3://bucket/data.jsonl"
        if want.seed is not None:
            found["seed"] = "Bedrock takes none"
        if want.method is Method.PREFERENCE:
            found["method"] = "Bedrock does not learn from pairs of answers"
        elif want.method is not None and want.customization_type is not None:
            found["method"] = "bedrock.customizationType says it already"
        reinforced = want.method is Method.REINFORCEMENT
        if reinforced != (want.grader_lambda_arn is not None):
            found["grader_lambda_arn"] = "goes together with method: Reinforcement"
        if (want.customization_type == DISTILLATION) != (want.distillation is not None):
            found["distillation"] = f"goes together with customizationType: {DISTILLATION}"
        return found

    @classmethod
    def billed(cls, want: BedrockCustomizationParams) -> Bill:
        return by_tokens(want)

    async def locate(self, want: BedrockCustomizationParams) -> str | None:
        for job in await self._attempts(want.name):
            if job["status"] == "InProgress":
                return str(job["jobName"])
            if job["status"] == "Completed" and await self._model(job.get("customModelArn")):
                return str(job["jobName"])
        return None

    async def read(self, id: str) -> Observed[BedrockCustomizationParams] | None:
        job = await self._find("GetModelCustomizationJob", jobIdentifier=id)
        if job is None:
            return None
        tags, status = await tags_of(self.session, job["jobArn"]), job["status"]
        reason = job.get("failureMessage") if status == "Failed" else None
        fields = {**_fields(job), "tags": of_users(tags)}
        if source := tags.get(SOURCE_TAG):
            fields["base_model"] = source
        outputs = {"jobArn": job["jobArn"]}
        if status == "Completed":
            outputs |= {"model": job["outputModelArn"], "modelName": job["outputModelName"]}
        region = self.session.region
        return Observed(
            id=id,
            actual=BedrockCustomizationParams.seen(**fields),
            phase=PHASES.get(status, Phase.PENDING),
            owner=tags.get(OWNER_TAG),
            outputs=outputs,
            url=f"https://{region}.console.aws.amazon.com/bedrock/home?region={region}#/custom-models",
            message=f"the job is {status}" + (f": {reason}" if reason else ""),
            summary=_summary(job),
        )

    async def create(self, want: BedrockCustomizationParams, owner: str) -> str:
        taken = {job["jobName"] for job in await self._attempts(want.name)}
        free = (f"{want.name}{AGAIN}{number}" for number in itertools.count(2))
        name = next(one for one in itertools.chain([want.name], free) if one not in taken)
        tags = {**(want.tags or {}), OWNER_TAG: owner}
        # Of a custom model, Bedrock tells the foundation model that it was made of.
        base = want.base_model or ""
        source = {SOURCE_TAG: base} if base.startswith("arn:") else {}
        await self.session.call(
            "bedrock",
            "CreateModelCustomizationJob",
            jobName=name,
            customModelName=want.model_name or name.replace(AGAIN, "-"),
            jobTags=listed({**tags, **source}),
            customModelTags=listed(tags),
            **_request(want),
        )
        return name

    async def update(
        self, id: str, want: BedrockCustomizationParams, changed: frozenset[str], owner: str
    ) -> None:
        job = await self.session.call("bedrock", "GetModelCustomizationJob", jobIdentifier=id)
        await retag(self.session, job["jobArn"], want.tags or {}, changed, owner)

    async def delete(self, id: str) -> None:
        await self.cancel(id)
        job = await self._find("GetModelCustomizationJob", jobIdentifier=id)
        if job is not None and job["status"] == "Completed":
            await self._find("DeleteCustomModel", modelIdentifier=job["outputModelArn"])

    async def cancel(self, id: str) -> None:
        job = await self._find("GetModelCustomizationJob", jobIdentifier=id)
        if job is not None and job["status"] == "InProgress":
            try:
                await self._find("StopModelCustomizationJob", jobIdentifier=id)
            except Conflict:
                # It has come to its end since.
                return

    async def _attempts(self, name: str) -> list[JSON]:
        """The jobs of that name, the newest first."""
        jobs = await self.session.pages(
            "bedrock",
            "ListModelCustomizationJobs",
            "modelCustomizationJobSummaries",
            nameContains=name,
        )
        ours = re.compile(rf"{re.escape(name)}({re.escape(AGAIN)}\d+)?")
        found = [job for job in jobs if ours.fullmatch(job["jobName"])]
        return sorted(found, key=lambda job: str(job["creationTime"]), reverse=True)

    async def _model(self, arn: str | None) -> JSON | None:
        return await self._find("GetCustomModel", modelIdentifier=arn) if arn else None

    async def _find(self, operation: str, **parameters: Any) -> JSON | None:
        """The answer; None if there is no such thing."""
        try:
            return await self.session.call("bedrock", operation, **parameters)
        except NotFound:
            return None


def _request(want: BedrockCustomizationParams) -> JSON:
    """What is asked of the job, besides names and tags."""
    hyperparameters = dict(want.hyperparameters or {})
    if want.epochs is not None:
        hyperparameters[EPOCHS] = str(want.epochs)
    kind = TYPES[want.method] if want.method else want.customization_type
    request: JSON = {
        "roleArn": want.role_arn,
        "baseModelIdentifier": want.base_model,
        "trainingDataConfig": {"s3Uri": want.training_data},
        "outputDataConfig": {"s3Uri": want.output},
    }
    if kind:
        request["customizationType"] = kind
    if want.validation_data:
        request["validationDataConfig"] = {"validators": [{"s3Uri": want.validation_data}]}
    if want.kms_key_id:
        request["customModelKmsKeyId"] = want.kms_key_id
    if want.vpc:
        request["vpcConfig"] = {
            "subnetIds": sorted(want.vpc.subnets),
            "securityGroupIds": sorted(want.vpc.security_groups),
        }
    if want.distillation:
        teacher: JSON = {"teacherModelIdentifier": want.distillation.teacher_model}
        if want.distillation.max_response_length is not None:
            teacher["maxResponseLengthForInference"] = want.distillation.max_response_length
        request["customizationConfig"] = {"distillationConfig": {"teacherModelConfig": teacher}}
    if want.grader_lambda_arn:
        grader = {"lambdaGrader": {"lambdaArn": want.grader_lambda_arn}}
        typed = {name: _typed(value) for name, value in hyperparameters.items()}
        request["customizationConfig"] = {
            "rftConfig": {"graderConfig": grader, "hyperParameters": typed}
        }
    elif hyperparameters:
        request["hyperParameters"] = hyperparameters
    return request


def _fields(job: JSON) -> JSON:
    """What the job has, as it would be declared."""
    config = job.get("customizationConfig") or {}
    rft, teacher = config.get("rftConfig") or {}, config.get("distillationConfig") or {}
    told = job.get("hyperParameters") or rft.get("hyperParameters") or {}
    hyperparameters = {name: str(value) for name, value in told.items()}
    validators = (job.get("validationDataConfig") or {}).get("validators") or [{}]
    fields: JSON = {
        "base_model": short(job["baseModelArn"]),
        "training_data": job["trainingDataConfig"].get("s3Uri"),
        "validation_data": validators[0].get("s3Uri"),
        "model_name": job["outputModelName"],
        "hyperparameters": hyperparameters,
        "role_arn": job["roleArn"],
        "output": job["outputDataConfig"]["s3Uri"],
        "grader_lambda_arn": rft.get("graderConfig", {}).get("lambdaGrader", {}).get("lambdaArn"),
        "distillation": None,
        "vpc": None,
    }
    if (epochs := hyperparameters.get(EPOCHS, "")).isdigit():
        fields["epochs"] = int(epochs)
    if kind := job.get("customizationType"):
        method = {name: method for method, name in TYPES.items()}.get(kind)
        fields["method"], fields["customization_type"] = method, None if method else kind
    if model := teacher.get("teacherModelConfig"):
        fields["distillation"] = Distillation.model_construct(
            teacher_model=model["teacherModelIdentifier"],
            max_response_length=model.get("maxResponseLengthForInference"),
        )
    if vpc := job.get("vpcConfig"):
        fields["vpc"] = CustomizationVpc.model_construct(
            subnets=set(vpc["subnetIds"]), security_groups=set(vpc["securityGroupIds"])
        )
    return fields


def _summary(job: JSON) -> dict[str, str]:
    summary = {"status": job["status"]}
    for phase in ("dataProcessing", "training", "validation"):
        details = (job.get("statusDetails") or {}).get(f"{phase}Details") or {}
        if status := details.get("status"):
            summary[phase] = status
    if (loss := (job.get("trainingMetrics") or {}).get("trainingLoss")) is not None:
        summary["trainingLoss"] = str(loss)
    return summary


def _typed(value: str) -> int | float | str:
    for kind in (int, float):
        try:
            return kind(value)
        except ValueError:
            continue
    return value
