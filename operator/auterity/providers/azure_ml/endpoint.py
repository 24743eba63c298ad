"""Managed online endpoints of Azure Machine Learning, with their deployments and traffic.

https://learn.microsoft.com/rest/api/azureml/online-endpoints
"""

import re
from collections.abc import Mapping
from typing import Any, Final
from urllib.parse import urlsplit

from pydantic import SecretStr

from auterity.api.fields import SecretKeyRef
from auterity.api.model_deployment import EnvironmentVariable, ModelSource
from auterity.api.rollout import STATUS_CLASSES, Metric, Probe
from auterity.engine.contract import (
    Answer,
    Measured,
    Observed,
    Phase,
    Provider,
    Revision,
    Span,
)
from auterity.engine.errors import Busy, NotFound
from auterity.providers.azure_ml.monitoring import LATENCIES, DeploymentMonitoring
from auterity.providers.azure_ml.params import (
    AzureMLEndpointParams,
    CodeConfiguration,
    HealthProbe,
)
from auterity.providers.azure_ml.scaling import InstanceScaling, impossible
from auterity.providers.azure_ml.workspace import (
    VERSION,
    as_declared,
    duration,
    id_of,
    location_of,
    noted,
    seconds_of,
)
from auterity.providers.billing import Bill, of_replicas
from auterity.transport.azure import (
    JSON,
    KEY_TAG,
    OWNER_TAG,
    AzureConnection,
    AzureSession,
    tags_after,
    user_tags,
)

PHASES: Final = {
    "Succeeded": Phase.READY,
    "Deleting": Phase.DELETING,
    "Failed": Phase.FAILED,
    "Canceled": Phase.FAILED,
}
"""Of all other states an endpoint or deployment leaves by itself."""
STILL_SERVING: Final = ("Scaling", "Updating")
NAME: Final = re.compile(r"[A-Za-z](-?[A-Za-z0-9])*")
LONGEST_NAME: Final = 32
PROBE_SECONDS: Final = {
    "initial_delay_seconds": "initialDelay",
    "period_seconds": "period",
    "timeout_seconds": "timeout",
}
PROBE_COUNTS: Final = {
    "failure_threshold": "failureThreshold",
    "success_threshold": "successThreshold",
}


