"""Azure: Resource Manager and the data planes of its services, as an application of Entra ID.

https://learn.microsoft.com/rest/api/azure/
"""

import asyncio
import os
import re
from collections.abc import Callable
from dataclasses import dataclass
from json import dumps
from pathlib import Path
from typing import Annotated, Any, ClassVar, Final, Literal

import httpx
from pydantic import Field, SecretStr

from auterity.api.connection import RateLimit
from auterity.api.fields import Model, Rule, SecretValue, Url
from auterity.engine.calls import Door
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
from auterity.engine.redaction import hide
from auterity.transport import http
from auterity.transport.endpoints import checked
from auterity.transport.oauth import ClientCredentials, Grant

JSON = dict[str, Any]

OWNER_TAG: Final = "auterity-owner"
"""The tag that carries the owner's mark: no name of a tag has a slash."""
OUR_TAGS: Final = "auterity-"
"""What the names of all tags begin with that are not the user's."""
KEY_TAG: Final = f"{OUR_TAGS}publishes-key"
"""The tag on what a key is read of, to be put into the outputs."""
THEIR_TAGS: Final = "hidden-"
"""And those that are the portal's."""
MOST_OPERATIONS: Final = 1000
LONGEST_BODY: Final = 64 << 10
LONGEST_TEXT: Final = 400
SUBSCRIPTIONS: Final = "2022-12-01"
ASSERTION: Final = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"

Guid = Annotated[
    str, Field(pattern=r"^[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}$", max_length=36)
]


@dataclass(frozen=True, slots=True)
class Cloud:
    """Where one of Azure's clouds is."""

    login: str
    management: str
    cognitive: str
    """Scope of tokens for Azure OpenAI."""
    ml: str
    """Scope of tokens for endpoints of Azure Machine Learning."""
    portal: str


CLOUDS: Final = {
    "Public": Cloud(
        "https://login.microsoftonline.com",
        "https://management.azure.com",
        "https://cognitiveservices.azure.com/.default",
        "https://ml.azure.com/.default",
        "https://portal.azure.com",
    ),
    "USGovernment": Cloud(
        "https://login.microsoftonline.us",
        "https://management.usgovcloudapi.net",
        "https://cognitiveservices.azure.us/.default",
        "https://ml.azure.us/.default",
        "https://portal.azure.us",
    ),
    "China": Cloud(
        "https://login.chinacloudapi.cn",
        "https://management.chinacloudapi.cn",
        "https://cognitiveservices.azure.cn/.default",
        "https://ml.azure.cn/.default",
        "https://portal.azure.cn",
    ),
}


class Endpoints(Model):
    """Endpoints used instead of the cloud's own."""

    login: Url | None = None
    """Where tokens are had, instead of Entra ID's address."""
    management: Url | None = None
    """Instead of Azure Resource Manager's address, such as a private link."""
    open_ai: Annotated[Url | None, Field(alias="openAI")] = None
    """Instead of the address that each Azure OpenAI account tells, such as a gateway; what comes
    after it begins with /openai/v1."""


class AzureConnection(Connector):
    """A subscription and resource group of Azure, by an application of Entra ID."""

    vendor: ClassVar[str] = "azure"
    # Each subscription and application may write ten times and read 25 times a second.
    # https://learn.microsoft.com/azure/azure-resource-manager/management/request-limits-and-throttling
    rate_limit: ClassVar[RateLimit] = RateLimit(per_second=10, burst=25, concurrent=8)

    rules = (
        Rule(
            "!has(self.clientSecret) || (has(self.tenantId) && has(self.clientId))",
            "clientSecret needs tenantId and clientId",
        ),
    )

    tenant_id: Guid | None = None
    """Tenant (directory) of the application."""
    client_id: Guid | None = None
    """Id of the application (client)."""
    client_secret: SecretValue | None = None
    """Its secret. Without it, the operator's own workload identity is used: the token of its
    Kubernetes service account, which the application (of its pod, or the one named here) must trust
    by a federated credential. Never the node's identity."""
    subscription_id: Guid
    """Subscription that everything of this connection is in."""
    resource_group: Annotated[str, Field(min_length=1, max_length=90, pattern=r"^[\w\-.()]+$")]
    """Resource group that everything of this connection is in."""
    cloud: Literal["Public", "USGovernment", "China"] = "Public"
    """Which of Azure's clouds it is."""
    endpoints: Endpoints = Field(default_factory=Endpoints)
    """Endpoints used instead of the cloud's own; for connections with a clientSecret only."""

    async def open(self, access: Access) -> "AzureSession":
        if self.client_secret is not None:
            if self.tenant_id is None or self.client_id is None:
                raise Rejected("clientSecret needs tenantId and clientId")
        elif not access.lends_identity:
            raise Rejected(
                "there is no clientSecret, and the operator lends its own workload identity only "
                "to ClusterConnections (or to all with --lend-identity)"
            )
        elif any(value is not None for _, value in self.endpoints):
            # Whoever answers there would have the operator's own tokens.
            raise Rejected(
                "endpoints are for connections with a clientSecret: the operator's own identity is "
                "shown to Azure alone"
            )
        return AzureSession(access.door, self, allow_insecure=access.allow_insecure)


