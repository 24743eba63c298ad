"""Training jobs of Amazon SageMaker."""

import itertools
import re
from collections.abc import Iterator, Mapping
from typing import Any, Final

from auterity.api import GROUP
from auterity.api.fields import seconds
from auterity.api.tuning_job import Method
from auterity.engine.contract import Observed, Phase, Provider
from auterity.engine.errors import Busy, NotFound
from auterity.providers.billing import Bill, of_machines
from auterity.providers.sagemaker.params import Vpc
from auterity.providers.sagemaker.parts import EndpointParts, listed
from auterity.providers.sagemaker.training_params import (
    Channel,
    SageMakerTrainingParams,
    ServerlessTuning,
    unversioned,
)
from auterity.transport.aws import JSON, OWNER_TAG, AwsConnection, AwsSession

NAME: Final = re.compile(r"[A-Za-z0-9](-*[A-Za-z0-9])*")
LONGEST_NAME: Final = 59
"""Jobs may have 63: the rest is for the number of another attempt."""
AGAIN: Final = "--"
"""Between the name and that number."""
DATA: Final = {"training_data": "train", "validation_data": "validation", "base_model": "model"}
"""Portable fields, and the channels that the container gets them by."""
MEASURES: Final = {"epochs": "epochs", "seed": "seed"}
"""Portable fields, and the hyperparameters that stand for them."""
TECHNIQUES: Final = {
    Method.SUPERVISED: "SFT",
    Method.PREFERENCE: "DPO",
    Method.REINFORCEMENT: "RLVR",
}
OF_CONTAINERS: Final = (
    *("epochs", "seed", "content_type", "channels"),
    *("instance_type", "spot_max_wait", "checkpoints", "environment"),
)
"""Fields that mean nothing without a container of one's own."""
PHASES: Final = {
    "InProgress": Phase.PENDING,
    "Stopping": Phase.PENDING,
    "Completed": Phase.READY,
    "Failed": Phase.FAILED,
    "Stopped": Phase.FAILED,
    "Deleting": Phase.DELETING,
}


