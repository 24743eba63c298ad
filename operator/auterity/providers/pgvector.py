"""Vector indexes in PostgreSQL, by pgvector (https://github.com/pgvector/pgvector)."""

import re
from collections.abc import AsyncIterator, Iterable
from dataclasses import dataclass
from enum import StrEnum
from typing import Annotated, Any, ClassVar, Final, Self

from pydantic import Field, model_validator

from auterity.api.fields import CREATE_ONLY, IMMUTABLE, Model, Rule
from auterity.api.vector_index import Metric, VectorIndex
from auterity.engine.contract import Observed, Phase, Provider
from auterity.engine.errors import Busy, Conflict, Rejected
from auterity.transport.postgresql import (
    LOCKS,
    Exclusive,
    Name,
    PostgresqlConnector,
    PostgresqlSession,
    Row,
    Sql,
    lock_of,
)

MARK: Final = "auterity: "
"""Begins the last line of the comment on what is ours; the owner follows."""
LONGEST_NAME: Final = 63 - len("_index__new")
"""PostgreSQL silently cuts names after 63 bytes, and would then find another's."""

METRICS: Final = {
    Metric.COSINE: ("cosine_ops", "<=>"),
    Metric.EUCLIDEAN: ("l2_ops", "<->"),
    Metric.DOT_PRODUCT: ("ip_ops", "<#>"),
}
DEFAULTS: Final = {"m": "16", "ef_construction": "64", "lists": "100"}

Identifier = Annotated[str, Field(min_length=1, max_length=63)]


class ColumnType(StrEnum):
    """How the numbers of a vector are stored."""

    VECTOR = "vector"
    HALFVEC = "halfvec"


class IdType(StrEnum):
    """Type of the primary key of a table that is made."""

    BIGINT = "bigint"
    UUID = "uuid"
    TEXT = "text"


class Method(StrEnum):
    """How vectors are indexed."""

    HNSW = "hnsw"
    IVFFLAT = "ivfflat"


class Hnsw(Model):
    """Parameters of an HNSW index."""

    m: Annotated[int, Field(ge=2, le=100)] | None = None
    """Connections of each vector per layer; pgvector takes 16 if left out."""
    ef_construction: Annotated[int, Field(ge=4, le=1000)] | None = None
    """Candidates looked at when a vector is inserted, at least twice m; pgvector takes 64 if left
    out."""


class Ivfflat(Model):
    """Parameters of an IVFFlat index."""

    lists: Annotated[int, Field(ge=1, le=32768)] | None = None
    """Lists that vectors are parted into; pgvector takes 100 if left out. It advises a thousandth
    of the rows, and the square root of them beyond a million."""


class PgvectorIndexParams(VectorIndex):
    """A column of vectors in a table of PostgreSQL, and an index on it.

    Without `table`, the table is made too, by the name of this object.
    """

    rules: ClassVar[tuple[Rule, ...]] = (
        Rule(
            "(!has(self.hnsw) || self.method == 'hnsw') && "
            "(!has(self.ivfflat) || self.method == 'ivfflat')",
            "hnsw needs method hnsw, and ivfflat needs method ivfflat",
            ".method",
        ),
    )

    schema_: Annotated[Identifier, Field(alias="schema"), IMMUTABLE] = "public"
    """Schema of the table; it must exist. Cannot change."""
    table: Annotated[Identifier | None, IMMUTABLE] = None
    """An existing table to index: only the index is then made, changed and deleted. If left out, a
    table with the columns id, the vector's and metadata (jsonb) is made; further columns may be
    added to it by others. Cannot change."""
    column: Annotated[Identifier, IMMUTABLE] = "embedding"
    """The column of the vectors. Cannot change."""
    column_type: Annotated[ColumnType, IMMUTABLE] = ColumnType.VECTOR
    """vector: 4 bytes a dimension, indexed up to 2000 dimensions. halfvec: 2 bytes, up to 4000.
    Cannot change."""
    id_type: Annotated[IdType, CREATE_ONLY] = IdType.BIGINT
    """Type of the column id of a table that is made; bigint and uuid are filled in where an insert
    leaves them out."""
    method: Method = Method.HNSW
    """hnsw: faster and more exact searches. ivfflat: faster builds and less memory, but the table
    must hold rows before the index is worth anything. A change builds a new index beside the old
    one, which serves until the new one takes its place."""
    hnsw: Hnsw | None = None
    """Parameters of method hnsw. A change builds a new index beside the old one."""
    ivfflat: Ivfflat | None = None
    """Parameters of method ivfflat. A change builds a new index beside the old one."""

    @model_validator(mode="after")
    def _fitting_parameters(self) -> Self:
        for method in Method:
            if getattr(self, method.value) is not None and self.method is not method:
                raise ValueError(f"{method.value} needs method {method.value}")
        return self


