"""What users declare of a Vertex AI endpoint."""

from typing import Annotated

from pydantic import Field

from auterity.api.fields import IMMUTABLE, SHARED, UNVERSIONED, Model, ShortText, Text, TextMap
from auterity.api.model_deployment import ModelDeployment
from auterity.transport.google import LABELS_RULE

Route = Annotated[str, Field(min_length=1, max_length=256, pattern=r"^/[^\s]*$")]
Words = Annotated[list[Annotated[str, Field(max_length=4096)]], Field(max_length=100)]


class RequestLogging(Model):
    """Keeping requests and answers in BigQuery."""

    destination: Annotated[str, Field(min_length=5, max_length=512, pattern=r"^bq://[^\s]+$")]
    """Where they are kept, such as bq://project.dataset.table."""
    sampling_rate: Annotated[float, Field(ge=0.0001, le=1)] = 1.0
    """Share of the requests that is kept, up to 1."""


class Container(Model):
    """How the serving container is started and asked; what the image or recipe says if left out."""

    command: Words | None = None
    """Command instead of the image's entry point."""
    args: Words | None = None
    """Arguments of the command."""
    port: Annotated[int, Field(ge=1, le=65535)] | None = None
    """Port on which it listens; 8080 if left out."""
    predict_route: Route | None = None
    """Path that predictions are sent to."""
    health_route: Route | None = None
    """Path that tells whether it is healthy."""
    shared_memory_size_mb: Annotated[int, Field(ge=1, le=1_000_000)] | None = None
    """Shared memory in MB, which models on several GPUs need more of."""


class VertexEndpointParams(ModelDeployment):
    """An endpoint; each revision is a model deployed to it."""

    rules = (LABELS_RULE,)

    container: Container | None = None
    """The serving container of a model with an image, or from Model Garden."""
    accelerator_type: ShortText | None = None
    """GPU or TPU on each machine, such as NVIDIA_L4."""
    accelerator_count: Annotated[int, Field(ge=1, le=64)] | None = None
    """How many of them each machine has."""
    spot: bool = False
    """Serve on cheaper machines that Google may take away at any time."""
    service_account: Text | None = None
    """Service account that the container works as. The connection's one needs the role Service
    Account User on it."""
    access_logging: bool = False
    """Log every request to Cloud Logging."""
    dedicated_endpoint: Annotated[bool | None, IMMUTABLE, UNVERSIONED] = None
    """Serve on a host name of its own, without the limits of the shared one. Google decides if left
    out. Cannot change."""
    kms_key: Annotated[Text | None, IMMUTABLE, UNVERSIONED] = None
    """Cloud KMS key that the endpoint and the models uploaded for it are encrypted with, as
    projects/p/locations/l/keyRings/r/cryptoKeys/k. Cannot change."""
    request_logging: Annotated[RequestLogging | None, UNVERSIONED] = None
    """Keep requests and answers in BigQuery."""
    labels: Annotated[TextMap | None, SHARED, UNVERSIONED] = None
    """Labels of the endpoint; models that are uploaded for it get them too. Google takes lower-case
    letters, digits, _ and -."""
    keep_superseded: Annotated[bool, UNVERSIONED] = False
    """Keep the models in the registry that revisions were made of, also when nothing serves them
    any more. Those that were in the registry before are always kept."""
