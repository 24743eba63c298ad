"""Vendors as a process of their own, so that what they hold survives the operator's death.

`python -m e2e.vendors PORT FOLDER` opens accounts on demand, each a stand-in at an address of its
own with its own token, and lets the tests look behind the scenes. `Vendors` is the tests' side.
"""

import asyncio
import json
import secrets
import signal
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from aiohttp import web

from e2e.fleet_vendor import Fleet, Solo
from tests.conformance.faults import Fault, FaultProxy
from tests.example.vendor import Example
from tests.fakes.server import FakeServer
from tools.loopback import HOST, answers, free_port, request
from tools.process import Process

JSON = dict[str, Any]
ROOT = Path(__file__).parents[1]


class Numbered:
    """Gives out ids, and makes a second object of the same name without a word."""

    def __init__(self) -> None:
        self.indexes: dict[str, JSON] = {}
        self.made = 0
        self._calls: list[tuple[float, str, str, str]] = []
        self.server = FakeServer()
        for method, path, handler in (
            ("GET", "/whoami", self._whoami),
            ("GET", "/indexes", self._list),
            ("POST", "/indexes", self._create),
            ("GET", "/indexes/{id}", self._one),
            ("PATCH", "/indexes/{id}", self._one),
            ("DELETE", "/indexes/{id}", self._one),
        ):
            self.server.route(method, path, handler)

    async def start(self) -> None:
        self.url = await self.server.start()

    async def stop(self) -> None:
        await self.server.stop()

    def calls(self) -> list[tuple[float, str, str, str]]:
        """Every request: when it came, from which replica, its method, and the index's name."""
        return self._calls

    def _note(self, request: web.Request, name: str) -> None:
        came = time.time() - self.server.latency
        self._calls.append((came, request.headers.get("X-Replica", ""), request.method, name))

    async def _whoami(self, request: web.Request, _: Any) -> web.Response:
        self._note(request, "")
        return web.json_response({"account": "numbers"})

    async def _list(self, request: web.Request, _: Any) -> web.Response:
        name = request.query.get("name")
        self._note(request, name or "")
        found = [i for i in self.indexes.values() if name in (None, i["name"])]
        return web.json_response(found)

    async def _create(self, request: web.Request, body: Any) -> web.Response:
        self.made += 1
        self._note(request, body["name"])
        index = self.indexes[f"n-{self.made}"] = {"id": f"n-{self.made}", **body}
        return web.json_response(index, status=201)

    async def _one(self, request: web.Request, body: Any) -> web.Response:
        index = self.indexes.get(request.match_info["id"])
        self._note(request, index["name"] if index else "")
        if index is None:
            return web.json_response({"message": "not found"}, status=404)
        if request.method == "DELETE":
            del self.indexes[index["id"]]
        elif request.method == "PATCH":
            index.update(body)
        return web.json_response(index)


STAND_INS: dict[str, Any] = {
    "example": Example,
    "numbered": Numbered,
    "fleet": Fleet,
    "solo": Solo,
}


class _Account:
    """One stand-in, the faults before it, and what tests may ask of both."""

    def __init__(self, vendor: str) -> None:
        self.stand_in: Any = STAND_INS[vendor]()
        self.proxy = FaultProxy()
        self.tokens = [f"tok-{secrets.token_hex(12)}"]
        self.indiscreet = False
        self.hidden_reads = 0
        self.retry_after = 0
        self.throttled: list[float] = []
        self.stand_in.server.authorize = self._authorize

    async def start(self) -> JSON:
        await self.stand_in.start()
        return {
            "direct": self.stand_in.url,
            "url": await self.proxy.start(self.stand_in.url),
            "token": self.tokens[0],
        }

    async def stop(self) -> None:
        await self.proxy.stop()
        await self.stand_in.stop()

    async def call(self, verb: str, *args: Any) -> Any:
        own = getattr(self, f"do_{verb}", None)
        answer = own(*args) if own else getattr(self.stand_in, verb)(*args)
        return await answer if asyncio.iscoroutine(answer) else answer

    def do_holds(self) -> list[JSON]:
        return list(self.stand_in.indexes.values())

    def do_accepts(self, *tokens: str) -> None:
        self.tokens = list(tokens)

    def do_repeat_credentials(self) -> None:
        """Refuse everything, and quote the credentials in doing so."""
        self.indiscreet = True

    def do_hide(self, reads: int) -> None:
        """Deny what exists for so many reads, as eventually consistent vendors do."""
        self.hidden_reads = reads

    def do_slow(self, slow: bool) -> None:  # noqa: FBT001 - called by name over HTTP
        self.stand_in.slow = slow

    def do_throttle(self, retry_after: int) -> None:
        """Answer nothing but 429 with so many seconds of Retry-After; 0: no longer."""
        self.retry_after = retry_after

    def do_throttled(self) -> list[float]:
        """When each 429 was answered."""
        return self.throttled

    def do_latency(self, seconds: float) -> None:
        self.stand_in.server.latency = seconds

    def do_fault(self, name: str | None) -> None:
        self.proxy.plan = dict.fromkeys(range(100_000), Fault[name]) if name else {}

    def do_requests(self, method: str) -> int:
        return sum(1 for made, _ in self.stand_in.server.requests if made == method)

    def do_edit(self, id: str, changes: JSON) -> None:
        self.stand_in.indexes[id].update(changes)

    def _authorize(self, request: web.Request) -> web.Response | None:
        if self.retry_after:
            self.throttled.append(time.monotonic())
            headers = {"Retry-After": str(self.retry_after)}
            return web.json_response({"message": "slow down"}, status=429, headers=headers)
        if self.indiscreet:
            told = f"not with {request.headers.get('Authorization')}"
            return web.json_response({"message": told}, status=400)
        if request.headers.get("Authorization") in [f"Bearer {t}" for t in self.tokens]:
            return self._consistent(request)
        return web.json_response({"message": "unknown token"}, status=401)

    def _consistent(self, request: web.Request) -> web.Response | None:
        if self.hidden_reads and request.method == "GET" and request.path != "/whoami":
            self.hidden_reads -= 1
            return web.json_response({"message": "not found"}, status=404)
        return None


