"""What users declare of a collection at Weaviate."""

from typing import Annotated, Literal

from pydantic import Field

from auterity.api.fields import IMMUTABLE, SHARED, Model, Rule, ShortText, Text
from auterity.api.vector_index import VectorIndex

Amount = Annotated[int, Field(ge=0, le=1_000_000_000)]
Replicas = Annotated[int, Field(ge=1, le=1000)]
PropertyName = Annotated[str, Field(min_length=1, max_length=231)]


class WeaviateHnsw(Model):
    """How the graph is built and searched; what is left out is Weaviate's default."""

    max_connections: Annotated[Annotated[int, Field(ge=4, le=2047)] | None, IMMUTABLE] = None
    """Edges of each node of the graph. Cannot change."""
    ef_construction: Annotated[Annotated[int, Field(ge=4, le=65536)] | None, IMMUTABLE] = None
    """Neighbours that are considered while the graph is built. Cannot change."""
    ef: Annotated[int, Field(ge=-1, le=65536)] | None = None
    """Neighbours that are considered in a search; -1 lets Weaviate choose by the three below."""
    dynamic_ef_min: Amount | None = None
    """Least ef that Weaviate chooses."""
    dynamic_ef_max: Amount | None = None
    """Greatest ef that Weaviate chooses."""
    dynamic_ef_factor: Amount | None = None
    """The ef that Weaviate chooses, as a multiple of the query's limit."""
    flat_search_cutoff: Amount | None = None
    """Objects below which a filtered search reads them all instead of the graph."""
    vector_cache_max_objects: Annotated[int, Field(ge=0, le=1_000_000_000_000)] | None = None
    """Vectors that are kept in memory."""
    filter_strategy: Literal["sweeping", "acorn"] | None = None
    """How a filtered search walks the graph."""


class WeaviateTenancy(Model):
    """Tenants, each with a shard of its own."""

    rules = (
        Rule(
            "self.enabled || !has(self.autoTenantCreation) && !has(self.autoTenantActivation)",
            "autoTenantCreation and autoTenantActivation need enabled",
        ),
    )

    enabled: Annotated[bool, IMMUTABLE]
    """Whether every object belongs to a tenant. Cannot change."""
    auto_tenant_creation: bool | None = None
    """Whether a tenant is made when the first object is written for it."""
    auto_tenant_activation: bool | None = None
    """Whether an inactive tenant is activated when it is asked for."""


class WeaviateInvertedIndex(Model):
    """How the properties are indexed for filters and keyword search."""

    bm25_k1: Annotated[float, Field(ge=0, le=100)] | None = None
    """Weight of a term's frequency in keyword search."""
    bm25_b: Annotated[float, Field(ge=0, le=1)] | None = None
    """Weight of a document's length in keyword search."""
    stopwords: Literal["en", "none"] | None = None
    """Words that keyword search ignores: those of English, or none."""
    index_timestamps: Annotated[bool | None, IMMUTABLE] = None
    """Whether objects can be filtered by the time of their creation and update. Cannot change."""
    index_null_state: Annotated[bool | None, IMMUTABLE] = None
    """Whether objects can be filtered by a property being absent. Cannot change."""
    index_property_length: Annotated[bool | None, IMMUTABLE] = None
    """Whether objects can be filtered by the length of a property. Cannot change."""


class WeaviateModule(Model):
    """A module of the server, which has to be enabled there."""

    module: ShortText
    """Name of the module."""
    settings: Annotated[
        dict[ShortText, Annotated[str, Field(max_length=1024)]] | None,
        Field(max_length=32),
        SHARED,
    ] = None
    """Its settings in the module's own words, such as model. What reads as a number, as true or
    false, or as a list in JSON is sent as such."""


class WeaviateProperty(Model):
    """A property of the objects."""

    data_type: Annotated[ShortText, IMMUTABLE]
    """Type: text, int, number, boolean, date, uuid and so on, or a collection to refer to; with []
    for a list. Cannot change."""
    description: Text | None = None
    """What it means."""
    tokenization: Annotated[ShortText | None, IMMUTABLE] = None
    """How text is split for filters and keyword search: word, lowercase, whitespace, field and so
    on. Cannot change."""
    index_filterable: Annotated[bool | None, IMMUTABLE] = None
    """Whether objects can be filtered by it. Cannot change."""
    index_searchable: Annotated[bool | None, IMMUTABLE] = None
    """Whether keyword search looks into it. Cannot change."""
    index_range_filters: Annotated[bool | None, IMMUTABLE] = None
    """Whether ranges of it are found fast. Cannot change."""


class WeaviateIndexParams(VectorIndex):
    """A collection at Weaviate; further vectors may be added to it by hand."""

    rules = (
        Rule(
            "self.indexType == 'hnsw' || !has(self.hnsw)",
            "hnsw belongs to the index type hnsw",
        ),
        Rule(
            "self.indexType != 'dynamic' || !has(self.quantization)",
            "a dynamic index chooses its quantization itself",
        ),
        Rule(
            "!has(self.shards) || !has(self.multiTenancy) || !self.multiTenancy.enabled",
            "with tenants every tenant has its own shard, so shards cannot be given",
        ),
    )

    description: Text | None = None
    """What the collection is for. The operator adds a line of its own."""
    vector_name: Annotated[Annotated[str, Field(max_length=230)], IMMUTABLE] = "default"
    """Name of the vector within every object. Empty: the single vector without a name that
    collections of older applications have. Cannot change."""
    index_type: Annotated[Literal["hnsw", "flat", "dynamic"], IMMUTABLE] = "hnsw"
    """hnsw: a graph. flat: no index, for small tenants. dynamic: flat that becomes a graph when it
    grows; the server must run with ASYNC_INDEXING. Cannot change."""
    hnsw: WeaviateHnsw | None = None
    """How the graph is built and searched."""
    quantization: Literal["none", "pq", "bq", "sq", "rq"] | None = None
    """A compressed copy of the vectors that is searched first: by product, binary, scalar or
    rotational quantization. Left out, it is the server's default. On a flat index Weaviate refuses
    to change it."""
    vectorizer: Annotated[WeaviateModule | None, IMMUTABLE] = None
    """The module that makes the vectors, such as text2vec-openai; left out, applications bring
    them. Cannot change."""
    generative: WeaviateModule | None = None
    """The module that answers from what was found, such as generative-openai."""
    reranker: WeaviateModule | None = None
    """The module that orders what was found anew, such as reranker-cohere."""
    properties: Annotated[
        dict[PropertyName, WeaviateProperty] | None, Field(max_length=100), SHARED
    ] = None
    """Properties of the objects, by name. Others may add their own, and Weaviate does by itself
    when an object has a new one. Weaviate cannot remove one: what is no longer declared stays."""
    inverted_index: WeaviateInvertedIndex | None = None
    """How the properties are indexed."""
    multi_tenancy: WeaviateTenancy | None = None
    """Tenants, each with a shard of its own."""
    shards: Annotated[Annotated[int, Field(ge=1, le=10000)] | None, IMMUTABLE] = None
    """Shards that the objects are spread over; one for each node if left out. Cannot change."""
    replication_factor: Replicas | None = None
    """Copies of every shard. It can rise only as far as there are replicas already."""
    deletion_strategy: (
        Literal["NoAutomatedResolution", "DeleteOnConflict", "TimeBasedResolution"] | None
    ) = None
    """What becomes of an object that one replica has deleted and another has not."""
