"""The stand-in for Example: a stateful fake on loopback."""

import json
from typing import Any, ClassVar

from aiohttp import web

from tests.conformance.vendor import JSON, Edit, Refusal
from tests.example.provider import ExampleIndex
from tests.fakes.server import FakeServer, ServedVendor

PAGE = 3


class Example(ServedVendor):
    """Answers like a well-behaved REST vendor."""

    provider = ExampleIndex
    spec: ClassVar[JSON] = {
        "dimension": 8,
        "metric": "cosine",
        "example": {"replicas": 1, "tags": {"team": "a", "stage": "dev"}},
    }
    edits = (
        Edit("replicas", {"example": {"replicas": 3}}),
        Edit("a tag's value", {"example": {"tags": {"team": "b"}}}),
        Edit("a tag less", {"example": {"tags": {"stage": None}}}),
        Edit("a tag more", {"example": {"tags": {"cost": "7"}}}),
    )
    immutable: ClassVar[JSON] = {"dimension": 16}
    refusal = Refusal({"externalName": "_bad"}, "name must start with a letter")
    secrets: ClassVar[dict[str, dict[str, str]]] = {"example": {"token": "tok-Zq81hdkal2mxp"}}
    wrong_secrets: ClassVar[dict[str, dict[str, str]]] = {"example": {"token": "tok-wrongwrong1"}}
    has_pending = True

    def __init__(self) -> None:
        self.indexes: dict[str, JSON] = {}
        self.server = FakeServer()
        self.server.authorize = self._authorize
        for method, path, handler in (
            ("GET", "/whoami", self._whoami),
            ("GET", "/indexes", self._list),
            ("POST", "/indexes", self._create),
            ("GET", "/indexes/{name}", self._get),
            ("PATCH", "/indexes/{name}", self._patch),
            ("DELETE", "/indexes/{name}", self._delete),
        ):
            self.server.route(method, path, handler)
        super().__init__(self.server)

    async def reset(self) -> None:
        self.indexes.clear()
        self.slow = False

    def connection(self, endpoint: str | None) -> JSON:
        token = {"secretKeyRef": {"name": "example", "key": "token"}}
        return {"endpoint": endpoint, "token": token}

    async def count(self) -> int:
        return len(self.indexes)

    async def tamper(self, id: str) -> str:
        self.indexes[id]["replicas"] += 5
        return "replicas"

    async def vanish(self, id: str) -> None:
        del self.indexes[id]

    async def foreign(self, spec: JSON, name: str, owner: str | None) -> None:
        tags = {"owner": owner} if owner else {}
        self._put({"name": name, "dimension": 8, "metric": "cosine", "replicas": 1, "tags": tags})

    async def settle(self) -> None:
        for name, index in list(self.indexes.items()):
            if index["state"] == "deleting":
                del self.indexes[name]
            index["state"] = "ready"

    async def told(self, id: str) -> str:
        return json.dumps(self.indexes[id])

    def _authorize(self, request: web.Request) -> web.Response | None:
        right = f"Bearer {self.secrets['example']['token']}"
        if request.headers.get("Authorization") == right:
            return None
        return web.json_response({"message": "unknown token"}, status=401)

    def _put(self, body: JSON) -> JSON:
        state = "building" if self.slow else "ready"
        index = {**body, "state": state, "host": f"{body['name']}.vendor.example"}
        self.indexes[body["name"]] = index
        return index

    async def _whoami(self, request: web.Request, _: Any) -> web.Response:
        return web.json_response({"account": "acme"})

    async def _list(self, request: web.Request, _: Any) -> web.Response:
        names = [n for n in sorted(self.indexes) if n > request.query.get("after", "")]
        more = names[PAGE - 1] if len(names) > PAGE else None
        return web.json_response({"items": [self.indexes[n] for n in names[:PAGE]], "next": more})

    async def _create(self, request: web.Request, body: Any) -> web.Response:
        if body["name"].startswith("_"):
            return web.json_response({"message": "name must start with a letter"}, status=400)
        if body["name"] in self.indexes:
            return web.json_response({"message": "exists"}, status=409)
        return web.json_response(self._put(body), status=201)

    async def _get(self, request: web.Request, _: Any) -> web.Response:
        index = self.indexes.get(request.match_info["name"])
        return web.json_response(index or {"message": "not found"}, status=200 if index else 404)

    async def _patch(self, request: web.Request, body: Any) -> web.Response:
        index = self.indexes.get(request.match_info["name"])
        if index is None:
            return web.json_response({"message": "not found"}, status=404)
        if index["state"] != "ready":
            return web.json_response({"message": "building"}, status=409)
        tags = {k: v for k, v in {**index["tags"], **body["tags"]}.items() if v is not None}
        index.update({**body, "tags": tags, "state": "building" if self.slow else "ready"})
        return web.json_response(index)

    async def _delete(self, request: web.Request, _: Any) -> web.Response:
        index = self.indexes.get(request.match_info["name"])
        if index is None:
            return web.json_response({"message": "not found"}, status=404)
        if self.slow:
            index["state"] = "deleting"
        else:
            del self.indexes[index["name"]]
        return web.Response(status=202)