@dataclass(frozen=True, slots=True)
class _Index:
    name: str
    table: str
    column: str | None
    method: str
    metric: Metric | None
    options: dict[str, str]
    valid: bool

    @classmethod
    def of(cls, row: Row | None) -> Self | None:
        """None unless the relation is an index of pgvector's."""
        if row is None or row["method"] not in set(Method):
            return None
        ending = str(row["opclass"]).partition("_")[2]
        return cls(
            name=row["name"],
            table=row["table_name"],
            column=row["column_name"],
            method=row["method"],
            metric=next((m for m, (ops, _) in METRICS.items() if ops == ending), None),
            options=dict(option.split("=", 1) for option in row["options"] or ()),
            valid=row["valid"],
        )

    def option(self, name: str) -> int:
        return int(self.options.get(name, DEFAULTS[name]))

    def fits(self, want: PgvectorIndexParams) -> bool:
        return (
            self.valid
            and (self.method, self.metric) == (want.method, want.metric)
            and all(self.option(name) == value for name, value in _declared(want).items())
        )


@dataclass(frozen=True, slots=True)
class _Found:
    """What is there of one object."""

    id: str
    schema: str
    root: Row | None
    """The relation of that name: the table, the index, or the ticket of an index to come."""
    index: _Index | None
    new: _Index | None
    """Being built, or left by a build that was interrupted."""
    old: _Index | None
    """Replaced, and to be dropped."""
    work: Row | None
    """What is being done to it now, by whatever process."""

    @property
    def is_ticket(self) -> bool:
        """Whether it is the empty table that stands for an index to come; see `create`."""
        return self.root is not None and self.root["is_table"] and self.root["is_bare"]

    @property
    def owns_table(self) -> bool:
        return self.root is not None and self.root["is_table"] and not self.root["is_bare"]

    @property
    def owner(self) -> str | None:
        comment = (self.root or {}).get("comment") or ""
        last = comment.rpartition("\n")[2]
        return last.removeprefix(MARK) if last.startswith(MARK) else None


