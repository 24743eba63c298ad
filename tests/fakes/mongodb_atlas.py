"""Search indexes of MongoDB's Atlas Administration API, version 2024-05-30, checked 2026-11-24.

Every request to the API is held against the official description, its media type included. Builds
and deletions take their time, and a changed definition is built beside the one that serves. Codes
and words of refusals are not described; they are as Atlas is known to answer.
"""

import base64
import json
from copy import deepcopy
from typing import Any, ClassVar
from urllib.parse import parse_qs

from aiohttp import web

from auterity.providers.mongodb_atlas.index import MongodbAtlasIndex
from auterity.transport.mongodb_atlas import VERSION
from tests.conformance.vendor import Edit, Refusal
from tests.contract.openapi import Description, Violation
from tests.fakes.server import FakeServer, ServedVendor

JSON = dict[str, Any]
PROJECT = "32b6e34b3d91647abb20e7b8"
CLUSTER = "production"
NAMESPACE = ("shop", "products")
CLIENT = "mdb_sa_id_66f0a1b2c3d4e5f60718293a"
SECRET = "mdb_sa_sk_8sQ2vX5nR7cK4wL9"
OTHER_SECRET = "mdb_sa_sk_wrongWRONG3hT6zB1"
TOKEN = "/api/oauth/token"
GROUP = f"/api/atlas/v2/groups/{PROJECT}"
SIMILARITIES = ("euclidean", "cosine", "dotProduct")
QUANTIZATIONS = ("none", "scalar", "binary")


class Refused(Exception):  # noqa: N818 - named like the engine's failures
    """An error answer."""

    def __init__(self, status: int, code: str, detail: str) -> None:
        super().__init__(detail)
        self.status, self.code, self.detail = status, code, detail

    def response(self) -> web.Response:
        body = {"error": self.status, "errorCode": self.code, "detail": self.detail}
        return web.json_response({**body, "parameters": []}, status=self.status)


class ApiDescription(Description):
    """The search part of the API's description; it lacks the token endpoint."""

    def check(self, method: str, path: str, **request: Any) -> Violation | None:
        if path == TOKEN:
            return None
        if path == GROUP:
            whole = Description.load("mongodb-atlas.openapi.json")
            return whole.check(method, path, **request) if whole else None
        return super().check(method, path, **request)


