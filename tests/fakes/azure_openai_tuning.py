"""Fine-tuning at an Azure OpenAI account (API v1), as of 2026-11.

Requests are held against OpenAI's own description, which Azure's v1 API follows; `trainingType` is
Azure's alone. What it knows beyond that: files, models that can be tuned, states, that a job's
record stays, that a model which is deployed cannot be deleted. Texts of refusals are those that
Azure's documentation and users' reports show.
"""

import itertools
import json
from copy import deepcopy
from typing import Any, ClassVar

from auterity.providers.azure_openai.tuning import NAME_MARK, AzureOpenAITuning
from auterity.transport.azure import OWNER_TAG
from tests.conformance.vendor import Refusal
from tests.fakes.azure import JSON, SECRETS, WRONG_SECRETS, Azure, Refused, connection
from tests.fakes.azure_openai import ACCOUNT
from tests.fakes.server import ServedVendor

FILES = ("file-train1a2b", "file-valid3c4d")
TUNABLE = {"gpt-4.1-mini": "gpt-4.1-mini-2025-04-14", "gpt-4.1": "gpt-4.1-2025-04-14"}
UNDER_WAY = ("pending", "validating_files", "queued", "running", "paused")
PAGE = 2


class Tuning:
    """The jobs of one account, and the models that they have made."""

    def __init__(self, azure: Azure) -> None:
        self.azure = azure
        self.jobs: dict[str, JSON] = {}
        self.models: dict[str, str] = {}
        """Tuned models, and their base."""
        self.deployed: set[str] = set()
        self.forgets_metadata = False
        """As versions of Azure's API before v1 do."""
        self.breaks: str | None = None
        """Why the next job fails."""
        self._numbers = itertools.count(1)
        jobs = "/openai/v1/fine_tuning/jobs"
        azure.route("GET", jobs, self._list)
        azure.route("POST", jobs, self._create)
        azure.route("GET", f"{jobs}/{{id}}", self._get)
        azure.route("POST", f"{jobs}/{{id}}/cancel", self._cancel)
        azure.route("GET", "/openai/v1/models/{model}", self._model)
        azure.route("DELETE", "/openai/v1/models/{model}", self._forget)

    def settle(self) -> None:
        """Run every job to its end."""
        for id in self.jobs:
            self.advance(id)
            self.advance(id)

    def advance(self, id: str) -> None:
        """The next state of a job."""
        job = self.jobs[id]
        if job["status"] == "pending":
            job["status"] = "running"
        elif job["status"] in UNDER_WAY:
            if self.breaks is not None:
                error = {"code": "invalidPayload", "message": self.breaks, "param": None}
                job |= {"status": "failed", "error": error}
                self.breaks = None
                return
            model = f"{job['model']}.ft-{job['id'][-8:]}-{job['user_provided_suffix']}"
            job |= {"status": "succeeded", "fine_tuned_model": model, "trained_tokens": 4200}
            job["hyperparameters"] = {"n_epochs": 3, "batch_size": 1}
            self.models[model] = job["model"]

    def make(self, body: JSON) -> JSON:
        """A job as the API makes it. Raises Refused."""
        if body["model"] not in TUNABLE:
            raise _bad(
                "invalidPayload",
                f"The specified base model does not support fine-tuning: {body['model']}",
            )
        for key in ("training_file", "validation_file"):
            if key in body and body[key] not in FILES:
                raise _bad(
                    "invalidPayload", f"The specified file '{body[key]}' could not be found."
                )
        id = f"ftjob-{next(self._numbers):08d}"
        self.jobs[id] = {
            "object": "fine_tuning.job",
            "id": id,
            "created_at": 1_700_000_000,
            "finished_at": None,
            "organization_id": "",
            "result_files": [],
            "trained_tokens": None,
            "error": None,
            "fine_tuned_model": None,
            "hyperparameters": {"n_epochs": "auto"},
            "seed": 7,
            "validation_file": None,
            **{k: v for k, v in body.items() if k not in ("suffix", "trainingType", "model")},
            "user_provided_suffix": body.get("suffix"),
            "model": TUNABLE[body["model"]],
            "status": "pending",
        }
        if self.forgets_metadata:
            self.jobs[id].pop("metadata", None)
        return self.jobs[id]

    def _found(self, request: Any) -> JSON:
        id = request.match_info["id"]
        if id not in self.jobs:
            raise Refused(404, "fineTuneNotFound", "The fine-tuning job was not found.")
        return self.jobs[id]

    def _list(self, request: Any, body: Any) -> Any:
        newest = list(reversed(self.jobs.values()))
        after = request.query.get("after")
        start = next((i + 1 for i, one in enumerate(newest) if one["id"] == after), 0)
        page = newest[start : start + PAGE]
        more = start + PAGE < len(newest)
        return 200, {"object": "list", "data": deepcopy(page), "has_more": more}

    def _create(self, request: Any, body: Any) -> Any:
        return 201, deepcopy(self.make(body))

    def _get(self, request: Any, body: Any) -> Any:
        told = deepcopy(self._found(request))
        if not self.azure.slow:
            self.advance(told["id"])
        return 200, told

    def _cancel(self, request: Any, body: Any) -> Any:
        job = self._found(request)
        if job["status"] not in UNDER_WAY:
            raise _bad("invalidJobState", "The job has ended and cannot be cancelled.")
        job["status"] = "cancelled"
        return 200, deepcopy(job)

    def _model(self, request: Any, body: Any) -> Any:
        name = request.match_info["model"]
        if name not in self.models:
            raise Refused(404, "modelNotFound", f"The model {name} was not found.")
        return 200, {"id": name, "object": "model", "created": 1, "owned_by": "acme"}

    def _forget(self, request: Any, body: Any) -> Any:
        name = request.match_info["model"]
        self._model(request, None)
        if name in self.deployed:
            raise _bad("modelInUse", f"The model {name} is deployed and cannot be deleted.")
        del self.models[name]
        return 200, {"id": name, "object": "model", "deleted": True}