class PgvectorIndex(Provider[PgvectorIndexParams, PostgresqlSession]):
    """Keeps a table with a vector column and its index, or only the index on an existing table.

    The id is the qualified name of the table or, on an existing table, of the index. New indexes
    are built beside the old under a name of their own, and swapped in one transaction.
    """

    kind = "VectorIndex"
    vendor = "pgvector"
    params = PgvectorIndexParams
    connection = PostgresqlConnector
    lists = True
    docs = "https://github.com/pgvector/pgvector"
    permissions = (
        "CREATE and USAGE on the schema",
        "ownership of the table, if an existing one is indexed",
        "superuser, or what stands for it at a managed service, if the extension is yet to be made",
    )
    proof = "a real PostgreSQL 18 with pgvector 0.8"
    quirks = (
        "halfvec needs pgvector 0.7.",
        "Before pgvector 0.8.2, building an hnsw index in parallel can overrun memory.",
        "The extension is created where it is missing, and never dropped.",
        "An ivfflat index is made with the empty table; change lists once the table holds rows.",
        "ALTER INDEX ... SET changes parameters on paper only, until the index is rebuilt.",
        "Partitioned tables cannot be indexed: PostgreSQL builds no index on them concurrently.",
        "Names may have up to 52 bytes.",
    )

    async def locate(self, want: PgvectorIndexParams) -> str | None:
        return _id(want.schema_, want.name)

    async def read(self, id: str) -> Observed[PgvectorIndexParams] | None:
        found = await self._look(id)
        return self._observed(found) if found else None

    async def read_all(self) -> AsyncIterator[Observed[PgvectorIndexParams]]:
        rows = await self.session.rows(_FACTS + _ALL, locks=LOCKS)
        by_schema: dict[str, dict[str, Row]] = {}
        for row in rows:
            by_schema.setdefault(row["schema"], {})[row["name"]] = row
        for schema, named in by_schema.items():
            for name in named:
                if (found := _found(schema, name, named)) is not None:
                    yield self._observed(found)

    async def create(self, want: PgvectorIndexParams, owner: str) -> str:
        for name in (want.name, want.table or ""):
            if len(name.encode()) > LONGEST_NAME:
                raise Rejected(f"{name!r} is longer than {LONGEST_NAME} bytes; set externalName")
        id, place = _id(want.schema_, want.name), Name(want.schema_, want.name)
        extension = await self._extension()
        mark = Sql("COMMENT ON TABLE {} IS {}", place, MARK + owner)
        if want.table is None:
            table = Sql(
                "CREATE TABLE {} (id {}, {} {}({}), metadata jsonb)",
                place,
                _KEYS[want.id_type],
                Name(want.column),
                Name(extension, want.column_type.value),
                want.dimension,
            )
            index = _create_index(want, extension, f"{want.name}_index", want.name, None)
            await self.session.run(table, mark, index)
            return id
        await self._check_column(want)
        # An index that is built concurrently cannot be born with a comment, but a table can: this
        # one holds the name and the mark until the index takes its place.
        ticket = Sql("CREATE TABLE {} ()", place)
        await self.session.run(*_trial(want, extension, want.name, None), ticket, mark)
        await self._build(id, want, owner)
        return id

    async def update(
        self, id: str, want: PgvectorIndexParams, changed: frozenset[str], owner: str
    ) -> None:
        found = await self._look(id)
        if found is None or found.root is None:
            raise Busy(f"{id} is being deleted by someone else")
        if not found.is_ticket and found.owns_table != (want.table is None):
            is_, wanted = ("table", "index") if found.owns_table else ("relation", "table")
            raise Conflict(f"{id} is a {is_}, not a {wanted}; choose another externalName")
        if found.work is not None:
            raise Busy(f"{id}: {_progress(found.work)}")
        if found.owner != owner:
            kept = found.root["comment"]
            comment = f"{kept}\n{MARK}{owner}" if kept and found.owner is None else MARK + owner
            thing = "INDEX" if not found.root["is_table"] else "TABLE"
            await self.session.run(
                Sql(f"COMMENT ON {thing} {{}} IS {{}}", _name(found.root), comment)
            )
        if found.new or found.old or found.index is None or not found.index.fits(want):
            await self._build(id, want, owner)

    async def delete(self, id: str) -> None:
        found = await self._look(id)
        if found is None:
            return
        if found.work is not None:
            await self.session.rows("SELECT pg_terminate_backend(%(pid)s)", pid=found.work["pid"])
        self.session.forget(id)
        if found.owns_table and found.root is not None:
            await self.session.run(Sql("DROP TABLE IF EXISTS {}", _name(found.root)))
            return
        for index in (found.new, found.old, found.index):
            if index is not None:
                await self.session.run(_drop_index(found.schema, index))
        if found.is_ticket and found.root is not None:
            await self.session.run(Sql("DROP TABLE IF EXISTS {}", _name(found.root)))

    async def _look(self, id: str) -> _Found | None:
        schema, name = _names(id)
        rows = await self.session.rows(
            _FACTS + _SOME, locks=LOCKS, schema=schema, names=list(_parts(name))
        )
        return _found(schema, name, {row["name"]: row for row in rows})

    async def _extension(self) -> str:
        """The schema of the extension, which is created if need be."""
        query = """SELECT nspname AS name FROM pg_extension
            JOIN pg_namespace ON pg_namespace.oid = extnamespace WHERE extname = 'vector'"""
        if not (rows := await self.session.rows(query)):
            create = "CREATE EXTENSION IF NOT EXISTS vector SCHEMA public"
            await self.session.run(Sql(create))
            rows = await self.session.rows(query)
        return str(rows[0]["name"])

    async def _check_column(self, want: PgvectorIndexParams) -> None:
        rows = await self.session.rows(
            """SELECT format_type(a.atttypid, a.atttypmod) AS type
            FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid
            JOIN pg_namespace n ON n.oid = c.relnamespace WHERE n.nspname = %(schema)s
            AND c.relname = %(table)s AND a.attname = %(column)s AND NOT a.attisdropped""",
            schema=want.schema_,
            table=want.table,
            column=want.column,
        )
        where = f"column {want.column} of table {want.schema_}.{want.table}"
        if not rows:
            raise Rejected(f"{where} does not exist")
        wanted = f"{want.column_type.value}({want.dimension})"
        if (type_ := rows[0]["type"].rpartition(".")[2]) != wanted:
            raise Rejected(f"{where} is {type_}, not {wanted}")

    async def _build(self, id: str, want: PgvectorIndexParams, owner: str) -> None:
        async def build() -> None:
            async with self.session.exclusively(id) as alone:
                await self._replace(alone, id, want, owner)

        await self.session.in_background(id, build)

    async def _replace(
        self, alone: Exclusive, id: str, want: PgvectorIndexParams, owner: str
    ) -> None:
        """Whatever is there, make the index as wanted; each step can be the last for now."""
        found = await self._look(id)
        if found is None or found.root is None:
            return
        schema, index, new = found.schema, found.index, found.new
        if found.old is not None:
            await alone.run(_drop_index(schema, found.old))
        if new is not None and (not new.fits(want) or (index is not None and index.fits(want))):
            await alone.run(_drop_index(schema, new))
            new = None
        if index is not None and index.fits(want):
            return
        name = want.name if want.table else f"{want.name}_index"
        table = want.table or want.name
        if new is None:
            extension = await self._extension()
            await alone.run(*_trial(want, extension, f"{name}__new", index))
            create = _create_index(want, extension, f"{name}__new", table, index, "CONCURRENTLY")
            await alone.run(create)
        swap = [Sql("ALTER INDEX {} RENAME TO {}", Name(schema, f"{name}__new"), Name(name))]
        if index is not None:
            aside = Sql("ALTER INDEX {} RENAME TO {}", Name(schema, name), Name(f"{name}__old"))
            swap.insert(0, aside)
        if found.is_ticket:
            swap.insert(0, Sql("DROP TABLE {}", Name(schema, name)))
        if want.table:
            swap.append(Sql("COMMENT ON INDEX {} IS {}", Name(schema, name), MARK + owner))
        await alone.run(*swap)
        if index is not None:
            await alone.run(Sql("DROP INDEX CONCURRENTLY {}", Name(schema, f"{name}__old")))

    def _observed(self, found: _Found) -> Observed[PgvectorIndexParams]:
        root, index, at = found.root or {}, found.index, self.session.connector
        unfinished = bool(found.new or found.old or found.is_ticket or (index and not index.valid))
        usable = index if index is not None and not unfinished else None
        actual: dict[str, Any] = {
            "schema_": found.schema,
            "method": Method(usable.method) if usable else None,
        }
        outputs: dict[str, str] = {}
        if not found.is_ticket:
            actual |= {
                "column": root.get("column_name"),
                "column_type": root.get("column_type"),
                "dimension": root.get("dimension"),
            }
        if found.owns_table or index is not None:
            outputs = {
                "host": at.host,
                "port": str(at.port),
                "database": at.database,
                "dsn": f"postgresql://{at.host}:{at.port}/{at.database}"
                f"?sslmode={at.ssl_mode.value}",
                "schema": found.schema,
                "table": root["name"] if found.owns_table else root.get("table_name", ""),
                "column": root.get("column_name") or "",
            }
        if not found.owns_table and index is not None:
            actual["table"] = index.table
        if index is not None:
            actual["metric"] = index.metric
            if index.metric is not None:
                outputs["operator"] = METRICS[index.metric][1]
        if usable is not None:
            hnsw = usable.method == Method.HNSW
            actual["hnsw"] = (
                Hnsw(m=usable.option("m"), ef_construction=usable.option("ef_construction"))
                if hnsw
                else None
            )
            actual["ivfflat"] = None if hnsw else Ivfflat(lists=usable.option("lists"))
        phase, message = Phase.READY, None
        if found.work is not None:
            phase, message = Phase.PENDING, _progress(found.work)
        elif (failure := self.session.failure_of(found.id)) is not None:
            phase, message = Phase.FAILED, failure.message
        elif unfinished:
            phase = Phase.FAILED
            message = "a build of the index was interrupted, and is yet to be taken up again"
        return Observed(
            id=found.id,
            actual=PgvectorIndexParams.seen(**actual),
            phase=phase,
            owner=found.owner,
            outputs=outputs,
            message=message,
        )


