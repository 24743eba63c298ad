"""Tuning jobs of Vertex AI, and the models that they make."""

from collections.abc import Mapping
from hashlib import sha256
from typing import Annotated, Any, Final

from auterity.api.fields import IMMUTABLE, SHARED, Text, TextMap
from auterity.api.tuning_job import Method, TuningJob
from auterity.engine.contract import Observed, Phase, Provider
from auterity.engine.errors import Conflict, NotFound, Rejected
from auterity.providers.billing import Bill, by_tokens
from auterity.providers.vertex.endpoint import name_within
from auterity.providers.vertex.models import plain
from auterity.transport.google import (
    JSON,
    LABELS_RULE,
    VERTEX,
    GoogleConnection,
    GoogleSession,
    meaning,
)
from auterity.transport.labels import OUR_LABELS, owner_labels, owner_of

RUN_LABEL: Final = f"{OUR_LABELS}run"
"""On a job: which object it was made for, since ids are Google's. Its model has it too."""
DELETING_LABEL: Final = f"{OUR_LABELS}deleting"
"""On the endpoint of a tuned model: it is being deleted, with the model."""
STATE: Final = "JOB_STATE_"
PHASES: Final = {
    "SUCCEEDED": Phase.READY,
    "PARTIALLY_SUCCEEDED": Phase.READY,
    "FAILED": Phase.FAILED,
    "CANCELLED": Phase.FAILED,
    "EXPIRED": Phase.FAILED,
}
"""Of all other states the job is under way."""
SPECS: Final = {
    Method.SUPERVISED: "supervisedTuningSpec",
    Method.PREFERENCE: "preferenceOptimizationSpec",
}
CONSOLE: Final = "https://console.cloud.google.com/vertex-ai/tuning"


class VertexTuningParams(TuningJob):
    """A tuning job of a Gemini model, or of one that was tuned already."""

    rules = (LABELS_RULE,)

    tuned_model: Annotated[Text | None, IMMUTABLE] = None
    """Go on from this tuned model instead of baseModel: its resource name, with its version."""
    checkpoint: Annotated[Text | None, IMMUTABLE] = None
    """Which checkpoint of the tuned model to go on from; its default one if left out."""
    last_checkpoint_only: Annotated[bool | None, IMMUTABLE] = None
    """Keep the last checkpoint only, not one of each epoch."""
    service_account: Annotated[Text | None, IMMUTABLE] = None
    """Service account that the job works as."""
    kms_key: Annotated[Text | None, IMMUTABLE] = None
    """Cloud KMS key that the tuned model is encrypted with."""
    labels: Annotated[TextMap | None, IMMUTABLE, SHARED] = None
    """Labels of the job; Google gives them to the tuned model and its endpoint too."""


