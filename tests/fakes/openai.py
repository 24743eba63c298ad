"""OpenAI's fine-tuning as of 2026-11: a project with files, jobs and the models that they make.

Requests are held against the official description 2.3.0. What it does not say (the words of
refusals, that an alias of a model is told by its snapshot, both families of 429) is as OpenAI's
documentation and its users have it. How fine-tuning will be refused once it is closed nobody knows
yet: both likely answers, 403 and 400, are there.
"""

import itertools
import json
import re
from collections.abc import Callable
from copy import deepcopy
from typing import Any, ClassVar

from aiohttp import web

from auterity.providers.openai import BASE, NAME, OWNER, OpenAITuning
from tests.conformance.vendor import JSON, Edit, Refusal
from tests.contract.openapi import Description
from tests.fakes.server import FakeServer, ServedVendor

KEY = "sk-proj-7Hq2fakeFAKEvR8sLm4Xc0"
OTHER_KEY = "sk-proj-1Zt9wrongWRONGbK6nWp3Ye5"
SNAPSHOTS = {"gpt-4.1-mini": "gpt-4.1-mini-2025-04-14", "o4-mini": "o4-mini-2025-04-16"}
FILES = ("file-train", "file-check", "file-broken")
PAGE = 2
"""Small, so that lists have several pages."""
ENDED = ("succeeded", "failed", "cancelled")


class Refused(Exception):  # noqa: N818 - named like the engine's failures
    """An error answer."""

    def __init__(self, status: int, message: str, code: str | None = None) -> None:
        super().__init__(message)
        self.status, self.message, self.code = status, message, code

    def response(self) -> web.Response:
        error = {"message": self.message, "type": "invalid_request_error", "param": None}
        return web.json_response({"error": {**error, "code": self.code}}, status=self.status)


def description() -> Description | None:
    """The official one. It says it is OpenAPI 3.1, and has its exclusive limits as 3.0 has them."""
    found = Description.load("openai.openapi.json")
    return None if found is None else Description(_mended(deepcopy(found.document)))


def _mended(part: Any) -> Any:
    if isinstance(part, dict):
        if part.get("exclusiveMinimum") is True:
            part["exclusiveMinimum"] = part.pop("minimum")
        for value in part.values():
            _mended(value)
    elif isinstance(part, list):
        for value in part:
            _mended(value)
    return part


class Project:
    """A project behind the API."""

    def __init__(self) -> None:
        self.server = FakeServer(description(), base_path="/v1")
        self.server.authorize = _authorize
        self.ids = itertools.count(1)
        for method, path, handler in (
            ("GET", "/models", self._models),
            ("GET", "/models/{model}", self._model),
            ("DELETE", "/models/{model}", self._delete_model),
            ("POST", "/fine_tuning/jobs", self._create),
            ("GET", "/fine_tuning/jobs", self._list),
            ("GET", "/fine_tuning/jobs/{id}", self._get),
            ("POST", "/fine_tuning/jobs/{id}/cancel", self._cancel),
        ):
            self.server.route(method, path, _answering(handler))
        self.reset()

    def reset(self) -> None:
        self.slow = False
        self.refuses: Refused | None = None
        """What every new job is refused with."""
        self.jobs: dict[str, JSON] = {}
        self.models: set[str] = set()
        self.shutdowns: dict[str, str] = {}
        """The days on which models will be shut down."""

    def settle(self) -> None:
        if not self.slow:
            for job in self.jobs.values():
                self.finish(job)

    def make(self, body: JSON) -> JSON:
        """A job as the API makes it. Raises Refused."""
        if self.refuses is not None:
            raise self.refuses
        if body["model"] not in {*SNAPSHOTS, *SNAPSHOTS.values()}:
            raise Refused(
                400,
                f"Model {body['model']} is not available for fine-tuning or does not exist.",
                "model_not_available",
            )
        for field in ("training_file", "validation_file"):
            if field in body and body[field] not in FILES:
                raise Refused(400, f"invalid {field}: {body[field]}", "invalid_request")
        if len(body.get("metadata", {})) > 16:
            raise Refused(400, "metadata: at most 16 pairs")
        method = body.get("method", {"type": "supervised"})
        settings = method.get(method["type"], {}).get("hyperparameters", {})
        resolved = {"n_epochs": 3, "batch_size": 1, "learning_rate_multiplier": 1.8, **settings}
        id = f"ftjob-{next(self.ids):08d}"
        self.jobs[id] = {
            "object": "fine_tuning.job",
            "id": id,
            "created_at": 1_763_000_000 + next(self.ids),
            "model": SNAPSHOTS.get(body["model"], body["model"]),
            "training_file": body["training_file"],
            "validation_file": body.get("validation_file"),
            "organization_id": "org-acme",
            "status": "validating_files",
            "error": None,
            "fine_tuned_model": None,
            "finished_at": None,
            "estimated_finish": None,
            "hyperparameters": resolved,
            "method": {**method, method["type"]: {"hyperparameters": resolved}},
            "metadata": body.get("metadata"),
            "seed": body.get("seed", 1_234),
            "result_files": [],
            "trained_tokens": None,
            "_suffix": body.get("suffix") or "",
        }
        if not self.slow:
            self.finish(self.jobs[id])
        return _shown(self.jobs[id])

    def finish(self, job: JSON) -> None:
        if job["status"] in ENDED:
            return
        if job["training_file"] == "file-broken":
            job["status"] = "failed"
            job["error"] = {
                "code": "invalid_training_file",
                "message": "The job failed due to an unsupported file format. Line 3 is not JSON.",
                "param": "training_file",
            }
            return
        model = f"ft:{job['model']}:acme:{job['_suffix']}:{job['id'][6:]}"
        self.models.add(model)
        job |= {"status": "succeeded", "fine_tuned_model": model, "trained_tokens": 5_768}

    def _job(self, request: web.Request) -> JSON:
        id = request.match_info["id"]
        if id not in self.jobs:
            raise Refused(404, f"Could not find fine tune: {id}", "fine_tune_not_found")
        return self.jobs[id]

    async def _models(self, _: web.Request, __: Any) -> JSON:
        return {"object": "list", "data": [{"id": id} for id in sorted(self.models)]}

    async def _model(self, request: web.Request, _: Any) -> JSON:
        id = request.match_info["model"]
        if id not in self.models:
            raise Refused(404, f"The model '{id}' does not exist", "model_not_found")
        told: JSON = {"id": id, "object": "model", "created": 1_700_000_000, "owned_by": "acme"}
        return {**told, "shutdown_date": self.shutdowns.get(id)}

    async def _delete_model(self, request: web.Request, body: Any) -> JSON:
        told = await self._model(request, body)
        self.models.discard(told["id"])
        return {"id": told["id"], "object": "model", "deleted": True}

    async def _create(self, _: web.Request, body: JSON) -> JSON:
        return self.make(body)

    async def _list(self, request: web.Request, _: Any) -> JSON:
        wanted = {
            found[1]: value
            for key, value in request.query.items()
            if (found := re.fullmatch(r"metadata\[(.+)\]", key))
        }
        jobs = [j for j in self.jobs.values() if wanted.items() <= (j["metadata"] or {}).items()]
        jobs.sort(key=lambda job: -int(job["created_at"]))
        ids = [job["id"] for job in jobs]
        start = ids.index(request.query["after"]) + 1 if "after" in request.query else 0
        size = min(int(request.query.get("limit", "20")), PAGE)
        data = [_shown(job) for job in jobs[start : start + size]]
        return {"object": "list", "data": data, "has_more": start + size < len(jobs)}

    async def _get(self, request: web.Request, _: Any) -> JSON:
        return _shown(self._job(request))

    async def _cancel(self, request: web.Request, _: Any) -> JSON:
        job = self._job(request)
        if job["status"] in ENDED:
            raise Refused(400, f"Job has already completed: {job['id']}", "invalid_request")
        job["status"] = "cancelled"
        return _shown(job)


