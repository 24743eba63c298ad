"""VectorIndex at Weaviate (https://docs.weaviate.io/weaviate/api/rest#tag/schema)."""

import json
import re
from collections.abc import Mapping
from http import HTTPStatus
from typing import Annotated, Any, ClassVar, Final, Literal

from pydantic import Field

from auterity.api.connection import RateLimit
from auterity.api.fields import IMMUTABLE, SHARED, Model, Rule, SecretValue, ShortText, Text, Url
from auterity.api.vector_index import Metric, VectorIndex
from auterity.engine.contract import Access, Identity, Observed
from auterity.engine.errors import Conflict, Failure, Rejected, Unavailable
from auterity.transport import http
from auterity.transport.rest import RestConnector, RestProvider, RestSession

JSON = dict[str, Any]
MARK: Final = "auterity: "
"""Begins the last line of the description of what is ours; the owner and what Weaviate itself does
not keep follow, as in `auterity: cluster/team/docs vector=default dimension=512`."""
NAME: Final = re.compile(r"[A-Za-z][_0-9A-Za-z]{0,254}")
METRICS: Final = {
    Metric.COSINE: "cosine",
    Metric.EUCLIDEAN: "l2-squared",
    Metric.DOT_PRODUCT: "dot",
}
METRICS_SEEN: Final = {told: metric for metric, told in METRICS.items()}
QUANTIZERS: Final = ("pq", "bq", "sq", "rq")
UNQUANTIZED: Final = "none"
GENERATIVE: Final = "generative-"
RERANKER: Final = "reranker-"

Amount = Annotated[int, Field(ge=0, le=1_000_000_000)]
Replicas = Annotated[int, Field(ge=1, le=1000)]
PropertyName = Annotated[str, Field(min_length=1, max_length=231)]


class WeaviateConnection(RestConnector):
    """A Weaviate server or cluster: self-hosted, or a cluster of Weaviate Cloud."""

    vendor = "weaviate"
    rate_limit: ClassVar[RateLimit] = RateLimit(per_second=20, burst=40, concurrent=8)

    endpoint: Url
    """Base URL of Weaviate's REST interface, such as https://id.region.gcp.weaviate.cloud."""
    api_key: SecretValue | None = None
    """API key of an administrator, or of a user whose roles may manage collections. It may be left
    out only for a server that asks for none."""

    def headers(self) -> Mapping[str, str]:
        return {} if self.api_key is None else {"Authorization": f"Bearer {self.api_key.reveal()}"}

    async def identify(self, session: RestSession) -> Identity:
        host = session.client.base_url.host
        if self.api_key is None:
            await session.call("GET", "/v1/schema")
            return Identity(f"whoever asks at {host}")
        user = await session.call("GET", "/v1/users/own-info")
        try:
            return Identity(f"{user['username']} at {host}")
        except (KeyError, TypeError) as error:
            raise Unavailable("the answer is not that of Weaviate's API") from error

    def failure(self, answer: http.Answer) -> Failure | None:
        answer = plain(answer)
        if answer.status == HTTPStatus.NOT_FOUND and answer.body:
            # Weaviate's own 404 has no body; that of a gateway must not be taken for "is gone".
            return Unavailable("404 came, and not as Weaviate sends it; is the endpoint right?")
        failure = http.failure_of(answer)
        if isinstance(failure, Rejected) and "already exists" in failure.message:
            # A 422, not a 409.
            return Conflict(failure.message)
        return failure

    async def open(self, access: Access) -> "WeaviateSession":
        rest = await super().open(access)
        return WeaviateSession(access.door, rest.client, self)


class WeaviateSession(RestSession):
    """Calls to one Weaviate."""

    async def call(self, method: str, path: str, **request: Any) -> Any:
        return await super().call(method, path, concerns_all=_held, **request)


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


