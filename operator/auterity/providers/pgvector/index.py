"""Keeps a table of vectors with its index, or only the index on an existing table."""

from collections.abc import AsyncIterator, Mapping
from typing import Any, Final

from auterity.engine.contract import Observed, Phase, Provider
from auterity.engine.errors import Busy, Conflict, Rejected
from auterity.providers.pgvector.found import ALL, FACTS, MARK, METRICS, SOME, Found, Place
from auterity.providers.pgvector.params import (
    ColumnType,
    Hnsw,
    Ivfflat,
    Method,
    PgvectorIndexParams,
)
from auterity.providers.pgvector.statements import (
    create_index,
    create_table,
    drop_index,
    swap,
    trial,
)
from auterity.transport.postgresql import (
    LOCKS,
    Exclusive,
    Name,
    PostgresqlConnector,
    PostgresqlSession,
    Row,
    Sql,
)

LONGEST_NAME: Final = 63 - len("_index__new")
"""PostgreSQL silently cuts names after 63 bytes, and would then find another's."""
MOST_DIMENSIONS: Final = {ColumnType.VECTOR: 2000, ColumnType.HALFVEC: 4000}


class PgvectorIndex(Provider[PgvectorIndexParams, PostgresqlSession]):
    """Keeps a table of vectors with its index, or only the index on an existing table.

    A table and its index are made in one transaction, with the mark as a comment on the table.
    Every other index is built concurrently, beside the one it replaces and under a name of its
    own, and takes its place in one transaction.
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
    publishes = (
        ("dsn", "Connection string without user and password."),
        ("host", "Name or address of the server."),
        ("port", "Its port."),
        ("database", "The database."),
        ("schema", "Schema of the table."),
        ("table", "The table that holds the vectors."),
        ("column", "Its column of vectors."),
        ("operator", "The operator that a query orders by to use the index, such as <=>."),
    )
    quirks = (
        "halfvec needs pgvector 0.7.",
        "Before pgvector 0.8.2, building an hnsw index in parallel can overrun memory.",
        "The extension is created where it is missing, and never dropped.",
        "An ivfflat index is made with the empty table; change lists once the table holds rows.",
        "ALTER INDEX ... SET changes parameters on paper only, until the index is rebuilt.",
        "Partitioned tables cannot be indexed: PostgreSQL builds no index on them concurrently.",
        "Builds take the role's own settings: ALTER ROLE ... SET maintenance_work_mem helps hnsw.",
        "Names may have up to 52 bytes.",
    )

    @classmethod
    def objections(cls, want: PgvectorIndexParams) -> Mapping[str, str]:
        named = {"name": want.name, "table": want.table or ""}
        told = f"PostgreSQL cuts names: here they may have {LONGEST_NAME} bytes"
        found = {field: told for field, name in named.items() if len(name.encode()) > LONGEST_NAME}
        if want.dimension > (most := MOST_DIMENSIONS[want.column_type]):
            found["dimension"] = f"pgvector indexes a {want.column_type} up to {most} dimensions"
        return found

    async def locate(self, want: PgvectorIndexParams) -> str | None:
        return Place.of(want).id

    async def read(self, id: str) -> Observed[PgvectorIndexParams] | None:
        found = await self._look(Place.parse(id))
        return self._observed(found) if found else None

    async def read_all(self) -> AsyncIterator[Observed[PgvectorIndexParams]]:
        by_schema: dict[str, dict[str, Row]] = {}
        for row in await self.session.rows(FACTS + ALL, locks=LOCKS):
            by_schema.setdefault(row["schema"], {})[row["name"]] = row
        for schema, named in by_schema.items():
            for name, row in named.items():
                found = Found.among(Place(schema, name, row["table_name"]), named)
                if found is not None and not found.is_alien:
                    yield self._observed(found)

    async def create(self, want: PgvectorIndexParams, owner: str) -> str:
        for name in (want.name, want.table or ""):
            if len(name.encode()) > LONGEST_NAME:
                raise Rejected(f"{name!r} is longer than {LONGEST_NAME} bytes; choose another name")
        place = Place.of(want)
        here = Name(place.schema, place.name)
        mark = Sql("COMMENT ON TABLE {} IS {}", here, MARK + owner)
        extension = await self._extension()
        if place.table is None:
            index = create_index(want, extension, name=place.index, table=place.name)
            await self.session.run(create_table(want, extension), mark, index)
            return place.id
        await self._check_column(want)
        # An index that is built concurrently cannot be born with a comment, but a table can. This
        # one, the ticket, holds the name and the mark until the index takes its place.
        ticket = Sql("CREATE TABLE {} ()", here)
        await self.session.run(*trial(want, extension, None), ticket, mark)
        await self._build(want, owner)
        return place.id

    async def update(
        self, id: str, want: PgvectorIndexParams, changed: frozenset[str], owner: str
    ) -> None:
        place = Place.of(want)
        found = await self._look(place)
        if found is None or found.root is None or found.is_alien:
            raise Conflict(f"the name {id} is taken by something else; choose another externalName")
        if found.work is not None:
            raise Busy(f"{id}: {found.progress}")
        if found.owner != owner:
            others = f"{found.comment}\n" if found.comment and found.owner is None else ""
            sort = "TABLE" if found.root["is_table"] else "INDEX"
            here = Name(place.schema, place.name)
            await self.session.run(
                Sql(f"COMMENT ON {sort} {{}} IS {{}}", here, f"{others}{MARK}{owner}")
            )
        if found.is_unfinished or found.index is None or not found.index.fits(want):
            await self._build(want, owner)

    async def delete(self, id: str) -> None:
        place = Place.parse(id)
        found = await self._look(place)
        if found is None or found.is_alien:
            return
        if found.work is not None:
            await self.session.rows("SELECT pg_terminate_backend(%(pid)s)", pid=found.work["pid"])
        self.session.forget(id)
        if place.table is not None:
            for index, name in (
                (found.new, place.new),
                (found.old, place.old),
                (found.index, place.index),
            ):
                if index is not None:
                    await self.session.run(drop_index(place, name))
        if place.table is None or found.is_ticket:
            await self.session.run(Sql("DROP TABLE IF EXISTS {}", Name(place.schema, place.name)))

    async def _look(self, place: Place) -> Found | None:
        rows = await self.session.rows(
            FACTS + SOME, locks=LOCKS, schema=place.schema, names=place.names
        )
        return Found.among(place, {row["name"]: row for row in rows})

    async def _extension(self) -> str:
        """The schema of the extension, which is created if need be."""
        query = """SELECT nspname AS name FROM pg_extension
            JOIN pg_namespace ON pg_namespace.oid = extnamespace WHERE extname = 'vector'"""
        if not (rows := await self.session.rows(query)):
            await self.session.run(Sql("CREATE EXTENSION IF NOT EXISTS vector SCHEMA public"))
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

    async def _build(self, want: PgvectorIndexParams, owner: str) -> None:
        id = Place.of(want).id

        async def build() -> None:
            async with self.session.exclusively(id) as alone:
                await self._replace(alone, want, owner)

        await self.session.in_background(id, repr((want.method, want.options)), build)

    async def _replace(self, alone: Exclusive, want: PgvectorIndexParams, owner: str) -> None:
        """Whatever is there, make the index as wanted; each step can be the last for now."""
        place = Place.of(want)
        found = await self._look(place)
        if found is None or found.root is None:
            return
        index, new = found.index, found.new
        done = index is not None and index.fits(want)
        if found.old is not None:
            await alone.run(drop_index(place, place.old))
        if new is not None and (done or not new.fits(want)):
            await alone.run(drop_index(place, place.new))
            new = None
        if done:
            return
        if new is None:
            extension, table = await self._extension(), place.table or place.name
            await alone.run(*trial(want, extension, index))
            await alone.run(
                create_index(
                    want, extension, name=place.new, table=table, before=index, concurrently=True
                )
            )
        replaces = index is not None
        await alone.run(*swap(place, owner, ticket=found.is_ticket, replaces=replaces))
        if replaces:
            await alone.run(drop_index(place, place.old))

    def _observed(self, found: Found) -> Observed[PgvectorIndexParams]:
        if found.is_alien:
            return Observed(found.place.id, PgvectorIndexParams.seen())
        phase, message = Phase.READY, None
        if found.work is not None:
            phase, message = Phase.PENDING, found.progress
        elif found.is_unfinished:
            failure = self.session.failure_of(found.place.id)
            phase = Phase.FAILED
            message = (
                failure.message
                if failure is not None
                else "a build of the index was interrupted, and is yet to be taken up again"
            )
        return Observed(
            id=found.place.id,
            actual=_actual(found),
            phase=phase,
            owner=found.owner,
            outputs=self._outputs(found),
            message=message,
        )

    def _outputs(self, found: Found) -> dict[str, str]:
        at, place, root = self.session.connector, found.place, found.root
        if root is None or found.is_ticket:
            return {}
        address = f"postgresql://{at.host}:{at.port}/{at.database}?sslmode={at.ssl_mode.value}"
        outputs = {
            "host": at.host,
            "port": str(at.port),
            "database": at.database,
            "dsn": address,
            "schema": place.schema,
            "table": place.table or place.name,
            "column": root["column_name"] or "",
        }
        if found.index is not None and found.index.metric is not None:
            outputs["operator"] = METRICS[found.index.metric][1]
        return outputs


def _actual(found: Found) -> PgvectorIndexParams:
    """An index that is not usable as it is has no method: a difference, which brings an update."""
    index, root = found.index, found.root
    usable = None if found.is_unfinished else index
    actual: dict[str, Any] = {"schema_": found.place.schema, "table": found.place.table}
    actual["method"] = usable.method if usable else None
    if root is not None and not found.is_ticket:
        actual["column"] = root["column_name"]
        actual["column_type"] = root["column_type"]
        actual["dimension"] = root["dimension"]
    if index is not None:
        actual["metric"] = index.metric
    if usable is not None:
        hnsw = ivfflat = None
        if usable.method is Method.HNSW:
            m, ef = usable.parameter("m"), usable.parameter("ef_construction")
            hnsw = Hnsw(m=m, ef_construction=ef)
        else:
            ivfflat = Ivfflat(lists=usable.parameter("lists"))
        actual |= {"hnsw": hnsw, "ivfflat": ivfflat}
    return PgvectorIndexParams.seen(**actual)
