"""Jobs of Azure Machine Learning: a command of yours, or its own fine-tuning of a model.

https://learn.microsoft.com/rest/api/azureml/jobs
"""

import itertools
import re
from collections.abc import Mapping
from contextlib import suppress
from typing import Annotated, Any, Final, Literal

from pydantic import Field

from auterity.api.fields import (
    IMMUTABLE,
    Duration,
    LongText,
    Model,
    ShortText,
    Text,
    TextMap,
    seconds,
)
from auterity.api.tuning_job import TuningJob
from auterity.engine.contract import Observed, Phase, Provider
from auterity.engine.errors import NotFound, Rejected
from auterity.providers.azure_ml.workspace import (
    VERSION,
    WorkspaceName,
    as_declared,
    duration,
    id_of,
    noted,
)
from auterity.providers.billing import Bill, of_machines
from auterity.transport.azure import (
    JSON,
    OUR_TAGS,
    OWNER_TAG,
    AzureConnection,
    AzureSession,
    user_tags,
)

PHASES: Final = {"Completed": Phase.READY, "Failed": Phase.FAILED, "Canceled": Phase.FAILED}
"""Of all other states a job leaves by itself."""
NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,249}")
AGAIN: Final = "--"
"""Between the name and the number of a further attempt."""
DATA: Final = {"training_data": "train", "validation_data": "validation", "base_model": "model"}
"""Portable fields, and the inputs of a command that have them."""
MODEL_TYPES: Final = {"MLflow": "mlflow_model", "Custom": "custom_model"}
OUTPUT: Final = "model"
TUNED_OUTPUT: Final = "registered_model"
"""What the model is called among the outputs of a command, and of a fine-tuning."""


class Command(Model):
    """A command of yours, run in an environment."""

    command: Annotated[LongText, Field(min_length=1)]
    """The command. ${{inputs.train}}, validation, model, epochs, seed and every hyperparameter
    stand for what is declared; it puts the model into ${{outputs.model}}."""
    environment_id: Text
    """Id of the environment (image and packages), as registered in the workspace or a registry."""
    code_id: Text | None = None
    """Id of the code that it runs in, as registered in the workspace."""
    environment: TextMap = Field(default_factory=dict)
    """Environment variables; nothing secret, for anyone who may read the job sees them."""


class AzureMLJobParams(TuningJob):
    """A job in a workspace."""

    one_of = ("command", "task")

    workspace: Annotated[WorkspaceName, IMMUTABLE]
    """Workspace, in the connection's resource group."""
    command: Annotated[Command | None, IMMUTABLE] = None
    """Run a command of yours."""
    task: Annotated[ShortText | None, IMMUTABLE] = None
    """Let Azure fine-tune baseModel for a task: ChatCompletion, TextClassification,
    ImageClassification and so on."""
    compute: Annotated[Text | None, IMMUTABLE] = None
    """Resource id of a compute cluster to run on; serverless if left out."""
    instance_type: Annotated[ShortText | None, IMMUTABLE] = None
    """Machines to run on, such as Standard_NC24ads_A100_v4; Azure's choice if left out."""
    instance_count: Annotated[int, Field(ge=1, le=1000), IMMUTABLE] = 1
    """How many of them; more than one for commands only."""
    job_tier: Annotated[Literal["Spot", "Basic", "Standard", "Premium"] | None, IMMUTABLE] = None
    """Priority on serverless compute; Spot is cheap and may be interrupted."""
    max_runtime: Annotated[Duration | None, IMMUTABLE] = None
    """Azure stops a command after this time."""
    model_type: Annotated[Literal["MLflow", "Custom"], IMMUTABLE] = "MLflow"
    """Format of baseModel and of the model that is made."""
    experiment: Annotated[ShortText | None, IMMUTABLE] = None
    """Experiment that the job is listed under; Default if left out."""
    tags: Annotated[TextMap | None, IMMUTABLE] = None
    """Tags of the job."""


