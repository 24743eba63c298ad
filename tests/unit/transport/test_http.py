"""The one door to HTTP: what each answer means, and what is repeated."""

import gzip
import json
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Any

import httpx
import pytest
from aiohttp import web
from hypothesis import given
from hypothesis import strategies as st

from auterity.api.connection import RateLimit
from auterity.engine.calls import Door, Trail, trail
from auterity.engine.errors import (
    Busy,
    Conflict,
    Failure,
    Fenced,
    NotFound,
    Rejected,
    Throttled,
    Unauthorized,
    Unavailable,
)
from auterity.engine.limits import Budget
from auterity.engine.redaction import HIDDEN, hide, private, remember
from auterity.transport import http
from tests.conformance.cluster import Recorder

JSON = {"content-type": "application/json"}


def door(recorder: Recorder | None = None) -> Door:
    budget = Budget(RateLimit(per_second=10000, burst=10000, concurrent=10))
    return Door("acme", "c", budget, recorder or Recorder())


def answer(status: int, body: Any = None, **headers: str) -> http.Answer:
    return http.Answer(status, httpx.Headers(headers), body)


async def sent(
    handler: Callable[[httpx.Request], httpx.Response],
    method: str = "GET",
    through: Door | None = None,
    **more: Any,
) -> http.Answer:
    transport = httpx.MockTransport(handler)
    async with http.Client(base_url="https://api.acme.example", transport=transport) as client:
        return await http.send(through or door(), client, method, "/things", **more)


@pytest.mark.parametrize(
    ("status", "failure"),
    [
        (200, None),
        (201, None),
        (202, None),
        (204, None),
        (301, Unavailable),
        (302, Unavailable),
        (400, Rejected),
        (401, Unauthorized),
        (402, Rejected),
        (403, Unauthorized),
        (404, NotFound),
        (405, Rejected),
        (409, Conflict),
        (410, NotFound),
        (412, Rejected),
        (422, Rejected),
        (423, Busy),
    ],
)
def test_a_status_means_a_failure(status: int, failure: type[Failure] | None):
    found = http.failure_of(answer(status, {"message": "because"}))
    assert type(found) is (failure or type(None))
    if found is not None and status >= 400:
        assert "because" in found.message


@pytest.mark.parametrize(
    ("status", "headers", "failure"),
    [
        (429, {}, Throttled),
        (429, {"retry-after": "7"}, Throttled),
        (500, {}, Unavailable),
        (502, {}, Unavailable),
        (503, {}, Unavailable),
        (503, {"retry-after": "7"}, Throttled),
        (500, {"retry-after": "7"}, Unavailable),
        (408, {}, Unavailable),
        (404, {}, None),
        (200, {}, None),
    ],
)
async def test_some_answers_concern_the_whole_connection(
    status: int, headers: dict[str, str], failure: type[Failure] | None
):
    through = door()

    def handler(_: httpx.Request) -> httpx.Response:
        return httpx.Response(status, headers=headers, json={"message": "because"})

    if failure is None:
        assert (await sent(handler, through=through)).status == status
        return
    with pytest.raises(failure) as caught:
        await sent(handler, through=through)
    assert "because" in str(caught.value)
    if isinstance(caught.value, Throttled):
        assert through.budget.held_for == pytest.approx(7.0 if headers else 5.0, abs=0.5)
    assert through.budget.in_flight == 0


@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        ("7", 7.0),
        ("0", 0.0),
        ("1.5", 1.5),
        ("-3", 0.0),
        ("", None),
        ("soon", None),
        ("inf", None),
        ("nan", None),
        ("1e400", None),
        ("Wed, 21 Oct 2015 07:28:00 GMT", 0.0),
        ("Wed, 99 Oct 2015 07:28:00 GMT", None),
    ],
)
def test_retry_after_is_seconds_or_a_date(header: str, seconds: float | None):
    assert http.retry_after(answer(429, None, **{"retry-after": header})) == seconds


def test_retry_after_as_a_date_to_come():
    at = format_datetime(datetime.now(UTC) + timedelta(seconds=90), usegmt=True)
    assert http.retry_after(answer(429, None, **{"retry-after": at})) == pytest.approx(90, abs=2)