class SageMakerTraining(Provider[SageMakerTrainingParams, AwsSession]):
    """One training job, whose name is the id."""

    kind = "TuningJob"
    vendor = "sageMaker"
    params = SageMakerTrainingParams
    connection = AwsConnection
    docs = "https://docs.aws.amazon.com/sagemaker/latest/APIReference/API_CreateTrainingJob.html"
    permissions = (
        "sagemaker:CreateTrainingJob",
        "sagemaker:DescribeTrainingJob",
        "sagemaker:ListTrainingJobs",
        "sagemaker:StopTrainingJob",
        "sagemaker:DeleteTrainingJob",
        "sagemaker:DeleteModelPackage",
        "sagemaker:AddTags",
        "sagemaker:ListTags",
        "sagemaker:DeleteTags",
        "iam:PassRole",
    )
    proof = (
        "against a stateful fake that holds requests and its own answers against botocore's "
        "service model and checks signatures; and against moto 5.2.5 with IAM enforced"
    )
    publishes = (
        (
            "model",
            "Address of the artifact in S3, or ARN of a serverless job's model package.",
        ),
        ("jobName", "Name of the training job."),
        ("jobArn", "ARN of the training job."),
    )
    quirks = (
        (
            "trainingData, validationData and baseModel are addresses in S3; the container gets "
            "them by the channels train, validation and model."
        ),
        "epochs and seed become the hyperparameters epochs and seed; not every container has them.",
        ("A further attempt at a job whose record is still there is called <name>--2, and so on."),
        (
            "With deletionPolicy Delete the job is stopped and its record deleted, and with it the "
            "model package of a serverless one. The artifact is in your bucket, and stays there."
        ),
        (
            "With serverless, method is needed: Supervised is SFT, Preference DPO, Reinforcement "
            "RLVR. Hyperparameters are those of the model's recipe in the hub."
        ),
        (
            "iam:PassRole is needed on executionRoleArn only, sagemaker:DeleteModelPackage for "
            "serverless only."
        ),
    )
    poll_after = 30.0

    def __init__(self, session: AwsSession) -> None:
        super().__init__(session)
        self.parts = EndpointParts(session)

    @classmethod
    def objections(cls, want: SageMakerTrainingParams) -> Mapping[str, str]:
        found: dict[str, str] = {}
        if not NAME.fullmatch(want.name) or len(want.name) > LONGEST_NAME:
            found["name"] = (
                f"SageMaker takes letters, digits and inner hyphens, {LONGEST_NAME} here"
            )
        if want.model_name is not None:
            found["model_name"] = "SageMaker gives what it makes no name, only an address"
        return {**found, **(_serverless if want.serverless else _contained)(want)}

    @classmethod
    def billed(cls, want: SageMakerTrainingParams) -> Bill:
        if want.instance_type is None:
            return None
        spot = want.spot_max_wait is not None
        return (of_machines(want.instance_type, want.instance_count, spot=spot),)

    async def locate(self, want: SageMakerTrainingParams) -> str | None:
        for job in await self._attempts(want.name):
            if job["TrainingJobStatus"] in ("InProgress", "Completed"):
                return str(job["TrainingJobName"])
        return None

    async def read(self, id: str) -> Observed[SageMakerTrainingParams] | None:
        if (job := await self._job(id)) is None:
            return None
        status, arn = job["TrainingJobStatus"], job["TrainingJobArn"]
        try:
            tags = await self.parts.tags(arn)
        except NotFound as failure:
            # It has come or gone between the two calls.
            raise Busy(failure.message) from failure
        outputs = {"jobName": id, "jobArn": arn}
        if status == "Completed":
            artifact = job["ModelArtifacts"]["S3ModelArtifacts"]
            outputs["model"] = job.get("OutputModelPackageArn") or artifact
        region = self.session.region
        users = {k: v for k, v in tags.items() if not k.startswith(("aws:", f"{GROUP}/"))}
        return Observed(
            id=id,
            actual=SageMakerTrainingParams.seen(**_fields(job), tags=users),
            phase=PHASES.get(status, Phase.PENDING),
            owner=tags.get(OWNER_TAG),
            outputs=outputs,
            url=f"https://{region}.console.aws.amazon.com/sagemaker/home?region={region}#/jobs/{id}",
            message=_told(job),
            summary=_summary(job),
        )

    async def create(self, want: SageMakerTrainingParams, owner: str) -> str:
        taken = {job["TrainingJobName"] for job in await self._attempts(want.name)}
        free = (f"{want.name}{AGAIN}{number}" for number in itertools.count(2))
        name = next(one for one in itertools.chain([want.name], free) if one not in taken)
        await self.session.call(
            "sagemaker",
            "CreateTrainingJob",
            TrainingJobName=name,
            Tags=listed({**(want.tags or {}), OWNER_TAG: owner}),
            **_request(want),
        )
        return name

    async def update(
        self, id: str, want: SageMakerTrainingParams, changed: frozenset[str], owner: str
    ) -> None:
        job = await self.session.call("sagemaker", "DescribeTrainingJob", TrainingJobName=id)
        arn, tags = job["TrainingJobArn"], want.tags or {}
        marked = listed({**tags, OWNER_TAG: owner})
        await self.session.call("sagemaker", "AddTags", ResourceArn=arn, Tags=marked)
        named = {path.partition(".")[2] for path in changed if path.startswith("tags.")}
        if gone := sorted(named - set(tags)):
            await self.session.call("sagemaker", "DeleteTags", ResourceArn=arn, TagKeys=gone)

    async def delete(self, id: str) -> None:
        job = await self._job(id)
        if job is None:
            return
        if job["TrainingJobStatus"] in ("Completed", "Failed", "Stopped"):
            if package := job.get("OutputModelPackageArn"):
                await self.parts.find("DeleteModelPackage", ModelPackageName=package)
            await self.parts.find("DeleteTrainingJob", TrainingJobName=id)
        elif job["TrainingJobStatus"] == "InProgress":
            await self.parts.find("StopTrainingJob", TrainingJobName=id)

    async def cancel(self, id: str) -> None:
        job = await self._job(id)
        if job is not None and job["TrainingJobStatus"] == "InProgress":
            await self.parts.find("StopTrainingJob", TrainingJobName=id)

    async def _job(self, id: str) -> JSON | None:
        return await self.parts.find("DescribeTrainingJob", TrainingJobName=id)

    async def _attempts(self, name: str) -> list[JSON]:
        """The jobs of that name, the newest first."""
        jobs = await self.session.pages(
            "sagemaker", "ListTrainingJobs", "TrainingJobSummaries", NameContains=name
        )
        ours = re.compile(rf"{re.escape(name)}({AGAIN}\d+)?")
        found = [job for job in jobs if ours.fullmatch(job["TrainingJobName"])]
        return sorted(found, key=lambda job: str(job["CreationTime"]), reverse=True)