class AzureMLJob(Provider[AzureMLJobParams, AzureSession]):
    """A job. Its id is `<workspace>/<job>`."""

    kind = "TuningJob"
    vendor = "azureML"
    params = AzureMLJobParams
    connection = AzureConnection
    # A job is never changed: nothing can be marked that others have made.
    marks_owner = False
    docs = "https://learn.microsoft.com/rest/api/azureml/jobs"
    permissions = (
        "Microsoft.MachineLearningServices/workspaces/jobs/*",
        "Microsoft.MachineLearningServices/workspaces/models/versions/read",
        "Microsoft.MachineLearningServices/workspaces/models/versions/delete",
    )
    proof = "against a stateful fake that holds requests against the models of azure-ai-ml 1.35"
    publishes = (
        ("model", "Id of the registered model, as model.modelRef of a ModelDeployment takes it."),
        ("jobName", "Name of the job."),
    )
    quirks = (
        (
            "baseModel is the id of a registered model, such as azureml://registries/azureml-meta/"
            "models/m/versions/1; trainingData and validationData are addresses such as "
            "azureml://datastores/workspaceblobstore/paths/train.jsonl: of a folder, if it ends "
            "in /."
        ),
        "modelName is the name that the model is registered by; the job's name if left out.",
        (
            "Why a job has failed stands in its logs, which the url of the status leads to: Azure "
            "has it nowhere else."
        ),
        "A further attempt at a job whose record is still there is called <name>--2, and so on.",
        (
            "With deletionPolicy Delete a job under way is cancelled, then the registered model "
            "and the job's record are deleted. Its files stay in the workspace's storage."
        ),
        "method is for other vendors: here the task or the command says what is learnt from.",
    )
    poll_after = 30.0

    @classmethod
    def objections(cls, want: AzureMLJobParams) -> Mapping[str, str]:
        found = {}
        if not NAME.fullmatch(want.name):
            found["name"] = "Azure takes up to 250 letters, digits, hyphens and underscores"
        if want.method is not None:
            found["method"] = "Azure Machine Learning leaves it to the task or the command"
        if want.task is not None:
            for field in ("base_model", "training_data"):
                if getattr(want, field) is None:
                    found[field] = "a fine-tuning needs it"
            if want.instance_count > 1:
                found["instance_count"] = "a fine-tuning runs on one machine"
            if want.max_runtime is not None:
                found["max_runtime"] = "a fine-tuning has no limit of time"
        return found

    @classmethod
    def billed(cls, want: AzureMLJobParams) -> Bill:
        if want.instance_type is None:
            return None
        spot = want.job_tier == "Spot"
        return (of_machines(want.instance_type, want.instance_count, spot=spot),)

    async def locate(self, want: AzureMLJobParams) -> str | None:
        for name in _attempts(want.name):
            job = await self._job(f"{want.workspace}/{name}")
            if job is None:
                return None
            if PHASES.get(_status(job)) is not Phase.FAILED:
                return f"{want.workspace}/{name}"
        return None

    async def read(self, id: str) -> Observed[AzureMLJobParams] | None:
        job = await self._job(id)
        if job is None:
            return None
        told, status = job["properties"], _status(job)
        phase, outputs = PHASES.get(status, Phase.PENDING), {"jobName": id.partition("/")[2]}
        if phase is Phase.READY and (model := await self._model(id, told)) is not None:
            outputs["model"] = model
        studio = (told.get("services") or {}).get("Studio") or {}
        hint = "; see its logs" if status == "Failed" else ""
        return Observed(
            id=id,
            actual=AzureMLJobParams.seen(workspace=id.partition("/")[0], **_fields(told)),
            phase=phase,
            owner=(told.get("tags") or {}).get(OWNER_TAG),
            outputs=outputs,
            url=studio.get("endpoint"),
            message=f"the job is {status}{hint}",
            summary={"status": status},
        )

    async def create(self, want: AzureMLJobParams, owner: str) -> str:
        for name in _attempts(want.name):
            id = f"{want.workspace}/{name}"
            if await self._job(id) is None:
                body = {"properties": _properties(want, owner, name)}
                await self.session.arm("PUT", self._path(id), VERSION, json=body)
                return id
        raise AssertionError("numbers have come to an end")

    async def update(
        self, id: str, want: AzureMLJobParams, changed: frozenset[str], owner: str
    ) -> None:
        # A job is never changed.
        return

    async def delete(self, id: str) -> None:
        job = await self._job(id)
        if job is None:
            return
        if PHASES.get(_status(job)) is None:
            await self._cancel(id, job)
            return
        # The model first: the job's record is what it is found by.
        if (model := await self._model(id, job["properties"])) is not None:
            with suppress(NotFound):
                await self.session.arm("DELETE", model, VERSION)
        with suppress(NotFound):
            await self.session.arm("DELETE", self._path(id), VERSION)

    async def cancel(self, id: str) -> None:
        job = await self._job(id)
        if job is not None and PHASES.get(_status(job)) is None:
            await self._cancel(id, job)

    def _path(self, id: str) -> str:
        workspace, _, name = id.partition("/")
        return f"{id_of(self.session, workspace)}/jobs/{name}"

    async def _job(self, id: str) -> JSON | None:
        return await self.session.find(self._path(id), VERSION)

    async def _cancel(self, id: str, job: JSON) -> None:
        if _status(job) != "CancelRequested":
            with suppress(NotFound):
                await self.session.arm("POST", f"{self._path(id)}/cancel", VERSION)

    async def _model(self, id: str, told: JSON) -> str | None:
        """The id of the model that a job has registered."""
        outputs = told.get("outputs") or {}
        output = outputs.get(OUTPUT) or outputs.get(TUNED_OUTPUT) or {}
        if not (name := output.get("assetName")):
            return None
        workspace, _, job = id.partition("/")
        versions = f"{id_of(self.session, workspace)}/models/{name}/versions"
        with suppress(NotFound):
            for one in await self.session.pages(versions, VERSION):
                if one["properties"].get("jobName") == job:
                    return f"{versions}/{one['name']}"
        return None


