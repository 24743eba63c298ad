"""Vector Search of Vertex AI: an index, and an endpoint that it is deployed to."""

from collections.abc import Sequence
from hashlib import sha256
from typing import Annotated, Any, Final, Literal

from pydantic import Field

from auterity.api.fields import CREATE_ONLY, DESTRUCTIVE, IMMUTABLE, SHARED, Rule, Text, TextMap
from auterity.api.vector_index import Metric, VectorIndex
from auterity.engine.contract import Observed, Phase, Provider
from auterity.engine.errors import Busy, Conflict, NotFound, Rejected
from auterity.transport.google import (
    JSON,
    LABELS_RULE,
    VERTEX,
    GoogleConnection,
    GoogleSession,
    kind_of,
    meaning,
    user_labels,
)
from auterity.transport.labels import OUR_LABELS, owner_labels, owner_of

NAME_LABEL: Final = f"{OUR_LABELS}index"
"""On an index and its endpoint: which object they were made for, since ids are Google's."""
TRIED_LABEL: Final = f"{OUR_LABELS}tried"
"""On an endpoint: what was deployed or changed last, and the operation before it, so that what has
failed is not tried again unchanged."""
METRICS: Final = {
    Metric.COSINE: "COSINE_DISTANCE",
    Metric.EUCLIDEAN: "SQUARED_L2_DISTANCE",
    Metric.DOT_PRODUCT: "DOT_PRODUCT_DISTANCE",
}
UPDATES: Final = {"Stream": "STREAM_UPDATE", "Batch": "BATCH_UPDATE"}
SHARDS: Final = {
    "Small": "SHARD_SIZE_SMALL",
    "Medium": "SHARD_SIZE_MEDIUM",
    "Large": "SHARD_SIZE_LARGE",
}
NEIGHBORS: Final = 150
REPLICAS: Final = ("min_replicas", "max_replicas")
CONSOLE: Final = "https://console.cloud.google.com/vertex-ai/matching-engine/indexes"

Count = Annotated[int, Field(ge=1, le=1000)]


class VertexIndexParams(VectorIndex):
    """An index of Vertex AI Vector Search, deployed to an endpoint of its own."""

    at_most_one_of = ("network", "private_service_connect_projects")
    rules = (
        Rule(
            "!has(self.maxReplicas) || !has(self.minReplicas) || "
            "self.minReplicas <= self.maxReplicas",
            "minReplicas is more than maxReplicas",
        ),
        LABELS_RULE,
    )

    update_method: Annotated[Literal["Stream", "Batch"], IMMUTABLE] = "Stream"
    """Stream: vectors are added by calls. Batch: from files in Cloud Storage. Cannot change."""
    algorithm: Annotated[Literal["TreeAH", "BruteForce"], IMMUTABLE] = "TreeAH"
    """TreeAH: approximate and fast. BruteForce: exact and slow. Cannot change."""
    approximate_neighbors: Annotated[Count | None, IMMUTABLE] = None
    """Neighbours that TreeAH finds before they are put in exact order; 150 if left out. Cannot
    change."""
    leaf_size: Annotated[Annotated[int, Field(ge=1, le=100_000)] | None, IMMUTABLE] = None
    """Vectors in each leaf of TreeAH; Google decides if left out. Cannot change."""
    shard_size: Annotated[Literal["Small", "Medium", "Large"] | None, IMMUTABLE] = None
    """Size of the shards, which decides on the machines that can hold one. Cannot change."""
    normalize: Annotated[bool | None, IMMUTABLE] = None
    """Scale all vectors to length 1. Cannot change."""
    contents: Annotated[
        Annotated[str, Field(min_length=6, max_length=1024, pattern=r"^gs://[^\s]+$")] | None,
        CREATE_ONLY,
    ] = None
    """Folder in Cloud Storage whose vectors a new index is filled with; empty if left out."""
    deployed: bool = True
    """Whether the index answers queries. An index that does not costs nothing but its storage."""
    machine_type: Annotated[
        Annotated[str, Field(min_length=1, max_length=63)] | None, DESTRUCTIVE
    ] = None
    """Machine of each replica and shard, such as e2-standard-16; Google chooses if left out. A
    change undeploys the index first: it answers no queries for half an hour."""
    min_replicas: Count | None = None
    """Fewest replicas."""
    max_replicas: Count | None = None
    """Most replicas, started as needed."""
    access_logging: bool = False
    """Log every query to Cloud Logging."""
    network: Annotated[Text | None, IMMUTABLE] = None
    """VPC network that the endpoint is reached from, by its project number, such as
    projects/12345/global/networks/default; public if left out. Cannot change."""
    private_service_connect_projects: Annotated[
        Annotated[list[Annotated[str, Field(max_length=63)]], Field(min_length=1, max_length=50)]
        | None,
        IMMUTABLE,
    ] = None
    """Projects that reach the endpoint by Private Service Connect, instead. Cannot change."""
    labels: Annotated[TextMap | None, SHARED] = None
    """Labels of the index."""