async def _serve(port: int) -> None:
    accounts: list[_Account] = []

    async def open_(request: web.Request) -> web.Response:
        account = _Account(request.match_info["vendor"])
        accounts.append(account)
        return web.json_response({"number": len(accounts) - 1, **await account.start()})

    async def call(request: web.Request) -> web.Response:
        account = accounts[int(request.match_info["number"])]
        answer = await account.call(request.match_info["verb"], *await request.json())
        return web.json_response(answer)

    done = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, done.set)
    app = web.Application()
    app.router.add_post("/open/{vendor}", open_)
    app.router.add_post("/accounts/{number}/{verb}", call)
    app.router.add_get("/", lambda _: _alive())
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, HOST, port).start()
    await done.wait()
    for account in accounts:
        await account.stop()
    await runner.cleanup()


async def _alive() -> web.Response:
    return web.Response()


class Call(NamedTuple):
    """A request as the vendor saw it."""

    at: float
    replica: str
    method: str
    name: str
    """Of the index; empty if it concerns none or one that is not there."""


@dataclass(frozen=True)
class Account:
    """An account at a vendor, as the tests see it."""

    vendor: str
    url: str
    """Through the proxy that can spoil answers."""
    direct: str
    token: str
    control: str

    def ask(self, verb: str, *args: Any) -> Any:
        """Have the vendor's process do or tell something."""
        return json.loads(request("POST", f"{self.control}/{verb}", json.dumps(args).encode()))

    def holds(self) -> dict[str, JSON]:
        """All that exists there, by name. Fails if a name is there twice."""
        found = self.ask("holds")
        by_name = {index["name"]: index for index in found}
        assert len(by_name) == len(found), f"twice at the vendor: {found}"
        return by_name

    def calls(self) -> list[Call]:
        """Every request that reached the vendor, in order of arrival."""
        return sorted(Call(*told) for told in self.ask("calls"))

    def block(self, *, direct: bool = False) -> JSON:
        """The vendor's block of a Connection; its token is in Secret `vendor`."""
        token = {"secretKeyRef": {"name": "vendor", "key": "token"}}
        return {self.vendor: {"endpoint": self.direct if direct else self.url, "token": token}}


class Vendors:
    """The process."""

    def __init__(self, folder: Path) -> None:
        self.port = free_port()
        self.process = Process(
            [sys.executable, "-m", "e2e.vendors", str(self.port)],
            log=folder / "vendors.log",
            env={"PYTHONPATH": f"{ROOT / 'operator'}:{ROOT}"},
            cwd=ROOT,
        )
        self.secrets: set[str] = set()
        """Every token that was ever given out or made up."""

    def start(self) -> None:
        self.process.start()
        self.process.wait_until(lambda: answers(f"http://{HOST}:{self.port}/"))

    def stop(self) -> None:
        self.process.stop()

    def open(self, vendor: str = "example") -> Account:
        """A new account, empty."""
        base = f"http://{HOST}:{self.port}"
        told = json.loads(request("POST", f"{base}/open/{vendor}", b"[]"))
        self.secrets.add(told["token"])
        control = f"{base}/accounts/{told.pop('number')}"
        return Account(vendor=vendor, control=control, **told)

    def made_up_token(self) -> str:
        """A token that no account knows yet."""
        token = f"tok-{secrets.token_hex(12)}"
        self.secrets.add(token)
        return token


if __name__ == "__main__":
    asyncio.run(_serve(int(sys.argv[1])))
