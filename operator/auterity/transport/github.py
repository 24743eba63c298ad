"""Calls to GitHub through PyGithub, whose own retries and sleeps are off.

https://docs.github.com/en/rest
"""

import asyncio
import contextlib
import logging
from base64 import b64encode
from collections import OrderedDict
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from datetime import UTC, datetime
from json import loads
from time import time
from typing import Annotated, Any, ClassVar, Final
from urllib.parse import urlsplit

from pydantic import Field

from auterity import __version__
from auterity.api.connection import RateLimit
from auterity.api.fields import Model, SecretValue, Url
from auterity.engine.calls import Call, Door, fence
from auterity.engine.contract import Access, Connector, Identity, Session
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
from auterity.transport.endpoints import checked, refuse_resolved
from auterity.transport.http import Answer, reason, retry_after

API_VERSION: Final = "2022-11-28"
CLOUD: Final = "https://api.github.com"
TIMEOUT: Final = 20
"""Seconds; GitHub itself gives up on a request after ten."""
SECONDARY_PAUSE: Final = 60.0
"""What GitHub asks for when a secondary limit comes without Retry-After."""
THREADS: Final = 8
ANSWERS_KEPT: Final = 256


class GitHubApp(Model):
    """A GitHub App, acting as one of its installations."""

    app_id: Annotated[str, Field(min_length=1, max_length=64, pattern=r"^[A-Za-z0-9._-]+$")]
    """The App's id or client id."""
    installation_id: Annotated[int, Field(ge=1)]
    """The installation's id: the number at the end of its settings page's address."""
    private_key: SecretValue
    """The App's private key, in PEM format."""


class GitHubConnector(Connector):
    """GitHub.com, GitHub Enterprise Server or Enterprise Cloud with data residency."""

    vendor = "github"
    # 5,000 requests an hour, and far fewer than the 100 in flight that GitHub tolerates.
    # https://docs.github.com/en/rest/using-the-rest-api/rate-limits-for-the-rest-api
    rate_limit: ClassVar[RateLimit] = RateLimit(per_second=1.35, burst=60, concurrent=4)
    one_of = ("token", "app")

    token: SecretValue | None = None
    """A personal access token, fine-grained or classic."""
    app: GitHubApp | None = None
    """A GitHub App installation, whose tokens are made and renewed as needed."""
    endpoint: Url = CLOUD
    """Base URL of the API: https://HOST/api/v3 for Enterprise Server, https://api.NAME.ghe.com
    for data residency."""

    async def open(self, access: Access) -> Session:
        endpoint = checked(self.endpoint, allow_insecure=access.allow_insecure)
        # The SDK takes half a second to load.
        client, app_client = await asyncio.to_thread(self._clients, endpoint)
        return GitHubSession(access.door, endpoint, client, app_client, self.app)

    def _clients(self, endpoint: str) -> tuple[Any, Any]:
        try:
            import github
        except ImportError as error:
            raise Rejected("GitHub's SDK is not installed: install auterity[github]") from error
        # Its debug log has answers in full, tokens of installations among them.
        logging.getLogger("github").setLevel(logging.INFO)
        options: dict[str, Any] = {
            "base_url": endpoint,
            "timeout": TIMEOUT,
            "user_agent": f"auterity/{__version__}",
            "per_page": 100,
            "retry": None,
            "pool_size": THREADS,
            "seconds_between_requests": None,
            "seconds_between_writes": None,
            "lazy": True,
            "api_version": API_VERSION,
        }
        if self.app is None:
            assert self.token is not None  # noqa: S101 - one of the two is set
            return github.Github(
                auth=github.Auth.Token(self.token.reveal().strip()), **options
            ), None
        app = github.Auth.AppAuth(self.app.app_id, self.app.private_key.reveal())
        try:
            app.create_jwt()
        except Exception as error:
            # The text of a key that cannot be parsed may be in the error.
            raise Rejected("app.privateKey is not an RSA private key in PEM format") from error
        installation = app.get_installation_auth(self.app.installation_id)
        return github.Github(auth=installation, **options), github.Github(auth=app, **options)


