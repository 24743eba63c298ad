"""The one door to HTTP: clients with one shared TLS context, time-outs, and failures by status."""

import json
import re
import socket
import ssl
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from functools import cache
from math import isfinite
from time import time
from typing import Any, Final

import aiohttp
import httpx
import orjson
from aiohttp.abc import AbstractResolver, ResolveResult
from httpx_aiohttp import AiohttpTransport
from httpx_aiohttp.transport import map_aiohttp_exceptions

from auterity import __version__
from auterity.engine.calls import Door, fence
from auterity.engine.errors import (
    Busy,
    Conflict,
    Failure,
    NotFound,
    Rejected,
    Throttled,
    Unauthorized,
    Unavailable,
)
from auterity.engine.redaction import hide
from auterity.transport.endpoints import refuse_host

TIMEOUT: Final = httpx.Timeout(30.0, connect=10.0)
AIOHTTP_TIMEOUT: Final = aiohttp.ClientTimeout(connect=30.0, sock_connect=10.0, sock_read=30.0)
"""The same, as the transport would put it."""
_PLAIN_PATH: Final = re.compile(r"/([\w./~=&?:,@-]|%[0-9A-F]{2})*", re.ASCII)
"""Of a path that nobody spells otherwise: httpx would leave it as it is."""
_PLAIN_PARTS: Final = frozenset({"json"})
LARGEST_ANSWER: Final = 16 * 1024 * 1024
LONGEST_REASON: Final = 400
REQUEST_ID_HEADERS: Final = (
    "x-request-id",
    "x-amzn-requestid",
    "x-github-request-id",
    "request-id",
    "x-ms-request-id",
    "apim-request-id",
)


class _Resolver(AbstractResolver):
    """Refuses names that resolve to link-local or metadata addresses, at every connect."""

    def __init__(self) -> None:
        self._resolver = aiohttp.DefaultResolver()

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        found = await self._resolver.resolve(host, port, family)
        for item in found:
            refuse_host(item["host"])
        return found

    async def close(self) -> None:
        await self._resolver.close()


class _Connector(aiohttp.TCPConnector):
    """Lets no call out that was overtaken while it waited for a connection."""

    async def connect(self, *request: Any, **settings: Any) -> aiohttp.connector.Connection:
        connection = await super().connect(*request, **settings)
        try:
            fence()
        except BaseException:
            connection.close()
            raise
        return connection


@cache
def tls() -> ssl.SSLContext:
    """The process's TLS context: one of them costs half a megabyte and 20 ms."""
    return httpx.create_ssl_context()


@dataclass(frozen=True, slots=True)
class Raw:
    """An answer as it came, decompressed."""

    status: int
    headers: Mapping[str, str]
    content: bytes


class Client(httpx.AsyncClient):
    """An httpx client whose requests go straight to its transport.

    What httpx does around a request (redirects, cookies, timing) is not wanted here, and costs as
    much CPU as the request itself.
    """

    _headers_sent: tuple[list[tuple[bytes, bytes]], Mapping[str, str]] = [], {}

    async def ask(self, method: str, url: str, **parts: Any) -> Raw:
        """One request; the whole answer. Raises what httpx raises.

        Where nothing but JSON is sent and nobody else has a say in it, past httpx: its request and
        its response cost as much CPU as the call itself.
        """
        if (session := self._past_httpx(url, parts)) is None:
            response = await self.request(method, url, **parts)
            return Raw(response.status_code, response.headers, response.content)
        headers, body = self._plain_headers(), None
        if parts.get("json") is not None:
            # As httpx does it, so that what is sent does not depend on the way.
            told = json.dumps(
                parts["json"], ensure_ascii=False, separators=(",", ":"), allow_nan=False
            )
            headers, body = {**headers, "content-type": "application/json"}, told.encode()
        with map_aiohttp_exceptions():
            async with session.request(
                method,
                f"{str(self.base_url).rstrip('/')}{url}",
                headers=headers,
                data=body,
                allow_redirects=False,
                timeout=AIOHTTP_TIMEOUT,
            ) as answer:
                return Raw(answer.status, answer.headers, await answer.read())

    def _past_httpx(self, url: str, parts: Mapping[str, Any]) -> aiohttp.ClientSession | None:
        """What to send it with, if it is no more than httpx would pass on."""
        transport = self._transport
        if (
            not isinstance(transport, AiohttpTransport)
            or self.auth is not None
            or self.timeout != TIMEOUT
            or parts.keys() - _PLAIN_PARTS
            or any(self.event_hooks.values())
            or not _PLAIN_PATH.fullmatch(url)
        ):
            return None
        if not isinstance(transport.client, aiohttp.ClientSession):
            transport.client = transport.get_client()
        return transport.client

    def _plain_headers(self) -> Mapping[str, str]:
        raw = self.headers.raw
        if self._headers_sent[0] != raw:
            self._headers_sent = raw, dict(self.headers)
        return self._headers_sent[1]

    def build_request(self, method: str, url: httpx.URL | str, **parts: Any) -> httpx.Request:
        if isinstance(url, str) and url.startswith("/"):
            # Put together as text: httpx parses a relative address three times.
            url = f"{str(self.base_url).rstrip('/')}{url}"
        return super().build_request(method, url, **parts)

    async def send(self, request: httpx.Request, **options: Any) -> httpx.Response:
        auth = options.get("auth", httpx.USE_CLIENT_DEFAULT)
        own = self.auth if auth is httpx.USE_CLIENT_DEFAULT else auth
        if own is not None or options.get("stream") or any(self.event_hooks.values()):
            return await super().send(request, **options)
        response = await self._transport.handle_async_request(request)
        response.request = request
        await response.aread()
        return response


