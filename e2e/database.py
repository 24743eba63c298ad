"""A real PostgreSQL with pgvector as a vendor, and a look behind the scenes."""

import secrets

import psycopg
from psycopg import sql

from e2e.api import JSON
from tools.loopback import HOST
from tools.servers.postgres import Postgres

NAME = "chaos"
HELD = """
    SELECT t.relname, array_agg(i.reloptions) FILTER (WHERE a.amname = 'hnsw')
    FROM pg_class t
    JOIN pg_namespace n ON n.oid = t.relnamespace AND n.nspname = 'public'
    LEFT JOIN pg_index x ON x.indrelid = t.oid
    LEFT JOIN pg_class i ON i.oid = x.indexrelid
    LEFT JOIN pg_am a ON a.oid = i.relam
    WHERE t.relkind = 'r'
    GROUP BY t.relname
"""


class Database:
    """One database, owned by a role without special rights."""

    vendor = "pgvector"

    def __init__(self) -> None:
        self.token = secrets.token_urlsafe(16)
        self._server = Postgres()

    def start(self) -> None:
        self._server.start()
        role = sql.SQL("CREATE ROLE {} LOGIN PASSWORD {}")
        self._run("postgres", role.format(sql.Identifier(NAME), sql.Literal(self.token)))
        self._run("postgres", sql.SQL("CREATE DATABASE {0} OWNER {0}").format(sql.Identifier(NAME)))
        self._run(NAME, sql.SQL("CREATE EXTENSION vector"))

    def stop(self) -> None:
        self._server.stop()

    def block(self) -> JSON:
        """The vendor's block of a Connection; its password is in Secret `vendor`."""
        return {
            "postgresql": {
                "host": HOST,
                "port": self._server.port,
                "database": NAME,
                "user": NAME,
                "password": {"secretKeyRef": {"name": "vendor", "key": "token"}},
                "sslMode": "disable",
            }
        }

    def holds(self) -> dict[str, int]:
        """Every table, and the `m` of its one HNSW index. Fails if it has none or several."""
        found: dict[str, int] = {}
        for table, indexes in self._run(NAME, sql.SQL(HELD)):
            assert indexes is not None, f"{table} has no index"
            assert len(indexes) == 1, f"{table} has several indexes: {indexes}"
            found[table] = int(next(o for o in indexes[0] if o.startswith("m="))[2:])
        return found

    def _run(
        self, database: str, statement: sql.SQL | sql.Composed
    ) -> list[tuple[str, list[list[str]]]]:
        with psycopg.connect(self._server.url, dbname=database, autocommit=True) as connection:
            cursor = connection.execute(statement)
            return cursor.fetchall() if cursor.description else []
