"""VectorIndex at Redis (https://redis.io/docs/latest/commands/ft.create)."""

from collections.abc import Iterator
from typing import Any, Final

from auterity.api.vector_index import Metric
from auterity.engine.contract import Observed, Phase, Provider
from auterity.engine.errors import Conflict, NotFound, Unavailable
from auterity.providers.redis.params import (
    Algorithm,
    DataType,
    Documents,
    RedisField,
    RedisHnsw,
    RedisIndexParams,
)
from auterity.transport.redis import RedisConnection, RedisSession

JSON = dict[str, Any]
Words = list[str | int]
MARK: Final = "auterity:"
"""Begins the name of a field that no document has: the index's only room for a mark. The owner
follows, and after a blank the name of the declared vector."""
NOWHERE: Final = {Documents.HASH: "__auterity", Documents.JSON: "$.__auterity"}
METRICS: Final = {
    Metric.COSINE: "COSINE",
    Metric.EUCLIDEAN: "L2",
    Metric.DOT_PRODUCT: "IP",
}
METRICS_SEEN: Final = {told: metric for metric, told in METRICS.items()}
PAIRS: Final = frozenset(
    (
        *("identifier", "attribute", "type", "weight", "separator", "algorithm", "data_type"),
        *("dim", "distance_metric", "m", "ef_construction"),
    )
)
"""What is followed by a value where Redis tells of a field; every other word is a flag."""


class RedisIndex(Provider[RedisIndexParams, RedisSession]):
    """Indexes of one Redis, by name. The mark is in the index itself, and goes when it goes."""

    kind = "VectorIndex"
    vendor = "redis"
    params = RedisIndexParams
    connection = RedisConnection
    docs = "https://redis.io/docs/latest/commands/ft.create"
    permissions = (
        "The commands FT._LIST, FT.INFO, FT.CREATE, FT.ALTER and FT.DROPINDEX",
        "Key patterns that cover the names of the indexes and their prefixes",
    )
    proof = "the real search and JSON modules 2.10 of Redis Stack, in a Valkey server"
    publishes = (
        ("index", "Name of the index."),
        ("host", "Name or address of the server."),
        ("port", "Its port."),
        ("prefix", "What the keys of its documents begin with; the first of several."),
        ("vectorName", "Name of the vector, as queries use it."),
        ("vectorPath", "Where the vector stands in a document."),
        ("dimension", "Number of dimensions."),
        ("metric", "How similarity is measured."),
    )
    quirks = (
        "Deleting an index leaves its documents where they are.",
        "Indexes live in database 0 only.",
        "The operator's mark is a field of the index that no document has.",
        "Redis can only add fields; all else is refused, and takes a new index under another name.",
        "A vector of a wrong length is stored by Redis, and silently left out of the index.",
        "FLUSHALL and FLUSHDB drop all indexes: they are made anew, over whatever is there.",
        "Aliases are left to applications.",
        "Valkey's own search module is another one, and not supported.",
    )

    async def read(self, id: str) -> Observed[RedisIndexParams] | None:
        info = await self._look(id)
        return None if info is None else self._observed(id, info)

    async def create(self, want: RedisIndexParams, owner: str) -> str:
        prefixes = want.prefixes or [f"{want.name}:"]
        words: Words = ["FT.CREATE", want.name, "ON", want.documents.value.upper()]
        words += ["PREFIX", len(prefixes), *prefixes]
        if want.filter is not None:
            words += ["FILTER", want.filter]
        if want.language is not None:
            words += ["LANGUAGE", want.language]
        if want.stopwords is not None:
            words += ["STOPWORDS", len(want.stopwords), *sorted(want.stopwords)]
        words += ["SCHEMA", *_mark(want, owner), *_vector(want)]
        for name, field in (want.fields or {}).items():
            words += _field(name, field, want.documents)
        await self.session.act(*words)
        return want.name

    async def update(
        self, id: str, want: RedisIndexParams, changed: frozenset[str], owner: str
    ) -> None:
        info = await self._look(id)
        if info is None:
            raise NotFound(f"the index {id} is gone")
        if info["index_name"] != id:
            raise Conflict(_is_alias(id, info))
        fields = {field["attribute"]: field for field in _fields(info)}
        words: Words = []
        for name, field in (want.fields or {}).items():
            if name not in fields:
                words += _field(name, field, want.documents)
        # The mark is in no document: to index them anew for it would be in vain.
        scan = [] if words else ["SKIPINITIALSCAN"]
        if _owner(fields)[0] is None:
            words += _mark(want, owner)
        if words:
            # All fields, or none if one is refused.
            await self.session.act("FT.ALTER", id, *scan, "SCHEMA", "ADD", *words)

    async def delete(self, id: str) -> None:
        info = await self._look(id)
        # Dropping an alias drops the index behind it.
        if info is None or info["index_name"] != id:
            return
        try:
            # Without DD: that would delete the documents.
            await self.session.act("FT.DROPINDEX", id)
        except NotFound:
            return

    async def _look(self, id: str) -> JSON | None:
        try:
            told = await self.session.look("FT.INFO", id)
        except NotFound:
            return None
        info = _pairs(told)
        if not {"index_name", "index_definition", "attributes"} <= info.keys():
            raise Unavailable("FT.INFO does not answer as the search module of Redis does")
        return info

    def _observed(self, id: str, info: JSON) -> Observed[RedisIndexParams]:
        if info["index_name"] != id:
            # Known to be something else: it carries no mark, and is never taken for ours.
            return Observed(id, RedisIndexParams.seen(), message=_is_alias(id, info))
        definition = _pairs(info["index_definition"])
        fields = {field["attribute"]: field for field in _fields(info)}
        owner, declared = _owner(fields)
        vector = _vector_seen(fields, declared)
        actual = RedisIndexParams.seen(
            name=id,
            documents=Documents(definition["key_type"].lower()),
            prefixes=list(definition.get("prefixes") or []),
            filter=definition.get("filter"),
            language=definition.get("default_language", "english"),
            stopwords=None if "stopwords_list" not in info else set(info["stopwords_list"]),
            fields={
                name: _field_seen(field)
                for name, field in fields.items()
                if field["type"] != "VECTOR" and not name.startswith(MARK)
            },
            **vector,
        )
        outputs = {
            "index": id,
            "host": self.session.connector.host,
            "port": self.session.connector.port,
            "prefix": next(iter(definition.get("prefixes") or []), None),
            "vectorName": vector.get("vector_name"),
            "vectorPath": vector.get("vector_path"),
            "dimension": vector.get("dimension"),
            "metric": vector.get("metric"),
        }
        phase, message = _phase(info)
        return Observed(
            id=id,
            actual=actual,
            phase=phase,
            owner=owner,
            outputs={name: str(value) for name, value in outputs.items() if value is not None},
            message=message,
        )


