"""VectorIndex at Numbered, a vendor that gives out ids and takes any name twice."""

import os
from collections.abc import Mapping
from typing import Any

from auterity.api.connection import RateLimit
from auterity.api.fields import SecretValue, Value
from auterity.api.vector_index import VectorIndex
from auterity.engine.contract import Identity, Observed
from auterity.engine.errors import Conflict
from auterity.transport.rest import RestConnector, RestProvider, RestSession


class NumberedConnection(RestConnector):
    """An account at Numbered."""

    vendor = "numbered"
    rate_limit = RateLimit(per_second=100, burst=100, concurrent=50)

    token: SecretValue
    """API token."""

    def headers(self) -> Mapping[str, str]:
        # Lets the vendor tell who calls.
        return {
            "Authorization": f"Bearer {self.token.reveal()}",
            "X-Replica": os.environ.get("REPLICA", ""),
        }

    async def identify(self, session: RestSession) -> Identity:
        return Identity(name=str((await session.call("GET", "/whoami"))["account"]))


class NumberedIndexParams(VectorIndex):
    """An index at Numbered."""

    note: Value | None = None
    """A text that is kept with it."""


class NumberedIndex(RestProvider[NumberedIndexParams]):
    """One index. The vendor numbers them."""

    kind, vendor = "VectorIndex", "numbered"
    params, connection = NumberedIndexParams, NumberedConnection
    lists = True
    collection = "/indexes"

    async def locate(self, want: NumberedIndexParams) -> str | None:
        found = await self.session.call("GET", self.collection, params={"name": want.name})
        if len(found) > 1:
            raise Conflict(f"there are {len(found)} indexes called {want.name}")
        return found[0]["id"] if found else None

    def encode(self, want: NumberedIndexParams, owner: str) -> dict[str, Any]:
        return {
            "name": want.name,
            "dimension": want.dimension,
            "metric": want.metric.value,
            "note": want.note.reveal() if want.note else None,
            "owner": owner,
        }

    def encode_changes(
        self, want: NumberedIndexParams, changed: frozenset[str], owner: str
    ) -> dict[str, Any]:
        return {"note": want.note.reveal() if want.note else None, "owner": owner}

    def decode(self, body: dict[str, Any]) -> Observed[NumberedIndexParams]:
        note = None
        if body["note"] is not None:
            note = Value.model_construct()
            note.resolve(body["note"], "")
        return Observed(
            id=body["id"],
            actual=NumberedIndexParams.seen(
                dimension=body["dimension"], metric=body["metric"], note=note
            ),
            owner=body["owner"],
            outputs={"number": body["id"]},
        )