def _attempts(name: str) -> "itertools.chain[str]":
    """The names that a job may have."""
    return itertools.chain([name], (f"{name}{AGAIN}{n}" for n in itertools.count(2)))


def _status(job: JSON) -> str:
    return str(job["properties"].get("status", "NotStarted"))


def _properties(want: AzureMLJobParams, owner: str, name: str) -> JSON:
    """The job."""
    notes = noted(**{key: getattr(want, field) for field, key in DATA.items()})
    notes |= noted(compute=want.compute)
    if want.command is not None:
        notes |= noted(environment=want.command.environment_id, code=want.command.code_id)
    common: JSON = {
        "displayName": name,
        "experimentName": want.experiment,
        "computeId": want.compute,
        "queueSettings": want.job_tier and {"jobTier": want.job_tier},
        "tags": {**(want.tags or {}), OWNER_TAG: owner},
        "properties": notes,
    }
    own = _tuning(want) if want.task is not None else _command(want)
    return {key: value for key, value in (common | own).items() if value is not None}


def _command(want: AzureMLJobParams) -> JSON:
    command = want.command
    if command is None:
        raise Rejected("one of command and task is needed")
    inputs: JSON = {key: value for key, value in _data(want).items() if value is not None}
    literals = {"epochs": want.epochs, "seed": want.seed, **(want.hyperparameters or {})}
    for key, value in literals.items():
        if value is not None:
            inputs[key] = {"jobInputType": "literal", "value": str(value)}
    resources: JSON = {"instanceCount": want.instance_count}
    if want.instance_type:
        resources["instanceType"] = want.instance_type
    limits = None
    if want.max_runtime:
        timeout = duration(int(seconds(want.max_runtime)))
        limits = {"jobLimitsType": "Command", "timeout": timeout}
    return {
        "jobType": "Command",
        "command": command.command,
        "environmentId": command.environment_id,
        "codeId": command.code_id,
        "environmentVariables": dict(command.environment),
        "inputs": inputs,
        "outputs": {OUTPUT: _output(want)},
        "resources": resources,
        "limits": limits,
    }


def _tuning(want: AzureMLJobParams) -> JSON:
    measures = {"num_train_epochs": want.epochs, "seed": want.seed}
    given = {name: str(value) for name, value in measures.items() if value is not None}
    data = _data(want)
    details: JSON = {
        "modelProvider": "Custom",
        "taskType": want.task,
        "model": data["model"],
        "trainingData": data["train"],
        "validationData": data["validation"],
        "hyperParameters": {**(want.hyperparameters or {}), **given},
    }
    return {
        "jobType": "FineTuning",
        "fineTuningDetails": {key: value for key, value in details.items() if value is not None},
        "outputs": {TUNED_OUTPUT: _output(want)},
        "resources": want.instance_type and {"instanceTypes": [want.instance_type]},
    }


def _data(want: AzureMLJobParams) -> dict[str, JSON | None]:
    found: dict[str, JSON | None] = {}
    for field, key in DATA.items():
        address = getattr(want, field)
        kind = "uri_folder" if str(address).endswith("/") else "uri_file"
        if field == "base_model":
            kind = MODEL_TYPES[want.model_type]
        found[key] = address and {"jobInputType": kind, "uri": address}
    return found


def _output(want: AzureMLJobParams) -> JSON:
    return {
        "jobOutputType": MODEL_TYPES[want.model_type],
        "assetName": want.model_name or want.name,
    }


def _fields(told: JSON) -> JSON:
    """What the job has, as it would be declared."""
    details, resources = told.get("fineTuningDetails") or {}, told.get("resources") or {}
    inputs, notes = told.get("inputs") or {}, told.get("properties") or {}
    in_details = {"train": "trainingData", "validation": "validationData", "model": "model"}
    fields: JSON = {
        "task": details.get("taskType"),
        "compute": as_declared("compute", told.get("computeId"), notes),
        "tags": user_tags(told.get("tags")),
        "job_tier": (told.get("queueSettings") or {}).get("jobTier"),
    }
    for field, key in DATA.items():
        source = inputs.get(key) or details.get(in_details[key]) or {}
        # A job is never changed: addresses are told in the words in which Azure got them.
        fields[field] = notes.get(f"{OUR_TAGS}{key}") or source.get("uri")
    types: Any = resources.get("instanceTypes") or [resources.get("instanceType")]
    fields["instance_type"] = types[0]
    if told.get("jobType") == "Command":
        fields["instance_count"] = resources.get("instanceCount", 1)
        fields["command"] = Command.model_construct(
            command=str(told.get("command")),
            environment_id=str(as_declared("environment", told.get("environmentId"), notes)),
            code_id=as_declared("code", told.get("codeId"), notes),
            environment=told.get("environmentVariables") or {},
        )
    return fields