_KEYS: Final = {
    IdType.BIGINT: Sql("bigint GENERATED BY DEFAULT AS IDENTITY PRIMARY KEY"),
    IdType.UUID: Sql("uuid DEFAULT gen_random_uuid() PRIMARY KEY"),
    IdType.TEXT: Sql("text PRIMARY KEY"),
}

_FACTS: Final = """
    SELECT n.nspname AS schema, c.relname AS name, c.relkind IN ('r', 'p') AS is_table,
        c.relnatts = 0 AS is_bare, obj_description(c.oid, 'pg_class') AS comment,
        i.indisvalid AS valid, am.amname AS method, oc.opcname AS opclass,
        c.reloptions AS options, t.relname AS table_name, col.attname AS column_name,
        col.typname AS column_type, nullif(col.atttypmod, -1) AS dimension, work.going_on
    FROM pg_class c
    JOIN pg_namespace n ON n.oid = c.relnamespace
    LEFT JOIN pg_index i ON i.indexrelid = c.oid
    LEFT JOIN pg_am am ON am.oid = c.relam AND am.amname IN ('hnsw', 'ivfflat')
    LEFT JOIN pg_opclass oc ON oc.oid = i.indclass[0]
    LEFT JOIN pg_class t ON t.oid = i.indrelid
    LEFT JOIN LATERAL (
        SELECT a.attname, ty.typname, a.atttypmod
        FROM pg_attribute a JOIN pg_type ty ON ty.oid = a.atttypid
        WHERE a.attrelid = coalesce(i.indrelid, c.oid) AND a.attnum > 0 AND NOT a.attisdropped
            AND ty.typname IN ('vector', 'halfvec')
            AND (i.indexrelid IS NULL OR a.attnum = i.indkey[0])
        ORDER BY a.attnum LIMIT 1
    ) col ON true
    CROSS JOIN (
        SELECT jsonb_object_agg(l.objid::text, jsonb_build_object('pid', l.pid, 'phase', p.phase,
            'done', coalesce(nullif(p.tuples_done, 0), p.blocks_done),
            'total', coalesce(nullif(p.tuples_total, 0), p.blocks_total))) AS going_on
        FROM pg_locks l LEFT JOIN pg_stat_progress_create_index p ON p.pid = l.pid
        WHERE l.locktype = 'advisory' AND l.objsubid = 2 AND l.granted
            AND l.classid = %(locks)s::bigint::oid
            AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database())
    ) work
"""
_SOME: Final = " WHERE n.nspname = %(schema)s AND c.relname = ANY(%(names)s)"
_ALL: Final = f"""
    WHERE n.nspname NOT LIKE 'pg\\_%%' AND n.nspname <> 'information_schema' AND (
        am.amname IS NOT NULL OR (c.relkind IN ('r', 'p') AND col.attname IS NOT NULL)
        OR strpos(obj_description(c.oid, 'pg_class'), '{MARK}') > 0)
"""


