"""VectorIndex: an index of vectors for similarity search."""

from enum import StrEnum
from typing import Annotated

from pydantic import Field

from auterity.api.fields import IMMUTABLE, Params


class Metric(StrEnum):
    """How the similarity of two vectors is measured."""

    COSINE = "cosine"
    EUCLIDEAN = "euclidean"
    DOT_PRODUCT = "dotProduct"


class VectorIndex(Params):
    """An index of vectors for similarity search. Its data is kept unless told otherwise."""

    dimension: Annotated[Annotated[int, Field(ge=1, le=65536)], IMMUTABLE]
    """Number of dimensions of every vector. Cannot change."""
    metric: Annotated[Metric, IMMUTABLE] = Metric.COSINE
    """How similarity is measured. Cannot change."""
