"""Faults: a proxy that spoils answers between the operator and a vendor, and a door that kills."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from enum import Enum
from functools import partial

import aiohttp
from aiohttp import web
from yarl import URL

from auterity.engine.calls import Call, Door
from auterity.engine.errors import Fenced, Unavailable


class Fault(Enum):
    """What happens to one call."""

    THROTTLED_SECONDS = "429 with Retry-After in seconds"
    THROTTLED_DATE = "429 with Retry-After as a date"
    SERVER_ERROR = "500 with an HTML page"
    LOST_REQUEST = "the connection is cut before the vendor sees the request"
    LOST_ANSWER = "the vendor does it, and the answer is lost"
    WEB_PAGE = "200 with an HTML page"
    HALF_JSON = "200 with half of the body"


Ask = Callable[[], Awaitable[web.Response]]
Spoil = Callable[[web.Request, Ask], Awaitable[web.StreamResponse]]
"""Answers a request, mostly as the vendor does when it is asked."""
RETRY_AFTER = 7
HTML = "<!DOCTYPE html><html><body><h1>Gateway</h1></body></html>"


class FaultProxy:
    """Stands before an HTTP vendor. `plan` maps the number of a request (from 0) to its fault.

    A vendor that a server in this process plays has its answers spoiled there, by `spoil`.
    """

    def __init__(self) -> None:
        self.upstream = ""
        self.url = ""
        self.plan: dict[int, Fault] = {}
        self.seen = 0
        self._runner: web.AppRunner | None = None
        self._session: aiohttp.ClientSession | None = None

    async def start(self, upstream: str) -> str:
        """Listen on loopback; the URL that takes the vendor's place."""
        self.upstream = upstream
        self._session = aiohttp.ClientSession(auto_decompress=False)
        app = web.Application(client_max_size=64 << 20)
        app.router.add_route("*", "/{tail:.*}", self._pass)
        self._runner = web.AppRunner(
            app, access_log=None, shutdown_timeout=0.1, handler_cancellation=True
        )
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", 0).start()
        self.url = f"http://127.0.0.1:{self._runner.addresses[0][1]}"
        return self.url + URL(upstream).path.rstrip("/")

    async def stop(self) -> None:
        """Stop listening."""
        if self._session is not None:
            await self._session.close()
        if self._runner is not None:
            await self._runner.cleanup()

    def clear(self) -> None:
        """No faults from now on; requests are counted from 0."""
        self.plan, self.seen = {}, 0

    async def _pass(self, request: web.Request) -> web.StreamResponse:
        return await self.spoil(request, partial(self._ask, request))

    async def spoil(  # noqa: PLR0911 - one return a fault
        self, request: web.Request, ask: Ask
    ) -> web.StreamResponse:
        """Answer as is planned for this request; `ask` asks the vendor."""
        fault = self.plan.get(self.seen)
        self.seen += 1
        await request.read()
        match fault:
            case Fault.THROTTLED_SECONDS:
                return _throttled(str(RETRY_AFTER))
            case Fault.THROTTLED_DATE:
                when = datetime.now(UTC) + timedelta(seconds=RETRY_AFTER)
                return _throttled(format_datetime(when, usegmt=True))
            case Fault.SERVER_ERROR | Fault.WEB_PAGE:
                status = 500 if fault is Fault.SERVER_ERROR else 200
                return web.Response(text=HTML, status=status, content_type="text/html")
            case Fault.LOST_REQUEST:
                return _cut(request)
        answer = await ask()
        if fault is Fault.LOST_ANSWER:
            return _cut(request)
        if fault is Fault.HALF_JSON:
            raw = answer.body or b"{}"
            assert isinstance(raw, bytes)
            half = raw[: max(1, len(raw) // 2)]
            return web.Response(body=half, content_type="application/json")
        return answer

    async def _ask(self, request: web.Request) -> web.Response:
        assert self._session is not None
        origin = URL(self.upstream).origin()
        async with self._session.request(
            request.method,
            URL(f"{origin}{request.raw_path}", encoded=True),
            data=await request.read() or None,
            headers={k: v for k, v in request.headers.items() if k.lower() != "content-length"},
            allow_redirects=False,
            skip_auto_headers=["User-Agent", "Accept", "Accept-Encoding", "Content-Type"],
        ) as answer:
            skip = {"transfer-encoding", "content-length", "connection"}
            headers = [(k, v) for k, v in answer.headers.items() if k.lower() not in skip]
            response = web.Response(body=await answer.read(), status=answer.status)
            response.headers.popall("Content-Type", None)
            for name, value in headers:
                response.headers.add(name, value)
            return response


def _throttled(retry_after: str) -> web.Response:
    headers = {"Retry-After": retry_after}
    return web.json_response({"message": "slow down"}, status=429, headers=headers)


def _cut(request: web.Request) -> web.StreamResponse:
    if request.transport is not None:
        request.transport.abort()
    raise asyncio.CancelledError


class Killed(BaseException):
    """The operator dies here."""


@dataclass
class Script:
    """What the doors of one test do at which call. Calls are counted over all doors."""

    seen: int = 0
    kill_before: int | None = None
    kill_after: int | None = None
    fail_before: int | None = None
    fail_after: int | None = None
    overtaken: bool = False
    """Whether another replica takes over while a call waits on its way out."""
    methods: list[str] = field(default_factory=list)

    def clear(self) -> None:
        """No faults from now on; calls are counted from 0."""
        self.__init__()  # type: ignore[misc]  # all fields anew

    def door(self) -> Callable[..., Door]:
        """A factory of doors that follow this script."""
        return lambda *args: ScriptedDoor(self, *args)


class ScriptedDoor(Door):
    """Kills the operator, or loses a call, before or after the vendor sees it."""

    def __init__(self, script: Script, *args: object) -> None:
        super().__init__(*args)  # type: ignore[arg-type]  # as Door takes them
        self._script = script

    def overtaken(self) -> None:
        if self._script.overtaken:
            raise Fenced("another replica has taken over")

    @asynccontextmanager
    async def call(self, method: str) -> AsyncIterator[Call]:
        script = self._script
        number = script.seen
        script.seen += 1
        script.methods.append(method)
        async with super().call(method) as call:
            call.fence = self.overtaken
            if script.kill_before == number:
                raise Killed
            if script.fail_before == number:
                raise Unavailable("the connection was cut before the call")
            yield call
            if script.kill_after == number:
                raise Killed
            if script.fail_after == number:
                raise Unavailable("the answer was lost")
