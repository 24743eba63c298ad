"""Milvus' REST interface, version 2, before Milvus Lite, which speaks gRPC alone.

It runs in Milvus Lite's environment. As in Milvus itself, a request becomes the message of the same
name, and the answer is what the engine says to that message
(https://github.com/milvus-io/milvus/blob/master/internal/distributed/proxy/httpserver/handler_v2.go).
Nothing is kept here, and nothing refused but words that no message can hold.
"""

import json
import struct
import sys
from collections.abc import Callable
from decimal import Decimal
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib import import_module
from importlib.util import find_spec
from types import ModuleType
from typing import Any, Final

JSON = dict[str, Any]
HOST: Final = "127.0.0.1"
PREFIX: Final = "/v2/vectordb/"
INVALID: Final = 1100
UNIMPLEMENTED: Final = 10
UNEXPECTED: Final = 65535
CODES: Final = {1: UNEXPECTED, 6: INVALID, 26: UNEXPECTED, 35: UNEXPECTED}
"""Milvus Lite's codes that are those of old servers, as servers since 2.3 say them."""
GO_EXPONENTS: Final = range(-4, 6)
"""Of the numbers that Go writes without an exponent."""
COLUMNS: Final = {
    "Bool": "bool_data",
    "Int64": "long_data",
    "Float": "float_data",
    "Double": "double_data",
    "VarChar": "string_data",
}


class RefusedError(Exception):
    """An answer with another code than 0."""

    def __init__(self, code: int, message: str) -> None:
        super().__init__(message)
        self.code = code


class Engine:
    """Milvus Lite, with its data in a folder, asked by its own messages over gRPC."""

    def __init__(self, folder: str) -> None:
        _hide_client()
        self.common, self.milvus, self.schema = (
            import_module(f"pymilvus.grpc_gen.{part}_pb2")
            for part in ("common", "milvus", "schema")
        )
        lite = import_module("milvus_lite.adapter.grpc.server")
        # One worker: Milvus Lite does not guard a collection against two writers.
        self._running = lite.start_server_in_thread(folder, host=HOST, max_workers=1)
        self._grpc = import_module("grpc")
        channel = self._grpc.insecure_channel(
            f"{HOST}:{self._running[2]}", [("grpc.enable_http_proxy", 0)]
        )
        services = import_module("pymilvus.grpc_gen.milvus_pb2_grpc")
        self._stub = services.MilvusServiceStub(channel)

    def ask(self, call: str, **fields: Any) -> Any:
        """Send one message; the engine's answer. Raises RefusedError."""
        try:
            answer = getattr(self._stub, call)(getattr(self.milvus, f"{call}Request")(**fields))
        except self._grpc.RpcError as error:
            missing = error.code() is self._grpc.StatusCode.UNIMPLEMENTED
            code = UNIMPLEMENTED if missing else UNEXPECTED
            raise RefusedError(code, f"{call}: {error.details()}") from error
        status = getattr(answer, "status", answer)
        if status.code or status.error_code:
            code = status.code or status.error_code
            raise RefusedError(CODES.get(code, code), status.reason)
        return answer

    def pairs(self, values: JSON) -> list[Any]:
        return [
            self.common.KeyValuePair(key=key, value=as_go_writes(value))
            for key, value in values.items()
        ]

    def field(self, wanted: JSON, *, auto_id: bool = False) -> Any:
        """The message of a field. Raises RefusedError."""
        kind, element = wanted["dataType"], wanted.get("elementDataType")
        types = dict(self.schema.DataType.items())
        if kind not in types:
            raise RefusedError(INVALID, f"invalid parameter, data type {kind} is invalid")
        if kind == "Array" and element not in types:
            raise RefusedError(INVALID, f"element data type {element} is invalid")
        key = wanted.get("isPrimary", False)
        return self.schema.FieldSchema(
            name=wanted["fieldName"],
            data_type=types[kind],
            element_type=types[element] if kind == "Array" else 0,
            is_primary_key=key,
            autoID=key and auto_id,
            is_partition_key=wanted.get("isPartitionKey", False),
            nullable=wanted.get("nullable", False),
            type_params=self.pairs(wanted.get("elementTypeParams") or {}),
        )