class AtlasProject:
    """The search indexes of one project, behind the API."""

    def __init__(self) -> None:
        self.indexes: dict[str, JSON] = {}
        self.slow = False
        self.made = 0
        self.unbuildable: str | None = None
        """Why the next definition of an index that serves cannot be built."""
        self.tokens: set[str] = set()
        self.server = FakeServer(ApiDescription.load("mongodb-atlas-search.openapi.json"))
        self.server.authorize = self._authorize
        indexes = f"{GROUP}/clusters/{{cluster}}/search/indexes"
        self.server.route("POST", TOKEN, self._token)
        for method, path, handler in (
            ("GET", GROUP, self._project),
            ("POST", indexes, self._create),
            ("GET", f"{indexes}/{{id}}", self._get),
            ("GET", f"{indexes}/{{database}}/{{collection}}/{{name}}", self._get),
            ("PATCH", f"{indexes}/{{id}}", self._update),
            ("DELETE", f"{indexes}/{{id}}", self._delete),
        ):
            self.server.route(method, path, self._answering(handler))

    def settle(self) -> None:
        """Finish everything that is under way."""
        for id, index in list(self.indexes.items()):
            if index["status"] == "DELETING":
                del self.indexes[id]
            elif not any("stagedIndex" in host for host in index["statusDetail"]):
                self._finish(index)

    def make(self, body: JSON) -> JSON:
        """An index as the API makes it. Raises Refused."""
        if (body["database"], body["collectionName"]) != NAMESPACE:
            where = f"{body['database']}.{body['collectionName']}"
            raise Refused(400, "NAMESPACE_NOT_FOUND", f"Collection {where} does not exist.")
        kind = body.get("type", "search")
        definition = _checked(body["definition"]) if kind == "vectorSearch" else body["definition"]
        if self.find(body["database"], body["collectionName"], body["name"]) is not None:
            # Also while it is being deleted.
            raise Refused(
                409, "ATLAS_SEARCH_DUPLICATE_INDEX", f"An index named {body['name']} exists."
            )
        self.made += 1
        index = {
            "indexID": f"{self.made:024x}",
            "name": body["name"],
            "type": kind,
            "database": body["database"],
            "collectionName": body["collectionName"],
            "status": "PENDING",
            "queryable": False,
            "latestDefinition": definition,
            "latestDefinitionVersion": {"version": 0, "createdAt": "2026-11-24T10:00:00Z"},
            "statusDetail": [],
        }
        self.indexes[index["indexID"]] = index
        if not self.slow:
            self._finish(index)
        return index

    def change(self, index: JSON, definition: JSON) -> None:
        """Another definition, as the API takes it. Raises Refused."""
        index["latestDefinition"] = _checked(definition)
        index["latestDefinitionVersion"]["version"] += 1
        if index["status"] == "FAILED":
            index["status"] = "BUILDING"
        if self.unbuildable is not None:
            staged = {
                "status": "FAILED",
                "queryable": False,
                "message": self.unbuildable,
                "definitionVersion": dict(index["latestDefinitionVersion"]),
            }
            index["statusDetail"][0]["stagedIndex"] = staged
            self.unbuildable = None
        elif not self.slow:
            self._finish(index)

    def find(self, database: str, collection: str, name: str) -> JSON | None:
        """The index of a name."""
        place = (database, collection, name)
        found = (
            of
            for of in self.indexes.values()
            if (of["database"], of["collectionName"], of["name"]) == place
        )
        return next(found, None)

    def _finish(self, index: JSON) -> None:
        index |= {"status": "READY", "queryable": True}
        version = dict(index["latestDefinitionVersion"])
        main = {"status": "READY", "queryable": True, "definitionVersion": version}
        index["statusDetail"] = [{"hostname": "shard-00-00", **main, "mainIndex": main}]

    def _authorize(self, request: web.Request) -> web.Response | None:
        if request.path == TOKEN:
            return None
        kind, _, token = request.headers.get("Authorization", "").partition(" ")
        if kind != "Bearer" or token not in self.tokens:
            return Refused(401, "INVALID_ACCESS_TOKEN", "The access token is not valid.").response()
        if request.headers.get("Accept") != VERSION:
            return Refused(406, "INVALID_VERSION_DATE", "Name a version in Accept.").response()
        return None

    async def _token(self, request: web.Request, body: bytes) -> web.Response:
        right = base64.b64encode(f"{CLIENT}:{SECRET}".encode()).decode()
        if request.headers.get("Authorization") != f"Basic {right}":
            words = "Client authentication failed"
            answer = {"error": "invalid_client", "error_description": words}
            return web.json_response(answer, status=401)
        assert parse_qs(body.decode()) == {"grant_type": ["client_credentials"]}
        token = f"tk-{len(self.tokens):04}-7fYq2LmPz8"
        self.tokens.add(token)
        granted = {"access_token": token, "expires_in": 3600, "token_type": "Bearer"}
        return web.json_response(granted)

    def _answering(self, handler: Any) -> Any:
        async def handle(request: web.Request, body: Any) -> web.StreamResponse:
            at = dict(request.match_info)
            if (cluster := at.get("cluster", CLUSTER)) != CLUSTER:
                words = f"No cluster named {cluster} exists in group {PROJECT}."
                return Refused(404, "CLUSTER_NOT_FOUND", words).response()
            try:
                status, answer = handler(at, body)
            except Refused as refused:
                return refused.response()
            if answer is None:
                return web.Response(status=status)
            return web.json_response(answer, status=status, content_type=VERSION)

        return handle

    def _found(self, at: JSON) -> JSON:
        index = (
            self.indexes.get(at["id"])
            if "id" in at
            else self.find(at["database"], at["collection"], at["name"])
        )
        if index is None:
            raise Refused(404, "ATLAS_SEARCH_INDEX_NOT_FOUND", "The index does not exist.")
        return index

    def _project(self, _: JSON, __: Any) -> tuple[int, JSON]:
        return 200, {"id": PROJECT, "name": "shop", "clusterCount": 1}

    def _create(self, _: JSON, body: JSON) -> tuple[int, JSON]:
        return 201, self.make(body)

    def _get(self, at: JSON, _: Any) -> tuple[int, JSON]:
        return 200, self._found(at)

    def _update(self, at: JSON, body: JSON) -> tuple[int, JSON]:
        index = self._found(at)
        if index["status"] == "DELETING":
            raise Refused(409, "ATLAS_SEARCH_INDEX_BUSY", "The index is being deleted.")
        self.change(index, body["definition"])
        return 200, index

    def _delete(self, at: JSON, _: Any) -> tuple[int, None]:
        index = self._found(at)
        index |= {"status": "DELETING", "queryable": False}
        if not self.slow:
            del self.indexes[index["indexID"]]
        return 204, None


