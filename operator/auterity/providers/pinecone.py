"""VectorIndex at Pinecone (https://docs.pinecone.io/reference/api/control-plane)."""

import re
from collections.abc import AsyncIterator, Mapping
from typing import Annotated, Any, Final, Literal

from pydantic import Field

from auterity.api.fields import IMMUTABLE, SHARED, Model, Rule, ShortText
from auterity.api.vector_index import Metric, VectorIndex
from auterity.engine.contract import Observed, Phase, Provider
from auterity.engine.errors import NotFound
from auterity.providers.billing import Bill
from auterity.transport.pinecone import PineconeConnector, PineconeSession

JSON = dict[str, Any]
OWNER: Final = "auterity-owner"
"""Key of the tag that carries the owner's mark."""
DENSE: Final = "_values"
SPARSE: Final = "_sparse_values"
"""The reserved field names under which the vectors API finds a record's own vectors."""
METRICS: Final = {metric.value.lower(): metric for metric in Metric}
BROKEN: Final = ("InitializationFailed", "Disabled")
NAME: Final = re.compile(r"[a-z0-9]([-a-z0-9]{0,43}[a-z0-9])?")
CONSOLE: Final = "https://app.pinecone.io/organizations/-/projects/-/indexes"

Count = Annotated[int, Field(ge=1, le=1000)]


class PineconePods(Model):
    """Pods that hold the index, on hardware of your choice."""

    environment: Annotated[ShortText, IMMUTABLE]
    """Environment of the pods, such as us-east1-gcp. Cannot change."""
    pod_type: ShortText
    """Family and size of the pods, such as p1.x1. Within the family the size can grow."""
    shards: Annotated[Count | None, IMMUTABLE] = None
    """Pods that the data is split across; 1 if left out. Cannot change."""
    replicas: Count | None = None
    """Copies of the index; 1 at creation if left out, and then left to others."""


class PineconeReads(Model):
    """What serves the reads of the index."""

    rules = (
        Rule(
            "self.mode == 'Dedicated' ? has(self.nodeType) && has(self.shards) && "
            "has(self.replicas) : !has(self.nodeType) && !has(self.shards) && !has(self.replicas)",
            "nodeType, shards and replicas belong to Dedicated, and only to it",
        ),
    )

    mode: Literal["OnDemand", "Dedicated"]
    """OnDemand: paid by the read. Dedicated: nodes for this index alone."""
    node_type: ShortText | None = None
    """Size of the dedicated nodes, such as b1 or t1."""
    shards: Count | None = None
    """Shards of the dedicated nodes; each holds 250 GB."""
    replicas: Annotated[int, Field(ge=0, le=1000)] | None = None
    """Copies of every shard; with 0 the index answers no reads, which pauses their cost."""


class PineconeEmbedding(Model):
    """A text field that Pinecone turns into vectors by itself."""

    field: Annotated[str, Field(min_length=1, max_length=64)]
    """Name of the text field in every document."""
    model: ShortText
    """Pinecone's embedding model, such as llama-text-embed-v2; it has to know the dimension."""


class PineconeIndexParams(VectorIndex):
    """An index at Pinecone: serverless (cloud and region), pods, or your own cloud (byoc)."""

    one_of = ("cloud", "pod", "byoc")
    rules = (
        Rule("has(self.cloud) == has(self.region)", "cloud and region belong together"),
        Rule(
            f"!has(self.tags) || !('{OWNER}' in self.tags)",
            f"the tag {OWNER} is the operator's own",
            ".tags",
        ),
    )

    cloud: Annotated[ShortText | None, IMMUTABLE] = None
    """Cloud of a serverless index: aws, gcp or azure. Cannot change."""
    region: Annotated[ShortText | None, IMMUTABLE] = None
    """Region of a serverless index, such as us-east-1. Cannot change."""
    pod: PineconePods | None = None
    """Pods instead of a serverless index."""
    byoc: Annotated[ShortText | None, IMMUTABLE] = None
    """Environment in your own cloud account, as Pinecone has named it. Cannot change."""
    read_capacity: PineconeReads | None = None
    """What serves the reads of a serverless or byoc index; on demand if left out at creation."""
    embed: Annotated[PineconeEmbedding | None, IMMUTABLE] = None
    """Let Pinecone make the vectors from a text field of the documents. Cannot change."""
    sparse: Annotated[bool | None, IMMUTABLE] = None
    """Whether records may carry sparse vectors besides dense ones (hybrid search). Cannot
    change."""
    deletion_protection: Literal["enabled", "disabled"] = "enabled"
    """Whether Pinecone refuses to delete the index. The operator disables it when it deletes the
    index itself."""
    tags: Annotated[
        dict[
            Annotated[str, Field(max_length=80, pattern=r"^[A-Za-z0-9_-]+$")],
            Annotated[str, Field(min_length=1, max_length=120)],
        ]
        | None,
        Field(max_length=19),
        SHARED,
    ] = None
    """Tags; others may add their own. Pinecone takes 20, one of them is the operator's."""
    cmek_id: Annotated[ShortText | None, IMMUTABLE] = None
    """Your own key that encrypts the index, by its id at Pinecone. Cannot change."""