class EntraCredentials(ClientCredentials):
    """Tokens for one scope."""

    def __init__(
        self, door: Door, client: httpx.AsyncClient, connector: AzureConnection, scope: str
    ) -> None:
        self._connector, self._scope = connector, scope
        super().__init__(door, client, Grant("", "", None))

    async def _fetch(self) -> SecretStr:
        # Anew each time: the token of a service account is renewed every hour.
        self.grant = self._granted()
        return await super()._fetch()

    def _granted(self) -> Grant:
        own, form = self._connector, {"scope": self._scope}
        if own.client_secret is not None:
            secret = SecretStr(own.client_secret.reveal())
            return Grant(_token_path(str(own.tenant_id)), str(own.client_id), secret, form=form)
        tenant = own.tenant_id or os.environ.get("AZURE_TENANT_ID")
        client = own.client_id or os.environ.get("AZURE_CLIENT_ID")
        file = os.environ.get("AZURE_FEDERATED_TOKEN_FILE")
        if not (tenant and client and file):
            raise Unauthorized(
                "the operator has no workload identity: its pod needs the label "
                "azure.workload.identity/use, and its service account the annotation "
                "azure.workload.identity/client-id; or give the connection a clientSecret"
            )
        try:
            assertion = Path(file).read_text().strip()
        except OSError as error:
            raise Unauthorized("the token of the operator's service account is gone") from error
        form |= {"client_assertion_type": ASSERTION, "client_assertion": assertion}
        return Grant(_token_path(tenant), client, None, form=form)

    def _refused(self, answer: http.Answer) -> Failure | None:
        body = answer.body if isinstance(answer.body, dict) else {}
        if answer.status < 400 or "error_description" not in body:
            return super()._refused(answer)
        if body.get("error") == "temporarily_unavailable":
            return Unavailable("Entra ID gives out no token at the moment")
        # What follows the first line are ids and the time.
        told = re.split(r"[\r\n]| Trace ID:", str(body["error_description"]))[0]
        return Unauthorized(
            f"Entra ID refuses the application {self.grant.client_id}: {_shown(told)}"
        )


