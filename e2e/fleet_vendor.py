"""The vendors of `e2e/fleet.py`: models that are served, and a record of who served when."""

import secrets
import time
from typing import Any

from aiohttp import web

from tests.fakes.server import FakeServer

JSON = dict[str, Any]
STARTS_WITHIN = 0.3
"""Seconds until a revision is ready, or has failed."""


def _answer(status: int, message: str) -> web.Response:
    return web.json_response({"message": message}, status=status)


class Solo:
    """Serves one image a model."""

    def __init__(self) -> None:
        self.models: dict[str, JSON] = {}
        self.status = 200
        """What every model answers."""
        self.server = FakeServer()
        for method, path, handler in (
            ("GET", "/whoami", self._whoami),
            ("POST", "/models", self._create),
            ("GET", "/models/{id}", self._one),
            ("PATCH", "/models/{id}", self._one),
            ("DELETE", "/models/{id}", self._one),
            ("POST", "/models/{id}/answers", self._asked),
        ):
            self.server.route(method, path, handler)

    async def start(self) -> None:
        self.url = await self.server.start()

    async def stop(self) -> None:
        await self.server.stop()

    def answer_with(self, status: int) -> None:
        """What every model answers from now on."""
        self.status = status

    async def _whoami(self, request: web.Request, _: Any) -> web.Response:
        return web.json_response({"account": "acme"})

    async def _create(self, request: web.Request, body: Any) -> web.Response:
        if body["name"] in self.models:
            return _answer(409, "it exists")
        told = {"address": f"solo.example/{body['name']}", "password": secrets.token_hex(8)}
        self.models[body["name"]] = {**body, **told}
        return web.json_response(self.models[body["name"]], status=201)

    async def _one(self, request: web.Request, body: Any) -> web.Response:
        if (model := self.models.get(request.match_info["id"])) is None:
            return _answer(404, "there is no such model")
        if request.method == "DELETE":
            del self.models[model["name"]]
        elif request.method == "PATCH":
            model.update(body)
        return web.json_response(model)

    async def _asked(self, request: web.Request, _: Any) -> web.Response:
        return _answer(self.status, "hello")