class VertexIndex(Provider[VertexIndexParams, GoogleSession]):
    """Indexes of one project and location; a label tells which object one was made for.

    Made first and deleted last is the index; its endpoint and deployment are brought by updates.
    """

    kind = "VectorIndex"
    vendor = "vertexVectorSearch"
    params = VertexIndexParams
    connection = GoogleConnection
    docs = "https://cloud.google.com/vertex-ai/docs/reference/rest/v1/projects.locations.indexes"
    permissions = ("roles/aiplatform.user on the project",)
    proof = (
        "stateful fake; the requests of Google's own SDK are held against the discovery document "
        "of aiplatform v1"
    )
    publishes = (
        ("index", "Resource name of the index."),
        ("indexEndpoint", "Resource name of the endpoint that it is deployed to."),
        ("deployedIndexId", "What the deployed index is called in queries."),
        ("host", "Where queries are sent, if the endpoint is public."),
        ("dimension", "Number of dimensions."),
    )
    quirks = (
        "Making an index takes minutes, filling it up to hours, deploying it 10 to 45 minutes.",
        "A deployed index is billed by the hour for each replica and shard, also without queries.",
        "A deployment or change of it that fails is tried again once the spec says something else.",
        (
            "status.summary tells the records and files that Google could not read when it last "
            "filled the index, and why an update of its contents by others has failed."
        ),
        (
            "With deployed: false, an endpoint that is there already stays, without cost, and so "
            "keeps its host name."
        ),
        (
            "machineType has to fit shardSize: e2-standard-2 and up for Small, e2-standard-16 and "
            "up for Medium, e2-highmem-16 and up for Large."
        ),
        "An index that others have deployed to endpoints of theirs cannot be deleted.",
    )
    poll_after = 15.0

    async def locate(self, want: VertexIndexParams) -> str | None:
        listed = await self.session.pages(
            VERTEX,
            "IndexService",
            "ListIndexes",
            "indexes",
            parent=self.session.parent,
            pageSize=100,
        )
        found = [_id(one) for one in listed if _made_for(one, want.name)]
        if len(found) > 1:
            raise Conflict(f"several indexes could be meant: {', '.join(sorted(found))}")
        return found[0] if found else None

    async def read(self, id: str) -> Observed[VertexIndexParams] | None:
        name = self._name(id)
        # Before the index: what has ended by then shows there.
        operations = await self.session.operations(VERTEX, name)
        index = await self._index(id)
        running = {kind_of(one) for one in operations if not one.get("done")}
        if index is None:
            if "CreateIndex" in running:
                raise Busy(f"index {id} is being created")
            return None
        endpoint, tasks = await self._endpoint(index)
        busy = {kind_of(one) for one in tasks if not one.get("done")}
        deployed = _deployed(index, endpoint)
        phase, message = Phase.READY, None
        if "Delete" in running:
            phase, message = Phase.DELETING, f"index {id} is being deleted"
        elif running | busy:
            phase = Phase.PENDING
            message = f"Vertex AI is at work: {', '.join(sorted(running | busy))}"
        elif (failed := _last(operations, "CreateIndex").get("error")) is not None:
            # An update that has failed leaves the index serving what it had.
            phase, message = Phase.FAILED, f"Vertex AI could not make it: {meaning(failed)}"
        outputs = {
            "index": index["name"],
            "indexEndpoint": endpoint and endpoint["name"],
            "deployedIndexId": deployed and deployed["id"],
            "host": endpoint and endpoint.get("publicEndpointDomainName"),
            "dimension": str(int(_config(index).get("dimensions", 0))),
        }
        location, project = self.session.location, self.session.project
        return Observed(
            id=id,
            actual=_actual(index, endpoint, deployed),
            phase=phase,
            owner=owner_of(index.get("labels", {})),
            outputs={key: value for key, value in outputs.items() if value},
            url=f"{CONSOLE}/{location}/{id}?project={project}",
            message=message,
            summary=_filled(operations),
        )

    async def create(self, want: VertexIndexParams, owner: str) -> str:
        metadata: JSON = {"config": _config_of(want)}
        if want.contents:
            metadata["contentsDeltaUri"] = want.contents
        started = await self._call(
            "IndexService",
            "CreateIndex",
            parent=self.session.parent,
            index={
                "displayName": want.name[:128],
                "labels": {**(want.labels or {}), **_marks(want, owner)},
                "indexUpdateMethod": UPDATES[want.update_method],
                "metadata": metadata,
            },
        )
        if (error := started.get("error")) is not None:
            raise Rejected(f"the index could not be made: {meaning(error)}")
        return str(started["name"].split("/indexes/")[1].partition("/")[0])

    async def update(
        self, id: str, want: VertexIndexParams, changed: frozenset[str], owner: str
    ) -> None:
        index = await self._index(id)
        if index is None:
            return
        before = index.get("labels", {})
        gone = {path.removeprefix("labels.") for path in changed} - set(want.labels or {})
        labels = before | (want.labels or {}) | _marks(want, owner)
        labels = {key: value for key, value in labels.items() if key not in gone}
        if labels != before:
            await self._call(
                "IndexService",
                "UpdateIndex",
                index={"name": self._name(id), "labels": labels},
                updateMask="labels",
            )
        parts = {path.split(".")[0] for path in changed}
        if parts & {"deployed", "machine_type", "access_logging", *REPLICAS}:
            await self._bring(index | {"labels": labels}, want, owner)

    async def delete(self, id: str) -> None:
        index = await self._index(id)
        if index is None:
            return
        endpoint, tasks = await self._endpoint(index)
        if any(not one.get("done") for one in tasks):
            return
        if endpoint is not None:
            if endpoint.get("deployedIndexes"):
                await self._undeploy(endpoint, endpoint["deployedIndexes"][0]["id"])
            else:
                name = endpoint["name"]
                await self._call("IndexEndpointService", "DeleteIndexEndpoint", name=name)
            return
        operations = await self.session.operations(VERTEX, self._name(id))
        if all(one.get("done") for one in operations):
            # Last, because the index is what shows that something is left.
            try:
                await self._call("IndexService", "DeleteIndex", name=self._name(id))
            except NotFound:
                return

    async def _bring(self, index: JSON, want: VertexIndexParams, owner: str) -> None:
        """One step towards the deployment that is wanted."""
        endpoint, tasks = await self._endpoint(index)
        if endpoint is None:
            if want.deployed and not tasks:
                await self._make_endpoint(want, owner)
            return
        deployed = _deployed(index, endpoint)
        if deployed is None:
            if want.deployed:
                await self._deploy(index, endpoint, tasks, want)
            return
        live = deployed.get("dedicatedResources", {})
        machine = live.get("machineSpec", {}).get("machineType")
        if not want.deployed or (want.machine_type and want.machine_type != machine):
            await self._undeploy(endpoint, deployed["id"])
            return
        kind = "dedicatedResources" if live else "automaticResources"
        wanted = {
            "id": deployed["id"],
            "index": index["name"],
            kind: deployed.get(kind, {}) | _replicas(want),
            "enableAccessLogging": want.access_logging,
        }
        await self._note_attempt(endpoint, tasks, "MutateDeployedIndex", wanted)
        # The client library does not know updateMask yet.
        await self.session.write(
            VERTEX,
            "MutateDeployedIndex",
            f"{endpoint['name']}:mutateDeployedIndex",
            wanted,
            updateMask=f"{kind},enableAccessLogging",
        )

    async def _make_endpoint(self, want: VertexIndexParams, owner: str) -> None:
        made: JSON = {"displayName": want.name[:128], "labels": _marks(want, owner)}
        if want.network:
            made["network"] = want.network
        elif want.private_service_connect_projects:
            made["privateServiceConnectConfig"] = {
                "enablePrivateServiceConnect": True,
                "projectAllowlist": want.private_service_connect_projects,
            }
        else:
            made["publicEndpointEnabled"] = True
        await self._call(
            "IndexEndpointService",
            "CreateIndexEndpoint",
            parent=self.session.parent,
            indexEndpoint=made,
        )

    async def _deploy(
        self, index: JSON, endpoint: JSON, tasks: Sequence[JSON], want: VertexIndexParams
    ) -> None:
        wanted: JSON = {
            "id": _deployed_id(index),
            "index": index["name"],
            "displayName": want.name[:128],
            "enableAccessLogging": want.access_logging,
        }
        if want.machine_type:
            machine = {"machineType": want.machine_type}
            wanted["dedicatedResources"] = {
                "machineSpec": machine,
                "minReplicaCount": 1,
                **_replicas(want),
            }
        else:
            wanted["automaticResources"] = _replicas(want)
        await self._note_attempt(endpoint, tasks, "DeployIndex", wanted)
        await self._call(
            "IndexEndpointService",
            "DeployIndex",
            indexEndpoint=endpoint["name"],
            deployedIndex=wanted,
        )

    async def _note_attempt(
        self, endpoint: JSON, tasks: Sequence[JSON], kind: str, wanted: JSON
    ) -> None:
        """Note on the endpoint what is about to be tried. Raises Rejected if it has failed."""
        told, labels = _digest(f"{kind}{sorted(wanted.items())}"), endpoint.get("labels", {})
        last = _last(tasks, kind)
        before = str(last.get("name", "none")).rpartition("/")[2]
        tried, _, earlier = labels.get(TRIED_LABEL, "").partition("-")
        if tried == told:
            if earlier != before and (error := last.get("error")) is not None:
                what = "deploy it" if kind == "DeployIndex" else "change its deployment"
                raise Rejected(
                    f"Vertex AI could not {what}: {meaning(error)}; change the spec to try again"
                )
            return
        noted = labels | {TRIED_LABEL: f"{told}-{before}"}
        await self._call(
            "IndexEndpointService",
            "UpdateIndexEndpoint",
            indexEndpoint={"name": endpoint["name"], "labels": noted},
            updateMask="labels",
        )

    async def _undeploy(self, endpoint: JSON, deployed: str) -> None:
        await self._call(
            "IndexEndpointService",
            "UndeployIndex",
            indexEndpoint=endpoint["name"],
            deployedIndexId=deployed,
        )

    async def _endpoint(self, index: JSON) -> tuple[JSON | None, list[JSON]]:
        """The endpoint that was made for an index, and the operations on it."""
        mark = index.get("labels", {}).get(NAME_LABEL)
        if mark is None:
            return None, []
        listed = await self._endpoints(mark)
        if not listed:
            return None, []
        # A lost answer may have made two: it is the one that serves, or the first.
        name = min(listed, key=lambda one: (not _deployed(index, one), one["name"]))["name"]
        tasks = await self.session.operations(VERTEX, name)
        # Anew: what has ended by now shows here.
        again = [one for one in await self._endpoints(mark) if one["name"] == name]
        return (again[0] if again else None), tasks

    async def _endpoints(self, mark: str) -> list[JSON]:
        listed = await self.session.pages(
            VERTEX,
            "IndexEndpointService",
            "ListIndexEndpoints",
            "indexEndpoints",
            parent=self.session.parent,
            filter=f'labels.{NAME_LABEL}="{mark}"',
            pageSize=100,
        )
        return [one for one in listed if one.get("labels", {}).get(NAME_LABEL) == mark]

    async def _index(self, id: str) -> JSON | None:
        try:
            return await self._call("IndexService", "GetIndex", name=self._name(id))
        except NotFound:
            return None

    async def _call(self, service: str, method: str, **request: Any) -> JSON:
        return await self.session.call(VERTEX, service, method, **request)

    def _name(self, id: str) -> str:
        return f"{self.session.parent}/indexes/{id}"


