"""Training jobs of Amazon SageMaker."""

import itertools
import re
from collections.abc import Iterator, Mapping
from typing import Annotated, Any, Final, Literal

from pydantic import Field

from auterity.api import GROUP
from auterity.api.fields import (
    IMMUTABLE,
    SHARED,
    Duration,
    Keyed,
    Model,
    ShortText,
    Text,
    TextMap,
    alias_of,
    seconds,
)
from auterity.api.tuning_job import TuningJob
from auterity.engine.contract import Observed, Phase, Provider
from auterity.engine.errors import Busy, NotFound, Rejected
from auterity.providers.sagemaker.params import Arn, Vpc
from auterity.providers.sagemaker.parts import EndpointParts, listed
from auterity.transport.aws import JSON, OWNER_TAG, AwsConnection, AwsSession

Address = Annotated[str, Field(min_length=6, max_length=1024, pattern=r"^s3://[^\s]+$")]
MediaType = Annotated[str, Field(min_length=1, max_length=256)]

NAME: Final = re.compile(r"[A-Za-z0-9](-*[A-Za-z0-9])*")
LONGEST_NAME: Final = 59
"""Jobs may have 63: the rest is for the number of another attempt."""
AGAIN: Final = "--"
"""Between the name and that number."""
DATA: Final = {"training_data": "train", "validation_data": "validation", "base_model": "model"}
"""Portable fields, and the channels that the container gets them by."""
MEASURES: Final = {"epochs": "epochs", "seed": "seed"}
"""Portable fields, and the hyperparameters that stand for them."""
PHASES: Final = {
    "InProgress": Phase.PENDING,
    "Stopping": Phase.PENDING,
    "Completed": Phase.READY,
    "Failed": Phase.FAILED,
    "Stopped": Phase.FAILED,
    "Deleting": Phase.DELETING,
}


class Channel(Model):
    """Data that the container finds below /opt/ml/input/data/<name>."""

    name: Annotated[str, Field(min_length=1, max_length=64, pattern=r"^[A-Za-z0-9._-]+$")]
    """Name of the channel."""
    address: Address
    """Where the data is, such as s3://bucket/prefix."""
    content_type: MediaType | None = None
    """Media type of the data, where the algorithm asks for it."""


