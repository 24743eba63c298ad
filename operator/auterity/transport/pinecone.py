"""Pinecone's control plane, by its SDK (https://sdk.pinecone.io/python)."""

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any, ClassVar, Final, TypeVar

import aiohttp
import httpx

from auterity.api.fields import SecretValue, Url
from auterity.engine.calls import Door, call_in_hand
from auterity.engine.contract import Access, Connector, Identity, Session
from auterity.engine.errors import Busy, Failure, Rejected, Unauthorized, Unavailable
from auterity.transport import http
from auterity.transport.endpoints import checked

if TYPE_CHECKING:
    from pinecone import AsyncPinecone
    from pinecone.async_client.indexes import AsyncIndexes
    from pinecone.errors import ApiError

JSON = dict[str, Any]
T = TypeVar("T")
READS: Final = ("ListIndexes", "DescribeIndex")
AT_ONCE: Final = -1
"""The SDK's word for: do not wait until the index is ready, or gone."""
QUOTA_WORDS: Final = ("quota", "maximum", "upgrade", "limit")


class PineconeConnector(Connector):
    """A Pinecone project, by an API key that belongs to it."""

    vendor: ClassVar[str] = "pinecone"

    api_key: SecretValue
    """API key of the project. It needs the role ProjectEditor or ControlPlaneEditor."""
    endpoint: Url = "https://api.pinecone.io"
    """Control plane; another one only for a private gateway or for tests."""

    async def open(self, access: Access) -> "PineconeSession":
        endpoint = checked(self.endpoint, allow_insecure=access.allow_insecure)
        return PineconeSession(access.door, endpoint, self.api_key)


class PineconeSession(Session):
    """Calls about the indexes of one project. Indexes are told as the API's own JSON."""

    def __init__(self, door: Door, endpoint: str, key: SecretValue) -> None:
        self.door, self._endpoint, self._key = door, endpoint, key
        self._http = http.client(endpoint)
        self._sdk: AsyncPinecone | None = None

    async def verify(self) -> Identity:
        await self.list_indexes()
        # The API does not tell whose key it is; the project's id shows in hosts of indexes only.
        return Identity(f"the project of the API key at {self._http.base_url.host}")

    async def list_indexes(self) -> list[JSON]:
        """Every index of the project; the API has no pages here."""
        found = await self._do("ListIndexes", lambda indexes: indexes.list().to_list())
        return [index.to_dict() for index in found]

    async def describe_index(self, name: str) -> JSON:
        """One index. Raises NotFound."""
        found = await self._do("DescribeIndex", lambda indexes: indexes.describe(name))
        return found.to_dict()

    async def create_index(self, **index: Any) -> JSON:
        """Begin to create an index; takes what the SDK's `indexes.create` takes."""
        made = await self._do(
            "CreateIndex", lambda indexes: indexes.create(**index, timeout=AT_ONCE)
        )
        return made.to_dict()

    async def configure_index(self, name: str, **changes: Any) -> None:
        """Begin to change an index; takes what the SDK's `indexes.configure` takes."""
        await self._do("ConfigureIndex", lambda indexes: indexes.configure(name, **changes))

    async def delete_index(self, name: str) -> None:
        """Begin to delete an index. Raises NotFound, and Busy if it is protected."""
        await self._do("DeleteIndex", lambda indexes: indexes.delete(name, timeout=AT_ONCE))

    async def close(self) -> None:
        await self._http.aclose()

    async def _do(self, operation: str, ask: "Callable[[AsyncIndexes], Awaitable[T]]") -> T:
        indexes = self._opened().indexes
        from pinecone import errors

        async with self.door.call(operation):
            try:
                try:
                    return await ask(indexes)
                except errors.PineconeError as error:
                    if operation not in READS or not _dropped(error):
                        raise
                    # The one retry there is: a read whose kept-alive connection was closed.
                    return await ask(indexes)
            except errors.ApiError as error:
                raise _refusal(error) from error
            except errors.ResponseParsingError as error:
                raise Unavailable(
                    f"{self._http.base_url.host} answered what the Pinecone SDK cannot read; is "
                    "the endpoint right, and the operator new enough?"
                ) from error
            except (errors.PineconeValueError, errors.PineconeTypeError) as error:
                raise Rejected(f"Pinecone does not take it: {error.message}") from error
            except errors.PineconeError as error:
                raise http.unreachable(self._http, error.__cause__ or error) from error
            except (httpx.HTTPError, aiohttp.ClientError, OSError) as error:
                raise http.unreachable(self._http, error) from error

    def _opened(self) -> "AsyncPinecone":
        if self._sdk is None:
            self._sdk = self._open()
        return self._sdk

    def _open(self) -> "AsyncPinecone":
        try:
            from pinecone import AsyncPinecone, PineconeValueError, RetryConfig
        except ImportError as error:
            raise Rejected("the Pinecone SDK is missing: install auterity[pinecone]") from error
        key = self._key.reveal()
        if not key:
            # The SDK would go on to look for a key in the operator's own environment.
            raise Unauthorized("apiKey is empty in the connection's Secret")
        try:
            sdk = AsyncPinecone(
                api_key=key,
                host=self._endpoint,
                # Without any, the SDK takes those of the operator's environment.
                additional_headers={"Accept": "application/json"},
                source_tag="auterity",
                retry_config=RetryConfig(max_retries=0),
            )
        except PineconeValueError as error:
            raise Unauthorized(
                "apiKey cannot be a Pinecone API key: look for blanks and line breaks around it "
                "in the connection's Secret"
            ) from error
        # The SDK makes an HTTP client at its first call and takes none from outside. Ours shares
        # the process's TLS context, refuses metadata addresses at every connect, and takes a tenth
        # of the CPU with many calls in flight.
        inner = sdk._http  # noqa: SLF001 - see above
        self._http.headers.update(inner._headers)  # noqa: SLF001 - see above
        self._http.event_hooks = {"response": [_note]}
        inner._client = self._http  # noqa: SLF001 - see above
        return sdk


