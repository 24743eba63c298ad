"""TuningJob at Replicate (https://replicate.com/docs/reference/http#trainings.create)."""

import json
import re
from collections.abc import AsyncIterator, Mapping
from typing import Annotated, Any, Final, Self
from urllib.parse import quote

from pydantic import Field, model_validator

from auterity.api.fields import CREATE_ONLY, IMMUTABLE, Keyed, SecretValue, ShortText
from auterity.api.tuning_job import TuningJob
from auterity.engine.contract import Observed, Phase, Provider
from auterity.engine.errors import Conflict, NotFound, Rejected, Unavailable
from auterity.providers.replicate.connection import (
    ReplicateConnection,
    ReplicateSession,
    following,
    model_path,
)
from auterity.transport.rest import JSON

RUNNING: Final = ("starting", "processing")
DONE: Final = "succeeded"
SECRETIVE: Final = re.compile(r"(?i)token|secret|passw|key")
"""Names of inputs that are told to nobody, whatever Replicate itself shows."""
LONGEST_ERROR: Final = 400

VersionId = Annotated[str, Field(min_length=1, max_length=64)]


class SecretInput(SecretValue):
    """An input of the training that is a secret."""

    name: Annotated[
        str,
        Field(
            max_length=128,
            pattern=r"^\w*([Tt]oken|TOKEN|[Ss]ecret|SECRET|[Pp]assw|PASSW|[Kk]ey|KEY)\w*$",
        ),
    ]
    """Its name, such as hf_token or wandb_api_key; there is token, secret, passw or key in it."""


class ReplicateTrainingParams(TuningJob):
    """A training: a trainer reads inputs and pushes a new version to a model of yours."""

    version: Annotated[VersionId | None, IMMUTABLE] = None
    """Version of the trainer named by baseModel (64 hexadecimal digits); the latest one at
    creation if left out."""
    training_data_input: Annotated[ShortText, IMMUTABLE] = "input_images"
    """Name of the trainer's input that takes trainingData, such as input_images or train_data."""
    secret_inputs: Annotated[list[SecretInput], Keyed("name"), Field(max_length=8), CREATE_ONLY] = (
        Field(default_factory=list)
    )
    """Inputs that are secrets. Replicate may show them to whoever may read the training."""

    @model_validator(mode="after")
    def _as_replicate_tells_them(self) -> Self:
        if self.hyperparameters:
            told = {name: shown(decoded(text)) for name, text in self.hyperparameters.items()}
            self.hyperparameters = told
        return self


class ReplicateTraining(Provider[ReplicateTrainingParams, ReplicateSession]):
    """Trainings of the account, by id.

    A training has no name and carries no mark: it is known by what it is, that is by trainer,
    inputs and destination.
    """

    kind = "TuningJob"
    vendor = "replicate"
    params = ReplicateTrainingParams
    connection = ReplicateConnection
    marks_owner = False
    poll_after = 20.0
    docs = "https://replicate.com/docs/reference/http#trainings.create"
    permissions = ("API token of the user or organisation that the destination model belongs to",)
    proof = "stateful fake; requests are held against Replicate's official description"
    publishes = (
        ("model", "The version that was made, as owner/name:version, for model.modelRef."),
        ("version", "Id of the version alone."),
        ("weights", "Where the weights can be downloaded, if the trainer leaves them."),
    )
    quirks = (
        (
            "The version is pushed to the model modelName of the token's account (the object's "
            "name if left out). Replicate makes no such model by itself: create it once. Several "
            "trainings may push to one model, which is how a deployment gets a new version."
        ),
        (
            "Trainings have no names. One of the same trainer, inputs and destination, running or "
            "with its version still there, is taken for the same: the object then asks for "
            "policy: Adopt. Change an input, such as seed, to run once more."
        ),
        (
            "baseModel is the trainer, such as ostris/flux-dev-lora-trainer. Its other inputs are "
            "hyperparameters, in its own words; numbers, true and false are sent as such, and "
            "text that looks like one needs quotes of its own: '\"1000\"'."
        ),
        (
            "method, epochs and validationData have no meaning common to all trainers: write the "
            "trainer's own inputs into hyperparameters."
        ),
        (
            "With deletionPolicy Delete the version goes too. Replicate refuses that while a "
            "deployment uses it. The record of the training stays."
        ),
    )

    @classmethod
    def objections(cls, want: ReplicateTrainingParams) -> Mapping[str, str]:
        found = {}
        if want.base_model is None:
            found["base_model"] = "Replicate needs a trainer, such as owner/name"
        elif ":" in want.base_model:
            found["base_model"] = "write what stands behind the colon into replicate.version"
        if want.model_name is not None and "/" in want.model_name:
            found["model_name"] = "leave the owner out: it is the API token's"
        for name in ("method", "epochs", "validation_data"):
            if getattr(want, name) is not None:
                found[name] = "trainers call it differently: write it into hyperparameters"
        if secret := sorted(k for k in want.hyperparameters or () if SECRETIVE.search(k)):
            found["hyperparameters"] = f"{', '.join(secret)} may be secret: use secretInputs"
        return found

    async def locate(self, want: ReplicateTrainingParams) -> str | None:
        destination = await self._destination(want)
        found = [run async for run in self._runs() if _same(run, want, destination)]
        found = [run for run in found if run["status"] != DONE or await self._has_version(run)]
        if len(found) > 1:
            raise Conflict(
                f"Replicate has {len(found)} trainings with these very inputs: "
                f"{', '.join(sorted(run['id'] for run in found))}; change an input, such as seed"
            )
        return str(found[0]["id"]) if found else None

    async def read(self, id: str) -> Observed[ReplicateTrainingParams] | None:
        run = await self.session.find(_path(id))
        return None if run is None else _observed(run)

    async def create(
        self, want: ReplicateTrainingParams, owner: str
    ) -> Observed[ReplicateTrainingParams]:
        trainer = str(want.base_model)
        version = want.version or await self.session.latest(trainer)
        secrets = {one.name: one.reveal() for one in want.secret_inputs}
        run = await self.session.call(
            "POST",
            f"{model_path(trainer)}/versions/{quote(version, safe='')}/trainings",
            json={
                "destination": await self._destination(want),
                "input": {**_inputs(want), **secrets},
            },
        )
        return _observed(run)

    async def update(
        self, id: str, want: ReplicateTrainingParams, changed: frozenset[str], owner: str
    ) -> None:
        if changed:
            raise Rejected("a training cannot be changed; declare another one")

    async def cancel(self, id: str) -> None:
        await self._ended(id)

    async def delete(self, id: str) -> None:
        run = await self._ended(id)
        if run is None or _observed(run).phase is not Phase.READY:
            return
        if (path := _version_path(run)) is not None:
            try:
                await self.session.call("DELETE", path)
            except NotFound:
                return

    async def _ended(self, id: str) -> JSON | None:
        """The training, stopped if it was under way; None if there is none."""
        run: JSON | None = await self.session.find(_path(id))
        if run is not None and _observed(run).phase is Phase.PENDING:
            run = await self.session.call("POST", f"{_path(id)}/cancel")
        return run

    async def _destination(self, want: ReplicateTrainingParams) -> str:
        return f"{await self.session.account()}/{want.model_name or want.name}"

    async def _runs(self) -> AsyncIterator[JSON]:
        """All trainings of the account, the newest first."""
        query: JSON | None = {}
        while query is not None:
            page = await self.session.call("GET", "/trainings", params=query)
            if not isinstance(page, dict) or not isinstance(page.get("results"), list):
                raise Unavailable("Replicate's list of trainings is not what its API promises")
            for run in page["results"]:
                yield run
            query = following(page)

    async def _has_version(self, run: JSON) -> bool:
        path = _version_path(run)
        return path is None or await self.session.find(path) is not None