def _authorize(request: web.Request) -> web.Response | None:
    if request.headers.get("Authorization") == f"Bearer {KEY}":
        return None
    return Refused(401, "Incorrect API key provided.", "invalid_api_key").response()


def _answering(handler: Callable[..., Any]) -> Callable[..., Any]:
    async def answer(request: web.Request, body: Any) -> web.StreamResponse:
        try:
            told = await handler(request, body)
        except Refused as refused:
            return refused.response()
        return web.json_response(told, headers={"openai-organization": "acme"})

    return answer


def _shown(job: JSON) -> JSON:
    return {name: value for name, value in job.items() if not name.startswith("_")}


class OpenAITunings(ServedVendor):
    provider = OpenAITuning
    spec: ClassVar[JSON] = {
        "baseModel": "gpt-4.1-mini",
        "trainingData": "file-train",
        "validationData": "file-check",
        "method": "Supervised",
        "epochs": 2,
        "seed": 7,
        "modelName": "support",
        "hyperparameters": {"batch_size": "4", "learning_rate_multiplier": "0.5"},
        "openAI": {"metadata": {"team": "support"}, "wandb": {"project": "support"}},
    }
    edits: ClassVar[tuple[Edit, ...]] = ()
    immutable: ClassVar[JSON] = {"epochs": 4}
    refusal = Refusal({"baseModel": "gpt-none"}, "Model gpt-none is not available")
    secrets: ClassVar[dict[str, dict[str, str]]] = {"openai": {"apiKey": KEY}}
    wrong_secrets: ClassVar[dict[str, dict[str, str]]] = {"openai": {"apiKey": OTHER_KEY}}
    has_pending = True

    def __init__(self) -> None:
        self.project = Project()
        super().__init__(self.project.server, self.project)

    async def reset(self) -> None:
        self.project.reset()

    async def settle(self) -> None:
        self.project.settle()

    def connection(self, endpoint: str | None) -> JSON:
        key = {"secretKeyRef": {"name": "openai", "key": "apiKey"}}
        return {"endpoint": endpoint, "apiKey": key, "project": "proj_acme"}

    async def count(self) -> int:
        """Jobs under way, and models: records of jobs that have ended stay for ever."""
        running = [job for job in self.project.jobs.values() if job["status"] not in ENDED]
        return len(running) + len(self.project.models)

    async def tamper(self, id: str) -> str:
        raise NotImplementedError

    async def vanish(self, id: str) -> None:
        del self.project.jobs[id]

    async def foreign(self, spec: JSON, name: str, owner: str | None) -> None:
        marks = {NAME: name, BASE: spec["baseModel"]} | ({OWNER: owner} if owner else {})
        self.project.make(
            {
                "model": spec["baseModel"],
                "training_file": spec["trainingData"],
                "validation_file": spec["validationData"],
                "seed": spec["seed"],
                "method": {
                    "type": "supervised",
                    "supervised": {"hyperparameters": {"n_epochs": spec["epochs"]}},
                },
                "metadata": {**spec["openAI"]["metadata"], **marks},
            }
        )

    async def told(self, id: str) -> str:
        return json.dumps(self.project.jobs[id])