class GitHubSession(Session):
    """Calls to GitHub in threads of their own; failures are those of `engine/errors.py`."""

    def __init__(
        self, door: Door, endpoint: str, client: Any, app_client: Any, app: GitHubApp | None
    ) -> None:
        self.door, self.endpoint = door, endpoint
        self._client, self._app_client, self._app = client, app_client, app
        self._threads = ThreadPoolExecutor(THREADS, thread_name_prefix="github")
        self._answers: OrderedDict[str, Answer] = OrderedDict()

    @property
    def web(self) -> str:
        """Where people look: the address of the web pages."""
        parts = urlsplit(self.endpoint)
        return f"{parts.scheme}://{parts.netloc.removeprefix('api.')}"

    async def call(self, method: str, path: str, body: Any = None, **query: Any) -> Any:
        """One call; the parsed body. Raises the failure that the answer means."""
        return (await self._send(self._client, method, path, body, query)).body

    async def find(self, path: str, **query: Any) -> Any | None:
        """GET; None if there is nothing, or nothing that the token may see (404)."""
        try:
            return await self.call("GET", path, **query)
        except NotFound:
            return None

    async def remove(self, path: str, body: Any = None) -> None:
        """DELETE; absent is fine."""
        with contextlib.suppress(NotFound):
            await self.call("DELETE", path, body)

    async def pages(self, path: str, key: str, *, size: int = 100, **query: Any) -> list[Any]:
        """Every item of a list, over all its pages."""
        items: list[Any] = []
        page = 1
        while True:
            query.update(per_page=size, page=page)
            answer = await self._send(self._client, "GET", path, None, query)
            if not isinstance(answer.body, dict) or not isinstance(answer.body.get(key), list):
                raise Unavailable(f"GitHub's answer to GET {path} has no list of {key}")
            items += answer.body[key]
            if 'rel="next"' not in answer.headers.get("link", ""):
                return items
            page += 1

    async def verify(self) -> Identity:
        if self._app is None:
            answer = await self._send(self._client, "GET", "/user", None, {})
            told = answer.headers.get("github-authentication-token-expiration")
            try:
                return Identity(str(answer.body["login"]), _time(told) if told else None)
            except (KeyError, TypeError) as error:
                raise Unavailable("GitHub's answer to GET /user names no login") from error
        path = f"/app/installations/{self._app.installation_id}"
        found = (await self._send(self._app_client, "GET", path, None, {})).body
        try:
            if found.get("suspended_at"):
                raise Unauthorized("GitHub says that this installation of the App is suspended")
            name = f"app {found['app_slug']} installed at {found['account']['login']}"
        except (KeyError, TypeError, AttributeError) as error:
            raise Unavailable(f"GitHub's answer to GET {path} names no account") from error
        return Identity(name)

    async def close(self) -> None:
        for client in (self._client, self._app_client):
            if client is not None:
                client.close()
        self._threads.shutdown(wait=False, cancel_futures=True)

    async def _send(
        self, client: Any, method: str, path: str, body: Any, query: dict[str, Any]
    ) -> Answer:
        key = f"{path}?{sorted(query.items())}"
        kept = self._answers.get(key) if method == "GET" and client is self._client else None
        async with self.door.call(method) as call:
            if self.endpoint != CLOUD:
                await refuse_resolved(urlsplit(self.endpoint).hostname or "")
            answer = await self._in_thread(client, call, method, path, body, query, kept)
            if (failure := failure_of(answer, method, path)) is not None:
                raise failure
        if method == "GET" and "etag" in answer.headers and client is self._client:
            # A repeated answer (304) does not count against the hourly limit.
            self._answers[key] = answer
            self._answers.move_to_end(key)
            if len(self._answers) > ANSWERS_KEPT:
                self._answers.popitem(last=False)
        return answer

    async def _in_thread(  # noqa: PLR0913 - the parts of a request
        self,
        client: Any,
        call: Call,
        method: str,
        path: str,
        body: Any,
        query: dict[str, Any],
        kept: Answer | None,
    ) -> Answer:
        import github
        import requests

        def ask() -> tuple[int, dict[str, str], str]:
            headers = {"Accept": "application/vnd.github+json"}
            if kept is not None:
                headers["If-None-Match"] = kept.headers["etag"]
            fence()
            answered: tuple[int, dict[str, str], str] = client.requester.requestJson(
                method, path, parameters=query, headers=headers, input=body
            )
            return answered

        loop = asyncio.get_running_loop()
        for attempt in (1, 2):
            try:
                status, headers, text = await loop.run_in_executor(
                    self._threads, copy_context().run, ask
                )
                break
            except (requests.RequestException, github.GithubException, RuntimeError) as error:
                dropped = isinstance(error, requests.ConnectionError)
                # The one retry there is: a read whose connection was dropped.
                if not dropped or attempt == 2 or method != "GET":
                    raise self._unanswered(error, call) from error
        call.status = str(status)
        call.request_id = headers.get("x-github-request-id")
        if status == 304 and kept is not None:
            return kept
        return Answer(status, headers, _parsed(urlsplit(self.endpoint).netloc, status, text))

    def _unanswered(self, error: Exception, call: Call) -> Failure:
        import github
        import requests

        host = urlsplit(self.endpoint).netloc
        if isinstance(error, github.GithubException):
            # Making the installation's token was refused.
            answer = Answer(error.status, error.headers or {}, error.data)
            call.status = str(error.status)
            failure = failure_of(answer, "POST", "/app/installations/*/access_tokens")
            return failure or Unavailable(f"{host} gave no token to the App")
        if isinstance(error, requests.Timeout):
            return Unavailable(f"{host} did not answer in time")
        if isinstance(error, requests.ConnectionError):
            return Unavailable(f"{host} cannot be reached")
        if isinstance(error, requests.RequestException):
            return Unavailable(f"the answer of {host} broke off")
        return Unavailable(f"{host} redirects elsewhere; is the endpoint right?")


