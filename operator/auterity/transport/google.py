"""Google Cloud, by its clients (https://cloud.google.com/python/docs/reference), in threads."""

import asyncio
import importlib
import json
import logging
import re
import sys
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from importlib.util import find_spec, module_from_spec
from inspect import signature
from threading import Lock
from typing import Annotated, Any, ClassVar, Final, get_args
from urllib.parse import urlsplit

from pydantic import Field

from auterity.api.connection import RateLimit
from auterity.api.fields import Rule, SecretValue, Url
from auterity.engine.calls import Door, call_in_hand, fence, reads
from auterity.engine.contract import Access, Connector, Identity, Session
from auterity.engine.contract import Answer as Answered
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
from auterity.transport import http
from auterity.transport.endpoints import checked, refuse_resolved
from auterity.transport.labels import OUR_LABELS

JSON = dict[str, Any]

SCOPES: Final = ("https://www.googleapis.com/auth/cloud-platform",)
LABELS_RULE: Final = Rule(
    f"!has(self.labels) || self.labels.all(key, !key.startsWith('{OUR_LABELS}'))",
    f"labels that begin with {OUR_LABELS} are the operator's own",
    ".labels",
)
THREADS: Final = 8
TIMEOUT: Final = (5, 25)
"""Seconds for connecting, and for every answer."""
LONGEST_BODY: Final = 64 << 10
_making = Lock()
"""Loading the SDK, and making its clients, is nothing for several threads at once."""


class GoogleConnection(Connector):
    """A Google Cloud project and location, by a service account."""

    vendor: ClassVar[str] = "google"
    # Vertex AI allows 600 resource management requests a minute and region.
    # https://cloud.google.com/vertex-ai/docs/quotas
    rate_limit: ClassVar[RateLimit] = RateLimit(per_second=8, burst=16, concurrent=THREADS)

    project: Annotated[
        str, Field(min_length=4, max_length=63, pattern=r"^([a-z][a-z0-9.:-]*[a-z0-9]|[0-9]+)$")
    ]
    """Id (or number) of the project that everything of this connection is in."""
    location: Annotated[str, Field(min_length=2, max_length=32, pattern=r"^[a-z][a-z0-9-]*$")]
    """Region that everything of this connection is in, such as europe-west4."""
    service_account_key: SecretValue | None = None
    """Key of a service account, as the JSON that Google gives out. Without it, the operator's own
    identity is used: Workload Identity of its Kubernetes service account, or a workload identity
    federation that its environment names by GOOGLE_APPLICATION_CREDENTIALS."""
    endpoint: Url | None = None
    """Endpoint used for all services instead of Google's own, such as a Private Service Connect
    endpoint."""

    @property
    def billing_region(self) -> str | None:
        return self.location

    async def open(self, access: Access) -> "GoogleSession":
        if self.service_account_key is None and not access.lends_identity:
            raise Rejected(
                "there is no serviceAccountKey, and the operator lends its own Google identity "
                "only to ClusterConnections (or to all with --lend-identity)"
            )
        endpoint = self.endpoint and checked(self.endpoint, allow_insecure=access.allow_insecure)
        return GoogleSession(access.door, self, endpoint)


@dataclass(frozen=True, slots=True)
class Api:
    """One of Google's APIs."""

    package: str
    """Its client library."""
    version: str
    """What the paths of its methods begin with."""
    host: Callable[[str], str]
    """Where it is, by location."""


def _vertex_host(location: str) -> str:
    if location == "global":
        return "aiplatform.googleapis.com"
    multiregion = location in ("us", "eu")
    region = f"aiplatform.{location}.rep" if multiregion else f"{location}-aiplatform"
    return f"{region}.googleapis.com"


VERTEX: Final = Api("google.cloud.aiplatform_v1", "v1", _vertex_host)
MONITORING: Final = Api("google.cloud.monitoring_v3", "v3", lambda _: "monitoring.googleapis.com")
"""Cloud Monitoring; its client library is not needed for what is read there."""


