"""What users declare of a model at Modal."""

from typing import Annotated, Final

from pydantic import Field

from auterity.api.fields import (
    CREATE_ONLY,
    IMMUTABLE,
    UNVERSIONED,
    Duration,
    Model,
    Rule,
    SecretValue,
    ShortText,
    Text,
)
from auterity.api.model_deployment import ModelDeployment

OF_ENDPOINTS: Final = (
    *("base_model", "hugging_face_token", "routing_region", "compute_regions"),
    *("colocated", "unauthenticated"),
)
"""Fields (Python names) that mean nothing to an App, whose code says all of it."""


class ModalApp(Model):
    """An App that is deployed from its source by somebody else, such as a pipeline."""

    function: Annotated[
        str,
        Field(
            max_length=63,
            pattern=r"^[A-Za-z_][A-Za-z0-9_]*(\.[A-Za-z_][A-Za-z0-9_]*)?$",
        ),
    ]
    """The function of the App that serves: its name, that of a server's class, or Class.method."""
    tag: Annotated[str, Field(max_length=50, pattern=r"^[A-Za-z0-9._-]+$")] | None = None
    """The deployment that must serve, by its tag (modal deploy --tag): another one is waited out.
    Any will do if left out."""


class ModalDeploymentParams(ModelDeployment):
    """A Dedicated Endpoint at Modal, or with `app` an App of one's own code."""

    at_most_one_of = ("app", "base_model")
    rules = (
        Rule(
            "has(self.app) == has(oldSelf.app)",
            "an endpoint cannot become an App, nor an App an endpoint",
            ".app",
        ),
        Rule(
            "!has(self.app) || !(has(self.huggingFaceToken) || has(self.routingRegion) || "
            "has(self.computeRegions) || (has(self.colocated) && self.colocated) || "
            "(has(self.unauthenticated) && self.unauthenticated))",
            "with app, only bufferContainers and scaleupWindow can be set besides",
            ".app",
        ),
    )

    app: Annotated[ModalApp | None, UNVERSIONED] = None
    """Keep an App that is deployed from its source elsewhere, under this object's name. If left
    out, it is a Dedicated Endpoint."""
    base_model: Annotated[Text | None, IMMUTABLE] = None
    """For weights of one's own: the model of Modal's library whose recipe serves them. Then
    model.name is the repository at Hugging Face that has the weights."""
    hugging_face_token: Annotated[SecretValue | None, CREATE_ONLY, UNVERSIONED] = None
    """A token of Hugging Face, for a repository that is private or gated. It is sent once, when
    the endpoint is created."""
    routing_region: Annotated[ShortText | None, IMMUTABLE] = None
    """The region through which requests to an endpoint are routed; us-west if left out."""
    compute_regions: Annotated[
        Annotated[list[ShortText], Field(min_length=1, max_length=16)] | None, IMMUTABLE
    ] = None
    """The regions in which containers may run, at a higher price; anywhere if left out."""
    colocated: Annotated[bool, IMMUTABLE] = False
    """Run all containers within the routing region, at a higher price."""
    unauthenticated: Annotated[bool, IMMUTABLE] = False
    """Answer requests without a proxy token, from anyone."""
    buffer_containers: Annotated[Annotated[int, Field(ge=0, le=1000)] | None, UNVERSIONED] = None
    """Containers that are kept running beyond what the requests need."""
    scaleup_window: Annotated[Duration | None, UNVERSIONED] = None
    """How long more containers must be called for until they are added."""