class SageMakerTrainingParams(TuningJob):
    """A training job: a container or an algorithm, its data and the instances that it runs on."""

    one_of = ("training_image", "algorithm_name")

    execution_role_arn: Annotated[Arn, IMMUTABLE]
    """ARN of the role that SageMaker works as: it pulls the image, reads the data and writes the
    artifact."""
    training_image: Annotated[Text | None, IMMUTABLE] = None
    """Container image that trains."""
    algorithm_name: Annotated[Text | None, IMMUTABLE] = None
    """Instead of an image, an algorithm of the account or of the marketplace."""
    output: Annotated[Address, IMMUTABLE]
    """Where SageMaker puts the artifact, such as s3://bucket/prefix."""
    instance_type: Annotated[ShortText, IMMUTABLE]
    """Instances to train on, such as ml.g5.2xlarge."""
    instance_count: Annotated[int, Field(ge=1, le=1000), IMMUTABLE] = 1
    """How many of them."""
    volume_size_in_gb: Annotated[int, Field(ge=1, le=16384, alias="volumeSizeInGB"), IMMUTABLE] = 30
    """Size of each one's disk."""
    max_runtime: Annotated[Duration, IMMUTABLE] = "24h"
    """SageMaker stops the job after this time."""
    spot_max_wait: Annotated[Duration | None, IMMUTABLE] = None
    """Train on spot instances, and wait for them and run no longer than this in all; no shorter
    than maxRuntime."""
    checkpoints: Annotated[Address | None, IMMUTABLE] = None
    """Where what the container writes to /opt/ml/checkpoints is kept, so that an interrupted job
    goes on from there."""
    content_type: Annotated[MediaType | None, IMMUTABLE] = None
    """Media type of trainingData and validationData, such as text/csv, where the algorithm asks for
    it."""
    channels: Annotated[list[Channel], Keyed("name"), Field(max_length=17), IMMUTABLE] = Field(
        default_factory=list
    )
    """Further data."""
    input_mode: Annotated[Literal["File", "FastFile", "Pipe"], IMMUTABLE] = "File"
    """File: all data is copied before the training. FastFile, Pipe: it is read meanwhile."""
    environment: Annotated[TextMap | None, IMMUTABLE] = None
    """Environment variables of the container; nothing secret, for anyone who may describe the job
    sees them."""
    vpc: Annotated[Vpc | None, IMMUTABLE] = None
    """Network of the instances; none of yours if left out."""
    enable_network_isolation: Annotated[bool, IMMUTABLE] = False
    """Cut the container off from every network."""
    kms_key_id: Annotated[Text | None, IMMUTABLE] = None
    """KMS key that the artifact is encrypted with."""
    tags: Annotated[TextMap | None, SHARED] = None
    """Tags of the job."""


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
            "Address of the artifact in S3, as model.modelRef of a ModelDeployment takes it.",
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
            "With deletionPolicy Delete the job is stopped and its record deleted. The artifact is "
            "in your bucket, and stays there."
        ),
        "iam:PassRole is needed on executionRoleArn only.",
    )
    poll_after = 30.0

    def __init__(self, session: AwsSession) -> None:
        super().__init__(session)
        self.parts = EndpointParts(session)

    @classmethod
    def objections(cls, want: SageMakerTrainingParams) -> Mapping[str, str]:
        found = {}
        if not NAME.fullmatch(want.name) or len(want.name) > LONGEST_NAME:
            found["name"] = (
                f"SageMaker takes letters, digits and inner hyphens, {LONGEST_NAME} here"
            )
        if want.method is not None:
            found["method"] = "SageMaker leaves it to the container: set a hyperparameter instead"
        if want.model_name is not None:
            found["model_name"] = "SageMaker gives the artifact no name, only an address"
        for field in DATA:
            if not (getattr(want, field) or "s3://").startswith("s3://"):
                found[field] = "SageMaker takes an address such as s3://bucket/prefix"
        if named := {channel.name for channel in want.channels} & set(DATA.values()):
            found["channels"] = (
                f"trainingData, validationData and baseModel are the channels {sorted(named)}"
            )
        return found

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
        outputs, reason = {"jobName": id, "jobArn": arn}, job.get("FailureReason")
        if status == "Completed":
            outputs["model"] = job["ModelArtifacts"]["S3ModelArtifacts"]
        region = self.session.region
        users = {k: v for k, v in tags.items() if not k.startswith(("aws:", f"{GROUP}/"))}
        return Observed(
            id=id,
            actual=SageMakerTrainingParams.seen(**_fields(job), tags=users),
            phase=PHASES.get(status, Phase.PENDING),
            owner=tags.get(OWNER_TAG),
            outputs=outputs,
            url=f"https://{region}.console.aws.amazon.com/sagemaker/home?region={region}#/jobs/{id}",
            message=f"the job is {status}" + (f": {reason}" if reason else ""),
            summary={"status": status, "secondaryStatus": job["SecondaryStatus"]},
        )

    async def create(self, want: SageMakerTrainingParams, owner: str) -> str:
        for field, text in self.objections(want).items():
            raise Rejected(f"{alias_of(type(want), field)}: {text}")
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


