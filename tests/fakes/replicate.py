"""Replicate's HTTP API as of 2026-11-24: an account with its models, deployments and trainings.

Requests are held against the official description. What it does not say (the words of refusals, and
that a deployment is taken offline some time after it has been scaled to zero) is in the words that
Replicate's users quote.
"""

import asyncio
import json
from collections.abc import Callable
from hashlib import sha256
from typing import Any, ClassVar

from aiohttp import web

from auterity.providers.replicate.deployment import ReplicateDeployment
from auterity.providers.replicate.training import ReplicateTraining
from tests.conformance.vendor import Edit, Refusal
from tests.contract.openapi import Description, Violation
from tests.fakes.server import FakeServer, ServedVendor

JSON = dict[str, Any]
TOKEN = "r8_Qm2vXc81fakeFAKE7tLw93bNpZ"
OTHER_TOKEN = "r8_Zk4yHs63wrongWRONG1dPq05uE"
HF_TOKEN = "hf_3nRfakeFAKEtu8Wq5sYb2"
ACCOUNT = "acme"
HARDWARE = ("cpu", "gpu-t4", "gpu-a40-large", "gpu-h100")
PAGE = 2
"""Small, so that every list has several pages."""


def version_of(*parts: object) -> str:
    """An id as a version has it."""
    return sha256(repr(parts).encode()).hexdigest()


SDXL, SDXL_NEW = version_of("sdxl", 1), version_of("sdxl", 2)
TRAINER = version_of("trainer", 1)
MODELS: dict[str, list[str]] = {
    "stability-ai/sdxl": [SDXL, SDXL_NEW],
    "ostris/flux-dev-lora-trainer": [TRAINER],
    f"{ACCOUNT}/support-style": [],
}


class Refused(Exception):  # noqa: N818 - named like the engine's failures
    """A problem as RFC 7807 has it."""

    def __init__(self, status: int, title: str, detail: str, **others: Any) -> None:
        super().__init__(detail)
        self.body = {"title": title, "detail": detail, "status": status, **others}

    def response(self) -> web.Response:
        return web.json_response(self.body, status=self.body["status"])


def absent() -> Refused:
    return Refused(404, "Not found", "The requested resource could not be found.")


class Replicated(Description):
    """The official description, and what only the address of a list's next page tells."""

    def check(
        self, method: str, path: str, *, query: dict[str, str], **request: Any
    ) -> Violation | None:
        named = {name: value for name, value in query.items() if name != "cursor"}
        return super().check(method, path, query=named, **request)


