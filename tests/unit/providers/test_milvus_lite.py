"""Milvus on its real engine: what is made is searched, and where the engine and the fake differ."""

from typing import Any

import pytest

import tests.fakes.milvus_lite
from auterity.engine.errors import Rejected
from auterity.transport.milvus import _refusal
from tests.conformance.harness import NAME, Harness
from tests.conformance.vendor import merged
from tests.fakes.milvus import MilvusCluster
from tests.fakes.milvus import Refused as RefusedByFake
from tests.fakes.milvus_lite import JSON, MilvusLite, Refused, ask, server

STAND_IN = MilvusLite
pytestmark = pytest.mark.xdist_group(tests.fakes.milvus_lite.__name__)
TABLE = {"fieldName": "id", "dataType": "Int64", "isPrimary": True}
VECTOR = {"fieldName": "v", "dataType": "FloatVector", "elementTypeParams": {"dim": 4}}
TITLE = {"fieldName": "t", "dataType": "VarChar", "elementTypeParams": {"max_length": 8}}
INDEX = {"fieldName": "v", "indexName": "v", "metricType": "COSINE", "indexType": "HNSW"}
ROWS: dict[str, tuple[float, ...]] = {"slanted": (10, 1), "near": (1, 1), "far": (20, 20)}


@pytest.fixture(autouse=True)
def engine() -> None:
    if (reason := MilvusLite.missing()) is not None:
        pytest.skip(reason)


def vector(*numbers: float) -> list[float]:
    return [*numbers, *[0.0] * (MilvusLite.spec["dimension"] - len(numbers))]


def write(rows: dict[str, tuple[float, ...]]) -> None:
    entities = [
        {"id": id, "embedding": vector(*numbers), "tenant": "a", "title": id}
        for id, numbers in rows.items()
    ]
    ask("entities/insert", collectionName=NAME, data=entities)


def nearest(*numbers: float) -> str:
    asked: JSON = {"annsField": "embedding", "data": [vector(*numbers)], "limit": 1}
    (found,) = ask("entities/search", collectionName=NAME, **asked)
    return found["id"]


def searchable(**block: Any) -> JSON:
    """Without the array: the gate writes none."""
    fields = {"fields": {"pages": None}}
    return merged(MilvusLite.spec, {"milvus": merged(fields, block)})


@pytest.mark.parametrize(
    ("metric", "best"), [("cosine", "slanted"), ("euclidean", "near"), ("dotProduct", "far")]
)
@pytest.mark.parametrize(
    ("kind", "params"),
    [
        ("HNSW", {"M": 8, "efConstruction": 32}),
        ("IVF_FLAT", {"nlist": 1}),
        ("FLAT", None),
        ("AUTOINDEX", None),
    ],
)
async def test_what_is_made_is_searched_by_its_index_and_metric(
    harness: Harness, kind: str, params: JSON | None, metric: str, best: str
):
    harness.apply({**searchable(indexType=kind, indexParams=params), "metric": metric})
    await harness.converge()
    assert harness.ready["status"] == "True", harness.ready
    write(ROWS)
    assert nearest(1, 0) == best
    # The engine builds an index over what is on the disk, when that is loaded.
    ask("collections/flush", collectionName=NAME)
    ask("collections/release", collectionName=NAME)
    await harness.converge()
    (built,) = (server().folder / "data").glob(f"databases/*/collections/{NAME}/**/indexes/*")
    assert built.name.endswith(f".embedding.{kind.lower()}.idx")
    assert nearest(1, 0) == best


async def test_an_index_that_the_engine_does_not_know_fails_when_it_is_built(harness: Harness):
    harness.apply(searchable(indexType="HNSW_FAST", indexParams=None))
    await harness.converge()
    assert harness.ready["status"] == "True", harness.ready
    write(ROWS)
    ask("collections/flush", collectionName=NAME)
    ask("collections/release", collectionName=NAME)
    assert (await harness.converge()).outcome == "SpecRejected"
    assert "unknown index_type: 'HNSW_FAST'" in harness.ready["message"]


async def test_a_vector_of_another_dimension_is_refused(harness: Harness):
    harness.apply(searchable())
    await harness.converge()
    row = {"id": "a", "embedding": [1.0, 2.0], "tenant": "a", "title": "a"}
    with pytest.raises(Refused, match="expected dim 8, got 2"):
        ask("entities/insert", collectionName=NAME, data=[row])


async def test_what_is_released_is_not_searched_until_it_is_loaded_again(harness: Harness):
    harness.apply(searchable(loaded=False))
    await harness.converge()
    assert harness.ready["status"] == "True", harness.ready
    write(ROWS)
    with pytest.raises(Refused) as refused:
        nearest(1, 0)
    assert refused.value.code == 101
    harness.apply(searchable())
    await harness.converge()
    assert nearest(1, 0) == "slanted"


