"""TuningJob at OpenAI (https://platform.openai.com/docs/api-reference/fine-tuning)."""

import json
import re
from collections.abc import AsyncIterator, Mapping
from contextlib import suppress
from dataclasses import replace
from http import HTTPStatus
from typing import Annotated, Any, ClassVar, Final
from urllib.parse import quote

from pydantic import Field

from auterity.api.connection import RateLimit
from auterity.api.fields import IMMUTABLE, Model, Rule, SecretValue, ShortText, Url
from auterity.api.tuning_job import Method, TuningJob
from auterity.engine.contract import Access, Identity, Observed, Phase, Provider
from auterity.engine.errors import (
    Conflict,
    Failure,
    NotFound,
    Rejected,
    Unauthorized,
    Unavailable,
)
from auterity.providers.billing import Bill, by_tokens
from auterity.transport import http
from auterity.transport.rest import JSON, RestConnector, RestSession, as_promised

OWNER: Final = "auterity-owner"
NAME: Final = "auterity-name"
BASE: Final = "auterity-base-model"
"""Keys of the metadata: the owner's mark, the object's name, and the base model as declared, which
OpenAI itself tells by its dated snapshot."""
OURS: Final = (OWNER, NAME, BASE)
JOBS: Final = "/fine_tuning/jobs"
DONE: Final = "succeeded"
FAILED: Final = ("failed", "cancelled")
METHODS: Final = {
    Method.SUPERVISED: "supervised",
    Method.PREFERENCE: "dpo",
    Method.REINFORCEMENT: "reinforcement",
}
METHODS_SEEN: Final = {told: method for method, told in METHODS.items()}
QUOTAS: Final = (
    "insufficient_quota",
    "credit_balance_exhausted",
    "organization_spend_limit_exceeded",
    "project_spend_limit_exceeded",
    "organization_usage_limit_exceeded",
)
"""Codes of a 429 that no waiting mends."""
CLOSING: Final = (
    "OpenAI has closed fine-tuning to new customers, and starts no job for anyone after 6 January "
    "2027"
)
CLOSED: Final = re.compile(r"(?i)no longer|not available|deprecat|discontinu|sunset|clos(ed|ing)")
"""Words of a refusal that may come of it."""


class Forbidden(Unauthorized):
    """403: the credentials are good, and not for this."""


class OpenAIConnection(RestConnector):
    """A project at OpenAI."""

    vendor = "openAI"
    # OpenAI tells no limits of anything but inference.
    rate_limit: ClassVar[RateLimit] = RateLimit(per_second=5, burst=10, concurrent=4)

    endpoint: Url = "https://api.openai.com/v1"
    """Base URL of the API, with its version."""
    api_key: SecretValue
    """API key of the project; not an admin key."""
    organization: ShortText | None = None
    """Id of the organization, for keys of users that belong to several."""
    project: ShortText | None = None
    """Id of the project, for keys of users."""

    def headers(self) -> Mapping[str, str]:
        told = {"OpenAI-Organization": self.organization, "OpenAI-Project": self.project}
        given = {name: value for name, value in told.items() if value is not None}
        return {"Authorization": f"Bearer {self.api_key.reveal()}", **given}

    async def identify(self, session: RestSession) -> Identity:
        answer = await http.send(session.door, session.client, "GET", "/models", concerns_all=held)
        if (failure := self.failure(answer)) is not None:
            raise failure
        organization = answer.headers.get("openai-organization") or self.organization
        project = answer.headers.get("openai-project") or self.project
        told = [f"project {project}"] if project else []
        told += [f"organization {organization}"] if organization else []
        return Identity(" of ".join(told) or f"a key at {session.client.base_url.host}")

    def failure(self, answer: http.Answer) -> Failure | None:
        if answer.status == HTTPStatus.FORBIDDEN:
            return Forbidden(f"the credentials may not do this{http.reason(answer)}")
        if answer.status == HTTPStatus.NOT_FOUND and not isinstance(answer.body, dict):
            # OpenAI's own 404 is JSON; that of a gateway must not be taken for "is gone".
            return Unavailable("404 came, and not in OpenAI's own words; is the endpoint right?")
        return http.failure_of(answer)

    async def open(self, access: Access) -> "OpenAISession":
        rest = await super().open(access)
        return OpenAISession(rest.door, rest.client, self)


class OpenAISession(RestSession):
    """Calls to one project."""

    async def call(self, method: str, path: str, **request: Any) -> Any:
        return await super().call(method, path, concerns_all=held, **request)


def held(answer: http.Answer) -> Failure | None:
    """The failure that concerns the whole connection: OpenAI's 429 may also mean a quota."""
    error = answer.body.get("error") if isinstance(answer.body, dict) else None
    told = {error.get("code"), error.get("type")} if isinstance(error, dict) else set()
    if answer.status == HTTPStatus.TOO_MANY_REQUESTS and told & set(QUOTAS):
        return Rejected(
            f"the quota or the budget is used up{http.reason(answer)}; raise it, or add credits"
        )
    return http.held(answer)


