"""Pinecone's control plane as of API 2026-07 (spoken by its SDK 10.2), checked 2026-11-24.

No official description of 2026-07 is public. Requests without a body (GET, DELETE) are held
against the description of 2026-04. Bodies are held against 2026-01.alpha, the closest public
ancestor of their shape, all but one part that it does not have: `embed` of a string field.
Answers are in the shape that the SDK decodes strictly.
"""

import asyncio
import json
import re
from copy import deepcopy
from typing import Any, ClassVar

from aiohttp import web

from auterity.providers.pinecone import OWNER, PineconeIndex
from tests.conformance.vendor import Edit, Refusal
from tests.contract.openapi import Description, Violation
from tests.fakes.server import FakeServer, ServedVendor

JSON = dict[str, Any]
VERSION = "2026-07"
KEY = "pcsk_4mZ8kQvT_fakeFAKE9h2Lw7Rx"
OTHER_KEY = "pcsk_7bN1xWcE_wrongWRONG3d5Yt"
PROJECT = "k3x9qz1"
REGIONS = {
    "aws": {"us-east-1": "aped-4627-b74a", "us-west-2": "apw5-4e34-81fa", "eu-west-1": "apu-57e2"},
    "gcp": {"us-central1": "gcp-8a2b", "europe-west4": "gcp-91d0"},
    "azure": {"eastus2": "azr-77c1"},
}
METRICS = ("cosine", "euclidean", "dotproduct")
MODELS = {"llama-text-embed-v2": (384, 512, 768, 1024, 2048), "multilingual-e5-large": (1024,)}
QUOTA = "This project has reached its maximum of {} serverless indexes. Upgrade or delete some."


class Refused(Exception):  # noqa: N818 - named like the engine's failures
    """An error answer."""

    def __init__(self, status: int, code: str, message: str) -> None:
        super().__init__(message)
        self.status, self.code, self.message = status, code, message

    def response(self) -> web.Response:
        error = {"code": self.code, "message": self.message}
        return web.json_response({"error": error, "status": self.status}, status=self.status)


class Descriptions(Description):
    """The description of 2026-01.alpha for what has a body, that of 2026-04 for all else."""

    bodiless: Description

    @classmethod
    def of_pinecone(cls) -> "Descriptions | None":
        bodies = cls.load("pinecone-control-2026-01.alpha.openapi.json")
        bodiless = Description.load("pinecone-control-2026-04.openapi.json")
        if bodies is None or bodiless is None:
            return None
        bodies.bodiless = bodiless
        return bodies

    def check(self, method: str, path: str, *, body: Any, **request: Any) -> Violation | None:
        if body is None:
            return self.bodiless.check(method, path, body=None, **request)
        body = deepcopy(body)
        for field in body.get("schema", {}).get("fields", {}).values():
            field.pop("embed", None)
        return super().check(method, path, body=body, **request)


