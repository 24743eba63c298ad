"""What users write for a vector index in PostgreSQL."""

from enum import StrEnum
from typing import Annotated, ClassVar, Self

from pydantic import Field, model_validator

from auterity.api.fields import CREATE_ONLY, IMMUTABLE, Model, Rule
from auterity.api.vector_index import VectorIndex

Identifier = Annotated[str, Field(min_length=1, max_length=63)]


class ColumnType(StrEnum):
    """How the numbers of a vector are stored."""

    VECTOR = "vector"
    HALFVEC = "halfvec"


class IdType(StrEnum):
    """Type of the primary key of a table that is made."""

    BIGINT = "bigint"
    UUID = "uuid"
    TEXT = "text"


class Method(StrEnum):
    """How vectors are indexed."""

    HNSW = "hnsw"
    IVFFLAT = "ivfflat"


class Hnsw(Model):
    """Parameters of an HNSW index."""

    m: Annotated[int, Field(ge=2, le=100)] | None = None
    """Connections of each vector per layer; pgvector takes 16 if left out."""
    ef_construction: Annotated[int, Field(ge=4, le=1000)] | None = None
    """Candidates looked at when a vector is inserted, at least twice m; pgvector takes 64 if left
    out."""


class Ivfflat(Model):
    """Parameters of an IVFFlat index."""

    lists: Annotated[int, Field(ge=1, le=32768)] | None = None
    """Lists that vectors are parted into; pgvector takes 100 if left out. It advises a thousandth
    of the rows, and the square root of them beyond a million."""


class PgvectorIndexParams(VectorIndex):
    """A column of vectors in a table of PostgreSQL, and an index on it.

    Without `table`, the table is made too, by the name of this object.
    """

    rules: ClassVar[tuple[Rule, ...]] = (
        Rule(
            "(!has(self.hnsw) || self.method == 'hnsw') && "
            "(!has(self.ivfflat) || self.method == 'ivfflat')",
            "hnsw needs method hnsw, and ivfflat needs method ivfflat",
            ".method",
        ),
    )

    schema_: Annotated[Identifier, Field(alias="schema"), IMMUTABLE] = "public"
    """Schema of the table; it must exist. Cannot change."""
    table: Annotated[Identifier | None, IMMUTABLE] = None
    """An existing table to index: only the index is then made, changed and deleted. If left out, a
    table with the columns id, the vector's and metadata (jsonb) is made; further columns may be
    added to it by others. Cannot change."""
    column: Annotated[Identifier, IMMUTABLE] = "embedding"
    """The column of the vectors. Cannot change."""
    column_type: Annotated[ColumnType, IMMUTABLE] = ColumnType.VECTOR
    """vector: 4 bytes a dimension, indexed up to 2000 dimensions. halfvec: 2 bytes, up to 4000.
    Cannot change."""
    id_type: Annotated[IdType, CREATE_ONLY] = IdType.BIGINT
    """Type of the column id of a table that is made; bigint and uuid are filled in where an insert
    leaves them out."""
    method: Method = Method.HNSW
    """hnsw: faster and more exact searches. ivfflat: faster builds and less memory, but the table
    must hold rows before the index is worth anything. A change builds a new index beside the old
    one, which serves until the new one takes its place."""
    hnsw: Hnsw | None = None
    """Parameters of method hnsw. A change builds a new index beside the old one."""
    ivfflat: Ivfflat | None = None
    """Parameters of method ivfflat. A change builds a new index beside the old one."""

    @model_validator(mode="after")
    def _fitting_parameters(self) -> Self:
        for method in Method:
            if getattr(self, method.value) is not None and self.method is not method:
                raise ValueError(f"{method.value} needs method {method.value}")
        return self

    @property
    def options(self) -> dict[str, int]:
        """The declared parameters of the index, by pgvector's names."""
        block = self.hnsw or self.ivfflat
        return block.model_dump(exclude_none=True) if block else {}