class VertexTuning(Provider[VertexTuningParams, GoogleSession]):
    """Tuning jobs of one project and location; a label tells which object one was made for."""

    kind = "TuningJob"
    vendor = "vertexAI"
    params = VertexTuningParams
    connection = GoogleConnection
    marks_owner = False  # Jobs have labels, but only from their creation on.
    docs = "https://cloud.google.com/vertex-ai/docs/reference/rest/v1/projects.locations.tuningJobs"
    permissions = (
        "roles/aiplatform.user on the project",
        "roles/iam.serviceAccountUser on vertexAI.serviceAccount, if one is set",
    )
    proof = (
        "stateful fake; the requests of Google's own SDK are held against the discovery document "
        "of aiplatform v1"
    )
    publishes = (
        ("model", "Resource name of the tuned model, for a ModelDeployment's model.modelRef."),
        ("endpoint", "Endpoint that Google serves the tuned model at by itself."),
        ("job", "Resource name of the job."),
    )
    quirks = (
        "Gemini models are tuned; tuning of open models is not part of version 1 of the API.",
        (
            "Google serves a tuned Gemini model at an endpoint of its own: the output endpoint can "
            "be used at once, without a ModelDeployment."
        ),
        "Training data is a JSON Lines file in Cloud Storage: gs://bucket/file.jsonl.",
        (
            "hyperparameters are adapterSize (such as ADAPTER_SIZE_FOUR), learningRateMultiplier "
            "and, for method Preference, beta. They and labels are not compared with what the job "
            "had."
        ),
        "Google keeps the record of a job for ever. Deletion removes the model and its endpoints.",
        "There is no seed, and no method Reinforcement.",
        "A job gets the operator's mark at its creation only: one taken over carries none.",
    )
    poll_after = 30.0

    @classmethod
    def objections(cls, want: VertexTuningParams) -> Mapping[str, str]:
        return _impossible(want)

    @classmethod
    def billed(cls, want: VertexTuningParams) -> Bill:
        return by_tokens(want)

    async def locate(self, want: VertexTuningParams) -> str | None:
        found = []
        for job in await self._list():
            if not _made_for(job, want.name) or _phase(job) is Phase.FAILED:
                continue
            model = job.get("tunedModel", {}).get("model")
            if model is None or await self._find("ModelService", "GetModel", plain(model)):
                found.append(_id(job))
        if len(found) > 1:
            raise Conflict(f"several tuning jobs could be meant: {', '.join(sorted(found))}")
        return found[0] if found else None

    async def read(self, id: str) -> Observed[VertexTuningParams] | None:
        job = await self._job(id)
        if job is None:
            return None
        phase, message = _phase(job), None
        state = job.get("state", f"{STATE}UNSPECIFIED").removeprefix(STATE)
        if phase is Phase.READY and await self._endpoints(job, only_deleting=True):
            phase, message = Phase.PENDING, "the tuned model is being deleted"
        elif phase is Phase.FAILED:
            said = f": {meaning(job['error'])}" if "error" in job else ""
            message = f"the job is {state}{said}"
        elif phase is Phase.PENDING:
            message = f"the job is {state}"
        tuned = job.get("tunedModel", {})
        outputs = {
            "job": job["name"],
            "model": tuned.get("model"),
            "endpoint": tuned.get("endpoint"),
        }
        tokens = _tokens(job)
        return Observed(
            id=id,
            actual=_actual(job),
            phase=phase,
            owner=owner_of(job.get("labels", {})),
            outputs={name: value for name, value in outputs.items() if value},
            url=(
                f"{CONSOLE}/locations/{self.session.location}/tuningJob/{id}"
                f"?project={self.session.project}"
            ),
            message=message,
            summary={"state": state} | ({"billableTokens": tokens} if tokens else {}),
        )

    async def create(self, want: VertexTuningParams, owner: str) -> str:
        if impossible := _impossible(want):
            raise Rejected("; ".join(impossible.values()))
        spec: JSON = {"trainingDatasetUri": want.training_data, "hyperParameters": _settings(want)}
        if want.validation_data:
            spec["validationDatasetUri"] = want.validation_data
        if want.last_checkpoint_only is not None:
            spec["exportLastCheckpointOnly"] = want.last_checkpoint_only
        job: JSON = {
            SPECS[want.method or Method.SUPERVISED]: spec,
            "tunedModelDisplayName": want.model_name or want.name[:128],
            "labels": {
                **(want.labels or {}),
                **owner_labels(owner),
                RUN_LABEL: _digest(want.name),
            },
        }
        if want.tuned_model:
            job["preTunedModel"] = {"tunedModelName": want.tuned_model}
            if want.checkpoint:
                job["preTunedModel"]["checkpointId"] = want.checkpoint
        else:
            job["baseModel"] = want.base_model
        if want.service_account:
            job["serviceAccount"] = want.service_account
        if want.kms_key:
            job["encryptionSpec"] = {"kmsKeyName": want.kms_key}
        # The client library does not know preferenceOptimizationSpec yet.
        jobs = f"{self.session.parent}/tuningJobs"
        return _id(await self.session.write(VERTEX, "CreateTuningJob", jobs, job))

    async def update(
        self, id: str, want: VertexTuningParams, changed: frozenset[str], owner: str
    ) -> None:
        """Nothing of a job can be changed, and one without a mark gets none."""

    async def delete(self, id: str) -> None:
        job = await self._job(id)
        if job is None or _phase(job) is Phase.PENDING:
            await self.cancel(id)
            return
        endpoints = await self._endpoints(job)
        for endpoint in endpoints:
            # From now on it is deleted to its end: a job that has ended would count as gone.
            if DELETING_LABEL not in (labels := endpoint.get("labels", {})):
                await self._call(
                    "EndpointService",
                    "UpdateEndpoint",
                    endpoint={
                        "name": name_within(self.session, endpoint),
                        "labels": labels | {DELETING_LABEL: "true"},
                    },
                    updateMask="labels",
                )
        serving = [one for one in endpoints if one.get("deployedModels")]
        for endpoint in serving:
            await self._undeploy(endpoint)
        if serving:
            return
        if model := job.get("tunedModel", {}).get("model"):
            await self._remove("ModelService", "DeleteModel", plain(model))
        for endpoint in endpoints:
            # Last, because an endpoint is what shows that something is left.
            name = name_within(self.session, endpoint)
            await self._remove("EndpointService", "DeleteEndpoint", name)

    async def cancel(self, id: str) -> None:
        job = await self._job(id)
        if job is None or _phase(job) is not Phase.PENDING:
            return
        if job.get("state") != f"{STATE}CANCELLING":
            await self._call("GenAiTuningService", "CancelTuningJob", name=self._name(id))

    async def _undeploy(self, endpoint: JSON) -> None:
        name = name_within(self.session, endpoint)
        if any(not one.get("done") for one in await self.session.operations(VERTEX, name)):
            return
        if len(endpoint["deployedModels"]) > 1 and endpoint.get("trafficSplit"):
            told = {"name": name, "trafficSplit": {}}
            await self._call(
                "EndpointService", "UpdateEndpoint", endpoint=told, updateMask="trafficSplit"
            )
        await self._call(
            "EndpointService",
            "UndeployModel",
            endpoint=name,
            deployedModelId=endpoint["deployedModels"][0]["id"],
        )

    async def _endpoints(self, job: JSON, *, only_deleting: bool = False) -> list[JSON]:
        """The endpoints that Google has made for the tuned model and its checkpoints."""
        tuned = job.get("tunedModel", {})
        names = {one.get("endpoint") for one in tuned.get("checkpoints", ())}
        found = []
        for name in sorted({name for name in (*names, tuned.get("endpoint")) if name}):
            endpoint = await self._find("EndpointService", "GetEndpoint", name)
            if endpoint is None:
                continue
            if not only_deleting or DELETING_LABEL in endpoint.get("labels", {}):
                found.append(endpoint)
        return found

    async def _list(self) -> list[JSON]:
        return await self.session.pages(
            VERTEX,
            "GenAiTuningService",
            "ListTuningJobs",
            "tuningJobs",
            parent=self.session.parent,
            pageSize=100,
        )

    async def _job(self, id: str) -> JSON | None:
        try:
            return await self.session.get(VERTEX, "GetTuningJob", self._name(id))
        except NotFound:
            return None

    async def _find(self, service: str, method: str, name: str) -> JSON | None:
        try:
            return await self._call(service, method, name=name)
        except NotFound:
            return None

    async def _remove(self, service: str, method: str, name: str) -> None:
        await self._find(service, method, name)

    async def _call(self, service: str, method: str, **request: Any) -> JSON:
        return await self.session.call(VERTEX, service, method, **request)

    def _name(self, id: str) -> str:
        return f"{self.session.parent}/tuningJobs/{id}"