@given(st.text(st.characters(min_codepoint=32, max_codepoint=126), max_size=30))
def test_no_retry_after_breaks_the_reading(header: str):
    found = http.retry_after(answer(429, None, **{"retry-after": header}))
    assert found is None or 0.0 <= found < float("inf")


@pytest.mark.parametrize(
    ("body", "told"),
    [
        ({"message": "a"}, ": a"),
        ({"error": {"message": "b", "code": 3}}, ": b"),
        ({"error": "c", "error_description": "d"}, ": d"),
        ({"errors": [{"detail": "e"}]}, ': [{"detail":"e"}]'),
        ({"detail": "two\n  lines"}, ": two lines"),
        ("plain text", ": plain text"),
        ("<html>page</html>", ""),
        ("", ""),
        (None, ""),
        ({}, ""),
        ([], ""),
    ],
)
def test_the_vendors_words_are_found(body: Any, told: str):
    assert http.reason(answer(400, body)) == told


def test_the_vendors_words_are_short_and_a_secret_is_not_cut_in_two():
    with private():
        remember("the-secret-of-it")
        words = "x" * (http.LONGEST_REASON - 6) + "the-secret-of-it"
        told = hide(http.reason(answer(400, {"message": words})))
    assert len(told) <= http.LONGEST_REASON + 2 + len(HIDDEN)
    assert "the-s" not in told


@pytest.mark.parametrize(
    ("response", "failure"),
    [
        (httpx.Response(200, content=b'{"a":', headers=JSON), Unavailable),
        (httpx.Response(200, text="<!DOCTYPE html><p>"), Unavailable),
        (httpx.Response(200, text="  <html>"), Unavailable),
        (httpx.Response(200, content=b"x" * (http.LARGEST_ANSWER + 1)), Unavailable),
    ],
    ids=["half of it", "a page", "an indented page", "too much"],
)
async def test_an_answer_that_is_not_what_it_should_be(
    response: httpx.Response, failure: type[Failure]
):
    with pytest.raises(failure):
        await sent(lambda _: response)


@pytest.mark.parametrize(
    ("response", "body"),
    [
        (httpx.Response(200, json={"a": 1}), {"a": 1}),
        (
            httpx.Response(200, content=b"[1]", headers={"content-type": "application/x+json"}),
            [1],
        ),
        (httpx.Response(204), None),
        (httpx.Response(200, text="words"), "words"),
        (httpx.Response(400, content=b"{", headers=JSON), None),
    ],
)
async def test_bodies_are_read_by_their_type(response: httpx.Response, body: Any):
    assert (await sent(lambda _: response)).body == body


def failing(*errors: Exception) -> Callable[[httpx.Request], httpx.Response]:
    left: Iterator[Exception] = iter(errors)

    def handler(_: httpx.Request) -> httpx.Response:
        for error in left:
            raise error
        return httpx.Response(200, json={"n": 1})

    return handler


DROPPED = [
    httpx.RemoteProtocolError("gone"),
    httpx.ReadError("reset"),
    httpx.ConnectTimeout("closed under us"),
]


@pytest.mark.parametrize("error", DROPPED, ids=repr)
async def test_a_read_whose_connection_was_dropped_is_repeated_once(error: Exception):
    recorder = Recorder()
    assert (await sent(failing(error), through=door(recorder))).body == {"n": 1}
    assert recorder.calls == [("acme", "GET", "200")]
    with pytest.raises(Unavailable):
        await sent(failing(error, error))


@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "DELETE"])
@pytest.mark.parametrize("error", DROPPED, ids=repr)
async def test_a_write_is_never_repeated(method: str, error: Exception):
    with pytest.raises(Unavailable):
        await sent(failing(error), method)


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (httpx.ReadTimeout("slow"), "api.acme.example did not answer in time"),
        (httpx.WriteTimeout("slow"), "api.acme.example did not answer in time"),
        (TimeoutError(), "api.acme.example did not answer in time"),
        (httpx.ConnectError("refused"), "api.acme.example cannot be reached"),
        (OSError("no route"), "api.acme.example cannot be reached"),
    ],
    ids=repr,
)
async def test_transport_errors_are_told_in_the_same_words_each_time(error: Exception, words: str):
    recorder = Recorder()
    with pytest.raises(Unavailable) as caught:
        await sent(failing(error), through=door(recorder))
    assert str(caught.value) == words
    assert recorder.calls == [("acme", "GET", "error")]