class PineconeIndex(Provider[PineconeIndexParams, PineconeSession]):
    """Indexes of one Pinecone project, by name."""

    kind = "VectorIndex"
    vendor = "pinecone"
    params = PineconeIndexParams
    connection = PineconeConnector
    lists = True
    docs = "https://docs.pinecone.io/reference/api/control-plane"
    permissions = ("API key with the role ProjectEditor or ControlPlaneEditor",)
    proof = (
        "stateful fake; the requests of Pinecone's own SDK are held against the official "
        "descriptions 2026-01.alpha and 2026-04"
    )
    publishes = (
        ("name", "Name of the index."),
        ("host", "Where its data is read and written."),
        ("privateHost", "The same over a private endpoint, where there is one."),
        ("dimension", "Number of dimensions."),
        ("metric", "How similarity is measured."),
    )
    quirks = (
        "Names have at most 45 characters: lower-case letters, digits and hyphens.",
        "A deleted index keeps its name until Pinecone has removed all of its data.",
        "A project has a quota of indexes; one more is refused (SpecRejected) until there is room.",
        "An API key belongs to one project: another project needs another Connection.",
    )

    @classmethod
    def objections(cls, want: PineconeIndexParams) -> Mapping[str, str]:
        if NAME.fullmatch(want.name):
            return {}
        return {"name": "Pinecone takes 1 to 45 lower-case letters, digits and inner hyphens"}

    @classmethod
    def billed(cls, want: PineconeIndexParams) -> Bill:
        reads = want.read_capacity
        return () if want.cloud and (reads is None or reads.mode == "OnDemand") else None

    async def read(self, id: str) -> Observed[PineconeIndexParams] | None:
        try:
            return observed(await self.session.describe_index(id))
        except NotFound:
            return None

    async def read_all(self) -> AsyncIterator[Observed[PineconeIndexParams]]:
        for index in await self.session.list_indexes():
            yield observed(index)

    async def create(self, want: PineconeIndexParams, owner: str) -> Observed[PineconeIndexParams]:
        index = await self.session.create_index(
            name=want.name,
            schema={"fields": _fields(want)},
            deployment=_deployment(want),
            read_capacity=_reads(want.read_capacity),
            deletion_protection=want.deletion_protection,
            tags={**(want.tags or {}), OWNER: _tag(owner)},
            cmek_id=want.cmek_id,
        )
        return observed(index)

    async def update(
        self, id: str, want: PineconeIndexParams, changed: frozenset[str], owner: str
    ) -> None:
        # Tags that are not sent stay; an empty value removes one.
        tags = {key: (want.tags or {}).get(key, "") for key in _below("tags", changed)}
        pods = _below("pod", changed)
        reads = "read_capacity" in changed or _below("read_capacity", changed)
        protection = "deletion_protection" in changed
        await self.session.configure_index(
            id,
            tags={**tags, OWNER: _tag(owner)},
            deployment=want.pod.model_dump(include=pods) if want.pod and pods else None,
            read_capacity=_reads(want.read_capacity) if reads else None,
            deletion_protection=want.deletion_protection if protection else None,
        )

    async def delete(self, id: str) -> None:
        try:
            index = await self.session.describe_index(id)
            if index["status"]["state"] == "Terminating":
                return
            if index["deletion_protection"] == "enabled":
                await self.session.configure_index(id, deletion_protection="disabled")
            await self.session.delete_index(id)
        except NotFound:
            return