class WeaviateIndex(RestProvider[WeaviateIndexParams]):
    """Collections of one Weaviate, by name."""

    kind = "VectorIndex"
    vendor = "weaviate"
    params = WeaviateIndexParams
    connection = WeaviateConnection
    collection = "/v1/schema"
    update_method = "PUT"
    lists = True
    docs = "https://docs.weaviate.io/weaviate/api/rest#tag/schema"
    permissions = (
        "API key of an administrator, or a role with the permissions manage_collections",
    )
    proof = "the real server, Weaviate 1.35, built from its Go module"
    publishes = (
        ("collection", "Name of the collection, as Weaviate spells it."),
        ("endpoint", "Base URL of the REST interface."),
        ("vectorName", "Name of the vector within every object, unless it has none."),
        ("dimension", "Number of dimensions, as declared."),
        ("metric", "How similarity is measured."),
    )
    quirks = (
        "Names are letters, digits and underscores, the first a capital: set externalName.",
        "The operator's mark is the last line of the collection's description.",
        "The first vector written decides about the dimension; the declared one is in the mark.",
        "Settings of dynamic and flat indexes other than their type are Weaviate's defaults.",
    )

    @classmethod
    def objections(cls, want: WeaviateIndexParams) -> Mapping[str, str]:
        if NAME.fullmatch(want.name):
            return {}
        return {
            "name": "Weaviate takes a letter and up to 254 letters, digits and underscores; say "
            "another name by spec.externalName"
        }

    async def locate(self, want: WeaviateIndexParams) -> str | None:
        # As Weaviate spells it.
        return want.name[:1].upper() + want.name[1:]

    async def update(
        self, id: str, want: WeaviateIndexParams, changed: frozenset[str], owner: str
    ) -> None:
        below = [path.partition(".")[2] for path in changed if path.startswith("properties.")]
        touched = {name.partition(".")[0] for name in below}
        # What is no longer declared stays: Weaviate cannot remove a property.
        touched &= set(want.properties or {})
        held = await self.session.call("GET", self.path(id))
        present = {of["name"]: of for of in held.get("properties") or []}
        for name in touched & present.keys():
            present[name]["description"] = (want.properties or {})[name].description or ""
        # Weaviate takes only a whole collection; what the operator does not know of stays.
        await self.session.call("PUT", self.path(id), json=_changed(held, want, owner))
        for name in sorted(touched - present.keys()):
            body = _property(name, (want.properties or {})[name])
            await self.session.call("POST", f"{self.path(id)}/properties", json=body)

    def encode(self, want: WeaviateIndexParams, owner: str) -> JSON:
        index: JSON = {
            "vectorIndexType": want.index_type,
            "vectorIndexConfig": _settings(want),
        }
        maker = want.vectorizer or WeaviateModule(module="none")
        modules = _modules(want)
        if want.vector_name:
            vector = {"vectorizer": {maker.module: _typed(maker)}, **index}
            index = {"vectorConfig": {want.vector_name: vector}}
        else:
            index["vectorizer"] = maker.module
            if want.vectorizer is not None:
                modules[maker.module] = _typed(maker)
        tenancy = want.multi_tenancy
        body: JSON = {
            "class": want.name,
            "description": _described(want.description, want, owner),
            "moduleConfig": modules or None,
            "properties": [_property(name, of) for name, of in (want.properties or {}).items()],
            "invertedIndexConfig": _inverted(want.inverted_index, {}) or None,
            "multiTenancyConfig": None if tenancy is None else _given(tenancy),
            "shardingConfig": None if want.shards is None else {"desiredCount": want.shards},
            "replicationConfig": _replication(want) or None,
            **index,
        }
        return {name: value for name, value in body.items() if value is not None}

    def page(self, body: Any, params: JSON) -> tuple[list[JSON], JSON | None]:
        return body["classes"] or [], None

    def decode(self, body: JSON) -> Observed[WeaviateIndexParams]:
        text, owner, facts = _mark(body.get("description") or "")
        replication = body.get("replicationConfig") or {}
        modules = body.get("moduleConfig") or {}
        sharding = body.get("shardingConfig") or {}
        vector = _vector(body, facts.get("vector"))
        if facts.get("dimension", "").isdigit():
            vector["dimension"] = int(facts["dimension"])
        actual = WeaviateIndexParams.seen(
            name=body["class"],
            description=text or None,
            generative=_module_seen(modules, GENERATIVE),
            reranker=_module_seen(modules, RERANKER),
            properties={of["name"]: _property_seen(of) for of in body.get("properties") or []},
            inverted_index=_inverted_seen(body.get("invertedIndexConfig") or {}),
            multi_tenancy=_tenancy_seen(body.get("multiTenancyConfig") or {}),
            shards=sharding.get("desiredCount") or None,
            replication_factor=replication.get("factor", 1),
            deletion_strategy=replication.get("deletionStrategy"),
            **vector,
        )
        outputs = {
            "collection": body["class"],
            "endpoint": str(self.session.client.base_url).rstrip("/"),
            "vectorName": vector.get("vector_name"),
            "dimension": vector.get("dimension"),
            "metric": vector.get("metric"),
        }
        return Observed(
            id=body["class"],
            actual=actual,
            owner=owner,
            outputs={key: str(value) for key, value in outputs.items() if value},
        )