async def test_a_refusal_at_the_connect_is_told_as_what_it_is():
    error = httpx.ConnectError("failed")
    error.__cause__ = Rejected("endpoint host evil resolves to a metadata address")
    with pytest.raises(Rejected):
        await sent(failing(error))


async def test_no_redirect_is_followed():
    seen: list[str] = []

    def handler(request: httpx.Request) -> httpx.Response:
        seen.append(str(request.url))
        return httpx.Response(302, headers={"location": "http://169.254.169.254/"})

    found = await sent(handler)
    assert seen == ["https://api.acme.example/things"]
    assert isinstance(http.failure_of(found), Unavailable)


async def test_the_call_is_known_by_its_label_and_its_request_id():
    here = trail.set(Trail())
    try:
        await sent(
            lambda _: httpx.Response(201, json={}, headers={"x-request-id": "r-1"}),
            label="ListThings",
        )
        (call,) = (trail.get() or Trail()).calls
    finally:
        trail.reset(here)
    assert (call.method, call.status, call.request_id) == ("ListThings", "201", "r-1")


async def test_a_vendor_with_ways_of_its_own_decides_what_concerns_all():
    def concerns(found: http.Answer) -> Failure | None:
        return Throttled("quota", 3.0) if "quota" in json.dumps(found.body) else None

    with pytest.raises(Throttled, match="quota"):
        await sent(lambda _: httpx.Response(403, json={"message": "quota"}), concerns_all=concerns)
    found = await sent(lambda _: httpx.Response(500, json={}), concerns_all=concerns)
    assert found.status == 500


@dataclass
class Vendor:
    """On a socket, since only there it shows what is sent."""

    url: str = ""
    seen: list[tuple[str, str, dict[str, str], bytes]] = field(default_factory=list)
    answers: list[web.Response | None] = field(default_factory=list)
    """None: the connection is dropped."""

    async def handle(self, request: web.Request) -> web.StreamResponse:
        headers = {name.lower(): value for name, value in request.headers.items()}
        self.seen.append((request.method, request.raw_path, headers, await request.read()))
        answer = self.answers.pop(0) if self.answers else web.json_response({"n": 1})
        if answer is None:
            assert request.transport is not None
            request.transport.abort()
            return web.Response()
        return answer


@pytest.fixture
async def vendor(unused_tcp_port: int) -> AsyncIterator[Vendor]:
    found = Vendor(f"http://127.0.0.1:{unused_tcp_port}/api/")
    app = web.Application()
    app.router.add_route("*", "/{tail:.*}", found.handle)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", unused_tcp_port).start()
    yield found
    await runner.cleanup()


@pytest.fixture(params=["past httpx", "by httpx"])
async def client(vendor: Vendor, request: pytest.FixtureRequest) -> AsyncIterator[http.Client]:
    """Either way to a vendor; a hook has a say in what httpx does."""

    async def look(_: object) -> None:
        pass

    async with http.client(vendor.url, {"Authorization": "Bearer token"}) as found:
        assert isinstance(found, http.Client)
        if request.param == "by httpx":
            found.event_hooks = {"request": [look]}
        yield found


