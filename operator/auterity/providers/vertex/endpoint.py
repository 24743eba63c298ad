"""Endpoints of Vertex AI, with the models deployed to them."""

import re
from collections.abc import Mapping, Sequence
from hashlib import sha256
from typing import Any, Final

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
from auterity.engine.errors import Busy, NotFound, Rejected
from auterity.providers.billing import Bill, of_replicas
from auterity.providers.vertex.models import (
    REMOVED_LABEL,
    REVISION_LABEL,
    Models,
    content_of,
    plain,
    source_of,
)
from auterity.providers.vertex.monitoring import REDUCERS, EndpointMonitoring
from auterity.providers.vertex.params import VertexEndpointParams
from auterity.providers.vertex.resources import (
    NO_ZERO,
    logging_config,
    logging_in,
    metrics,
    replicas,
    resources,
    same_scaling,
    scaling_of,
)
from auterity.transport.google import (
    JSON,
    VERTEX,
    GoogleConnection,
    GoogleSession,
    kind_of,
    meaning,
    user_labels,
)
from auterity.transport.labels import OUR_LABELS, owner_labels, owner_of

DEPLOYING: Final = f"{OUR_LABELS}deploying"
"""On an endpoint: the revision that was deployed last, since an operation does not tell which."""
AFTER: Final = f"{OUR_LABELS}after"
"""On an endpoint: the deployment before it. One that is newer is that of DEPLOYING."""
SCALED: Final = f"{OUR_LABELS}scaled"
"""On an endpoint: the scaling that was brought last, and the operation before it."""
NEW: Final = "0"
"""What a model that is being deployed is called in the split of the traffic."""
ALL: Final = 100
NAME: Final = re.compile(r"[a-z]([a-z0-9-]{0,61}[a-z0-9])?|[1-9][0-9]{0,18}")
CONSOLE: Final = "https://console.cloud.google.com/vertex-ai/online-prediction"


