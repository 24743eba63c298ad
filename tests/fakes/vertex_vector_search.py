"""Google's Vertex AI Vector Search: indexes, their endpoints and deployments, as of 2026-11.

What it knows beyond the discovery document: ids are Google's; operations take their time; the
metadata of an index is told without what fills it, its numbers as floats; what is deployed is not
deleted, an endpoint neither while something is deployed to it; machines have to fit the shards. An
index and an endpoint are listed from the moment their creation has begun.
"""

import json
import re
from copy import deepcopy
from typing import Any, ClassVar

from aiohttp import web

from auterity.providers.vertex.vector_search import VertexIndex
from auterity.transport.labels import owner_labels
from tests.conformance.vendor import Edit, Refusal
from tests.fakes.google import (
    JSON,
    LOCATION,
    PROJECT,
    GoogleFake,
    Operations,
    absent,
    invalid,
    precondition,
)
from tests.fakes.server import ServedVendor
from tests.fakes.vertex import KEY, OTHER_KEY, PARENT, check_labels, page

CONFIG = {
    "dimensions",
    "approximateNeighborsCount",
    "distanceMeasureType",
    "featureNormType",
    "shardSize",
    "algorithmConfig",
}
MUTABLE = {
    "automaticResources",
    "dedicatedResources",
    "enableAccessLogging",
    "deployedIndexAuthConfig",
}