class Rest:
    """The operations: each takes the place and the body, and gives the data of the answer."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self.operations: dict[str, Callable[[JSON, JSON], Any]] = {
            "collections/list": self._list,
            "collections/create": self._create,
            "collections/describe": self._describe,
            "collections/drop": self._plain("DropCollection"),
            "collections/load": self._plain("LoadCollection"),
            "collections/release": self._plain("ReleaseCollection"),
            "collections/flush": self._flush,
            "collections/alter_properties": self._alter,
            "collections/drop_properties": self._drop_properties,
            "collections/fields/add": self._add_field,
            "indexes/create": self._create_index,
            "indexes/describe": self._describe_index,
            "indexes/drop": self._drop_index,
            "aliases/create": self._create_alias,
            "aliases/drop": self._drop_alias,
            "databases/create": self._create_database,
            "entities/insert": self._insert,
            "entities/search": self._search,
        }

    def answer(self, path: str, body: JSON) -> JSON:
        """The body of the answer."""
        at = {"db_name": body.get("dbName") or "default"}
        if "collectionName" in body:
            at["collection_name"] = body["collectionName"]
        try:
            data = self.operations[path](at, body)
        except RefusedError as refused:
            return {"code": refused.code, "message": str(refused)}
        return {"code": 0, "data": {} if data is None else data}

    def _plain(self, call: str) -> Callable[[JSON, JSON], None]:
        def ask(at: JSON, _: JSON) -> None:
            self._engine.ask(call, **at)

        return ask

    def _list(self, at: JSON, _: JSON) -> list[str]:
        return list(self._engine.ask("ShowCollections", **at).collection_names)

    def _create(self, at: JSON, body: JSON) -> None:
        engine, wanted, params = self._engine, body["schema"], body.get("params") or {}
        auto_id = wanted.get("autoID", False)
        levels = dict(engine.common.ConsistencyLevel.items())
        level = params.get("consistencyLevel", "Bounded")
        if level not in levels:
            raise RefusedError(INVALID, f"consistencyLevel can only be one of {sorted(levels)}")
        schema = engine.schema.CollectionSchema(
            name=body["collectionName"],
            description=body.get("description", ""),
            autoID=auto_id,
            enable_dynamic_field=wanted.get("enableDynamicField", False),
            fields=[engine.field(field, auto_id=auto_id) for field in wanted["fields"]],
        )
        engine.ask(
            "CreateCollection",
            **at,
            schema=schema.SerializeToString(),
            shards_num=params.get("shardsNum", 1),
            num_partitions=params.get("partitionsNum", 0),
            consistency_level=levels[level],
        )

    def _describe(self, at: JSON, _: JSON) -> JSON:
        ask, engine = self._engine.ask, self._engine
        told = ask("DescribeCollection", **at)
        fields = [_told_field(engine, field) for field in told.schema.fields]
        vector = next((of["name"] for of in fields if of["type"].endswith("Vector")), "")
        try:
            indexes = ask("DescribeIndex", **at, field_name=vector).index_descriptions
        except RefusedError:
            # Milvus tells of the rest all the same.
            indexes = []
        return {
            "collectionName": told.collection_name,
            "collectionID": told.collectionID,
            "description": told.schema.description,
            "autoId": any(of["primaryKey"] and of["autoId"] for of in fields),
            "fields": fields,
            "functions": [],
            "aliases": list(ask("ListAliases", **at).aliases),
            "indexes": [
                {
                    "indexName": of.index_name,
                    "fieldName": of.field_name,
                    "metricType": _pairs(of.params).get("metric_type", ""),
                }
                for of in indexes
            ],
            "load": engine.common.LoadState.Name(ask("GetLoadState", **at).state),
            "shardsNum": told.shards_num,
            "partitionsNum": told.num_partitions,
            "consistencyLevel": engine.common.ConsistencyLevel.Name(told.consistency_level),
            "enableDynamicField": told.schema.enable_dynamic_field,
            "properties": _told_pairs(told.properties),
        }

    def _flush(self, at: JSON, body: JSON) -> None:
        names = [body["collectionName"]]
        self._engine.ask("Flush", db_name=at["db_name"], collection_names=names)

    def _alter(self, at: JSON, body: JSON) -> None:
        pairs = self._engine.pairs(body["properties"])
        self._engine.ask("AlterCollection", **at, properties=pairs)

    def _drop_properties(self, at: JSON, body: JSON) -> None:
        self._engine.ask("AlterCollection", **at, delete_keys=body["propertyKeys"])

    def _add_field(self, at: JSON, body: JSON) -> None:
        schema = self._engine.field(body["schema"]).SerializeToString()
        self._engine.ask("AddCollectionField", **at, schema=schema)

    def _create_index(self, at: JSON, body: JSON) -> None:
        for wanted in body["indexParams"]:
            told = {"index_type": wanted.get("indexType"), "metric_type": wanted.get("metricType")}
            if wanted.get("params"):
                told["params"] = json.dumps(wanted["params"])
            self._engine.ask(
                "CreateIndex",
                **at,
                field_name=wanted["fieldName"],
                index_name=wanted.get("indexName", ""),
                extra_params=self._engine.pairs({key: of for key, of in told.items() if of}),
            )

    def _describe_index(self, at: JSON, body: JSON) -> list[JSON]:
        found = self._engine.ask("DescribeIndex", **at, index_name=body["indexName"])
        return [
            {
                "indexName": of.index_name,
                "fieldName": of.field_name,
                "indexType": _pairs(of.params).get("index_type", ""),
                "metricType": _pairs(of.params).get("metric_type", ""),
                "totalRows": of.total_rows,
                "pendingRows": of.pending_index_rows,
                "indexedRows": of.indexed_rows,
                "indexState": self._engine.common.IndexState.Name(of.state),
                "failReason": of.index_state_fail_reason,
            }
            for of in found.index_descriptions
        ]

    def _drop_index(self, at: JSON, body: JSON) -> None:
        # By its field: Milvus Lite has no other name for an index, and misses it by this one.
        self._engine.ask("DropIndex", **at, field_name=body["indexName"])

    def _create_alias(self, at: JSON, body: JSON) -> None:
        self._engine.ask("CreateAlias", **at, alias=body["aliasName"])

    def _drop_alias(self, at: JSON, body: JSON) -> None:
        self._engine.ask("DropAlias", db_name=at["db_name"], alias=body["aliasName"])

    def _create_database(self, at: JSON, _: JSON) -> None:
        self._engine.ask("CreateDatabase", **at)

    def _insert(self, at: JSON, body: JSON) -> JSON:
        rows = body["data"]
        told = self._engine.ask("DescribeCollection", **at).schema.fields
        fields = [_column(self._engine, field, rows) for field in told if not field.autoID]
        done = self._engine.ask("Insert", **at, fields_data=fields, num_rows=len(rows))
        return {"insertCount": done.insert_cnt, "insertIds": _ids(done.IDs)}

    def _search(self, at: JSON, body: JSON) -> list[JSON]:
        common = self._engine.common
        vectors = [struct.pack(f"<{len(of)}f", *of) for of in body["data"]]
        asked = common.PlaceholderValue(
            tag="$0", type=common.PlaceholderType.FloatVector, values=vectors
        )
        group = common.PlaceholderGroup(placeholders=[asked]).SerializeToString()
        params = {"anns_field": body["annsField"], "topk": str(body["limit"]), "params": "{}"}
        found = self._engine.ask(
            "Search",
            **at,
            dsl=body.get("filter", ""),
            placeholder_group=group,
            search_params=self._engine.pairs(params),
            nq=len(vectors),
        ).results
        return [
            {"id": id, "distance": distance}
            for id, distance in zip(_ids(found.ids), found.scores, strict=True)
        ]


def as_go_writes(value: object) -> str:
    """The text that Milvus makes of a value in JSON: Go's %v, where numbers are all float64."""
    if isinstance(value, bool):
        return str(value).lower()
    if not isinstance(value, int | float):
        return str(value)
    number = Decimal(repr(float(value))).normalize()
    exponent = number.adjusted()
    if number == 0 or exponent in GO_EXPONENTS:
        return f"{number:f}"
    return f"{number.scaleb(-exponent):f}e{exponent:+03d}"


