"""Fine-tuning jobs of an Azure OpenAI account.

https://learn.microsoft.com/azure/ai-foundry/openai/how-to/fine-tuning
"""

import json
import re
from collections.abc import AsyncIterator, Mapping
from contextlib import suppress
from hashlib import sha256
from typing import Annotated, Any, Final

from auterity.api.fields import IMMUTABLE, LongText, ShortText
from auterity.api.tuning_job import Method, TuningJob
from auterity.engine.contract import Observed, Phase, Provider
from auterity.engine.errors import NotFound, Rejected, Unavailable
from auterity.providers.azure_openai.account import VERSION, AccountName, address_of, id_of
from auterity.providers.billing import Bill, by_tokens
from auterity.transport.azure import JSON, OUR_TAGS, OWNER_TAG, AzureConnection, AzureSession

JOBS: Final = "/openai/v1/fine_tuning/jobs"
MODELS: Final = "/openai/v1/models"
NAME_MARK: Final = f"{OUR_TAGS}name"
MODEL_MARK: Final = f"{OUR_TAGS}model"
"""The base model as it was asked for: Azure may tell it with its version."""
PAGE: Final = 100
LONGEST_SUFFIX: Final = 18
"""Of the shortest that any of Azure's versions takes."""
PHASES: Final = {"succeeded": Phase.READY, "failed": Phase.FAILED, "cancelled": Phase.FAILED}
"""Of all other states a job leaves by itself, or (paused) by somebody."""
METHODS: Final = {
    Method.SUPERVISED: "supervised",
    Method.PREFERENCE: "dpo",
    Method.REINFORCEMENT: "reinforcement",
}


class AzureOpenAITuningParams(TuningJob):
    """A fine-tuning job of an Azure OpenAI account."""

    account: Annotated[AccountName, IMMUTABLE]
    """Azure OpenAI (or AI Foundry) account, in the connection's resource group."""
    training_type: Annotated[ShortText | None, IMMUTABLE] = None
    """Where the training runs and how it is paid for, such as Standard, GlobalStandard or
    Developer; Azure's default if left out."""
    grader: Annotated[LongText | None, IMMUTABLE] = None
    """With method Reinforcement: what grades the answers, as the JSON that Azure takes."""


