"""The API that manages Hugging Face's Inference Endpoints, v2, as of 2026-11-24.

No official description of it is public. Requests may hold what Hugging Face's own client
(huggingface_hub 2.4.0) sends and nothing else, of the types that it declares; answers have all that
the client reads.
"""

import asyncio
import json
import math
import re
from collections.abc import Callable
from copy import deepcopy
from hashlib import blake2b
from typing import Any, ClassVar

from aiohttp import web
from jsonschema import Draft202012Validator  # type: ignore[import-untyped]  # ships no types
from jsonschema.exceptions import best_match  # type: ignore[import-untyped]  # ships no types

from auterity.providers.huggingface.endpoint import OWNER, HuggingFaceEndpoint
from tests.conformance.vendor import Edit, Refusal
from tests.fakes.server import FakeServer, ServedVendor

JSON = dict[str, Any]
NAMESPACE = "acme"
TOKEN = "hf_kYwQz71fakeFAKEbV3mRs9Xe"
OTHER_TOKEN = "hf_pLnTc48wrongWRONGdF6jGu2Ha"
SHA = "6c0e6080953db56375760c0471a8c5f2929baf11"
DIMENSION = 1024
OTHER_SHA = "11c5a3d5811f50298f278a704980280950aedb10"
HUB = {
    "acme/support-7b": ("text-generation", SHA),
    "acme/support-8b": ("text-generation", OTHER_SHA),
    "ProsusAI/finbert": ("text-classification", SHA),
    "BAAI/bge-m3": ("sentence-similarity", SHA),
}
INSTANCES = {
    ("aws", "us-east-1", "gpu", "nvidia-l4", "x1"),
    ("aws", "us-east-1", "gpu", "nvidia-l4", "x4"),
    ("aws", "us-east-1", "gpu", "nvidia-a10g", "x1"),
    ("aws", "us-east-1", "cpu", "intel-spr", "x2"),
}


def _object(**properties: JSON) -> JSON:
    return {"type": "object", "properties": properties, "additionalProperties": False}


TEXT, NUMBER, BOOLEAN = {"type": "string"}, {"type": "number"}, {"type": "boolean"}
COUNT: JSON = {"type": "integer", "minimum": 0}
TEXTS: JSON = {"type": "array", "items": TEXT}
MAP: JSON = {"type": "object", "additionalProperties": TEXT}
NULLABLE: JSON = {"type": ["string", "null"]}
REQUEST = Draft202012Validator(
    _object(
        name=TEXT,
        type=TEXT,
        provider=_object(vendor=TEXT, region=TEXT),
        compute=_object(
            accelerator=TEXT,
            instanceType=TEXT,
            instanceSize=TEXT,
            scaling=_object(
                minReplica=COUNT,
                maxReplica=COUNT,
                scaleToZeroTimeout={"type": ["integer", "null"]},
                measure=_object(pendingRequests=NUMBER, hardwareUsage=NUMBER),
            ),
        ),
        model=_object(
            repository=TEXT,
            framework=TEXT,
            revision=NULLABLE,
            task=TEXT,
            image={"type": "object", "minProperties": 1, "maxProperties": 1},
            command=TEXTS,
            args=TEXTS,
            env=MAP,
            secrets=MAP,
        ),
        route=_object(domain=NULLABLE, path=NULLABLE),
        privateService=_object(accountId=TEXT, region=TEXT),
        cacheHttpResponses=BOOLEAN,
        tags=TEXTS,
    )
)
"""What a request may hold."""
IMAGES = {
    "custom": {"url", "port", "healthRoute", "credentials"},
    "vLLM": {"url", "port", "healthRoute", "tensorParallelSize", "dataParallelSize"},
    "sGLang": {"url", "port", "healthRoute", "tensorParallelSize"},
    "tgi": {"url", "port", "healthRoute"},
    "tei": {"url", "port", "healthRoute"},
    "llamacpp": {"url", "port", "healthRoute"},
}