class VertexEndpoint(Provider[VertexEndpointParams, GoogleSession]):
    """One endpoint, which has the object's name; each revision is a model deployed to it.

    Ids of deployed models and of uploaded ones are derived from the revision's name, so that every
    step can be repeated. Vertex AI does one thing at a time with an endpoint.
    """

    kind = "ModelDeployment"
    vendor = "vertexAI"
    params = VertexEndpointParams
    connection = GoogleConnection
    docs = "https://cloud.google.com/vertex-ai/docs/reference/rest/v1/projects.locations.endpoints"
    permissions = (
        "roles/aiplatform.user on the project",
        "roles/iam.serviceAccountUser on vertexAI.serviceAccount, if one is set",
        "roles/monitoring.viewer on the project, for rollout.checks only",
    )
    proof = (
        "stateful fake; the requests of Google's own SDK are held against the discovery document "
        "of aiplatform v1, and signatures of tokens are checked"
    )
    publishes = (
        ("endpoint", "Resource name of the endpoint."),
        ("url", "Where predictions are asked for, with a token of Google's."),
        ("openaiBaseUrl", "Base URL for OpenAI's clients, if the serving container speaks that."),
        ("curl", "A call to try it with."),
    )
    quirks = (
        (
            "Deploying a model takes 5 to 20 minutes, a large one 45. Uploading one takes up to 2 "
            "minutes before that. Vertex AI does one thing at a time with an endpoint."
        ),
        (
            "A model is in the registry (model.name or model.modelRef), in Model Garden "
            "(model.name: publishers/google/models/..., or a Hugging Face id such as org/model), "
            "or a container with or without an artifact (model.image, model.artifact), which is "
            "uploaded to the registry."
        ),
        (
            "The licence of a Model Garden model has to be accepted in the console first. Its "
            "recommended container and machine are used where hardware, image or container say "
            "nothing else."
        ),
        (
            "Without hardware and scaling, the model is deployed as tuned Gemini models are: "
            "without machines of its own. With scaling alone, Vertex AI chooses the machines."
        ),
        "Replicas do not scale to zero: scaling.min is 1 or more.",
        "Every deployed replica is billed, also that of a revision without traffic.",
        (
            "spec.probe is sent to the endpoint and reaches whichever revision the traffic goes "
            "to; it has one path."
        ),
        (
            "rollout.checks are answered by Cloud Monitoring, minutes later: latencies are the "
            "total ones. It tells no LatencyP90."
        ),
        "Anyone who may read models sees the environment, secrets included.",
        "Names have at most 63 lower-case letters, digits and hyphens, a letter first.",
    )
    poll_after = 15.0
    revisions = True
    probes = True
    measures = frozenset({*STATUS_CLASSES, *REDUCERS})
    measured_after = 240.0

    def __init__(self, session: GoogleSession) -> None:
        super().__init__(session)
        self.monitoring = EndpointMonitoring(session)
        self.models = Models(session)

    @classmethod
    def objections(cls, want: VertexEndpointParams) -> Mapping[str, str]:
        found = {}
        if not NAME.fullmatch(want.name):
            found["name"] = (
                "Vertex AI takes 1 to 63 lower-case letters, digits and inner hyphens, a letter "
                "first"
            )
        if want.scaling.min == 0:
            found["scaling"] = NO_ZERO
        return found

    @classmethod
    def billed(cls, want: VertexEndpointParams) -> Bill:
        if want.hardware is None:
            # A tuned Gemini model is paid for by use; of all others Google chooses the machines.
            tuned = want.model.model_ref and "scaling" not in want.model_fields_set
            return () if tuned else None
        machines = (of_replicas(want.hardware, want.scaling, spot=want.spot),)
        # All machines but these have their accelerators in their price.
        if want.accelerator_type is None or not want.hardware.startswith("n1-"):
            return machines
        kind, each = want.accelerator_type, want.accelerator_count or 1
        return (*machines, of_replicas(kind, want.scaling, each, spot=want.spot))

    async def read(self, id: str) -> Observed[VertexEndpointParams] | None:
        name = self._name(id)
        # Before the endpoint: what has ended by then shows there.
        operations = await self.session.operations(VERTEX, name)
        endpoint = await self._find(id)
        running = {kind_of(one) for one in operations if not one.get("done")}
        if endpoint is None:
            if "CreateEndpoint" in running:
                raise Busy(f"endpoint {id} is being created")
            return await self._remains(id)
        labels = endpoint.get("labels", {})
        revisions = [await self._revision(endpoint, one) for one in _deployed(endpoint)]
        coming = _coming(endpoint, operations)
        phase, message = Phase.READY, None
        if "Delete" in running:
            phase, message = Phase.DELETING, f"endpoint {id} is being deleted"
        elif left := sorted(running - ({"DeployModel"} if coming else set())):
            phase, message = Phase.PENDING, f"Vertex AI is at work: {', '.join(left)}"
        fields: JSON = {
            "labels": user_labels(labels),
            "dedicated_endpoint": endpoint.get("dedicatedEndpointEnabled", False),
            "kms_key": endpoint.get("encryptionSpec", {}).get("kmsKeyName"),
            "request_logging": logging_in(endpoint.get("predictRequestResponseLoggingConfig")),
        }
        if "DeployModel" not in running and await self._superseded(id, endpoint):
            fields["keep_superseded"] = True
        return Observed(
            id=id,
            actual=VertexEndpointParams.seen(**fields),
            phase=phase,
            owner=owner_of(labels),
            outputs=self._outputs(endpoint),
            url=(
                f"{CONSOLE}/locations/{self.session.location}/endpoints/{id}"
                f"?project={self.session.project}"
            ),
            message=message,
            revisions=[*revisions, *coming],
        )

    async def create(self, want: VertexEndpointParams, owner: str) -> str:
        endpoint: JSON = {
            "displayName": want.name,
            "labels": {**(want.labels or {}), **owner_labels(owner)},
        }
        if want.dedicated_endpoint is not None:
            endpoint["dedicatedEndpointEnabled"] = want.dedicated_endpoint
        if want.kms_key:
            endpoint["encryptionSpec"] = {"kmsKeyName": want.kms_key}
        if want.request_logging:
            endpoint["predictRequestResponseLoggingConfig"] = logging_config(want.request_logging)
        before = await self.session.operations(VERTEX, self._name(want.name))
        started = await self._call(
            "CreateEndpoint", parent=self.session.parent, endpointId=want.name, endpoint=endpoint
        )
        # Why an earlier attempt has failed shows nowhere else.
        if (
            error := started.get("error") or _last(before, "CreateEndpoint").get("error")
        ) is not None:
            raise Rejected(f"the endpoint could not be made: {meaning(error)}; it is tried again")
        return want.name

    async def update(
        self, id: str, want: VertexEndpointParams, changed: frozenset[str], owner: str
    ) -> None:
        endpoint = await self._find(id)
        if endpoint is None:
            await self.create(want, owner)
            return
        parts = {path.split(".")[0] for path in changed}
        before = endpoint.get("labels", {})
        labels = before | (want.labels or {})
        gone = {path.removeprefix("labels.") for path in changed} - set(want.labels or {})
        labels = {k: v for k, v in labels.items() if k not in gone} | owner_labels(owner)
        fields: JSON = {"labels": labels}
        if "request_logging" in parts and want.request_logging:
            fields["predictRequestResponseLoggingConfig"] = logging_config(want.request_logging)
        if not changed or parts & {"labels", "request_logging"} or owner_of(before) != owner:
            await self._patch(endpoint, **fields)
        if "keep_superseded" in parts:
            for model in await self._superseded(id, endpoint):
                await self._tidy(id, want, owner, model)
        if "scaling" in parts:
            await self._scale(endpoint, want)

    async def delete(self, id: str) -> None:
        endpoint = await self._find(id)
        if endpoint is not None:
            operations = await self.session.operations(VERTEX, self._name(id))
            if any(not one.get("done") for one in operations):
                return
            if deployed := _deployed(endpoint):
                if endpoint.get("trafficSplit"):
                    await self._patch(endpoint, trafficSplit={})
                await self._undeploy(id, deployed[0]["id"])
                return
        made = await self.models.made_for(id)
        for model in made:
            await self.models.remove(model)
        # Last, because the endpoint is what shows that something is left.
        if endpoint is not None and not made:
            try:
                await self._call("DeleteEndpoint", name=self._name(id))
            except NotFound:
                return

    async def add_revision(self, id: str, want: VertexEndpointParams, owner: str) -> None:
        endpoint = await self._serving(id)
        operations = await self.session.operations(VERTEX, self._name(id))
        number = number_of(want.revision)
        if any(one["id"] == number for one in _deployed(endpoint)):
            return
        if any(kind_of(one) == "DeployModel" and not one.get("done") for one in operations):
            if endpoint.get("labels", {}).get(DEPLOYING) == want.revision:
                return
            raise Busy("another model is being deployed to the endpoint")
        resources(want, {})  # What it refuses is refused before anything is uploaded.
        served = await self.models.serve(want, owner)
        if served is None:
            return
        deployed = {
            "id": number,
            "model": served.name,
            "displayName": want.revision,
            "enableAccessLogging": want.access_logging,
            **resources(want, served.machine),
        }
        if want.service_account:
            deployed["serviceAccount"] = want.service_account
        last = next((_id(one) for one in operations if kind_of(one) == "DeployModel"), "none")
        labels = endpoint.get("labels", {})
        await self._patch(endpoint, labels=labels | {DEPLOYING: want.revision, AFTER: last})
        await self._call(
            "DeployModel",
            endpoint=self._name(id),
            deployedModel=deployed,
            **({} if _deployed(endpoint) else {"trafficSplit": {NEW: ALL}}),
        )

    async def set_traffic(self, id: str, weights: Mapping[str, int]) -> None:
        endpoint = await self._serving(id)
        numbers = {_named(one): one["id"] for one in _deployed(endpoint)}
        if missing := sorted(name for name in weights if name not in numbers):
            raise Busy(f"not deployed yet: {', '.join(missing)}")
        split = {numbers[name]: weight for name, weight in weights.items() if weight}
        await self._patch(endpoint, trafficSplit=split)

    async def remove_revision(self, id: str, revision: str) -> None:
        endpoint = await self._serving(id)
        labels = endpoint.get("labels", {})
        await self.models.leave(id, revision)
        if labels.get(DEPLOYING) == revision:
            left = {k: v for k, v in labels.items() if k not in (DEPLOYING, AFTER)}
            await self._patch(endpoint, labels=left)
        for one in _deployed(endpoint):
            if _named(one) == revision:
                await self._undeploy(id, one["id"])

    async def probe(self, id: str, request: Probe, revision: str | None) -> Answer:
        if request.path is not None:
            raise Rejected("probe.path: a Vertex AI endpoint has one path")
        endpoint = await self._serving(id)
        return await self.session.post(
            VERTEX,
            f"/v1/{self._name(id)}:rawPredict",
            (request.body or "{}").encode(),
            request.content_type,
            endpoint.get("dedicatedEndpointDns"),
        )

    async def measure(
        self, id: str, revision: str, metrics: frozenset[Metric], span: Span
    ) -> Measured:
        # One that someone else has deployed is called by the number itself.
        number = revision if revision.isdecimal() else number_of(revision)
        return await self.monitoring.measure(id, number, metrics, span)

    async def _revision(self, endpoint: JSON, deployed: JSON) -> Revision[VertexEndpointParams]:
        version = deployed.get("modelVersionId")
        name = plain(deployed.get("model", ""))
        model = await self.models.find(f"{name}@{version}" if version else name) or {}
        dedicated = deployed.get("dedicatedResources")
        machine = (dedicated or {}).get("machineSpec", {})
        fields: JSON = {
            "model": source_of(deployed, model, (self.session.project, _project(endpoint))),
            "hardware": machine.get("machineType"),
            "accelerator_type": machine.get("acceleratorType"),
            "accelerator_count": machine.get("acceleratorCount"),
            "spot": (dedicated or {}).get("spot", False),
            "service_account": deployed.get("serviceAccount"),
            "access_logging": deployed.get("enableAccessLogging", False),
            **content_of(model),
        }
        if (scaled := dedicated or deployed.get("automaticResources")) is not None:
            fields["scaling"] = scaling_of(scaled)
        return Revision(
            _named(deployed),
            int(endpoint.get("trafficSplit", {}).get(deployed["id"], 0)),
            VertexEndpointParams.seen(**fields),
            message=deployed.get("status", {}).get("message"),
        )

    async def _superseded(self, id: str, endpoint: JSON) -> list[JSON]:
        """The models that were uploaded for the endpoint and that nothing serves."""
        used = {last_of(one["model"]) for one in _deployed(endpoint)}
        labels, failed = endpoint.get("labels", {}), set()
        if DEPLOYING in labels:
            # Of one that has failed the model goes with `remove_revision`, and not before.
            failed = {labels[DEPLOYING]}
        return [
            one
            for one in await self.models.made_for(id)
            if last_of(one["name"]) not in used
            and one.get("labels", {}).get(REVISION_LABEL) not in failed
        ]

    async def _tidy(self, id: str, want: VertexEndpointParams, owner: str, model: JSON) -> None:
        """What is left of a revision that is gone goes; one that was begun is gone on with."""
        labels = model.get("labels", {})
        revision = labels.get(REVISION_LABEL, "")
        wanted = revision == want.revision or revision.startswith(f"{want.revision}-")
        if wanted and REMOVED_LABEL not in labels:
            await self.add_revision(id, want.model_copy(update={"revision": revision}), owner)
        else:
            await self.models.remove(model)

    async def _scale(self, endpoint: JSON, want: VertexEndpointParams) -> None:
        failed = await self._note_scaling(endpoint, want)
        for one in _deployed(endpoint):
            kind = next((k for k in ("dedicatedResources", "automaticResources") if k in one), None)
            if kind is None or same_scaling(scaling_of(one[kind]), want.scaling):
                continue
            scaling = replicas(want.scaling)
            fields = ["minReplicaCount", "maxReplicaCount"]
            if kind == "dedicatedResources":
                fields.append("autoscalingMetricSpecs")
                scaling |= metrics(want.scaling)
            await self._call(
                "MutateDeployedModel",
                endpoint=name_within(self.session, endpoint),
                deployedModel={"id": one["id"], kind: scaling},
                updateMask=",".join(f"{kind}.{field}" for field in fields),
            )
            if failed is not None:
                raise Rejected(f"Vertex AI could not scale it: {failed}; it is tried again")

    async def _note_scaling(self, endpoint: JSON, want: VertexEndpointParams) -> str | None:
        """Note on the endpoint what is about to be tried; what the same has failed with before."""
        operations = await self.session.operations(VERTEX, name_within(self.session, endpoint))
        last = _last(operations, "MutateDeployedModel")
        told = sha256(want.scaling.model_dump_json().encode()).hexdigest()[:32]
        before = _id(last) if last else "none"
        tried, _, earlier = endpoint.get("labels", {}).get(SCALED, "").partition("-")
        if tried == told:
            error = last.get("error") if earlier != before else None
            return None if error is None else meaning(error)
        # Anew, because the labels may have been written in this very visit.
        now = await self._call("GetEndpoint", name=name_within(self.session, endpoint))
        await self._patch(now, labels=now.get("labels", {}) | {SCALED: f"{told}-{before}"})
        return None

    async def _remains(self, id: str) -> Observed[VertexEndpointParams] | None:
        """What is left where there is no endpoint: it is to be completed or deleted."""
        if not (made := await self.models.made_for(id)):
            return None
        return Observed(
            id=id,
            actual=VertexEndpointParams.seen(model=None),
            phase=Phase.FAILED,
            owner=owner_of(made[0].get("labels", {})),
            message=f"there is no endpoint, but a model uploaded for it: {made[0]['name']}",
        )

    async def _serving(self, id: str) -> JSON:
        endpoint = await self._find(id)
        if endpoint is None:
            raise Busy(f"endpoint {id} is not there")
        return endpoint

    async def _find(self, id: str) -> JSON | None:
        try:
            return await self._call("GetEndpoint", name=self._name(id))
        except NotFound:
            return None

    async def _patch(self, endpoint: JSON, **fields: Any) -> None:
        """Change fields, unless someone else has changed the endpoint since it was read."""
        told = {"name": name_within(self.session, endpoint), **fields}
        if "etag" in endpoint:
            told["etag"] = endpoint["etag"]
        await self._call("UpdateEndpoint", endpoint=told, updateMask=",".join(fields))

    async def _undeploy(self, id: str, number: str) -> None:
        await self._call("UndeployModel", endpoint=self._name(id), deployedModelId=number)

    async def _call(self, method: str, **request: Any) -> JSON:
        return await self.session.call(VERTEX, "EndpointService", method, **request)

    def _name(self, id: str) -> str:
        return f"{self.session.parent}/endpoints/{id}"

    def _outputs(self, endpoint: JSON) -> dict[str, str]:
        host = endpoint.get("dedicatedEndpointDns") or VERTEX.host(self.session.location)
        url = f"https://{host}/v1/{endpoint['name']}"
        return {
            "endpoint": endpoint["name"],
            "url": f"{url}:predict",
            "openaiBaseUrl": url,
            "curl": (
                'curl -H "Authorization: Bearer $(gcloud auth print-access-token)" '
                f"-H 'Content-Type: application/json' -d '{{\"instances\": []}}' {url}:predict"
            ),
        }


