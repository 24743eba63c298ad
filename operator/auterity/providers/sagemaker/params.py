"""What users declare of a SageMaker endpoint."""

from typing import Annotated

from pydantic import Field

from auterity.api.fields import SHARED, UNVERSIONED, Model, Text, TextMap
from auterity.api.model_deployment import ModelDeployment

Arn = Annotated[str, Field(min_length=8, max_length=2048, pattern=r"^arn:[^\s]+$")]
Id = Annotated[str, Field(min_length=1, max_length=128)]


class Serverless(Model):
    """A serverless endpoint, instead of instances."""

    memory_size_in_mb: Annotated[int, Field(ge=1024, le=6144, alias="memorySizeInMB")]
    """Memory, in steps of 1024 MB."""
    max_concurrency: Annotated[int, Field(ge=1, le=200)]
    """Most invocations at the same time."""
    provisioned_concurrency: Annotated[int, Field(ge=1, le=200)] | None = None
    """Invocations that are kept warm for."""


class Vpc(Model):
    """The network that the containers are in."""

    subnets: Annotated[set[Id], Field(min_length=1, max_length=16)]
    """Ids of subnets."""
    security_groups: Annotated[set[Id], Field(min_length=1, max_length=5)]
    """Ids of security groups."""


class DataCapture(Model):
    """Keeping requests and answers for monitoring."""

    destination: Annotated[str, Field(min_length=1, max_length=512, pattern=r"^s3://[^\s]+$")]
    """Where they are kept, such as s3://bucket/prefix."""
    sampling_percentage: Annotated[int, Field(ge=0, le=100)] = 100
    """Share of the invocations that is kept."""


class SageMakerEndpointParams(ModelDeployment):
    """An endpoint with its variants (one for each revision), models, configuration and scaling."""

    execution_role_arn: Arn
    """ARN of the role that SageMaker works as: it pulls the image and reads the artifact."""
    serverless: Serverless | None = None
    """Serve without instances: leave out hardware. `scaling` then means nothing."""
    volume_size_in_gb: Annotated[int | None, Field(ge=1, le=512, alias="volumeSizeInGB")] = None
    """Size of each instance's disk, for hardware without one of its own."""
    model_data_download_timeout_in_seconds: Annotated[int, Field(ge=60, le=3600)] | None = None
    """How long loading the model from S3 may take."""
    container_startup_health_check_timeout_in_seconds: (
        Annotated[int, Field(ge=60, le=3600)] | None
    ) = None
    """How long the container may take until it answers its health check."""
    vpc: Vpc | None = None
    """Network of the containers; none of yours if left out."""
    enable_network_isolation: bool = False
    """Cut the containers off from every network."""
    kms_key_id: Annotated[Text | None, UNVERSIONED] = None
    """KMS key that the instances' disks are encrypted with."""
    data_capture: Annotated[DataCapture | None, UNVERSIONED] = None
    """Keep requests and answers in S3."""
    tags: Annotated[TextMap | None, SHARED, UNVERSIONED] = None
    """Tags of the endpoint; new models and endpoint configurations get them too."""
    keep_superseded: Annotated[bool, UNVERSIONED] = False
    """Keep the models and endpoint configurations that updates have replaced, beside what
    rollout.rollbackTo needs. Otherwise they are removed as soon as the endpoint serves others."""