class Refused(Exception):  # noqa: N818 - named like the engine's failures
    """An error answer."""

    def __init__(self, status: int, error: str) -> None:
        super().__init__(error)
        self.status, self.error = status, error

    def response(self) -> web.Response:
        return web.json_response({"error": self.error}, status=self.status)


class Endpoints:
    """The endpoints of one namespace."""

    def __init__(self) -> None:
        self.server = FakeServer(base_path="/v2")
        self.server.authorize = _authorize
        self.violations: list[str] = []
        one = "/endpoint/{namespace}/{name}"
        for method, path, handler in (
            ("GET", "/endpoint/{namespace}", self._list),
            ("POST", "/endpoint/{namespace}", self._create),
            ("GET", one, self._get),
            ("PUT", one, self._update),
            ("DELETE", one, self._delete),
            ("POST", f"{one}/pause", self._pause),
            ("POST", f"{one}/resume", self._resume),
        ):
            self.server.route(method, path, self._answering(handler))
        for method in ("GET", "POST"):
            # The endpoint itself; it stands elsewhere at Hugging Face.
            self.server.route(method, "/serving/{name}{path:.*}", self._serve)
        self.reset()

    def reset(self) -> None:
        self.slow = False
        self.endpoints: dict[str, JSON] = {}
        self.secrets: dict[str, dict[str, str]] = {}
        self.quota = 100
        self.fails: str | None = None
        """Why the next deployment fails, if it does."""

    def settle(self) -> None:
        """Finish everything that is under way."""
        for endpoint in self.endpoints.values():
            self.finish(endpoint)

    def finish(self, endpoint: JSON) -> None:
        """The end of a deployment."""
        status = endpoint["status"]
        if status["state"] not in ("pending", "initializing", "updating"):
            return
        if self.fails is not None:
            failed = "updateFailed" if status["state"] == "updating" else "failed"
            status |= {"state": failed, "message": self.fails}
            self.fails = None
            return
        replicas = endpoint["compute"]["scaling"]["minReplica"]
        status |= {"state": "running", "message": "Endpoint is ready", "readyReplica": replicas}
        status["url"] = f"{self.server.url}/serving/{endpoint['name']}"

    def make(self, body: JSON) -> JSON:
        """An endpoint as the API makes it. Raises Refused."""
        name = body["name"]
        if not re.fullmatch(r"[a-z0-9]([-a-z0-9]{0,30}[a-z0-9])?", name):
            raise Refused(400, f"Invalid endpoint name: {name}")
        if name in self.endpoints:
            raise Refused(409, f"Endpoint {name} already exists")
        if len(self.endpoints) >= self.quota:
            raise Refused(403, "Quota exceeded: your namespace has no nvidia-l4 left")
        if body["type"] not in ("authenticated", "public", "private"):
            raise Refused(400, f"unknown variant {body['type']}")
        endpoint: JSON = {
            "name": name,
            "type": body["type"],
            "accountId": None,
            "provider": body["provider"],
            "healthRoute": "/health",
            "status": {
                "state": "pending",
                "message": "Endpoint is pending",
                "readyReplica": 0,
                "targetReplica": body["compute"]["scaling"]["minReplica"],
                "createdAt": "2026-11-24T12:00:00.000Z",
                "createdBy": {"id": "u1", "name": "ci"},
                "updatedAt": "2026-11-24T12:00:00.000Z",
                "updatedBy": {"id": "u1", "name": "ci"},
                "private": None,
            },
            "cacheHttpResponses": False,
            "tags": [],
            "compute": {"scaling": {}},
            "model": {"env": {}},
        }
        if "privateService" in body:
            endpoint["privateService"] = body["privateService"]
        self._set(endpoint, body)
        self.endpoints[name] = endpoint
        if not self.slow:
            self.finish(endpoint)
        return endpoint

    def change(self, name: str, body: JSON) -> JSON:
        """An endpoint with changes. Raises Refused."""
        endpoint = self._found(name)
        if fixed := {"name", "type", "provider", "privateService"} & body.keys():
            raise Refused(400, f"cannot change {', '.join(sorted(fixed))}")
        changed = deepcopy(endpoint)
        self._set(changed, body)
        self.endpoints[name] = changed
        if {"compute", "model"} & body.keys() and changed["status"]["state"] != "paused":
            changed["status"] |= {"state": "updating", "message": "Endpoint is updating"}
            if not self.slow:
                self.finish(changed)
        return changed

    def _set(self, endpoint: JSON, body: JSON) -> None:
        compute = deepcopy(body.get("compute", {}))
        scaling = endpoint["compute"]["scaling"] | compute.pop("scaling", {})
        if scaling["minReplica"] > scaling["maxReplica"]:
            raise Refused(400, "minReplica must not be greater than maxReplica")
        endpoint["compute"] = {**endpoint["compute"], **compute, "scaling": scaling}
        scaling.setdefault("scaleToZeroTimeout", None)
        scaling.setdefault("measure", {"hardwareUsage": 80})
        self._check_instance(endpoint)
        model = deepcopy(body.get("model", {}))
        if "secrets" in model:
            self.secrets[endpoint["name"]] = model.pop("secrets")
        if "image" in model:
            model["image"] = _image(model["image"])
        endpoint["model"] = {**endpoint["model"], **model}
        self._resolve(endpoint["model"])
        if "route" in body:
            endpoint["route"] = {**endpoint.get("route", {}), **body["route"]}
        for name in ("cacheHttpResponses", "tags"):
            if name in body:
                endpoint[name] = body[name]

    def _check_instance(self, endpoint: JSON) -> None:
        provider, compute = endpoint["provider"], endpoint["compute"]
        instance = (
            *(provider["vendor"], provider["region"], compute["accelerator"]),
            *(compute["instanceType"], compute["instanceSize"]),
        )
        if instance not in INSTANCES:
            raise Refused(400, f"Instance compute '{' - '.join(instance)}' not found")

    def _resolve(self, model: JSON) -> None:
        """What the Hub knows of a model."""
        if (known := HUB.get(model["repository"])) is None:
            raise Refused(400, f"Repository {model['repository']} not found or not accessible")
        task, head = known
        model.setdefault("task", task)
        model["revision"] = model.get("revision") or head

    def _found(self, name: str) -> JSON:
        if name not in self.endpoints:
            raise Refused(404, f"Endpoint {name} not found")
        return self.endpoints[name]

    def _answering(self, handler: Callable[[str, Any], tuple[int, Any]]) -> Any:
        async def handle(request: web.Request, body: Any) -> web.StreamResponse:
            if request.match_info["namespace"] != NAMESPACE:
                return Refused(401, "You are not a member of this organization").response()
            if body is not None and (error := best_match(REQUEST.iter_errors(body))) is not None:
                self.violations.append(error.message)
                return Refused(400, error.message).response()
            try:
                status, answer = handler(request.match_info.get("name", ""), body)
            except Refused as refused:
                return refused.response()
            return web.json_response(answer, status=status)

        return handle

    def _list(self, _: str, __: Any) -> tuple[int, Any]:
        return 200, {"items": list(self.endpoints.values())}

    def _create(self, _: str, body: JSON) -> tuple[int, Any]:
        return 202, self.make(body)

    def _get(self, name: str, _: Any) -> tuple[int, Any]:
        return 200, self._found(name)

    def _update(self, name: str, body: JSON) -> tuple[int, Any]:
        return 200, self.change(name, body)

    def _delete(self, name: str, _: Any) -> tuple[int, Any]:
        self._found(name)
        del self.endpoints[name]
        self.secrets.pop(name, None)
        return 202, {}

    def _pause(self, name: str, _: Any) -> tuple[int, Any]:
        status = self._found(name)["status"]
        status |= {"state": "paused", "message": "Endpoint is paused", "readyReplica": 0}
        status.pop("url", None)
        return 200, self.endpoints[name]

    def _resume(self, name: str, _: Any) -> tuple[int, Any]:
        endpoint = self._found(name)
        if endpoint["status"]["state"] == "running":
            raise Refused(400, "Endpoint is already running")
        endpoint["status"] |= {"state": "initializing", "message": "Endpoint is initializing"}
        if not self.slow:
            self.finish(endpoint)
        return 200, endpoint

    async def _serve(self, request: web.Request, body: Any) -> web.StreamResponse:
        endpoint = self.endpoints[request.match_info["name"]]
        if endpoint["status"]["state"] == "scaledToZero":
            return web.json_response({"error": "503 Service Unavailable"}, status=503)
        if request.match_info["path"] == "/embed" and "tei" in endpoint["model"].get("image", {}):
            return web.json_response([vector(text) for text in body["inputs"]])
        return web.json_response({"path": request.match_info["path"], "got": body})


