"""VectorIndex at MongoDB Atlas (https://www.mongodb.com/docs/atlas/api/)."""

from typing import Any, Final

from auterity.api.vector_index import Metric
from auterity.engine.contract import Observed, Phase, Provider
from auterity.engine.errors import Conflict, NotFound, Unavailable
from auterity.providers.mongodb_atlas.params import MongodbAtlasHnsw, MongodbAtlasIndexParams
from auterity.transport.mongodb_atlas import MongodbAtlasConnection, MongodbAtlasSession, path
from auterity.transport.rest import as_promised

JSON = dict[str, Any]
VECTOR: Final = "vectorSearch"
METRICS_SEEN: Final = {metric.value: metric for metric in Metric}
"""Atlas has the same words as we."""
GONE: Final = "DOES_NOT_EXIST"
READY: Final = ("READY", "STALE", "STEADY")
"""STALE: it serves, but does not follow its collection any more; the API once said STEADY."""


class MongodbAtlasIndex(Provider[MongodbAtlasIndexParams, MongodbAtlasSession]):
    """Vector search indexes of one project. The id is the cluster and Atlas' own id."""

    kind = "VectorIndex"
    vendor = "mongodbAtlas"
    params = MongodbAtlasIndexParams
    connection = MongodbAtlasConnection
    marks_owner = False
    poll_after = 20.0
    docs = "https://www.mongodb.com/docs/atlas/api/"
    permissions = (
        "Service account with the project roles Project Read Only and Project Search Index Editor",
    )
    proof = (
        "stateful fake; every request is held against the official description of 2026-08, media "
        "types included"
    )
    publishes = (
        ("index", "Name of the index."),
        ("cluster", "The cluster."),
        ("database", "The database."),
        ("collection", "The collection that is indexed."),
        ("path", "Where the vector stands in the documents."),
        ("dimension", "Number of dimensions."),
        ("metric", "How similarity is measured."),
    )
    quirks = (
        "A build takes minutes to hours; meanwhile the former definition serves.",
        "Deleting an index leaves the collection and its documents where they are.",
        "M0 clusters hold 3 search and vector indexes together, Flex clusters 10.",
        "Keys of the older sort (public and private key) are not supported.",
    )

    async def locate(self, want: MongodbAtlasIndexParams) -> str | None:
        place = path(want.database, want.collection, want.name)
        try:
            told = await self.session.call("GET", f"{_indexes(want.cluster)}{place}")
        except NotFound:
            return None
        seen = self._decoded(want.cluster, told)
        return None if seen is None else seen.id

    async def read(self, id: str) -> Observed[MongodbAtlasIndexParams] | None:
        try:
            told = await self.session.call("GET", _path(id))
        except NotFound:
            return None
        return self._decoded(_cluster(id), told)

    async def create(
        self, want: MongodbAtlasIndexParams, owner: str
    ) -> Observed[MongodbAtlasIndexParams] | str:
        body = {
            "database": want.database,
            "collectionName": want.collection,
            "name": want.name,
            # Atlas makes a text index if this is left out.
            "type": VECTOR,
            "definition": _definition(want, {}),
        }
        told = await self.session.call("POST", _indexes(want.cluster), json=body)
        seen = self._decoded(want.cluster, told)
        if seen is None:
            raise Unavailable("Atlas answers that what it has just made does not exist")
        return seen

    async def update(
        self, id: str, want: MongodbAtlasIndexParams, changed: frozenset[str], owner: str
    ) -> None:
        if not changed:
            return
        told = await self.session.call("GET", _path(id))
        if told.get("type") != VECTOR:
            raise Conflict(f"{want.name} is a search index of another type; choose another name")
        # Atlas takes only a whole definition; what is not declared stays as it is.
        body = {"definition": _definition(want, told.get("latestDefinition") or {})}
        await self.session.call("PATCH", _path(id), json=body)

    async def delete(self, id: str) -> None:
        try:
            await self.session.call("DELETE", _path(id))
        except NotFound:
            return

    def _decoded(self, cluster: str, told: Any) -> Observed[MongodbAtlasIndexParams] | None:
        with as_promised("Atlas'"):
            return None if told["status"] == GONE else self._observed(cluster, told)

    def _observed(self, cluster: str, told: JSON) -> Observed[MongodbAtlasIndexParams]:
        definition = told.get("latestDefinition") or {}
        vector = _vector(definition)
        seen: JSON = {
            "name": told["name"],
            "cluster": cluster,
            "database": told["database"],
            "collection": told["collectionName"],
            "partitions": str(definition.get("numPartitions") or 1),
            "filters": {of["path"] for of in _fields(definition) if of["type"] == "filter"},
        }
        if vector is not None:
            graph = vector.get("hnswOptions") or {}
            hnsw = {
                "max_edges": graph.get("maxEdges"),
                "num_edge_candidates": graph.get("numEdgeCandidates"),
            }
            metric = vector["similarity"]
            seen |= {
                "path": vector["path"],
                "dimension": vector["numDimensions"],
                "metric": METRICS_SEEN.get(metric, metric),
                "quantization": vector.get("quantization") or "none",
                "hnsw": MongodbAtlasHnsw.model_construct(**hnsw),
            }
        outputs = {
            "index": told["name"],
            **{name: seen.get(name) for name in ("cluster", "database", "collection")},
            **{name: seen.get(name) for name in ("path", "dimension", "metric")},
        }
        phase, message = _phase(told)
        connector = self.session.connector
        base = str(self.session.client.base_url).rstrip("/")
        return Observed(
            id=f"{cluster}/{told['indexID']}",
            actual=MongodbAtlasIndexParams.seen(**seen),
            phase=phase,
            outputs={name: str(value) for name, value in outputs.items() if value is not None},
            url=f"{base}/v2/{connector.project_id}#/clusters/atlasSearch/{cluster}",
            message=message,
        )


