"""What users declare of an index at Redis."""

from enum import StrEnum
from typing import Annotated, Self

from pydantic import Field, model_validator

from auterity.api.fields import IMMUTABLE, SHARED, Model, Rule, ShortText
from auterity.api.vector_index import VectorIndex

Count = Annotated[int, Field(ge=1, le=65536)]
FieldName = Annotated[str, Field(min_length=1, max_length=128, pattern=r"^[^\s]+$")]
Path = Annotated[str, Field(min_length=1, max_length=512)]
Prefix = Annotated[str, Field(min_length=1, max_length=256)]


class Documents(StrEnum):
    """What the documents are kept in."""

    HASH = "hash"
    JSON = "json"


class Algorithm(StrEnum):
    """How vectors are searched."""

    HNSW = "hnsw"
    FLAT = "flat"


class DataType(StrEnum):
    """How the numbers of a vector are stored."""

    FLOAT32 = "float32"
    FLOAT64 = "float64"
    FLOAT16 = "float16"
    BFLOAT16 = "bfloat16"
    INT8 = "int8"
    UINT8 = "uint8"


class FieldType(StrEnum):
    """What a field holds."""

    TEXT = "text"
    TAG = "tag"
    NUMERIC = "numeric"
    GEO = "geo"
    GEOSHAPE = "geoshape"


class RedisHnsw(Model):
    """How the graph is built and searched; what is left out is Redis' default."""

    m: Annotated[Count | None, IMMUTABLE] = None
    """Edges of each node of the graph. Cannot change."""
    ef_construction: Annotated[Count | None, IMMUTABLE] = None
    """Neighbours that are considered while the graph is built. Cannot change."""
    ef_runtime: Annotated[Count | None, IMMUTABLE] = None
    """Neighbours that are considered in a search, unless the query says otherwise. Redis does not
    tell it, so no drift of it is seen. Cannot change."""


class RedisField(Model):
    """A further field of the documents, for filters and text search."""

    rules = (
        Rule(
            "self.type == 'tag' || !has(self.separator) && !has(self.caseSensitive)",
            "separator and caseSensitive belong to the type tag",
        ),
        Rule(
            "self.type == 'text' || !has(self.weight) && !has(self.noStem)",
            "weight and noStem belong to the type text",
        ),
    )

    type: Annotated[FieldType, IMMUTABLE]
    """text: words of a language. tag: exact values. numeric: numbers. geo: points. geoshape:
    polygons and points. Cannot change."""
    path: Annotated[Path | None, IMMUTABLE] = None
    """Where it stands in the document: the field of the hash, or the JSONPath. The field's own
    name if left out. Cannot change."""
    sortable: Annotated[bool | None, IMMUTABLE] = None
    """Whether results can be sorted by it fast; takes memory. Cannot change."""
    separator: Annotated[Annotated[str, Field(min_length=1, max_length=1)] | None, IMMUTABLE] = None
    """For tag: what stands between several values; a comma in hashes if left out. Cannot change."""
    case_sensitive: Annotated[bool | None, IMMUTABLE] = None
    """For tag: whether capitals matter. Cannot change."""
    weight: Annotated[Annotated[float, Field(ge=0.001, le=1000)] | None, IMMUTABLE] = None
    """For text: how much a hit counts; 1 if left out. Cannot change."""
    no_stem: Annotated[bool | None, IMMUTABLE] = None
    """For text: whether words are indexed as they are, without their stems. Cannot change."""


class RedisIndexParams(VectorIndex):
    """An index over hashes or JSON documents whose keys have a prefix.

    Redis can only add fields to an index; whatever else changes takes another index.
    """

    rules = (
        Rule(
            "!has(self.hnsw) || self.algorithm == 'hnsw'",
            "hnsw belongs to the algorithm hnsw",
            ".algorithm",
        ),
        Rule(
            "!has(self.fields) || !(self.vectorName in self.fields)",
            "the vector must not be among the further fields",
            ".fields",
        ),
    )

    documents: Annotated[Documents, IMMUTABLE] = Documents.HASH
    """What the documents are kept in: hash, or json. Cannot change."""
    prefixes: Annotated[
        Annotated[list[Prefix], Field(min_length=1, max_length=32)] | None, IMMUTABLE
    ] = None
    """Keys that begin with one of these are indexed; the index's name and a colon if left out.
    Cannot change."""
    filter: Annotated[Annotated[str, Field(max_length=1024)] | None, IMMUTABLE] = None
    """Further condition for a document to be indexed, such as `@stage=="published"`. Cannot
    change."""
    language: Annotated[ShortText | None, IMMUTABLE] = None
    """Language of the text fields, such as german; english if left out. Cannot change."""
    stopwords: Annotated[Annotated[set[ShortText], Field(max_length=256)] | None, IMMUTABLE] = None
    """Words that text search ignores; those of Redis if left out, none if empty. Cannot change."""
    vector_name: Annotated[FieldName, IMMUTABLE] = "embedding"
    """Name of the vector, as queries use it. Cannot change."""
    vector_path: Annotated[Path | None, IMMUTABLE] = None
    """Where the vector stands in the document: the field of the hash, or the JSONPath. Its name if
    left out. Cannot change."""
    algorithm: Annotated[Algorithm, IMMUTABLE] = Algorithm.HNSW
    """hnsw: a graph, for many vectors. flat: every vector is compared, for exact results. Cannot
    change."""
    data_type: Annotated[DataType, IMMUTABLE] = DataType.FLOAT32
    """How the numbers of a vector are stored. The smaller types need a newer Redis. Cannot
    change."""
    hnsw: RedisHnsw | None = None
    """How the graph is built and searched."""
    fields: Annotated[dict[FieldName, RedisField] | None, Field(max_length=200), SHARED] = None
    """Further fields, by the name that queries use. Others may add their own. Redis cannot remove
    one: what is no longer declared stays."""

    @model_validator(mode="after")
    def _fitting(self) -> Self:
        if self.hnsw is not None and self.algorithm is not Algorithm.HNSW:
            raise ValueError("hnsw belongs to the algorithm hnsw")
        return self
