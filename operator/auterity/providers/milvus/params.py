"""What users declare of a collection at Milvus."""

from typing import Annotated, Literal

from pydantic import Field

from auterity.api.fields import IMMUTABLE, SHARED, Model, Rule, ShortText
from auterity.api.vector_index import VectorIndex

Name = Annotated[str, Field(min_length=1, max_length=255)]
Length = Annotated[int, Field(ge=1, le=65535)]


class MilvusField(Model):
    """A further field of the entities."""

    type: Annotated[ShortText, IMMUTABLE]
    """Type in Milvus' words: VarChar, Int64, Float, Bool, JSON, Array and so on. Cannot change."""
    max_length: Annotated[Length | None, IMMUTABLE] = None
    """For VarChar, and arrays of it: most bytes of a text. Cannot change."""
    element_type: Annotated[ShortText | None, IMMUTABLE] = None
    """For Array: type of its elements. Cannot change."""
    max_capacity: Annotated[Annotated[int, Field(ge=1, le=4096)] | None, IMMUTABLE] = None
    """For Array: most elements. Cannot change."""
    nullable: Annotated[bool | None, IMMUTABLE] = None
    """Whether an entity may do without it. Fields that are added later must be nullable. Cannot
    change."""
    partition_key: Annotated[bool | None, IMMUTABLE] = None
    """Whether entities are spread over partitions by it, as for tenants; one field at most. Cannot
    change."""


class MilvusIndexParams(VectorIndex):
    """A collection at Milvus with a dense vector, its index, and whether it is loaded."""

    rules = (
        Rule(
            "(self.idType == 'VarChar') == has(self.idMaxLength)",
            "idMaxLength belongs to VarChar, and VarChar needs it",
            ".idType",
        ),
        Rule(
            "!has(self.fields) || !(self.idName in self.fields) && !(self.vectorName in "
            "self.fields)",
            "the id and the vector must not be among the further fields",
            ".fields",
        ),
    )

    database: Annotated[Name, IMMUTABLE] = "default"
    """Database that holds the collection; it must exist. Cannot change."""
    id_name: Annotated[Name, IMMUTABLE] = "id"
    """Name of the primary key. Cannot change."""
    id_type: Annotated[Literal["Int64", "VarChar"], IMMUTABLE] = "Int64"
    """Type of the primary key. Cannot change."""
    id_max_length: Annotated[Length | None, IMMUTABLE] = None
    """For VarChar: most bytes of a key. Cannot change."""
    auto_id: Annotated[bool, IMMUTABLE] = False
    """Whether Milvus makes the keys. Cannot change."""
    vector_name: Annotated[Name, IMMUTABLE] = "vector"
    """Name of the vector. Cannot change."""
    vector_type: Annotated[ShortText, IMMUTABLE] = "FloatVector"
    """How the numbers of a vector are stored: FloatVector, Float16Vector, BFloat16Vector or
    Int8Vector. Cannot change."""
    fields: Annotated[dict[Name, MilvusField] | None, Field(max_length=60), SHARED] = None
    """Further fields, by name. Others may add their own. From Milvus 2.6 on, nullable ones can be
    added later. Milvus cannot remove one: what is no longer declared stays."""
    dynamic_fields: Annotated[bool | None, IMMUTABLE] = None
    """Whether entities may have fields that are not declared. Cannot change."""
    index_type: Annotated[ShortText, IMMUTABLE] = "AUTOINDEX"
    """How the vector is indexed, in Milvus' words: AUTOINDEX, HNSW, IVF_FLAT, DISKANN and so on.
    Zilliz Cloud knows AUTOINDEX only. Cannot change: the operator drops no index."""
    index_params: Annotated[
        dict[ShortText, Annotated[int, Field(ge=0, le=1_000_000_000)]] | None,
        Field(max_length=16),
        IMMUTABLE,
    ] = None
    """Parameters of the index in Milvus' words, such as M and efConstruction for HNSW, or nlist for
    IVF. Milvus does not tell them, so no drift of them is seen. Cannot change."""
    shards: Annotated[Annotated[int, Field(ge=1, le=64)] | None, IMMUTABLE] = None
    """Shards that writes are spread over; 1 if left out. Cannot change."""
    partitions: Annotated[Annotated[int, Field(ge=1, le=4096)] | None, IMMUTABLE] = None
    """Partitions that entities are spread over by the partition key. Cannot change."""
    consistency_level: Annotated[
        Literal["Strong", "Session", "Bounded", "Eventually"] | None, IMMUTABLE
    ] = None
    """What a search sees of writes just made; Bounded if left out. Cannot change."""
    properties: Annotated[
        dict[Annotated[str, Field(min_length=1, max_length=128)], ShortText] | None,
        Field(max_length=32),
        SHARED,
    ] = None
    """Properties of the collection in Milvus' words, such as collection.ttl.seconds. Others may set
    their own. What reads as a number, or as true or false, is sent as such; numbers of a million
    and more as text, for Milvus garbles them."""
    loaded: bool = True
    """Whether the collection is held in memory, as searches need it. false releases it."""