def _bad(code: str, message: str) -> Refused:
    return Refused(400, code, message)


class AzureOpenAITuningVendor(ServedVendor):
    """Azure OpenAI behind the provider of tuning jobs."""

    provider = AzureOpenAITuning
    spec: ClassVar[JSON] = {
        "baseModel": "gpt-4.1-mini",
        "trainingData": FILES[0],
        "validationData": FILES[1],
        "method": "Supervised",
        "epochs": 3,
        "seed": 42,
        "modelName": "support",
        "hyperparameters": {"batch_size": "2", "learning_rate_multiplier": "0.5"},
        "azureOpenAI": {"account": ACCOUNT, "trainingType": "GlobalStandard"},
    }
    immutable: ClassVar[JSON] = {"baseModel": "gpt-4.1"}
    refusal = Refusal({"trainingData": "file-of-nobody"}, "'file-of-nobody' could not be found")
    secrets: ClassVar[dict[str, dict[str, str]]] = SECRETS
    wrong_secrets: ClassVar[dict[str, dict[str, str]]] = WRONG_SECRETS
    has_pending = True

    def __init__(self) -> None:
        self.azure = Azure()
        self.tuning = Tuning(self.azure)
        super().__init__(self.azure.server, self.azure)

    async def reset(self) -> None:
        self.tuning.jobs.clear()
        self.tuning.models.clear()
        self.slow = False

    def connection(self, endpoint: str | None) -> JSON:
        return connection(endpoint, openAI=endpoint)

    async def count(self) -> int:
        running = [one for one in self.tuning.jobs.values() if one["status"] in UNDER_WAY]
        return len(running) + len(self.tuning.models)

    async def tamper(self, id: str) -> str:
        raise NotImplementedError

    async def vanish(self, id: str) -> None:
        del self.tuning.jobs[id.partition("/")[2]]

    async def foreign(self, spec: JSON, name: str, owner: str | None) -> None:
        body = {"model": spec["baseModel"], "training_file": spec["trainingData"]}
        body["validation_file"] = spec["validationData"]
        job = self.tuning.make(body)
        job |= {"seed": 42, "metadata": {NAME_MARK: name, **({OWNER_TAG: owner} if owner else {})}}
        job["user_provided_suffix"] = "support"
        job["model"] = spec["baseModel"]
        self.tuning.settle()

    async def settle(self) -> None:
        if not self.slow:
            self.tuning.settle()

    async def told(self, id: str) -> str:
        return json.dumps(self.tuning.jobs[id.partition("/")[2]])
