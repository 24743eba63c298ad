"""TuningJob at Together AI (https://docs.together.ai/docs/fine-tuning-overview)."""

import json
from collections.abc import Mapping
from contextlib import suppress
from hashlib import sha256
from typing import Annotated, Any, Final
from urllib.parse import quote

from pydantic import Field

from auterity.api.fields import CREATE_ONLY, IMMUTABLE, Model, SecretValue, ShortText, Text, Url
from auterity.api.tuning_job import Method, TuningJob
from auterity.engine.contract import Observed, Phase, Provider
from auterity.engine.errors import Conflict, DependencyNotReady, NotFound, Rejected
from auterity.providers.billing import Bill, by_tokens
from auterity.providers.together.connection import TogetherConnection, TogetherSession
from auterity.transport.rest import JSON, as_promised

JOBS: Final = "/v1/fine-tunes"
LONGEST_SUFFIX: Final = 40
DONE: Final = "completed"
FAILED: Final = ("error", "cancelled")
STOPPING: Final = "cancel_requested"
METHODS: Final = {Method.SUPERVISED: "sft", Method.PREFERENCE: "dpo"}
METHODS_SEEN: Final = {told: method for method, told in METHODS.items()}
OURS: Final = frozenset(
    {"model", "training_file", "validation_file", "n_epochs", "random_seed", "suffix"}
    | {"training_method", "training_type", "wandb_api_key", "hf_api_token"}
)
"""Settings that have a field of their own."""
CHECKED: Final = "COMPLETED"
UNFIT: Final = ("FAILED", "INVALID_FORMAT")


class TogetherLora(Model):
    """Train an adapter of low rank instead of all weights."""

    r: Annotated[int, Field(ge=1, le=4096)]
    """Rank of the adapter."""
    alpha: Annotated[int, Field(ge=1, le=8192)]
    """How strongly the adapter counts; commonly twice the rank."""
    dropout: Annotated[float, Field(ge=0, le=0.99)] | None = None
    """Share of the adapter's inputs that is left out at each step."""
    trainable_modules: Text | None = None
    """Names of modules, divided by commas; all linear ones if left out."""


class TogetherWandb(Model):
    """Show the run at Weights & Biases."""

    api_key: SecretValue
    """API key there."""
    project: ShortText | None = None
    """Project there; together if left out."""
    name: ShortText | None = None
    """Name of the run there."""
    entity: ShortText | None = None
    """User or team there."""
    base_url: Url | None = None
    """Address of an installation of your own."""


class TogetherTuningParams(TuningJob):
    """A fine-tuning job at Together AI."""

    at_most_one_of = ("lora", "full")

    lora: Annotated[TogetherLora | None, IMMUTABLE] = None
    """Train an adapter with these settings; Together's own default is an adapter, too."""
    full: Annotated[bool | None, IMMUTABLE] = None
    """Train all weights."""
    wandb: Annotated[TogetherWandb | None, CREATE_ONLY] = None
    """Show the run at Weights & Biases."""
    hugging_face_token: Annotated[SecretValue | None, CREATE_ONLY] = None
    """Token of Hugging Face, for hyperparameters such as from_hf_model and hf_output_repo_name."""


