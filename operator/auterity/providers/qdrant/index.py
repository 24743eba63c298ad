"""VectorIndex at Qdrant (https://api.qdrant.tech/api-reference/collections)."""

import re
from collections.abc import Mapping
from typing import Any, Final
from urllib.parse import quote

from auterity.api.fields import Model
from auterity.api.vector_index import Metric
from auterity.engine.contract import Observed, Phase
from auterity.engine.errors import Conflict, NotFound
from auterity.providers.qdrant.params import (
    OWNER,
    UNQUANTIZED,
    VECTOR,
    QdrantHnsw,
    QdrantIndexParams,
    QdrantOptimizers,
    QdrantPayloadIndex,
    QdrantQuantization,
    QdrantSparseVector,
    QdrantStrictMode,
)
from auterity.transport.qdrant import QdrantConnection
from auterity.transport.rest import RestProvider

JSON = dict[str, Any]
NAME: Final = re.compile(r'[^<>:"/\\|?*\0\x1f]{1,255}')
METRICS: Final = {
    Metric.COSINE: "Cosine",
    Metric.EUCLIDEAN: "Euclid",
    Metric.DOT_PRODUCT: "Dot",
}
METRICS_SEEN: Final = {told: metric for metric, told in METRICS.items()}
PATIENCE: Final = "20"
"""Seconds that Qdrant may take to agree on a change among its nodes: fewer than the transport's."""