def _request(want: SageMakerTrainingParams) -> JSON:
    """What is asked of the job, besides name and tags."""
    algorithm: JSON = {"TrainingInputMode": want.input_mode}
    if want.training_image:
        algorithm["TrainingImage"] = want.training_image
    if want.algorithm_name:
        algorithm["AlgorithmName"] = want.algorithm_name
    output: JSON = {"S3OutputPath": want.output}
    if want.kms_key_id:
        output["KmsKeyId"] = want.kms_key_id
    stopping = {"MaxRuntimeInSeconds": int(seconds(want.max_runtime))}
    if want.spot_max_wait:
        stopping["MaxWaitTimeInSeconds"] = int(seconds(want.spot_max_wait))
    request: JSON = {
        "AlgorithmSpecification": algorithm,
        "RoleArn": want.execution_role_arn,
        "OutputDataConfig": output,
        "ResourceConfig": {
            "InstanceType": want.instance_type,
            "InstanceCount": want.instance_count,
            "VolumeSizeInGB": want.volume_size_in_gb,
        },
        "StoppingCondition": stopping,
        "EnableNetworkIsolation": want.enable_network_isolation,
        "EnableManagedSpotTraining": want.spot_max_wait is not None,
    }
    if channels := list(_channels(want)):
        request["InputDataConfig"] = channels
    if hyperparameters := _hyperparameters(want):
        request["HyperParameters"] = hyperparameters
    if want.checkpoints:
        request["CheckpointConfig"] = {"S3Uri": want.checkpoints}
    if want.environment:
        request["Environment"] = want.environment
    if want.vpc:
        request["VpcConfig"] = {
            "Subnets": sorted(want.vpc.subnets),
            "SecurityGroupIds": sorted(want.vpc.security_groups),
        }
    return request


def _channels(want: SageMakerTrainingParams) -> Iterator[JSON]:
    for field, name in DATA.items():
        if address := getattr(want, field):
            yield _channel(name, address, None if field == "base_model" else want.content_type)
    for further in want.channels:
        yield _channel(further.name, further.address, further.content_type)


def _channel(name: str, address: str, content_type: str | None) -> JSON:
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
    algorithm, instances = job["AlgorithmSpecification"], job["ResourceConfig"]
    stopping, told = job["StoppingCondition"], job.get("HyperParameters") or {}
    channels = {one["ChannelName"]: one for one in job.get("InputDataConfig") or ()}
    vpc, wait = job.get("VpcConfig"), stopping.get("MaxWaitTimeInSeconds")
    fields: JSON = {
        "hyperparameters": told,
        "execution_role_arn": job["RoleArn"],
        "training_image": algorithm.get("TrainingImage"),
        "algorithm_name": algorithm.get("AlgorithmName"),
        "input_mode": algorithm["TrainingInputMode"],
        "output": job["OutputDataConfig"]["S3OutputPath"],
        "kms_key_id": job["OutputDataConfig"].get("KmsKeyId") or None,
        "instance_type": instances["InstanceType"],
        "instance_count": instances["InstanceCount"],
        "volume_size_in_gb": instances["VolumeSizeInGB"],
        "max_runtime": f"{stopping['MaxRuntimeInSeconds']}s",
        "spot_max_wait": f"{wait}s" if wait and job.get("EnableManagedSpotTraining") else None,
        "checkpoints": (job.get("CheckpointConfig") or {}).get("S3Uri"),
        "environment": job.get("Environment") or {},
        "enable_network_isolation": job.get("EnableNetworkIsolation", False),
        "vpc": vpc
        and Vpc.model_construct(
            subnets=set(vpc["Subnets"]), security_groups=set(vpc["SecurityGroupIds"])
        ),
    }
    for field, name in DATA.items():
        fields[field] = _address(channels[name]) if name in channels else None
    if trained := channels.get("train"):
        fields["content_type"] = trained.get("ContentType")
    fields["channels"] = [
        Channel.model_construct(
            name=name, address=_address(one), content_type=one.get("ContentType")
        )
        for name, one in channels.items()
        if name not in DATA.values()
    ]
    for field, name in MEASURES.items():
        if str(told.get(name, "")).isdigit():
            fields[field] = int(told[name])
    return fields


def _address(channel: JSON) -> Any:
    return channel["DataSource"].get("S3DataSource", {}).get("S3Uri")