def _cluster(id: str) -> str:
    return id.partition("/")[0]


def _indexes(cluster: str) -> str:
    return f"{path('clusters', cluster)}/search/indexes"


def _path(id: str) -> str:
    cluster, _, index = id.partition("/")
    return f"{_indexes(cluster)}{path(index)}"


def _fields(definition: JSON) -> list[JSON]:
    return definition.get("fields") or []


def _vector(definition: JSON) -> JSON | None:
    """The declared vector; None if it cannot be told from the others."""
    vectors = [of for of in _fields(definition) if of["type"] == "vector"]
    return vectors[0] if len(vectors) == 1 else None


def _definition(want: MongodbAtlasIndexParams, held: JSON) -> JSON:
    """The definition that is held, with what is declared."""
    fields = _fields(held)
    before = next((of for of in fields if of["path"] == want.path), {})
    vector: JSON = {
        **before,
        "type": "vector",
        "path": want.path,
        "numDimensions": want.dimension,
        "similarity": want.metric.value,
    }
    if want.quantization is not None:
        vector["quantization"] = want.quantization
    if want.hnsw is not None:
        given = want.hnsw.model_dump(by_alias=True, exclude_none=True)
        vector["hnswOptions"] = {**(before.get("hnswOptions") or {}), **given}
    others = [of for of in fields if of["path"] != want.path]
    if want.filters is not None:
        others = [of for of in others if of["type"] != "filter"]
        others += [{"type": "filter", "path": of} for of in sorted(want.filters)]
    definition = {**held, "fields": [vector, *others]}
    if want.partitions is not None:
        definition["numPartitions"] = int(want.partitions)
    return definition


def _phase(told: JSON) -> tuple[Phase, str | None]:
    status = told["status"]
    hosts = told.get("statusDetail") or []
    if status == "DELETING":
        return Phase.DELETING, "Atlas deletes the index"
    latest = (told.get("latestDefinitionVersion") or {}).get("version")
    if status == "FAILED":
        return Phase.FAILED, f"Atlas cannot build the index: {_why(hosts)}"
    # A definition that cannot be built leaves the former one serving, and the status as it was.
    failed = [host for host in hosts if _failed(host.get("stagedIndex") or {}, latest)]
    if failed:
        why = _why(failed)
        return Phase.FAILED, f"Atlas cannot build the new definition, the former one serves: {why}"
    served = {
        ((host.get("mainIndex") or {}).get("definitionVersion") or {}).get("version")
        for host in hosts
    } - {None}
    if status not in READY or not told.get("queryable"):
        return Phase.PENDING, f"Atlas' status of the index is {status}"
    if latest is not None and served - {latest}:
        return Phase.PENDING, "Atlas builds the new definition; the former one serves"
    return Phase.READY, None


def _failed(staged: JSON, latest: int | None) -> bool:
    """Whether a host has failed to build the latest definition beside the one that serves."""
    version = (staged.get("definitionVersion") or {}).get("version", latest)
    return staged.get("status") == "FAILED" and version == latest


def _why(hosts: list[JSON]) -> str:
    parts = (host.get(part) or {} for host in hosts for part in ("stagedIndex", "mainIndex"))
    return next(
        (str(part["message"]) for part in parts if part.get("message")), "no reason is told"
    )