class OpenAIWandb(Model):
    """Show the run at Weights & Biases; its key is kept in OpenAI's settings."""

    project: ShortText
    """Project there."""
    name: ShortText | None = None
    """Name of the run there; the job's id if left out."""
    entity: ShortText | None = None
    """User or team there."""


class OpenAITuningParams(TuningJob):
    """A fine-tuning job at OpenAI."""

    rules = (
        Rule(
            f"!has(self.metadata) || !['{OWNER}', '{NAME}', '{BASE}'].exists(k, k in "
            "self.metadata)",
            "the metadata that begin with auterity- are the operator's own",
            ".metadata",
        ),
    )

    grader: Annotated[
        Annotated[str, Field(min_length=2, max_length=32768)] | None,
        IMMUTABLE,
    ] = None
    """What judges the answers, for method Reinforcement: a grader of OpenAI as JSON."""
    wandb: Annotated[OpenAIWandb | None, IMMUTABLE] = None
    """Show the run at Weights & Biases."""
    metadata: Annotated[
        dict[
            Annotated[str, Field(min_length=1, max_length=64)],
            Annotated[str, Field(max_length=512)],
        ]
        | None,
        Field(max_length=13),
        IMMUTABLE,
    ] = None
    """Notes on the job. OpenAI takes 16, three of them are the operator's."""


class OpenAITuning(Provider[OpenAITuningParams, OpenAISession]):
    """Fine-tuning jobs of a project, found again by their metadata.

    The metadata carry the owner's mark as well, but cannot be changed: a job without one that is
    taken over is known by the id in the status.
    """

    kind = "TuningJob"
    vendor = "openAI"
    params = OpenAITuningParams
    connection = OpenAIConnection
    marks_owner = False
    poll_after = 20.0
    docs = "https://platform.openai.com/docs/api-reference/fine-tuning"
    permissions = (
        "API key with write access to fine-tuning, and read access to models",
        "the role owner, to delete models (deletionPolicy Delete)",
    )
    proof = "stateful fake; requests are held against OpenAI's official description 2.3.0"
    publishes = (("model", "Name of the model that was made, as requests take it."),)
    quirks = (
        (
            f"{CLOSING}. The refusal is shown in OpenAI's words, and nothing is tried but on the "
            "interval. A model goes out of service with the model that it was made of: once OpenAI "
            "has told the day, it is status.summary.shutdownDate."
        ),
        "trainingData and validationData are ids of files uploaded with the purpose fine-tune.",
        (
            "hyperparameters are those of the method, such as batch_size, learning_rate_multiplier "
            "or beta; Supervised is meant if no method is given."
        ),
        (
            "Another job of the same name in the project, running or with its model still there, "
            "counts as the same: choose another spec.externalName to train anew."
        ),
        (
            "With deletionPolicy Delete the model goes, and a run under way is cancelled; OpenAI "
            "keeps the record of the job."
        ),
        "A quota that is used up is SpecRejected, not RateLimited: waiting does not mend it.",
    )

    @classmethod
    def objections(cls, want: OpenAITuningParams) -> Mapping[str, str]:
        found = {}
        if want.base_model is None:
            found["base_model"] = "OpenAI needs a model to start from"
        if want.training_data is None:
            found["training_data"] = "OpenAI needs the id of a file"
        if (want.method is Method.REINFORCEMENT) != (want.grader is not None):
            found["grader"] = "needed for method Reinforcement, and for no other"
        elif want.grader is not None and not isinstance(decoded(want.grader), dict):
            found["grader"] = "not a JSON object"
        return found

    @classmethod
    def billed(cls, want: OpenAITuningParams) -> Bill:
        return by_tokens(want)

    async def locate(self, want: OpenAITuningParams) -> str | None:
        found = [job async for job in self._named(want.name) if await self._counts(job)]
        owners = {(job.get("metadata") or {}).get(OWNER) for job in found}
        if len(owners) > 1:
            raise Conflict(
                f"several objects of the name {want.name} have jobs in this project: "
                f"{', '.join(sorted(str(owner) for owner in owners))}"
            )
        # The newest comes first.
        return str(found[0]["id"]) if found else None

    async def read(self, id: str) -> Observed[OpenAITuningParams] | None:
        job = await self.session.find(_path(id))
        if job is None:
            return None
        with as_promised("OpenAI's"):
            observed = _observed(job)
        if (model := observed.outputs.get("model")) is None:
            return observed
        return replace(observed, summary={**observed.summary, **await self._fate(model)})

    async def create(self, want: OpenAITuningParams, owner: str) -> Observed[OpenAITuningParams]:
        try:
            job = await self.session.call("POST", JOBS, json=body_of(want, owner))
        except Forbidden as failure:
            raise Rejected(
                f"OpenAI lets this key start no fine-tuning job: {failure.message}. {CLOSING}; if "
                "that is not it, the key lacks the right to write fine-tuning"
            ) from failure
        except Rejected as failure:
            if CLOSED.search(failure.message) is None:
                raise
            raise Rejected(f"{failure.message}. {CLOSING}") from failure
        with as_promised("OpenAI's"):
            return _observed(job)

    async def update(
        self, id: str, want: OpenAITuningParams, changed: frozenset[str], owner: str
    ) -> None:
        if changed:
            raise Rejected("a job cannot be changed; declare another one")

    async def cancel(self, id: str) -> None:
        await self._ended(id)

    async def delete(self, id: str) -> None:
        job = await self._ended(id)
        if job is not None and (model := job.get("fine_tuned_model")):
            with suppress(NotFound):
                await self.session.call("DELETE", _model(model))

    async def _ended(self, id: str) -> JSON | None:
        """The job, cancelled if it was under way; None if there is none."""
        job: JSON | None = await self.session.find(_path(id))
        if job is not None and job["status"] not in (DONE, *FAILED):
            job = await self.session.call("POST", f"{_path(id)}/cancel")
        return job

    async def _named(self, name: str) -> AsyncIterator[JSON]:
        query = {f"metadata[{NAME}]": name, "limit": "100"}
        while True:
            page = await self.session.call("GET", JOBS, params=query)
            if not isinstance(page, dict) or not isinstance(page.get("data"), list):
                raise Unavailable("OpenAI's answer is not the list that its API promises")
            for job in page["data"]:
                yield job
            if not page.get("has_more") or not page["data"]:
                return
            query["after"] = page["data"][-1]["id"]

    async def _fate(self, model: str) -> dict[str, str]:
        """What becomes of a model that was made: OpenAI ends those of base models that it ends."""
        try:
            told = await self.session.find(_model(model))
        except Forbidden:
            # A key that may not read models can tell of jobs all the same.
            return {}
        if told is None:
            return {"model": "no longer there"}
        return {"shutdownDate": told["shutdown_date"]} if told.get("shutdown_date") else {}

    async def _counts(self, job: JSON) -> bool:
        """Whether it is under way, or has made a model that is still there."""
        if job["status"] == DONE and job.get("fine_tuned_model"):
            return await self.session.find(_model(job["fine_tuned_model"])) is not None
        return job["status"] not in FAILED