def vector(text: str) -> list[float]:
    """What a played model makes of a text: its words, hashed, so that texts that share words are
    near to each other."""
    found = [0.0] * DIMENSION
    for word in re.findall(r"\w{4,}", text.lower()):
        hashed = int.from_bytes(blake2b(word.encode(), digest_size=8).digest())
        found[hashed % DIMENSION] += 1.0
    length = math.hypot(*found)
    return [value / length for value in found] if length else [1.0, *found[1:]]


class HuggingFace(ServedVendor):
    provider = HuggingFaceEndpoint
    spec: ClassVar[JSON] = {
        "model": {"name": "acme/support-7b", "image": "vllm/vllm-openai:v0.23.0"},
        "hardware": "nvidia-l4",
        "scaling": {
            "min": 0,
            "max": 2,
            "toZeroAfter": "15m",
            "target": {"metric": "ConcurrentRequests", "value": 2},
        },
        "environment": [
            {"name": "MAX_TOKENS", "value": "1512"},
            {"name": "LOG_LEVEL", "value": "info"},
            {"name": "HF_TOKEN", "secretKeyRef": {"name": "model", "key": "token"}},
        ],
        "huggingFace": {
            "cloud": "aws",
            "region": "us-east-1",
            "accelerator": "gpu",
            "instanceSize": "x1",
            "container": {
                "engine": "custom",
                "port": 8000,
                "healthRoute": "/health",
                "registry": {
                    "username": "acme",
                    "password": {"secretKeyRef": {"name": "registry", "key": "password"}},
                },
            },
            "args": ["--max-model-len", "4096"],
            "tags": ["support"],
        },
    }
    edits = (
        Edit("another model", {"model": {"name": "acme/support-8b"}}),
        Edit("a pinned commit", {"model": {"version": OTHER_SHA}}),
        Edit("another image", {"model": {"image": "vllm/vllm-openai:v0.24.0"}}),
        Edit("another engine", {"huggingFace": {"container": {"engine": "vLLM"}}}),
        Edit("other hardware", {"hardware": "nvidia-a10g"}),
        Edit("a larger instance", {"huggingFace": {"instanceSize": "x4"}}),
        Edit("never to zero", {"scaling": {"min": 1, "toZeroAfter": None}}),
        Edit("later to zero", {"scaling": {"toZeroAfter": "1h"}}),
        Edit("more replicas", {"scaling": {"max": 4}}),
        Edit(
            "scaled by use",
            {"scaling": {"target": {"metric": "AcceleratorUtilization", "value": 70}}},
        ),
        Edit("a variable removed", {"environment": [{"name": "MAX_TOKENS", "value": "1512"}]}),
        Edit(
            "variables changed and added",
            {
                "environment": [
                    {"name": "MAX_TOKENS", "value": "4096"},
                    {"name": "WORKERS", "value": "2"},
                    {"name": "HF_TOKEN", "secretKeyRef": {"name": "model", "key": "token"}},
                    {"name": "API_KEY", "secretKeyRef": {"name": "model", "key": "key"}},
                ]
            },
        ),
        Edit("other arguments", {"huggingFace": {"args": ["--max-model-len", "8192"]}}),
        Edit("a command", {"huggingFace": {"command": ["vllm", "serve"]}}),
        Edit("a task", {"huggingFace": {"task": "feature-extraction"}}),
        Edit("a framework", {"huggingFace": {"framework": "custom"}}),
        Edit("an address", {"huggingFace": {"domain": "models.example.com", "path": "/support"}}),
        Edit("answers cached", {"huggingFace": {"cacheHttpResponses": True}}),
        Edit("other tags", {"huggingFace": {"tags": ["support", "prod"]}}),
        Edit("paused", {"huggingFace": {"paused": True}}),
    )
    immutable: ClassVar[JSON] = {"huggingFace": {"region": "eu-west-1"}}
    refusal = Refusal({"hardware": "nvidia-h100"}, "nvidia-h100 - x1' not found")
    secrets: ClassVar[dict[str, dict[str, str]]] = {
        "huggingface": {"token": TOKEN},
        "model": {"token": "hf_Jt5modelMODEL2vQ8", "key": "sk-Ux93modelKEYp07w"},
        "registry": {"password": "dckr_pat_Yb62registryREG"},
    }
    wrong_secrets: ClassVar[dict[str, dict[str, str]]] = {"huggingface": {"token": OTHER_TOKEN}}
    rotated_secrets: ClassVar[dict[str, dict[str, str]]] = {
        "model": {"token": "hf_Rn8rotatedROT4kD1"},
        "registry": {"password": "dckr_pat_Mz41rotatedROT"},
    }
    has_pending = True

    def __init__(self) -> None:
        self.api = Endpoints()
        super().__init__(self.api.server, self.api)

    @property
    def violations(self) -> list[str]:
        return self.api.violations

    async def reset(self) -> None:
        self.api.reset()

    def connection(self, endpoint: str | None) -> JSON:
        token = {"secretKeyRef": {"name": "huggingface", "key": "token"}}
        return {"endpoint": endpoint, "namespace": NAMESPACE, "token": token}

    async def count(self) -> int:
        return len(self.api.endpoints)

    async def tamper(self, id: str) -> str:
        env = {**self.api.endpoints[id]["model"]["env"], "LOG_LEVEL": "debug"}
        self.api.change(id, {"model": {"env": env}})
        return "environment.LOG_LEVEL"

    async def vanish(self, id: str) -> None:
        del self.api.endpoints[id]

    async def foreign(self, spec: JSON, name: str, owner: str | None) -> None:
        own = spec["huggingFace"]
        self.api.make(
            {
                "name": name,
                "type": "authenticated",
                "provider": {"vendor": own["cloud"], "region": own["region"]},
                "compute": {
                    "accelerator": own["accelerator"],
                    "instanceType": spec["hardware"],
                    "instanceSize": own["instanceSize"],
                    "scaling": {"minReplica": 1, "maxReplica": 1},
                },
                "model": {
                    "repository": spec["model"]["name"],
                    "framework": "pytorch",
                    "image": {"huggingface": {}},
                },
                "tags": ["by-hand", *([f"{OWNER}{owner}"] if owner else [])],
            }
        )

    async def settle(self) -> None:
        await asyncio.sleep(0)
        if not self.slow:
            self.api.settle()

    async def told(self, id: str) -> str:
        return json.dumps([self.api.endpoints[id], self.api.secrets.get(id)])


def _image(union: JSON) -> JSON:
    """What is kept of an image: Hugging Face drops what the engine does not know."""
    ((engine, image),) = union.items()
    if engine == "huggingface":
        return {engine: {}}
    if engine not in IMAGES:
        raise Refused(400, f"unknown variant `{engine}`, expected one of {', '.join(IMAGES)}")
    if not image.get("url"):
        raise Refused(400, "missing field `url`")
    defaults = {"port": 80, "healthRoute": "/health"}
    return {engine: {**defaults, **{k: v for k, v in image.items() if k in IMAGES[engine]}}}


def _authorize(request: web.Request) -> web.Response | None:
    if request.headers.get("Authorization") == f"Bearer {TOKEN}":
        return None
    return Refused(401, "Invalid credentials in Authorization header").response()
