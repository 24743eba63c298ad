"""What is special of PostgreSQL and pgvector: long builds, lost connections, words of refusal."""

import asyncio
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from typing import Any

import psycopg
import pytest
import trustme

from auterity.api.connection import RateLimit
from auterity.engine.calls import Door
from auterity.engine.contract import Access, Phase
from auterity.engine.errors import (
    Busy,
    Conflict,
    Failure,
    NotFound,
    Rejected,
    Throttled,
    Unauthorized,
    Unavailable,
)
from auterity.engine.limits import Budget
from auterity.providers.pgvector.index import PgvectorIndex
from auterity.providers.pgvector.params import PgvectorIndexParams
from auterity.transport import postgresql
from auterity.transport.postgresql import PostgresqlConnector, PostgresqlSession, Sql
from tests.conformance.cluster import NAMESPACE, MemoryCluster, Recorder
from tests.fakes.pgvector import DATABASE, PASSWORD, ROLE, Pgvector

MARK = "testcluster/team/docs"
OWN = PgvectorIndexParams(name="docs", dimension=3)
ON_A_TABLE = PgvectorIndexParams(name="places", dimension=3, table="map", column="place")

Open = Callable[..., Awaitable[PostgresqlSession]]


@pytest.fixture
async def server() -> AsyncIterator[Pgvector]:
    if (reason := Pgvector.missing()) is not None:
        pytest.skip(reason)
    it = Pgvector()
    await it.start()
    await it.reset()
    yield it
    await it.stop()


@pytest.fixture
async def open_(server: Pgvector) -> AsyncIterator[Open]:
    """Opens sessions, which are closed after the test."""
    opened: list[PostgresqlSession] = []

    async def open_(
        password: str = PASSWORD, *, insecure: bool = True, ca: str | None = None, **block: Any
    ) -> PostgresqlSession:
        connector = PostgresqlConnector.model_validate({**server.connection(None), **block})
        connector.password.resolve(password, "1")
        if connector.ca_certificate is not None and ca is not None:
            connector.ca_certificate.resolve(ca, "1")
        limit = RateLimit(per_second=10000, burst=10000, concurrent=4)
        access = Access(
            door=Door("pgvector", "test", Budget(limit), Recorder()),
            secrets=MemoryCluster().secret_store(NAMESPACE),
            allow_insecure=insecure,
        )
        opened.append(await connector.open(access))
        return opened[-1]

    yield open_
    for session in opened:
        await session.close()


@pytest.fixture
async def provider(open_: Open) -> PgvectorIndex:
    return PgvectorIndex(await open_())


@pytest.fixture
async def somebodys_table(server: Pgvector) -> None:
    await server.ask(
        "CREATE TABLE map (place vector(3), name text)",
        f"ALTER TABLE map OWNER TO {ROLE}",
        "INSERT INTO map SELECT ARRAY[n, 1, 2]::vector, 'place ' || n "
        "FROM generate_series(1, 99) n",
    )


@asynccontextmanager
async def unfinished_business(server: Pgvector) -> AsyncIterator[None]:
    """Somebody writes to the table and does not commit: an index on it cannot be finished."""
    user = await psycopg.AsyncConnection.connect(server.server.url, dbname=DATABASE)
    await user.execute("INSERT INTO map (name) VALUES ('draft')")
    try:
        yield
    finally:
        await user.close()


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(postgresql, "GLANCE", 0.3)


async def phase_of(provider: PgvectorIndex, id: str) -> Phase | None:
    observed = await provider.read(id)
    return None if observed is None else observed.phase


async def until_building(server: Pgvector, *, goes_on: bool = True) -> None:
    """On a busy machine a visit may be over before the server has begun."""
    builds = "SELECT 1 FROM pg_stat_progress_create_index"
    async with asyncio.timeout(20):
        while bool(await server.ask(builds)) is not goes_on:  # noqa: ASYNC110 - only looking tells
            await asyncio.sleep(0.05)


async def until(provider: PgvectorIndex, id: str, wanted: Phase) -> None:
    async with asyncio.timeout(20):
        while await phase_of(provider, id) is not wanted:  # noqa: ASYNC110 - only looking tells
            await asyncio.sleep(0.05)


