"""Weaviate's REST interface (https://docs.weaviate.io/weaviate/api/rest)."""

from collections.abc import Mapping
from http import HTTPStatus
from typing import Any, ClassVar

from auterity.api.connection import RateLimit
from auterity.api.fields import SecretValue, Url
from auterity.engine.contract import Access, Identity
from auterity.engine.errors import Conflict, Failure, Rejected, Unavailable
from auterity.transport import http
from auterity.transport.rest import RestConnector, RestSession


class WeaviateConnection(RestConnector):
    """A Weaviate server or cluster: self-hosted, or a cluster of Weaviate Cloud."""

    vendor = "weaviate"
    rate_limit: ClassVar[RateLimit] = RateLimit(per_second=20, burst=40, concurrent=8)

    endpoint: Url
    """Base URL of Weaviate's REST interface, such as https://id.region.gcp.weaviate.cloud."""
    api_key: SecretValue | None = None
    """API key of an administrator, or of a user whose roles may manage collections. It may be left
    out only for a server that asks for none."""

    def headers(self) -> Mapping[str, str]:
        return {} if self.api_key is None else {"Authorization": f"Bearer {self.api_key.reveal()}"}

    async def identify(self, session: RestSession) -> Identity:
        host = session.client.base_url.host
        if self.api_key is None:
            await session.call("GET", "/v1/schema")
            return Identity(f"whoever asks at {host}")
        user = await session.call("GET", "/v1/users/own-info")
        try:
            return Identity(f"{user['username']} at {host}")
        except (KeyError, TypeError) as error:
            raise Unavailable("the answer is not that of Weaviate's API") from error

    def failure(self, answer: http.Answer) -> Failure | None:
        answer = plain(answer)
        if answer.status == HTTPStatus.NOT_FOUND and answer.body:
            # Weaviate's own 404 has no body; that of a gateway must not be taken for "is gone".
            return Unavailable("404 came, and not as Weaviate sends it; is the endpoint right?")
        failure = http.failure_of(answer)
        if isinstance(failure, Rejected) and "already exists" in failure.message:
            # A 422, not a 409.
            return Conflict(failure.message)
        return failure

    async def open(self, access: Access) -> "WeaviateSession":
        rest = await super().open(access)
        return WeaviateSession(access.door, rest.client, self)


class WeaviateSession(RestSession):
    """Calls to one Weaviate."""

    async def call(self, method: str, path: str, **request: Any) -> Any:
        return await super().call(method, path, concerns_all=_held, **request)


def plain(answer: http.Answer) -> http.Answer:
    """The answer with Weaviate's words alone: its errors are a list of messages."""
    body = answer.body
    errors = body.get("error") if isinstance(body, dict) else None
    if not isinstance(errors, list):
        return answer
    words = [str(of.get("message") if isinstance(of, dict) else of) for of in errors]
    return http.Answer(answer.status, answer.headers, "; ".join(words))


def _held(answer: http.Answer) -> Failure | None:
    """The failure, if it concerns the whole connection."""
    if answer.status == HTTPStatus.TOO_MANY_REQUESTS and http.retry_after(answer) is None:
        # A limit on collections, shards or tenants is reached: others can still be changed.
        return None
    return http.held(plain(answer))