class PineconeProject:
    """The indexes of one project, behind their API."""

    def __init__(self) -> None:
        self.indexes: dict[str, JSON] = {}
        self.slow = False
        self.quota = 10_000
        self.server = FakeServer(Descriptions.of_pinecone())
        self.server.authorize = self._authorize
        for method, path, handler in (
            ("GET", "/indexes", self._list),
            ("POST", "/indexes", self._create),
            ("GET", "/indexes/{name}", self._describe),
            ("PATCH", "/indexes/{name}", self._configure),
            ("DELETE", "/indexes/{name}", self._delete),
        ):
            self.server.route(method, path, self._answering(handler))

    def settle(self) -> None:
        """Finish everything that is under way."""
        for name, index in list(self.indexes.items()):
            if index["status"]["state"] == "Terminating":
                del self.indexes[name]
            else:
                self._finish(index)

    def make(self, body: JSON) -> JSON:
        """An index as the API makes it. Raises Refused."""
        name = body.get("name", "")
        if not re.fullmatch(r"[a-z0-9]([a-z0-9-]{0,43}[a-z0-9])?", name):
            raise Refused(
                400,
                "INVALID_ARGUMENT",
                "Index name must be 1-45 lower case alphanumeric characters or hyphens, and must "
                "not begin or end with a hyphen.",
            )
        fields = _checked_fields(body["schema"]["fields"])
        deployment = _checked_deployment(body.get("deployment"))
        reads = _checked_reads(body.get("read_capacity"), deployment)
        tags = _checked_tags(body.get("tags") or {})
        protection = _checked_protection(body.get("deletion_protection", "disabled"))
        if name in self.indexes:
            # Also while it is Terminating: the name is free when the index is gone.
            raise Refused(409, "ALREADY_EXISTS", "Resource already exists.")
        if len(self.indexes) >= self.quota:
            raise Refused(403, "FORBIDDEN", QUOTA.format(self.quota))
        index: JSON = {
            "name": name,
            "status": {"ready": False, "state": "Initializing"},
            "schema": {"fields": fields},
            "deployment": deployment,
            "deletion_protection": protection,
            "tags": tags or None,
        }
        if reads is not None:
            index["read_capacity"] = {**reads, "status": {"state": "Scaling"}}
        if "cmek_id" in body:
            index["cmek_id"] = body["cmek_id"]
        self.indexes[name] = index
        if not self.slow:
            self._finish(index)
        return index

    def change(self, name: str, body: JSON) -> JSON:
        """An index with changes, as the API makes them. Raises Refused."""
        index = self._found(name)
        if index["status"]["state"] == "Terminating":
            raise Refused(412, "FAILED_PRECONDITION", f"Index {name} is being terminated.")
        if "schema" in body:
            raise Refused(400, "INVALID_ARGUMENT", "The schema of this index cannot be changed.")
        changed = deepcopy(index)
        if "deletion_protection" in body:
            changed["deletion_protection"] = _checked_protection(body["deletion_protection"])
        if "tags" in body:
            merged = {**(index["tags"] or {}), **body["tags"]}
            changed["tags"] = _checked_tags({k: v for k, v in merged.items() if v != ""}) or None
        if "read_capacity" in body:
            reads = _checked_reads(body["read_capacity"], index["deployment"])
            changed["read_capacity"] = {**(reads or {}), "status": {"state": "Scaling"}}
        if "deployment" in body:
            self._scale(changed, body["deployment"])
        self.indexes[name] = changed
        if not self.slow:
            self._finish(changed)
        return changed

    def _scale(self, index: JSON, wanted: JSON) -> None:
        pods = index["deployment"]
        if pods["deployment_type"] != "pod":
            raise Refused(400, "INVALID_ARGUMENT", "Only pod-based indexes can be scaled.")
        before, after = pods["pod_type"], wanted.get("pod_type", pods["pod_type"])
        if before.split(".")[0] != after.split(".")[0] or _size(after) < _size(before):
            raise Refused(
                400, "INVALID_ARGUMENT", f"Cannot change the pod type from {before} to {after}."
            )
        up = wanted.get("replicas", 1) >= pods["replicas"]
        state = "ScalingUpPodSize" if after != before else "ScalingUp" if up else "ScalingDown"
        index["status"] = {"ready": True, "state": state}
        pods.update(wanted)

    def _finish(self, index: JSON) -> None:
        index["status"] = {"ready": True, "state": "Ready"}
        deployment = index["deployment"]
        cell = deployment["environment"]
        index["host"] = f"{index['name']}-{PROJECT}.svc.{cell}.pinecone.io"
        if "read_capacity" in index:
            reads = index["read_capacity"]
            manual = reads.get("dedicated", {}).get("manual", {})
            reads["status"] = {"state": "Ready", **{f"current_{k}": v for k, v in manual.items()}}

    def _found(self, name: str) -> JSON:
        if name not in self.indexes:
            raise Refused(404, "NOT_FOUND", f"Resource {name} not found")
        return self.indexes[name]

    def _authorize(self, request: web.Request) -> web.Response | None:
        if request.headers.get("Api-Key") != KEY:
            return Refused(401, "UNAUTHENTICATED", "Invalid API key.").response()
        if request.headers.get("X-Pinecone-Api-Version") != VERSION:
            message = f"This server speaks version {VERSION}."
            return Refused(400, "INVALID_ARGUMENT", message).response()
        return None

    def _answering(self, handler: Any) -> Any:
        async def handle(request: web.Request, body: Any) -> web.StreamResponse:
            try:
                status, answer = handler(request.match_info.get("name", ""), body)
            except Refused as refused:
                response = refused.response()
            else:
                response = web.json_response(answer, status=status)
            response.headers["x-pinecone-request-id"] = f"r{len(self.server.requests)}"
            return response

        return handle

    def _list(self, _: str, __: Any) -> tuple[int, JSON]:
        return 200, {"indexes": list(self.indexes.values())}

    def _create(self, _: str, body: Any) -> tuple[int, JSON]:
        return 201, self.make(body)

    def _describe(self, name: str, _: Any) -> tuple[int, JSON]:
        return 200, self._found(name)

    def _configure(self, name: str, body: Any) -> tuple[int, JSON]:
        return 202, self.change(name, body)

    def _delete(self, name: str, _: Any) -> tuple[int, JSON]:
        index = self._found(name)
        if index["deletion_protection"] == "enabled":
            raise Refused(
                403,
                "FORBIDDEN",
                "Deletion protection is enabled for this index. "
                "Disable deletion protection before retrying.",
            )
        index["status"] = {"ready": False, "state": "Terminating"}
        if not self.slow:
            del self.indexes[name]
        return 202, {}