class AzureSession(Session):
    """Calls about one resource group. Ids are paths, as Resource Manager has them."""

    def __init__(self, door: Door, connector: AzureConnection, *, allow_insecure: bool) -> None:
        self.door, self._connector = door, connector
        self.cloud, own = CLOUDS[connector.cloud], connector.endpoints
        self._allow_insecure = allow_insecure
        self._login = http.client(self._checked(own.login or self.cloud.login))
        self._management = http.client(self._checked(own.management or self.cloud.management))
        self._clients: dict[str, httpx.AsyncClient] = {}
        self._tokens: dict[str, EntraCredentials] = {}
        self._writing: dict[str, asyncio.Lock] = {}
        self._operations: dict[str, str] = {}

    @property
    def group(self) -> str:
        """The resource group's id, which the ids of everything in it begin with."""
        subscription, name = self._connector.subscription_id, self._connector.resource_group
        return f"/subscriptions/{subscription}/resourceGroups/{name}"

    @property
    def open_ai(self) -> str | None:
        """The connection's own address for Azure OpenAI, if it has one."""
        own = self._connector.endpoints.open_ai
        return None if own is None else self._checked(own)

    async def arm(  # noqa: PLR0913 - the parts of a call
        self,
        method: str,
        id: str,
        version: str,
        *,
        label: str = "",
        query: dict[str, str] | None = None,
        json: JSON | None = None,
    ) -> Any:
        """One call to Resource Manager; the parsed body. Nothing is waited for.

        Raises the failure that the answer means.
        """
        answer = await self._send(
            self._management,
            f"{self.cloud.management}/.default",
            method,
            id,
            label=label,
            params={**(query or {}), "api-version": version},
            json=json,
        )
        if (failure := refusal(answer)) is not None:
            raise failure
        if operation := answer.headers.get("azure-asyncoperation"):
            self._remember(id, operation)
        return answer.body

    async def find(self, id: str, version: str) -> JSON | None:
        """A resource; None if it does not exist."""
        try:
            body = await self.arm("GET", id, version)
        except NotFound:
            return None
        if not isinstance(body, dict):
            raise Unavailable("Azure answered a resource without any data")
        return body

    async def pages(self, id: str, version: str, **query: str) -> list[JSON]:
        """Everything in a list."""
        found: list[JSON] = []
        path, asked, with_version = id, query, version
        while True:
            body = await self.arm("GET", path, with_version, query=asked)
            if not isinstance(body, dict) or not isinstance(body.get("value"), list):
                raise Unavailable("Azure answered a list without any items")
            found += body["value"]
            if not (onward := body.get("nextLink")):
                return found
            # Whole addresses: only what comes after the host is followed.
            link = httpx.URL(onward)
            path, asked = link.path, dict(link.params)
            with_version = asked.pop("api-version", version)

    async def why(self, id: str) -> str | None:
        """What the last operation on a resource failed with, as far as this process has seen it.

        Resource Manager tells it there and nowhere else, and for hours only.
        """
        if (operation := self._operations.get(id.lower())) is None:
            return None
        link = httpx.URL(operation)
        query = dict(link.params)
        try:
            body = await self.arm("GET", link.path, query.pop("api-version", ""), query=query)
        except NotFound:
            return None
        error = body.get("error") if isinstance(body, dict) else None
        return _text_of(error) or None if isinstance(error, dict) else None

    async def data(
        self, base: str, scope: str, method: str, path: str, *, label: str = "", **request: Any
    ) -> Any:
        """One call to a service's own address; the parsed body. Raises as `arm` does."""
        answer = await self._send(self._at(base), scope, method, path, label=label, **request)
        if (failure := refusal(answer)) is not None:
            raise failure
        return answer.body

    async def ask(  # noqa: PLR0913 - the parts of a call
        self,
        base: str,
        scope: str,
        path: str,
        body: str | None,
        content_type: str,
        bearer: SecretStr | None = None,
        **headers: str,
    ) -> Answered:
        """Send a request as a user would; whatever comes back but a refused token.

        With `bearer` in place of a token of Entra ID, if there is one.
        """
        content = {} if body is None else {"content": body.encode()}
        answer = await self._send(
            self._at(base),
            scope,
            "GET" if body is None else "POST",
            path,
            label="GetAnswer",
            headers={**headers, **({"Content-Type": content_type} if body is not None else {})},
            concerns_all=lambda _: None,
            bearer=bearer,
            **content,
        )
        if answer.status in (401, 403) and (failure := refusal(answer)) is not None:
            raise failure
        text = answer.body if isinstance(answer.body, str) else dumps(answer.body)
        return Answered(answer.status, text[:LONGEST_BODY])

    async def verify(self) -> Identity:
        subscription = self._connector.subscription_id
        seen = await self.pages("/subscriptions", SUBSCRIPTIONS)
        token = self._tokens[f"{self.cloud.management}/.default"]
        application = f"application {token.grant.client_id}"
        for one in seen:
            if str(one.get("subscriptionId", "")).lower() == subscription.lower():
                return Identity(f"{application} in subscription {one.get('displayName')}")
        raise Unauthorized(
            f"{application} sees no subscription {subscription}: assign it a role there"
        )

    async def close(self) -> None:
        for client in (self._login, self._management, *self._clients.values()):
            await client.aclose()

    def one_at_a_time(self, id: str) -> asyncio.Lock:
        """To be held while something in this resource is written: Azure refuses a second write."""
        return self._writing.setdefault(id.lower(), asyncio.Lock())

    async def _send(  # noqa: PLR0913 - the parts of a call
        self,
        client: httpx.AsyncClient,
        scope: str,
        method: str,
        path: str,
        *,
        concerns_all: Callable[[http.Answer], Failure | None] | None = None,
        bearer: SecretStr | None = None,
        **request: Any,
    ) -> http.Answer:
        tokens = self._tokens.get(scope)
        if tokens is None:
            tokens = EntraCredentials(self.door, self._login, self._connector, scope)
            self._tokens[scope] = tokens
        headers = dict(request.pop("headers", None) or {})
        for last in (False, True):
            token = bearer or await tokens.token()
            headers["Authorization"] = f"Bearer {token.get_secret_value()}"
            answer = await http.send(
                self.door,
                client,
                method,
                path,
                headers=headers,
                concerns_all=concerns_all or _held,
                **request,
            )
            if answer.status != 401 or bearer or last:
                break
            # Revoked. A refused call has changed nothing.
            tokens.forget(token)
        return answer

    def _at(self, base: str) -> httpx.AsyncClient:
        if base not in self._clients:
            self._clients[base] = http.client(self._checked(base))
        return self._clients[base]

    def _checked(self, endpoint: str) -> str:
        return checked(endpoint, allow_insecure=self._allow_insecure)

    def _remember(self, id: str, operation: str) -> None:
        self._operations.pop(id.lower(), None)
        self._operations[id.lower()] = operation
        while len(self._operations) > MOST_OPERATIONS:
            self._operations.pop(next(iter(self._operations)))