class GoogleSession(Session):
    """Calls to Google's APIs about one project and location; bodies are the API's own JSON."""

    def __init__(self, door: Door, connector: GoogleConnection, endpoint: str | None) -> None:
        self.door, self.endpoint = door, endpoint
        self.project, self.location = connector.project, connector.location
        self._key = connector.service_account_key
        self._threads = ThreadPoolExecutor(THREADS, "google")
        self._credentials: Any = None
        self._clients: dict[tuple[str, str], Any] = {}
        self._http: Any = None

    @property
    def parent(self) -> str:
        """Resource name of project and location, which names of resources begin with."""
        return f"projects/{self.project}/locations/{self.location}"

    async def call(self, api: Api, service: str, method: str, **request: Any) -> JSON:
        """One method of a service, both as the API's reference names them for its RPC interface.

        The request's fields by their JSON names. Returns the answer as JSON: of a method that
        starts a long-running operation, that operation. Raises the failure that it means.
        """
        answer: JSON = await self._do(method, partial(self._ask, api, service, method, request))
        return answer

    async def pages(
        self, api: Api, service: str, method: str, items: str, **request: Any
    ) -> list[JSON]:
        """All items of a method that lists in pages."""
        found: list[JSON] = []
        while True:
            answer = await self.call(api, service, method, **request)
            found += answer.get(items, ())
            if not (token := answer.get("nextPageToken")):
                return found
            request["pageToken"] = token

    async def get(self, api: Api, label: str, name: str, **query: Any) -> JSON:
        """Read a resource as it is told, where the client library does not know all of it."""
        ask = partial(self._send, api, label, "GET", name, query, None)
        answer: JSON = await self._do(label, ask)
        return answer

    async def write(self, api: Api, label: str, path: str, body: JSON, **query: Any) -> JSON:
        """POST what the client library does not know all of; the answer as it is told."""
        ask = partial(self._send, api, label, "POST", path, query, body)
        answer: JSON = await self._do(label, ask)
        return answer

    async def operations(self, api: Api, name: str) -> list[JSON]:
        """The long-running operations on a resource, the newest first; none if it is not there."""
        found: list[JSON] = []
        query: JSON = {"pageSize": 100}
        while True:
            try:
                # The clients ask at /ui/..., the first path that the API's configuration has.
                answer = await self.get(api, "ListOperations", f"{name}/operations", **query)
            except NotFound:
                return []
            found += answer.get("operations", ())
            if not (token := answer.get("nextPageToken")):
                return sorted(found, key=begun, reverse=True)
            query["pageToken"] = token

    async def post(
        self, api: Api, path: str, body: bytes, content_type: str, host: str | None = None
    ) -> Answered:
        """Send a body as it is to a method that hands it on; whatever comes back.

        Raises what Google itself has against it.
        """

        def ask() -> Answered:
            answer = self._session().post(
                f"{self._base(api, host)}{path}",
                data=body,
                headers={"Content-Type": content_type},
                timeout=TIMEOUT,
            )
            answered = _answer_of(answer)
            # A container may answer with the same; Google tells how long to wait.
            told = _is_googles(answered) or "retry-after" in answer.headers
            if answer.status_code in (401, 403, 404, 429) and told:
                raise refusal(answered, "sending a request")
            return Answered(answer.status_code, answer.text[:LONGEST_BODY])

        answered: Answered = await self._do("GetAnswer", ask)
        return answered

    async def verify(self) -> Identity:
        await self.call(VERTEX, "EndpointService", "ListEndpoints", parent=self.parent, pageSize=1)
        email = getattr(self._credentials, "service_account_email", None)
        known = email if email and email != "default" else "the operator's own identity"
        return Identity(f"{known} in project {self.project}")

    async def close(self) -> None:
        self._threads.shutdown(wait=False, cancel_futures=True)
        for client in self._clients.values():
            client.transport.close()
        if self._http is not None:
            self._http.close()

    async def _do(self, label: str, ask: Callable[[], Any]) -> Any:
        async with self.door.call(label):
            if self.endpoint is not None:
                await refuse_resolved(urlsplit(self.endpoint).hostname or "")
            return await asyncio.get_running_loop().run_in_executor(
                self._threads, copy_context().run, self._guarded, label, ask
            )

    def _guarded(self, label: str, ask: Callable[[], Any]) -> Any:
        """In a thread: loading the SDK takes seconds, and a call as long as Google takes."""
        try:
            from google.api_core.exceptions import GoogleAPICallError
            from google.auth import exceptions
            from google.protobuf.json_format import ParseError
            from requests import exceptions as broken
        except ImportError as error:
            raise Rejected("Google's SDK is missing: install auterity[google]") from error
        host = self._host
        try:
            try:
                fence()
                return ask()
            except (broken.ConnectionError, broken.ChunkedEncodingError) as error:
                # The one retry there is: a read whose kept-alive connection was closed.
                if not reads(label) or isinstance(error, broken.ReadTimeout):
                    raise
                fence()
                return ask()
        except GoogleAPICallError as error:
            if error.response is None:
                raise Unavailable(f"{host} cannot be reached ({type(error).__name__})") from error
            raise refusal(_answer_of(error.response), label) from error
        except ParseError:
            # Without its cause, which quotes the answer.
            raise _unreadable(host) from None
        except (exceptions.RefreshError, exceptions.DefaultCredentialsError) as error:
            if getattr(error, "retryable", False):
                raise Unavailable("Google gives out no token at the moment") from error
            raise Unauthorized(f"no Google credentials could be had{_said(str(error))}") from error
        except (exceptions.GoogleAuthError, broken.RequestException, OSError) as error:
            slow = isinstance(error, broken.ReadTimeout)
            what = "did not answer in time" if slow else "cannot be reached"
            raise Unavailable(f"{host} {what} ({type(error).__name__})") from error

    def _ask(self, api: Api, service: str, method: str, request: JSON) -> JSON:
        from google.protobuf import json_format

        with _making:
            client = self._client(api, service)
        ask = getattr(client, _snake(method))
        # A request's own type or a dict, it says.
        kind = get_args(signature(ask).parameters["request"].annotation)[0]
        message = kind()
        try:
            json_format.ParseDict(request, kind.pb(message))
        except json_format.ParseError as error:
            # It goes on with all the fields that there are.
            text = str(error).partition("Available Fields")[0]
            raise Rejected(f"{method} does not take it{_said(text)}") from error
        answer = ask(request=message, retry=None, timeout=TIMEOUT[1])
        return _json(answer)

    def _send(  # noqa: PLR0913 - the parts of a call
        self, api: Api, label: str, method: str, name: str, query: JSON, body: JSON | None
    ) -> JSON:
        answer = self._session().request(
            method,
            f"{self._base(api)}/{api.version}/{name}",
            params={"$alt": "json", **query},
            json=body,
            timeout=TIMEOUT,
        )
        told = _answer_of(answer)
        if answer.status_code >= 400:
            raise refusal(told, label)
        if not isinstance(told.body, dict):
            raise _unreadable(self._host)
        return told.body

    @property
    def _host(self) -> str:
        return urlsplit(self.endpoint or "").hostname or f"Google Cloud in {self.location}"

    def _base(self, api: Api, host: str | None = None) -> str:
        return self.endpoint or f"https://{host or api.host(self.location)}"

    def _client(self, api: Api, service: str) -> Any:
        key = (api.package, service)
        if key not in self._clients:
            clients = _part(api, f"services.{_snake(service)}")
            client = getattr(clients, f"{service}Client")(
                credentials=self._authority(),
                transport="rest",
                client_options={"api_endpoint": self._base(api).removeprefix("https://")},
            )
            _tamed(client.transport._session)  # noqa: SLF001 - there is no other way to it
            self._clients[key] = client
        return self._clients[key]

    def _session(self) -> Any:
        from google.auth.transport.requests import AuthorizedSession

        with _making:
            if self._http is None:
                self._http = _tamed(AuthorizedSession(self._authority()))
            return self._http

    def _authority(self) -> Any:
        """With the key that was given, else as the operator's pod."""
        if self._credentials is None:
            # At DEBUG they tell whole requests, secrets included.
            logging.getLogger("google").setLevel(logging.INFO)
            self._credentials = _for_tokens(_by_key(self._key) if self._key else _own())
        return self._credentials