class TogetherTuning(Provider[TogetherTuningParams, TogetherSession]):
    """Fine-tuning jobs of a project, by id.

    A job carries no mark and has no name but its suffix, which ends the name of the model that it
    makes: in it stands a digest of the object's name, by which a job is found again.
    """

    kind = "TuningJob"
    vendor = "together"
    params = TogetherTuningParams
    connection = TogetherConnection
    marks_owner = False
    poll_after = 20.0
    docs = "https://docs.together.ai/reference/post-fine-tunes"
    permissions = ("API key of the project",)
    proof = "stateful fake; requests are held against Together's official description of API v1"
    publishes = (
        ("model", "Path of the model that was made, for model.modelRef."),
        ("modelName", "Its name, for serverless inference and as a checkpoint to go on from."),
        ("adapter", "Path of the adapter alone, if one was trained."),
    )
    quirks = (
        (
            "trainingData and validationData are ids of files at Together (file-...) that were "
            "uploaded for fine-tuning. A file that is still being checked is waited for."
        ),
        (
            "The model's name ends in modelName (or the object's name), cut to 31 characters, and "
            "a digest. Another job of the same name at the same project, running or done, is taken "
            "for the same: choose another spec.externalName to train anew."
        ),
        (
            "hyperparameters are fields of the request in Together's words, such as learning_rate, "
            "batch_size, n_checkpoints or from_checkpoint. Without baseModel, from_checkpoint says "
            "what to start from."
        ),
        (
            "With deletionPolicy Delete the model and the adapter are deleted first, then the job. "
            "Together refuses that while a deployment serves the model."
        ),
        "Reinforcement is not possible at Together.",
    )

    @classmethod
    def objections(cls, want: TogetherTuningParams) -> Mapping[str, str]:
        found = {}
        given = want.hyperparameters or {}
        if want.training_data is None:
            found["training_data"] = "Together needs the id of a file"
        if want.base_model is None and "from_checkpoint" not in given:
            found["base_model"] = "Together needs it, or hyperparameters.from_checkpoint"
        if want.method is Method.REINFORCEMENT:
            found["method"] = "Together can do Supervised and Preference"
        if taken := sorted(OURS & given.keys()):
            found["hyperparameters"] = f"{', '.join(taken)}: there is a field of its own for it"
        return found

    @classmethod
    def billed(cls, want: TogetherTuningParams) -> Bill:
        return by_tokens(want)

    async def locate(self, want: TogetherTuningParams) -> str | None:
        suffix = suffix_of(want)
        listed = await self.session.call("GET", JOBS)
        found = [
            job["id"]
            for job in listed["data"]
            if job["status"] not in (*FAILED, STOPPING) and _has(job, suffix)
        ]
        if len(found) > 1:
            raise Conflict(
                f"Together has {len(found)} jobs with the suffix {suffix}: "
                f"{', '.join(sorted(found))}; delete those that are too many"
            )
        return str(found[0]) if found else None

    async def read(self, id: str) -> Observed[TogetherTuningParams] | None:
        job = await self.session.find(_path(id))
        if job is None:
            return None
        reason = await self._reason(id) if job.get("status") == "error" else None
        project = await self.session.project()
        with as_promised("Together's"):
            return _observed(job, reason, project)

    async def create(self, want: TogetherTuningParams, owner: str) -> str:
        for field in ("training_data", "validation_data"):
            if (file := getattr(want, field)) is not None:
                await self._check(file, field.partition("_")[0] + "Data")
        job = await self.session.call("POST", JOBS, json=_body(want))
        return str(job["id"])

    async def update(
        self, id: str, want: TogetherTuningParams, changed: frozenset[str], owner: str
    ) -> None:
        if changed:
            raise Rejected("a job cannot be changed; declare another one")

    async def cancel(self, id: str) -> None:
        job = await self.session.find(_path(id))
        if job is not None and job["status"] not in (DONE, *FAILED, STOPPING):
            await self.session.call("POST", f"{_path(id)}/cancel")

    async def delete(self, id: str) -> None:
        job = await self.session.find(_path(id))
        if job is None:
            return
        if job["status"] not in (DONE, *FAILED):
            await self.cancel(id)
            return
        for name in ("adapter_object_id", "model_object_id"):
            if model := job.get(name):
                with suppress(NotFound):
                    path = await self.session.under_project("models", model)
                    await self.session.call("DELETE", path)
        # The record comes last: it tells what is left to delete.
        with suppress(NotFound):
            await self.session.call("DELETE", _path(id))

    async def _check(self, id: str, field: str) -> None:
        """Together takes files that are not checked yet, and fails of them much later."""
        file = await self.session.find(f"/v1/files/{quote(id, safe='')}")
        if file is None:
            raise Rejected(f"{field}: Together has no file {id}; upload it for fine-tuning")
        status = file.get("processing_status") or CHECKED
        if status in UNFIT:
            told = (file.get("validation_report") or {}).get("error")
            raise Rejected(f"{field}: Together cannot read {id}: {told or status}")
        if status != CHECKED:
            raise DependencyNotReady(f"{field}: Together is still checking {id}")

    async def _reason(self, id: str) -> str | None:
        """What the last of the events that tell of a failure says."""
        listed = await self.session.find(f"{_path(id)}/events")
        events = (listed or {}).get("data") or ()
        told = [
            one["message"] for one in events if one.get("type") in ("job_error", "billing_limit")
        ]
        return str(told[-1]) if told else None


