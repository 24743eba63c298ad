"""Vendors that speak plain REST: a session, and a provider made of class attributes."""

from abc import abstractmethod
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, ClassVar, Generic, TypeVar
from urllib.parse import quote

import httpx

from auterity.api.fields import Params, Url
from auterity.engine.calls import Door
from auterity.engine.contract import Access, Connector, Identity, Observed, Provider, Session
from auterity.engine.errors import Failure, NotFound, Unavailable
from auterity.transport import http
from auterity.transport.endpoints import checked

P = TypeVar("P", bound=Params)
JSON = dict[str, Any]


class RestSession(Session):
    """Calls to one REST API. Bodies are JSON; failures are those of `engine/errors.py`."""

    def __init__(self, door: Door, client: httpx.AsyncClient, connector: "RestConnector") -> None:
        self.door, self.client, self.connector = door, client, connector

    async def call(self, method: str, path: str, **request: Any) -> Any:
        """One call; the parsed body. Raises the failure that the answer means."""
        answer = await http.send(self.door, self.client, method, path, **request)
        if (failure := self.connector.failure(answer)) is not None:
            raise failure
        return answer.body

    async def find(self, path: str, **request: Any) -> Any | None:
        """GET; None if there is nothing (404)."""
        try:
            return await self.call("GET", path, **request)
        except NotFound:
            return None

    async def verify(self) -> Identity:
        return await self.connector.identify(self)

    async def close(self) -> None:
        await self.client.aclose()


class RestConnector(Connector):
    """The Connection block of a vendor that speaks REST."""

    endpoint: Url
    """Base URL of the vendor's API."""

    @abstractmethod
    def headers(self) -> Mapping[str, str]:
        """Headers that authenticate every call."""

    @abstractmethod
    async def identify(self, session: RestSession) -> Identity:
        """Ask the vendor, cheaply, who we are."""

    def auth(self, door: Door) -> httpx.Auth | None:
        """For vendors whose tokens are fetched and renewed."""
        return None

    def failure(self, answer: http.Answer) -> Failure | None:
        """The failure that an answer means; override where the vendor has its own ways."""
        return http.failure_of(answer)

    async def open(self, access: Access) -> RestSession:
        endpoint = checked(self.endpoint, allow_insecure=access.allow_insecure)
        client = http.client(endpoint, self.headers(), self.auth(access.door))
        return RestSession(access.door, client, self)


class RestProvider(Provider[P, RestSession], Generic[P]):
    """A provider whose vendor has a collection and items: declare paths, `encode` and `decode`."""

    collection: ClassVar[str]
    """Path that creates (POST) and lists (GET), such as /indexes."""
    item: ClassVar[str] = ""
    """Path of one object with {id}; the collection's with /{id} if left out."""
    update_method: ClassVar[str] = "PATCH"
    """PATCH sends what changed; PUT sends everything."""
    page_size: ClassVar[int] = 100

    @abstractmethod
    def encode(self, want: P, owner: str) -> JSON:
        """The body that creates the object, mark included."""

    @abstractmethod
    def decode(self, body: JSON) -> Observed[P]:
        """What an object's body tells. Raises KeyError if it is not what the API promises."""

    def encode_changes(self, want: P, changed: frozenset[str], owner: str) -> JSON:
        """The body that updates the object; everything that can be sent, by default."""
        return self.encode(want, owner)

    def page(self, body: Any, params: JSON) -> tuple[list[JSON], JSON | None]:
        """A page of a list, and the query of the next one (None: that was the last)."""
        items = (
            body
            if isinstance(body, list)
            else next(v for v in body.values() if isinstance(v, list))
        )
        return items, None

    def path(self, id: str) -> str:
        """The path of one object."""
        return (self.item or f"{self.collection}/{{id}}").format(id=quote(id, safe=""))

    async def read(self, id: str) -> Observed[P] | None:
        body = await self.session.find(self.path(id))
        return None if body is None else self._decoded(body)

    async def read_all(self) -> AsyncIterator[Observed[P]]:
        params: JSON | None = {}
        while params is not None:
            body = await self.session.call("GET", self.collection, params=params)
            with as_promised():
                items, params = self.page(body, params)
            for body in items:
                yield self._decoded(body)

    async def create(self, want: P, owner: str) -> Observed[P] | str:
        return self._decoded(
            await self.session.call("POST", self.collection, json=self.encode(want, owner))
        )

    async def update(self, id: str, want: P, changed: frozenset[str], owner: str) -> None:
        body = self.encode_changes(want, changed, owner)
        await self.session.call(self.update_method, self.path(id), json=body)

    async def delete(self, id: str) -> None:
        try:
            await self.session.call("DELETE", self.path(id))
        except NotFound:
            return

    def _decoded(self, body: Any) -> Observed[P]:
        with as_promised():
            return self.decode(body)


@contextmanager
def as_promised(whose: str = "the vendor's") -> Iterator[None]:
    """Enclose the reading of an answer: what cannot be read is not what the API promises.

    Raises Unavailable then.
    """
    try:
        yield
    except (KeyError, TypeError, ValueError, AttributeError, StopIteration) as error:
        name = type(error).__name__
        raise Unavailable(f"{whose} answer is not what its API promises ({name})") from error