async def relations(server: Pgvector) -> list[str]:
    rows = await server.ask(
        "SELECT relname AS name FROM pg_class WHERE relnamespace = 'public'::regnamespace "
        "AND relkind IN ('r', 'i') ORDER BY relname"
    )
    return [row["name"] for row in rows]


async def test_the_outputs_lead_to_the_nearest_neighbours(provider):
    id = await provider.create(OWN, MARK)
    observed = await provider.read(id)
    assert observed is not None
    out = observed.outputs
    assert PASSWORD not in str(out)
    connection = await psycopg.AsyncConnection.connect(
        out["dsn"], user=ROLE, password=PASSWORD, autocommit=True
    )
    async with connection:
        where = f"{out['schema']}.{out['table']}"
        await connection.execute(
            f"INSERT INTO {where} ({out['column']}, metadata) VALUES "
            "('[1,0,0]', '{\"title\": \"east\"}'), ('[0,1,0]', '{\"title\": \"north\"}'), "
            "('[0,0,1]', '{\"title\": \"up\"}')"
        )
        await connection.execute("SET enable_seqscan = off")
        query = (
            f"SELECT metadata->>'title' FROM {where} "
            f"ORDER BY {out['column']} {out['operator']} '[1,9,2]' LIMIT 2"
        )
        cursor = await connection.execute(query)
        assert await cursor.fetchall() == [("north",), ("up",)]
        cursor = await connection.execute(f"EXPLAIN {query}")
        plan = " ".join(row[0] for row in await cursor.fetchall())
    assert "Index Scan using docs_index" in plan


async def test_connections_that_were_dropped_while_idle_do_not_fail_a_read(server, provider):
    id = await provider.create(OWN, MARK)
    await server.ask(
        f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = '{ROLE}'"
    )
    assert await phase_of(provider, id) is Phase.READY


async def test_a_write_whose_connection_is_dropped_is_not_repeated(server, provider):
    await provider.session.verify()
    await server.ask(
        f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = '{ROLE}'"
    )
    with pytest.raises(Unavailable):
        await provider.session.run(Sql("CREATE TABLE t ()"))
    assert await relations(server) == []


@pytest.mark.usefixtures("somebodys_table")
async def test_a_long_build_blocks_neither_the_visit_nor_the_budget(server, provider):
    async with unfinished_business(server):
        id = await provider.create(ON_A_TABLE, MARK)
        observed = await provider.read(id)
        assert observed is not None
        assert (observed.phase, observed.owner) == (Phase.PENDING, MARK)
        assert observed.message == (await provider.read(id)).message
        assert "waiting for writers before build" in observed.message
        await asyncio.sleep(2 * postgresql.GLANCE)
        assert provider.session.door.budget.in_flight == 0
        with pytest.raises(Busy):
            await provider.update(id, ON_A_TABLE, frozenset(), MARK)
    await until(provider, id, Phase.READY)
    assert await relations(server) == ["map", "places"]


async def test_a_third_build_begins_as_soon_as_one_of_two_is_done(open_):
    session, ends = await open_(), asyncio.Event()

    async def long() -> None:
        await ends.wait()

    async def short() -> None:
        pass

    assert not await session.in_background("first", "", long)
    assert not await session.in_background("second", "", long)
    with pytest.raises(Busy, match="fewer than 2 indexes are being built"):
        await session.in_background("third", "", short)
    third = asyncio.create_task(session.in_background("third", "", short))
    await asyncio.sleep(0.05)
    assert not third.done()
    ends.set()
    assert await third


@pytest.mark.usefixtures("somebodys_table")
async def test_the_progress_of_a_build_is_told_in_quarters(server, provider):
    await server.ask(
        "ALTER TABLE map ADD wide vector(64)",
        "INSERT INTO map (wide) SELECT (SELECT array_agg(random()) FROM generate_series(1, 64) "
        "WHERE n > 0)::real[]::vector FROM generate_series(1, 5000) n",
    )
    want = PgvectorIndexParams(name="places", dimension=64, table="map", column="wide")
    id = await provider.create(want, MARK)
    told = set()
    async with asyncio.timeout(60):
        while (observed := await provider.read(id)).phase is Phase.PENDING:
            told.add(observed.message)
            await asyncio.sleep(0.02)
    assert observed.phase is Phase.READY
    loading = {message for message in told if "loading tuples, " in message}
    assert loading
    assert all(
        message.endswith((" 0 %", " 25 %", " 50 %", " 75 %", " 100 %")) for message in loading
    )


