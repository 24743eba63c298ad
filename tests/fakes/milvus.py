"""Milvus' REST interface, version 2, as of 2.6, checked 2026-11-24.

Every request is held against the official description. What that does not tell, or tells otherwise
(codes and words of refusals, answers), is as in the server's source. The description of a
collection is kept, as newer servers do; `forgets` makes it an older one.
"""

import json
import re
from copy import deepcopy
from typing import Any, ClassVar

from aiohttp import web

from auterity.providers.milvus.index import MARK, METRICS, MilvusIndex
from tests.conformance.vendor import Edit, Refusal
from tests.contract.openapi import Description
from tests.fakes.server import FakeServer, ServedVendor
from tools.servers.milvus_rest import as_go_writes

JSON = dict[str, Any]
TOKEN = "auterity:mV8-cK2-nQ5-tW9"
OTHER_TOKEN = "auterity:wrong-hD4-xS7"
INDEXES = {
    "AUTOINDEX": set(),
    "FLAT": set(),
    "HNSW": {"M", "efConstruction"},
    "IVF_FLAT": {"nlist"},
    "DISKANN": set(),
}
TYPES = ("Bool", "Int8", "Int16", "Int32", "Int64", "Float", "Double", "VarChar", "Array", "JSON")
KEYS = ("Int64", "VarChar")
VECTORS = ("FloatVector", "Float16Vector", "BFloat16Vector", "Int8Vector")
LIMITS = {"max_length": "VarChar", "max_capacity": "Array"}


class Refused(Exception):  # noqa: N818 - named like the engine's failures
    """An answer with another code than 0."""

    def __init__(self, code: int, message: str) -> None:
        super().__init__(message)
        self.code, self.message = code, message


def authorize(request: web.Request) -> web.Response | None:
    """The answer to a request without the token; None if it has it."""
    if request.headers.get("Authorization") == f"Bearer {TOKEN}":
        return None
    answer = {"code": 1800, "message": "user hasn't authenticated"}
    return web.json_response(answer, status=401)


