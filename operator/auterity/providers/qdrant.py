"""VectorIndex at Qdrant (https://api.qdrant.tech/api-reference/collections)."""

import re
from collections.abc import Mapping
from http import HTTPStatus
from typing import Annotated, Any, ClassVar, Final, Literal
from urllib.parse import quote

from pydantic import Field

from auterity.api.connection import RateLimit
from auterity.api.fields import IMMUTABLE, SHARED, Model, Rule, SecretValue, ShortText, Url
from auterity.api.vector_index import Metric, VectorIndex
from auterity.engine.contract import Access, Identity, Observed, Phase
from auterity.engine.errors import Failure, NotFound, Unavailable
from auterity.transport import http
from auterity.transport.rest import RestConnector, RestProvider, RestSession

JSON = dict[str, Any]
OWNER: Final = "auterity-owner"
"""Key of the collection's metadata that carries the owner's mark."""
VECTOR: Final = "auterity-vector"
"""Key of the collection's metadata that tells which of its vectors is the declared one."""
NAME: Final = re.compile(r'[^<>:"/\\|?*\0\x1f]{1,255}')
METRICS: Final = {
    Metric.COSINE: "Cosine",
    Metric.EUCLIDEAN: "Euclid",
    Metric.DOT_PRODUCT: "Dot",
}
METRICS_SEEN: Final = {told: metric for metric, told in METRICS.items()}
PATIENCE: Final = "20"
"""Seconds that Qdrant may take to agree on a change among its nodes: fewer than the transport's."""
UNQUANTIZED: Final = "none"

Count = Annotated[int, Field(ge=1, le=4096)]
Amount = Annotated[int, Field(ge=0, le=1_000_000_000)]
Share = Annotated[float, Field(ge=0.5, le=1)]
FieldName = Annotated[str, Field(min_length=1, max_length=200)]


class QdrantConnection(RestConnector):
    """A Qdrant server or cluster: self-hosted, or a cluster of Qdrant Cloud."""

    vendor = "qdrant"
    endpoint: Url
    """Base URL of Qdrant's REST interface, such as https://id.region.aws.cloud.qdrant.io:6333."""
    rate_limit: ClassVar[RateLimit] = RateLimit(per_second=50, burst=100, concurrent=8)

    api_key: SecretValue | None = None
    """API key or access token of the database, not the management key of Qdrant Cloud. It may be
    left out only for a server that asks for none."""

    def headers(self) -> Mapping[str, str]:
        return {} if self.api_key is None else {"api-key": self.api_key.reveal()}

    async def identify(self, session: RestSession) -> Identity:
        await session.call("GET", "/collections")
        return Identity(f"Qdrant at {session.client.base_url.host}")

    def failure(self, answer: http.Answer) -> Failure | None:
        if answer.status == HTTPStatus.NOT_FOUND and not isinstance(answer.body, dict):
            # Qdrant's own 404 is JSON; that of a gateway must not be taken for "is gone".
            return Unavailable("404 came, and not in Qdrant's own words; is the endpoint right?")
        return http.failure_of(plain(answer))

    async def open(self, access: Access) -> "QdrantSession":
        rest = await super().open(access)
        return QdrantSession(access.door, rest.client, self)


class QdrantSession(RestSession):
    """Calls to one Qdrant."""

    async def call(self, method: str, path: str, **request: Any) -> Any:
        return await super().call(method, path, concerns_all=_held, **request)


class QdrantHnsw(Model):
    """How the graph of the vectors is built; what is left out is the server's to choose."""

    m: Annotated[int, Field(ge=0, le=4096)] | None = None
    """Edges of each node of the graph. 0 builds no graph over all points."""
    ef_construct: Annotated[int, Field(ge=4, le=65536)] | None = None
    """Neighbours that are considered while the graph is built."""
    full_scan_threshold: Annotated[int, Field(ge=10, le=1_000_000_000)] | None = None
    """Kilobytes of vectors below which a search reads them all instead of the graph."""
    max_indexing_threads: Annotated[int, Field(ge=0, le=1024)] | None = None
    """Threads that build the graph; 0 leaves it to Qdrant."""
    on_disk: bool | None = None
    """Whether the graph is kept on disk instead of in memory."""
    payload_m: Annotated[int, Field(ge=0, le=4096)] | None = None
    """Edges of each node within one value of an indexed field; for many tenants."""


class QdrantQuantization(Model):
    """A compressed copy of the vectors that is searched first."""

    rules = (
        Rule(
            "(self.method == 'product') == has(self.compression)",
            "compression belongs to product, and product needs it",
        ),
        Rule("self.method == 'scalar' || !has(self.quantile)", "quantile belongs to scalar"),
        Rule(
            f"self.method != '{UNQUANTIZED}' || !has(self.alwaysRam)",
            f"with the method {UNQUANTIZED} there is nothing to keep in memory",
        ),
    )

    method: Literal["none", "scalar", "product", "binary"]
    """How vectors are compressed: scalar to 8 bits a number, product by the given factor, binary
    to one bit a number, or none."""
    quantile: Share | None = None
    """For scalar: share of the values that is not cut off, from 0.5 to 1."""
    compression: Literal["x4", "x8", "x16", "x32", "x64"] | None = None
    """For product: how much smaller."""
    always_ram: bool | None = None
    """Whether the compressed vectors stay in memory even if the originals are on disk."""