@pytest.mark.usefixtures("somebodys_table")
async def test_an_operator_that_starts_anew_takes_over_the_build(server, provider, open_):
    async with unfinished_business(server):
        id = await provider.create(ON_A_TABLE, MARK)
        await provider.session.close()
        second = PgvectorIndex(await open_())
        assert await phase_of(second, id) is Phase.PENDING
        with pytest.raises(Busy):
            await second.update(id, ON_A_TABLE, frozenset(), MARK)
        (built,) = await server.ask("SELECT 'places__new'::regclass::oid AS oid")
    await until(second, id, Phase.FAILED)
    observed = await second.read(id)
    assert observed is not None
    assert observed.actual.method is None, "a difference, so that the engine takes it up again"
    await second.update(id, ON_A_TABLE, frozenset({"method"}), MARK)
    await until(second, id, Phase.READY)
    assert await server.ask("SELECT 'places'::regclass::oid AS oid") == [built]


@pytest.mark.usefixtures("somebodys_table")
async def test_a_build_that_was_cut_off_is_told_and_begun_anew(server, provider):
    async with unfinished_business(server):
        id = await provider.create(ON_A_TABLE, MARK)
        await until_building(server)
        await server.ask("SELECT pg_terminate_backend(pid) FROM pg_stat_progress_create_index")
        await until(provider, id, Phase.FAILED)
        observed = await provider.read(id)
        assert observed is not None
        assert "terminating connection" in (observed.message or "")
        assert "places__new" in await relations(server)
    with pytest.raises(Unavailable, match="terminating connection"):
        await provider.update(id, ON_A_TABLE, frozenset({"method"}), MARK)
    await provider.update(id, ON_A_TABLE, frozenset({"method"}), MARK)
    await until(provider, id, Phase.READY)
    assert await relations(server) == ["map", "places"]


@pytest.mark.usefixtures("somebodys_table")
async def test_a_deletion_ends_the_build(server, provider):
    async with unfinished_business(server):
        id = await provider.create(ON_A_TABLE, MARK)
        await until_building(server)
        deletion = asyncio.create_task(provider.delete(id))
        await until_building(server, goes_on=False)
    await deletion
    assert await provider.read(id) is None
    assert await relations(server) == ["map"]


@pytest.mark.usefixtures("somebodys_table")
async def test_a_change_keeps_what_is_not_declared(provider):
    want = ON_A_TABLE.model_copy(update={"table": "map"})
    id = await provider.create(
        PgvectorIndexParams.model_validate({**want.model_dump(), "hnsw": {"m": 9}}), MARK
    )
    await until(provider, id, Phase.READY)
    changed = PgvectorIndexParams.model_validate(
        {**want.model_dump(), "hnsw": {"efConstruction": 99}}
    )
    await provider.update(id, changed, frozenset({"hnsw.ef_construction"}), MARK)
    await until(provider, id, Phase.READY)
    observed = await provider.read(id)
    assert observed is not None
    assert (observed.actual.hnsw.m, observed.actual.hnsw.ef_construction) == (9, 99)


@pytest.mark.usefixtures("somebodys_table")
async def test_a_column_that_does_not_fit_is_refused_before_anything_is_made(server, provider):
    for change, words in (
        ({"dimension": 4}, r"is vector\(3\), not vector\(4\)"),
        ({"column_type": "halfvec"}, r"is vector\(3\), not halfvec\(3\)"),
        ({"column": "nowhere"}, "does not exist"),
        ({"table": "nowhere"}, "does not exist"),
    ):
        want = PgvectorIndexParams.model_validate({**ON_A_TABLE.model_dump(), **change})
        with pytest.raises(Rejected, match=words):
            await provider.create(want, MARK)
    assert await relations(server) == ["map"]


async def test_halfvec_takes_more_dimensions_than_an_index_on_vector(server, provider):
    wide = {"name": "docs", "dimension": 3000}
    with pytest.raises(Rejected, match="more than 2000 dimensions"):
        await provider.create(PgvectorIndexParams.model_validate(wide), MARK)
    assert await relations(server) == []
    half = PgvectorIndexParams.model_validate({**wide, "columnType": "halfvec", "idType": "uuid"})
    observed = await provider.read(await provider.create(half, MARK))
    assert observed is not None
    assert (observed.actual.dimension, observed.actual.column_type) == (3000, "halfvec")