class AzureMLEndpoint(Provider[AzureMLEndpointParams, AzureSession]):
    """An endpoint. Its id is `<workspace>/<name>`; each revision is a deployment of that name."""

    kind = "ModelDeployment"
    vendor = "azureML"
    params = AzureMLEndpointParams
    connection = AzureConnection
    docs = "https://learn.microsoft.com/rest/api/azureml/online-endpoints"
    permissions = (
        "Microsoft.MachineLearningServices/workspaces/read",
        "Microsoft.MachineLearningServices/workspaces/onlineEndpoints/*",
        "Microsoft.Insights/autoscaleSettings/*",
        "Microsoft.Insights/metrics/read",
    )
    proof = (
        "against a stateful fake that holds requests against the models of azure-ai-ml 1.35 and "
        "azure-mgmt-monitor 7.0, and that the former's REST client gets along with"
    )
    publishes = (
        ("url", "Where requests are sent."),
        ("endpointName", "Name of the endpoint."),
        ("authentication", "How requests are authenticated."),
        ("curl", "A request to try it with."),
        ("apiKey", "First key of the endpoint, with publishKey."),
    )
    quirks = (
        "The endpoint's name is unique in its region: another workspace may have taken it.",
        (
            "A new deployment takes 6 to 20 minutes, and needs the quota for its instances, and a "
            "fifth on top, beside those that serve."
        ),
        (
            "Why a deployment has failed is told by Azure for a while only, and to whoever has "
            "started it; after a restart of the operator, look into the deployment's logs."
        ),
        (
            "model.name is the id of a registered model, such as azureml://registries/azureml/"
            "models/m/versions/1; an image is declared by environmentId."
        ),
        (
            "A managed endpoint cannot scale to zero. Autoscaling follows CPUUtilization, "
            "MemoryUtilization or AcceleratorUtilization, by a setting of Azure Monitor for each "
            "deployment."
        ),
        (
            "Microsoft.Insights/metrics/read is needed for rollout.checks only. Azure Monitor "
            "tells percentiles of each minute: a latency is their mean by the minutes' requests."
        ),
        "Whoever may read the deployment sees its environment, secrets included.",
        "A deployment that others have added gets no environment of yours, and is removed.",
    )
    poll_after = 15.0
    revisions = True
    probes = True
    measures = frozenset({*STATUS_CLASSES, *LATENCIES})
    measured_after = 180.0

    def __init__(self, session: AzureSession) -> None:
        super().__init__(session)
        self.monitoring = DeploymentMonitoring(session)
        self.scaling = InstanceScaling(session)

    @classmethod
    def objections(cls, want: AzureMLEndpointParams) -> Mapping[str, str]:
        found = {}
        if not NAME.fullmatch(want.name) or not 3 <= len(want.name) <= LONGEST_NAME:  # noqa: PLR2004
            found["name"] = "Azure takes 3 to 32 letters, digits and inner hyphens, a letter first"
        if want.model.image is not None:
            found["model"] = "Azure takes an image as a registered environment: use environmentId"
        elif want.model.version is not None:
            found["model"] = "Azure Machine Learning has the version in the model's id"
        if want.hardware is None:
            found["hardware"] = "name the instance type, such as Standard_DS3_v2"
        if (objection := impossible(want.scaling)) is not None:
            found["scaling"] = objection
        return found

    @classmethod
    def billed(cls, want: AzureMLEndpointParams) -> Bill:
        return (of_replicas(want.hardware, want.scaling),) if want.hardware else None

    async def locate(self, want: AzureMLEndpointParams) -> str | None:
        return f"{want.workspace}/{want.name}"

    async def read(self, id: str) -> Observed[AzureMLEndpointParams] | None:
        body = await self.session.find(self._path(id), VERSION)
        if body is None:
            return None
        told, tags = body["properties"], body.get("tags") or {}
        state = told.get("provisioningState", "Succeeded")
        phase, message = PHASES.get(state, Phase.PENDING), f"the endpoint is {state}"
        if phase is Phase.FAILED and (why := await self.session.why(self._path(id))):
            message = f"{message}: {why}"
        workspace, _, name = id.partition("/")
        published, mode = tags.get(KEY_TAG) == "true", told.get("authMode")
        secrets = {}
        if published and mode == "Key" and phase is Phase.READY:
            secrets = {"apiKey": SecretStr(await self._key(id))}
        deployments = await self._deployments(id)
        return Observed(
            id=id,
            actual=AzureMLEndpointParams.seen(
                workspace=workspace,
                auth_mode=mode,
                public_network_access=told.get("publicNetworkAccess", "Enabled"),
                tags=user_tags(tags),
                publish_key=published,
            ),
            phase=phase,
            owner=tags.get(OWNER_TAG),
            outputs=_outputs(name, told, self.session.cloud.ml),
            secrets=secrets,
            url=f"https://ml.azure.com/endpoints/realtime/{name}/detail?wsid="
            f"{id_of(self.session, workspace)}",
            message=message,
            revisions=[await self._revision(told, one) for one in deployments],
        )

    async def create(self, want: AzureMLEndpointParams, owner: str) -> str:
        marks = {OWNER_TAG: owner, **({KEY_TAG: "true"} if want.publish_key else {})}
        identity: JSON = {"type": "SystemAssigned"}
        if own := want.user_assigned_identities:
            identity = {"type": "UserAssigned", "userAssignedIdentities": {i: {} for i in own}}
        body = {
            "location": await location_of(self.session, want.workspace),
            "identity": identity,
            "tags": {**(want.tags or {}), **marks},
            "properties": {
                "authMode": want.auth_mode,
                "publicNetworkAccess": want.public_network_access,
                "traffic": {},
            },
        }
        id = f"{want.workspace}/{want.name}"
        await self._put(id, body)
        return id

    async def update(
        self, id: str, want: AzureMLEndpointParams, changed: frozenset[str], owner: str
    ) -> None:
        body = await self._endpoint(id)
        if any(path.split(".")[0] == "scaling" for path in changed):
            # First: while the endpoint is being changed, its deployments cannot be.
            for one in await self._deployments(id):
                await self.scaling.keep(one, want.scaling, owner, VERSION)
        tags, marks = dict(body.get("tags") or {}), {OWNER_TAG: owner}
        if "publish_key" in changed:
            tags.pop(KEY_TAG, None)
            marks |= {KEY_TAG: "true"} if want.publish_key else {}
        after = tags_after(tags, want.tags, changed, marks)
        failed = PHASES.get(body["properties"].get("provisioningState")) is Phase.FAILED
        if after != (body.get("tags") or {}) or failed:
            await self._put(id, _writable(body, tags=after))

    async def delete(self, id: str) -> None:
        try:
            for one in await self._deployments(id):
                await self.scaling.remove(one)
            await self.session.arm("DELETE", self._path(id), VERSION)
        except NotFound:
            return

    async def add_revision(self, id: str, want: AzureMLEndpointParams, owner: str) -> None:
        path = f"{self._path(id)}/deployments/{want.revision}"
        if await self.session.find(path, VERSION) is not None:
            return
        endpoint = await self._endpoint(id)
        body = {
            "location": endpoint["location"],
            "sku": {"name": "Default", "capacity": want.scaling.min},
            "tags": {OWNER_TAG: owner},
            "properties": _deployment_of(want),
        }
        await self.session.arm("PUT", path, VERSION, json=body)

    async def set_traffic(self, id: str, weights: Mapping[str, int]) -> None:
        body = await self._endpoint(id)
        await self._put(id, _writable(body, traffic=dict(weights)))

    async def remove_revision(self, id: str, revision: str) -> None:
        path = f"{self._path(id)}/deployments/{revision}"
        now = await self.session.find(path, VERSION)
        if now is None:
            return
        await self.scaling.remove(now)
        try:
            await self.session.arm("DELETE", path, VERSION)
        except NotFound:
            return

    async def probe(self, id: str, request: Probe, revision: str | None) -> Answer:
        body = await self._endpoint(id)
        told = body["properties"]
        if not told.get("scoringUri"):
            raise Busy("the endpoint has no address yet")
        where = urlsplit(told["scoringUri"])
        mode = told.get("authMode")
        bearer = None
        if mode == "Key":
            bearer = SecretStr(await self._key(id))
        elif mode == "AMLToken":
            answer = await self.session.arm(
                "POST", f"{self._path(id)}/token", VERSION, label="GetEndpointToken"
            )
            bearer = SecretStr(answer["accessToken"])
        return await self.session.ask(
            f"{where.scheme}://{where.netloc}",
            self.session.cloud.ml,
            request.path or where.path,
            request.body,
            request.content_type,
            bearer=bearer,
            **({"azureml-model-deployment": revision} if revision else {}),
        )

    async def measure(
        self, id: str, revision: str, metrics: frozenset[Metric], span: Span
    ) -> Measured:
        return await self.monitoring.measure(self._path(id), revision, metrics, span)

    def _path(self, id: str) -> str:
        workspace, _, name = id.partition("/")
        return f"{id_of(self.session, workspace)}/onlineEndpoints/{name}"

    async def _endpoint(self, id: str) -> JSON:
        """The endpoint, to be changed."""
        body = await self.session.find(self._path(id), VERSION)
        if body is None:
            raise Busy(f"endpoint {id} is gone")
        return body

    async def _deployments(self, id: str) -> list[JSON]:
        return await self.session.pages(f"{self._path(id)}/deployments", VERSION)

    async def _put(self, id: str, body: JSON) -> None:
        await self.session.arm("PUT", self._path(id), VERSION, json=body)

    async def _key(self, id: str) -> str:
        keys = await self.session.arm(
            "POST", f"{self._path(id)}/listKeys", VERSION, label="ListKeys"
        )
        return str(keys["primaryKey"])

    async def _revision(self, endpoint: JSON, body: JSON) -> Revision[AzureMLEndpointParams]:
        told, state, name = body["properties"], _state(body), body["name"]
        weight = int((endpoint.get("traffic") or {}).get(name, 0))
        phase = PHASES.get(state, Phase.PENDING)
        if state in STILL_SERVING and weight:
            phase = Phase.READY
        message = f"deployment {name} is {state}"
        if phase is Phase.FAILED and (why := await self.session.why(body["id"])):
            message = f"{message}: {why}"
        settings, code = told.get("requestSettings") or {}, told.get("codeConfiguration")
        notes = told.get("properties")
        fields: JSON = {}
        if phase is Phase.READY:
            # One that does not serve has nothing to scale.
            fields["scaling"] = await self.scaling.seen(body)
        actual = AzureMLEndpointParams.seen(
            model=ModelSource.told(as_declared("model", told.get("model"), notes), version=None),
            hardware=told.get("instanceType"),
            environment=[_variable(k, v) for k, v in _variables(told).items()],
            environment_id=as_declared("environment", told.get("environmentId"), notes),
            code_configuration=code
            and CodeConfiguration.model_construct(
                code_id=str(as_declared("code", code.get("codeId"), notes)),
                scoring_script=code.get("scoringScript"),
            ),
            model_mount_path=told.get("modelMountPath"),
            egress_public_network_access=told.get("egressPublicNetworkAccess"),
            app_insights_enabled=told.get("appInsightsEnabled", False),
            request_timeout_seconds=seconds_of(settings.get("requestTimeout")),
            concurrent_requests=settings.get("maxConcurrentRequestsPerInstance"),
            liveness_probe=_probe_seen(told.get("livenessProbe")),
            readiness_probe=_probe_seen(told.get("readinessProbe")),
            **fields,
        )
        return Revision(name, weight, actual, phase, None if phase is Phase.READY else message)