async def _note(response: httpx.Response) -> None:
    """Tell the door what was answered: the SDK keeps it to itself on success."""
    if (call := call_in_hand.get()) is None:
        return
    headers = response.headers
    call.status = str(response.status_code)
    call.request_id = headers.get("x-pinecone-request-id") or headers.get("x-request-id")


def _refusal(error: "ApiError") -> Failure:
    """What an answer with an error status means."""
    answer = http.Answer(error.status_code, error.headers or {}, error.body)
    told = http.reason(answer)
    if (failure := http.held(answer)) is not None:
        return failure
    if answer.headers.get("content-type", "").startswith("text/html"):
        return Unavailable(
            f"a web page ({answer.status}) instead of Pinecone's answer; is the endpoint right?"
        )
    by_status: dict[int, Failure] = {
        402: Rejected(f"Pinecone waits for a payment of the organization{told}"),
        403: _forbidden(error.error_code, told),
        408: Unavailable(f"Pinecone did not get the request in time{told}"),
        412: Busy(f"Pinecone has to end other work first{told}"),
    }
    unexpected = Unavailable(f"Pinecone answered {answer.status}")
    return by_status.get(answer.status) or http.failure_of(answer) or unexpected


def _forbidden(code: str | None, told: str) -> Failure:
    """Pinecone's 403 has three meanings, two of them under the code FORBIDDEN."""
    words = told.lower()
    if "deletion protection" in words:
        return Busy(f"the index is protected from deletion{told}")
    if code == "QUOTA_EXCEEDED" or any(word in words for word in QUOTA_WORDS):
        return Rejected(f"a quota of the Pinecone project is used up{told}")
    return Unauthorized(f"the API key may not do this{told}")


def _dropped(error: Exception) -> bool:
    """Whether the connection was closed under the request."""
    # The aiohttp transport reports some of these as ConnectTimeout.
    cause = error.__cause__
    return isinstance(cause, httpx.RemoteProtocolError | httpx.ReadError | httpx.ConnectTimeout)