async def test_an_index_dropped_by_hand_is_made_again_and_loaded(harness: Harness):
    await harness.make()
    ask("collections/release", collectionName=NAME)
    ask("indexes/drop", collectionName=NAME, indexName="embedding")
    await harness.converge()
    assert harness.ready["status"] == "True", harness.ready
    (index,) = ask("indexes/describe", collectionName=NAME, indexName="embedding")
    assert (index["indexType"], index["metricType"]) == ("HNSW", "COSINE")
    assert ask("collections/describe", collectionName=NAME)["load"] == "LoadStateLoaded"


async def test_an_alias_is_not_taken_for_the_collection(harness: Harness):
    await harness.vendor.foreign(MilvusLite.spec, "docs_v2", None)
    ask("aliases/create", collectionName="docs_v2", aliasName=NAME)
    harness.apply()
    assert (await harness.converge()).outcome == "Conflict", harness.ready
    assert "already exists" in harness.ready["message"]
    assert ask("collections/list") == ["docs_v2"]
    # The engine would drop docs_v2 by its alias.
    ask("aliases/drop", aliasName=NAME)
    await harness.remove()
    assert ask("collections/list") == ["docs_v2"]


async def test_a_life_time_of_a_month_is_kept_as_it_is_declared(harness: Harness):
    # The description has a number there; Milvus takes a text as well, and garbles the number.
    assert isinstance(harness.vendor, MilvusLite)
    harness.vendor.server.description = None
    harness.apply(searchable(properties={"collection.ttl.seconds": "2592000"}))
    await harness.converge()
    assert harness.ready["status"] == "True", harness.ready
    told = ask("collections/describe", collectionName=NAME)["properties"]
    assert {"key": "collection.ttl.seconds", "value": "2592000"} in told


async def test_a_field_cannot_be_added_to_the_engine(harness: Harness):
    await harness.make()
    year = {"fields": {"year": {"type": "Int64", "nullable": True}}}
    harness.apply(merged(MilvusLite.spec, {"milvus": year}))
    assert (await harness.converge()).outcome == "SpecRejected"
    assert "AddCollectionField: Method not implemented" in harness.ready["message"]


def table(*fields: JSON, name: str = "docs") -> tuple[str, JSON]:
    schema = {"fields": list(fields or (TABLE, VECTOR, TITLE))}
    return "collections/create", {"collectionName": name, "schema": schema}


def on(path: str, **body: Any) -> tuple[str, JSON]:
    return path, {"collectionName": "docs", **body}


def index(**changes: Any) -> tuple[str, JSON]:
    return on("indexes/create", indexParams=[{**INDEX, **changes}])


DESCRIBE = on("collections/describe")
LOAD = on("collections/load")
LIFE = {"collection.ttl.seconds": 60}
NOT_THE_ENGINES = {"collectionID", "description", "shardsNum", "partitionsNum", "consistencyLevel"}


class Both:
    """The fake and the engine, which are asked the same."""

    def __init__(self) -> None:
        self.fake = MilvusCluster()

    def ask(self, call: tuple[str, JSON]) -> tuple[Any, Any]:
        """What each answers: the data, or the refusal."""
        path, body = call
        answers: list[Any] = []
        for asked, error in (
            (lambda: self.fake.operations[path]({"dbName": "search", **body}), RefusedByFake),
            (lambda: ask(path, **body), Refused),
        ):
            try:
                answers.append(asked())
            except error as refused:
                answers.append(refused)
        return answers[0], answers[1]


@pytest.fixture
def both(harness: Harness) -> Both:
    """The harness cleans up behind it."""
    return Both()


@pytest.mark.parametrize(
    "calls",
    [
        pytest.param([table(), index()], id="made"),
        pytest.param(
            [table(), on("collections/alter_properties", properties={**LIFE, "a.b": True})],
            id="properties",
        ),
        pytest.param(
            [
                table(),
                on("collections/alter_properties", properties={**LIFE, "a.b": 2592000}),
                on("collections/drop_properties", propertyKeys=["collection.ttl.seconds"]),
            ],
            id="a property dropped",
        ),
        pytest.param([table(), index(), LOAD], id="loaded"),
        pytest.param([table(), index(), LOAD, on("collections/release")], id="released"),
        pytest.param(
            [
                table(
                    TABLE,
                    VECTOR,
                    {**TITLE, "isPartitionKey": True},
                    {"fieldName": "j", "dataType": "JSON", "nullable": True},
                    {
                        "fieldName": "a",
                        "dataType": "Array",
                        "elementDataType": "Int64",
                        "elementTypeParams": {"max_capacity": 4},
                    },
                ),
                index(metricType="IP"),
            ],
            id="fields",
        ),
    ],
)
def test_the_fake_tells_what_the_engine_tells(both: Both, calls: list[tuple[str, JSON]]):
    for call in calls:
        assert both.ask(call) == ({}, {})
    fake, engine = both.ask(DESCRIBE)
    # Milvus loads nothing by itself, its Lite everything.
    ignored = NOT_THE_ENGINES | (set() if LOAD in calls else {"load"})
    assert {key: of for key, of in fake.items() if key not in ignored} == {
        key: of for key, of in engine.items() if key not in ignored
    }
    fake, engine = both.ask(on("indexes/describe", indexName="v"))
    if index() in calls:
        assert fake == engine