def _deployment_of(want: AzureMLEndpointParams) -> JSON:
    """A deployment's properties."""
    settings: JSON = {}
    if want.request_timeout_seconds is not None:
        settings["requestTimeout"] = duration(want.request_timeout_seconds)
    if want.concurrent_requests is not None:
        settings["maxConcurrentRequestsPerInstance"] = want.concurrent_requests
    code = want.code_configuration
    properties: JSON = {
        "endpointComputeType": "Managed",
        "model": want.model.reference,
        "instanceType": want.hardware,
        "environmentId": want.environment_id,
        "environmentVariables": {one.name: one.reveal() for one in want.environment},
        "codeConfiguration": code
        and {"codeId": code.code_id, "scoringScript": code.scoring_script},
        "modelMountPath": want.model_mount_path,
        "egressPublicNetworkAccess": want.egress_public_network_access,
        "appInsightsEnabled": want.app_insights_enabled,
        "requestSettings": settings or None,
        "livenessProbe": _probe_of(want.liveness_probe),
        "readinessProbe": _probe_of(want.readiness_probe),
        "properties": noted(
            model=want.model.reference,
            environment=want.environment_id,
            code=code.code_id if code else None,
        ),
    }
    return {key: value for key, value in properties.items() if value is not None}


def _writable(body: JSON, **changed: Any) -> JSON:
    """An endpoint as it is told, as it can be sent: a PUT replaces all of it."""
    told, identity = body["properties"], body.get("identity") or {}
    properties = {
        key: told[key]
        for key in ("authMode", "publicNetworkAccess", "description", "compute", "properties")
        if told.get(key) is not None
    }
    # Of deployments that are gone, a zero may be left.
    properties["traffic"] = {k: v for k, v in (told.get("traffic") or {}).items() if v}
    if told.get("mirrorTraffic"):
        properties["mirrorTraffic"] = told["mirrorTraffic"]
    if "traffic" in changed:
        properties["traffic"] = changed["traffic"]
    own: JSON = {i: {} for i in identity.get("userAssignedIdentities") or ()}
    return {
        **{key: body[key] for key in ("kind", "sku") if body.get(key) is not None},
        "location": body["location"],
        "identity": {
            "type": identity.get("type", "None"),
            **({"userAssignedIdentities": own} if own else {}),
        },
        "tags": changed.get("tags", body.get("tags") or {}),
        "properties": properties,
    }


