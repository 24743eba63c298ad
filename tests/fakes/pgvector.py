"""The real thing: PostgreSQL 18 with pgvector 0.8 from a wheel, as of 2026-07."""

import atexit
from collections.abc import Sequence
from functools import cache
from typing import Any, ClassVar

import psycopg
from psycopg import sql
from psycopg.rows import dict_row

from auterity.providers.pgvector.index import PgvectorIndex
from tests.conformance.vendor import JSON, Edit, Refusal, Vendor
from tools.loopback import HOST
from tools.servers.postgres import Postgres

ROLE, PASSWORD = "auterity", "sQ7-vT2-pL9-xM4"
DATABASE = "conformance"


@cache
def server() -> Postgres:
    """One server serves all tests of a process; each has a database of its own."""
    started = Postgres().start()
    atexit.register(started.stop)
    return started


class Pgvector(Vendor):
    """A role without special rights owns the database."""

    provider = PgvectorIndex
    takes_time = True
    spec: ClassVar[JSON] = {
        "dimension": 3,
        "metric": "cosine",
        "pgvector": {"hnsw": {"m": 8, "efConstruction": 32}},
    }
    edits: ClassVar[Sequence[Edit]] = (
        Edit("more connections", {"pgvector": {"hnsw": {"m": 12}}}),
        Edit("a wider search", {"pgvector": {"hnsw": {"efConstruction": 100}}}),
        Edit("nothing declared", {"pgvector": {"hnsw": None}}),
        Edit(
            "another method",
            {"pgvector": {"method": "ivfflat", "hnsw": None, "ivfflat": {"lists": 7}}},
        ),
    )
    immutable: ClassVar[JSON] = {"dimension": 4}
    refusal = Refusal(
        {"pgvector": {"hnsw": {"m": 40}}}, "ef_construction must be greater than or equal to 2 * m"
    )
    secrets: ClassVar[dict[str, dict[str, str]]] = {"postgresql": {"password": PASSWORD}}
    wrong_secrets: ClassVar[dict[str, dict[str, str]]] = {
        "postgresql": {"password": "wrong-kR3-zB8-wN6"}
    }

    @classmethod
    def missing(cls) -> str | None:
        return Postgres.available()

    async def start(self) -> None:
        self.server = server()
        await self.ask(
            f"DROP DATABASE IF EXISTS {DATABASE} WITH (FORCE)",
            f"DROP ROLE IF EXISTS {ROLE}",
            f"CREATE ROLE {ROLE} LOGIN PASSWORD '{PASSWORD}' VALID UNTIL '2031-01-01Z'",
            database="postgres",
        )

    async def stop(self) -> None:
        await self.ask(f"DROP DATABASE IF EXISTS {DATABASE} WITH (FORCE)", database="postgres")

    async def reset(self) -> None:
        self.slow = False
        await self.ask(
            f"DROP DATABASE IF EXISTS {DATABASE} WITH (FORCE)",
            f"CREATE DATABASE {DATABASE} OWNER {ROLE}",
            database="postgres",
        )
        await self.ask("CREATE EXTENSION vector")

    def connection(self, endpoint: str | None) -> JSON:
        return {
            "host": HOST,
            "port": self.server.port,
            "database": DATABASE,
            "user": ROLE,
            "password": {"secretKeyRef": {"name": "postgresql", "key": "password"}},
            "sslMode": "disable",
        }

    async def count(self) -> int:
        """Relations, and comments on them, of every schema but the server's own."""
        (row,) = await self.ask(
            """SELECT count(*) + count(d.description) AS held FROM pg_class c
            JOIN pg_namespace n ON n.oid = c.relnamespace
            LEFT JOIN pg_description d ON d.objoid = c.oid AND d.classoid = 'pg_class'::regclass
            WHERE n.nspname NOT LIKE 'pg\\_%' AND n.nspname <> 'information_schema'"""
        )
        return int(row["held"])

    async def tamper(self, id: str) -> str:
        await self.ask(
            f"DROP INDEX {id}_index",
            f"CREATE INDEX {id.partition('.')[2]}_index ON {id} "
            "USING hnsw (embedding vector_cosine_ops) WITH (m = 31, ef_construction = 64)",
        )
        return "hnsw.m"

    async def vanish(self, id: str) -> None:
        await self.ask(f"DROP TABLE {id}")

    async def foreign(self, spec: JSON, name: str, owner: str | None) -> None:
        await self.ask(
            f"CREATE TABLE {name} (id uuid PRIMARY KEY, embedding vector({spec['dimension']}))",
            f"ALTER TABLE {name} OWNER TO {ROLE}",
            f"INSERT INTO {name} VALUES (gen_random_uuid(), '[1,2,3]')",
        )
        if owner is not None:
            await self.ask(f"COMMENT ON TABLE {name} IS 'auterity: {owner}'")

    async def ask(self, *statements: str, database: str = DATABASE) -> list[dict[str, Any]]:
        """Statements of an outsider; what the last one answers."""
        opened = await psycopg.AsyncConnection.connect(
            self.server.url, dbname=database, autocommit=True, row_factory=dict_row
        )
        async with opened as connection:
            for statement in statements:
                cursor = await connection.execute(sql.SQL(statement))
            return await cursor.fetchall() if cursor.description else []
