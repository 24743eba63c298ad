"""What users declare of an online endpoint."""

from typing import Annotated, Literal

from pydantic import Field

from auterity.api.fields import IMMUTABLE, SHARED, UNVERSIONED, Model, ShortText, Text, TextMap
from auterity.api.model_deployment import ModelDeployment
from auterity.providers.azure_ml.workspace import WorkspaceName

Seconds = Annotated[int, Field(ge=1, le=3600)]


class CodeConfiguration(Model):
    """Code that serves the model, for models that do not bring their own."""

    code_id: Text
    """Id of the code, as registered in the workspace."""
    scoring_script: ShortText
    """File in it with the functions init and run."""


class HealthProbe(Model):
    """How a container is asked whether it is well."""

    initial_delay_seconds: Seconds | None = None
    """How long after its start it is first asked."""
    period_seconds: Seconds | None = None
    """How often it is asked."""
    timeout_seconds: Seconds | None = None
    """How long its answer may take."""
    failure_threshold: Annotated[int, Field(ge=1, le=100)] | None = None
    """Failures in a row that count."""
    success_threshold: Annotated[int, Field(ge=1, le=100)] | None = None
    """Successes in a row that count."""


class AzureMLEndpointParams(ModelDeployment):
    """A managed online endpoint; each revision is a deployment of it."""

    workspace: Annotated[WorkspaceName, IMMUTABLE, UNVERSIONED]
    """Workspace, in the connection's resource group."""
    auth_mode: Annotated[Literal["Key", "AMLToken", "AADToken"], IMMUTABLE, UNVERSIONED] = "Key"
    """How requests prove who they are: by one of the endpoint's keys, by a token that the workspace
    gives out, or by a token of Entra ID."""
    public_network_access: Annotated[Literal["Enabled", "Disabled"], IMMUTABLE, UNVERSIONED] = (
        "Enabled"
    )
    """Whether the endpoint can be reached from outside of the workspace's private network."""
    user_assigned_identities: Annotated[
        set[Text] | None, Field(min_length=1, max_length=10), IMMUTABLE, UNVERSIONED
    ] = None
    """Resource ids of the managed identities that the endpoint works as; one of its own if left
    out. It pulls images and reads models."""
    environment_id: Text | None = None
    """Id of the environment (image and packages), as registered in the workspace or a registry. Not
    for models in MLflow's format and those of a registry, which bring theirs."""
    code_configuration: CodeConfiguration | None = None
    """Code that serves the model, if it does not bring its own."""
    model_mount_path: Text | None = None
    """Where the model is put in a container of yours."""
    egress_public_network_access: Literal["Enabled", "Disabled"] | None = None
    """Whether the containers reach the public network; Enabled if left out."""
    app_insights_enabled: bool = False
    """Send logs and metrics of the containers to Application Insights."""
    request_timeout_seconds: Annotated[int, Field(ge=1, le=180)] | None = None
    """How long an answer may take; 5 if left out."""
    concurrent_requests: Annotated[int, Field(ge=1, le=1000)] | None = None
    """Requests that an instance works on at the same time; 1 if left out."""
    liveness_probe: HealthProbe | None = None
    """How a container is asked whether it has to be started anew."""
    readiness_probe: HealthProbe | None = None
    """How a container is asked whether it takes requests."""
    tags: Annotated[TextMap | None, SHARED, UNVERSIONED] = None
    """Tags of the endpoint."""
    publish_key: Annotated[bool, UNVERSIONED] = False
    """With authMode Key: put the endpoint's first key into the Secret of spec.outputs."""