class AzureOpenAITuning(Provider[AzureOpenAITuningParams, AzureSession]):
    """A job. Its id is `<account>/<job>`; what it is told apart by stands in its metadata."""

    kind = "TuningJob"
    vendor = "azureOpenAI"
    params = AzureOpenAITuningParams
    connection = AzureConnection
    # Jobs have metadata that is never changed: nothing can be marked that others have made.
    marks_owner = False
    docs = "https://learn.microsoft.com/azure/ai-foundry/openai/how-to/fine-tuning"
    permissions = (
        "Microsoft.CognitiveServices/accounts/read",
        "Microsoft.CognitiveServices/accounts/OpenAI/fine-tunes/*",
        "Microsoft.CognitiveServices/accounts/OpenAI/models/*",
        "Microsoft.CognitiveServices/accounts/OpenAI/files/read",
    )
    proof = (
        "against a stateful fake that holds requests against OpenAI's description of its API, "
        "which Azure's v1 API follows"
    )
    publishes = (
        ("model", "Name of the tuned model, as model.modelRef of a ModelDeployment takes it."),
        ("jobId", "Id of the job."),
    )
    quirks = (
        (
            "trainingData and validationData are ids of files that were uploaded to the account "
            "with purpose fine-tune, such as file-1a2b."
        ),
        (
            "Jobs are found again by their name in this account: two TuningJobs of one name that "
            "use one account need an externalName."
        ),
        (
            "Azure keeps the record of a job. With deletionPolicy Delete a job under way is "
            "cancelled, and the tuned model deleted, which must not be deployed any more."
        ),
        "Tuning is not possible in every region, nor of every model; Azure's answer is shown.",
        "`hyperparameters` are those of the method, such as batch_size.",
    )
    poll_after = 30.0

    @classmethod
    def objections(cls, want: AzureOpenAITuningParams) -> Mapping[str, str]:
        found = {}
        for field in ("training_data", "validation_data"):
            if "://" in (getattr(want, field) or ""):
                found[field] = "Azure OpenAI takes the id of an uploaded file, such as file-1a2b"
        if want.training_data is None:
            found["training_data"] = "Azure OpenAI needs the id of an uploaded file"
        if want.base_model is None:
            found["base_model"] = "Azure OpenAI needs a model to start from"
        if (want.grader is not None) != (want.method is Method.REINFORCEMENT):
            found["grader"] = "a grader goes with method Reinforcement"
        return found

    @classmethod
    def billed(cls, want: AzureOpenAITuningParams) -> Bill:
        return by_tokens(want)

    async def locate(self, want: AzureOpenAITuningParams) -> str | None:
        base = await self._base(want.account)
        async for job in self._jobs(base):
            if not _is_for(job, want) or PHASES.get(job["status"]) is Phase.FAILED:
                continue
            # Of a job that was let go of, the record stays when its model is deleted.
            if (model := job.get("fine_tuned_model")) and not await self._exists(base, model):
                continue
            return f"{want.account}/{job['id']}"
        return None

    async def read(self, id: str) -> Observed[AzureOpenAITuningParams] | None:
        account, _, name = id.partition("/")
        job = await self._find(await self._base(account), f"{JOBS}/{name}")
        return None if job is None else self._observed(account, job)

    async def create(
        self, want: AzureOpenAITuningParams, owner: str
    ) -> Observed[AzureOpenAITuningParams]:
        job = await self._call(
            await self._base(want.account), "POST", JOBS, json=_request(want, owner)
        )
        if not isinstance(job, dict) or "id" not in job:
            raise Unavailable("Azure answered a new job without its id")
        return self._observed(want.account, job)

    async def update(
        self, id: str, want: AzureOpenAITuningParams, changed: frozenset[str], owner: str
    ) -> None:
        # A job is never changed, and its metadata cannot be.
        return

    async def delete(self, id: str) -> None:
        account, _, name = id.partition("/")
        base = await self._base(account)
        job = await self._find(base, f"{JOBS}/{name}")
        if job is None:
            return
        if job["status"] not in PHASES:
            await self._cancel(base, name)
        elif model := job.get("fine_tuned_model"):
            with suppress(NotFound):
                await self._call(base, "DELETE", f"{MODELS}/{model}")

    async def cancel(self, id: str) -> None:
        account, _, name = id.partition("/")
        base = await self._base(account)
        job = await self._find(base, f"{JOBS}/{name}")
        if job is not None and job["status"] not in PHASES:
            await self._cancel(base, name)

    async def _base(self, account: str) -> str:
        if self.session.open_ai is not None:
            return self.session.open_ai
        body = await self.session.find(id_of(self.session, account), VERSION)
        if body is None:
            raise Rejected(f"there is no account {account} in the connection's resource group")
        return address_of(self.session, body)

    async def _call(self, base: str, method: str, path: str, **request: Any) -> Any:
        return await self.session.data(base, self.session.cloud.cognitive, method, path, **request)

    async def _find(self, base: str, path: str) -> JSON | None:
        try:
            body = await self._call(base, "GET", path)
        except NotFound:
            return None
        if not isinstance(body, dict) or "id" not in body:
            raise Unavailable("Azure answered an object without its id")
        return body

    async def _exists(self, base: str, model: str) -> bool:
        return await self._find(base, f"{MODELS}/{model}") is not None

    async def _cancel(self, base: str, job: str) -> None:
        with suppress(NotFound):
            await self._call(base, "POST", f"{JOBS}/{job}/cancel")

    async def _jobs(self, base: str) -> AsyncIterator[JSON]:
        """The account's jobs, the newest first."""
        query: JSON = {"limit": PAGE}
        while True:
            body = await self._call(base, "GET", JOBS, params=query)
            if not isinstance(body, dict) or not isinstance(body.get("data"), list):
                raise Unavailable("Azure answered a list without any items")
            for job in body["data"]:
                yield job
            if not body.get("has_more") or not body["data"]:
                return
            query["after"] = body["data"][-1]["id"]

    def _observed(self, account: str, job: JSON) -> Observed[AzureOpenAITuningParams]:
        status, metadata = job["status"], job.get("metadata") or {}
        phase, error = PHASES.get(status, Phase.PENDING), job.get("error") or {}
        outputs = {"jobId": job["id"]}
        if phase is Phase.READY and job.get("fine_tuned_model"):
            outputs["model"] = job["fine_tuned_model"]
        summary = {"status": status}
        if phase is not Phase.PENDING and job.get("trained_tokens"):
            summary["trainedTokens"] = str(job["trained_tokens"])
        why = f": {error['message']}" if error.get("message") else ""
        if why and error.get("param"):
            why = f"{why} ({error['param']})"
        return Observed(
            id=f"{account}/{job['id']}",
            actual=AzureOpenAITuningParams.seen(account=account, **_fields(job, metadata)),
            phase=phase,
            owner=metadata.get(OWNER_TAG),
            outputs=outputs,
            url=f"{self.session.cloud.portal}/#resource{id_of(self.session, account)}/overview",
            message=f"the job is {status}{why}",
            summary=summary,
        )


