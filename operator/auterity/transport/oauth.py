"""Vendors whose REST API wants a token that an OAuth client gets for itself."""

import asyncio
from abc import abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from time import monotonic
from typing import Any, Final

import httpx
from pydantic import SecretStr

from auterity.engine.calls import Door
from auterity.engine.contract import Access
from auterity.engine.errors import Failure, Unauthorized, Unavailable
from auterity.transport import http
from auterity.transport.endpoints import checked
from auterity.transport.rest import RestConnector, RestSession

USUAL_LIFETIME: Final = 60.0
"""Seconds that a token is used if the vendor does not tell how long it is valid."""
LONGEST_MARGIN: Final = 30.0
"""A token is renewed this many seconds before it expires, or after 80 % of a short life."""


@dataclass(frozen=True, slots=True)
class Grant:
    """What a token is asked for with (RFC 6749, section 4.4)."""

    path: str
    """Of the token endpoint, below the connection's endpoint; or a whole URL."""
    client_id: str
    client_secret: SecretStr | None
    """None if something else in the form proves who asks."""
    in_header: bool = False
    """Whether client id and secret go into the Authorization header and not into the form."""
    form: Mapping[str, str] = field(default_factory=dict)
    """Further fields, such as scope or audience."""


class ClientCredentials:
    """The token of one OAuth client: fetched through the door, kept until shortly before expiry."""

    def __init__(
        self,
        door: Door,
        client: httpx.AsyncClient,
        grant: Grant,
        clock: Callable[[], float] = monotonic,
    ) -> None:
        self._door, self._client, self.grant, self._clock = door, client, grant, clock
        self._lock = asyncio.Lock()
        self._token: SecretStr | None = None
        self._good_until = 0.0

    async def token(self) -> SecretStr:
        """A token that is good for a while; callers that find none wait for one fetch together.

        Raises Unauthorized if the vendor refuses the client. Must be called outside of the door:
        a call that waited inside for a token would hold the place that fetching it needs.
        """
        async with self._lock:
            if self._token is None or self._clock() >= self._good_until:
                self._token = None
                self._token = await self._fetch()
            return self._token

    def forget(self, token: SecretStr | None = None) -> None:
        """Fetch anew next time; if a token is given, only if it is still the one in use."""
        if token is None or token is self._token:
            self._token = None

    async def _fetch(self) -> SecretStr:
        grant, asked = self.grant, self._clock()
        form = {"grant_type": "client_credentials", **grant.form}
        secret = grant.client_secret.get_secret_value() if grant.client_secret else None
        auth = httpx.BasicAuth(grant.client_id, secret or "") if grant.in_header else None
        if auth is None:
            form |= {"client_id": grant.client_id}
            form |= {"client_secret": secret} if secret is not None else {}
        answer = await http.send(
            self._door, self._client, "POST", grant.path, label="GetToken", data=form, auth=auth
        )
        if (failure := self._refused(answer)) is not None:
            raise failure
        try:
            token = SecretStr(answer.body["access_token"])
            life = float(answer.body.get("expires_in") or USUAL_LIFETIME)
        except (KeyError, TypeError, ValueError, AttributeError):
            # Without its cause: a traceback would show the answer.
            raise Unavailable(f"{self._host} answered the token request without a token") from None
        self._good_until = asked + life - min(LONGEST_MARGIN, life * 0.2)
        return token

    def _refused(self, answer: http.Answer) -> Failure | None:
        """The failure that the token endpoint's answer means.

        Never NotFound, which a read would take for an absent object, nor Rejected: whatever it
        is, only another Connection or Secret mends it.
        """
        if answer.status < 300:
            return None
        if answer.status < 400 or answer.status == 408:
            return Unavailable(f"{self._host} answered the token request with {answer.status}")
        told = http.reason(answer)
        if answer.status == 404:
            where = self._client.build_request("POST", self.grant.path).url
            return Unauthorized(f"there is no token endpoint at {where}{told}")
        return Unauthorized(
            f"{self._host} refuses the client id or secret of {self.grant.client_id}{told}"
        )

    @property
    def _host(self) -> str:
        return self._client.build_request("POST", self.grant.path).url.host


class OAuthSession(RestSession):
    """Calls that carry a client's token; one that is refused is replaced once."""

    connector: "OAuthConnector"

    def __init__(
        self,
        door: Door,
        client: httpx.AsyncClient,
        connector: "OAuthConnector",
        tokens: ClientCredentials,
    ) -> None:
        super().__init__(door, client, connector)
        self.tokens = tokens

    async def call(self, method: str, path: str, **request: Any) -> Any:
        headers = dict(request.pop("headers", None) or {})
        for last in (False, True):
            token = await self.tokens.token()
            headers["Authorization"] = f"Bearer {token.get_secret_value()}"
            answer = await http.send(
                self.door, self.client, method, path, headers=headers, **request
            )
            if answer.status != 401 or last:
                break
            # Revoked, or the vendor's keys were changed. A refused call has changed nothing.
            self.tokens.forget(token)
        if (failure := self.connector.failure(answer)) is not None:
            raise failure
        return answer.body

    def renew(self) -> None:
        """Fetch a token anew for the next call, because what it says of our rights is outdated."""
        self.tokens.forget()


class OAuthConnector(RestConnector):
    """The Connection block of a vendor whose API takes a client's own token."""

    @abstractmethod
    def grant(self) -> Grant:
        """What to ask for a token with."""

    def headers(self) -> Mapping[str, str]:
        return {}

    async def open(self, access: Access) -> OAuthSession:
        endpoint = checked(self.endpoint, allow_insecure=access.allow_insecure)
        client = http.client(endpoint, self.headers())
        tokens = ClientCredentials(access.door, client, self.grant())
        return OAuthSession(access.door, client, self, tokens)
