"""The one door to HTTP: clients with one shared TLS context, time-outs, and failures by status."""

import json
import socket
import ssl
from collections.abc import Callable, Mapping
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

from auterity import __version__
from auterity.engine.calls import Door
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


@cache
def tls() -> ssl.SSLContext:
    """The process's TLS context: one of them costs half a megabyte and 20 ms."""
    return httpx.create_ssl_context()


class Client(httpx.AsyncClient):
    """An httpx client whose requests go straight to its transport.

    What httpx does around a request (redirects, cookies, timing) is not wanted here, and costs as
    much CPU as the request itself.
    """

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
    """A client for one connection. Follows no redirect, keeps no cookie, retries nothing."""

    def session() -> aiohttp.ClientSession:
        connector = aiohttp.TCPConnector(
            limit=0, ssl=verify or tls(), resolver=_Resolver(), ttl_dns_cache=60
        )
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
                response = await http.request(method, path, **request)
                break
            except (httpx.RemoteProtocolError, httpx.ReadError, httpx.ConnectTimeout) as error:
                # The aiohttp transport reports a connection closed under us as ConnectTimeout.
                if attempt == 2 or method not in ("GET", "HEAD"):
                    raise unreachable(http, error) from error
            except (httpx.HTTPError, OSError, aiohttp.ClientError, TimeoutError) as error:
                raise unreachable(http, error) from error
        call.status = str(response.status_code)
        call.request_id = next(
            (response.headers[h] for h in REQUEST_ID_HEADERS if h in response.headers), None
        )
        answer = Answer(response.status_code, response.headers, _body(http, response))
        if (failure := (concerns_all or held)(answer)) is not None:
            # Seen by the door, so that the connection's budget and breaker react.
            raise failure
        return answer


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


def _body(http: httpx.AsyncClient, response: httpx.Response) -> Any:
    raw = response.content
    if len(raw) > LARGEST_ANSWER:
        raise Unavailable(f"{http.base_url.host} sent more than {LARGEST_ANSWER >> 20} MiB")
    if not raw:
        return None
    kind = response.headers.get("content-type", "").split(";")[0].strip().lower()
    if kind.endswith("json"):
        try:
            return orjson.loads(raw)
        except ValueError as error:
            if response.status_code >= 400:
                return None
            raise Unavailable(f"{http.base_url.host} sent broken JSON") from error
    text = response.text
    if response.status_code < 300 and text.lstrip()[:1] == "<":
        raise Unavailable(
            f"{http.base_url.host} answered with a web page instead of data; is the endpoint right?"
        )
    return text