def client(
    endpoint: str,
    headers: Mapping[str, str] | None = None,
    auth: httpx.Auth | None = None,
    verify: ssl.SSLContext | None = None,
) -> httpx.AsyncClient:
    """A client for one connection. Follows no redirect, keeps no cookie, retries nothing.

    Raises Rejected if the endpoint's host cannot be one.
    """
    try:
        _ = httpx.URL(endpoint).host
    except (httpx.InvalidURL, UnicodeError):
        raise Rejected(f"endpoint {endpoint!r} is not a URL such as https://host") from None

    def session() -> aiohttp.ClientSession:
        connector = _Connector(limit=0, ssl=verify or tls(), resolver=_Resolver(), ttl_dns_cache=60)
        return aiohttp.ClientSession(connector=connector, cookie_jar=aiohttp.DummyCookieJar())

    return Client(
        base_url=endpoint,
        headers={"User-Agent": f"auterity/{__version__}", **(headers or {})},
        auth=auth,
        transport=AiohttpTransport(client=session, verify=verify or tls()),
        timeout=TIMEOUT,
        follow_redirects=False,
        trust_env=False,
    )


class Answer:
    """A vendor's answer: status, headers and the parsed body."""

    __slots__ = ("body", "headers", "status")

    def __init__(self, status: int, headers: Mapping[str, str], body: Any) -> None:
        self.status, self.headers, self.body = status, headers, body


async def send(  # noqa: PLR0913 - the parts of a call
    door: Door,
    http: httpx.AsyncClient,
    method: str,
    path: str,
    *,
    label: str = "",
    concerns_all: Callable[[Answer], Failure | None] | None = None,
    **request: Any,
) -> Answer:
    """One call through the door; any status is an answer, `failure_of` makes it a failure.

    `label` is what metrics know the call by, where the method says too little of it.
    `concerns_all` takes the place of `held` for vendors that use a status in their own way.

    A read whose connection was dropped is repeated once: it is the one retry there is. Raises
    Unavailable for transport errors, and for a body that is not the JSON it claims to be.
    """
    async with door.call(label or method) as call:
        for attempt in (1, 2):
            try:
                raw = await _ask(http, method, path, request)
                break
            except (httpx.RemoteProtocolError, httpx.ReadError, httpx.ConnectTimeout) as error:
                # The aiohttp transport reports a connection closed under us as ConnectTimeout.
                if attempt == 2 or method not in ("GET", "HEAD"):
                    raise unreachable(http, error) from error
            except (httpx.HTTPError, OSError, aiohttp.ClientError, TimeoutError) as error:
                raise unreachable(http, error) from error
        call.status = str(raw.status)
        call.request_id = next(
            (raw.headers[h] for h in REQUEST_ID_HEADERS if h in raw.headers), None
        )
        answer = Answer(raw.status, raw.headers, _body(http, raw))
        if (failure := (concerns_all or held)(answer)) is not None:
            # Seen by the door, so that the connection's budget and breaker react.
            raise failure
        return answer