class Account:
    """Everything in one account."""

    def __init__(self) -> None:
        self.slow = False
        self.server = FakeServer(Replicated.load("replicate.openapi.json"), base_path="/v1")
        self.server.authorize = _authorize
        one = "/deployments/{owner}/{name}"
        version = "/models/{owner}/{name}/versions/{version}"
        for method, path, handler in (
            ("GET", "/account", self._account),
            ("GET", "/models/{owner}/{name}", self._model),
            ("GET", version, self._version),
            ("DELETE", version, self._delete_version),
            ("POST", f"{version}/trainings", self._train),
            ("GET", "/trainings", self._trainings),
            ("GET", "/trainings/{id}", self._training),
            ("POST", "/trainings/{id}/cancel", self._cancel),
            ("GET", "/deployments", self._deployments),
            ("POST", "/deployments", self._deploy),
            ("GET", one, self._deployment),
            ("PATCH", one, self._change),
            ("DELETE", one, self._delete),
            ("POST", f"{one}/predictions", self._predict),
        ):
            self.server.route(method, path, _answering(handler))
        self.reset()

    def reset(self) -> None:
        self.slow = False
        self.models = {name: list(versions) for name, versions in MODELS.items()}
        self.deployments: dict[str, JSON] = {}
        self.online: set[str] = set()
        """Deployments that have been used in the last 15 minutes."""
        self.runs: dict[str, JSON] = {}
        self.destinations: dict[str, str] = {}
        self.fails: str | None = None
        """What the next training ends with, if it fails."""

    def settle(self) -> None:
        """15 minutes pass; trainings end unless `slow`."""
        self.online = {
            id
            for id in self.online
            if self.deployments[id]["current_release"]["configuration"]["max_instances"]
        }
        if not self.slow:
            for run in self.runs.values():
                self.finish(run)

    # Deployments

    def deploy(self, body: JSON) -> JSON:
        """A deployment as the API makes it. Raises Refused."""
        id = f"{ACCOUNT}/{body['name']}"
        if id in self.deployments:
            raise Refused(400, "Bad request", "A deployment with this name already exists.")
        self._check(body["model"], body["version"], body["hardware"])
        self.deployments[id] = {"owner": ACCOUNT, "name": body["name"]}
        self.online.add(id)
        return self._release(id, body)

    def change(self, id: str, body: JSON) -> JSON:
        """A deployment with changes: another release, if it is another. Raises Refused."""
        if id not in self.deployments:
            raise absent()
        release = self.deployments[id]["current_release"]
        now = {**release["configuration"], "model": release["model"], "version": release["version"]}
        wanted = {**now, **body}
        self._check(wanted["model"], wanted["version"], wanted["hardware"])
        return self.deployments[id] if wanted == now else self._release(id, wanted)

    def _check(self, model: str, version: str, hardware: str) -> None:
        if version not in self.models.get(model, ()):
            raise Refused(
                422,
                "Invalid version or not permitted",
                "The specified version does not exist (or perhaps you don't have permission to "
                "use it?)",
            )
        if hardware not in HARDWARE:
            raise Refused(400, "Bad request", f"Invalid hardware: {hardware}")

    def _release(self, id: str, body: JSON) -> JSON:
        if body["min_instances"] > body["max_instances"]:
            raise Refused(400, "Bad request", "min_instances is more than max_instances")
        before = self.deployments[id].get("current_release", {"number": 0})
        self.deployments[id]["current_release"] = {
            "number": before["number"] + 1,
            "model": body["model"],
            "version": body["version"],
            "created_at": "2026-11-24T12:00:00.000000Z",
            "created_by": {"type": "organization", "username": ACCOUNT, "name": "Acme"},
            "configuration": {
                name: body[name] for name in ("hardware", "min_instances", "max_instances")
            },
        }
        return self.deployments[id]

    def _deployments(self, request: web.Request, _: Any) -> tuple[int, Any]:
        return 200, self._page(request, list(self.deployments.values()))

    def _deploy(self, _: web.Request, body: JSON) -> tuple[int, Any]:
        return 200, self.deploy(body)

    def _deployment(self, request: web.Request, _: Any) -> tuple[int, Any]:
        if (found := self.deployments.get(_id(request))) is None:
            raise absent()
        return 200, found

    def _change(self, request: web.Request, body: JSON) -> tuple[int, Any]:
        return 200, self.change(_id(request), body)

    def _delete(self, request: web.Request, _: Any) -> tuple[int, Any]:
        id = _id(request)
        if id not in self.deployments:
            raise absent()
        if id in self.online:
            raise Refused(
                400,
                "Bad request",
                "You can only delete deployments that have been offline and unused for at least "
                "15 minutes.",
            )
        del self.deployments[id]
        return 204, None

    def _predict(self, request: web.Request, body: JSON) -> tuple[int, Any]:
        if _id(request) not in self.deployments:
            raise absent()
        if "prompt" not in body["input"]:
            raise Refused(422, "Input validation failed", "input: prompt is required")
        failed = body["input"]["prompt"] == "fail"
        status = "failed" if failed else "succeeded"
        return 201, {"id": "p1", "status": status, "output": None if failed else ["hello"]}

    # Models and trainings

    def train(self, trainer: str, version: str, destination: str, inputs: JSON) -> JSON:
        """A training as the API makes it. Raises Refused."""
        if version not in self.models.get(trainer, ()):
            raise absent()
        if destination not in self.models or not destination.startswith(f"{ACCOUNT}/"):
            raise Refused(
                404, "Not found", "The specified training destination does not exist", type="about"
            )
        if not str(inputs.get("input_images", "")).startswith("https://"):
            raise Refused(
                422, "Input validation failed", "- input.input_images: Does not match format 'uri'"
            )
        if not isinstance(inputs.get("steps", 1), int):
            raise Refused(
                422,
                "Input validation failed",
                "- input.steps: Invalid type. Expected: integer, given: string",
            )
        id = f"t{len(self.destinations):025d}"
        run: JSON = {
            "id": id,
            "model": trainer,
            "version": version,
            "input": inputs,
            "logs": "",
            "error": None,
            "output": None,
            "source": "api",
            "status": "starting",
            "created_at": "2026-11-24T12:00:00.000000Z",
            "urls": {
                "get": f"https://api.replicate.com/v1/trainings/{id}",
                "cancel": f"https://api.replicate.com/v1/trainings/{id}/cancel",
            },
        }
        # The newest first.
        self.runs = {id: run, **self.runs}
        self.destinations[id] = destination
        if not self.slow:
            self.finish(run)
        return run

    def finish(self, run: JSON) -> None:
        """A training's end."""
        if run["status"] not in ("starting", "processing"):
            return
        if self.fails is not None:
            run |= {"status": "failed", "error": self.fails}
            self.fails = None
            return
        destination = self.destinations[run["id"]]
        made = version_of(destination, run["id"])
        self.models[destination].append(made)
        weights = f"https://replicate.delivery/{run['id']}/weights.tar"
        run |= {
            "status": "succeeded",
            "output": {"version": f"{destination}:{made}", "weights": weights},
        }

    def _account(self, _: web.Request, __: Any) -> tuple[int, Any]:
        return 200, {"type": "organization", "username": ACCOUNT, "name": "Acme"}

    def _model(self, request: web.Request, _: Any) -> tuple[int, Any]:
        owner, name = _id(request).split("/")
        if (versions := self.models.get(f"{owner}/{name}")) is None:
            raise absent()
        latest = {"id": versions[-1]} if versions else None
        return 200, {"owner": owner, "name": name, "latest_version": latest}

    def _version(self, request: web.Request, _: Any) -> tuple[int, Any]:
        version = request.match_info["version"]
        if version not in self.models.get(_id(request), ()):
            raise absent()
        return 200, {"id": version, "cog_version": "0.16.1"}

    def _delete_version(self, request: web.Request, _: Any) -> tuple[int, Any]:
        model, version = _id(request), request.match_info["version"]
        if version not in self.models.get(model, ()):
            raise absent()
        releases = [one["current_release"] for one in self.deployments.values()]
        if any(release["version"] == version for release in releases):
            raise Refused(400, "Bad request", "Version is used by a deployment.")
        self.models[model].remove(version)
        return 202, None

    def _train(self, request: web.Request, body: JSON) -> tuple[int, Any]:
        version = request.match_info["version"]
        return 201, self.train(_id(request), version, body["destination"], body["input"])

    def _trainings(self, request: web.Request, _: Any) -> tuple[int, Any]:
        return 200, self._page(request, list(self.runs.values()))

    def _training(self, request: web.Request, _: Any) -> tuple[int, Any]:
        if (run := self.runs.get(request.match_info["id"])) is None:
            raise absent()
        return 200, run

    def _cancel(self, request: web.Request, _: Any) -> tuple[int, Any]:
        _, run = self._training(request, None)
        if run["status"] in ("starting", "processing"):
            run["status"] = "canceled"
        return 200, run

    def _page(self, request: web.Request, items: list[JSON]) -> JSON:
        first = int(request.query.get("cursor", 0))
        more = first + PAGE < len(items)
        following = f"http://api.replicate.com/v1{request.path}?cursor={first + PAGE}"
        return {
            "results": items[first : first + PAGE],
            "next": following if more else None,
            "previous": None,
        }


