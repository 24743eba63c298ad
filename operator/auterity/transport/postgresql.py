"""PostgreSQL by psycopg 3 (https://www.psycopg.org/psycopg3/docs/): one database a session."""

import asyncio
import os
import re
import socket
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from time import monotonic
from types import ModuleType
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Final, LiteralString, TypeVar
from zlib import crc32

import certifi
from pydantic import Field

from auterity.api.connection import RateLimit
from auterity.api.fields import Duration, SecretValue, ShortText, Value, seconds
from auterity.engine.calls import Call, Door, fence
from auterity.engine.contract import Access, Connector, Identity, Session
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
from auterity.transport.endpoints import refuse_host, refuse_resolved

if TYPE_CHECKING:
    from psycopg import AsyncConnection, Error
    from psycopg.rows import DictRow
    from psycopg.sql import Composable, Composed

    Connection = AsyncConnection[DictRow]

Row = dict[str, Any]
T = TypeVar("T")

LOCKS: Final = 0x41757465
"""First key of every advisory lock of ours; the second tells what is worked on."""
POOL: Final = 4
MOST_IN_BACKGROUND: Final = 2
"""Index builds take memory and disk bandwidth from the database's users."""
GLANCE: Final = 2.0
"""Seconds that a visit waits for work that may take hours."""
DEADLINE: Final = 30.0
"""Seconds after which a server that says nothing is given up; its own limits come first."""
LONGEST_REASON: Final = 400

# Names are always written in full: another's function or type in some schema must not be taken.
# The server must notice when the operator's machine is gone, or its locks stay.
_SETTINGS: Final = (
    "SET search_path = pg_catalog; SET client_min_messages = warning; SET tcp_keepalives_idle = 60;"
    "SET tcp_keepalives_interval = 10; SET tcp_keepalives_count = 3"
)
_HASTE: Final = f"{_SETTINGS}; SET lock_timeout = '5s'; SET statement_timeout = '15s'"
_PATIENCE: Final = f"{_SETTINGS}; SET lock_timeout = 0; SET statement_timeout = 0"

# libpq tells no SQLSTATE when a connection cannot be made, so its words decide.
_CONNECT: Final[tuple[tuple[str, type[Failure], str], ...]] = (
    (
        r"authentication failed|no password supplied|not permitted to log in|pg_hba\.conf",
        Unauthorized,
        "check user and password in the connection, and whether the role may log in from here",
    ),
    (r'database "[^"]*" does not exist', NotFound, "check database in the connection"),
    (r"too many (clients|connections)|connection slots", Throttled, "all connections are taken"),
    (
        r"does not support SSL|certificate",
        Rejected,
        "check sslMode and caCertificate in the connection",
    ),
)

# https://www.postgresql.org/docs/current/errcodes-appendix.html
_BY_STATE: Final[dict[str, type[Failure]]] = {
    **dict.fromkeys(("28000", "28P01", "42501"), Unauthorized),
    **dict.fromkeys(("42710", "42P04", "42P06", "42P07", "23505", "2BP01"), Conflict),
    **dict.fromkeys(("3D000", "3F000", "42704", "42P01", "42703"), NotFound),
    **dict.fromkeys(("40001", "40P01", "55006", "55P03", "57014"), Busy),
    "53300": Throttled,
    # Disk or memory is full; the file of an extension is not on the server. All else goes on.
    **dict.fromkeys(("53100", "53200", "58P01"), Rejected),
    # A standby: the primary has moved, and its name will follow.
    "25006": Unavailable,
}
_BY_CLASS: Final[dict[str, type[Failure]]] = {
    **dict.fromkeys(("08", "53", "57", "58"), Unavailable),
    # Older versions of extensions refuse arguments by XX000.
    **dict.fromkeys(("0A", "22", "23", "25", "2B", "42", "54", "55", "XX"), Rejected),
}


class SslMode(StrEnum):
    """How the connection is secured, in libpq's words."""

    VERIFY_FULL = "verify-full"
    VERIFY_CA = "verify-ca"
    REQUIRE = "require"
    PREFER = "prefer"
    DISABLE = "disable"