class QdrantIndex(RestProvider[QdrantIndexParams]):
    """Collections of one Qdrant, by name."""

    kind = "VectorIndex"
    vendor = "qdrant"
    params = QdrantIndexParams
    connection = QdrantConnection
    collection = "/collections"
    docs = "https://api.qdrant.tech/api-reference/collections"
    permissions = ("API key with manage access, or an access token (JWT) with global access m",)
    proof = (
        "stateful fake; every request is held against the official description of Qdrant 1.19, "
        "as is every answer of the fake"
    )
    publishes = (
        ("collection", "Name of the collection."),
        ("endpoint", "Base URL of the REST interface."),
        ("vectorName", "Name of the vector within every point, unless it has none."),
        ("dimension", "Number of dimensions."),
        ("metric", "How similarity is measured."),
    )
    quirks = (
        "Qdrant 1.16 or newer: older servers keep no metadata, and so no owner's mark.",
        'Names have at most 255 characters, none of them one of < > : " / \\ | ? *.',
        "Aliases are left to applications; a name that is an alias is read as where it leads.",
        "The key of a database cannot make clusters: those are made in Qdrant Cloud.",
    )

    @classmethod
    def objections(cls, want: QdrantIndexParams) -> Mapping[str, str]:
        if NAME.fullmatch(want.name):
            return {}
        return {"name": 'Qdrant takes up to 255 characters, none of them < > : " / \\ | ? or *'}

    async def read(self, id: str) -> Observed[QdrantIndexParams] | None:
        body = await self.session.find(self.path(id))
        # What is told of a collection lacks its name.
        return None if body is None else self._decoded({**body, "name": id})

    async def create(self, want: QdrantIndexParams, owner: str) -> str:
        await self._change("PUT", self.path(want.name), self.encode(want, owner))
        for field in want.payload_indexes or {}:
            await self._index(want.name, field, want)
        return want.name

    async def update(
        self, id: str, want: QdrantIndexParams, changed: frozenset[str], owner: str
    ) -> None:
        await self._change("PATCH", self.path(id), self.encode_changes(want, changed, owner))
        below = [path.partition(".")[2] for path in changed if path.startswith("payload_indexes.")]
        for field in sorted({_field_of(path, want) for path in below}):
            # An index of another type stands in the way of a new one.
            place = f"{self.path(id)}/index/{quote(field, safe='')}"
            await self.session.call("DELETE", place, params={"wait": "true"})
            if field in (want.payload_indexes or {}):
                await self._index(id, field, want)

    async def delete(self, id: str) -> None:
        try:
            told = await self.session.call("DELETE", self.path(id), params={"timeout": PATIENCE})
        except NotFound:
            return
        # Qdrant reads by an alias, but deletes by none.
        gone = not isinstance(told, dict) or told.get("result") is not False
        if not gone and await self.session.find(self.path(id)) is not None:
            raise Conflict(
                f"{id} is an alias by now, of a collection with a copy of our mark; remove it there"
            )

    def encode(self, want: QdrantIndexParams, owner: str) -> JSON:
        vector = {
            "size": want.dimension,
            "distance": METRICS[want.metric],
            "datatype": want.datatype,
            "on_disk": want.on_disk,
        }
        vector = {name: value for name, value in vector.items() if value is not None}
        sparse = want.sparse_vectors or {}
        body = {
            "vectors": {want.vector_name: vector} if want.vector_name else vector,
            "sparse_vectors": {name: {"modifier": of.modifier} for name, of in sparse.items()}
            or None,
            "shard_number": want.shard_number,
            "sharding_method": want.sharding_method,
            "replication_factor": want.replication_factor,
            "write_consistency_factor": want.write_consistency_factor,
            "on_disk_payload": want.on_disk_payload,
            "hnsw_config": _given(want.hnsw),
            "optimizers_config": _given(want.optimizers),
            "quantization_config": _quantization(want.quantization),
            "strict_mode_config": _given(want.strict_mode),
            "metadata": {**(want.metadata or {}), **_marks(want, owner)},
        }
        body = {name: value for name, value in body.items() if value is not None}
        if body.get("quantization_config") == "Disabled":
            del body["quantization_config"]
        return body

    def encode_changes(self, want: QdrantIndexParams, changed: frozenset[str], owner: str) -> JSON:
        fields = {path.partition(".")[0] for path in changed}
        keys = [path.partition(".")[2] for path in changed if path.startswith("metadata.")]
        # What is not sent stays; null removes an entry.
        notes = {key: (want.metadata or {}).get(key) for key in keys}
        params = {
            name: getattr(want, name)
            for name in ("replication_factor", "write_consistency_factor", "on_disk_payload")
            if name in fields
        }
        body = {
            "metadata": {**notes, **_marks(want, owner)},
            "params": params or None,
            "vectors": (
                {want.vector_name or "": {"on_disk": want.on_disk}} if "on_disk" in fields else None
            ),
            "hnsw_config": _given(want.hnsw) if "hnsw" in fields else None,
            "optimizers_config": _given(want.optimizers) if "optimizers" in fields else None,
            "quantization_config": (
                _quantization(want.quantization) if "quantization" in fields else None
            ),
            "strict_mode_config": _given(want.strict_mode) if "strict_mode" in fields else None,
        }
        return {name: value for name, value in body.items() if value is not None}

    def decode(self, body: JSON) -> Observed[QdrantIndexParams]:
        name, info = body["name"], body["result"]
        config = info["config"]
        params, notes = config["params"], dict(config.get("metadata") or {})
        owner, declared = notes.pop(OWNER, None), notes.pop(VECTOR, None)
        vector = _vector(params.get("vectors") or {}, declared)
        strict = config.get("strict_mode_config") or {}
        actual = QdrantIndexParams.seen(
            name=name,
            on_disk_payload=_on_disk(params, "payload", "on_disk_payload", default=True),
            sparse_vectors={
                key: QdrantSparseVector.model_construct(modifier=of.get("modifier") or "none")
                for key, of in (params.get("sparse_vectors") or {}).items()
            },
            hnsw=QdrantHnsw.model_construct(
                **{
                    **config["hnsw_config"],
                    "on_disk": _on_disk(config["hnsw_config"], "memory", "on_disk"),
                }
            ),
            quantization=_quantization_seen(config.get("quantization_config")),
            optimizers=QdrantOptimizers.model_construct(**config["optimizer_config"]),
            shard_number=params.get("shard_number", 1),
            sharding_method=params.get("sharding_method") or "auto",
            replication_factor=params.get("replication_factor", 1),
            write_consistency_factor=params.get("write_consistency_factor", 1),
            strict_mode=QdrantStrictMode.model_construct(**{"enabled": False, **strict}),
            payload_indexes={
                field: _index_seen(index) for field, index in info["payload_schema"].items()
            },
            metadata=notes,
            **vector,
        )
        phase, message = _phase(info)
        outputs = {
            "collection": name,
            "endpoint": str(self.session.client.base_url).rstrip("/"),
            "vectorName": vector.get("vector_name"),
            "dimension": vector.get("dimension"),
            "metric": vector.get("metric"),
        }
        return Observed(
            id=name,
            actual=actual,
            phase=phase,
            owner=owner if isinstance(owner, str) else None,
            outputs={key: str(value) for key, value in outputs.items() if value is not None},
            url=f"{outputs['endpoint']}/dashboard#/collections/{quote(name, safe='')}",
            message=message,
        )

    async def _change(self, method: str, path: str, body: JSON) -> None:
        await self.session.call(method, path, params={"timeout": PATIENCE}, json=body)

    async def _index(self, id: str, field: str, want: QdrantIndexParams) -> None:
        schema = _given((want.payload_indexes or {})[field])
        body = {"field_name": field, "field_schema": schema}
        await self.session.call("PUT", f"{self.path(id)}/index", params={"wait": "true"}, json=body)