def refusal(answer: http.Answer) -> Failure | None:
    """The failure that an answer means; None for success.

    https://learn.microsoft.com/azure/azure-resource-manager/troubleshooting/common-deployment-errors
    """
    if answer.status < 300:
        return None
    error = answer.body.get("error") if isinstance(answer.body, dict) else None
    error = error if isinstance(error, dict) else {}
    text = _text_of(error) or _shown(http.reason(answer).removeprefix(": "))
    if answer.status == 404 and not error:
        return Unavailable("404 came, and not as Azure sends it; is the endpoint right?")
    kind, what = _reaction(answer.status, str(error.get("code") or ""), text)
    return kind(f"{what}: {text}" if text else f"{what} ({answer.status})")


def _reaction(status: int, code: str, text: str) -> tuple[type[Failure], str]:
    """How an error is reacted to, and what it means."""
    quota = _QUOTA.search(code) or (status in (400, 403, 409) and _QUOTA_TEXT.search(text))
    under_way = status in (400, 409) and (code in _BUSY or _UNDER_WAY.search(text))
    cases: tuple[tuple[object, type[Failure], str], ...] = (
        (status < 400, Unavailable, "Azure answered with a redirect, which is not followed"),
        (status == 401, Unauthorized, "Azure refuses the token"),
        (code in _POLICY, Rejected, "a policy or lock at Azure forbids it"),
        (code == _NO_ROOM, Rejected, "Azure has no such machines to give at the moment"),
        (quota, Rejected, "a quota of the subscription is used up; ask Azure to raise it"),
        (code in _SUBSCRIPTION, Unauthorized, "the connection's subscription cannot be used"),
        (code == _UNREGISTERED, Rejected, "register the resource provider in the subscription"),
        (status == 403, Unauthorized, "the application may not do this"),
        (status == 404, NotFound, "Azure knows no such thing"),
        (code == _KEPT, Conflict, "one of that name was deleted and is kept for 48 hours"),
        (status in (412, 423) or under_way, Busy, "Azure is still working on it"),
        (
            status == 409 and code not in _REFUSED,
            Conflict,
            "Azure answered that it conflicts with what exists",
        ),
        (True, Rejected, "Azure refused it"),
    )
    return next((kind, what) for applies, kind, what in cases if applies)