class PostgresqlConnector(Connector):
    """One database of a PostgreSQL server.

    Connect to the server itself: poolers that share connections among clients, such as PgBouncer
    in transaction mode, lose the locks that guard index builds.
    """

    vendor: ClassVar[str] = "postgresql"
    rate_limit: ClassVar[RateLimit] = RateLimit(per_second=50, burst=50, concurrent=POOL)

    host: Annotated[str, Field(min_length=1, max_length=253, pattern=r"^[A-Za-z0-9._:-]+$")]
    """Name or address of the server."""
    port: Annotated[int, Field(ge=1, le=65535)] = 5432
    """Its port."""
    database: ShortText
    """The database; integrations of this connection live in it."""
    user: ShortText
    """The role to log in as."""
    password: SecretValue
    """Its password, or a token that stands for it."""
    ssl_mode: SslMode = SslMode.VERIFY_FULL
    """verify-full checks the server's certificate and its name; verify-ca only the certificate, by
    caCertificate. The others leave the server unverified and need an operator that was started
    with --allow-insecure-endpoints."""
    ca_certificate: Value | None = None
    """PEM certificates of the authorities that may have signed the server's certificate; public
    authorities if left out. Amazon RDS and Google Cloud SQL have authorities of their own."""
    connect_timeout: Duration = "10s"
    """How long to wait for a connection."""

    async def open(self, access: Access) -> "PostgresqlSession":
        refuse_host(self.host)
        verified = (SslMode.VERIFY_FULL, SslMode.VERIFY_CA)
        if self.ssl_mode not in verified and not access.allow_insecure:
            raise Rejected(
                f"sslMode {self.ssl_mode.value} does not verify the server; the operator allows it "
                "only when started with --allow-insecure-endpoints"
            )
        if self.ssl_mode is SslMode.VERIFY_CA and self.ca_certificate is None:
            raise Rejected("sslMode verify-ca needs caCertificate: anyone has a public certificate")
        return PostgresqlSession(access.door, self)


class Name:
    """The name of something in the database, quoted as needed: `Name("public", "docs")`."""

    __slots__ = ("parts",)

    def __init__(self, *parts: str) -> None:
        self.parts = parts


class Sql:
    """A statement, or a part of one. Each `{}` is a Name, another Sql, or a literal."""

    __slots__ = ("args", "template")

    def __init__(self, template: str, *args: "Name | Sql | str | int") -> None:
        self.template, self.args = template, args

    @property
    def label(self) -> str:
        """What the statement does, such as SELECT or CREATE INDEX."""
        words = self.template.split()
        return words[0] if words[0] == "SELECT" else " ".join(words[:2])


@dataclass(slots=True)
class _Work:
    purpose: str
    task: asyncio.Future[None]