class QdrantOptimizers(Model):
    """How points are kept in segments; what is left out is the server's to choose."""

    default_segment_number: Amount | None = None
    """Segments to aim at; 0 leaves it to Qdrant."""
    max_segment_size: Annotated[int, Field(ge=1, le=1_000_000_000)] | None = None
    """Kilobytes of vectors that a segment holds at most."""
    indexing_threshold: Amount | None = None
    """Kilobytes of vectors from which a segment gets a graph; 0 builds none."""
    flush_interval_sec: Annotated[int, Field(ge=0, le=86400)] | None = None
    """Seconds between two forced writes to disk."""


class QdrantStrictMode(Model):
    """Limits for what clients may ask of the collection."""

    enabled: bool
    """Whether the limits hold."""
    max_query_limit: Annotated[int, Field(ge=1, le=1_000_000_000)] | None = None
    """Points that one query may ask for."""
    max_timeout: Annotated[int, Field(ge=1, le=86400)] | None = None
    """Seconds that a request may ask to be given."""
    unindexed_filtering_retrieve: bool | None = None
    """Whether searches may filter by fields without a payload index."""
    unindexed_filtering_update: bool | None = None
    """Whether updates and deletions may filter by fields without a payload index."""
    upsert_max_batchsize: Annotated[int, Field(ge=1, le=1_000_000_000)] | None = None
    """Points that one request may write."""
    read_rate_limit: Annotated[int, Field(ge=1, le=1_000_000_000)] | None = None
    """Reads a minute on each replica."""
    write_rate_limit: Annotated[int, Field(ge=1, le=1_000_000_000)] | None = None
    """Writes a minute on each replica."""
    max_points_count: Annotated[int, Field(ge=1, le=1_000_000_000_000)] | None = None
    """Points that the collection may hold, as estimated."""


class QdrantPayloadIndex(Model):
    """An index over a field of the points' payload, for filters."""

    type: ShortText
    """Type of the field: keyword, integer, float, geo, text, bool, datetime or uuid."""
    is_tenant: bool | None = None
    """For keyword and uuid: the field tells tenants apart, so points of one are kept together."""
    on_disk: bool | None = None
    """Whether the index is kept on disk instead of in memory."""


class QdrantSparseVector(Model):
    """A sparse vector beside the dense one, for hybrid search."""

    modifier: Literal["none", "idf"] = "none"
    """idf weighs every term by how rare it is among the points, as BM25 needs it."""


class QdrantIndexParams(VectorIndex):
    """A collection at Qdrant with one dense vector; others may be added to it by hand."""

    rules = (
        Rule(
            f"!has(self.metadata) || !('{OWNER}' in self.metadata || '{VECTOR}' in self.metadata)",
            "the metadata that begin with auterity- are the operator's own",
            ".metadata",
        ),
    )

    vector_name: Annotated[
        Annotated[str, Field(min_length=1, max_length=200)] | None, IMMUTABLE
    ] = None
    """Name of the vector within every point; left out, the vector has no name. Only beside a named
    vector can further ones be added later. Cannot change."""
    datatype: Annotated[ShortText | None, IMMUTABLE] = None
    """How numbers are stored: float32 (the default), float16 or uint8. Cannot change."""
    on_disk: bool | None = None
    """Whether the vectors are read from disk instead of being held in memory."""
    on_disk_payload: bool | None = None
    """Whether the points' payload is read from disk instead of being held in memory."""
    sparse_vectors: Annotated[
        dict[Annotated[str, Field(min_length=1, max_length=200)], QdrantSparseVector] | None,
        Field(max_length=16),
        SHARED,
        IMMUTABLE,
    ] = None
    """Sparse vectors by name; others may add their own. Cannot change."""
    hnsw: QdrantHnsw | None = None
    """How the graph of the vectors is built. A change builds it anew, in the background."""
    quantization: QdrantQuantization | None = None
    """A compressed copy of the vectors. A change builds it anew, in the background."""
    optimizers: QdrantOptimizers | None = None
    """How points are kept in segments."""
    shard_number: Annotated[Count | None, IMMUTABLE] = None
    """Shards that the points are spread over; one for each node if left out. Cannot change."""
    sharding_method: Annotated[Literal["auto", "custom"] | None, IMMUTABLE] = None
    """custom: applications make the shards and tell the shard of every point. Cannot change."""
    replication_factor: Count | None = None
    """Copies of every shard. On a self-hosted cluster a higher number counts for new shards only;
    copies of the present ones are made by hand."""
    write_consistency_factor: Count | None = None
    """Copies that must have taken a write before it is confirmed."""
    strict_mode: QdrantStrictMode | None = None
    """Limits for what clients may ask of the collection."""
    payload_indexes: Annotated[
        dict[FieldName, QdrantPayloadIndex] | None, Field(max_length=64), SHARED
    ] = None
    """Indexes over fields of the payload, by the field's path such as `author.name`; applications
    may make their own beside them."""
    metadata: Annotated[
        dict[
            Annotated[str, Field(min_length=1, max_length=128)],
            Annotated[str, Field(max_length=256)],
        ]
        | None,
        Field(max_length=50),
        SHARED,
    ] = None
    """Notes about the collection; others may add their own."""


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
            await self.session.call("DELETE", self.path(id), params={"timeout": PATIENCE})
        except NotFound:
            return

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
            "sparse_vectors": {name: {"modifier": of.modifier} for name, of in sparse.items()},
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


def plain(answer: http.Answer) -> http.Answer:
    """The answer with Qdrant's words alone: beside them stands how long the call took."""
    body = answer.body
    status = body.get("status") if isinstance(body, dict) else None
    if isinstance(status, dict) and "error" in status:
        return http.Answer(answer.status, answer.headers, status["error"])
    return answer


def _held(answer: http.Answer) -> Failure | None:
    return http.held(plain(answer))


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