def _found(schema: str, name: str, named: dict[str, Row]) -> _Found | None:
    """What of these relations makes up the object of that name."""
    root = named.get(name)
    mine = f"{name}_index" if root and root["is_table"] and not root["is_bare"] else name
    index, new, old = (
        _Index.of(named.get(part)) for part in (mine, f"{mine}__new", f"{mine}__old")
    )
    if root is None and new is None and old is None:
        return None
    id = _id(schema, name)
    going_on = next(iter(named.values()))["going_on"] or {}
    work = going_on.get(str(lock_of(id) % (1 << 32)))
    return _Found(id, schema, root, index, new, old, work)


def _parts(name: str) -> Iterable[str]:
    for part in (name, f"{name}_index"):
        yield from (part, f"{part}__new", f"{part}__old")


def _id(schema: str, name: str) -> str:
    def quoted(part: str) -> str:
        plain = re.fullmatch("[a-z_][a-z0-9_]*", part)
        return part if plain else '"' + part.replace('"', '""') + '"'

    return f"{quoted(schema)}.{quoted(name)}"


def _names(id: str) -> tuple[str, str]:
    """Schema and name of an id."""
    parts = re.findall(r'"((?:[^"]|"")*)"|([^".]+)', id)
    schema, name = (quoted.replace('""', '"') or plain for quoted, plain in parts)
    return schema, name