async def _ask(http: httpx.AsyncClient, method: str, path: str, request: Mapping[str, Any]) -> Raw:
    if isinstance(http, Client):
        return await http.ask(method, path, **request)
    response = await http.request(method, path, **request)
    return Raw(response.status_code, response.headers, response.content)


def held(answer: Answer) -> Failure | None:
    """The failure, if the whole connection is concerned and not only this request."""
    if answer.status == 429:
        return Throttled(f"the vendor asked for fewer calls{reason(answer)}", retry_after(answer))
    if answer.status >= 500 or answer.status == 408:
        wait = retry_after(answer)
        if answer.status == 503 and wait is not None:
            return Throttled(f"the vendor asked to wait{reason(answer)}", wait)
        return Unavailable(f"the vendor answered {answer.status}{reason(answer)}")
    return None


def failure_of(answer: Answer) -> Failure | None:
    """The failure that a status means; None for success."""
    status = answer.status
    if status < 300:
        return None
    told = reason(answer)
    by_status: dict[int, Failure] = {
        401: Unauthorized(f"the vendor refuses the credentials{told}"),
        403: Unauthorized(f"the credentials may not do this{told}"),
        404: NotFound(f"the vendor knows no such object{told}"),
        410: NotFound(f"the vendor no longer has such an object{told}"),
        409: Conflict(f"the vendor answered that it conflicts with what exists{told}"),
        423: Busy(f"the vendor is still working on it{told}"),
    }
    if status < 400:
        return Unavailable(f"the vendor answered with a redirect ({status}), which is not followed")
    return by_status.get(status) or Rejected(f"the vendor refused the request ({status}){told}")


def reason(answer: Answer) -> str:
    """What the vendor says of a failure, as `: text`; empty if nothing readable."""
    body = answer.body
    for key in ("message", "error_description", "errorMessage", "error", "detail", "msg", "errors"):
        if isinstance(body, dict) and body.get(key):
            body = body[key]
            if isinstance(body, dict):
                body = body.get("message") or body.get("reason") or body
            break
    if body and isinstance(body, list | dict):
        body = json.dumps(body, separators=(",", ":"))
    text = " ".join(str(body or "").split())
    if not text or text.startswith("<"):
        return ""
    # Hidden before it is cut: half a secret would not be known again.
    return f": {hide(text)[:LONGEST_REASON]}"


def retry_after(answer: Answer) -> float | None:
    """Seconds that the vendor asks to wait: Retry-After as seconds or as a date."""
    value = answer.headers.get("retry-after", "")
    try:
        wait = float(value)
    except ValueError:
        pass
    else:
        return max(0.0, wait) if isfinite(wait) else None
    try:
        return max(0.0, parsedate_to_datetime(value).timestamp() - time())
    except (TypeError, ValueError):
        return None


def unreachable(http: httpx.AsyncClient, error: BaseException) -> Failure:
    """The failure that a transport error means."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, Failure):
            return cause
        cause = cause.__cause__ or cause.__context__
    what = "did not answer in time" if isinstance(error, TimeoutError) else "cannot be reached"
    if isinstance(error, httpx.ReadTimeout | httpx.WriteTimeout):
        what = "did not answer in time"
    return Unavailable(f"{http.base_url.host} {what}")


def _body(http: httpx.AsyncClient, raw: Raw) -> Any:
    if len(raw.content) > LARGEST_ANSWER:
        raise Unavailable(f"{http.base_url.host} sent more than {LARGEST_ANSWER >> 20} MiB")
    if not raw.content:
        return None
    declared = raw.headers.get("content-type", "")
    if declared.split(";")[0].strip().lower().endswith("json"):
        try:
            return orjson.loads(raw.content)
        except ValueError as error:
            if raw.status >= 400:
                return None
            raise Unavailable(f"{http.base_url.host} sent broken JSON") from error
    # In the charset that it is declared in.
    text = httpx.Response(200, headers={"content-type": declared}, content=raw.content).text
    if raw.status < 300 and text.lstrip()[:1] == "<":
        raise Unavailable(
            f"{http.base_url.host} answered with a web page instead of data; is the endpoint right?"
        )
    return text