def user_labels(labels: Mapping[str, str]) -> dict[str, str]:
    """The labels that are not the operator's own, nor Google's."""
    return {k: v for k, v in labels.items() if not k.startswith((OUR_LABELS, "goog-"))}


def begun(operation: JSON) -> str:
    """When a long-running operation was started; times of one API sort as text."""
    told: str = (operation.get("metadata") or {}).get("genericMetadata", {}).get("createTime", "")
    # Fractions come with 0, 3, 6 or 9 digits.
    whole, _, fraction = told.removesuffix("Z").partition(".")
    return f"{whole}.{fraction:0<9}"


def kind_of(operation: JSON) -> str:
    """What a long-running operation does, such as DeployModel."""
    type_: str = (operation.get("metadata") or {}).get("@type", "")
    return type_.rpartition(".")[2].removesuffix("OperationMetadata")


def refusal(  # noqa: PLR0911 - one return a reaction
    answer: http.Answer, what: str
) -> Failure:
    """The failure that one of Google's answers means."""
    error = answer.body.get("error") if isinstance(answer.body, dict) else None
    error = error if isinstance(error, dict) else {}
    code = error.get("status") or ""
    if (general := http.held(answer)) is not None and code != "RESOURCE_EXHAUSTED":
        return general
    if answer.status < 400 or (answer.status == 404 and not code):
        return Unavailable(
            f"{answer.status} came, and not as Google sends it; is the endpoint right?"
        )
    text = str(error.get("message") or "")
    details = {
        str(one.get("@type", "")).rpartition(".")[2]: one for one in error.get("details", ())
    }
    reason = details.get("ErrorInfo", {}).get("reason", "")
    said = _said(text) or http.reason(answer)
    if code == "RESOURCE_EXHAUSTED" or reason in ("rateLimitExceeded", "RATE_LIMIT_EXCEEDED"):
        return _exhausted(answer, details, reason, text)
    if reason in ("SERVICE_DISABLED", "BILLING_DISABLED"):
        return Unauthorized(f"the project is not set up for it: {reason}{said}")
    if answer.status in (401, 403):
        who = "Google refuses the credentials" if answer.status == 401 else "the service account"
        lacks = "" if answer.status == 401 else f" may not do {what}"
        return Unauthorized(f"{who}{lacks}{said}")
    if answer.status == 412:
        return Busy(f"it was changed meanwhile{said}")
    if answer.status == 499:
        return Unavailable(f"{what} was broken off at Google{said}")
    if code == "ABORTED" or (code == "FAILED_PRECONDITION" and _UNDER_WAY.search(text)):
        return Busy(f"Google is still working on it{said}")
    kinds: dict[str, type[Failure]] = {"NOT_FOUND": NotFound, "ALREADY_EXISTS": Conflict}
    return kinds.get(code, Rejected)(f"{what} was refused{said}" if said else f"{what}: {code}")


