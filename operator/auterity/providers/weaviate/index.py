"""VectorIndex at Weaviate (https://docs.weaviate.io/weaviate/api/rest#tag/schema)."""

import json
import re
from collections.abc import Mapping
from typing import Any, Final

from auterity.api.fields import Model
from auterity.api.vector_index import Metric
from auterity.engine.contract import Observed
from auterity.engine.errors import Conflict, Rejected
from auterity.providers.weaviate.params import (
    WeaviateHnsw,
    WeaviateIndexParams,
    WeaviateInvertedIndex,
    WeaviateModule,
    WeaviateProperty,
    WeaviateTenancy,
)
from auterity.transport.rest import RestProvider
from auterity.transport.weaviate import WeaviateConnection

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
        "Aliases are left to applications; a name that is an alias is refused.",
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

    async def read(self, id: str) -> Observed[WeaviateIndexParams] | None:
        observed = await super().read(id)
        if observed is None or observed.id == id:
            return observed
        # An alias, of a collection that may even have a copy of our mark: never taken for ours.
        return Observed(id, WeaviateIndexParams.seen(), message=_is_alias(id, observed.id))

    async def update(
        self, id: str, want: WeaviateIndexParams, changed: frozenset[str], owner: str
    ) -> None:
        below = [path.partition(".")[2] for path in changed if path.startswith("properties.")]
        touched = {name.partition(".")[0] for name in below}
        # What is no longer declared stays: Weaviate cannot remove a property.
        touched &= set(want.properties or {})
        held = await self.session.call("GET", self.path(id))
        if held["class"] != id:
            raise Conflict(_is_alias(id, held["class"]))
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


def _is_alias(id: str, collection: str) -> str:
    return f"{id} is an alias of the collection {collection}; choose another externalName"


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