def _hide_client() -> None:
    """Leave of pymilvus only its messages: its client brings pandas and a second of imports."""
    found = find_spec("pymilvus")
    if found is None or found.submodule_search_locations is None:
        raise ModuleNotFoundError("pymilvus is not installed")
    package = ModuleType("pymilvus")
    package.__path__ = list(found.submodule_search_locations)
    sys.modules["pymilvus"] = package


def _pairs(told: Any) -> dict[str, str]:
    return {pair.key: pair.value for pair in told}


def _told_pairs(told: Any) -> list[JSON]:
    return [{"key": pair.key, "value": pair.value} for pair in told]


def _ids(told: Any) -> list[Any]:
    return list(told.int_id.data) or list(told.str_id.data)


def _told_field(engine: Engine, field: Any) -> JSON:
    told = {
        "name": field.name,
        "type": engine.schema.DataType.Name(field.data_type),
        "primaryKey": field.is_primary_key,
        "partitionKey": field.is_partition_key,
        "clusteringKey": field.is_clustering_key,
        "autoId": field.autoID,
        "nullable": field.nullable,
        "description": field.description,
        "params": _told_pairs(field.type_params),
    }
    if field.element_type:
        told["elementType"] = engine.schema.DataType.Name(field.element_type)
    return told


def _column(engine: Engine, field: Any, rows: list[JSON]) -> Any:
    """One field of all rows. Raises RefusedError."""
    kind = engine.schema.DataType.Name(field.data_type)
    if any(field.name not in row for row in rows):
        raise RefusedError(INVALID, f"this gate needs {field.name} in every row")
    values = [row[field.name] for row in rows]
    column = engine.schema.FieldData(field_name=field.name, type=field.data_type)
    if kind == "FloatVector":
        column.vectors.dim = len(values[0])
        column.vectors.float_vector.data.extend(number for of in values for number in of)
    elif kind in COLUMNS:
        getattr(column.scalars, COLUMNS[kind]).data.extend(values)
    else:
        raise RefusedError(INVALID, f"this gate writes no {kind}")
    return column


def main(folder: str, port: int) -> None:
    """Serve until the process ends."""
    rest = Rest(Engine(folder))

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            self._send(200 if self.path == "/healthz" else 404, {})

        def do_POST(self) -> None:
            raw = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            path = self.path.removeprefix(PREFIX)
            if path in rest.operations:
                self._send(200, rest.answer(path, json.loads(raw or b"{}")))
            else:
                self._send(404, {"message": f"no route {self.path}"})

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - its name there
            """Nobody reads it."""

        def _send(self, status: int, body: JSON) -> None:
            content = json.dumps(body).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

    ThreadingHTTPServer((HOST, port), Handler).serve_forever()


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