def failure_of(  # noqa: PLR0911 - one return a class of failures
    answer: Answer, method: str, path: str
) -> Failure | None:
    """The failure that an answer means; None for success.

    The text of limits is never passed on: it names users and requests, and so always differs.
    """
    status, told = answer.status, reason(answer)
    if status < 300:
        return None
    if status in (403, 429) and (pause := _pause(answer)) is not None:
        return Throttled("GitHub asks for fewer requests", pause)
    if status >= 500:
        wait = retry_after(answer)
        if status == 503 and wait is not None:
            return Throttled("GitHub asks to wait", wait)
        return Unavailable(f"GitHub answered {status} to {method} {path}")
    if status == 401:
        return Unauthorized(f"GitHub refuses the credentials{told}")
    if status == 404:
        return NotFound(f"GitHub knows no {path}, or the credentials may not see it")
    if status == 403 and not any(word in told.lower() for word in ("upgrade to", "archived")):
        needed = answer.headers.get("x-accepted-github-permissions")
        hint = f" (it needs {needed})" if needed else ""
        return Unauthorized(f"the credentials may not {method} {path}{hint}{told}")
    return _refusal(answer, method, path, told)


def _refusal(answer: Answer, method: str, path: str, told: str) -> Failure:
    """What a refusal of this very request means."""
    status, by_rule = answer.status, "rule violations" in told.lower()
    if status == 409 and "/contents/" in path and not by_rule:
        # The next visit reads what the other commit has made of the file.
        return Busy(f"another commit to the repository came first{told}")
    exists = status == 422 and "already_exists" in _codes(answer)
    # A deployment branch policy that exists answers 303.
    if status == 303 or exists or (status == 409 and not by_rule):
        return Conflict(f"GitHub answers that {path} conflicts with what exists{told}")
    if status < 400:
        return Unavailable(f"GitHub answered {method} {path} with a redirect ({status})")
    return Rejected(f"GitHub refuses {method} {path} ({status}){told}{_details(answer)}")


def seal(public_key: str, value: str) -> str:
    """A value that only the owner of the (base64) public key can open, as GitHub wants secrets."""
    try:
        from nacl.encoding import Base64Encoder
        from nacl.public import PublicKey, SealedBox
    except ImportError as error:
        raise Rejected("PyNaCl is not installed: install auterity[github]") from error
    try:
        key = PublicKey(public_key.encode(), Base64Encoder)
    except Exception as error:
        raise Unavailable("GitHub's public key for secrets is not one") from error
    return b64encode(SealedBox(key).encrypt(value.encode())).decode()


def _pause(answer: Answer) -> float | None:
    """Seconds to wait if a 403 or 429 is a limit; None if it is a refusal.

    https://docs.github.com/en/rest/using-the-rest-api/best-practices-for-using-the-rest-api
    """
    if (seconds := retry_after(answer)) is not None:
        return seconds
    if answer.headers.get("x-ratelimit-remaining") == "0":
        with contextlib.suppress(ValueError):
            return max(1.0, float(answer.headers.get("x-ratelimit-reset", "")) - time())
    told = reason(answer).lower()
    limited = "secondary rate limit" in told or "abuse" in told or "rate limit exceeded" in told
    return SECONDARY_PAUSE if limited or answer.status == 429 else None


def _errors(answer: Answer) -> list[Any]:
    errors = answer.body.get("errors") if isinstance(answer.body, dict) else None
    return errors if isinstance(errors, list) else []


def _codes(answer: Answer) -> set[str]:
    return {str(error.get("code")) for error in _errors(answer) if isinstance(error, dict)}


def _details(answer: Answer) -> str:
    details = [
        str(e.get("message") or f"{e.get('field')} {e.get('code')}")
        if isinstance(e, dict)
        else str(e)
        for e in _errors(answer)[:5]
    ]
    return f" ({'; '.join(details)})" if details else ""


def _parsed(host: str, status: int, text: str) -> Any:
    if not text:
        return None
    try:
        return loads(text)
    except ValueError as error:
        if status >= 400:
            return None
        if text.lstrip().startswith("<"):
            raise Unavailable(
                f"{host} answered with a web page instead of data; is the endpoint right?"
            ) from error
        raise Unavailable(f"{host} sent broken JSON") from error


def _time(told: str) -> str | None:
    """GitHub's `2026-05-01 10:00:00 UTC` (or with an offset) as RFC 3339."""
    for pattern in ("%Y-%m-%d %H:%M:%S %Z", "%Y-%m-%d %H:%M:%S %z"):
        with contextlib.suppress(ValueError):
            when = datetime.strptime(told.strip(), pattern)  # noqa: DTZ007 - UTC where no offset is told
            when = when if when.tzinfo else when.replace(tzinfo=UTC)
            return when.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    return None