def _actual(index: JSON, endpoint: JSON | None, deployed: JSON | None) -> VertexIndexParams:
    config = _config(index)
    metrics: dict[Any, Any] = {v: k for k, v in METRICS.items()}
    distance = config.get("distanceMeasureType", METRICS[Metric.DOT_PRODUCT])
    shards: dict[Any, Any] = {v: k for k, v in SHARDS.items()}
    updates: dict[Any, Any] = {v: k for k, v in UPDATES.items()}
    method = index.get("indexUpdateMethod", UPDATES["Batch"])
    algorithm = config.get("algorithmConfig", {})
    tree = algorithm.get("treeAhConfig", {})
    fields: JSON = {
        "dimension": int(config.get("dimensions", 0)),
        "metric": metrics.get(distance, distance),
        "update_method": updates.get(method, method),
        "algorithm": "BruteForce" if "bruteForceConfig" in algorithm else "TreeAH",
        "shard_size": shards.get(config.get("shardSize"), config.get("shardSize")),
        "normalize": config.get("featureNormType") == "UNIT_L2_NORM",
        "labels": user_labels(index.get("labels", {})),
        "deployed": deployed is not None,
    }
    if "approximateNeighborsCount" in config:
        fields["approximate_neighbors"] = int(config["approximateNeighborsCount"])
    if "leafNodeEmbeddingCount" in tree:
        fields["leaf_size"] = int(tree["leafNodeEmbeddingCount"])
    if endpoint is not None:
        fields["network"] = endpoint.get("network")
        private = endpoint.get("privateServiceConnectConfig", {})
        fields["private_service_connect_projects"] = private.get("projectAllowlist")
    if deployed is not None:
        dedicated = deployed.get("dedicatedResources")
        resources = dedicated or deployed.get("automaticResources", {})
        fields |= {
            "machine_type": (dedicated or {}).get("machineSpec", {}).get("machineType"),
            "min_replicas": resources.get("minReplicaCount"),
            "max_replicas": resources.get("maxReplicaCount"),
            "access_logging": deployed.get("enableAccessLogging", False),
        }
    return VertexIndexParams.seen(**fields)