def decoded(text: str) -> Any:
    """A text as JSON has it: numbers, true and false as such, everything else text."""
    try:
        value = json.loads(text)
        json.dumps(value, allow_nan=False)
    except ValueError:
        return text
    return value


def body_of(want: OpenAITuningParams, owner: str) -> JSON:
    """The request that creates a job."""
    marks = {OWNER: owner, NAME: want.name, BASE: want.base_model}
    body: JSON = {
        "model": want.base_model,
        "training_file": want.training_data,
        "validation_file": want.validation_data,
        "suffix": want.model_name,
        "seed": want.seed,
        "metadata": {**(want.metadata or {}), **marks},
    }
    settings = {name: decoded(text) for name, text in (want.hyperparameters or {}).items()}
    if want.epochs is not None:
        settings["n_epochs"] = want.epochs
    if want.method is not None or settings:
        method = METHODS[want.method or Method.SUPERVISED]
        details: JSON = {"hyperparameters": settings} if settings else {}
        if want.grader is not None:
            details["grader"] = decoded(want.grader)
        body["method"] = {"type": method, **({method: details} if details else {})}
    if want.wandb is not None:
        wandb = want.wandb.model_dump(exclude_none=True)
        body["integrations"] = [{"type": "wandb", "wandb": wandb}]
    return {name: value for name, value in body.items() if value is not None}


def _observed(job: JSON) -> Observed[OpenAITuningParams]:
    status, notes = job["status"], dict(job.get("metadata") or {})
    phase = Phase.READY if status == DONE else Phase.PENDING
    if status in FAILED:
        phase = Phase.FAILED
    fields: JSON = {
        "base_model": notes.get(BASE) or job["model"],
        "training_data": job["training_file"],
        "validation_data": job.get("validation_file"),
        "metadata": {key: value for key, value in notes.items() if key not in OURS},
    }
    if job.get("seed") is not None:
        fields["seed"] = job["seed"]
    method = job.get("method") or {}
    if seen := METHODS_SEEN.get(method.get("type", "")):
        fields["method"] = seen
        epochs = ((method.get(method["type"]) or {}).get("hyperparameters") or {}).get("n_epochs")
        if isinstance(epochs, int):
            fields["epochs"] = epochs
    error, message = job.get("error") or {}, f"the job is {status}"
    if error.get("message"):
        where = f" ({error['param']})" if error.get("param") else ""
        message = f"{message}: {error['message']}{where}"
    model = job.get("fine_tuned_model")
    summary = {"status": status}
    if job.get("trained_tokens") is not None:
        summary["trainedTokens"] = str(job["trained_tokens"])
    return Observed(
        id=job["id"],
        actual=OpenAITuningParams.seen(**fields),
        phase=phase,
        owner=notes.get(OWNER),
        outputs={"model": model} if model and phase is Phase.READY else {},
        url=f"https://platform.openai.com/finetune/{quote(job['id'], safe='')}",
        message=message,
        summary=summary,
    )


def _path(id: str) -> str:
    return f"{JOBS}/{quote(id, safe='')}"


def _model(name: str) -> str:
    return f"/models/{quote(name, safe='')}"
