"""VectorIndex at Example, a vendor that exists only here. https://vendor.example/docs"""

from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import Field

from auterity.api.connection import RateLimit
from auterity.api.fields import SHARED, SecretValue, TextMap
from auterity.api.vector_index import VectorIndex
from auterity.engine.contract import Identity, Observed, Phase
from auterity.transport.rest import RestConnector, RestProvider, RestSession

PHASES = {"ready": Phase.READY, "building": Phase.PENDING, "deleting": Phase.DELETING}


class ExampleConnection(RestConnector):
    """An account at Example."""

    vendor = "example"
    rate_limit = RateLimit(per_second=100, burst=100, concurrent=50)

    token: SecretValue
    """API token."""

    def headers(self) -> Mapping[str, str]:
        return {"Authorization": f"Bearer {self.token.reveal()}"}

    async def identify(self, session: RestSession) -> Identity:
        return Identity(name=str((await session.call("GET", "/whoami"))["account"]))


class ExampleIndexParams(VectorIndex):
    """An index at Example."""

    replicas: Annotated[int, Field(ge=1, le=64)] = 1
    """How many copies serve queries."""
    tags: Annotated[TextMap | None, SHARED] = None
    """Tags."""


class ExampleIndex(RestProvider[ExampleIndexParams]):
    """One index. The name is the id."""

    kind, vendor = "VectorIndex", "example"
    params, connection = ExampleIndexParams, ExampleConnection
    lists = True
    collection = "/indexes"

    def encode(self, want: ExampleIndexParams, owner: str) -> dict[str, Any]:
        return {
            "name": want.name,
            "dimension": want.dimension,
            "metric": want.metric.value,
            "replicas": want.replicas,
            "tags": {**(want.tags or {}), "owner": owner},
        }

    def encode_changes(
        self, want: ExampleIndexParams, changed: frozenset[str], owner: str
    ) -> dict[str, Any]:
        gone = {path.removeprefix("tags.") for path in changed if path.startswith("tags.")}
        body = self.encode(want, owner)
        tags = {**dict.fromkeys(gone - set(want.tags or {})), **body["tags"]}
        return {"replicas": body["replicas"], "tags": tags}

    def page(
        self, body: Any, params: dict[str, Any]
    ) -> tuple[list[dict[str, Any]], dict[str, Any] | None]:
        return body["items"], {"after": body["next"]} if body["next"] else None

    def decode(self, body: dict[str, Any]) -> Observed[ExampleIndexParams]:
        tags = dict(body["tags"])
        owner = tags.pop("owner", None)
        return Observed(
            id=body["name"],
            actual=ExampleIndexParams.seen(
                dimension=body["dimension"],
                metric=body["metric"],
                replicas=body["replicas"],
                tags=tags,
            ),
            phase=PHASES[body["state"]],
            owner=owner,
            outputs={"host": body["host"], "name": body["name"]},
        )