async def test_names_that_need_quotes_are_kept_as_they_are(provider):
    for name in ("my-docs", 'The "best".docs', "select"):
        want = PgvectorIndexParams(name=name, dimension=3)
        id = await provider.create(want, MARK)
        assert id == await provider.locate(want)
        assert await phase_of(provider, id) is Phase.READY
        assert id in [seen.id async for seen in provider.read_all()]
        await provider.delete(id)
        assert await provider.read(id) is None


async def test_a_name_that_postgresql_would_cut_is_refused(provider):
    with pytest.raises(Rejected, match="longer than 52 bytes"):
        await provider.create(PgvectorIndexParams(name="d" * 53, dimension=3), MARK)


async def test_a_taken_over_table_keeps_its_comment(server, provider):
    await server.foreign({"dimension": 3}, "docs", None)
    await server.ask("COMMENT ON TABLE docs IS 'what the shop sells'")
    await provider.update("public.docs", OWN, frozenset({"method"}), MARK)
    await until(provider, "public.docs", Phase.READY)
    observed = await provider.read("public.docs")
    assert observed is not None
    assert (observed.owner, observed.phase) == (MARK, Phase.READY)
    (row,) = await server.ask("SELECT obj_description('docs'::regclass) AS comment")
    assert row["comment"] == f"what the shop sells\nauterity: {MARK}"


@pytest.mark.usefixtures("somebodys_table")
async def test_a_table_is_not_taken_for_an_index(server, provider):
    await server.foreign({"dimension": 3}, "places", None)
    with pytest.raises(Conflict, match="taken by something else"):
        await provider.update("public.map.places", ON_A_TABLE, frozenset(), MARK)


async def test_a_table_that_others_depend_on_is_not_dropped(server, provider):
    id = await provider.create(OWN, MARK)
    await server.ask("CREATE VIEW titles AS SELECT metadata FROM docs")
    with pytest.raises(Conflict, match=r"view public\.titles depends on table"):
        await provider.delete(id)


async def test_a_locked_table_is_waited_for_without_blaming_the_server(server, provider):
    id = await provider.create(OWN, MARK)
    user = await psycopg.AsyncConnection.connect(server.server.url, dbname=DATABASE)
    async with user:
        await user.execute("SELECT * FROM docs")
        with pytest.raises(Busy, match="lock timeout"):
            await provider.delete(id)


@pytest.mark.parametrize(
    ("state", "failure"),
    [
        ("58P01", Rejected),  # The extension is not installed on the server.
        ("0A000", Rejected),
        ("53100", Rejected),
        ("53200", Rejected),
        ("53300", Throttled),
        ("57P03", Unavailable),
    ],
)
async def test_what_the_server_lacks_is_no_outage(open_: Open, state: str, failure: type[Failure]):
    session = await open_()
    lacks = f"DO $$BEGIN RAISE EXCEPTION 'it is not there' USING ERRCODE = '{state}'; END$$"
    with pytest.raises(Failure, match="it is not there") as told:
        await session.rows(lacks)
    assert type(told.value) is failure


async def test_the_extension_is_made_by_those_who_may(server, open_):
    await server.ask("DROP EXTENSION vector")
    with pytest.raises(Unauthorized, match=rf"to create extension.*{ROLE}"):
        await PgvectorIndex(await open_()).create(OWN, MARK)
    mighty = await open_(server.server.password, user="postgres")
    await PgvectorIndex(mighty).create(OWN, MARK)
    assert await server.ask("SELECT 1 FROM pg_extension WHERE extname = 'vector'")


async def test_an_extension_in_another_schema_is_found(server, provider):
    await server.ask("CREATE SCHEMA ext", "ALTER EXTENSION vector SET SCHEMA ext")
    await server.ask(f"GRANT USAGE ON SCHEMA ext TO {ROLE}")
    id = await provider.create(OWN, MARK)
    changed = PgvectorIndexParams.model_validate({**OWN.model_dump(), "hnsw": {"m": 7}})
    await provider.update(id, changed, frozenset({"hnsw.m"}), MARK)
    await until(provider, id, Phase.READY)