class _Replicate(ServedVendor):
    """What the stand-ins of both kinds share."""

    secrets: ClassVar[dict[str, dict[str, str]]] = {"replicate": {"apiToken": TOKEN}}
    wrong_secrets: ClassVar[dict[str, dict[str, str]]] = {"replicate": {"apiToken": OTHER_TOKEN}}

    def __init__(self) -> None:
        self.account = Account()
        super().__init__(self.account.server, self.account)

    async def reset(self) -> None:
        self.account.reset()

    def connection(self, endpoint: str | None) -> JSON:
        token = {"secretKeyRef": {"name": "replicate", "key": "apiToken"}}
        return {"endpoint": endpoint, "apiToken": token}

    async def settle(self) -> None:
        await asyncio.sleep(0)
        self.account.settle()


class ReplicateDeployments(_Replicate):
    provider = ReplicateDeployment
    spec: ClassVar[JSON] = {
        "model": {"name": "stability-ai/sdxl", "version": SDXL},
        "hardware": "gpu-t4",
        "scaling": {"min": 1, "max": 3},
        "replicate": {},
    }
    edits = (
        Edit("another version", {"model": {"version": SDXL_NEW}}),
        Edit("other hardware", {"hardware": "gpu-a40-large"}),
        Edit("scaled to zero", {"scaling": {"min": 0}}),
        Edit("more instances", {"scaling": {"max": 5}}),
    )
    refusal = Refusal({"model": {"version": "0" * 64}}, "The specified version does not exist")

    async def count(self) -> int:
        return len(self.account.deployments)

    async def tamper(self, id: str) -> str:
        self.account.change(id, {"hardware": "gpu-h100"})
        return "hardware"

    async def vanish(self, id: str) -> None:
        del self.account.deployments[id]
        self.account.online.discard(id)

    async def foreign(self, spec: JSON, name: str, owner: str | None) -> None:
        scaling = spec["scaling"]
        self.account.deploy(
            {
                "name": name,
                "model": spec["model"]["name"],
                "version": spec["model"]["version"],
                "hardware": spec["hardware"],
                "min_instances": scaling["min"],
                "max_instances": scaling["max"],
            }
        )


