"""An HTTP server on loopback for stateful fakes; every request is held against a description."""

import asyncio
import json
from collections.abc import Awaitable, Callable, Sequence
from types import SimpleNamespace
from typing import Any

from aiohttp import web
from yarl import URL

from tests.conformance.faults import Spoil
from tests.conformance.vendor import Vendor
from tests.contract.openapi import Description, Violation

Handler = Callable[[web.Request, Any], Awaitable[web.StreamResponse]]


class FakeServer:
    """Routes with JSON bodies. `violations` collects what broke the vendor's own description.

    `description` is the official description, or None where it is not at hand (the suite then
    says so once). A request that violates it is answered 400, so that it can never pass unseen.
    """

    def __init__(self, description: Description | None = None, base_path: str = "") -> None:
        self.description = description
        self.base_path = base_path
        self.violations: list[Violation] = []
        self.requests: list[tuple[str, str]] = []
        self._routes: list[tuple[str, str, Handler]] = []
        self._runner: web.AppRunner | None = None
        self._spoil: dict[int, Spoil] = {}
        """What answers at which port."""
        self.url = ""
        self.port = 0
        """Where to listen; 0: wherever there is room."""
        self.latency = 0.0
        """Seconds that every answer takes at least."""
        self.authorize: Callable[[web.Request], web.Response | None] = lambda _: None
        """Answers a request without proper credentials; None lets it pass."""

    def route(self, method: str, path: str, handler: Handler) -> None:
        """Add a route; `path` as aiohttp writes it, such as /indexes/{name}."""
        self._routes.append((method, path, handler))

    async def start(self) -> str:
        """Listen on loopback; the URL without a trailing slash."""
        app = web.Application(client_max_size=16 << 20, middlewares=[self._spoiled])
        for method, path, handler in self._routes:
            app.router.add_route(method, f"{self.base_path}{path}", self._checked(handler))
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
        await self._runner.setup()
        self.url = await self._listen(self.port)
        return self.url

    async def spoiled(self, spoil: Spoil) -> str:
        """Listen at another port, where this answers every request; the URL as of `start`."""
        url = await self._listen(0)
        port = URL(url).port
        assert port is not None
        self._spoil[port] = spoil
        return url

    async def _listen(self, port: int) -> str:
        assert self._runner is not None
        await web.TCPSite(self._runner, "127.0.0.1", port).start()
        return f"http://127.0.0.1:{self._runner.addresses[-1][1]}{self.base_path}"

    async def stop(self) -> None:
        """Stop listening."""
        if self._runner is not None:
            await self._runner.cleanup()

    @web.middleware
    async def _spoiled(
        self, request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
    ) -> web.StreamResponse:
        assert request.transport is not None
        spoil = self._spoil.get(request.transport.get_extra_info("sockname")[1])
        if spoil is None:
            return await handler(request)

        async def ask() -> web.Response:
            try:
                answer = await handler(request)
            except web.HTTPException as refusal:
                answer = refusal
            assert isinstance(answer, web.Response)
            return answer

        return await spoil(request, ask)

    def _checked(self, handler: Handler) -> Callable[[web.Request], Awaitable[web.StreamResponse]]:
        async def handle(request: web.Request) -> web.StreamResponse:
            self.requests.append((request.method, request.path_qs))
            if self.latency:
                await asyncio.sleep(self.latency)
            if (refused := self.authorize(request)) is not None:
                return refused
            raw = await request.read()
            kind = request.content_type
            body: Any = raw
            if raw and kind.endswith("json"):
                body = json.loads(raw)
            elif not raw:
                body = None
            if self.description is not None:
                violation = self.description.check(
                    request.method,
                    request.rel_url.raw_path.removeprefix(self.base_path),
                    query=dict(request.query),
                    content_type=kind if raw else None,
                    body=body,
                )
                if violation is not None:
                    self.violations.append(violation)
                    return web.json_response({"message": f"contract: {violation}"}, status=400)
            return await handler(request, body)

        return handle


class ServedVendor(Vendor):
    """A vendor that a fake server plays.

    `state` is what takes its time while its `slow` is set; None where nothing does.
    """

    def __init__(self, server: FakeServer, state: Any = None) -> None:
        self.server = server
        self._state = state or SimpleNamespace()
        super().__init__()

    @property
    def slow(self) -> bool:
        return bool(self._state.slow)

    @slow.setter
    def slow(self, value: bool) -> None:
        self._state.slow = value

    @property
    def violations(self) -> Sequence[object]:
        return self.server.violations

    async def start(self) -> None:
        self.url = await self.server.start()

    async def spoiled(self, spoil: Spoil) -> str | None:
        return await self.server.spoiled(spoil)

    async def stop(self) -> None:
        await self.server.stop()
