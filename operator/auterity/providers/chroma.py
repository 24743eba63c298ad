"""VectorIndex at Chroma (https://docs.trychroma.com/reference/server-api)."""

import re
from collections.abc import Mapping
from http import HTTPStatus
from typing import Annotated, Any, ClassVar, Final
from urllib.parse import quote

from pydantic import Field

from auterity.api.connection import RateLimit
from auterity.api.fields import IMMUTABLE, SHARED, Model, Rule, SecretValue, Text, Url
from auterity.api.vector_index import Metric, VectorIndex
from auterity.engine.contract import Access, Identity, Observed
from auterity.engine.errors import Failure, Unavailable
from auterity.transport import http
from auterity.transport.rest import RestConnector, RestProvider, RestSession

JSON = dict[str, Any]
OWNER: Final = "auterity-owner"
"""Key of the collection's metadata that carries the owner's mark."""
DIMENSION: Final = "auterity-dimension"
"""Key of the collection's metadata that tells the declared dimension until there are records."""
NAME: Final = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9._-]{1,510}[a-zA-Z0-9]")
METRICS: Final = {
    Metric.COSINE: "cosine",
    Metric.EUCLIDEAN: "l2",
    Metric.DOT_PRODUCT: "ip",
}
METRICS_SEEN: Final = {told: metric for metric, told in METRICS.items()}

Count = Annotated[int, Field(ge=1, le=1_000_000)]


class ChromaConnection(RestConnector):
    """A database of a Chroma server, or of Chroma Cloud."""

    vendor = "chroma"
    rate_limit: ClassVar[RateLimit] = RateLimit(per_second=20, burst=40, concurrent=8)

    endpoint: Url = "https://api.trychroma.com"
    """Base URL of the server, without /api/v2; Chroma Cloud if left out."""
    tenant: Text = "default_tenant"
    """Tenant that the database belongs to. In Chroma Cloud it is the team's UUID."""
    database: Text = "default_database"
    """Database that holds the collections. It must exist."""
    api_key: SecretValue | None = None
    """Sent as x-chroma-token. It may be left out only for a server that asks for none: a server of
    your own asks for a key only if it stands behind a proxy that does."""

    def headers(self) -> Mapping[str, str]:
        return {} if self.api_key is None else {"x-chroma-token": self.api_key.reveal()}

    async def identify(self, session: RestSession) -> Identity:
        await session.call("GET", str(session.client.base_url).rstrip("/"))
        host = session.client.base_url.host
        return Identity(f"database {self.database} of tenant {self.tenant} at {host}")

    def failure(self, answer: http.Answer) -> Failure | None:
        if answer.status == HTTPStatus.NOT_FOUND and not isinstance(answer.body, dict):
            # Chroma's own 404 is JSON; another one must not be taken for "is gone".
            return Unavailable("404 came, and not in Chroma's own words; is the endpoint right?")
        return http.failure_of(answer)

    async def open(self, access: Access) -> RestSession:
        tenant, database = quote(self.tenant, safe=""), quote(self.database, safe="")
        place = f"{self.endpoint.rstrip('/')}/api/v2/tenants/{tenant}/databases/{database}"
        return await RestConnector.open(self.model_copy(update={"endpoint": place}), access)


class ChromaHnsw(Model):
    """A graph of the vectors on one node; what is left out is Chroma's default."""

    ef_construction: Annotated[Count | None, IMMUTABLE] = None
    """Neighbours that are considered while the graph is built. Cannot change."""
    max_neighbors: Count | None = None
    """Edges of each node of the graph."""
    ef_search: Count | None = None
    """Neighbours that are considered in a search."""
    sync_threshold: Count | None = None
    """Records after which the graph is written to disk."""
    resize_factor: Annotated[float, Field(ge=1, le=100)] | None = None
    """How much the graph grows when it is full."""


class ChromaSpann(Model):
    """Clusters of vectors in object storage, as Chroma Cloud keeps them."""

    search_nprobe: Count | None = None
    """Clusters that a search looks into."""
    ef_search: Count | None = None
    """Neighbours that are considered in a search for clusters."""
    write_nprobe: Annotated[Count | None, IMMUTABLE] = None
    """Clusters that a new vector may go to. Cannot change."""
    ef_construction: Annotated[Count | None, IMMUTABLE] = None
    """Neighbours that are considered while the graph of clusters is built. Cannot change."""
    max_neighbors: Annotated[Count | None, IMMUTABLE] = None
    """Edges of each node of the graph of clusters. Cannot change."""
    split_threshold: Annotated[Count | None, IMMUTABLE] = None
    """Vectors from which a cluster is split. Cannot change."""
    merge_threshold: Annotated[Count | None, IMMUTABLE] = None
    """Vectors below which a cluster is merged into others. Cannot change."""
    reassign_neighbor_count: Annotated[Count | None, IMMUTABLE] = None
    """Clusters around a split one whose vectors are looked at again. Cannot change."""


class ChromaIndexParams(VectorIndex):
    """A collection at Chroma."""

    at_most_one_of = ("hnsw", "spann")
    rules = (
        Rule(
            f"!has(self.metadata) || !('{OWNER}' in self.metadata || "
            f"'{DIMENSION}' in self.metadata)",
            "the metadata that begin with auterity- are the operator's own",
            ".metadata",
        ),
    )

    hnsw: ChromaHnsw | None = None
    """How the graph of a server with one node is built and searched."""
    spann: ChromaSpann | None = None
    """How the clusters of Chroma Cloud, or of a distributed Chroma, are built and searched."""
    metadata: Annotated[
        dict[
            Annotated[str, Field(min_length=1, max_length=36)],
            Annotated[str, Field(max_length=256)],
        ]
        | None,
        Field(max_length=30),
        SHARED,
    ] = None
    """Notes about the collection; others may add their own."""