def _config_of(want: VertexIndexParams) -> JSON:
    config: JSON = {
        "dimensions": want.dimension,
        "distanceMeasureType": METRICS[want.metric],
        "algorithmConfig": {"bruteForceConfig": {}},
    }
    if want.algorithm == "TreeAH":
        tree = {"leafNodeEmbeddingCount": want.leaf_size} if want.leaf_size else {}
        config["algorithmConfig"] = {"treeAhConfig": tree}
        config["approximateNeighborsCount"] = want.approximate_neighbors or NEIGHBORS
    if want.shard_size:
        config["shardSize"] = SHARDS[want.shard_size]
    if want.normalize is not None:
        config["featureNormType"] = "UNIT_L2_NORM" if want.normalize else "NONE"
    return config


def _config(index: JSON) -> JSON:
    config: JSON = index.get("metadata", {}).get("config", {})
    return config


def _deployed(index: JSON, endpoint: JSON | None) -> JSON | None:
    """The index as it is deployed to its endpoint."""
    wanted = _deployed_id(index)
    there = (endpoint or {}).get("deployedIndexes", [])
    return next((one for one in there if one["id"] == wanted), None)


def _last(operations: Sequence[JSON], kind: str) -> JSON:
    """The newest operation of a kind; empty if there is none."""
    return next((one for one in operations if kind_of(one) == kind), {})


