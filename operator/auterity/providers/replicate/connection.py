"""The Connection to an account at Replicate (https://replicate.com/docs/reference/http)."""

import re
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any, ClassVar, Final
from urllib.parse import parse_qs, quote, urlsplit

from auterity.api.connection import RateLimit
from auterity.api.fields import SecretValue, Url
from auterity.engine.contract import Access, Identity
from auterity.engine.errors import Conflict, Failure, Rejected, Throttled, Unavailable
from auterity.transport import http
from auterity.transport.rest import JSON, RestConnector, RestSession

WAIT: Final = re.compile(r"(?:resets|available) in ~?(\d+) ?s")
"""In `Your rate limit resets in ~30s.`: Replicate does not always send Retry-After."""


class ReplicateSession(RestSession):
    """Calls to Replicate, and whose account it is: the owner is a part of every name there."""

    _account: str | None = None

    async def call(self, method: str, path: str, **request: Any) -> Any:
        return await super().call(method, path, concerns_all=held, **request)

    async def account(self) -> str:
        """The user or organisation that the token belongs to."""
        if self._account is None:
            told = await self.call("GET", "/account")
            if not isinstance(told, dict) or not told.get("username"):
                raise Unavailable("Replicate does not tell whose API token this is")
            self._account = str(told["username"])
        return self._account

    async def latest(self, model: str) -> str:
        """The id of a model's latest version. Raises Rejected if it has none."""
        told = await self.call("GET", model_path(model))
        version = told.get("latest_version") if isinstance(told, dict) else None
        if not version:
            raise Rejected(f"model {model} has no version yet at Replicate")
        return str(version["id"])


class ReplicateConnection(RestConnector):
    """An account at Replicate: a user or an organisation."""

    vendor = "replicate"
    # 3,000 calls a minute: https://replicate.com/docs/topics/predictions/rate-limits
    rate_limit: ClassVar[RateLimit] = RateLimit(per_second=50, burst=100, concurrent=10)

    endpoint: Url = "https://api.replicate.com/v1"
    """Base URL of Replicate's API, with its version."""
    api_token: SecretValue
    """An API token of the account. Everything is made in the account that it belongs to."""

    def headers(self) -> Mapping[str, str]:
        return {"Authorization": f"Bearer {self.api_token.reveal()}"}

    async def identify(self, session: RestSession) -> Identity:
        told = await session.call("GET", "/account")
        if not isinstance(told, dict) or not told.get("username"):
            raise Unavailable("Replicate does not tell whose API token this is")
        return Identity(f"{told.get('type', 'account')} {told['username']}")

    def failure(self, answer: http.Answer) -> Failure | None:
        told = http.reason(answer)
        if answer.status == HTTPStatus.NOT_FOUND and not isinstance(answer.body, dict):
            # Replicate's own 404 is JSON; another one must not be taken for "is gone".
            return Unavailable("404 came, and not in Replicate's own words; is the endpoint right?")
        if answer.status in (400, 422) and "already exists" in told:
            return Conflict(f"Replicate has something of that name{told}")
        if answer.status == HTTPStatus.PAYMENT_REQUIRED:
            return Rejected(f"Replicate wants the account's credit to be filled up{told}")
        return super().failure(answer)

    async def open(self, access: Access) -> ReplicateSession:
        plain = await super().open(access)
        return ReplicateSession(plain.door, plain.client, self)


def held(answer: http.Answer) -> Failure | None:
    """As for any vendor; but what it says to 429 counts the seconds down."""
    failure = http.held(answer)
    if answer.status != HTTPStatus.TOO_MANY_REQUESTS or not isinstance(failure, Throttled):
        return failure
    found = WAIT.search(http.reason(answer))
    wait = failure.retry_after if failure.retry_after is not None else found and float(found[1])
    return Throttled("Replicate asks for fewer calls; it allows fewer with little credit", wait)


def model_path(model: str) -> str:
    """The path of a model. Raises Rejected for what is no model's name."""
    owner, slash, name = model.partition("/")
    if not (owner and slash and name) or "/" in name or ":" in model:
        raise Rejected(f"{model} is not the name of a model at Replicate, such as owner/name")
    return f"/models/{quote(owner, safe='')}/{quote(name, safe='')}"


def following(body: JSON) -> JSON | None:
    """The query of a list's next page."""
    query = parse_qs(urlsplit(body.get("next") or "").query)
    return {name: values[0] for name, values in query.items()} or None