async def test_verify_tells_who_we_are_and_until_when(open_):
    identity = await (await open_()).verify()
    assert identity.name == f"{ROLE}@127.0.0.1/{DATABASE}"
    assert identity.expires_at == "2031-01-01T00:00:00Z"


@pytest.mark.parametrize(
    ("block", "failure", "words"),
    [
        ({"user": "nobody"}, Unauthorized, "password authentication failed.*check user"),
        ({"user": "asleep"}, Unauthorized, "not permitted to log in"),
        ({"user": "crowd"}, Throttled, "too many connections"),
        ({"database": "nowhere"}, NotFound, 'database "nowhere" does not exist'),
        ({"port": 1}, Unavailable, "Connection refused"),
        ({"host": "nowhere.invalid"}, Unavailable, "failed to resolve host"),
        ({"sslMode": "verify-full"}, Rejected, "does not support SSL.*check sslMode"),
    ],
)
async def test_a_connection_that_cannot_be_made_says_why(server, open_, block, failure, words):
    await server.ask(
        "DROP ROLE IF EXISTS asleep",
        "DROP ROLE IF EXISTS crowd",
        f"CREATE ROLE asleep PASSWORD '{PASSWORD}'",
        f"CREATE ROLE crowd LOGIN CONNECTION LIMIT 0 PASSWORD '{PASSWORD}'",
    )
    session = await open_(**block)
    told = []
    for _ in range(2):
        session.door.budget.reset()
        with pytest.raises(Failure, match=words) as caught:
            await session.verify()
        assert type(caught.value) is failure
        told.append(caught.value.message)
    assert told[0] == told[1]
    assert PASSWORD not in told[0]


async def test_an_empty_password_is_not_looked_for_elsewhere(open_, monkeypatch):
    monkeypatch.setenv("PGPASSWORD", PASSWORD)
    with pytest.raises(Unauthorized, match="password is empty"):
        await (await open_("")).verify()


@pytest.mark.parametrize(
    ("block", "words"),
    [
        ({"host": "169.254.169.254"}, "metadata"),
        ({"sslMode": "require"}, "does not verify the server"),
        ({"sslMode": "verify-ca"}, "needs caCertificate"),
    ],
)
async def test_an_unsafe_connection_is_refused(open_, block, words):
    with pytest.raises(Rejected, match=words):
        await open_(insecure=False, **{"sslMode": "verify-full", **block})


@asynccontextmanager
async def encrypted(server: Pgvector, certificate: trustme.LeafCert) -> AsyncIterator[int]:
    """Speaks TLS for the server, whose build cannot; the port."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    certificate.configure_cert(context)

    async def pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError):
            while data := await reader.read(65536):
                writer.write(data)
                await writer.drain()
        writer.close()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readexactly(8)
        writer.write(b"S")
        try:
            await writer.start_tls(context)
        except (ssl.SSLError, OSError):
            writer.close()
            return
        back, on = await asyncio.open_connection("127.0.0.1", server.server.port)
        await asyncio.gather(pump(reader, on), pump(back, writer))

    serving: list[asyncio.Task[None]] = []
    listening = await asyncio.start_server(
        lambda *line: serving.append(asyncio.create_task(serve(*line))), "127.0.0.1", 0
    )
    try:
        yield listening.sockets[0].getsockname()[1]
    finally:
        listening.close()
        async with asyncio.timeout(5):
            await asyncio.gather(*serving)


async def test_the_servers_certificate_must_be_of_its_name_and_authority(server, open_):
    authority = trustme.CA()
    pem = authority.cert_pem.bytes().decode()
    ours = {"sslMode": "verify-full", "caCertificate": {"value": pem}}
    async with encrypted(server, authority.issue_cert("127.0.0.1")) as port:
        session = await open_(insecure=False, ca=pem, port=port, **ours)
        assert (await session.verify()).name
        await session.close()
        with pytest.raises(Rejected, match=r"certificate verify failed.*check sslMode"):
            await (await open_(insecure=False, port=port, sslMode="verify-full")).verify()
    async with encrypted(server, authority.issue_cert("db.example.org")) as port:
        with pytest.raises(Rejected, match="does not match host name"):
            await (await open_(insecure=False, ca=pem, port=port, **ours)).verify()