@pytest.mark.parametrize(
    ("method", "path", "parts"),
    [
        ("GET", "/things/a-b_c.d~e", {}),
        ("GET", "/things/a%2Fb%20c?after=x&n=1,2:3@4", {}),
        ("GET", "/things/ä b", {}),
        ("GET", "/things", {"params": {"after": "x y"}}),
        ("HEAD", "/things", {}),
        ("DELETE", "/things/a", {}),
        ("POST", "/things", {}),
        ("POST", "/things", {"json": None}),
        ("POST", "/things", {"json": {}}),
        ("POST", "/things", {"json": {"name": "ä", "size": 2**70, "none": None, "in": [1.5]}}),
        ("PATCH", "/things", {"json": {"a": 1}, "headers": {"If-Match": "e"}}),
        ("PUT", "/things", {"content": b"raw"}),
    ],
    ids=repr,
)
async def test_what_is_sent_does_not_depend_on_the_way(
    vendor: Vendor, method: str, path: str, parts: dict[str, Any]
):
    async def look(_: object) -> None:
        pass

    async with http.client(vendor.url, {"Authorization": "Bearer token"}) as client:
        found = await http.send(door(), client, method, path, **parts)
        client.event_hooks = {"request": [look]}
        assert (await http.send(door(), client, method, path, **parts)).body == found.body
    past, by = vendor.seen
    assert past == by


async def test_a_header_that_is_set_later_is_sent(vendor: Vendor, client: http.Client):
    await http.send(door(), client, "GET", "/things")
    client.headers["x-version"] = "2"
    await http.send(door(), client, "GET", "/things")
    assert [seen[2].get("x-version") for seen in vendor.seen] == [None, "2"]


async def test_what_is_compressed_is_read(vendor: Vendor, client: http.Client):
    vendor.answers = [
        web.Response(
            body=gzip.compress(b'{"n": 2}'),
            headers={"content-encoding": "gzip", "content-type": "application/json"},
        )
    ]
    assert (await http.send(door(), client, "GET", "/things")).body == {"n": 2}


async def test_text_is_read_in_its_charset(vendor: Vendor, client: http.Client):
    vendor.answers = [
        web.Response(body="schön".encode("latin-1"), content_type="text/plain", charset="latin-1")
    ]
    assert (await http.send(door(), client, "GET", "/things")).body == "schön"


async def test_nothing_is_sent_where_a_redirect_leads(vendor: Vendor, client: http.Client):
    vendor.answers = [web.Response(status=302, headers={"location": "/elsewhere"})]
    assert (await http.send(door(), client, "GET", "/things")).status == 302
    assert len(vendor.seen) == 1


async def test_a_connection_dropped_under_a_read_is_opened_once_more(
    vendor: Vendor, client: http.Client
):
    vendor.answers = [None]
    assert (await http.send(door(), client, "GET", "/things")).body == {"n": 1}
    vendor.answers = [None] * 4
    with pytest.raises(Unavailable, match="cannot be reached"):
        await http.send(door(), client, "GET", "/things")
    vendor.answers = [None]
    with pytest.raises(Unavailable, match="cannot be reached"):
        await http.send(door(), client, "POST", "/things", json={})


async def test_a_dropped_read_is_not_repeated_by_a_replica_that_was_overtaken(
    vendor: Vendor, client: http.Client
):
    may_act = iter([True] * 2)

    def fence() -> None:
        if not next(may_act, False):
            raise Fenced("another replica has taken over")

    budget = Budget(RateLimit(per_second=100, burst=100, concurrent=10))
    vendor.answers = [None]
    with pytest.raises(Fenced):
        await http.send(Door("acme", "c", budget, Recorder(), fence), client, "GET", "/things")
    assert len(vendor.seen) == 1
    assert budget.in_flight == 0


async def test_a_vendor_that_does_not_listen_cannot_be_reached(
    vendor: Vendor, client: http.Client, unused_tcp_port_factory: Callable[[], int]
):
    client.base_url = f"http://127.0.0.1:{unused_tcp_port_factory()}"
    with pytest.raises(Unavailable, match=r"127\.0\.0\.1 cannot be reached"):
        await http.send(door(), client, "POST", "/things", json={})
    assert vendor.seen == []


async def test_an_address_that_is_refused_is_not_connected_to(
    vendor: Vendor, client: http.Client, monkeypatch: pytest.MonkeyPatch
):
    def refuse(host: str) -> None:
        raise Rejected(f"{host} is refused")

    monkeypatch.setattr(http, "refuse_host", refuse)
    client.base_url = vendor.url.replace("127.0.0.1", "localhost")
    with pytest.raises(Rejected, match="is refused"):
        await http.send(door(), client, "GET", "/things")
    assert vendor.seen == []
