"""Qdrant's REST interface as of 1.19, one node, checked 2026-11-24.

Every request, and every answer with success, is held against the official description. What that
does not tell (wording of refusals, what a PATCH keeps) is as in the server's source.
"""

import json
from copy import deepcopy
from typing import Any, ClassVar

from aiohttp import web
from openapi_schema_validator import OAS30Validator

from auterity.providers.qdrant.index import QdrantIndex
from auterity.providers.qdrant.params import OWNER, VECTOR
from tests.conformance.vendor import Edit, Refusal
from tests.contract.openapi import Description, Violation
from tests.fakes.server import FakeServer, ServedVendor

JSON = dict[str, Any]
KEY = "qk-3fT9wLm2_fakeFAKE8xYb5Zc"
OTHER_KEY = "qk-7dR1vNs4_wrongWRONG6hJp0"
FORBIDDEN = '<>:"/\\|?*\0\x1f'
HNSW = {"m": 16, "ef_construct": 100, "full_scan_threshold": 10000, "max_indexing_threads": 0}
OPTIMIZER = {
    "deleted_threshold": 0.2,
    "vacuum_min_vector_number": 1000,
    "default_segment_number": 0,
    "max_segment_size": None,
    "memmap_threshold": None,
    "indexing_threshold": 10000,
    "flush_interval_sec": 5,
    "max_optimization_threads": None,
}
WAL = {"wal_capacity_mb": 32, "wal_segments_ahead": 0, "wal_retain_closed": 1}


