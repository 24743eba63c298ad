"""VectorIndex at Milvus (https://milvus.io/api-reference/restful/v2.6.x/About.md)."""

import json
import re
from collections.abc import Mapping
from contextlib import suppress
from typing import Any, Final

from auterity.api.vector_index import Metric
from auterity.engine.contract import Observed, Phase, Provider
from auterity.engine.errors import NotFound
from auterity.providers.milvus.params import MilvusField, MilvusIndexParams
from auterity.transport.milvus import MilvusConnection, MilvusSession
from auterity.transport.rest import as_promised

JSON = dict[str, Any]
NAME: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,254}")
MARK: Final = "auterity: "
"""Begins the description of what is ours; the owner and the name of the declared vector follow.
Older servers drop the description: where it is, it is proof; where it is not, it says nothing."""
METRICS: Final = {
    Metric.COSINE: "COSINE",
    Metric.EUCLIDEAN: "L2",
    Metric.DOT_PRODUCT: "IP",
}
METRICS_SEEN: Final = {told: metric for metric, told in METRICS.items()}
FIRST_GARBLED: Final = 1_000_000
LEVELS_SEEN: Final = {"Eventual": "Eventually"}
"""The description of the API has another word for it than the server."""


class MilvusIndex(Provider[MilvusIndexParams, MilvusSession]):
    """Collections of one Milvus. The id is the database and the name, as in default/docs."""

    kind = "VectorIndex"
    vendor = "milvus"
    params = MilvusIndexParams
    connection = MilvusConnection
    marks_owner = False
    docs = "https://milvus.io/api-reference/restful/v2.6.x/About.md"
    permissions = (
        "The privilege groups CollectionAdmin and DatabaseAdmin, or the role admin",
        "At Zilliz Cloud: an API key with access to the cluster as an administrator",
    )
    proof = (
        "the vendor's engine for one process, Milvus Lite 3.2, behind the REST interface, searches "
        "included; what it lacks (descriptions, shards, half floats, fields added later) and what "
        "only Milvus refuses: a stateful fake, compared with the engine; every request is held "
        "against the official description of 2026-08"
    )
    publishes = (
        ("collection", "Name of the collection."),
        ("database", "The database that holds it."),
        ("endpoint", "Base URL of the cluster."),
        ("vectorName", "Name of the vector."),
        ("dimension", "Number of dimensions."),
        ("metric", "How similarity is measured."),
    )
    quirks = (
        "Names are letters, digits and underscores: set externalName.",
        "Newer servers keep the owner in the collection's description; there it is respected.",
        "A collection must be loaded, that is in memory, before it can be searched.",
        "A collection with aliases is not dropped: remove its aliases first.",
        "Who makes an equal collection at the same moment is not told that there is one already.",
    )

    @classmethod
    def objections(cls, want: MilvusIndexParams) -> Mapping[str, str]:
        if NAME.fullmatch(want.name):
            return {}
        return {
            "name": "Milvus takes a letter or underscore and up to 254 letters, digits and "
            "underscores; say another name by spec.externalName"
        }

    async def locate(self, want: MilvusIndexParams) -> str | None:
        return f"{want.database}/{want.name}"

    async def read(self, id: str) -> Observed[MilvusIndexParams] | None:
        at = _place(id)
        try:
            with as_promised("Milvus'"):
                told = await self.session.ask("collections/describe", **at)
                if told["collectionName"] != at["collectionName"]:
                    # An alias of another collection: ours is not there.
                    return None
                vector = _vector(told)
                index = await self._index(at, told, vector) if vector else None
                return self._observed(id, told, vector, index)
        except NotFound:
            return None

    async def create(self, want: MilvusIndexParams, owner: str) -> str:
        at = {"dbName": want.database, "collectionName": want.name}
        # Without the index: Milvus would make the three in one call, but not as a whole.
        await self.session.ask(
            "collections/create",
            **at,
            description=f"{MARK}{owner} {want.vector_name}",
            schema=_schema(want),
            params=_options(want),
        )
        await self._write(at, want, set(want.properties or {}))
        await self._make_index(at, want)
        if want.loaded:
            await self.session.ask("collections/load", **at)
        return f"{want.database}/{want.name}"

    async def update(
        self, id: str, want: MilvusIndexParams, changed: frozenset[str], owner: str
    ) -> None:
        at = _place(id)
        await self._write(at, want, _below("properties", changed))
        for name in sorted(_below("fields", changed) & set(want.fields or {})):
            schema = _field(name, (want.fields or {})[name])
            await self.session.ask("collections/fields/add", **at, schema=schema)
        if "loaded" in changed:
            told = await self.session.ask("collections/describe", **at)
            if not _indexes(told, want.vector_name):
                await self._make_index(at, want)
            await self.session.ask(f"collections/{'load' if want.loaded else 'release'}", **at)

    async def delete(self, id: str) -> None:
        try:
            await self.session.ask("collections/drop", **_place(id))
        except NotFound:
            return

    async def _write(self, at: JSON, want: MilvusIndexParams, names: set[str]) -> None:
        """Write some of the properties; those that are not declared are dropped."""
        declared = want.properties or {}
        if written := {name: _typed(declared[name]) for name in sorted(names & set(declared))}:
            await self.session.ask("collections/alter_properties", **at, properties=written)
        if dropped := sorted(names - set(declared)):
            await self.session.ask("collections/drop_properties", **at, propertyKeys=dropped)

    async def _make_index(self, at: JSON, want: MilvusIndexParams) -> None:
        index: JSON = {
            "fieldName": want.vector_name,
            "indexName": want.vector_name,
            "metricType": METRICS[want.metric],
            "indexType": want.index_type,
        }
        if want.index_params:
            index["params"] = want.index_params
        await self.session.ask("indexes/create", **at, indexParams=[index])

    async def _index(self, at: JSON, told: JSON, vector: JSON) -> JSON | None:
        """The vector's index; None if it has none."""
        names = _indexes(told, vector["name"])
        if not names:
            return None
        try:
            found = await self.session.ask("indexes/describe", **at, indexName=names[0])
        except NotFound:
            return None
        # The server answers a list, though the description has it otherwise.
        index: JSON = found[0] if isinstance(found, list) else found
        return index

    def _observed(
        self, id: str, told: JSON, vector: JSON | None, index: JSON | None
    ) -> Observed[MilvusIndexParams]:
        owner, _ = _mark(told)
        state = told.get("load") or ""
        seen: JSON = {
            "name": told["collectionName"],
            "database": _place(id)["dbName"],
            "dynamic_fields": bool(told.get("enableDynamicField")),
            "shards": told.get("shardsNum"),
            "properties": _pairs(told.get("properties")),
            **_keys(told),
        }
        if told.get("consistencyLevel"):
            seen["consistency_level"] = LEVELS_SEEN.get(
                told["consistencyLevel"], told["consistencyLevel"]
            )
        if vector is not None:
            seen |= {
                "vector_name": vector["name"],
                "vector_type": vector["type"],
                "dimension": int(_pairs(vector["params"])["dim"]),
            }
        if index is not None:
            seen["index_type"] = index["indexType"]
            metric = index["metricType"]
            seen["metric"] = METRICS_SEEN.get(metric, metric)
        if vector is not None and index is None:
            # A difference, whatever is wanted: it brings the update that makes the index.
            seen["loaded"] = None
        elif state:
            seen["loaded"] = state != "LoadStateNotLoad"
        outputs = {
            "collection": told["collectionName"],
            "database": seen["database"],
            "endpoint": str(self.session.client.base_url).rstrip("/"),
            "vectorName": seen.get("vector_name"),
            "dimension": seen.get("dimension"),
            "metric": seen.get("metric"),
        }
        phase, message = _phase(state, index)
        return Observed(
            id=id,
            actual=MilvusIndexParams.seen(**seen),
            phase=phase,
            owner=owner,
            outputs={name: str(value) for name, value in outputs.items() if value is not None},
            message=message,
        )