def number_of(revision: str) -> str:
    """The id of a revision's deployed model: ten digits."""
    digest = int(sha256(revision.encode()).hexdigest(), 16)
    return str(10**9 + digest % (9 * 10**9))


def name_within(session: GoogleSession, endpoint: JSON) -> str:
    """An endpoint's name with the project as the connection writes it."""
    return f"{session.parent}/endpoints/{endpoint['name'].rpartition('/')[2]}"


def last_of(name: str) -> str:
    """The last part of a model's name: whether it is told with the project's id or number."""
    return plain(name).rpartition("/")[2]


def _deployed(endpoint: JSON) -> list[JSON]:
    found: list[JSON] = endpoint.get("deployedModels", [])
    return found


def _named(deployed: JSON) -> str:
    """The revision that a deployed model is; its id, if it was deployed by someone else."""
    name: str = deployed.get("displayName", "")
    return name if number_of(name) == deployed["id"] else deployed["id"]


def _coming(endpoint: JSON, operations: Sequence[JSON]) -> list[Revision[VertexEndpointParams]]:
    """The revision that is being deployed, or that could not be."""
    labels = endpoint.get("labels", {})
    revision = labels.get(DEPLOYING)
    if revision is None or any(one["id"] == number_of(revision) for one in _deployed(endpoint)):
        return []
    last = next((one for one in operations if kind_of(one) == "DeployModel"), None)
    if last is None or _id(last) == labels.get(AFTER):
        return []
    if last.get("done") and "error" not in last:
        # It was deployed, and someone else has undeployed it.
        return []
    phase, message = Phase.PENDING, f"model {revision} is being deployed"
    if (error := last.get("error")) is not None:
        phase, message = Phase.FAILED, f"Vertex AI could not deploy it: {meaning(error)}"
    return [Revision(revision, 0, VertexEndpointParams.seen(), phase, message)]


def _last(operations: Sequence[JSON], kind: str) -> JSON:
    """The newest operation of a kind; empty if there is none."""
    return next((one for one in operations if kind_of(one) == kind), {})


def _id(operation: JSON) -> str:
    return str(operation["name"].rpartition("/")[2])


def _project(endpoint: JSON) -> str:
    return str(endpoint["name"].split("/")[1])