class Pinecone(ServedVendor):
    provider = PineconeIndex
    spec: ClassVar[JSON] = {
        "dimension": 1024,
        "metric": "dotProduct",
        "pinecone": {
            "cloud": "aws",
            "region": "us-east-1",
            "sparse": True,
            "readCapacity": {"mode": "OnDemand"},
            "tags": {"team": "search", "stage": "prod"},
        },
    }
    edits = (
        Edit("a tag changed", {"pinecone": {"tags": {"team": "ranking"}}}),
        Edit("a tag added", {"pinecone": {"tags": {"cost-centre": "42"}}}),
        Edit("a tag removed", {"pinecone": {"tags": {"stage": None}}}),
        Edit("protection lifted", {"pinecone": {"deletionProtection": "disabled"}}),
        Edit(
            "dedicated nodes",
            {
                "pinecone": {
                    "readCapacity": {
                        "mode": "Dedicated",
                        "nodeType": "b1",
                        "shards": 1,
                        "replicas": 2,
                    }
                }
            },
        ),
    )
    immutable: ClassVar[JSON] = {"dimension": 768}
    refusal = Refusal(
        {"pinecone": {"region": "atlantis-1"}}, "Resource cloud: aws region: atlantis-1 not found"
    )
    secrets: ClassVar[dict[str, dict[str, str]]] = {"pinecone": {"apiKey": KEY}}
    wrong_secrets: ClassVar[dict[str, dict[str, str]]] = {"pinecone": {"apiKey": OTHER_KEY}}
    has_pending = True

    def __init__(self) -> None:
        self.project = PineconeProject()
        super().__init__(self.project.server, self.project)

    async def reset(self) -> None:
        self.project.indexes.clear()
        self.slow = False

    def connection(self, endpoint: str | None) -> JSON:
        return {
            "endpoint": endpoint,
            "apiKey": {"secretKeyRef": {"name": "pinecone", "key": "apiKey"}},
        }

    async def count(self) -> int:
        return len(self.project.indexes)

    async def tamper(self, id: str) -> str:
        self.project.change(id, {"tags": {"team": "somebody-else"}})
        return "tags.team"

    async def vanish(self, id: str) -> None:
        del self.project.indexes[id]

    async def foreign(self, spec: JSON, name: str, owner: str | None) -> None:
        body = {
            "name": name,
            "schema": {
                "fields": {
                    "_values": {
                        "type": "dense_vector",
                        "dimension": spec["dimension"],
                        "metric": spec["metric"].lower(),
                    },
                    "_sparse_values": {"type": "sparse_vector"},
                }
            },
            "deployment": {
                "deployment_type": "managed",
                "cloud": spec["pinecone"]["cloud"],
                "region": spec["pinecone"]["region"],
            },
            "tags": {"made-by": "hand"},
        }
        if owner is not None:
            body["tags"][OWNER] = owner.replace("/", ";")
        self.project.make(body)

    async def settle(self) -> None:
        await asyncio.sleep(0)
        if not self.slow:
            self.project.settle()

    async def told(self, id: str) -> str:
        return json.dumps(self.project.indexes[id])


