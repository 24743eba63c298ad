"""The real thing: Chroma 1.5.9 from its wheel, behind a gate as it is deployed."""

import atexit
import json
from functools import cache
from typing import Any, ClassVar
from urllib.request import ProxyHandler, Request, build_opener

from aiohttp import web

from auterity.providers.chroma import OWNER, ChromaIndex
from tests.conformance.faults import FaultProxy
from tests.conformance.vendor import Edit, Refusal, Vendor
from tests.contract.openapi import Description, Violation
from tools.servers.chroma import Chroma as Server

JSON = dict[str, Any]
KEY = "ck-6hV2nQx9-fakeFAKE-4wLp"
OTHER_KEY = "ck-8sD3mTy1-wrongWRONG-5kRj"
TENANT, DATABASE = "search-team", "conformance"
DATABASES = f"/api/v2/tenants/{TENANT}/databases"
COLLECTIONS = f"{DATABASES}/{DATABASE}/collections"


@cache
def server() -> Server:
    """One server serves all tests of a process."""
    started = Server().start()
    atexit.register(started.stop)
    ask("POST", "/api/v2/tenants", {"name": TENANT}, at=started.url)
    ask("POST", DATABASES, {"name": DATABASE}, at=started.url)
    return started


def ask(method: str, path: str, body: Any = None, *, at: str | None = None) -> Any:
    """A call of an outsider, past the gate."""
    headers = {"Content-Type": "application/json"}
    data = None if body is None else json.dumps(body).encode()
    request = Request(f"{at or server().url}{path}", data, headers, method=method)
    with build_opener(ProxyHandler({})).open(request, timeout=30) as answer:
        raw = answer.read()
    return json.loads(raw) if raw else None


class Gate(FaultProxy):
    """Asks for the key that Chroma itself does not ask for, and reads what is asked.

    Requests are held against the server's own description.
    """

    def __init__(self) -> None:
        super().__init__()
        self.description = Description.load("chroma.openapi.json")
        self.violations: list[Violation] = []

    async def _pass(self, request: web.Request) -> web.StreamResponse:
        if request.headers.get("x-chroma-token") != KEY:
            refused = {"error": "AuthError", "message": "Unauthorized: invalid API key"}
            return web.json_response(refused, status=401)
        raw = await request.read()
        if self.description is not None:
            violation = self.description.check(
                request.method,
                request.rel_url.raw_path,
                query=dict(request.query),
                content_type=request.content_type if raw else None,
                body=_checkable(json.loads(raw)) if raw else None,
            )
            if violation is not None:
                self.violations.append(violation)
        return await super()._pass(request)


def _checkable(body: JSON) -> JSON:
    """Without whole numbers in metadata: the description allows them twice, which it forbids."""
    return {
        name: {key: v for key, v in value.items() if not isinstance(v, int)}
        if name in ("metadata", "new_metadata")
        else value
        for name, value in body.items()
    }


class Chroma(Vendor):
    provider = ChromaIndex
    takes_time = True
    spec: ClassVar[JSON] = {
        "dimension": 384,
        "metric": "cosine",
        "chroma": {
            "hnsw": {"efConstruction": 200, "maxNeighbors": 24, "efSearch": 64},
            "metadata": {"team": "search", "cost-centre": "42"},
        },
    }
    edits = (
        Edit("a wider search", {"chroma": {"hnsw": {"efSearch": 128}}}),
        Edit("more neighbours", {"chroma": {"hnsw": {"maxNeighbors": 32}}}),
        Edit("written and grown", {"chroma": {"hnsw": {"syncThreshold": 500, "resizeFactor": 2}}}),
        Edit("a note changed", {"chroma": {"metadata": {"team": "ranking"}}}),
        Edit("a note added", {"chroma": {"metadata": {"stage": "prod"}}}),
        Edit("a note removed", {"chroma": {"metadata": {"cost-centre": None}}}),
        Edit("no notes", {"chroma": {"metadata": None}}),
        Edit("nothing but the metric", {"chroma": {"hnsw": None, "metadata": None}}),
    )
    immutable: ClassVar[JSON] = {"chroma": {"hnsw": {"efConstruction": 100}}}
    refusal = Refusal({"externalName": "a/b"}, "Chroma takes 3 to 512 letters")
    secrets: ClassVar[dict[str, dict[str, str]]] = {"chroma": {"apiKey": KEY}}
    wrong_secrets: ClassVar[dict[str, dict[str, str]]] = {"chroma": {"apiKey": OTHER_KEY}}

    def __init__(self) -> None:
        super().__init__()
        self.gate = Gate()

    @property
    def violations(self) -> list[Violation]:
        return self.gate.violations

    @classmethod
    def missing(cls) -> str | None:
        return Server.available()

    async def start(self) -> None:
        self.url = await self.gate.start(server().url)

    async def stop(self) -> None:
        await self.reset()
        await self.gate.stop()

    async def reset(self) -> None:
        self.slow = False
        for held in ask("GET", COLLECTIONS):
            ask("DELETE", f"{COLLECTIONS}/{held['name']}")

    def connection(self, endpoint: str | None) -> JSON:
        return {
            "endpoint": endpoint,
            "tenant": TENANT,
            "database": DATABASE,
            "apiKey": {"secretKeyRef": {"name": "chroma", "key": "apiKey"}},
        }

    async def count(self) -> int:
        return len(ask("GET", COLLECTIONS))

    async def tamper(self, id: str) -> str:
        held = ask("GET", f"{COLLECTIONS}/{id}")
        change = {"new_configuration": {"hnsw": {"ef_search": 7}}}
        ask("PUT", f"{COLLECTIONS}/{held['id']}", change)
        return "hnsw.efSearch"

    async def vanish(self, id: str) -> None:
        ask("DELETE", f"{COLLECTIONS}/{id}")

    async def foreign(self, spec: JSON, name: str, owner: str | None) -> None:
        own = spec["chroma"]["hnsw"]
        notes: JSON = {"made-by": "hand", "shelf": 7}
        if owner is not None:
            notes[OWNER] = owner
        hnsw = {"space": spec["metric"], "ef_construction": own["efConstruction"]}
        body = {"name": name, "metadata": notes, "configuration": {"hnsw": hnsw}}
        ask("POST", COLLECTIONS, body)
