"""What users declare of a training job at SageMaker."""

import re
from typing import Annotated, Final, Literal, Self

from pydantic import Field, model_validator

from auterity.api.fields import (
    IMMUTABLE,
    SHARED,
    Duration,
    Keyed,
    Model,
    Rule,
    ShortText,
    Text,
    TextMap,
)
from auterity.api.tuning_job import TuningJob
from auterity.providers.sagemaker.params import Arn, Vpc

Address = Annotated[str, Field(min_length=6, max_length=1024, pattern=r"^s3://[^\s]+$")]
MediaType = Annotated[str, Field(min_length=1, max_length=256)]
VERSION: Final = re.compile(r"/\d+\.\d+\.\d+$")


def unversioned(model: str) -> str:
    """The ARN of a model of the hub, as it is meant: SageMaker always takes the latest version."""
    return VERSION.sub("", model)


class Channel(Model):
    """Data that the container finds below /opt/ml/input/data/<name>."""

    name: Annotated[str, Field(min_length=1, max_length=64, pattern=r"^[A-Za-z0-9._-]+$")]
    """Name of the channel."""
    address: Address
    """Where the data is, such as s3://bucket/prefix."""
    content_type: MediaType | None = None
    """Media type of the data, where the algorithm asks for it."""


class ServerlessTuning(Model):
    """Fine-tuning without instances of one's own."""

    model_package_group_arn: Arn
    """ARN of the model package group that the model is registered in."""
    accept_eula: bool = False
    """Accept the licence of the model, where it asks for that."""
    full: bool = False
    """Train all of the weights, instead of an adapter (LoRA)."""
    evaluator_arn: Arn | None = None
    """For method Reinforcement: ARN of what tells good answers from bad ones."""
    sequence_length: Annotated[str, Field(pattern=r"^[0-9]{1,4}K$", max_length=5)] | None = None
    """Most tokens of an example, such as 8K."""


class SageMakerTrainingParams(TuningJob):
    """A training job: a container or an algorithm with its instances, or a model of the hub."""

    one_of = ("training_image", "algorithm_name", "serverless")
    rules = (
        Rule(
            "has(self.serverless) != has(self.instanceType)",
            "instanceType goes with trainingImage and algorithmName, and only with them",
        ),
    )

    execution_role_arn: Annotated[Arn, IMMUTABLE]
    """ARN of the role that SageMaker works as: it pulls the image, reads the data and writes the
    artifact."""
    training_image: Annotated[Text | None, IMMUTABLE] = None
    """Container image that trains."""
    algorithm_name: Annotated[Text | None, IMMUTABLE] = None
    """Instead of an image, an algorithm of the account or of the marketplace."""
    serverless: Annotated[ServerlessTuning | None, IMMUTABLE] = None
    """Instead of an image, fine-tune a model of SageMaker's hub: baseModel is its ARN there. Leave
    out what is about instances and containers."""
    output: Annotated[Address, IMMUTABLE]
    """Where SageMaker puts the artifact, such as s3://bucket/prefix."""
    instance_type: Annotated[ShortText | None, IMMUTABLE] = None
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

    @model_validator(mode="after")
    def _latest(self) -> Self:
        if self.serverless is not None and self.base_model is not None:
            self.base_model = unversioned(self.base_model)
        return self