def decoded(text: str) -> Any:
    """A hyperparameter as an input: what JSON can read is that, everything else text."""
    try:
        value = json.loads(text)
        json.dumps(value, allow_nan=False)
    except ValueError:
        return text
    return value


def shown(value: Any) -> str:
    """An input as a hyperparameter; each has one form."""
    plain = isinstance(value, str) and decoded(value) == value
    return str(value) if plain else json.dumps(value, separators=(",", ":"), ensure_ascii=False)


def _inputs(want: ReplicateTrainingParams) -> JSON:
    """Everything but the secrets."""
    found = {name: decoded(text) for name, text in (want.hyperparameters or {}).items()}
    if want.training_data is not None:
        found[want.training_data_input] = want.training_data
    if want.seed is not None:
        found["seed"] = want.seed
    return found


def _open(inputs: JSON) -> JSON:
    return {name: value for name, value in inputs.items() if not SECRETIVE.search(name)}


def _same(run: JSON, want: ReplicateTrainingParams, destination: str) -> bool:
    """Whether it is the training that is wanted, under way or done."""
    made = _made(run)
    return (
        run.get("status") in (*RUNNING, DONE)
        and run.get("model") == want.base_model
        and want.version in (None, run.get("version"))
        and _open(run.get("input") or {}) == _open(_inputs(want))
        # Which model it is going to push to is told only once it has.
        and (made is None or made.partition(":")[0] == destination)
    )


def _made(run: JSON) -> str | None:
    """What it has made, as owner/name:version."""
    made = str((run.get("output") or {}).get("version") or "")
    return made if "/" in made and ":" in made else None


def _version_path(run: JSON) -> str | None:
    if (made := _made(run)) is None:
        return None
    model, _, version = made.partition(":")
    return f"{model_path(model)}/versions/{quote(version, safe='')}"


def _path(id: str) -> str:
    return f"/trainings/{quote(id, safe='')}"


def _observed(run: JSON) -> Observed[ReplicateTrainingParams]:
    try:
        return _seen(run)
    except (KeyError, TypeError, AttributeError) as error:
        raise Unavailable("Replicate's training is not what its API promises") from error


def _seen(run: JSON) -> Observed[ReplicateTrainingParams]:
    status, made = run["status"], _made(run)
    told: JSON = {
        "base_model": run["model"],
        "version": run["version"],
        "hyperparameters": {k: shown(v) for k, v in _open(run.get("input") or {}).items()},
    }
    outputs = {"weights": (run.get("output") or {}).get("weights")}
    if made is not None:
        model, _, version = made.partition(":")
        told["model_name"] = model.partition("/")[2]
        outputs |= {"model": made, "version": version}
    phase, message = Phase.PENDING, f"Replicate's status of the training is {status}"
    if status == DONE:
        phase, message = Phase.READY, "the training has succeeded"
    elif status not in RUNNING:
        phase, error = Phase.FAILED, " ".join(str(run.get("error") or "").split())
        message += f": {error[:LONGEST_ERROR]}" if error else ""
    return Observed(
        id=run["id"],
        actual=ReplicateTrainingParams.seen(**told),
        phase=phase,
        outputs={name: str(value) for name, value in outputs.items() if value},
        url=f"https://replicate.com/p/{run['id']}",
        message=message,
        summary={"status": status},
    )
