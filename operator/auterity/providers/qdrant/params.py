"""What users declare of a collection at Qdrant."""

from typing import Annotated, Final, Literal

from pydantic import Field

from auterity.api.fields import DESTRUCTIVE, IMMUTABLE, SHARED, Model, Rule, ShortText
from auterity.api.vector_index import VectorIndex

OWNER: Final = "auterity-owner"
"""Key of the collection's metadata that carries the owner's mark."""
VECTOR: Final = "auterity-vector"
"""Key of the collection's metadata that tells which of its vectors is the declared one."""
UNQUANTIZED: Final = "none"
Count = Annotated[int, Field(ge=1, le=4096)]
Amount = Annotated[int, Field(ge=0, le=1_000_000_000)]
Share = Annotated[float, Field(ge=0.5, le=1)]
FieldName = Annotated[str, Field(min_length=1, max_length=200)]


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

    type: Annotated[ShortText, DESTRUCTIVE]
    """Type of the field: keyword, integer, float, geo, text, bool, datetime or uuid. A change
    removes the index and builds another: until that is done, filters by the field are slow, or
    refused in strict mode."""
    is_tenant: Annotated[bool | None, DESTRUCTIVE] = None
    """For keyword and uuid: the field tells tenants apart, so points of one are kept together. A
    change removes the index and builds another."""
    on_disk: Annotated[bool | None, DESTRUCTIVE] = None
    """Whether the index is kept on disk instead of in memory. A change removes the index and builds
    another."""


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