class ChromaIndex(RestProvider[ChromaIndexParams]):
    """Collections of one Chroma database, by name."""

    kind = "VectorIndex"
    vendor = "chroma"
    params = ChromaIndexParams
    connection = ChromaConnection
    collection = "/collections"
    update_method = "PUT"
    lists = True
    docs = "https://docs.trychroma.com/reference/server-api"
    permissions = ("API key of the database (Chroma Cloud)",)
    proof = (
        "the real server, Chroma 1.5, behind a proxy that asks for a key; every request is held "
        "against its own description"
    )
    publishes = (
        ("collection", "Name of the collection."),
        ("collectionId", "The collection's UUID, which the data calls are made with."),
        ("tenant", "Tenant that the database belongs to."),
        ("database", "Database that holds the collection."),
        ("dimension", "Number of dimensions."),
        ("metric", "How similarity is measured."),
    )
    quirks = (
        "Names have 3 to 512 letters, digits, dots, underscores and hyphens.",
        "The first record that is written decides about the dimension; the declared one is a note.",
        "A server with one node keeps hnsw whatever is asked; Chroma Cloud keeps spann.",
        "A rename looks as if the collection had vanished: another one is made under the name.",
        "Databases and tenants are made by hand: Chroma cannot delete a tenant.",
        "A server of your own checks no credentials; put a proxy before it that does.",
    )

    @classmethod
    def objections(cls, want: ChromaIndexParams) -> Mapping[str, str]:
        if NAME.fullmatch(want.name):
            return {}
        return {
            "name": "Chroma takes 3 to 512 letters, digits, dots, underscores and hyphens, with a "
            "letter or digit at either end"
        }

    def encode(self, want: ChromaIndexParams, owner: str) -> JSON:
        kind = "hnsw" if want.spann is None else "spann"
        settings = {**_given(want.hnsw), **_given(want.spann)}
        return {
            "name": want.name,
            "configuration": {kind: {"space": METRICS[want.metric], **settings}},
            "metadata": {**(want.metadata or {}), **_marks(want, owner)},
        }

    async def update(
        self, id: str, want: ChromaIndexParams, changed: frozenset[str], owner: str
    ) -> None:
        held = await self.session.call("GET", self.path(id))
        notes = dict(held["metadata"] or {})
        for key in (path.partition(".")[2] for path in changed if path.startswith("metadata.")):
            notes.pop(key, None)
            if key in (want.metadata or {}):
                notes[key] = (want.metadata or {})[key]
        # Metadata are replaced as a whole.
        body: JSON = {"new_metadata": {**notes, **_marks(want, owner)}}
        fields = {path.partition(".")[0] for path in changed}
        configuration = {
            name: _given(settings, changed, f"{name}.")
            for name, settings in (("hnsw", want.hnsw), ("spann", want.spann))
            if name in fields
        }
        if configuration:
            body["new_configuration"] = configuration
        # Changed by its UUID, while it is read and deleted by its name.
        await self.session.call("PUT", self.path(held["id"]), json=body)

    def page(self, body: Any, params: JSON) -> tuple[list[JSON], JSON | None]:
        # Until nothing comes: a server may tell fewer at a time than it is asked for.
        seen = params.get("offset", 0) + len(body)
        return body, {"limit": self.page_size, "offset": seen} if body else None

    def decode(self, body: JSON) -> Observed[ChromaIndexParams]:
        notes = dict(body["metadata"] or {})
        owner, declared = notes.pop(OWNER, None), notes.pop(DIMENSION, None)
        configuration = body["configuration_json"]
        hnsw, spann = configuration.get("hnsw"), configuration.get("spann")
        space = (hnsw or spann or {}).get("space")
        known: JSON = {}
        if (dimension := body.get("dimension") or declared) is not None:
            known["dimension"] = dimension
        actual = ChromaIndexParams.seen(
            name=body["name"],
            metric=METRICS_SEEN.get(str(space), space),
            hnsw=None if hnsw is None else ChromaHnsw.model_construct(**hnsw),
            spann=None if spann is None else ChromaSpann.model_construct(**spann),
            metadata=notes,
            **known,
        )
        outputs = {
            "collection": body["name"],
            "collectionId": body["id"],
            "tenant": body["tenant"],
            "database": body["database"],
            "dimension": dimension,
            "metric": actual.metric,
        }
        return Observed(
            id=body["name"],
            actual=actual,
            owner=owner if isinstance(owner, str) else None,
            outputs={key: str(value) for key, value in outputs.items() if value is not None},
        )


def _marks(want: ChromaIndexParams, owner: str) -> JSON:
    return {OWNER: owner, DIMENSION: want.dimension}


def _given(model: Model | None, changed: frozenset[str] | None = None, below: str = "") -> JSON:
    """The declared settings; of an update only the changed ones, as others are refused."""
    settings = {} if model is None else model.model_dump(exclude_none=True)
    return {
        name: value
        for name, value in settings.items()
        if changed is None or f"{below}{name}" in changed
    }