class VectorSearch:
    """One project and location."""

    def __init__(self) -> None:
        self.operations = Operations("google.cloud.aiplatform.v1")
        self.indexes: dict[str, JSON] = {}
        self.endpoints: dict[str, JSON] = {}
        self.breaks: JSON | None = None
        """The error of the next deployment, or of the next change of one."""
        self.late = False
        """Whether an index is shown only once it has been made."""
        self.count = 0
        self.fake = GoogleFake("aiplatform.v1", KEY)
        where = "/v1/projects/{project}/locations/{location}"
        for method, path, answer in (
            ("GET", "/indexes", self._list_indexes),
            ("POST", "/indexes", self._create_index),
            ("GET", "/indexes/{id}", self._get_index),
            ("PATCH", "/indexes/{id}", self._patch_index),
            ("DELETE", "/indexes/{id}", self._delete_index),
            ("GET", "/indexEndpoints", self._list_endpoints),
            ("POST", "/indexEndpoints", self._create_endpoint),
            ("PATCH", "/indexEndpoints/{id}", self._patch_endpoint),
            ("DELETE", "/indexEndpoints/{id}", self._delete_endpoint),
            ("POST", "/indexEndpoints/{id}:deployIndex", self._deploy),
            ("POST", "/indexEndpoints/{id}:undeployIndex", self._undeploy),
            ("POST", "/indexEndpoints/{id}:mutateDeployedIndex", self._mutate),
            ("GET", "/endpoints", lambda *_: {}),
            ("GET", "/{collection}/{id}/operations", self._list_operations),
        ):
            self.fake.route(method, f"{where}{path}", answer)

    def reset(self) -> None:
        for held in (self.indexes, self.endpoints, self.operations):
            held.clear()
        self.operations.slow = False
        self.breaks, self.late = None, False

    def make_index(self, body: JSON) -> JSON:
        """An index as it is told."""
        config = body["metadata"].get("config", {})
        if unknown := sorted(set(config) - CONFIG):
            raise invalid(f"Unknown fields of config: {unknown}")
        if not 1 <= config.get("dimensions", 0) <= 65535:
            raise invalid("dimensions must be from 1 to 65535.")
        if len(config.get("algorithmConfig", {})) != 1:
            raise invalid("Set exactly one algorithm.")
        if (
            "treeAhConfig" in config["algorithmConfig"]
            and "approximateNeighborsCount" not in config
        ):
            raise invalid("approximateNeighborsCount is required for treeAhConfig.")
        if config["dimensions"] % 2 and config.get("featureNormType") == "UNIT_L2_NORM":
            raise invalid("An odd number of dimensions cannot be normalized.")
        check_labels(body.get("labels", {}))
        self.count += 1
        id = str(4 * 10**18 + self.count)
        told = {k: (float(v) if isinstance(v, int) else v) for k, v in config.items()}
        self.indexes[id] = {
            **body,
            "name": f"{PARENT}/indexes/{id}",
            "metadata": {"config": {"shardSize": "SHARD_SIZE_MEDIUM", **told}},
        }
        return self.indexes[id]

    def _index(self, request: web.Request) -> JSON:
        if request.match_info["id"] not in self.indexes:
            raise absent(f"{PARENT}/indexes/{request.match_info['id']}")
        return self.indexes[request.match_info["id"]]

    def _endpoint(self, request: web.Request) -> JSON:
        if request.match_info["id"] not in self.endpoints:
            raise absent(f"{PARENT}/indexEndpoints/{request.match_info['id']}")
        return self.endpoints[request.match_info["id"]]

    def _idle(self, name: str) -> None:
        if self.operations.running(name):
            raise precondition(f"Another operation is in progress on {name}.")

    def _list_indexes(self, request: web.Request, _: Any) -> JSON:
        return page("indexes", list(self.indexes.values()), request)

    def _create_index(self, _: web.Request, body: JSON) -> JSON:
        index = self.make_index(body)
        return self.operations.start("CreateIndex", index["name"], lambda: {"name": index["name"]})

    def _get_index(self, request: web.Request, _: Any) -> JSON:
        index = self._index(request)
        if self.late and self.operations.running(index["name"]):
            raise absent(index["name"])
        refs = [
            {"indexEndpoint": endpoint["name"], "deployedIndexId": one["id"]}
            for endpoint in self.endpoints.values()
            for one in endpoint.get("deployedIndexes", ())
            if one["index"] == index["name"]
        ]
        return deepcopy(index) | ({"deployedIndexes": refs} if refs else {})

    def _patch_index(self, request: web.Request, body: JSON) -> JSON:
        index = self._index(request)
        self._idle(index["name"])
        mask = request.query["updateMask"].split(",")
        if not set(mask) <= {"displayName", "description", "labels"}:
            raise invalid("updateMask names what cannot change.")
        check_labels(body.get("labels", {}))

        def done() -> JSON:
            index.update({field: body[field] for field in mask if field in body})
            return {"name": index["name"]}

        return self.operations.start("UpdateIndex", index["name"], done)

    def _delete_index(self, request: web.Request, _: Any) -> JSON:
        index = self._index(request)
        self._idle(index["name"])
        if "deployedIndexes" in self._get_index(request, None):
            raise precondition(f"Index {index['name']} is deployed: undeploy it first.")
        id = request.match_info["id"]

        def done() -> JSON:
            self.indexes.pop(id, None)
            return {}

        return self.operations.start("Delete", index["name"], done)

    def _list_endpoints(self, request: web.Request, _: Any) -> JSON:
        wanted = re.fullmatch(r'labels\.([\w-]+)="([^"]*)"', request.query.get("filter", ""))
        found = [
            one
            for one in self.endpoints.values()
            if wanted is None or one.get("labels", {}).get(wanted[1]) == wanted[2]
        ]
        return page("indexEndpoints", found, request)

    def _create_endpoint(self, _: web.Request, body: JSON) -> JSON:
        forms = ("publicEndpointEnabled", "network", "privateServiceConnectConfig")
        if sum(form in body for form in forms) != 1:
            raise invalid(f"Set exactly one of {', '.join(forms)}.")
        check_labels(body.get("labels", {}))
        self.count += 1
        id = str(6 * 10**18 + self.count)
        endpoint: JSON = {**body, "name": f"{PARENT}/indexEndpoints/{id}"}
        self.endpoints[id] = endpoint

        def done() -> JSON:
            if body.get("publicEndpointEnabled"):
                endpoint["publicEndpointDomainName"] = f"{self.count}.{LOCATION}.vdb.vertexai.goog"
            return {"name": endpoint["name"]}

        return self.operations.start("CreateIndexEndpoint", endpoint["name"], done)

    def _patch_endpoint(self, request: web.Request, body: JSON) -> JSON:
        endpoint = self._endpoint(request)
        if request.query["updateMask"] != "labels":
            raise invalid("updateMask names what cannot change.")
        check_labels(body.get("labels", {}))
        endpoint["labels"] = body.get("labels", {})
        return deepcopy(endpoint)

    def _delete_endpoint(self, request: web.Request, _: Any) -> JSON:
        endpoint = self._endpoint(request)
        self._idle(endpoint["name"])
        if endpoint.get("deployedIndexes"):
            raise precondition(f"IndexEndpoint {endpoint['name']} has deployed indexes.")
        id = request.match_info["id"]

        def done() -> JSON:
            self.endpoints.pop(id, None)
            return {}

        return self.operations.start("Delete", endpoint["name"], done)

    def _deploy(self, request: web.Request, body: JSON) -> JSON:
        endpoint = self._endpoint(request)
        self._idle(endpoint["name"])
        wanted = deepcopy(body["deployedIndex"])
        if not re.fullmatch(r"[a-zA-Z][a-zA-Z0-9_]{0,127}", wanted["id"]):
            raise invalid(f"DeployedIndex id {wanted['id']} is not valid.")
        all_ids = [
            one["id"] for e in self.endpoints.values() for one in e.get("deployedIndexes", ())
        ]
        if wanted["id"] in all_ids:
            raise invalid(f"DeployedIndex {wanted['id']} already exists.")
        index = self.indexes.get(wanted["index"].rpartition("/")[2])
        if index is None:
            raise absent(wanted["index"])
        machine = wanted.get("dedicatedResources", {}).get("machineSpec", {}).get("machineType")
        small = index["metadata"]["config"]["shardSize"] == "SHARD_SIZE_SMALL"
        if machine and not small and not machine.endswith(("-16", "-32")):
            raise invalid(f"Machine type {machine} does not fit the shard size of the index.")
        for kind in ("dedicatedResources", "automaticResources"):
            if kind in wanted:
                default = {"minReplicaCount": 1 if kind.startswith("ded") else 2}
                wanted[kind] = default | wanted[kind]
                wanted[kind].setdefault("maxReplicaCount", wanted[kind]["minReplicaCount"])

        def done() -> JSON:
            endpoint.setdefault("deployedIndexes", []).append(wanted)
            return {"deployedIndex": {"id": wanted["id"]}}

        error, self.breaks = self.breaks, None
        return self.operations.start("DeployIndex", endpoint["name"], done, error)

    def _live(self, endpoint: JSON, id: str) -> JSON:
        for one in endpoint.get("deployedIndexes", ()):
            if one["id"] == id:
                found: JSON = one
                return found
        raise invalid(f"DeployedIndex {id} does not exist.")

    def _undeploy(self, request: web.Request, body: JSON) -> JSON:
        endpoint = self._endpoint(request)
        self._idle(endpoint["name"])
        live = self._live(endpoint, body["deployedIndexId"])

        def done() -> JSON:
            endpoint["deployedIndexes"].remove(live)
            return {}

        return self.operations.start("UndeployIndex", endpoint["name"], done)

    def _mutate(self, request: web.Request, body: JSON) -> JSON:
        endpoint = self._endpoint(request)
        self._idle(endpoint["name"])
        live = self._live(endpoint, body["id"])
        mask = request.query["updateMask"].split(",")
        if not set(mask) <= MUTABLE:
            raise invalid(f"updateMask names what cannot change: {mask}")
        before = live.get("dedicatedResources", {}).get("machineSpec")
        if body.get("dedicatedResources", {}).get("machineSpec", before) != before:
            raise invalid("The machine type cannot change.")

        def done() -> JSON:
            for field in mask:
                live.pop(field, None)
                if field in body:
                    live[field] = body[field]
            return {"deployedIndex": {"id": live["id"]}}

        error, self.breaks = self.breaks, None
        return self.operations.start("MutateDeployedIndex", endpoint["name"], done, error)

    def _list_operations(self, request: web.Request, _: Any) -> JSON:
        name = f"{PARENT}/{request.match_info['collection']}/{request.match_info['id']}"
        told = deepcopy(self.operations.on(name))
        self.operations.looked()
        return {"operations": told} if told else {}


