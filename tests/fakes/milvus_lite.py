"""Milvus Lite 3.2.2, an engine of Milvus' makers, behind Milvus' REST interface and a gate.

It refuses less than Milvus does, and lacks descriptions of collections (and with them owners'
marks), shards, levels of consistency, fields that are added later, vectors other than FloatVector,
and a load that takes its time. All that is for the stateful fake to show;
tests/unit/providers/test_milvus_lite.py says where the two differ.
"""

import atexit
import json
from functools import cache
from typing import Any, ClassVar

import aiohttp
from aiohttp import web

from auterity.providers.milvus.index import MilvusIndex
from tests.conformance.vendor import Edit, Refusal
from tests.contract.openapi import Description
from tests.fakes.milvus import OTHER_TOKEN, PROPERTY_EDITS, TOKEN, authorize
from tests.fakes.server import FakeServer, ServedVendor
from tools.loopback import request
from tools.servers.milvus import Milvus as Server

JSON = dict[str, Any]
DATABASE = "search"


class Refused(Exception):  # noqa: N818 - named like the engine's failures
    """An answer with another code than 0."""

    def __init__(self, code: int, message: str) -> None:
        super().__init__(message)
        self.code, self.message = code, message


@cache
def server() -> Server:
    """One server serves all tests of a process."""
    started = Server().start()
    atexit.register(started.stop)
    ask("databases/create", at=started.url)
    return started


def ask(path: str, *, at: str | None = None, **body: Any) -> Any:
    """A call of an outsider, past the gate; the data of the answer. Raises Refused."""
    content = json.dumps({"dbName": DATABASE, **body}).encode()
    answer = json.loads(request("POST", f"{at or server().url}/v2/vectordb/{path}", content))
    if answer["code"] != 0:
        raise Refused(answer["code"], answer["message"])
    return answer["data"]


async def _pass(asked: web.Request, _: Any) -> web.StreamResponse:
    raw = await asked.read()
    headers = {"Content-Type": "application/json"}
    url = f"{server().url}{asked.path}"
    async with aiohttp.request("POST", url, data=raw, headers=headers) as answer:
        return web.Response(body=await answer.read(), content_type="application/json")


class MilvusLite(ServedVendor):
    provider = MilvusIndex
    variant = "lite"
    takes_time = True
    spec: ClassVar[JSON] = {
        "dimension": 8,
        "metric": "cosine",
        "milvus": {
            "database": DATABASE,
            "idType": "VarChar",
            "idMaxLength": 64,
            "vectorName": "embedding",
            "fields": {
                "title": {"type": "VarChar", "maxLength": 512, "nullable": True},
                "tenant": {"type": "VarChar", "maxLength": 64, "partitionKey": True},
                "pages": {"type": "Array", "elementType": "Int64", "maxCapacity": 16},
            },
            "dynamicFields": True,
            "indexType": "HNSW",
            "indexParams": {"M": 24, "efConstruction": 128},
            "properties": {
                "collection.ttl.seconds": "86400",
                "collection.autocompaction.enabled": "false",
            },
        },
    }
    edits = (
        *PROPERTY_EDITS,
        Edit("a field no longer declared", {"milvus": {"fields": {"pages": None}}}),
        Edit("released", {"milvus": {"loaded": False}}),
    )
    immutable: ClassVar[JSON] = {"dimension": 4, "milvus": {"indexType": "IVF_FLAT"}}
    refusal = Refusal(
        {"milvus": {"fields": {"tenant": {"type": "Bool", "maxLength": None}}}},
        "partition key 'tenant' must be INT64 or VARCHAR",
    )
    secrets: ClassVar[dict[str, dict[str, str]]] = {"milvus": {"token": TOKEN}}
    wrong_secrets: ClassVar[dict[str, dict[str, str]]] = {"milvus": {"token": OTHER_TOKEN}}
    fast = False

    def __init__(self) -> None:
        gate = FakeServer(Description.load("milvus.openapi.json"))
        gate.authorize = authorize
        gate.route("POST", "/v2/vectordb/{tail:.*}", _pass)
        super().__init__(gate)

    @classmethod
    def missing(cls) -> str | None:
        return Server.available()

    async def stop(self) -> None:
        await self.reset()
        await super().stop()

    async def reset(self) -> None:
        self.slow = False
        for name in ask("collections/list"):
            ask("collections/drop", collectionName=name)

    def connection(self, endpoint: str | None) -> JSON:
        return {
            "endpoint": endpoint,
            "token": {"secretKeyRef": {"name": "milvus", "key": "token"}},
        }

    async def count(self) -> int:
        """Collections, and their fields, indexes and properties."""
        told = [ask("collections/describe", collectionName=of) for of in ask("collections/list")]
        parts = ("fields", "indexes", "properties")
        return sum(1 + sum(len(of[part]) for part in parts) for of in told)

    async def tamper(self, id: str) -> str:
        life = {"collection.ttl.seconds": 1}
        ask("collections/alter_properties", collectionName=_name(id), properties=life)
        return "properties.collection.ttl.seconds"

    async def vanish(self, id: str) -> None:
        ask("collections/drop", collectionName=_name(id))

    async def foreign(self, spec: JSON, name: str, owner: str | None) -> None:
        own = spec["milvus"]
        key = {"fieldName": "id", "dataType": "VarChar", "isPrimary": True}
        vector = {"fieldName": own["vectorName"], "dataType": "FloatVector"}
        title = {"fieldName": "title", "dataType": "VarChar", "nullable": True}
        tenant = {"fieldName": "tenant", "dataType": "VarChar", "isPartitionKey": True}
        pages = {"fieldName": "pages", "dataType": "Array", "elementDataType": "Int64"}
        fields = [
            {**key, "elementTypeParams": {"max_length": 64}},
            {**vector, "elementTypeParams": {"dim": spec["dimension"]}},
            {**title, "elementTypeParams": {"max_length": 512}},
            {**tenant, "elementTypeParams": {"max_length": 64}},
            {**pages, "elementTypeParams": {"max_capacity": 16}},
        ]
        schema = {"enableDynamicField": True, "fields": fields}
        ask("collections/create", collectionName=name, schema=schema)
        index = {"fieldName": own["vectorName"], "indexType": "HNSW", "metricType": "COSINE"}
        ask("indexes/create", collectionName=name, indexParams=[index])

    async def told(self, id: str) -> str:
        return json.dumps(ask("collections/describe", collectionName=_name(id)))


def _name(id: str) -> str:
    return id.rpartition("/")[2]
