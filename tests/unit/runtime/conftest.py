"""An API server of a few lines, for what the real one does too seldom to be waited for."""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from aiohttp import web

from auterity.runtime.kube import Kube

Answer = Callable[[web.Request], Awaitable[web.StreamResponse]]


@dataclass
class ApiServer:
    """Answers in the order of `answers`; the last one again and again."""

    answers: list[Answer] = field(default_factory=list)
    requests: list[tuple[str, str]] = field(default_factory=list)
    bodies: list[object] = field(default_factory=list)
    asked: asyncio.Event = field(default_factory=asyncio.Event)

    def says(self, body: object, status: int = 200) -> None:
        async def answer(_: web.Request) -> web.StreamResponse:
            return web.json_response(body, status=status)

        self.answers.append(answer)

    def refuses(self, status: int, message: str) -> None:
        self.says({"kind": "Status", "code": status, "message": message}, status)

    def streams(self, *events: object) -> None:
        async def answer(request: web.Request) -> web.StreamResponse:
            response = web.StreamResponse()
            await response.prepare(request)
            for event in events:
                await response.write(json.dumps(event).encode() + b"\n")
            return response

        self.answers.append(answer)

    async def handle(self, request: web.Request) -> web.StreamResponse:
        self.requests.append((request.method, request.path_qs))
        self.asked.set()
        raw = await request.read()
        self.bodies.append(json.loads(raw) if raw else None)
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        return await answer(request)


@pytest.fixture
def api_port(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, unused_tcp_port: int) -> int:
    """Where $KUBECONFIG says that the API server is."""
    config = {
        "clusters": [{"name": "c", "cluster": {"server": f"http://127.0.0.1:{unused_tcp_port}"}}],
        "users": [{"name": "u", "user": {"token": "token-of-the-operator"}}],
        "contexts": [{"name": "x", "context": {"cluster": "c", "user": "u"}}],
        "current-context": "x",
    }
    path = tmp_path / "kubeconfig"
    path.write_text(json.dumps(config))
    monkeypatch.setenv("KUBECONFIG", str(path))
    return unused_tcp_port


@pytest.fixture
async def server(api_port: int) -> AsyncIterator[ApiServer]:
    found = ApiServer()
    app = web.Application()
    app.router.add_route("*", "/{tail:.*}", found.handle)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", api_port).start()
    yield found
    await runner.cleanup()


@pytest.fixture
async def kube(server: ApiServer) -> AsyncIterator[Kube]:
    found = Kube()
    yield found
    await found.close()