def plain(answer: http.Answer) -> http.Answer:
    """The answer with Weaviate's words alone: its errors are a list of messages."""
    body = answer.body
    errors = body.get("error") if isinstance(body, dict) else None
    if not isinstance(errors, list):
        return answer
    words = [str(of.get("message") if isinstance(of, dict) else of) for of in errors]
    return http.Answer(answer.status, answer.headers, "; ".join(words))


def _held(answer: http.Answer) -> Failure | None:
    """The failure, if it concerns the whole connection."""
    if answer.status == HTTPStatus.TOO_MANY_REQUESTS and http.retry_after(answer) is None:
        # A limit on collections, shards or tenants is reached: others can still be changed.
        return None
    return http.held(plain(answer))


def _described(text: str | None, want: WeaviateIndexParams, owner: str) -> str:
    mark = f"{MARK}{owner} vector={want.vector_name} dimension={want.dimension}"
    return f"{text}\n{mark}" if text else mark


def _mark(description: str) -> tuple[str, str | None, dict[str, str]]:
    """The description without our line, the owner in it, and what else it says."""
    text, _, last = description.rpartition("\n")
    if not last.startswith(MARK):
        return description, None, {}
    owner, *facts = last.removeprefix(MARK).split(" ")
    return text, owner, {name: value for name, _, value in (f.partition("=") for f in facts)}


def _tenancy_seen(told: JSON) -> WeaviateTenancy:
    seen: JSON = {"enabled": bool(told.get("enabled"))}
    if seen["enabled"]:
        seen["auto_tenant_creation"] = bool(told.get("autoTenantCreation"))
        seen["auto_tenant_activation"] = bool(told.get("autoTenantActivation"))
    return WeaviateTenancy.model_construct(**seen)


def _given(model: Model | None) -> JSON:
    return {} if model is None else model.model_dump(mode="json", by_alias=True, exclude_none=True)


def _settings(want: WeaviateIndexParams) -> JSON:
    """The configuration of the vector's index."""
    settings: JSON = {"distance": METRICS[want.metric], **_given(want.hnsw)}
    if want.quantization == UNQUANTIZED:
        settings["skipDefaultQuantization"] = True
    elif want.quantization is not None:
        settings[want.quantization] = {"enabled": True}
    return settings


def _changed(held: JSON, want: WeaviateIndexParams, owner: str) -> JSON:
    """The collection as it is held, with what is declared."""
    vectors = {**(held.get("vectorConfig") or {}), "": held}
    if want.vector_name not in vectors:
        raise Rejected(f"the collection has no vector {want.vector_name}")
    index = vectors[want.vector_name]["vectorIndexConfig"]
    index.update(_given(want.hnsw))
    for name in QUANTIZERS:
        if want.quantization is not None and name in index:
            index[name]["enabled"] = name == want.quantization
    kinds = {GENERATIVE: want.generative, RERANKER: want.reranker}
    replaced = tuple(prefix for prefix, module in kinds.items() if module is not None)
    modules = held.get("moduleConfig") or {}
    kept = {name: of for name, of in modules.items() if not name.startswith(replaced)}
    text = _mark(held.get("description") or "")[0] if want.description is None else want.description
    body: JSON = {
        **held,
        "description": _described(text, want, owner),
        "moduleConfig": {**kept, **_modules(want)} or None,
        "invertedIndexConfig": _inverted(
            want.inverted_index, held.get("invertedIndexConfig") or {}
        ),
        "multiTenancyConfig": {
            **(held.get("multiTenancyConfig") or {}),
            **_given(want.multi_tenancy),
        },
        "replicationConfig": {**(held.get("replicationConfig") or {}), **_replication(want)},
    }
    return {name: value for name, value in body.items() if value is not None}


