"""Milvus' REST interface, version 2 (https://milvus.io/api-reference/restful/v2.6.x/About.md)."""

from collections.abc import Mapping
from typing import Any, ClassVar, Final

from auterity.api.connection import RateLimit
from auterity.api.fields import SecretValue, Url
from auterity.engine.contract import Access, Identity
from auterity.engine.errors import (
    Conflict,
    Failure,
    NotFound,
    Rejected,
    Throttled,
    Unauthorized,
    Unavailable,
)
from auterity.transport import http
from auterity.transport.rest import RestConnector, RestSession

FINE: Final = (0, 200)
"""Code of success; servers before 2.4 said 200."""

# The codes of the server's own errors. What is in none of them is a refusal of the request.
_BY_CODE: Final[Mapping[int, type[Failure]]] = {
    **dict.fromkeys((1, 2, 5, 11, 12, 10000, 10001), Unavailable),
    **dict.fromkeys((4, 8, 1807), Throttled),
    **dict.fromkeys((100, 700, 800), NotFound),
    **dict.fromkeys((1400, 1401, 1800), Unauthorized),
    **dict.fromkeys((301, 1601, 1602), Conflict),
}
_TAKEN: Final = ("already exist", "duplicate collection")
_DOWN: Final = ("deadline exceeded", "unavailable", "not ready")


class MilvusConnection(RestConnector):
    """A Milvus server or cluster: self-hosted, or a cluster of Zilliz Cloud."""

    vendor = "milvus"
    rate_limit: ClassVar[RateLimit] = RateLimit(per_second=20, burst=20, concurrent=4)

    endpoint: Url
    """Base URL of the cluster, such as https://in01-id.aws-us-west-2.vectordb.zillizcloud.com or
    http://milvus.search:19530."""
    token: SecretValue | None = None
    """user:password, or an API key of Zilliz Cloud. It may be left out only for a server that asks
    for none."""

    def headers(self) -> Mapping[str, str]:
        return {} if self.token is None else {"Authorization": f"Bearer {self.token.reveal()}"}

    async def identify(self, session: RestSession) -> Identity:
        await session.call("POST", "collections/list", json={})
        host = session.client.base_url.host
        if self.token is None:
            return Identity(f"whoever asks at {host}")
        user, colon, _ = self.token.reveal().partition(":")
        return Identity(f"{user} at {host}" if colon else f"the API key's owner at {host}")

    def failure(self, answer: http.Answer) -> Failure | None:
        if answer.status == 404:
            # Milvus tells of what is missing by a code; this 404 must not be taken for "is gone".
            return Unavailable("404 came, and not in Milvus' own words; is the endpoint right?")
        if answer.status >= 300:
            return http.failure_of(answer)
        code = _code(answer)
        if code is None:
            return Unavailable("the answer is not that of Milvus' API; is the endpoint right?")
        return None if code in FINE else _refusal(code, http.reason(answer))

    async def open(self, access: Access) -> "MilvusSession":
        rest = await super().open(access)
        return MilvusSession(access.door, rest.client, self)


class MilvusSession(RestSession):
    """Calls to one Milvus. Every one is a POST, and almost every answer a 200 with a code."""

    async def call(self, method: str, path: str, **request: Any) -> Any:
        """One operation, such as collections/describe; its data."""
        answer = await http.send(
            self.door,
            self.client,
            method,
            f"/v2/vectordb/{path}",
            label=_label(path),
            concerns_all=_held,
            **request,
        )
        if (failure := self.connector.failure(answer)) is not None:
            raise failure
        return answer.body.get("data")

    async def ask(self, path: str, **body: Any) -> Any:
        """One operation with these parameters; its data. Raises NotFound if nothing is there."""
        return await self.call("POST", path, json=body)


def _label(path: str) -> str:
    """The door's name for an operation, such as DescribeCollections."""
    thing, _, verb = path.rpartition("/")
    return "".join(part.capitalize() for part in f"{verb}_{thing}".replace("/", "_").split("_"))


def _code(answer: http.Answer) -> int | None:
    code = answer.body.get("code") if isinstance(answer.body, dict) else None
    return code if isinstance(code, int) else None


def _held(answer: http.Answer) -> Failure | None:
    """The failure, if it concerns the whole connection."""
    if answer.status >= 300:
        return http.held(answer)
    code = _code(answer)
    if code is None or code in FINE:
        return None
    failure = _refusal(code, http.reason(answer))
    return failure if isinstance(failure, Throttled | Unavailable) else None


def _refusal(code: int, told: str) -> Failure:
    words = told.lower()
    cls = _BY_CODE.get(code)
    if cls is None and any(word in words for word in _TAKEN):
        cls = Conflict
    if cls is None and any(word in words for word in _DOWN):
        cls = Unavailable
    return (cls or Rejected)(f"Milvus refuses it with code {code}{told}")