class MilvusCluster:
    """The collections of one cluster, behind their API."""

    def __init__(self) -> None:
        self.collections: dict[tuple[str, str], JSON] = {}
        self.aliases: dict[tuple[str, str], str] = {}
        self.databases = {"default", "search"}
        self.slow = False
        self.forgets = False
        self.ids = 448707763883002000
        self.server = FakeServer(Description.load("milvus.openapi.json"))
        self.server.authorize = authorize
        self.operations = {
            "collections/list": self._list,
            "collections/create": self._create,
            "collections/describe": self._describe,
            "collections/drop": self._drop,
            "collections/alter_properties": self._alter,
            "collections/drop_properties": self._drop_properties,
            "collections/fields/add": self._add_field,
            "collections/load": self._load,
            "collections/release": self._release,
            "indexes/create": self._create_index,
            "indexes/describe": self._describe_index,
        }
        for path, handler in self.operations.items():
            self.server.route("POST", f"/v2/vectordb/{path}", self._answering(handler))

    def settle(self) -> None:
        """Finish everything that is under way."""
        for collection in self.collections.values():
            if collection["load"] == "LoadStateLoading":
                collection["load"] = "LoadStateLoaded"

    def make(self, body: JSON) -> None:
        """A collection as the API makes it. Raises Refused."""
        name, database = body["collectionName"], body.get("dbName") or "default"
        if database not in self.databases:
            raise Refused(800, f"database not found[database={database}]")
        if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", name):
            raise Refused(
                1100,
                f"Invalid collection name: {name}. collection name can only contain numbers, "
                "letters and underscores: invalid parameter",
            )
        if (database, name) in self.aliases:
            raise Refused(
                1601, f"collection name [{name}] conflicts with an existing alias: alias conflict"
            )
        schema, params = body["schema"], body.get("params") or {}
        fields = [_checked_field(field, schema) for field in schema["fields"]]
        _check_schema(fields)
        partitions = 64 if any(field["partitionKey"] for field in fields) else 1
        made = {
            "collectionName": name,
            "description": "" if self.forgets else body.get("description", ""),
            "autoId": schema.get("autoID", False),
            "fields": fields,
            "functions": [],
            "shardsNum": params.get("shardsNum", 1),
            "partitionsNum": params.get("partitionsNum", partitions),
            "consistencyLevel": params.get("consistencyLevel", "Bounded"),
            "enableDynamicField": schema.get("enableDynamicField", False),
            "properties": {},
            "indexes": [],
            "load": "LoadStateNotLoad",
        }
        if (there := self.collections.get((database, name))) is None:
            self.ids += 1
            self.collections[database, name] = {"collectionID": self.ids, **made}
        elif any(there[part] != made[part] for part in ("fields", "shardsNum", "autoId")):
            raise Refused(
                65535, "create duplicate collection with different parameters, collection: " + name
            )

    def index(self, collection: JSON, wanted: JSON) -> None:
        """Make an index as the API does. Raises Refused."""
        field, kind = wanted["fieldName"], wanted["indexType"]
        if not any(of["name"] == field for of in collection["fields"]):
            raise Refused(65535, f"cannot create index on non-exist field: {field}")
        if kind not in INDEXES:
            raise Refused(
                1100,
                f"invalid parameter[expected=valid index][actual=invalid index]: "
                f"invalid index type: {kind}",
            )
        if unknown := set(wanted.get("params") or {}) - INDEXES[kind]:
            raise Refused(1100, f"invalid index params {sorted(unknown)}: invalid parameter")
        if wanted["metricType"] not in METRICS.values():
            raise Refused(
                1100, f"float vector index does not support metric type: {wanted['metricType']}"
            )
        made = {
            "indexName": wanted["indexName"],
            "fieldName": field,
            "metricType": wanted["metricType"],
            "indexType": kind,
            "params": wanted.get("params") or {},
        }
        there = [of for of in collection["indexes"] if of["fieldName"] == field]
        if there and there != [made]:
            raise Refused(
                65535, "CreateIndex failed: at most one distinct index is allowed per field"
            )
        collection["indexes"] = [
            *(of for of in collection["indexes"] if of["fieldName"] != field),
            made,
        ]

    def found(self, body: JSON) -> JSON:
        """The collection of a name or alias. Raises Refused."""
        database = body.get("dbName") or "default"
        name = self.aliases.get((database, body["collectionName"]), body["collectionName"])
        if database not in self.databases:
            raise Refused(800, f"database not found[database={database}]")
        if (database, name) not in self.collections:
            raise Refused(100, f"collection not found[database={database}][collection={name}]")
        return self.collections[database, name]

    def _answering(self, handler: Any) -> Any:
        async def handle(_: web.Request, body: Any) -> web.StreamResponse:
            try:
                return web.json_response({"code": 0, "data": handler(body)})
            except Refused as refused:
                # A refusal is a 200 as well.
                return web.json_response({"code": refused.code, "message": refused.message})

        return handle

    def _list(self, body: JSON) -> list[str]:
        at = body.get("dbName") or "default"
        return [name for database, name in self.collections if database == at]

    def _create(self, body: JSON) -> JSON:
        self.make(body)
        return {}

    def _describe(self, body: JSON) -> JSON:
        told = deepcopy(self.found(body))
        told["properties"] = [{"key": k, "value": v} for k, v in told["properties"].items()]
        told["aliases"] = [a for (_, a), of in self.aliases.items() if of == told["collectionName"]]
        told["indexes"] = [
            {key: of[key] for key in ("indexName", "fieldName", "metricType")}
            for of in told["indexes"]
        ]
        return told

    def _drop(self, body: JSON) -> JSON:
        at = (body.get("dbName") or "default", body["collectionName"])
        if at in self.aliases:
            raise Refused(1100, f"cannot drop the collection via alias = {at[1]}")
        if used := [alias for (_, alias), of in self.aliases.items() if of == at[1]]:
            raise Refused(
                65535,
                f"unable to drop the collection [{at[1]}] because it has associated aliases {used}",
            )
        # Absent is fine.
        self.collections.pop(at, None)
        return {}

    def _alter(self, body: JSON) -> JSON:
        collection = self.found(body)
        written = {key: as_go_writes(value) for key, value in body["properties"].items()}
        life = written.get("collection.ttl.seconds", "0")
        # What no longer reads as a whole number is kept as it is:
        # https://github.com/milvus-io/milvus/issues/47761
        if life.lstrip("-").isdigit() and not -1 <= int(life) <= 3155760000:
            raise Refused(
                1100, f"collection TTL is out of range, expect [-1, 3155760000], got {life}"
            )
        if "mmap.enabled" in written and collection["load"] != "LoadStateNotLoad":
            raise Refused(
                104, "can not alter mmap properties if collection loaded: collection already loaded"
            )
        collection["properties"].update(written)
        return {}

    def _drop_properties(self, body: JSON) -> JSON:
        collection = self.found(body)
        for key in body["propertyKeys"]:
            collection["properties"].pop(key, None)
        return {}

    def _add_field(self, body: JSON) -> JSON:
        collection = self.found(body)
        field = _checked_field(body["schema"], {})
        if not field["nullable"]:
            raise Refused(
                1100,
                f"added field must be nullable, field name = {field['name']}: invalid parameter",
            )
        if any(of["name"] == field["name"] for of in collection["fields"]):
            raise Refused(1100, f"duplicate field name: {field['name']}: invalid parameter")
        collection["fields"].append(field)
        return {}

    def _load(self, body: JSON) -> JSON:
        collection = self.found(body)
        vectors = {of["name"] for of in collection["fields"] if of["type"].endswith("Vector")}
        if vectors - {of["fieldName"] for of in collection["indexes"]}:
            raise Refused(700, f"index not found[collection={collection['collectionName']}]")
        if collection["load"] == "LoadStateLoaded":
            # Some servers let it pass.
            raise Refused(104, "collection already loaded")
        collection["load"] = "LoadStateLoading" if self.slow else "LoadStateLoaded"
        return {}

    def _release(self, body: JSON) -> JSON:
        self.found(body)["load"] = "LoadStateNotLoad"
        return {}

    def _create_index(self, body: JSON) -> JSON:
        for wanted in body["indexParams"]:
            self.index(self.found(body), wanted)
        return {}

    def _describe_index(self, body: JSON) -> list[JSON]:
        found = [of for of in self.found(body)["indexes"] if of["indexName"] == body["indexName"]]
        if not found:
            raise Refused(700, f"index not found[indexName={body['indexName']}]")
        told = ("indexName", "fieldName", "metricType", "indexType")
        counts = {"totalRows": 0, "pendingRows": 0, "indexedRows": 0}
        state = {"indexState": "Finished", "failReason": "", **counts}
        return [{**{key: of[key] for key in told}, **state} for of in found]