def _contained(want: SageMakerTrainingParams) -> dict[str, str]:
    """What would be refused of a job with an image or an algorithm."""
    found = {}
    if want.instance_type is None:
        found["instance_type"] = "SageMaker needs it for an image or an algorithm"
    if want.method is not None:
        found["method"] = "SageMaker leaves it to the container: set a hyperparameter instead"
    for field in DATA:
        if not (getattr(want, field) or "s3://").startswith("s3://"):
            found[field] = "SageMaker takes an address such as s3://bucket/prefix"
    if named := {channel.name for channel in want.channels} & set(DATA.values()):
        found["channels"] = (
            f"trainingData, validationData and baseModel are the channels {sorted(named)}"
        )
    return found


def _serverless(want: SageMakerTrainingParams) -> dict[str, str]:
    """What would be refused of a serverless job."""
    found = {
        field: "SageMaker takes it for an image or an algorithm only"
        for field in OF_CONTAINERS
        if getattr(want, field)
    }
    if want.method is None:
        found["method"] = "SageMaker needs it for serverless"
    if not (want.base_model or "").startswith("arn:"):
        found["base_model"] = "SageMaker takes the ARN of a model of its hub for serverless"
    return found


def _request(want: SageMakerTrainingParams) -> JSON:
    """What is asked of the job, besides name and tags."""
    output: JSON = {"S3OutputPath": want.output}
    if want.kms_key_id:
        output["KmsKeyId"] = want.kms_key_id
    request: JSON = {
        "RoleArn": want.execution_role_arn,
        "OutputDataConfig": output,
        "StoppingCondition": {"MaxRuntimeInSeconds": int(seconds(want.max_runtime))},
    }
    if channels := list(_channels(want)):
        request["InputDataConfig"] = channels
    if hyperparameters := _hyperparameters(want):
        request["HyperParameters"] = hyperparameters
    if want.vpc:
        request["VpcConfig"] = {
            "Subnets": sorted(want.vpc.subnets),
            "SecurityGroupIds": sorted(want.vpc.security_groups),
        }
    return request | (_tuning(want, want.serverless) if want.serverless else _container(want))


def _container(want: SageMakerTrainingParams) -> JSON:
    algorithm: JSON = {"TrainingInputMode": want.input_mode}
    if want.training_image:
        algorithm["TrainingImage"] = want.training_image
    if want.algorithm_name:
        algorithm["AlgorithmName"] = want.algorithm_name
    request: JSON = {
        "AlgorithmSpecification": algorithm,
        "ResourceConfig": {
            "InstanceType": want.instance_type,
            "InstanceCount": want.instance_count,
            "VolumeSizeInGB": want.volume_size_in_gb,
        },
        "EnableNetworkIsolation": want.enable_network_isolation,
        "EnableManagedSpotTraining": want.spot_max_wait is not None,
    }
    if want.spot_max_wait:
        request["StoppingCondition"] = {
            "MaxRuntimeInSeconds": int(seconds(want.max_runtime)),
            "MaxWaitTimeInSeconds": int(seconds(want.spot_max_wait)),
        }
    if want.checkpoints:
        request["CheckpointConfig"] = {"S3Uri": want.checkpoints}
    if want.environment:
        request["Environment"] = want.environment
    return request


def _tuning(want: SageMakerTrainingParams, serverless: ServerlessTuning) -> JSON:
    config: JSON = {
        "BaseModelArn": want.base_model,
        "JobType": "FineTuning",
        "CustomizationTechnique": want.method and TECHNIQUES[want.method],
        "AcceptEula": serverless.accept_eula,
    }
    if not serverless.full:
        config["Peft"] = "LORA"
    if serverless.evaluator_arn:
        config["EvaluatorArn"] = serverless.evaluator_arn
    if serverless.sequence_length:
        config["SequenceLength"] = serverless.sequence_length
    return {
        "ServerlessJobConfig": config,
        "ModelPackageConfig": {"ModelPackageGroupArn": serverless.model_package_group_arn},
    }


def _channels(want: SageMakerTrainingParams) -> Iterator[JSON]:
    for field, name in DATA.items():
        address = getattr(want, field)
        if address and not (want.serverless and field == "base_model"):
            yield _channel(name, address, None if field == "base_model" else want.content_type)
    for further in want.channels:
        yield _channel(further.name, further.address, further.content_type)


def _channel(name: str, address: str, content_type: str | None) -> JSON:
    if address.startswith("arn:"):
        return {"ChannelName": name, "DataSource": {"DatasetSource": {"DatasetArn": address}}}
    source = {
        "S3DataType": "S3Prefix",
        "S3Uri": address,
        "S3DataDistributionType": "FullyReplicated",
    }
    channel: JSON = {"ChannelName": name, "DataSource": {"S3DataSource": source}}
    return channel | ({"ContentType": content_type} if content_type else {})