def meaning(error: JSON) -> str:
    """What the error of a long-running operation says, for people."""
    text = str(error.get("message") or f"error {error.get('code')}")
    hint = "; ask Google to raise the quota" if _QUOTA.search(text) else ""
    return f"{_said(text).removeprefix(': ')}{hint}"


_UNDER_WAY: Final = re.compile(
    r"in progress|already being|another operation|concurrent|ongoing|under way|currently being"
)
_QUOTA: Final = re.compile(
    r"quotas? (are|is) exceeded|quota exceeded|PerProject|exceed quota", re.IGNORECASE
)
_RATE: Final = re.compile(r"per minute|per second|requests? per|\brate\b", re.IGNORECASE)


def _exhausted(answer: http.Answer, details: Mapping[str, JSON], reason: str, text: str) -> Failure:
    """Asked too often, or a quota of things is used up: Google's status is the same for both."""
    wait = http.retry_after(answer)
    delay = str(details.get("RetryInfo", {}).get("retryDelay", ""))
    if wait is None and re.fullmatch(r"[0-9.]+s", delay):
        wait = float(delay[:-1])
    said = _said(text)
    often = wait is not None or reason in ("rateLimitExceeded", "RATE_LIMIT_EXCEEDED")
    used_up = "QuotaFailure" in details or _QUOTA.search(text)
    if not often and used_up and not _RATE.search(text):
        return Rejected(f"a quota of the project is used up; ask Google to raise it{said}")
    if not often and "insufficient" in text:
        return Rejected(f"Google has no such hardware to give at the moment{said}")
    return Throttled(f"Google asked for fewer calls{said}", wait)