def user_tags(tags: Any) -> dict[str, str]:
    """The tags that are not the operator's own, nor the portal's."""
    ours = (OUR_TAGS, THEIR_TAGS)
    return {k: v for k, v in (tags or {}).items() if not k.lower().startswith(ours)}


def tags_after(
    now: Any, want: dict[str, str] | None, changed: frozenset[str], ours: dict[str, str]
) -> dict[str, str]:
    """A resource's tags with the changes of a map `tags`, and the operator's own.

    Names of tags are the same in any case.
    """
    named = {path.partition(".")[2] for path in changed if path.startswith("tags.")}
    written = {**{k: v for k, v in (want or {}).items() if k in named}, **ours}
    gone = {name.lower() for name in (*named, *written)}
    kept = {k: v for k, v in (now or {}).items() if k.lower() not in gone}
    return kept | written


_POLICY: Final = frozenset({"RequestDisallowedByPolicy", "ScopeLocked", "RequestDisallowedByAzure"})
_UNREGISTERED: Final = "MissingSubscriptionRegistration"
_KEPT: Final = "FlagMustBeSetForRestore"
_SUBSCRIPTION: Final = frozenset(
    {
        *("SubscriptionNotFound", "InvalidSubscriptionId", "SubscriptionNotRegistered"),
        *("ReadOnlyDisabledSubscription", "DisallowedOperation"),
    }
)
_QUOTA: Final = re.compile(r"Quota(?!Id)")
_NO_ROOM: Final = "OutOfCapacity"
_QUOTA_TEXT: Final = re.compile(
    r"\bquota\b.*\b(exceed|insufficient|reached)|exceed\w* .*\bquota", re.IGNORECASE
)
_BUSY: Final = frozenset(
    {
        *("RequestConflict", "AnotherOperationInProgress", "ResourceGroupBeingDeleted"),
        *("ConcurrentRequest", "ConcurrentUpdate", "OperationInProgress", "PreconditionFailed"),
    }
)
_REFUSED: Final = frozenset(
    {
        *("SkuNotAvailable", "OperationNotAllowed", "PropertyChangeNotAllowed"),
        "LocationNotAvailableForResourceType",
    }
)
_UNDER_WAY: Final = re.compile(
    r"another operation|in progress|(Updating|Creating|Deleting|Scaling) provisioning state|"
    r"being (created|updated|deleted)",
    re.IGNORECASE,
)
_MOVING: Final = re.compile(
    r"[\s,;(]*\b(trace|correlation|request|activity|tracking|operation)[ -]?ids?\b"
    r"\s*[:='\"]+\s*['\"]?[\w-]+['\")]*|[\s,;(]*\btimestamp\b\s*[:=]\s*\S+",
    re.IGNORECASE,
)
"""What Azure's texts say that is another each time."""


def _held(answer: http.Answer) -> Failure | None:
    """The failure, if the whole connection is concerned."""
    wait = http.retry_after(answer)
    if milliseconds := answer.headers.get("retry-after-ms"):
        with_ms = http.retry_after(http.Answer(0, {"retry-after": milliseconds}, None))
        wait = wait if with_ms is None else with_ms / 1000
    if answer.status == 429:
        return Throttled("Azure asks for fewer calls", wait)
    if answer.status == 503 and wait is not None:
        return Throttled("Azure asks to wait", wait)
    if answer.status >= 500 or answer.status == 408:
        return Unavailable(f"Azure answered {answer.status}")
    return None


def _text_of(error: JSON) -> str:
    """Azure's error as one text."""
    messages = [str(error.get("message") or "")]
    for one in (error.get("details") or ())[:3]:
        detail = str(one.get("message") or "") if isinstance(one, dict) else ""
        if detail and detail not in messages:
            messages.append(detail)
    text = _shown(" ".join(m for m in messages if m))
    code = str(error.get("code") or "")
    return f"{code}: {text}" if code and text and not code.isdigit() else text or code


def _shown(text: str) -> str:
    """Fit to be shown: it may repeat what it was sent."""
    steady = _MOVING.sub("", " ".join(hide(text).split()))
    return "" if steady.startswith("<") else steady.strip(" ;,")[:LONGEST_TEXT]


def _token_path(tenant: str) -> str:
    return f"/{tenant}/oauth2/v2.0/token"