def _place(id: str) -> JSON:
    database, _, name = id.partition("/")
    return {"dbName": database, "collectionName": name}


def _below(field: str, changed: frozenset[str]) -> set[str]:
    """The entries of a map that have changed."""
    return {path.removeprefix(f"{field}.") for path in changed if path.startswith(f"{field}.")}


def _mark(told: JSON) -> tuple[str | None, str | None]:
    """The owner, and which vector is the declared one."""
    text = told.get("description") or ""
    if not text.startswith(MARK):
        return None, None
    owner, _, vector = text.removeprefix(MARK).partition(" ")
    return owner, vector or None


def _pairs(told: Any) -> dict[str, str]:
    """The server answers a list of keys and values where the description has an object."""
    if isinstance(told, list):
        return {pair["key"]: str(pair["value"]) for pair in told}
    return {key: str(value) for key, value in (told or {}).items()}


def _typed(text: str) -> Any:
    """The value that text stands for, if Milvus makes the same text of it again; else the text.

    Milvus writes numbers of a million and more with an exponent, and then cannot read them:
    https://github.com/milvus-io/milvus/issues/47761
    """
    with suppress(ValueError):
        value = json.loads(text)
        if isinstance(value, bool):
            return value
        if isinstance(value, int | float) and str(value) == text and abs(value) < FIRST_GARBLED:
            return text if isinstance(value, float) and value.is_integer() else value
    return text