def _said(text: str) -> str:
    """What Google says, fit to be shown: it may repeat what it was sent."""
    return http.reason(http.Answer(0, {}, {"message": text})) if text else ""


def _answer_of(response: Any) -> http.Answer:
    try:
        body = json.loads(response.content)
    except ValueError:
        body = None
    return http.Answer(response.status_code, response.headers, body)


def _is_googles(answer: http.Answer) -> bool:
    error = answer.body.get("error") if isinstance(answer.body, dict) else None
    return isinstance(error, dict) and "status" in error


def _unreadable(host: str) -> Unavailable:
    return Unavailable(
        f"{host} answered what is not the data of Google's API; is the endpoint right?"
    )


def _tamed(session: Any) -> Any:
    """The HTTP session of a client, without what it would do by itself."""
    session.trust_env = False
    session.max_redirects = 0
    # A refused token would be fetched anew and the call be sent again, twice.
    session._max_refresh_attempts = 0  # noqa: SLF001 - settable only where the session is made
    session.hooks["response"].append(_note)
    return session


def _note(response: Any, **_: Any) -> None:
    if (call := call_in_hand.get()) is not None:
        call.status = str(response.status_code)
        call.request_id = response.headers.get("x-goog-request-id") or call.request_id


def _for_tokens(credentials: Any) -> Any:
    """Credentials that ask for tokens, and for nothing else.

    The SDK looks up the locations that a service account may be used from: in a thread of its own,
    past the door and the connection's endpoint, with retries. Where that fails it goes on without,
    so that the calls are the same but for a header.
    """
    if (lookups := getattr(credentials, "_rab_manager", None)) is not None:
        # Copies, which the clients make, take this over. Its times have no zone.
        never = datetime.max  # noqa: DTZ901 - see above
        lookups._data = lookups._data._replace(cooldown_expiry=never)  # noqa: SLF001 - see above
    return credentials


def _by_key(key: SecretValue) -> Any:
    from google.oauth2 import service_account

    try:
        told = json.loads(key.reveal())
        # Tokens are signed here, and none is fetched from the address that the key names.
        return service_account.Credentials.from_service_account_info(
            told, scopes=SCOPES, always_use_jwt_access=True
        )
    except (ValueError, TypeError, AttributeError, KeyError):
        # Without its cause, which may quote the key.
        raise Unauthorized(
            "serviceAccountKey is not the JSON key of a service account (type service_account)"
        ) from None


def _own() -> Any:
    from google import auth

    return auth.default(scopes=SCOPES)[0]


def _json(answer: Any) -> JSON:
    from google.protobuf import json_format

    if hasattr(answer, "pages"):
        answer = next(iter(answer.pages))
    if (operation := getattr(answer, "operation", None)) is not None:
        # Not its metadata and response: they may be of a kind that this SDK does not know.
        error = json_format.MessageToDict(operation.error) if operation.HasField("error") else None
        told = {"name": operation.name, "done": operation.done}
        return told | ({"error": error} if error else {})
    if answer is None:
        return {}
    told_: JSON = json_format.MessageToDict(type(answer).pb(answer))
    return told_


def _part(api: Api, name: str) -> Any:
    """A module of a client library, without the rest of it.

    The library's own packages load all that Google can do: of Vertex AI every service, 100 MiB more
    than one takes. From Python 3.15 on they do it at first use (by their __lazy_modules__).
    Until then, while the module is loaded, empty packages stand in for them.
    """
    whole = f"{api.package}.{name}"
    packages = (api.package, f"{api.package}.services", f"{api.package}.types")
    empty = [package for package in packages if package not in sys.modules]
    try:
        for package in empty:
            if (spec := find_spec(package)) is None:
                raise ModuleNotFoundError(f"there is no {package}", name=package)
            sys.modules[package] = module_from_spec(spec)
        return importlib.import_module(whole)
    finally:
        for package in empty:
            sys.modules.pop(package, None)


def _snake(name: str) -> str:
    return re.sub(r"(?<!^)(?=[A-Z])", "_", name).lower()
