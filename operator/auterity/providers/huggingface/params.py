"""What users declare of an Inference Endpoint of Hugging Face."""

from typing import Annotated, Literal

from pydantic import Field

from auterity.api.fields import (
    IMMUTABLE,
    UNVERSIONED,
    WRITE_ONLY,
    Model,
    SecretValue,
    ShortText,
    Text,
)
from auterity.api.model_deployment import ModelDeployment

Argument = Annotated[str, Field(max_length=1024)]
Parallel = Annotated[int, Field(ge=1, le=64)]


class Registry(Model):
    """Credentials of the registry that the container image is pulled from."""

    username: Text
    """User at the registry."""
    password: SecretValue
    """Password or token of the user."""


class Container(Model):
    """How the container of model.image is run."""

    engine: ShortText | None = None
    """What the image is, in Hugging Face's words: vLLM, sGLang, tgi, tei, llamacpp, hfServe;
    custom if left out."""
    port: Annotated[int, Field(ge=1, le=65535)] | None = None
    """Port that the container listens on."""
    health_route: Text | None = None
    """Path that answers once the container is ready, such as /health."""
    tensor_parallel_size: Parallel | None = None
    """Accelerators that one copy of the model is divided among (vLLM and sGLang)."""
    data_parallel_size: Parallel | None = None
    """Copies of the model in one replica, one for each accelerator (vLLM)."""
    registry: Annotated[Registry | None, WRITE_ONLY] = None
    """Credentials for a private registry; only for a custom image."""


class PrivateLink(Model):
    """An entry from your own network at AWS."""

    account_id: Annotated[str, Field(max_length=12, pattern=r"^[0-9]{12}$")]
    """AWS account that may reach the endpoint through PrivateLink."""
    region: ShortText
    """AWS region of the entry: us-east-1 or eu-west-1."""


class HuggingFaceEndpointParams(ModelDeployment):
    """An Inference Endpoint: a model of the Hub on hardware of its own."""

    cloud: Annotated[Literal["aws", "azure", "gcp"], IMMUTABLE]
    """Cloud that the endpoint runs in. Cannot change."""
    region: Annotated[ShortText, IMMUTABLE]
    """Region of that cloud, such as us-east-1. Cannot change."""
    accelerator: ShortText
    """What computes: cpu, gpu or neuron. It has to fit to hardware, such as nvidia-l4."""
    instance_size: ShortText
    """Size of the instance, such as x1 or x4. Which sizes there are depends on cloud, region and
    hardware."""
    type: Annotated[Literal["authenticated", "public", "private"], IMMUTABLE] = "authenticated"
    """Who can reach it. authenticated: whoever has a token for it. public: everyone. private:
    through privateLink only. Cannot change."""
    private_link: Annotated[PrivateLink | None, IMMUTABLE] = None
    """An entry from your own network at AWS. Cannot change."""
    framework: ShortText = "pytorch"
    """Framework of the model, such as pytorch, llamacpp, or custom for a handler of its own."""
    task: ShortText | None = None
    """Task that the model is deployed for, such as text-generation; that of the model if left
    out."""
    container: Container | None = None
    """How the container of model.image is run; only with model.image."""
    command: Annotated[list[Argument] | None, Field(max_length=64)] = None
    """Command of the container, instead of its own."""
    args: Annotated[list[Argument] | None, Field(max_length=64)] = None
    """Arguments of the container's command."""
    paused: Annotated[bool, UNVERSIONED] = False
    """Take all replicas away, and all cost and quota with them, until this is false again. Unlike
    one that is scaled to zero, a paused endpoint is not woken up by requests."""
    domain: Annotated[Text | None, UNVERSIONED] = None
    """Domain of your own for the endpoint, such as models.example.com."""
    path: Annotated[Text | None, UNVERSIONED] = None
    """Path of the model below its domain, such as /models/bert."""
    cache_http_responses: Annotated[bool | None, UNVERSIONED] = None
    """Whether Hugging Face caches the answers."""
    tags: Annotated[set[ShortText] | None, Field(max_length=16), UNVERSIONED] = None
    """Tags of the endpoint. Left to others if left out. The operator adds tags of its own, which
    begin with auterity-."""
