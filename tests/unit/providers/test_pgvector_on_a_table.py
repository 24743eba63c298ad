"""The whole conformance suite once more, for an index on a table that is somebody else's."""

from collections.abc import AsyncIterator
from typing import Any, ClassVar

import psycopg
import pytest

from tests.conformance.harness import Harness
from tests.conformance.test_conformance import *  # noqa: F403 - every test of the suite
from tests.conformance.vendor import JSON, Edit
from tests.fakes.pgvector import DATABASE, ROLE, Pgvector

# Concerns the catalogue, not a vendor.
del test_every_provider_has_a_stand_in_and_every_stand_in_a_provider  # noqa: F821 - imported above
# Are about runs, which an index is not.
del test_a_run_that_vanished_is_not_repeated  # noqa: F821 - imported above
del test_a_run_is_stopped_when_it_is_let_go_of  # noqa: F821 - imported above


class PgvectorOnATable(Pgvector):
    spec: ClassVar[JSON] = {
        "dimension": 3,
        "metric": "euclidean",
        "pgvector": {"schema": "app", "table": "documents", "column": "place"},
    }
    edits = (
        Edit("declared connections", {"pgvector": {"hnsw": {"m": 12}}}),
        Edit("another method", {"pgvector": {"method": "ivfflat", "ivfflat": {"lists": 3}}}),
    )
    immutable: ClassVar[JSON] = {"pgvector": {"column": "other"}}
    has_pending = True

    _user: psycopg.Connection[Any] | None = None
    _slow = False

    async def reset(self) -> None:
        self._leave()
        await super().reset()
        await self.ask(
            f"CREATE SCHEMA app AUTHORIZATION {ROLE}",
            "CREATE TABLE app.documents (place vector(3), other vector(3), title text)",
            f"ALTER TABLE app.documents OWNER TO {ROLE}",
            "COMMENT ON TABLE app.documents IS 'of the shop'",
            "INSERT INTO app.documents SELECT ARRAY[n, n % 7, 1]::vector, NULL, 'document ' || n "
            "FROM generate_series(1, 200) n",
        )

    async def stop(self) -> None:
        self._leave()
        await super().stop()

    @property
    def slow(self) -> bool:
        """While somebody has written and not committed, no index is built concurrently."""
        return self._slow

    @slow.setter
    def slow(self, slow: bool) -> None:
        self._slow = slow
        if slow:
            self._user = psycopg.connect(self.server.url, dbname=DATABASE)
            self._user.execute("INSERT INTO app.documents (title) VALUES ('draft')")

    async def tamper(self, id: str) -> str:
        name = id.rpartition(".")[2]
        await self.ask(
            f"DROP INDEX app.{name}",
            f"CREATE INDEX {name} ON app.documents "
            "USING ivfflat (place vector_l2_ops) WITH (lists = 31)",
            f"COMMENT ON INDEX app.{name} IS 'auterity: testcluster/team/conformant'",
        )
        return "method"

    async def vanish(self, id: str) -> None:
        await self.ask(f"DROP INDEX app.{id.rpartition('.')[2]}")

    async def foreign(self, spec: JSON, name: str, owner: str | None) -> None:
        await self.ask(f"CREATE INDEX {name} ON app.documents USING ivfflat (place vector_l2_ops)")
        if owner is not None:
            await self.ask(f"COMMENT ON INDEX app.{name} IS 'auterity: {owner}'")

    async def settle(self) -> None:
        if not self.slow:
            self._leave()

    def _leave(self) -> None:
        if self._user is not None:
            self._user.close()
            self._user = None


@pytest.fixture
async def harness() -> AsyncIterator[Harness]:
    if (reason := PgvectorOnATable.missing()) is not None:
        pytest.skip(reason)
    vendor = PgvectorOnATable()
    await vendor.start()
    try:
        await vendor.reset()
        it = Harness(vendor)
        await it.start()
        try:
            yield it
        finally:
            await it.stop()
    finally:
        await vendor.stop()