class Refused(Exception):  # noqa: N818 - named like the engine's failures
    """An error answer."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status, self.message = status, message


class QdrantNode:
    """The collections of one node, behind their API."""

    def __init__(self) -> None:
        self.collections: dict[str, JSON] = {}
        self.aliases: dict[str, str] = {}
        self.description = Description.load("qdrant.openapi.json")
        self.server = FakeServer(self.description)
        self.server.authorize = self._authorize
        self.calls = 0
        for method, path, handler in (
            ("GET", "/collections", self._list),
            ("GET", "/collections/{collection_name}", self._get),
            ("PUT", "/collections/{collection_name}", self._create),
            ("PATCH", "/collections/{collection_name}", self._update),
            ("DELETE", "/collections/{collection_name}", self._delete),
            ("PUT", "/collections/{collection_name}/index", self._create_index),
            ("DELETE", "/collections/{collection_name}/index/{field_name}", self._delete_index),
        ):
            self.server.route(method, path, self._answering(method, path, handler))

    def make(self, name: str, body: JSON) -> None:
        """A collection as the API makes it. Raises Refused."""
        if bad := next((char for char in FORBIDDEN if char in name), None):
            message = f'[name: collection name cannot contain "{bad}" char]'
            raise Refused(422, f"Validation error in path parameters: {message}")
        if name in self.collections:
            raise Refused(409, f"Wrong input: Collection `{name}` already exists!")
        vectors = deepcopy(body.get("vectors") or {})
        for place, vector in _named(vectors).items():
            if not 1 <= vector["size"] <= 65536:
                where = f"vectors.{place}.size" if place else "vectors.size"
                problem = f"[{where}: value {vector['size']} invalid, must be from 1 to 65536]"
                raise Refused(422, f"Validation error in JSON body: {problem}")
        params = {
            "vectors": vectors,
            "shard_number": body.get("shard_number", 1),
            "replication_factor": body.get("replication_factor", 1),
            "write_consistency_factor": body.get("write_consistency_factor", 1),
            "on_disk_payload": body.get("on_disk_payload", True),
        }
        for name_ in ("sharding_method", "sparse_vectors"):
            if body.get(name_):
                params[name_] = deepcopy(body[name_])
        config = {
            "params": params,
            "hnsw_config": {**HNSW, **body.get("hnsw_config", {})},
            "optimizer_config": {**OPTIMIZER, **body.get("optimizers_config", {})},
            "wal_config": {**WAL, **body.get("wal_config", {})},
            "quantization_config": deepcopy(body.get("quantization_config")),
            "strict_mode_config": {"enabled": False, **body.get("strict_mode_config", {})},
        }
        if body.get("metadata"):
            config["metadata"] = deepcopy(body["metadata"])
        self.collections[name] = {
            "status": "green",
            "optimizer_status": "ok",
            "indexed_vectors_count": 0,
            "points_count": 0,
            "segments_count": 8,
            "config": config,
            "payload_schema": {},
        }

    def change(self, name: str, body: JSON) -> None:
        """Change a collection as the API does. Raises Refused."""
        config = self._found(name)["config"]
        vectors = _named(config["params"]["vectors"])
        for vector, changes in body.get("vectors", {}).items():
            if vector not in vectors:
                raise Refused(400, f"Wrong input: Not existing vector name error: {vector}")
            vectors[vector].update(changes)
        config["params"].update(body.get("params", {}))
        config["hnsw_config"].update(body.get("hnsw_config", {}))
        config["optimizer_config"].update(body.get("optimizers_config", {}))
        config["strict_mode_config"].update(body.get("strict_mode_config", {}))
        if (quantization := body.get("quantization_config")) is not None:
            config["quantization_config"] = None if quantization == "Disabled" else quantization
        notes = {**config.get("metadata", {}), **body.get("metadata", {})}
        config["metadata"] = {key: value for key, value in notes.items() if value is not None}

    def _found(self, name: str) -> JSON:
        name = self.aliases.get(name, name)
        if name not in self.collections:
            raise Refused(404, f"Not found: Collection `{name}` doesn't exist!")
        return self.collections[name]

    def _authorize(self, request: web.Request) -> web.Response | None:
        key = request.headers.get("api-key")
        if key == KEY:
            return None
        text = "Invalid API key or JWT" if key else "Must provide an API key or an Authorization"
        return web.Response(text=text, status=401)

    def _answering(self, method: str, path: str, handler: Any) -> Any:
        async def handle(request: web.Request, body: Any) -> web.StreamResponse:
            self.calls += 1
            time = self.calls / 1_000_000
            try:
                result = handler(dict(request.match_info), body)
            except Refused as refused:
                answer = {"status": {"error": refused.message}, "time": time}
                return web.json_response(answer, status=refused.status)
            answer = {"result": result, "status": "ok", "time": time}
            self._check(method, path, answer)
            return web.json_response(answer)

        return handle

    def _check(self, method: str, path: str, answer: JSON) -> None:
        """Hold an answer of our own against the description."""
        if self.description is None:
            return
        document = self.description.document
        content = document["paths"][path][method.lower()]["responses"]["200"]["content"]
        schema = {**content["application/json"]["schema"], "components": document["components"]}
        for error in OAS30Validator(schema).iter_errors(answer):
            self.server.violations.append(Violation(f"answer to {method} {path}", error.message))

    def _list(self, _: JSON, __: Any) -> JSON:
        return {"collections": [{"name": name} for name in self.collections]}

    def _get(self, at: JSON, _: Any) -> JSON:
        return self._found(at["collection_name"])

    def _create(self, at: JSON, body: JSON) -> bool:
        self.make(at["collection_name"], body)
        return True

    def _update(self, at: JSON, body: JSON) -> bool:
        self.change(at["collection_name"], body)
        return True

    def _delete(self, at: JSON, _: Any) -> bool:
        return self.collections.pop(at["collection_name"], None) is not None

    def _create_index(self, at: JSON, body: JSON) -> JSON:
        indexes = self._found(at["collection_name"])["payload_schema"]
        field, schema = body["field_name"], body["field_schema"]
        params = {"type": schema} if isinstance(schema, str) else schema
        index = {"data_type": params["type"], "params": params, "points": 0}
        if indexes.get(field, index) != index:
            raise Refused(400, f"Wrong input: Field {field} is indexed in another way already")
        indexes[field] = index
        return {"operation_id": self.calls, "status": "completed"}

    def _delete_index(self, at: JSON, _: Any) -> JSON:
        self._found(at["collection_name"])["payload_schema"].pop(at["field_name"], None)
        return {"operation_id": self.calls, "status": "completed"}


class Qdrant(ServedVendor):
    provider = QdrantIndex
    spec: ClassVar[JSON] = {
        "dimension": 768,
        "metric": "dotProduct",
        "qdrant": {
            "vectorName": "dense",
            "datatype": "float16",
            "sparseVectors": {"terms": {"modifier": "idf"}},
            "shardNumber": 2,
            "onDisk": True,
            "hnsw": {"m": 24},
            "quantization": {"method": "scalar", "quantile": 0.99, "alwaysRam": True},
            "payloadIndexes": {
                "tenant": {"type": "keyword", "isTenant": True},
                "author.name": {"type": "keyword"},
            },
            "metadata": {"team": "search", "cost-centre": "42"},
        },
    }
    edits = (
        Edit("a note changed", {"qdrant": {"metadata": {"team": "ranking"}}}),
        Edit("a note added", {"qdrant": {"metadata": {"stage": "prod"}}}),
        Edit("a note removed", {"qdrant": {"metadata": {"cost-centre": None}}}),
        Edit("no notes", {"qdrant": {"metadata": None}}),
        Edit("an index added", {"qdrant": {"payloadIndexes": {"author": {"type": "text"}}}}),
        Edit("an index removed", {"qdrant": {"payloadIndexes": {"author.name": None}}}),
        Edit("no indexes", {"qdrant": {"payloadIndexes": None}}),
        Edit(
            "an index of another type",
            {"qdrant": {"payloadIndexes": {"author.name": {"type": "uuid", "onDisk": True}}}},
        ),
        Edit("vectors in memory", {"qdrant": {"onDisk": False}}),
        Edit("payload in memory", {"qdrant": {"onDiskPayload": False}}),
        Edit("another graph", {"qdrant": {"hnsw": {"m": 8, "efConstruct": 256, "onDisk": True}}}),
        Edit(
            "product quantization",
            {
                "qdrant": {
                    "quantization": {"method": "product", "compression": "x16", "quantile": None}
                }
            },
        ),
        Edit(
            "binary quantization",
            {"qdrant": {"quantization": {"method": "binary", "quantile": None}}},
        ),
        Edit(
            "no quantization",
            {"qdrant": {"quantization": {"method": "none", "quantile": None, "alwaysRam": None}}},
        ),
        Edit("segments", {"qdrant": {"optimizers": {"indexingThreshold": 20000}}}),
        Edit("replicas", {"qdrant": {"replicationFactor": 2, "writeConsistencyFactor": 2}}),
        Edit("strict", {"qdrant": {"strictMode": {"enabled": True, "maxQueryLimit": 100}}}),
    )
    immutable: ClassVar[JSON] = {"dimension": 384}
    refusal = Refusal({"externalName": "docs:v2"}, "Qdrant takes up to 255 characters")
    secrets: ClassVar[dict[str, dict[str, str]]] = {"qdrant": {"apiKey": KEY}}
    wrong_secrets: ClassVar[dict[str, dict[str, str]]] = {"qdrant": {"apiKey": OTHER_KEY}}

    def __init__(self) -> None:
        self.node = QdrantNode()
        super().__init__(self.node.server)

    async def reset(self) -> None:
        self.node.collections.clear()

    def connection(self, endpoint: str | None) -> JSON:
        return {
            "endpoint": endpoint,
            "apiKey": {"secretKeyRef": {"name": "qdrant", "key": "apiKey"}},
        }

    async def count(self) -> int:
        """Collections, and the indexes in them."""
        return sum(1 + len(of["payload_schema"]) for of in self.node.collections.values())

    async def tamper(self, id: str) -> str:
        self.node.change(id, {"hnsw_config": {"m": 4}})
        return "hnsw.m"

    async def vanish(self, id: str) -> None:
        del self.node.collections[id]

    async def foreign(self, spec: JSON, name: str, owner: str | None) -> None:
        own = spec["qdrant"]
        vector = {"size": spec["dimension"], "distance": "Dot", "datatype": own["datatype"]}
        body: JSON = {
            "vectors": {own["vectorName"]: vector, "another": {"size": 4, "distance": "Cosine"}},
            "sparse_vectors": own["sparseVectors"],
            "shard_number": own["shardNumber"],
        }
        if owner is not None:
            body["metadata"] = {OWNER: owner, VECTOR: own["vectorName"]}
        self.node.make(name, body)

    async def told(self, id: str) -> str:
        return json.dumps(self.node.collections[id])


def _named(vectors: JSON) -> JSON:
    """Vectors by name; the one without a name by the empty one."""
    return {"": vectors} if isinstance(vectors.get("size"), int) else vectors
