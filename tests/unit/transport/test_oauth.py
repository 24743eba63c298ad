"""How a client's own token is fetched, kept, replaced and refused."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
from aiohttp import encode_basic_auth, web
from pydantic import SecretStr

from auterity.api.connection import RateLimit
from auterity.engine import errors
from auterity.engine.calls import Door
from auterity.engine.contract import Access, Identity
from auterity.engine.limits import Budget
from auterity.transport.oauth import Grant, OAuthConnector, OAuthSession
from auterity.transport.rest import RestSession
from tests.conformance.cluster import MemoryCluster, Recorder
from tests.fakes.server import FakeServer

SECRET = "0auth-fakeFAKE-secret-5tGb"


class Issuing:
    """A vendor that issues numbered tokens and takes only those not revoked."""

    def __init__(self) -> None:
        self.server = FakeServer()
        self.server.route("POST", "/token", self._issue)
        self.server.route("GET", "/thing", self._thing)
        self.issued = 0
        self.revoked: set[str] = set()
        self.asked: list[tuple[dict[str, Any], str | None]] = []
        self.answer: web.Response | None = None
        self.lifetime: object = 60

    async def _issue(self, request: web.Request, body: object) -> web.Response:
        form = {key: str(value) for key, value in (await request.post()).items()}
        self.asked.append((form, request.headers.get("Authorization")))
        await asyncio.sleep(0.01)
        if self.answer is not None:
            return self.answer
        self.issued += 1
        token = {"access_token": f"token-{self.issued}", "expires_in": self.lifetime}
        return web.json_response(token)

    async def _thing(self, request: web.Request, body: object) -> web.Response:
        token = request.headers["Authorization"].removeprefix("Bearer ")
        if token in self.revoked or "all" in self.revoked:
            return web.json_response({"error": "invalid_token"}, status=401)
        return web.json_response({"seen_with": token})


class Connector(OAuthConnector):
    vendor = "issuing"
    in_header: bool = False

    def grant(self) -> Grant:
        return Grant(
            "/token",
            "robot",
            SecretStr(SECRET),
            in_header=self.in_header,
            form={"audience": "things"},
        )

    async def identify(self, session: RestSession) -> Identity:
        return Identity("robot")


@pytest.fixture
async def vendor() -> AsyncIterator[Issuing]:
    issuing = Issuing()
    await issuing.server.start()
    yield issuing
    await issuing.server.stop()


class Opened:
    """A session with a clock of its own."""

    def __init__(self, session: OAuthSession, recorder: Recorder) -> None:
        self.session, self.recorder = session, recorder
        self.now = 1000.0
        session.tokens._clock = lambda: self.now

    async def thing(self) -> Any:
        return await self.session.call("GET", "/thing")


@pytest.fixture
async def opened(vendor: Issuing) -> AsyncIterator[Opened]:
    it = await _open(vendor)
    yield it
    await it.session.close()


async def _open(vendor: Issuing, **settings: Any) -> Opened:
    recorder = Recorder()
    # One place: a token that was fetched from within a call could never be had.
    budget = Budget(RateLimit(per_second=1000, burst=1000, concurrent=1))
    connector = Connector(endpoint=vendor.server.url, **settings)
    secrets = MemoryCluster().secret_store("team")
    access = Access(Door("issuing", "test", budget, recorder), secrets, allow_insecure=True)
    return Opened(await connector.open(access), recorder)


async def test_a_token_is_kept_until_shortly_before_it_expires(opened: Opened):
    for moment, token in ((0, "token-1"), (47, "token-1"), (49, "token-2"), (96, "token-2")):
        opened.now = 1000.0 + moment
        assert await opened.thing() == {"seen_with": token}, moment


async def test_a_token_without_a_lifetime_is_not_kept_for_ever(vendor: Issuing, opened: Opened):
    vendor.lifetime = None
    await opened.thing()
    opened.now += 3600
    assert await opened.thing() == {"seen_with": "token-2"}


async def test_callers_wait_for_one_fetch_together_even_if_one_call_fills_the_budget(
    vendor: Issuing, opened: Opened
):
    async with asyncio.timeout(5):
        seen = await asyncio.gather(*(opened.thing() for _ in range(10)))
    assert {answer["seen_with"] for answer in seen} == {"token-1"}
    assert vendor.issued == 1


async def test_fetching_is_a_call_like_any_other(opened: Opened):
    await opened.thing()
    assert opened.recorder.calls == [("issuing", "GetToken", "200"), ("issuing", "GET", "200")]


async def test_a_refused_token_is_replaced_once(vendor: Issuing, opened: Opened):
    await opened.thing()
    vendor.revoked.add("token-1")
    assert await opened.thing() == {"seen_with": "token-2"}
    vendor.revoked.add("all")
    with pytest.raises(errors.Unauthorized):
        await opened.thing()
    assert vendor.issued == 3


async def test_a_renewed_session_asks_for_another_token(opened: Opened):
    await opened.thing()
    opened.session.renew()
    assert await opened.thing() == {"seen_with": "token-2"}


async def test_client_id_and_secret_are_in_the_form_or_in_the_header(vendor: Issuing):
    form = {"grant_type": "client_credentials", "audience": "things"}
    in_form, in_header = await _open(vendor), await _open(vendor, in_header=True)
    for it in (in_form, in_header):
        await it.thing()
        await it.session.close()
    assert vendor.asked == [
        ({**form, "client_id": "robot", "client_secret": SECRET}, None),
        (form, encode_basic_auth("robot", SECRET)),
    ]


@pytest.mark.parametrize(
    ("status", "body", "failure", "words"),
    [
        (401, {"error": "unauthorized_client"}, errors.Unauthorized, "unauthorized_client"),
        (400, {"error": "invalid_scope"}, errors.Unauthorized, "secret of robot: invalid_scope"),
        # Not NotFound: a read would take the object for gone.
        (404, {"error": "Realm does not exist"}, errors.Unauthorized, "no token endpoint at http"),
        (302, {}, errors.Unavailable, "302"),
        (429, {}, errors.Throttled, "fewer calls"),
        (500, {}, errors.Unavailable, "500"),
        (200, {"token": "t0ken-under-another-name"}, errors.Unavailable, "without a token"),
        (200, ["t0ken-in-a-list-of-them"], errors.Unavailable, "without a token"),
    ],
)
async def test_a_refused_client_is_told_without_its_secret(
    vendor: Issuing,
    opened: Opened,
    status: int,
    body: object,
    failure: type[errors.Failure],
    words: str,
):
    vendor.answer = web.json_response(body, status=status)
    with pytest.raises(failure) as raised:
        await opened.session.find("/thing")
    assert type(raised.value) is failure
    assert words in raised.value.message
    assert SECRET not in repr(raised.value)
    assert "t0ken" not in f"{raised.value!r} {raised.value.__cause__!r}"
    assert SECRET not in repr(opened.session.connector.grant())
