"""What a model and an endpoint configuration hold, and what they are called for it."""

import json
from hashlib import sha256
from typing import Final

from auterity.api.fields import SecretKeyRef
from auterity.api.model_deployment import EnvironmentVariable
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


def definition(want: SageMakerEndpointParams, owner: str, variant: str) -> tuple[str, str, JSON]:
    """Names of model and endpoint configuration, and the latter's content but its count."""
    # A digest of a secret would allow to guess it: where it comes from tells it apart as well.
    environment = {v.name: _source(v) for v in want.environment}
    model = _named(want.name, owner, model_of(want, environment))
    config = _config_of(want, model, variant)
    return model, _named(want.name, owner, config), config


def model_of(want: SageMakerEndpointParams, environment: dict[str, str]) -> JSON:
    """What the model holds."""
    container: JSON = {"Environment": environment}
    if want.model.image:
        container["Image"] = want.model.image
    if (artifact := want.model.artifact) and artifact.endswith("/"):
        source = {"S3Uri": artifact, "S3DataType": "S3Prefix", "CompressionType": "None"}
        container["ModelDataSource"] = {"S3DataSource": source}
    elif artifact:
        container["ModelDataUrl"] = artifact
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


def count_of(want: SageMakerEndpointParams) -> JSON:
    """How many instances to start with: not a part of what the configuration is told apart by."""
    return {} if want.serverless else {"InitialInstanceCount": want.scaling.min}


def _config_of(want: SageMakerEndpointParams, model: str, variant: str) -> JSON:
    served: JSON = {"VariantName": variant, "ModelName": model}
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
    for field, name in VARIANT_FIELDS.items():
        if (value := getattr(want, field)) is not None:
            served[name] = value
    config: JSON = {"ProductionVariants": [served]}
    if want.kms_key_id:
        config["KmsKeyId"] = want.kms_key_id
    if want.data_capture:
        config["DataCaptureConfig"] = {
            "EnableCapture": True,
            "InitialSamplingPercentage": want.data_capture.sampling_percentage,
            "DestinationS3Uri": want.data_capture.destination,
            "CaptureOptions": [{"CaptureMode": "Input"}, {"CaptureMode": "Output"}],
        }
    return config


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
