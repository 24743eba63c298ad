"""Fine-tuning jobs at Together AI as of 2026-11 (API v1); see together.py for the rest of it."""

import json
from typing import Any, ClassVar

from aiohttp import web

from auterity.providers.together.tuning import TogetherTuning, TogetherTuningParams, suffix_of
from tests.conformance.vendor import JSON, Edit, Refusal
from tests.fakes.server import ServedVendor
from tests.fakes.together import KEY, LLAMA, OTHER_KEY, PROJECT, QWEN, Project, Refused, absent

BASE = "Qwen/Qwen3.5-9B"
MODELS = {BASE: QWEN, "meta-llama/Meta-Llama-3.1-8B-Instruct-Reference": LLAMA}
WANDB_KEY = "wandb-71fakeFAKEx0Rt5Bm2"
MOST_EPOCHS = 20
ENDED = ("completed", "error", "cancelled")


class Jobs(Project):
    """A project with files and jobs."""

    def __init__(self) -> None:
        super().__init__()
        for method, path, handler in (
            ("GET", "/v1/files/{file}", self._file),
            ("POST", "/v1/fine-tunes", self._create),
            ("GET", "/v1/fine-tunes", self._list),
            ("GET", "/v1/fine-tunes/{id}", self._get),
            ("DELETE", "/v1/fine-tunes/{id}", self._delete),
            ("POST", "/v1/fine-tunes/{id}/cancel", self._cancel),
            ("GET", "/v1/fine-tunes/{id}/events", self._events),
        ):
            self.route(method, path, handler)

    def reset(self) -> None:
        super().reset()
        self.models.clear()
        self.jobs: dict[str, JSON] = {}
        self.secrets: dict[str, str] = {}
        self.events: dict[str, list[JSON]] = {}
        self.fails: str | None = None
        """What the next job ends with, if it fails."""
        self.files: dict[str, JSON] = {
            "file-train": {"processing_status": "COMPLETED"},
            "file-check": {"processing_status": "COMPLETED"},
            "file-broken": {
                "processing_status": "INVALID_FORMAT",
                "validation_report": {"valid": False, "error": "line 3 is no JSON"},
            },
            "file-fresh": {"processing_status": "QUEUED"},
        }

    def settle(self) -> None:
        super().settle()
        for job in self.jobs.values():
            if job["status"] == "cancel_requested":
                job["status"] = "cancelled"
            elif not self.slow:
                self.finish(job)

    def make(self, body: JSON) -> JSON:
        """A job as the API makes it. Raises Refused."""
        base = body.get("model")
        if base not in MODELS:
            raise Refused(400, f"Model {base} is not available for fine-tuning")
        for field in ("training_file", "validation_file"):
            if field in body and body[field] not in self.files:
                raise Refused(400, f"{field}: file {body[field]} not found")
        if body.get("n_epochs", 1) > MOST_EPOCHS:
            raise Refused(400, f"n_epochs must be at most {MOST_EPOCHS}")
        if len(body.get("suffix", "")) > 40:
            raise Refused(400, "suffix must have at most 40 characters")
        id = f"ft-{next(self.ids):08d}"
        now = "2026-11-24T10:00:00Z"
        told = {k: v for k, v in body.items() if k not in ("wandb_api_key", "hf_api_token")}
        self.jobs[id] = {
            "n_epochs": 1,
            "training_method": {"method": "sft", "train_on_inputs": "auto"},
            "validation_file": "",
            **told,
            "id": id,
            "status": "queued",
            "created_at": now,
            "updated_at": now,
            "user_id": "user_1",
            "epochs_completed": 0,
            "events": [],
        }
        self.secrets[id] = str(body.get("wandb_api_key"))
        self.events[id] = []
        if not self.slow:
            self.finish(self.jobs[id])
        return self.jobs[id]

    def finish(self, job: JSON) -> None:
        if job["status"] in ENDED:
            return
        if self.fails is not None:
            job["status"] = "error"
            self.events[job["id"]].append({"type": "job_error", "message": self.fails})
            return
        job |= {"status": "completed", "epochs_completed": job["n_epochs"]}
        id = f"ml_{job['id'][3:]}"
        self.models[id] = {"base": MODELS[job["model"]]}
        job["model_object_id"] = id
        job["model_output_name"] = f"acme/{job['model']}:{job.get('suffix')}:{job['id']}"
        if job.get("training_type", {}).get("type") == "Lora":
            self.models[f"{id}a"] = {"base": MODELS[job["model"]]}
            job["adapter_object_id"] = f"{id}a"

    def _job(self, request: web.Request) -> JSON:
        id = request.match_info["id"]
        if id not in self.jobs:
            raise absent(f"fine-tune {id}")
        return self.jobs[id]

    async def _file(self, request: web.Request, _: Any) -> JSON:
        id = request.match_info["file"]
        if id not in self.files:
            raise absent(f"file {id}")
        return {"id": id, "object": "file", "purpose": "fine-tune", **self.files[id]}

    async def _create(self, _: web.Request, body: JSON) -> JSON:
        return self.make(body)

    async def _list(self, _: web.Request, __: Any) -> JSON:
        return {"data": list(self.jobs.values())}

    async def _get(self, request: web.Request, _: Any) -> JSON:
        return {k: v for k, v in self._job(request).items() if k != "suffix"}

    async def _delete(self, request: web.Request, _: Any) -> JSON:
        job = self._job(request)
        if job["status"] not in ENDED:
            raise Refused(400, "a running job cannot be deleted; cancel it first")
        del self.jobs[job["id"]]
        return {"message": "deleted"}

    async def _cancel(self, request: web.Request, _: Any) -> JSON:
        job = self._job(request)
        if job["status"] in ENDED:
            raise Refused(400, f"job is {job['status']} and cannot be cancelled")
        job["status"] = "cancel_requested"
        return job

    async def _events(self, request: web.Request, _: Any) -> JSON:
        return {"data": self.events[self._job(request)["id"]]}