def _replication(want: WeaviateIndexParams) -> JSON:
    told = {"factor": want.replication_factor, "deletionStrategy": want.deletion_strategy}
    return {name: value for name, value in told.items() if value is not None}


def _inverted(want: WeaviateInvertedIndex | None, held: JSON) -> JSON:
    given = _given(want)
    bm25 = {"k1": given.pop("bm25K1", None), "b": given.pop("bm25B", None)}
    preset = given.pop("stopwords", None)
    bm25 = {name: value for name, value in bm25.items() if value is not None}
    if bm25:
        given["bm25"] = {**(held.get("bm25") or {}), **bm25}
    if preset is not None:
        given["stopwords"] = {**(held.get("stopwords") or {}), "preset": preset}
    return {**held, **given}


def _inverted_seen(told: JSON) -> WeaviateInvertedIndex:
    bm25 = told.get("bm25") or {}
    seen: JSON = {
        "bm25_k1": bm25.get("k1"),
        "bm25_b": bm25.get("b"),
        "stopwords": (told.get("stopwords") or {}).get("preset"),
        "index_timestamps": bool(told.get("indexTimestamps")),
        "index_null_state": bool(told.get("indexNullState")),
        "index_property_length": bool(told.get("indexPropertyLength")),
    }
    return WeaviateInvertedIndex.model_construct(**seen)


def _modules(want: WeaviateIndexParams) -> JSON:
    chosen = [module for module in (want.generative, want.reranker) if module is not None]
    return {module.module: _typed(module) for module in chosen}


def _typed(module: WeaviateModule) -> JSON:
    """The settings, with numbers, booleans and lists as such."""
    typed: JSON = {}
    for name, text in (module.settings or {}).items():
        try:
            value = json.loads(text)
        except ValueError:
            value = text
        typed[name] = value if isinstance(value, bool | int | float | list) else text
    return typed


def _module_seen(modules: JSON, prefix: str) -> WeaviateModule | None:
    found = next(((name, of) for name, of in modules.items() if name.startswith(prefix)), None)
    return None if found is None else _seen(*found)


def _seen(module: str, settings: JSON | None) -> WeaviateModule:
    texts = {
        name: value if isinstance(value, str) else json.dumps(value)
        for name, value in (settings or {}).items()
    }
    return WeaviateModule.model_construct(module=module, settings=texts)


def _property(name: str, of: WeaviateProperty) -> JSON:
    return {"name": name, **_given(of), "dataType": [of.data_type]}


def _property_seen(told: JSON) -> WeaviateProperty:
    seen: JSON = {
        # A reference may lead to several collections.
        "data_type": ",".join(told["dataType"]),
        "description": told.get("description"),
        "tokenization": told.get("tokenization"),
        "index_filterable": told.get("indexFilterable"),
        "index_searchable": told.get("indexSearchable"),
        "index_range_filters": told.get("indexRangeFilters"),
    }
    return WeaviateProperty.model_construct(**seen)


def _vector(body: JSON, declared: str | None) -> JSON:
    """What is known of the declared vector; nothing if it cannot be told from the others."""
    named = body.get("vectorConfig") or {}
    if not named:
        name, vector, maker = "", body, str(body.get("vectorizer") or "none")
        settings = (body.get("moduleConfig") or {}).get(maker)
    elif declared in named or len(named) == 1:
        name = str(declared) if declared in named else next(iter(named))
        vector = named[name]
        ((maker, settings),) = (vector.get("vectorizer") or {"none": None}).items()
    else:
        return {} if declared is None else {"vector_name": None}
    index = vector.get("vectorIndexConfig") or {}
    metric = index.get("distance")
    quantized = [name for name in QUANTIZERS if (index.get(name) or {}).get("enabled")]
    type_ = vector["vectorIndexType"]
    return {
        "vector_name": name,
        "index_type": type_,
        "metric": METRICS_SEEN.get(str(metric), metric),
        "hnsw": _hnsw_seen(index) if type_ == "hnsw" else None,
        "quantization": None if type_ == "dynamic" else (*quantized, UNQUANTIZED)[0],
        "vectorizer": None if maker == "none" else _seen(maker, settings),
    }


def _hnsw_seen(index: JSON) -> WeaviateHnsw:
    fields = WeaviateHnsw.model_fields
    told = {name: index.get(info.alias or name) for name, info in fields.items()}
    return WeaviateHnsw.model_construct(**told)