PROPERTY_EDITS = (
    Edit("another life time", {"milvus": {"properties": {"collection.ttl.seconds": "3600"}}}),
    Edit("a property added", {"milvus": {"properties": {"partitionkey.isolation": "true"}}}),
    Edit("a property removed", {"milvus": {"properties": {"collection.ttl.seconds": None}}}),
    Edit("no properties", {"milvus": {"properties": None}}),
)


class Milvus(ServedVendor):
    provider = MilvusIndex
    spec: ClassVar[JSON] = {
        "dimension": 768,
        "metric": "dotProduct",
        "milvus": {
            "database": "search",
            "idType": "VarChar",
            "idMaxLength": 64,
            "vectorName": "embedding",
            "vectorType": "Float16Vector",
            "fields": {
                "title": {"type": "VarChar", "maxLength": 512, "nullable": True},
                "tenant": {"type": "VarChar", "maxLength": 64, "partitionKey": True},
                "tags": {
                    "type": "Array",
                    "elementType": "VarChar",
                    "maxLength": 32,
                    "maxCapacity": 16,
                },
            },
            "dynamicFields": True,
            "indexType": "HNSW",
            "indexParams": {"M": 24, "efConstruction": 128},
            "shards": 2,
            "partitions": 32,
            "consistencyLevel": "Strong",
            "properties": {
                "collection.ttl.seconds": "86400",
                "collection.autocompaction.enabled": "false",
            },
        },
    }
    edits = (
        *PROPERTY_EDITS,
        Edit(
            "a field added",
            {"milvus": {"fields": {"year": {"type": "Int64", "nullable": True}}}},
        ),
        Edit("a field no longer declared", {"milvus": {"fields": {"tags": None}}}),
        Edit("released", {"milvus": {"loaded": False}}),
    )
    immutable: ClassVar[JSON] = {"dimension": 384, "milvus": {"indexType": "IVF_FLAT"}}
    refusal = Refusal({"dimension": 1}, "should be in range 2 ~ 32768")
    secrets: ClassVar[dict[str, dict[str, str]]] = {"milvus": {"token": TOKEN}}
    wrong_secrets: ClassVar[dict[str, dict[str, str]]] = {"milvus": {"token": OTHER_TOKEN}}
    has_pending = True

    def __init__(self) -> None:
        self.cluster = MilvusCluster()
        super().__init__(self.cluster.server, self.cluster)

    async def reset(self) -> None:
        self.cluster.collections.clear()
        self.cluster.aliases.clear()
        self.slow = False

    def connection(self, endpoint: str | None) -> JSON:
        return {
            "endpoint": endpoint,
            "token": {"secretKeyRef": {"name": "milvus", "key": "token"}},
        }

    async def count(self) -> int:
        """Collections, and their fields, indexes and properties."""
        parts = ("fields", "indexes", "properties")
        return sum(1 + sum(len(c[p]) for p in parts) for c in self.cluster.collections.values())

    async def tamper(self, id: str) -> str:
        self.cluster.collections[_at(id)]["properties"]["collection.ttl.seconds"] = "1"
        return "properties.collection.ttl.seconds"

    async def vanish(self, id: str) -> None:
        del self.cluster.collections[_at(id)]

    async def foreign(self, spec: JSON, name: str, owner: str | None) -> None:
        own = spec["milvus"]
        at = {"dbName": own["database"], "collectionName": name}
        key = {"fieldName": "id", "dataType": "VarChar", "isPrimary": True}
        vector = {"fieldName": own["vectorName"], "dataType": own["vectorType"]}
        title = {"fieldName": "title", "dataType": "VarChar", "nullable": True}
        tags = {"fieldName": "tags", "dataType": "Array", "elementDataType": "VarChar"}
        tenant = {"fieldName": "tenant", "dataType": "VarChar", "isPartitionKey": True}
        self.cluster.make(
            {
                **at,
                "description": f"{MARK}{owner} {own['vectorName']}" if owner else "Made by hand",
                "schema": {
                    "enableDynamicField": True,
                    "fields": [
                        {**key, "elementTypeParams": {"max_length": 64}},
                        {**vector, "elementTypeParams": {"dim": spec["dimension"]}},
                        {**title, "elementTypeParams": {"max_length": 512}},
                        {**tags, "elementTypeParams": {"max_length": 32, "max_capacity": 16}},
                        {**tenant, "elementTypeParams": {"max_length": 64}},
                    ],
                },
                "params": {"shardsNum": 2, "partitionsNum": 32, "consistencyLevel": "Strong"},
            }
        )
        index = {"fieldName": own["vectorName"], "indexName": "by_hand", "indexType": "HNSW"}
        self.cluster.index(self.cluster.found(at), {**index, "metricType": "IP"})

    async def settle(self) -> None:
        if not self.slow:
            self.cluster.settle()

    async def told(self, id: str) -> str:
        return json.dumps(self.cluster.collections[_at(id)])