def _checked_fields(fields: JSON) -> JSON:
    kinds = [field["type"] for field in fields.values()]
    if not fields or kinds.count("sparse_vector") > 1:
        raise Refused(400, "INVALID_ARGUMENT", "Declare one vector field of each type at most.")
    dense = [f for f in fields.values() if f["type"] == "dense_vector" or f.get("embed")]
    if len(dense) > 1:
        raise Refused(400, "INVALID_ARGUMENT", "An index has one dense vector field.")
    told = {}
    for name, field in fields.items():
        told[name] = {"description": None, **deepcopy(field)}
        if field["type"] == "dense_vector":
            _check_dense(field)
        elif field["type"] == "string":
            embed = field.get("embed")
            if embed is None and "full_text_search" not in field:
                raise Refused(400, "INVALID_ARGUMENT", f"Field {name} declares no search.")
            if embed is not None:
                _check_dense(embed)
                if embed["dimension"] not in MODELS.get(embed["model"], ()):
                    raise Refused(
                        400,
                        "INVALID_ARGUMENT",
                        f"Model {embed['model']} has no dimension {embed['dimension']}.",
                    )
            default = {"language": "en", "stemming": False, "stop_words": False}
            told[name].update({"filterable": False, "full_text_search": default})
        elif field["type"] != "sparse_vector":
            raise Refused(400, "INVALID_ARGUMENT", f"Fields of type {field['type']} are implied.")
    return told


def _check_dense(field: JSON) -> None:
    if not 1 <= field["dimension"] <= 20_000:
        raise Refused(
            400, "INVALID_ARGUMENT", "Vector dimension must be between 1 and 20000 (inclusive)."
        )
    if field["metric"] not in METRICS:
        raise Refused(400, "INVALID_ARGUMENT", f"Metric must be one of {', '.join(METRICS)}.")


def _checked_deployment(wanted: JSON | None) -> JSON:
    deployment = wanted or {"deployment_type": "managed", "cloud": "aws", "region": "us-east-1"}
    match deployment["deployment_type"]:
        case "managed":
            cloud, region = deployment["cloud"], deployment["region"]
            if region not in REGIONS.get(cloud, {}):
                raise Refused(
                    404, "NOT_FOUND", f"Resource cloud: {cloud} region: {region} not found."
                )
            return {**deployment, "environment": REGIONS[cloud][region]}
        case "pod":
            if not {"environment", "pod_type", "replicas", "shards"} <= deployment.keys():
                raise Refused(422, "UNPROCESSABLE_ENTITY", "missing field of the pod deployment")
            _size(deployment["pod_type"])
    return dict(deployment)


def _size(pod_type: str) -> int:
    match = re.fullmatch(r"(s1|p1|p2)\.x(1|2|4|8)", pod_type)
    if match is None:
        raise Refused(400, "INVALID_ARGUMENT", f"Invalid pod type {pod_type}.")
    return int(match[2])


def _checked_reads(wanted: JSON | None, deployment: JSON) -> JSON | None:
    if deployment["deployment_type"] == "pod":
        if wanted is not None:
            raise Refused(400, "INVALID_ARGUMENT", "Pod-based indexes have no read capacity.")
        return None
    reads = deepcopy(wanted) if wanted else {"mode": "OnDemand"}
    if reads["mode"] == "Dedicated":
        nodes = reads["dedicated"]
        if nodes.get("node_type") not in ("b1", "t1") or nodes.get("scaling") != "Manual":
            raise Refused(400, "INVALID_ARGUMENT", "Invalid dedicated read capacity.")
        if not {"shards", "replicas"} <= nodes.get("manual", {}).keys():
            raise Refused(422, "UNPROCESSABLE_ENTITY", "missing field `manual`")
    return reads


def _checked_tags(tags: JSON) -> JSON:
    if len(tags) > 20:
        raise Refused(400, "INVALID_ARGUMENT", "An index has at most 20 tags.")
    for key, value in tags.items():
        # The narrower alphabet of values, that of 2026-04: 2026-07 is said to take all of ASCII.
        if not re.fullmatch(r"[A-Za-z0-9_-]{1,80}", key):
            raise Refused(400, "INVALID_ARGUMENT", f"Invalid tag key {key!r}.")
        if not re.fullmatch(r"[A-Za-z0-9;@_.+ -]{0,120}", value):
            raise Refused(400, "INVALID_ARGUMENT", f"Invalid value of tag {key!r}.")
    return dict(tags)


def _checked_protection(value: str) -> str:
    if value not in ("enabled", "disabled"):
        raise Refused(400, "INVALID_ARGUMENT", "deletion_protection is enabled or disabled.")
    return value