def suffix_of(want: AzureOpenAITuningParams) -> str:
    """What the tuned model's name ends in: no other object's, where the name does not fit whole."""
    plain = re.sub(r"[^A-Za-z0-9_-]", "-", want.name)
    if plain != want.name or len(plain) > LONGEST_SUFFIX:
        digest = sha256(want.name.encode()).hexdigest()[:6]
        plain = f"{plain[: LONGEST_SUFFIX - 7].strip('-')}-{digest}"
    return want.model_name or plain.strip("-") or "tuned"


def _is_for(job: JSON, want: AzureOpenAITuningParams) -> bool:
    if metadata := job.get("metadata"):
        return bool(metadata.get(NAME_MARK) == want.name)
    told = job.get("user_provided_suffix") or job.get("suffix")
    return want.model_name is None and told == suffix_of(want)


def _request(want: AzureOpenAITuningParams, owner: str) -> JSON:
    request: JSON = {
        "model": want.base_model,
        "training_file": want.training_data,
        "validation_file": want.validation_data,
        "suffix": suffix_of(want),
        "seed": want.seed,
        "trainingType": want.training_type,
        "metadata": {
            OWNER_TAG: owner,
            NAME_MARK: want.name,
            MODEL_MARK: want.base_model,
        },
    }
    hyperparameters = {k: _number(v) for k, v in (want.hyperparameters or {}).items()}
    if want.epochs is not None:
        hyperparameters["n_epochs"] = want.epochs
    if want.method is not None or hyperparameters:
        kind = METHODS[want.method or Method.SUPERVISED]
        method: JSON = {"hyperparameters": hyperparameters} if hyperparameters else {}
        if want.grader is not None:
            method["grader"] = _json(want.grader)
        request["method"] = {"type": kind, kind: method}
    return {key: value for key, value in request.items() if value is not None}


def _fields(job: JSON, metadata: JSON) -> JSON:
    """What the job has, as it would be declared. Hyperparameters are told as they came out."""
    fields: JSON = {
        "base_model": metadata.get(MODEL_MARK) or job["model"],
        "training_data": job["training_file"],
        "validation_data": job.get("validation_file"),
    }
    if job.get("seed") is not None:
        fields["seed"] = job["seed"]
    method = job.get("method") or {}
    named = {name: kind for kind, name in METHODS.items()}
    if method.get("type") in named:
        fields["method"] = named[method["type"]]
    told = (method.get(method.get("type")) or {}).get("hyperparameters") or {}
    epochs = told.get("n_epochs", (job.get("hyperparameters") or {}).get("n_epochs"))
    if isinstance(epochs, int):
        fields["epochs"] = epochs
    return fields


def _number(text: str) -> Any:
    """Hyperparameters are numbers, but for a few words such as auto."""
    for kind in (int, float):
        with suppress(ValueError):
            return kind(text)
    return text


def _json(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError as error:
        raise Rejected("grader: it is not JSON") from error