def _marks(want: QdrantIndexParams, owner: str) -> JSON:
    return {OWNER: owner, VECTOR: want.vector_name or ""}


def _given(model: Model | None) -> JSON | None:
    return None if model is None else model.model_dump(mode="json", exclude_none=True)


def _quantization(want: QdrantQuantization | None) -> JSON | str | None:
    if want is None:
        return None
    if want.method == UNQUANTIZED:
        return "Disabled"
    options = want.model_dump(exclude={"method"}, exclude_none=True)
    if want.method == "scalar":
        options["type"] = "int8"
    return {want.method: options}


def _quantization_seen(told: JSON | None) -> QdrantQuantization:
    method, options = next(iter((told or {UNQUANTIZED: {}}).items()))
    placed = options.get("memory")
    seen: JSON = {
        "method": method,
        "quantile": options.get("quantile"),
        "compression": options.get("compression"),
        # Qdrant 1.19 has a newer word, which goes before.
        "always_ram": placed == "pinned" if placed else bool(options.get("always_ram")),
    }
    if method == UNQUANTIZED:
        del seen["always_ram"]
    return QdrantQuantization.model_construct(**seen)


def _vector(told: JSON, declared: str | None) -> JSON:
    """What is known of the declared vector; nothing if it cannot be told from the others."""
    if "size" in told and not isinstance(told["size"], dict):
        name, vector = None, told
    elif declared in told:
        name, vector = declared, told[declared]
    elif len(told) == 1:
        ((name, vector),) = told.items()
    elif declared is None:
        return {}
    else:
        # What was declared is not there.
        return {"vector_name": None, "dimension": None}
    return {
        "vector_name": name,
        "dimension": vector["size"],
        "metric": METRICS_SEEN.get(vector["distance"], vector["distance"]),
        "datatype": vector.get("datatype") or "float32",
        "on_disk": _on_disk(vector, "memory", "on_disk"),
    }


def _on_disk(told: JSON, memory: str, flag: str, *, default: bool = False) -> bool:
    """Whether something is kept on disk: Qdrant 1.19 has a newer word, which goes before."""
    placed = told.get(memory)
    placed = placed.get("memory") if isinstance(placed, dict) else placed
    if placed is not None:
        return bool(placed == "cold")
    flagged = told.get(flag)
    return default if flagged is None else bool(flagged)


def _index_seen(index: JSON) -> QdrantPayloadIndex:
    params = index.get("params") or {}
    return QdrantPayloadIndex.model_construct(
        type=index["data_type"],
        is_tenant=bool(params.get("is_tenant")),
        on_disk=_on_disk(params, "memory", "on_disk"),
    )


def _field_of(path: str, want: QdrantIndexParams) -> str:
    """The payload field that a changed path is about; the names of both have dots."""
    field, _, option = path.rpartition(".")
    known = want.payload_indexes or {}
    if path not in known and field in known and option in QdrantPayloadIndex.model_fields:
        return field
    return path


def _phase(info: JSON) -> tuple[Phase, str | None]:
    """Yellow and grey collections serve as well: their segments are, or wait to be, optimized."""
    optimizer = info["optimizer_status"]
    if info["status"] != "red":
        return Phase.READY, None
    why = optimizer.get("error") if isinstance(optimizer, dict) else None
    return Phase.FAILED, f"Qdrant's status of the collection is red: {why or 'no reason is told'}"