def decoded(text: str) -> Any:
    """A hyperparameter as JSON has it: numbers, true and false as such, everything else text."""
    try:
        value = json.loads(text)
        json.dumps(value, allow_nan=False)
    except ValueError:
        return text
    return value


def _body(want: TogetherTuningParams) -> JSON:
    body: JSON = {
        **{name: decoded(text) for name, text in (want.hyperparameters or {}).items()},
        "model": want.base_model,
        "training_file": want.training_data,
        "validation_file": want.validation_data,
        "n_epochs": want.epochs,
        "random_seed": want.seed,
        "suffix": suffix_of(want),
    }
    if want.method is not None:
        extra = {"train_on_inputs": "auto"} if want.method is Method.SUPERVISED else {}
        body["training_method"] = {"method": METHODS[want.method], **extra}
    if want.lora is not None:
        lora = want.lora.model_dump(exclude_none=True)
        body["training_type"] = {"type": "Lora", **{f"lora_{k}": v for k, v in lora.items()}}
    elif want.full:
        body["training_type"] = {"type": "Full"}
    if want.wandb is not None:
        body["wandb_api_key"] = want.wandb.api_key.reveal()
        names = {"project": "project_name", "name": "name", "entity": "entity"}
        for field, name in (names | {"base_url": "base_url"}).items():
            body[f"wandb_{name}"] = getattr(want.wandb, field)
    if want.hugging_face_token is not None:
        body["hf_api_token"] = want.hugging_face_token.reveal()
    return {name: value for name, value in body.items() if value is not None}


def suffix_of(want: TogetherTuningParams) -> str:
    """What the name of the model ends in, and the job is found by."""
    digest = sha256(want.name.encode()).hexdigest()[:8]
    return f"{(want.model_name or want.name)[: LONGEST_SUFFIX - 9].rstrip('-')}-{digest}"


def _has(job: JSON, suffix: str) -> bool:
    # In case the list leaves the suffix out: the model's name has it as well.
    return suffix == job.get("suffix") or suffix in (job.get("model_output_name") or "")


def _observed(job: JSON, reason: str | None, project: str) -> Observed[TogetherTuningParams]:
    status = job["status"]
    phase = Phase.READY if status == DONE else Phase.PENDING
    if status in FAILED:
        phase = Phase.FAILED
    fields: JSON = {
        "base_model": job.get("model"),
        "training_data": job.get("training_file"),
        "validation_data": job.get("validation_file") or None,
    }
    if job.get("n_epochs") is not None:
        fields["epochs"] = job["n_epochs"]
    if job.get("random_seed") is not None:
        fields["seed"] = job["random_seed"]
    if method := METHODS_SEEN.get((job.get("training_method") or {}).get("method", "")):
        fields["method"] = method
    outputs = {}
    if phase is Phase.READY:
        for name, field in (("model", "model_object_id"), ("adapter", "adapter_object_id")):
            if made := job.get(field):
                outputs[name] = f"projects/{project}/models/{made}"
        if made := job.get("model_output_name"):
            outputs["modelName"] = made
            outputs.setdefault("model", made)
    epochs = f"{job.get('epochs_completed') or 0} of {job['n_epochs']}" if "n_epochs" in job else ""
    return Observed(
        id=job["id"],
        actual=TogetherTuningParams.seen(**fields),
        phase=phase,
        outputs=outputs,
        message=f"the job is {status}" + (f": {reason}" if reason else ""),
        summary={"status": status, **({"epochs": epochs} if epochs else {})},
    )


def _path(id: str) -> str:
    return f"{JOBS}/{quote(id, safe='')}"