def _impossible(want: VertexTuningParams) -> dict[str, str]:
    """What a job of Vertex AI cannot do, by field."""
    found = {}
    if (want.base_model is None) == (want.tuned_model is None):
        found["base_model"] = "exactly one of baseModel and vertexAI.tunedModel must be set"
    if want.training_data is None:
        found["training_data"] = "trainingData is needed, such as gs://bucket/file.jsonl"
    if want.method not in (None, *SPECS):
        found["method"] = f"method: Vertex AI does not tune by {want.method}"
    if want.seed is not None:
        found["seed"] = "seed: Vertex AI takes none"
    return found


def _settings(want: VertexTuningParams) -> JSON:
    settings: JSON = {}
    for name, value in (want.hyperparameters or {}).items():
        try:
            settings[name] = float(value)
        except ValueError:
            settings[name] = value
    if want.epochs is not None:
        settings["epochCount"] = str(want.epochs)
    return settings


def _actual(job: JSON) -> VertexTuningParams:
    method = next((m for m, key in SPECS.items() if key in job), None)
    fields: JSON = {}
    if method is not None:
        spec = job[SPECS[method]]
        count = spec.get("hyperParameters", {}).get("epochCount")
        fields = {
            "method": method,
            "training_data": spec.get("trainingDatasetUri"),
            "validation_data": spec.get("validationDatasetUri"),
        }
        if count is not None:
            fields["epochs"] = int(count)
    tuned = job.get("preTunedModel")
    if tuned is None:
        fields["base_model"] = job.get("baseModel")
    else:
        fields["tuned_model"] = tuned.get("tunedModelName")
    return VertexTuningParams.seen(
        model_name=job.get("tunedModelDisplayName"),
        **fields,
    )


def _phase(job: JSON) -> Phase:
    return PHASES.get(job.get("state", "").removeprefix(STATE), Phase.PENDING)


def _made_for(job: JSON, name: str) -> bool:
    """Whether a job is what an object of that name means."""
    labels = job.get("labels", {})
    if RUN_LABEL in labels:
        return bool(labels[RUN_LABEL] == _digest(name))
    return bool(job.get("tunedModelDisplayName") == name)


def _tokens(job: JSON) -> str | None:
    for stats in job.get("tuningDataStats", {}).values():
        count = stats.get("totalBillableTokenCount") or stats.get("totalBillableCharacterCount")
        if count:
            return str(count)
    return None


def _digest(name: str) -> str:
    return sha256(name.encode()).hexdigest()[:32]


def _id(job: JSON) -> str:
    return str(job["name"].rpartition("/")[2])