def _is_alias(id: str, info: JSON) -> str:
    return f"{id} is an alias of the index {info['index_name']}; choose another externalName"


def _pairs(told: Any) -> JSON:
    """A list of names and values, as RESP2 has it."""
    if isinstance(told, dict):
        return told
    return dict(zip(told[::2], told[1::2], strict=False)) if isinstance(told, list) else {}


def _fields(info: JSON) -> Iterator[JSON]:
    """The fields of an index: values by name, and flags as True."""
    for told in info["attributes"]:
        field: JSON = {}
        words = iter(told)
        for word in words:
            name = str(word).lower()
            field[name] = next(words, None) if name in PAIRS else True
        yield field


def _owner(fields: JSON) -> tuple[str | None, str | None]:
    """The owner, and which vector is the declared one."""
    mark = next((name for name in fields if name.startswith(MARK)), None)
    if mark is None:
        return None, None
    owner, _, vector = mark.removeprefix(MARK).partition(" ")
    return owner, vector or None


def _mark(want: RedisIndexParams, owner: str) -> Words:
    name = f"{MARK}{owner} {want.vector_name}"
    return [NOWHERE[want.documents], "AS", name, "TAG", "NOINDEX"]


def _place(name: str, path: str | None, documents: Documents) -> Words:
    default = f"$.{name}" if documents is Documents.JSON else name
    return [path or default, "AS", name]


def _vector(want: RedisIndexParams) -> Words:
    options: JSON = {
        "TYPE": want.data_type.value.upper(),
        "DIM": want.dimension,
        "DISTANCE_METRIC": METRICS[want.metric],
    }
    given = want.hnsw.model_dump(exclude_none=True) if want.hnsw else {}
    options |= {name.upper(): value for name, value in given.items()}
    words = [word for option in options.items() for word in option]
    place = _place(want.vector_name, want.vector_path, want.documents)
    return [*place, "VECTOR", want.algorithm.value.upper(), len(words), *words]


def _vector_seen(fields: JSON, declared: str | None) -> JSON:
    """What is known of the declared vector; nothing if it cannot be told from the others."""
    vectors = {name: field for name, field in fields.items() if field["type"] == "VECTOR"}
    if declared not in vectors:
        if declared is None and len(vectors) > 1:
            return {}
        if len(vectors) != 1:
            return {"vector_name": None, "dimension": None}
        declared = next(iter(vectors))
    field = vectors[declared]
    told = field["distance_metric"]
    algorithm = str(field["algorithm"]).lower()
    seen: JSON = {
        "vector_name": declared,
        "vector_path": field["identifier"],
        "algorithm": algorithm,
        "data_type": str(field["data_type"]).lower(),
        "dimension": int(field["dim"]),
        "metric": METRICS_SEEN.get(told, told),
        "hnsw": None,
    }
    if algorithm in set(Algorithm):
        seen["algorithm"] = Algorithm(algorithm)
    if seen["data_type"] in set(DataType):
        seen["data_type"] = DataType(seen["data_type"])
    if algorithm == Algorithm.HNSW and "m" in field:
        graph = {"m": int(field["m"]), "ef_construction": int(field["ef_construction"])}
        seen["hnsw"] = RedisHnsw.model_construct(set(graph), **graph)
    return seen


def _field(name: str, field: RedisField, documents: Documents) -> Words:
    words = [*_place(name, field.path, documents), field.type.value.upper()]
    if field.no_stem:
        words.append("NOSTEM")
    if field.weight is not None:
        words += ["WEIGHT", str(field.weight)]
    if field.separator is not None:
        words += ["SEPARATOR", field.separator]
    if field.case_sensitive:
        words.append("CASESENSITIVE")
    if field.sortable:
        words.append("SORTABLE")
    return words


def _field_seen(field: JSON) -> RedisField:
    seen: JSON = {
        "type": str(field["type"]).lower(),
        "path": field["identifier"],
        "sortable": "sortable" in field,
        "separator": field.get("separator") or None,
        "case_sensitive": "casesensitive" in field,
        "weight": float(field["weight"]) if "weight" in field else None,
        "no_stem": "nostem" in field,
    }
    return RedisField.model_construct(**seen)


def _phase(info: JSON) -> tuple[Phase, str | None]:
    if not int(float(info.get("indexing") or 0)):
        return Phase.READY, None
    # In quarters, so that the status is not written at every look.
    quarters = int(4 * float(info.get("percent_indexed") or 0))
    return Phase.PENDING, f"Redis indexes the documents that are there: {quarters * 25} %"