class MongodbAtlas(ServedVendor):
    provider = MongodbAtlasIndex
    spec: ClassVar[JSON] = {
        "dimension": 1536,
        "metric": "dotProduct",
        "mongodbAtlas": {
            "cluster": CLUSTER,
            "database": NAMESPACE[0],
            "collection": NAMESPACE[1],
            "path": "text.embedding",
            "filters": ["tenant", "stage"],
            "quantization": "scalar",
            "hnsw": {"maxEdges": 32},
        },
    }
    edits = (
        Edit("a filter added", {"mongodbAtlas": {"filters": ["tenant", "stage", "year"]}}),
        Edit("a filter removed", {"mongodbAtlas": {"filters": ["tenant"]}}),
        Edit("no filters", {"mongodbAtlas": {"filters": []}}),
        Edit("filters left to others", {"mongodbAtlas": {"filters": None}}),
        Edit("another quantization", {"mongodbAtlas": {"quantization": "binary"}}),
        Edit("another graph", {"mongodbAtlas": {"hnsw": {"numEdgeCandidates": 200}}}),
        Edit("more partitions", {"mongodbAtlas": {"partitions": "2"}}),
    )
    immutable: ClassVar[JSON] = {"dimension": 768, "mongodbAtlas": {"collection": "orders"}}
    refusal = Refusal({"dimension": 9000}, "must be between 1 and 8192")
    secrets: ClassVar[dict[str, dict[str, str]]] = {"atlas": {"clientSecret": SECRET}}
    wrong_secrets: ClassVar[dict[str, dict[str, str]]] = {"atlas": {"clientSecret": OTHER_SECRET}}
    has_pending = True

    def __init__(self) -> None:
        self.project = AtlasProject()
        super().__init__(self.project.server, self.project)

    async def reset(self) -> None:
        self.project.indexes.clear()
        self.slow = False

    def connection(self, endpoint: str | None) -> JSON:
        return {
            "endpoint": endpoint,
            "projectId": PROJECT,
            "clientId": CLIENT,
            "clientSecret": {"secretKeyRef": {"name": "atlas", "key": "clientSecret"}},
        }

    async def count(self) -> int:
        return len(self.project.indexes)

    async def tamper(self, id: str) -> str:
        index = self.index(id)
        definition = deepcopy(index["latestDefinition"])
        definition["fields"][0]["quantization"] = "none"
        self.project.change(index, definition)
        return "quantization"

    async def vanish(self, id: str) -> None:
        del self.project.indexes[id.partition("/")[2]]

    async def foreign(self, spec: JSON, name: str, owner: str | None) -> None:
        own = spec["mongodbAtlas"]
        vector = {"type": "vector", "path": own["path"], "similarity": spec["metric"]}
        self.project.make(
            {
                "database": own["database"],
                "collectionName": own["collection"],
                "name": name,
                "type": "vectorSearch",
                "definition": {"fields": [{**vector, "numDimensions": spec["dimension"]}]},
            }
        )

    async def settle(self) -> None:
        if not self.slow:
            self.project.settle()

    async def told(self, id: str) -> str:
        return json.dumps(self.index(id))

    def index(self, id: str) -> JSON:
        """The index of one of the provider's ids."""
        return self.project.indexes[id.partition("/")[2]]


def _checked(definition: JSON) -> JSON:
    fields = definition.get("fields") or []
    if sum(field.get("type") == "vector" for field in fields) < 1:
        raise _invalid('"fields" must have at least one field of type "vector"')
    paths = [field["path"] for field in fields]
    if len(set(paths)) < len(paths):
        raise _invalid('"fields" has a path more than once')
    if definition.get("numPartitions", 1) not in (1, 2, 4):
        raise _invalid('"numPartitions" must be one of [1, 2, 4]')
    for field in fields:
        if field["type"] == "filter":
            known = {"type", "path"}
        elif field["type"] == "vector":
            known = {"type", "path", "numDimensions", "similarity", "quantization", "hnswOptions"}
            _check_vector(field)
        else:
            raise _invalid(f'"fields.type" {field["type"]} is unknown')
        if unknown := sorted(set(field) - known):
            raise _invalid(f"unrecognized fields {unknown}")
    return deepcopy(definition)


def _check_vector(field: JSON) -> None:
    if not 1 <= field["numDimensions"] <= 8192:
        raise _invalid('"fields.numDimensions" must be between 1 and 8192')
    if field["similarity"] not in SIMILARITIES:
        raise _invalid(f'"fields.similarity" must be one of {SIMILARITIES}')
    if field.get("quantization", "none") not in QUANTIZATIONS:
        raise _invalid(f'"fields.quantization" must be one of {QUANTIZATIONS}')
    graph = field.get("hnswOptions") or {}
    if not 16 <= graph.get("maxEdges", 16) <= 64:
        raise _invalid('"hnswOptions.maxEdges" must be between 16 and 64')
    if not 100 <= graph.get("numEdgeCandidates", 100) <= 3200:
        raise _invalid('"hnswOptions.numEdgeCandidates" must be between 100 and 3200')


def _invalid(detail: str) -> Refused:
    return Refused(400, "INVALID_ATTRIBUTE", f"Invalid attribute: {detail}.")
