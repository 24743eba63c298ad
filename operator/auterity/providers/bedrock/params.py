"""What users declare of a model on Amazon Bedrock, and of making one."""

import re
from typing import Annotated, Final, Literal, Self

from pydantic import Field, model_validator

from auterity.api.fields import IMMUTABLE, SHARED, UNVERSIONED, Model, Text, TextMap
from auterity.api.model_deployment import ModelDeployment
from auterity.api.tuning_job import TuningJob

Arn = Annotated[str, Field(min_length=8, max_length=2048, pattern=r"^arn:[^\s]+$")]
Address = Annotated[str, Field(min_length=6, max_length=1024, pattern=r"^s3://[^\s]+$")]
Id = Annotated[str, Field(min_length=1, max_length=128)]
FOUNDATION: Final = re.compile(r"arn:aws[a-z-]*:bedrock:[a-z0-9-]*::foundation-model/(.+)")


def short(reference: str) -> str:
    """The id of a foundation model; anything else as it is.

    Bedrock takes either the id or the ARN, and always tells the ARN.
    """
    found = FOUNDATION.fullmatch(reference)
    return found[1] if found else reference


class ProvisionedThroughput(Model):
    """Throughput that is reserved for the model, and paid for by the hour, used or not."""

    model_units: Annotated[int, Field(ge=1, le=1000)]
    """How many model units are bought. What one is worth depends on the model."""
    commitment: Literal["OneMonth", "SixMonths"] | None = None
    """For how long they are bought; by the hour if left out. They cannot be given back before the
    end of that time."""


class CustomModelDeployment(Model):
    """A custom model served on demand, paid for by the token."""

    description: Annotated[str, Field(min_length=1, max_length=2048)] | None = None
    """What it is for."""


class InferenceProfile(Model):
    """An address of your own for a foundation model, told apart by its tags on the bill."""

    description: Annotated[str, Field(min_length=1, max_length=200)] | None = None
    """What it is for."""


class BedrockDeploymentParams(ModelDeployment):
    """A model on Bedrock; which of the three fields is set says in which way it is served."""

    one_of = ("provisioned_throughput", "custom_model_deployment", "inference_profile")

    provisioned_throughput: Annotated[ProvisionedThroughput | None, IMMUTABLE, UNVERSIONED] = None
    """Reserve throughput for a foundation model or a custom one. It is paid for from its creation
    on, used or not."""
    custom_model_deployment: Annotated[CustomModelDeployment | None, IMMUTABLE, UNVERSIONED] = None
    """Serve a custom model on demand; may be left empty: `customModelDeployment: {}`."""
    inference_profile: Annotated[InferenceProfile | None, IMMUTABLE, UNVERSIONED] = None
    """Make an application inference profile of a foundation model or of one of Bedrock's
    cross-region profiles; may be left empty: `inferenceProfile: {}`."""
    tags: Annotated[TextMap | None, SHARED, UNVERSIONED] = None
    """Tags, such as those that costs are allocated by."""

    @model_validator(mode="after")
    def _by_id(self) -> Self:
        if self.model.name is not None:
            self.model.name = short(self.model.name)
        return self


class Distillation(Model):
    """Learning from a larger model."""

    teacher_model: Text
    """Id or ARN of the larger model."""
    max_response_length: Annotated[int, Field(ge=1, le=1_000_000)] | None = None
    """Most tokens of each of its answers."""


class CustomizationVpc(Model):
    """The network that the job is in."""

    subnets: Annotated[set[Id], Field(min_length=1, max_length=16)]
    """Ids of subnets."""
    security_groups: Annotated[set[Id], Field(min_length=1, max_length=5)]
    """Ids of security groups."""


class BedrockCustomizationParams(TuningJob):
    """A model customisation job."""

    role_arn: Annotated[Arn, IMMUTABLE]
    """ARN of the role that Bedrock works as: it reads the training data and writes the output."""
    output: Annotated[Address, IMMUTABLE]
    """Where Bedrock puts the metrics of the job, such as s3://bucket/prefix."""
    customization_type: Annotated[
        Literal["CONTINUED_PRE_TRAINING", "DISTILLATION"] | None, IMMUTABLE
    ] = None
    """Instead of method: what that has no word for."""
    distillation: Annotated[Distillation | None, IMMUTABLE] = None
    """For customizationType DISTILLATION: what to learn from."""
    grader_lambda_arn: Annotated[Arn | None, IMMUTABLE] = None
    """For method Reinforcement: the Lambda function that grades answers."""
    kms_key_id: Annotated[Text | None, IMMUTABLE] = None
    """KMS key that the model is encrypted with; a key of AWS if left out."""
    vpc: Annotated[CustomizationVpc | None, IMMUTABLE] = None
    """Network of the job; none of yours if left out."""
    tags: Annotated[TextMap | None, SHARED] = None
    """Tags of the job; the model that it makes gets them too."""

    @model_validator(mode="after")
    def _by_id(self) -> Self:
        if self.base_model is not None:
            self.base_model = short(self.base_model)
        return self