class VectorSearchVendor(ServedVendor):
    """Vector Search behind the provider of indexes."""

    provider = VertexIndex
    spec: ClassVar[JSON] = {
        "dimension": 768,
        "metric": "cosine",
        "vertexVectorSearch": {
            "shardSize": "Small",
            "approximateNeighbors": 100,
            "leafSize": 500,
            "normalize": True,
            "contents": "gs://acme-vectors/documents",
            "machineType": "e2-standard-2",
            "minReplicas": 1,
            "maxReplicas": 2,
            "labels": {"team": "search", "stage": "test"},
        },
    }
    edits = (
        Edit("more replicas", {"vertexVectorSearch": {"minReplicas": 2, "maxReplicas": 4}}),
        Edit("another machine", {"vertexVectorSearch": {"machineType": "e2-standard-16"}}),
        Edit("access is logged", {"vertexVectorSearch": {"accessLogging": True}}),
        Edit("not deployed", {"vertexVectorSearch": {"deployed": False}}),
        Edit(
            "a label more and one less",
            {"vertexVectorSearch": {"labels": {"stage": None, "cost": "42"}}},
        ),
    )
    immutable: ClassVar[JSON] = {"dimension": 512}
    refusal = Refusal({"dimension": 767}, "odd number of dimensions cannot be normalized")
    secrets: ClassVar[dict[str, dict[str, str]]] = {"google": {"key": KEY}}
    wrong_secrets: ClassVar[dict[str, dict[str, str]]] = {"google": {"key": OTHER_KEY}}
    has_pending = True
    fast = False  # Up to deployment it takes some forty calls: one fault at each is enough.

    def __init__(self) -> None:
        self.search = VectorSearch()
        super().__init__(self.search.fake.server, self.search.operations)

    async def reset(self) -> None:
        self.search.reset()

    def connection(self, endpoint: str | None) -> JSON:
        return {
            "project": PROJECT,
            "location": LOCATION,
            "serviceAccountKey": {"secretKeyRef": {"name": "google", "key": "key"}},
            "endpoint": endpoint,
        }

    async def count(self) -> int:
        live = sum(len(one.get("deployedIndexes", ())) for one in self.search.endpoints.values())
        return len(self.search.indexes) + len(self.search.endpoints) + live

    async def tamper(self, id: str) -> str:
        (endpoint,) = self.search.endpoints.values()
        endpoint["deployedIndexes"][0]["dedicatedResources"]["maxReplicaCount"] = 9
        return "maxReplicas"

    async def vanish(self, id: str) -> None:
        slow = self.slow
        self.search.reset()
        self.slow = slow

    async def foreign(self, spec: JSON, name: str, owner: str | None) -> None:
        self.search.make_index(
            {
                "displayName": name,
                "indexUpdateMethod": "STREAM_UPDATE",
                "labels": owner_labels(owner) if owner else {},
                "metadata": {
                    "config": {
                        "dimensions": spec["dimension"],
                        "approximateNeighborsCount": 100,
                        "distanceMeasureType": "COSINE_DISTANCE",
                        "featureNormType": "UNIT_L2_NORM",
                        "shardSize": "SHARD_SIZE_SMALL",
                        "algorithmConfig": {"treeAhConfig": {"leafNodeEmbeddingCount": 500}},
                    }
                },
            }
        )

    async def settle(self) -> None:
        self.search.operations.looked()

    async def told(self, id: str) -> str:
        return json.dumps([self.search.indexes, self.search.endpoints])