@pytest.mark.parametrize(
    ("call", "before"),
    [
        pytest.param(DESCRIBE, (), id="no collection"),
        pytest.param(on("indexes/describe", indexName="v"), (table(),), id="no index"),
        pytest.param(index(fieldName="w"), (table(),), id="an index over no field"),
        pytest.param(index(metricType="COSIN"), (table(),), id="no metric"),
        pytest.param(table(TABLE, VECTOR, VECTOR), (), id="a field twice"),
        pytest.param(table(TITLE, VECTOR), (), id="no key"),
        pytest.param(table(TABLE, {**TABLE, "fieldName": "b"}, VECTOR), (), id="two keys"),
        pytest.param(table({**TABLE, "dataType": "Bool"}, VECTOR), (), id="a key of truths"),
        pytest.param(table({**TABLE, "nullable": True}, VECTOR), (), id="a key of nothing"),
        pytest.param(table(TABLE, TITLE), (), id="no vector"),
        pytest.param(
            table(TABLE, {**VECTOR, "elementTypeParams": {}}, TITLE), (), id="no dimension"
        ),
        pytest.param(
            table(TABLE, VECTOR, {"fieldName": "p", "dataType": "Bool", "isPartitionKey": True}),
            (),
            id="spread by truths",
        ),
        pytest.param(
            table(
                TABLE,
                VECTOR,
                {**TITLE, "isPartitionKey": True},
                {**TITLE, "fieldName": "u", "isPartitionKey": True},
            ),
            (),
            id="spread twice",
        ),
        # The description of the API has it so, but Milvus spells it JSON.
        pytest.param(
            table(TABLE, VECTOR, {"fieldName": "j", "dataType": "Json"}), (), id="no type"
        ),
        pytest.param(
            table(TABLE, VECTOR, {"fieldName": "a", "dataType": "Array"}), (), id="an array of what"
        ),
        pytest.param(table(TABLE, VECTOR), (table(),), id="another collection is there"),
    ],
)
def test_the_fake_refuses_what_the_engine_refuses(
    both: Both, before: tuple[tuple[str, JSON], ...], call: tuple[str, JSON]
):
    for earlier in before:
        assert both.ask(earlier) == ({}, {})
    fake, engine = both.ask(call)
    assert isinstance(fake, RefusedByFake), fake
    assert isinstance(engine, Refused), engine
    assert type(_refusal(fake.code, fake.message)) is type(_refusal(engine.code, engine.message))


@pytest.mark.parametrize(
    ("call", "before", "fake", "engine"),
    [
        pytest.param(table(name="1 bad"), (), 1100, None, id="a bad name"),
        pytest.param(
            table(TABLE, {**VECTOR, "elementTypeParams": {"dim": 1}}), (), 65535, None, id="a line"
        ),
        pytest.param(
            table(TABLE, VECTOR, {**TITLE, "elementTypeParams": {}}), (), 1100, None, id="no length"
        ),
        pytest.param(index(indexType="HNSW_FAST"), (table(),), 1100, None, id="no such index"),
        pytest.param(index(params={"N": 1}), (table(),), 1100, None, id="no such parameter"),
        pytest.param(
            on("collections/alter_properties", properties={"collection.ttl.seconds": -5}),
            (table(),),
            1100,
            None,
            id="a life time below nothing",
        ),
        pytest.param(LOAD, (table(),), 700, None, id="loaded without an index"),
        pytest.param(LOAD, (table(), index(), LOAD), 104, None, id="loaded twice"),
        pytest.param(table(), (table(),), None, 65535, id="an equal collection is there"),
        pytest.param(index(), (table(), index()), None, 65535, id="an equal index is there"),
        pytest.param(
            table(TABLE, {**VECTOR, "dataType": "Float16Vector"}), (), None, 1100, id="half floats"
        ),
        pytest.param(
            on("collections/fields/add", schema={**TITLE, "fieldName": "u", "nullable": True}),
            (table(),),
            None,
            10,
            id="a field more",
        ),
        pytest.param(
            on("collections/describe", dbName="nowhere"), (), 800, 1100, id="no such database"
        ),
    ],
)
def test_where_the_engine_is_not_milvus_the_fake_follows_milvus(
    both: Both,
    before: tuple[tuple[str, JSON], ...],
    call: tuple[str, JSON],
    fake: int | None,
    engine: int | None,
):
    """When a newer engine behaves as Milvus does, this tells, and the case moves up."""
    for earlier in before:
        both.ask(earlier)
    codes = tuple(getattr(answer, "code", None) for answer in both.ask(call))
    assert codes == (fake, engine)


def test_what_the_engine_has_not_is_refused_and_never_retried():
    assert type(_refusal(10, "AddCollectionField: Method not implemented!")) is Rejected
