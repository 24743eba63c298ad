"""Qdrant's REST interface (https://api.qdrant.tech/api-reference)."""

from collections.abc import Mapping
from http import HTTPStatus
from typing import Any, ClassVar

from auterity.api.connection import RateLimit
from auterity.api.fields import SecretValue, Url
from auterity.engine.contract import Access, Identity
from auterity.engine.errors import Failure, Rejected, Unavailable
from auterity.transport import http
from auterity.transport.rest import RestConnector, RestSession


class QdrantConnection(RestConnector):
    """A Qdrant server or cluster: self-hosted, or a cluster of Qdrant Cloud."""

    vendor = "qdrant"
    endpoint: Url
    """Base URL of Qdrant's REST interface, such as https://id.region.aws.cloud.qdrant.io:6333."""
    rate_limit: ClassVar[RateLimit] = RateLimit(per_second=50, burst=100, concurrent=8)

    api_key: SecretValue | None = None
    """API key or access token of the database, not the management key of Qdrant Cloud. It may be
    left out only for a server that asks for none."""

    def headers(self) -> Mapping[str, str]:
        return {} if self.api_key is None else {"api-key": self.api_key.reveal()}

    async def identify(self, session: RestSession) -> Identity:
        await session.call("GET", "/collections")
        return Identity(f"Qdrant at {session.client.base_url.host}")

    def failure(self, answer: http.Answer) -> Failure | None:
        if answer.status == HTTPStatus.NOT_FOUND and not isinstance(answer.body, dict):
            # Qdrant's own 404 is JSON; that of a gateway must not be taken for "is gone".
            return Unavailable("404 came, and not in Qdrant's own words; is the endpoint right?")
        return http.failure_of(plain(answer))

    async def open(self, access: Access) -> "QdrantSession":
        rest = await super().open(access)
        return QdrantSession(access.door, rest.client, self)


class QdrantSession(RestSession):
    """Calls to one Qdrant."""

    async def call(self, method: str, path: str, **request: Any) -> Any:
        return await super().call(method, path, concerns_all=_held, **request)


def plain(answer: http.Answer) -> http.Answer:
    """The answer with Qdrant's words alone: beside them stands how long the call took."""
    body = answer.body
    status = body.get("status") if isinstance(body, dict) else None
    if isinstance(status, dict) and "error" in status:
        return http.Answer(answer.status, answer.headers, status["error"])
    return answer


def _held(answer: http.Answer) -> Failure | None:
    """The failure, if it concerns the whole connection."""
    told = plain(answer)
    if answer.status == HTTPStatus.INSUFFICIENT_STORAGE:
        # A quota of the node: others can still be changed, and waiting mends nothing.
        return Rejected(f"Qdrant has no room left{http.reason(told)}")
    return http.held(told)