class Fleet:
    """Keeps revisions beside each other and divides the traffic between them.

    What an image is, its name tells: `broken` never becomes ready, `sick` fails whoever is sent to
    it as soon as it gets some of the traffic, `failing` fails one in twelve of its users, and of
    `quiet` nobody wants anything until `speak`.
    """

    def __init__(self) -> None:
        self.deployments: dict[str, JSON] = {}
        self.peak = 0
        self.status = 200
        self.heard = False
        self._history: list[JSON] = []
        self._problems: list[str] = []
        self.server = FakeServer()
        for method, path, handler in (
            ("GET", "/whoami", self._whoami),
            ("POST", "/deployments", self._create),
            ("GET", "/deployments/{id}", self._one),
            ("PATCH", "/deployments/{id}", self._one),
            ("DELETE", "/deployments/{id}", self._one),
            ("PUT", "/deployments/{id}/revisions/{revision}", self._add),
            ("DELETE", "/deployments/{id}/revisions/{revision}", self._remove),
            ("GET", "/deployments/{id}/revisions/{revision}/figures", self._figures),
            ("PUT", "/deployments/{id}/traffic", self._divide),
            ("POST", "/deployments/{id}/answers", self._asked),
        ):
            self.server.route(method, path, handler)

    async def start(self) -> None:
        self.url = await self.server.start()

    async def stop(self) -> None:
        await self.server.stop()

    def names(self) -> list[str]:
        """Every model that there is."""
        return sorted(self.deployments)

    def most(self) -> int:
        """How many models there were at once, at most."""
        return self.peak

    def serves(self, id: str) -> list[JSON]:
        """The revisions of a model, as they are."""
        found: list[JSON] = self._told(self.deployments[id])["revisions"]
        return found

    def tags(self, id: str) -> JSON:
        """The tags of a model."""
        found: JSON = self.deployments[id]["tags"]
        return found

    def history(self, id: str) -> list[JSON]:
        """What was done with a model, and how its revisions stood then."""
        return [one for one in self._history if one["id"] == id]

    def problems(self) -> list[str]:
        """What was asked for and ought not to have been."""
        return self._problems

    def answer_with(self, status: int) -> None:
        """What every model answers from now on that is not sick."""
        self.status = status

    def speak(self) -> None:
        """From now on there are requests for quiet models too."""
        self.heard = True

    def _told(self, deployment: JSON) -> JSON:
        revisions = [
            {
                "name": name,
                "image": one["image"],
                "weight": one["weight"],
                "state": _state(one),
            }
            for name, one in deployment["revisions"].items()
        ]
        return {**deployment, "revisions": revisions}

    def _note(self, id: str, did: str) -> None:
        told = self._told(self.deployments[id])["revisions"]
        self._history.append({"id": id, "did": did, "at": time.time(), "revisions": told})

    async def _whoami(self, request: web.Request, _: Any) -> web.Response:
        return web.json_response({"account": "acme"})

    async def _create(self, request: web.Request, body: Any) -> web.Response:
        id = body["name"]
        if id in self.deployments:
            return _answer(409, "it exists")
        told = {"url": f"https://{id}.fleet.example", "apiKey": secrets.token_hex(8)}
        self.deployments[id] = {**body, **told, "revisions": {}}
        self.peak = max(self.peak, len(self.deployments))
        self._note(id, "create")
        return web.json_response(self._told(self.deployments[id]), status=201)

    async def _one(self, request: web.Request, body: Any) -> web.Response:
        id = request.match_info["id"]
        if (deployment := self.deployments.get(id)) is None:
            return _answer(404, "there is no such deployment")
        if request.method == "DELETE":
            del self.deployments[id]
        elif request.method == "PATCH":
            tags = {**deployment["tags"], **body["tags"]}
            deployment["tags"] = {k: v for k, v in tags.items() if v is not None}
            deployment["owner"] = body["owner"]
        return web.json_response(self._told(deployment))

    async def _add(self, request: web.Request, body: Any) -> web.Response:
        id, name = request.match_info["id"], request.match_info["revision"]
        revisions = self.deployments[id]["revisions"]
        if name not in revisions:
            if len(revisions) > 1:
                self._problems.append(f"{id}: {name} was added to {sorted(revisions)}")
            revisions[name] = {"image": body["image"], "weight": 0, "added": time.time()}
            self._note(id, f"add {name}")
        return web.json_response({})

    async def _remove(self, request: web.Request, _: Any) -> web.Response:
        id, name = request.match_info["id"], request.match_info["revision"]
        revisions = self.deployments[id]["revisions"]
        if name not in revisions:
            return _answer(404, "there is no such revision")
        if revisions[name]["weight"]:
            self._problems.append(f"{id}: {name} was to be removed and had traffic")
            return _answer(400, f"{name} still gets traffic")
        del revisions[name]
        self._note(id, f"remove {name}")
        return web.json_response({})

    async def _divide(self, request: web.Request, body: Any) -> web.Response:
        id = request.match_info["id"]
        revisions = self.deployments[id]["revisions"]
        if body.keys() != revisions.keys() or sum(body.values()) != 100:
            self._problems.append(f"{id}: {body} for {sorted(revisions)}")
            return _answer(400, "not all of them, or not 100 together")
        before = {name: one["weight"] for name, one in revisions.items()}
        for name, weight in body.items():
            revisions[name]["weight"] = weight
        if body != before:
            self._note(id, "divide")
        return web.json_response({})

    async def _figures(self, request: web.Request, _: Any) -> web.Response:
        """A hundred requests a second, shared as the traffic was divided then."""
        id, name = request.match_info["id"], request.match_info["revision"]
        start, end = (int(float(request.query[at])) for at in ("start", "end"))
        moments = [one for one in self.history(id) if one["did"] == "divide"]
        if any(start < one["at"] < end for one in moments):
            self._problems.append(f"{id}: figures of {name} with more than one share of traffic")
        shares = [one["revisions"] for one in moments if one["at"] <= start][-1:]
        told = [one for revisions in shares for one in revisions if one["name"] == name]
        count = sum(one["weight"] for one in told) * (end - start)
        image = self.deployments[id]["revisions"][name]["image"]
        if image.startswith("quiet") and not self.heard:
            count = 0
        errors = count / 12 if image.startswith("failing") else 0
        return web.json_response({"requests": count, "errors": errors})

    async def _asked(self, request: web.Request, _: Any) -> web.Response:
        revisions = self.deployments[request.match_info["id"]]["revisions"]
        asked = request.query.get("revision")
        one = revisions[asked] if asked else max(revisions.values(), key=lambda r: r["weight"])
        if one["image"].startswith("sick") and one["weight"]:
            return _answer(500, "I am not well")
        return _answer(self.status, "hello")


def _state(revision: JSON) -> str:
    if time.time() - revision["added"] < STARTS_WITHIN:
        return "starting"
    return "failed" if revision["image"].startswith("broken") else "ready"