def _name(row: Row) -> Name:
    return Name(row["schema"], row["name"])


def _declared(want: PgvectorIndexParams) -> dict[str, int]:
    parameters = want.hnsw or want.ivfflat
    return parameters.model_dump(exclude_none=True) if parameters else {}


def _create_index(  # noqa: PLR0913 - the parts of the statement
    want: PgvectorIndexParams,
    extension: str,
    name: str,
    table: str,
    before: _Index | None,
    how: str = "",
) -> Sql:
    """What is not declared stays as it was `before`."""
    kept = before.options if before is not None and before.method == want.method else {}
    options = {**{k: int(v) for k, v in kept.items() if k in DEFAULTS}, **_declared(want)}
    with_ = ", ".join(f"{option} = {value}" for option, value in options.items())
    return Sql(
        f"CREATE INDEX {how} {{}} ON {{}} USING {want.method.value} ({{}} {{}})"
        + (f" WITH ({with_})" if with_ else ""),
        Name(name),
        Name(want.schema_, table),
        Name(want.column),
        Name(extension, f"{want.column_type.value}_{METRICS[want.metric][0]}"),
    )


def _trial(
    want: PgvectorIndexParams, extension: str, name: str, before: _Index | None
) -> tuple[Sql, ...]:
    """Makes the same index on nothing, and undoes it: refused here, nothing is left behind."""
    place = Name(want.schema_, name)
    type_ = Name(extension, want.column_type.value)
    table = Sql("CREATE TABLE {} ({} {}({}))", place, Name(want.column), type_, want.dimension)
    index = _create_index(want, extension, f"{name}__old", name, before)
    return table, index, Sql("DROP TABLE {}", place)


def _drop_index(schema: str, index: _Index) -> Sql:
    return Sql("DROP INDEX CONCURRENTLY IF EXISTS {}", Name(schema, index.name))


def _progress(work: Row) -> str:
    """In quarters, so that the status is not written at every look."""
    if work["phase"] is None:
        return "the index is being replaced"
    text = f"the index is being built: {work['phase']}"
    if work["total"]:
        text += f", {work['done'] * 4 // work['total'] * 25} %"
    return text
