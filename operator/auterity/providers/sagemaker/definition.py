"""What a model and an endpoint configuration hold, and what they are called for it."""

import json
from collections.abc import Sequence
from hashlib import sha256
from typing import Final

from auterity.api.fields import SecretKeyRef
from auterity.api.model_deployment import EnvironmentVariable
from auterity.engine.errors import Rejected
from auterity.providers.sagemaker.params import DataCapture, SageMakerEndpointParams, Vpc
from auterity.transport.aws import JSON

LONGEST_NAME: Final = 63
VARIANT_FIELDS: Final = {
    "volume_size_in_gb": "VolumeSizeInGB",
    "model_data_download_timeout_in_seconds": "ModelDataDownloadTimeoutInSeconds",
    "container_startup_health_check_timeout_in_seconds": (
        "ContainerStartupHealthCheckTimeoutInSeconds"
    ),
}


def prefix(endpoint: str) -> str:
    """What the names of everything begin with that is made for an endpoint."""
    return f"{endpoint[: LONGEST_NAME - 11].rstrip('-')}-"


def model_name(want: SageMakerEndpointParams, owner: str) -> str:
    """What the model is called."""
    # A digest of a secret would allow to guess it: where it comes from tells it apart as well.
    environment = {v.name: _source(v) for v in want.environment}
    return _named(want.name, owner, model_of(want, environment))


def configuration(
    endpoint: str, owner: str, variants: Sequence[JSON], settings: JSON
) -> tuple[str, JSON]:
    """An endpoint configuration of these variants: its name and what it holds."""
    # How many instances to start with is not a part of what it is told apart by.
    told = [{k: v for k, v in one.items() if k != "InitialInstanceCount"} for one in variants]
    name = _named(endpoint, owner, {"ProductionVariants": told, **settings})
    return name, {"ProductionVariants": list(variants), **settings}


def settings_of(want: SageMakerEndpointParams) -> JSON:
    """What a configuration holds besides its variants."""
    settings: JSON = {}
    if want.kms_key_id:
        settings["KmsKeyId"] = want.kms_key_id
    if want.data_capture:
        settings["DataCaptureConfig"] = {
            "EnableCapture": True,
            "InitialSamplingPercentage": want.data_capture.sampling_percentage,
            "DestinationS3Uri": want.data_capture.destination,
            "CaptureOptions": [{"CaptureMode": "Input"}, {"CaptureMode": "Output"}],
        }
    return settings


def settings_in(config: JSON) -> JSON:
    """The same of a configuration as SageMaker tells it."""
    own = ("EndpointConfigName", "EndpointConfigArn", "CreationTime", "ProductionVariants")
    return {k: v for k, v in config.items() if k not in (*own, "ResponseMetadata")}


def model_of(want: SageMakerEndpointParams, environment: dict[str, str]) -> JSON:
    """What the model holds."""
    container: JSON = {"Environment": environment}
    if want.model.image:
        container["Image"] = want.model.image
    reference = want.model.reference or ""
    if want.model.version is not None:
        raise Rejected("model.version: SageMaker has it in the name of a model package")
    if reference and want.model.artifact is None and not reference.startswith("s3://"):
        container["ModelPackageName"] = reference
    elif reference.endswith("/"):
        source = {"S3Uri": reference, "S3DataType": "S3Prefix", "CompressionType": "None"}
        container["ModelDataSource"] = {"S3DataSource": source}
    elif reference:
        container["ModelDataUrl"] = reference
    model: JSON = {
        "PrimaryContainer": container,
        "ExecutionRoleArn": want.execution_role_arn,
        "EnableNetworkIsolation": want.enable_network_isolation,
    }
    if want.vpc:
        model["VpcConfig"] = {
            "Subnets": sorted(want.vpc.subnets),
            "SecurityGroupIds": sorted(want.vpc.security_groups),
        }
    return model


def variant_of(want: SageMakerEndpointParams, model: str, name: str) -> JSON:
    """A variant that serves a model."""
    served: JSON = {"VariantName": name, "ModelName": model}
    if not want.serverless:
        served["InitialInstanceCount"] = want.scaling.min
    if want.hardware:
        served["InstanceType"] = want.hardware
    if want.serverless:
        served["ServerlessConfig"] = {
            "MemorySizeInMB": want.serverless.memory_size_in_mb,
            "MaxConcurrency": want.serverless.max_concurrency,
        }
        if want.serverless.provisioned_concurrency:
            served["ServerlessConfig"]["ProvisionedConcurrency"] = (
                want.serverless.provisioned_concurrency
            )
    for field, member in VARIANT_FIELDS.items():
        if (value := getattr(want, field)) is not None:
            served[member] = value
    return served


def _named(endpoint: str, owner: str, content: JSON) -> str:
    digest = sha256(json.dumps([endpoint, owner, content], sort_keys=True).encode()).hexdigest()
    return f"{prefix(endpoint)}{digest[:10]}"


def _source(variable: EnvironmentVariable) -> str:
    ref = variable.secret_key_ref
    return f"{ref.name}/{ref.key}@{variable.version}" if ref else variable.reveal()


def variable(name: str, value: str) -> EnvironmentVariable:
    """An environment variable as SageMaker tells it."""
    # Whether a value is a secret shows nowhere at SageMaker, so each is taken for one.
    hidden = SecretKeyRef.model_construct(name="sagemaker", key=name)
    variable = EnvironmentVariable.model_construct(name=name, secret_key_ref=hidden)
    variable.resolve(value, "")
    return variable


def vpc_of(told: JSON | None) -> Vpc | None:
    """A model's network as SageMaker tells it."""
    if not told:
        return None
    return Vpc.model_construct(
        subnets=set(told["Subnets"]), security_groups=set(told["SecurityGroupIds"])
    )


def data_capture_of(told: JSON | None) -> DataCapture | None:
    """A configuration's data capture as SageMaker tells it."""
    if not told or not told.get("EnableCapture"):
        return None
    return DataCapture.model_construct(
        destination=told["DestinationS3Uri"],
        sampling_percentage=told["InitialSamplingPercentage"],
    )