class PostgresqlSession(Session):
    """Statements to one database, each of which takes effect as a whole or not at all."""

    def __init__(self, door: Door, connector: PostgresqlConnector) -> None:
        self.door, self.connector = door, connector
        self._idle: list[Connection] = []
        self._exclusive: set[Connection] = set()
        self._room = asyncio.Semaphore(POOL)
        self._work: dict[str, _Work] = {}
        self._authorities: Path | None = None

    async def verify(self) -> Identity:
        (row,) = await self.rows(
            """
            SELECT current_user AS name, CASE WHEN isfinite(rolvaliduntil) THEN to_char(
                rolvaliduntil AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS"Z"') END AS expires_at
            FROM pg_roles WHERE rolname = current_user
            """
        )
        it = self.connector
        return Identity(f"{row['name']}@{it.host}/{it.database}", row["expires_at"])

    async def rows(self, query: str, **params: Any) -> list[Row]:
        """What a query answers; `%(name)s` stands for a parameter."""

        async def ask(connection: "Connection") -> list[Row]:
            cursor = await connection.execute(query, params)
            return await cursor.fetchall()

        return await self._short("SELECT", ask, repeatable=True)

    async def run(self, *statements: Sql) -> None:
        """Statements in one transaction. They give up after 5 s for a lock and 15 s in all."""

        async def act(connection: "Connection") -> None:
            await connection.execute(_composed(statements))

        await self._short(statements[0].label, act, repeatable=False)

    @asynccontextmanager
    async def exclusively(self, key: str) -> AsyncIterator["Exclusive"]:
        """Work that nobody else does at the same time, in whatever process.

        Raises Busy if someone does. Whoever looks sees in pg_locks that it is going on.
        """
        async with AsyncExitStack() as opened:
            async with self.door.call("SELECT") as call:
                with self.failures(call):
                    connection = await self._connect(_PATIENCE)
                    opened.push_async_callback(self._leave, connection)
                    self._exclusive.add(connection)
                    opened.callback(self._exclusive.discard, connection)
                    cursor = await connection.execute(
                        "SELECT pg_try_advisory_lock(%s, %s) AS locked", (LOCKS, lock_of(key))
                    )
                    row = await cursor.fetchone()
                if row is None or not row["locked"]:
                    raise Busy(f"{key} is being worked on by another session of the database")
                call.status = "ok"
            yield Exclusive(self, connection)

    async def in_background(
        self, key: str, purpose: str, work: Callable[[], Awaitable[None]]
    ) -> bool:
        """Start work that may take hours; True if it is done at a glance, False if it goes on.

        Raises its failure: now, or at the next call for the same purpose if it comes later.
        """
        await self._raise_untold(key, purpose)
        await self._room_in_background()
        begun = _Work(purpose, asyncio.ensure_future(work()))
        self._work[key] = begun
        await asyncio.wait({begun.task}, timeout=GLANCE)
        if not begun.task.done():
            # Read here, so that asyncio does not complain of a failure that nobody asks for.
            begun.task.add_done_callback(lambda task: task.cancelled() or task.exception())
            return False
        del self._work[key]
        await begun.task
        return True

    async def _room_in_background(self) -> None:
        """Most work is done at a glance: whoever comes back later instead may be late each time."""
        patience = monotonic() + GLANCE
        while True:
            going_on = {work.task for work in self._work.values() if not work.task.done()}
            if len(going_on) < MOST_IN_BACKGROUND:
                return
            if (left := patience - monotonic()) <= 0:
                raise Busy(f"waits until fewer than {MOST_IN_BACKGROUND} indexes are being built")
            await asyncio.wait(going_on, timeout=left, return_when=asyncio.FIRST_COMPLETED)

    def failure_of(self, key: str) -> Failure | None:
        """How the last work in the background failed, if it did."""
        work = self._work.get(key)
        if work is None or not work.task.done() or work.task.cancelled():
            return None
        error = work.task.exception()
        return error if isinstance(error, Failure) else None

    def forget(self, key: str) -> None:
        """Nobody needs to know any more how the work ended."""
        self._work.pop(key, None)

    async def close(self) -> None:
        """Let go of the server, which finishes the index builds that it has begun."""
        for connection in self._exclusive:
            # Cancelling would end the build. Hung up upon, the server notices only after it.
            with suppress(OSError), socket.socket(fileno=os.dup(connection.fileno())) as line:
                line.shutdown(socket.SHUT_RDWR)
        if tasks := [work.task for work in self._work.values()]:
            _, late = await asyncio.wait(tasks, timeout=GLANCE)
            for task in late:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
        await self._close_idle()
        if self._authorities is not None:
            self._authorities.unlink(missing_ok=True)
            self._authorities = None

    async def _raise_untold(self, key: str, purpose: str) -> None:
        work = self._work.get(key)
        if work is None:
            return
        if not work.task.done():
            raise Busy(f"{key} is being worked on")
        del self._work[key]
        if work.purpose == purpose:
            await work.task

    async def _short(
        self, label: str, act: "Callable[[Connection], Awaitable[T]]", *, repeatable: bool
    ) -> T:
        async with self.door.call(label) as call, self._room:
            with self.failures(call):
                while True:
                    reused = bool(self._idle)
                    connection = self._idle.pop() if reused else await self._connect(_HASTE)
                    try:
                        async with asyncio.timeout(DEADLINE):
                            answer = await act(connection)
                    except BaseException as error:
                        if connection.broken and reused and repeatable and _is_ours(error):
                            # Dropped while idle, as the others probably were: the one retry.
                            await self._close_idle()
                            continue
                        await self._keep(connection)
                        raise
                    await self._keep(connection)
                    call.status = "ok"
                    return answer

    async def _leave(self, connection: "Connection") -> None:
        """The server ends a session some time after it is left, and its locks with it."""
        sdk = _sdk()
        if connection.info.transaction_status is sdk.pq.TransactionStatus.IDLE:
            with suppress(sdk.Error, TimeoutError):
                async with asyncio.timeout(GLANCE):
                    await connection.execute("SELECT pg_advisory_unlock_all()")
        await connection.close()

    async def _keep(self, connection: "Connection") -> None:
        if connection.info.transaction_status is _sdk().pq.TransactionStatus.IDLE:
            self._idle.append(connection)
        else:
            await connection.close()

    @contextmanager
    def failures(self, call: Call) -> Iterator[None]:
        """What the server or the way to it says, as one of our failures."""
        psycopg = _sdk()
        try:
            yield
        except psycopg.Error as error:
            call.status = error.sqlstate or "error"
            raise self._failure(error) from error
        except TimeoutError as error:
            raise Unavailable(f"{self._where} did not answer in time") from error
        except OSError as error:
            raise Unavailable(f"{self._where} cannot be reached") from error

    @property
    def _where(self) -> str:
        return f"database {self.connector.database} at {self.connector.host}"

    def _failure(self, error: "Error") -> Failure:
        state, told = error.sqlstate, error.diag
        if state is None or told.message_primary is None:
            return self._connect_failure(str(error))
        text = told.message_primary
        cls = _BY_STATE.get(state) or _BY_CLASS.get(state[:2], Unavailable)
        if state == "XX000" and "concurrently updated" in text:
            cls = Busy
        if told.message_detail and cls is not Busy:
            # The details of deadlocks and the like name processes: another text each time.
            text = f"{text}; {told.message_detail}"
        if state == "42501":
            text = f"{text} (role {self.connector.user})"
        text = " ".join(text.split())[:LONGEST_REASON]
        return cls(f"{self._where}: {text}")

    def _connect_failure(self, text: str) -> Failure:
        """The first line is the server's; addresses before it may differ each time."""
        text = re.sub(r"^(connection failed: )?(connection to server .*? failed: )?", "", text)
        text = text.partition("\n")[0].removeprefix("FATAL:").strip()[:LONGEST_REASON]
        for words, cls, advice in _CONNECT:
            if re.search(words, text):
                return cls(f"{self._where}: {text}; {advice}")
        return Unavailable(f"{self._where}: {text or 'the connection was dropped'}")

    async def _connect(self, settings: LiteralString) -> "Connection":
        sdk = _sdk()
        it = self.connector
        password = it.password.reveal()
        if not password:
            # libpq would go on to look for one in the operator's own environment.
            raise Unauthorized("password is empty in the connection's Secret")
        await refuse_resolved(it.host)
        connection: Connection = await sdk.AsyncConnection.connect(
            host=it.host,
            port=it.port,
            dbname=it.database,
            user=it.user,
            password=password,
            sslmode=it.ssl_mode.value,
            sslrootcert=self._authorities_file(),
            # The operator's own certificates and tickets are nobody else's.
            sslcertmode="disable",
            gssencmode="disable",
            connect_timeout=max(2, round(seconds(it.connect_timeout))),
            tcp_user_timeout=round(DEADLINE * 1000),
            application_name="auterity",
            autocommit=True,
            prepare_threshold=None,
            row_factory=sdk.rows.dict_row,
        )
        try:
            async with asyncio.timeout(DEADLINE):
                await connection.execute(settings)
            fence()
        except BaseException:
            await connection.close()
            raise
        return connection

    def _authorities_file(self) -> str:
        given = self.connector.ca_certificate
        if given is None:
            # libpq's own default is a folder that psycopg's wheels do not bring.
            return os.environ.get("SSL_CERT_FILE") or certifi.where()
        if self._authorities is None:
            descriptor, path = tempfile.mkstemp(prefix="auterity-", suffix=".pem")
            with os.fdopen(descriptor, "w") as file:
                file.write(given.reveal())
            self._authorities = Path(path)
        return str(self._authorities)

    async def _close_idle(self) -> None:
        idle, self._idle = self._idle, []
        for connection in idle:
            await connection.close()