class TogetherTunings(ServedVendor):
    provider = TogetherTuning
    spec: ClassVar[JSON] = {
        "baseModel": BASE,
        "trainingData": "file-train",
        "validationData": "file-check",
        "method": "Supervised",
        "epochs": 3,
        "seed": 7,
        "modelName": "support",
        "hyperparameters": {"learning_rate": "0.00002", "batch_size": "max", "n_evals": "3"},
        "together": {
            "lora": {"r": 16, "alpha": 32},
            "wandb": {
                "apiKey": {"secretKeyRef": {"name": "wandb", "key": "apiKey"}},
                "project": "support",
            },
        },
    }
    edits: ClassVar[tuple[Edit, ...]] = ()
    immutable: ClassVar[JSON] = {"epochs": 4}
    refusal = Refusal({"epochs": 21}, "n_epochs must be at most 20")
    secrets: ClassVar[dict[str, dict[str, str]]] = {
        "together": {"apiKey": KEY},
        "wandb": {"apiKey": WANDB_KEY},
    }
    wrong_secrets: ClassVar[dict[str, dict[str, str]]] = {"together": {"apiKey": OTHER_KEY}}
    has_pending = True

    def __init__(self) -> None:
        self.project = Jobs()
        super().__init__(self.project.server, self.project)

    async def reset(self) -> None:
        self.project.reset()

    async def settle(self) -> None:
        self.project.settle()

    def connection(self, endpoint: str | None) -> JSON:
        key = {"secretKeyRef": {"name": "together", "key": "apiKey"}}
        return {"endpoint": endpoint, "apiKey": key, "project": PROJECT}

    async def count(self) -> int:
        return len(self.project.jobs) + len(self.project.models)

    async def tamper(self, id: str) -> str:
        raise NotImplementedError

    async def vanish(self, id: str) -> None:
        del self.project.jobs[id]

    async def foreign(self, spec: JSON, name: str, owner: str | None) -> None:
        want = TogetherTuningParams(name=name, model_name=spec["modelName"])
        self.project.make(
            {
                "model": spec["baseModel"],
                "training_file": spec["trainingData"],
                "validation_file": spec["validationData"],
                "n_epochs": spec["epochs"],
                "suffix": suffix_of(want),
            }
        )

    async def told(self, id: str) -> str:
        return json.dumps([self.project.jobs[id], self.project.secrets[id]])
