"""What users declare of a vector search index at MongoDB Atlas."""

from typing import Annotated, Literal

from pydantic import Field

from auterity.api.fields import IMMUTABLE, Model, Rule
from auterity.api.vector_index import VectorIndex

FieldPath = Annotated[str, Field(min_length=1, max_length=512)]


class MongodbAtlasHnsw(Model):
    """How the graph is built; what is left out is Atlas' default."""

    max_edges: Annotated[int, Field(ge=1, le=1024)] | None = None
    """Edges of each node of the graph."""
    num_edge_candidates: Annotated[int, Field(ge=1, le=100_000)] | None = None
    """Neighbours that are considered while the graph is built."""


class MongodbAtlasIndexParams(VectorIndex):
    """A vector search index over a collection. While a change is built, the old index serves."""

    rules = (
        Rule(
            "!has(self.filters) || !(self.path in self.filters)",
            "the vector's path must not be among the filters",
            ".filters",
        ),
    )

    cluster: Annotated[
        Annotated[str, Field(min_length=1, max_length=64, pattern=r"^[a-zA-Z0-9][a-zA-Z0-9-]*$")],
        IMMUTABLE,
    ]
    """Name of the cluster in the connection's project. Cannot change."""
    database: Annotated[Annotated[str, Field(min_length=1, max_length=63)], IMMUTABLE]
    """The database. Cannot change."""
    collection: Annotated[Annotated[str, Field(min_length=1, max_length=255)], IMMUTABLE]
    """The collection that is indexed; it must exist. Cannot change."""
    path: Annotated[FieldPath, IMMUTABLE] = "embedding"
    """Where the vector stands in the documents, with dots for fields of fields. Cannot change."""
    filters: Annotated[set[FieldPath] | None, Field(max_length=100)] = None
    """Paths of fields that searches may filter by. Left out, they are left to others."""
    quantization: Literal["none", "scalar", "binary"] | None = None
    """How Atlas compresses the vectors for the search: to 8 bits a number, to one bit, or not at
    all."""
    hnsw: MongodbAtlasHnsw | None = None
    """How the graph is built."""
    partitions: Literal["1", "2", "4"] | None = None
    """Parts that the index is split into, for very large ones; 1 if left out. More than one takes
    search nodes."""