class Exclusive:
    """A connection on which statements may take hours; see `PostgresqlSession.exclusively`."""

    def __init__(self, session: PostgresqlSession, connection: "Connection") -> None:
        self._session, self._connection = session, connection

    async def run(self, *statements: Sql) -> None:
        """Statements in one transaction; one alone runs outside of any, as CONCURRENTLY asks.

        What takes longer than a glance leaves the door, so that it does not use up the budget.
        """
        async with self._session.door.call(statements[0].label) as call:
            with self._session.failures(call):
                running = asyncio.create_task(self._connection.execute(_composed(statements)))
                await _settled(running, GLANCE)
                if running.done():
                    await running
            call.status = "ok" if running.done() else "running"
        if running.done():
            return
        call = Call(call.method)
        with self._session.failures(call):
            await _settled(running, None)
            await running


async def _settled(task: asyncio.Task[Any], patience: float | None) -> None:
    """Wait for a task; if we are cancelled, so is it."""
    try:
        await asyncio.wait({task}, timeout=patience)
    except asyncio.CancelledError:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        raise


def lock_of(key: str) -> int:
    """The second key of the advisory lock for some work; the first is LOCKS."""
    return crc32(key.encode()) - (1 << 31)


def _composed(statements: Sequence[Sql]) -> "Composed":
    from psycopg import sql

    def part(it: Name | Sql | str | int) -> "Composable":
        if isinstance(it, Name):
            return sql.Identifier(*it.parts)
        if isinstance(it, Sql):
            return sql.SQL(it.template).format(*map(part, it.args))
        return sql.Literal(it)

    return sql.SQL("; ").join(map(part, statements))


def _is_ours(error: BaseException) -> bool:
    return isinstance(error, _sdk().Error)


def _sdk() -> ModuleType:
    try:
        import psycopg
    except ImportError as error:
        raise Rejected("psycopg is missing: install auterity[postgresql]") from error
    return psycopg