def observed(index: JSON) -> Observed[PineconeIndexParams]:
    """What an index's JSON tells."""
    tags = dict(index["tags"] or {})
    owner = tags.pop(OWNER, None)
    phase, message = _phase(index["status"], (index["read_capacity"] or {}).get("status") or {})
    place = dict(index["deployment"])
    type_ = place.pop("deployment_type")
    vectors = _vectors(index["schema"]["fields"])
    actual = PineconeIndexParams.seen(
        name=index["name"],
        cloud=place["cloud"] if type_ == "managed" else None,
        region=place["region"] if type_ == "managed" else None,
        pod=PineconePods.model_construct(**place) if type_ == "pod" else None,
        byoc=place["environment"] if type_ == "byoc" else None,
        read_capacity=_reads_seen(index["read_capacity"]),
        deletion_protection=index["deletion_protection"],
        tags=tags,
        cmek_id=index["cmek_id"],
        **vectors,
    )
    outputs = {
        "name": index["name"],
        "host": index["host"],
        "privateHost": index["private_host"],
        "dimension": vectors.get("dimension"),
        "metric": vectors.get("metric"),
    }
    return Observed(
        id=index["name"],
        actual=actual,
        phase=phase,
        owner=owner.replace(";", "/") if owner else None,
        outputs={name: str(value) for name, value in outputs.items() if value is not None},
        url=CONSOLE,
        message=message,
    )


def _phase(status: JSON, reads: JSON) -> tuple[Phase, str | None]:
    state = f"Pinecone's state of the index is {status['state']}"
    if status["state"] == "Terminating":
        return Phase.DELETING, state
    if status["state"] in BROKEN:
        return Phase.FAILED, f"{state}; its console may tell why"
    if reads.get("state") == "Error":
        why = reads.get("error_message") or "no reason is told"
        return Phase.FAILED, f"Its read capacity is in error: {why}"
    if status["state"] != "Ready" or not status["ready"]:
        return Phase.PENDING, state
    if reads.get("state", "Ready") != "Ready":
        return Phase.PENDING, f"Pinecone's state of its read capacity is {reads['state']}"
    return Phase.READY, None


def _fields(want: PineconeIndexParams) -> JSON:
    dense = {"dimension": want.dimension, "metric": want.metric.value.lower()}
    fields: JSON = {DENSE: {"type": "dense_vector", **dense}}
    if want.embed is not None:
        embed = {"model": want.embed.model, **dense}
        fields = {want.embed.field: {"type": "string", "embed": embed}}
    if want.sparse:
        fields[SPARSE] = {"type": "sparse_vector"}
    return fields


def _vectors(fields: JSON) -> JSON:
    """What the fields tell of the vectors; of an index made elsewhere it may be nothing."""
    found: JSON = {"embed": None}
    if any(field.get("type") == "sparse_vector" for field in fields.values()):
        # An index with the reserved names only is stored without its schema: whether it is told
        # that it takes sparse vectors is not documented, so its silence is not taken for a no.
        found["sparse"] = True
    for name, field in fields.items():
        # The embedding of an index made by create-for-model stands in the field itself.
        embed = field if field.get("type") == "semantic_text" else field.get("embed")
        if embed is not None:
            found["embed"] = PineconeEmbedding.model_construct(field=name, model=embed["model"])
        dense = embed or field
        if dense.get("dimension"):
            found["dimension"] = dense["dimension"]
        if dense.get("metric"):
            found["metric"] = METRICS.get(dense["metric"].lower(), dense["metric"])
    return found


def _deployment(want: PineconeIndexParams) -> JSON:
    if want.pod is not None:
        pods = want.pod.model_dump()
        return {"deployment_type": "pod", **{name: value or 1 for name, value in pods.items()}}
    if want.byoc is not None:
        return {"deployment_type": "byoc", "environment": want.byoc}
    return {"deployment_type": "managed", "cloud": want.cloud, "region": want.region}


def _reads(reads: PineconeReads | None) -> JSON | None:
    if reads is None:
        return None
    if reads.mode == "OnDemand":
        return {"mode": reads.mode}
    manual = {"shards": reads.shards, "replicas": reads.replicas}
    nodes = {"node_type": reads.node_type, "scaling": "Manual", "manual": manual}
    return {"mode": reads.mode, "dedicated": nodes}


def _reads_seen(reads: JSON | None) -> PineconeReads | None:
    if reads is None:
        return None
    nodes = reads.get("dedicated") or {}
    return PineconeReads.model_construct(
        mode=reads["mode"], node_type=nodes.get("node_type"), **(nodes.get("manual") or {})
    )


def _tag(owner: str) -> str:
    """The owner's mark as a tag: the API's descriptions up to 2026-04 allow no slash there."""
    return owner.replace("/", ";")


def _below(field: str, changed: frozenset[str]) -> set[str]:
    """The entries of a field that have changed."""
    return {path.removeprefix(f"{field}.") for path in changed if path.startswith(f"{field}.")}