def _probe_of(probe: HealthProbe | None) -> JSON | None:
    if probe is None:
        return None
    found: JSON = {}
    for field, key in PROBE_SECONDS.items():
        if (value := getattr(probe, field)) is not None:
            found[key] = duration(value)
    for field, key in PROBE_COUNTS.items():
        if (value := getattr(probe, field)) is not None:
            found[key] = value
    return found


def _probe_seen(told: JSON | None) -> HealthProbe | None:
    if told is None:
        return None
    fields: JSON = {field: seconds_of(told.get(key)) for field, key in PROBE_SECONDS.items()}
    fields |= {field: told.get(key) for field, key in PROBE_COUNTS.items()}
    return HealthProbe.model_construct(**fields)


def _variables(told: JSON) -> dict[str, str]:
    return dict(told.get("environmentVariables") or {})


def _variable(name: str, value: str) -> EnvironmentVariable:
    """An environment variable as Azure tells it: whether it is a secret shows nowhere."""
    hidden = SecretKeyRef.model_construct(name="azure", key=name)
    variable = EnvironmentVariable.model_construct(name=name, secret_key_ref=hidden)
    variable.resolve(value, "")
    return variable


def _state(deployment: JSON) -> str:
    return str(deployment["properties"].get("provisioningState", "Succeeded"))


def _outputs(name: str, told: JSON, scope: str) -> dict[str, str]:
    ways = {
        "Key": "Authorization: Bearer with a key of the endpoint",
        "AMLToken": "Authorization: Bearer with a token that the workspace gives out",
    }
    found = {
        "endpointName": name,
        "authentication": ways.get(
            str(told.get("authMode")), f"Authorization: Bearer with a token of Entra ID for {scope}"
        ),
    }
    if url := told.get("scoringUri"):
        found["url"] = url
        found["curl"] = (
            f'curl {url} -H "Authorization: Bearer $AZURE_ML_KEY" -H "content-type: '
            'application/json" -d \'{"input_data": []}\''
        )
    return found