def _schema(want: MilvusIndexParams) -> JSON:
    key: JSON = {"fieldName": want.id_name, "dataType": want.id_type, "isPrimary": True}
    if want.id_max_length is not None:
        key["elementTypeParams"] = {"max_length": want.id_max_length}
    vector = {
        "fieldName": want.vector_name,
        "dataType": want.vector_type,
        "elementTypeParams": {"dim": want.dimension},
    }
    fields = [_field(name, field) for name, field in (want.fields or {}).items()]
    schema: JSON = {"autoID": want.auto_id, "fields": [key, vector, *fields]}
    if want.dynamic_fields is not None:
        schema["enableDynamicField"] = want.dynamic_fields
    return schema


def _options(want: MilvusIndexParams) -> JSON:
    options = {
        "shardsNum": want.shards,
        "partitionsNum": want.partitions,
        "consistencyLevel": want.consistency_level,
    }
    return {name: value for name, value in options.items() if value is not None}


def _field(name: str, field: MilvusField) -> JSON:
    limits = {"max_length": field.max_length, "max_capacity": field.max_capacity}
    body: JSON = {
        "fieldName": name,
        "dataType": field.type,
        "elementDataType": field.element_type,
        "nullable": field.nullable,
        "isPartitionKey": field.partition_key,
        "elementTypeParams": {key: value for key, value in limits.items() if value is not None}
        or None,
    }
    return {key: value for key, value in body.items() if value is not None}


def _vector(told: JSON) -> JSON | None:
    """The declared vector; None if it cannot be told from the others."""
    vectors: dict[str, JSON] = {
        field["name"]: field
        for field in told["fields"]
        if field["type"].endswith("Vector") and not field["type"].startswith("Sparse")
    }
    _, declared = _mark(told)
    if declared in vectors:
        return vectors[declared]
    return next(iter(vectors.values())) if len(vectors) == 1 else None


def _indexes(told: JSON, vector: str) -> list[str]:
    """Names of the indexes over a vector."""
    return [of["indexName"] for of in told.get("indexes") or [] if of["fieldName"] == vector]


def _keys(told: JSON) -> JSON:
    """The primary key, and the further fields."""
    seen: JSON = {"fields": {}}
    for field in told["fields"]:
        limits = _pairs(field.get("params"))
        length = int(limits["max_length"]) if "max_length" in limits else None
        if field.get("primaryKey"):
            seen |= {
                "id_name": field["name"],
                "id_type": field["type"],
                "id_max_length": length,
                "auto_id": bool(field.get("autoId")),
            }
        elif not field["type"].endswith("Vector"):
            capacity = limits.get("max_capacity")
            seen["fields"][field["name"]] = MilvusField.model_construct(
                type=field["type"],
                max_length=length,
                element_type=field.get("elementType"),
                max_capacity=None if capacity is None else int(capacity),
                nullable=bool(field.get("nullable")),
                partition_key=bool(field.get("partitionKey")),
            )
    return seen


def _phase(state: str, index: JSON | None) -> tuple[Phase, str | None]:
    # An index that is InProgress serves: with every batch that is written, it is so again.
    if index is not None and index.get("indexState") == "Failed":
        return Phase.FAILED, f"Milvus cannot build the index: {index.get('failReason')}"
    if state == "LoadStateLoading":
        return Phase.PENDING, "Milvus loads the collection"
    return Phase.READY, None