class ReplicateTrainings(_Replicate):
    provider = ReplicateTraining
    spec: ClassVar[JSON] = {
        "baseModel": "ostris/flux-dev-lora-trainer",
        "trainingData": "https://example.com/style.zip",
        "seed": 7,
        "modelName": "support-style",
        "hyperparameters": {"steps": "1000", "learning_rate": "4e-4", "trigger_word": '"1000"'},
        "replicate": {
            "version": TRAINER,
            "secretInputs": [
                {"name": "hf_token", "secretKeyRef": {"name": "hub", "key": "token"}},
            ],
        },
    }
    immutable: ClassVar[JSON] = {"hyperparameters": {"steps": "2000"}}
    refusal = Refusal(
        {"modelName": "no-such-model"}, "The specified training destination does not exist"
    )
    secrets: ClassVar[dict[str, dict[str, str]]] = {
        **_Replicate.secrets,
        "hub": {"token": HF_TOKEN},
    }
    has_pending = True

    async def count(self) -> int:
        made = sum(len(v) for m, v in self.account.models.items() if m.startswith(f"{ACCOUNT}/"))
        runs = self.account.runs.values()
        return made + sum(run["status"] in ("starting", "processing") for run in runs)

    async def tamper(self, id: str) -> str:
        raise AssertionError("nothing of a training can be changed")

    async def vanish(self, id: str) -> None:
        del self.account.runs[id]

    async def foreign(self, spec: JSON, name: str, owner: str | None) -> None:
        inputs = {"input_images": spec["trainingData"], "seed": 7, "hf_token": HF_TOKEN}
        inputs |= {"steps": 1000, "learning_rate": 0.0004, "trigger_word": "1000"}
        destination = f"{ACCOUNT}/{spec['modelName']}"
        self.account.train(spec["baseModel"], TRAINER, destination, inputs)

    async def told(self, id: str) -> str:
        return json.dumps(self.account.runs[id])


def _id(request: web.Request) -> str:
    return f"{request.match_info['owner']}/{request.match_info['name']}"


def _authorize(request: web.Request) -> web.Response | None:
    if request.headers.get("Authorization") == f"Bearer {TOKEN}":
        return None
    detail = "You did not pass a valid authentication token"
    return Refused(401, "Unauthenticated", detail).response()


def _answering(handler: Callable[[web.Request, Any], tuple[int, Any]]) -> Any:
    async def handle(request: web.Request, body: Any) -> web.StreamResponse:
        try:
            status, answer = handler(request, body)
        except Refused as refused:
            return refused.response()
        if answer is None:
            return web.Response(status=status)
        return web.json_response(answer, status=status)

    return handle