def _filled(operations: Sequence[JSON]) -> dict[str, str]:
    """What became of the contents that the index was last filled with."""
    summary: dict[str, str] = {}
    builds = [one for one in operations if kind_of(one) in ("CreateIndex", "UpdateIndex")]
    if builds and kind_of(builds[0]) == "UpdateIndex" and "error" in builds[0]:
        summary["failedUpdate"] = meaning(builds[0]["error"])
    for one in builds:
        metadata = one.get("metadata") or {}
        stats = metadata.get("nearestNeighborSearchOperationMetadata", {}).get(
            "contentValidationStats", []
        )
        unread = metadata.get("genericMetadata", {}).get("partialFailures", [])
        if not stats and not unread:
            continue
        counts = ("invalidRecordCount", "invalidSparseRecordCount")
        if invalid := sum(int(file.get(count, 0)) for file in stats for count in counts):
            summary["invalidRecords"] = str(invalid)
        # Not the record itself, nor what is said of it: that is the user's data.
        errors = [error for file in stats for error in file.get("partialErrors", ())]
        if errors:
            where = f" in {errors[0]['sourceGcsUri']}" if errors[0].get("sourceGcsUri") else ""
            summary["invalidRecord"] = f"{errors[0].get('errorType', 'an error')}{where}"
        if unread:
            summary["unreadFile"] = meaning(unread[0])
        break
    return summary


def _deployed_id(index: JSON) -> str:
    """Unique in the project: letters, digits and underscores."""
    return f"index_{index.get('labels', {}).get(NAME_LABEL, '')[:16]}_{_id(index)}"


def _replicas(want: VertexIndexParams) -> JSON:
    least, most = want.min_replicas, want.max_replicas
    counts = {"minReplicaCount": least, "maxReplicaCount": most}
    return {key: count for key, count in counts.items() if count is not None}


def _marks(want: VertexIndexParams, owner: str) -> dict[str, str]:
    return {**owner_labels(owner), NAME_LABEL: _digest(want.name)}


def _made_for(index: JSON, name: str) -> bool:
    """Whether an index is what an object of that name means."""
    labels = index.get("labels", {})
    if NAME_LABEL in labels:
        return bool(labels[NAME_LABEL] == _digest(name))
    return bool(index.get("displayName") == name)


def _digest(text: str) -> str:
    return sha256(text.encode()).hexdigest()[:32]


def _id(index: JSON) -> str:
    return str(index["name"].rpartition("/")[2])