def _hyperparameters(want: SageMakerTrainingParams) -> dict[str, str]:
    measures = {name: getattr(want, field) for field, name in MEASURES.items()}
    given = {name: str(value) for name, value in measures.items() if value is not None}
    return {**(want.hyperparameters or {}), **given}


def _fields(job: JSON) -> JSON:
    """What the job has, as it would be declared."""
    channels = {one["ChannelName"]: one for one in job.get("InputDataConfig") or ()}
    vpc = job.get("VpcConfig")
    fields: JSON = {
        "hyperparameters": job.get("HyperParameters") or {},
        "execution_role_arn": job["RoleArn"],
        "output": job["OutputDataConfig"]["S3OutputPath"],
        "kms_key_id": job["OutputDataConfig"].get("KmsKeyId") or None,
        "max_runtime": f"{job['StoppingCondition']['MaxRuntimeInSeconds']}s",
        "vpc": vpc
        and Vpc.model_construct(
            subnets=set(vpc["Subnets"]), security_groups=set(vpc["SecurityGroupIds"])
        ),
    }
    for field, name in DATA.items():
        fields[field] = _address(channels[name]) if name in channels else None
    if tuned := job.get("ServerlessJobConfig"):
        return fields | _tuned(tuned, job)
    return fields | _trained(job, channels)


def _tuned(config: JSON, job: JSON) -> JSON:
    techniques = {name: method for method, name in TECHNIQUES.items()}
    return {
        "base_model": unversioned(config["BaseModelArn"]),
        "training_image": None,
        "algorithm_name": None,
        "instance_type": None,
        "method": techniques.get(config.get("CustomizationTechnique", "")),
        "serverless": ServerlessTuning.model_construct(
            model_package_group_arn=job["ModelPackageConfig"]["ModelPackageGroupArn"],
            accept_eula=config.get("AcceptEula", False),
            full="Peft" not in config,
            evaluator_arn=config.get("EvaluatorArn"),
            sequence_length=config.get("SequenceLength"),
        ),
    }


def _trained(job: JSON, channels: dict[str, JSON]) -> JSON:
    algorithm, instances = job["AlgorithmSpecification"], job["ResourceConfig"]
    wait, told = job["StoppingCondition"].get("MaxWaitTimeInSeconds"), job.get("HyperParameters")
    fields: JSON = {
        "serverless": None,
        "training_image": algorithm.get("TrainingImage"),
        "algorithm_name": algorithm.get("AlgorithmName"),
        "input_mode": algorithm["TrainingInputMode"],
        "instance_type": instances["InstanceType"],
        "instance_count": instances["InstanceCount"],
        "volume_size_in_gb": instances["VolumeSizeInGB"],
        "spot_max_wait": f"{wait}s" if wait and job.get("EnableManagedSpotTraining") else None,
        "checkpoints": (job.get("CheckpointConfig") or {}).get("S3Uri"),
        "environment": job.get("Environment") or {},
        "enable_network_isolation": job.get("EnableNetworkIsolation", False),
        "channels": [
            Channel.model_construct(
                name=name, address=_address(one), content_type=one.get("ContentType")
            )
            for name, one in channels.items()
            if name not in DATA.values()
        ],
    }
    if trained := channels.get("train"):
        fields["content_type"] = trained.get("ContentType")
    for field, name in MEASURES.items():
        if (value := str((told or {}).get(name, ""))).isdigit():
            fields[field] = int(value)
    return fields


def _told(job: JSON) -> str:
    status, reason = job["TrainingJobStatus"], job.get("FailureReason")
    if status == "Stopped" and not reason and job["SecondaryStatus"] != status:
        # Such as MaxRuntimeExceeded: nobody has stopped it.
        reason = job["SecondaryStatus"]
    return f"the job is {status}" + (f": {reason}" if reason else "")


def _summary(job: JSON) -> dict[str, str]:
    summary = {"status": job["TrainingJobStatus"], "secondaryStatus": job["SecondaryStatus"]}
    progress = job.get("ProgressInfo") or {}
    if "CurrentEpoch" in progress and "MaxEpoch" in progress:
        summary["epoch"] = f"{progress['CurrentEpoch']} of {progress['MaxEpoch']}"
    return summary


def _address(channel: JSON) -> Any:
    source = channel["DataSource"]
    if "DatasetSource" in source:
        return source["DatasetSource"]["DatasetArn"]
    return source.get("S3DataSource", {}).get("S3Uri")