def _at(id: str) -> tuple[str, str]:
    database, _, name = id.partition("/")
    return database, name


def _check_schema(fields: list[JSON]) -> None:
    keys = [field for field in fields if field["primaryKey"]]
    spreading = [field for field in fields if field["partitionKey"]]
    wrong = (
        (len(keys) != 1, "there should be only one primary key"),
        (
            any(key["type"] not in KEYS for key in keys),
            "the primary key should be Int64 or VarChar",
        ),
        (any(key["nullable"] for key in keys), "the primary key cannot be null"),
        (len({field["name"] for field in fields}) < len(fields), "duplicated field name"),
        (not any(of["type"] in VECTORS for of in fields), "schema does not contain vector field"),
        (len(spreading) > 1, "there are more than one partition key"),
        (
            any(of["type"] not in KEYS for of in spreading),
            "the partition key should be Int64 or VarChar",
        ),
    )
    for is_so, words in wrong:
        if is_so:
            raise Refused(1100, f"{words}: invalid parameter")


def _checked_field(wanted: JSON, schema: JSON) -> JSON:
    name, kind = wanted["fieldName"], wanted["dataType"]
    limits = dict(wanted.get("elementTypeParams") or {})
    if kind not in (*TYPES, *VECTORS):
        raise Refused(1100, f"invalid parameter, data type {kind} is invalid(case sensitive).")
    if kind in VECTORS and not 2 <= int(limits.get("dim", 0)) <= 32768:
        raise Refused(
            65535, f"invalid dimension: {limits.get('dim')}. should be in range 2 ~ 32768"
        )
    element = wanted.get("elementDataType")
    if kind == "Array" and element not in TYPES:
        raise Refused(1100, f"element data type {element} is invalid(case sensitive).")
    for limit, of in LIMITS.items():
        if of in (kind, element) and limit not in limits:
            raise Refused(
                1100,
                f"type param({limit}) should be specified for the field({name}): invalid parameter",
            )
    field = {
        "name": name,
        "type": kind,
        "primaryKey": wanted.get("isPrimary", False),
        "partitionKey": wanted.get("isPartitionKey", False),
        "clusteringKey": False,
        "autoId": bool(wanted.get("isPrimary") and schema.get("autoID")),
        "nullable": wanted.get("nullable", False),
        "description": "",
        # A list, though the description has an object.
        "params": [{"key": key, "value": str(value)} for key, value in limits.items()],
    }
    return field if element is None else {**field, "elementType": element}
