"""The real thing: Redis' search and JSON modules 2.10 from a wheel, in a Valkey 9 server."""

import atexit
from functools import cache
from typing import Any, ClassVar

from redis.asyncio import Redis as Client

from auterity.providers.redis.index import MARK, RedisIndex
from tests.conformance.vendor import JSON, Edit, Refusal, Vendor
from tools.loopback import HOST
from tools.servers.redis import Redis as Server

USER, PASSWORD = "auterity", "rS4-wK9-pD2-yH7"
RIGHTS = ("+ft._list", "+ft.info", "+ft.create", "+ft.alter", "+ft.dropindex", "~conformant*")


@cache
def server() -> Server:
    """One server serves all tests of a process."""
    started = Server().start()
    atexit.register(started.stop)
    return started


class Redis(Vendor):
    """The user has no other rights than the documented ones."""

    provider = RedisIndex
    takes_time = True
    spec: ClassVar[JSON] = {
        "dimension": 384,
        "metric": "dotProduct",
        "redis": {
            "documents": "json",
            "language": "german",
            "stopwords": ["und", "der", "die"],
            "vectorName": "body",
            "dataType": "float64",
            "hnsw": {"m": 24, "efConstruction": 128, "efRuntime": 20},
            "fields": {
                "title": {"type": "text", "weight": 2.5, "noStem": True},
                "tags": {"type": "tag", "path": "$.labels[*]", "caseSensitive": True},
                "year": {"type": "numeric", "sortable": True},
            },
        },
    }
    edits = (
        # The first is one that can be undone: Redis keeps every field that it is given.
        Edit("a field no longer declared", {"redis": {"fields": {"year": None}}}),
        Edit("a field added", {"redis": {"fields": {"place": {"type": "geo"}}}}),
        Edit(
            "two fields added",
            {
                "redis": {
                    "fields": {
                        "area": {"type": "geoshape"},
                        "stage": {"type": "tag", "separator": "|", "sortable": True},
                    }
                }
            },
        ),
        Edit("no fields declared", {"redis": {"fields": None}}),
        Edit("less of the graph declared", {"redis": {"hnsw": None}}),
    )
    immutable: ClassVar[JSON] = {"dimension": 768, "redis": {"hnsw": {"m": 8}}}
    refusal = Refusal({"redis": {"language": "klingon"}}, "Invalid language")
    secrets: ClassVar[dict[str, dict[str, str]]] = {"redis": {"password": PASSWORD}}
    wrong_secrets: ClassVar[dict[str, dict[str, str]]] = {"redis": {"password": "wrong-bN6-cT1-x"}}

    @classmethod
    def missing(cls) -> str | None:
        return Server.available()

    async def start(self) -> None:
        self.server = server()
        self.client = Client.from_url(self.server.url, protocol=2, decode_responses=True)
        await self.ask("ACL", "SETUSER", USER, "reset", "on", f">{PASSWORD}", *RIGHTS)

    async def stop(self) -> None:
        await self.reset()
        await self.client.aclose()

    async def reset(self) -> None:
        self.slow = False
        await self.ask("FLUSHALL")

    def connection(self, endpoint: str | None) -> JSON:
        return {
            "host": HOST,
            "port": self.server.port,
            "user": USER,
            "password": {"secretKeyRef": {"name": "redis", "key": "password"}},
            "tls": False,
        }

    async def count(self) -> int:
        """Indexes, their fields, and keys."""
        names = await self.ask("FT._LIST")
        fields = [len((await self.info(name))["attributes"]) for name in names]
        return len(names) + sum(fields) + int(await self.ask("DBSIZE"))

    async def tamper(self, id: str) -> str:
        (mark,) = [f[3] for f in (await self.info(id))["attributes"] if f[3].startswith(MARK)]
        await self.vanish(id)
        await self.make(id, mark.removeprefix(MARK).partition(" ")[0], "tags")
        return "fields.tags"

    async def vanish(self, id: str) -> None:
        await self.ask("FT.DROPINDEX", id)

    async def foreign(self, spec: JSON, name: str, owner: str | None) -> None:
        await self.make(name, owner, "title", "tags", "year")

    async def make(self, name: str, owner: str | None, *without: str) -> None:
        """An index as an outsider makes it, with some of the declared fields left out."""
        fields = {
            "title": ["$.title", "AS", "title", "TEXT", "NOSTEM", "WEIGHT", "2.5"],
            "tags": ["$.labels[*]", "AS", "tags", "TAG", "CASESENSITIVE"],
            "year": ["$.year", "AS", "year", "NUMERIC", "SORTABLE"],
        }
        schema = [word for field, words in fields.items() if field not in without for word in words]
        options: list[str | int] = ["TYPE", "FLOAT64", "DIM", 384, "DISTANCE_METRIC", "IP"]
        options += ["M", 24, "EF_CONSTRUCTION", 128]
        if owner is not None:
            schema += ["$.__auterity", "AS", f"{MARK}{owner} body", "TAG", "NOINDEX"]
        head: list[str | int] = ["FT.CREATE", name, "ON", "JSON", "PREFIX", 1, f"{name}:"]
        head += ["LANGUAGE", "german", "STOPWORDS", 3, "der", "die", "und", "SCHEMA"]
        head += ["$.body", "AS", "body", "VECTOR", "HNSW", len(options), *options]
        await self.ask(*head, *schema)

    async def info(self, name: str) -> JSON:
        told = await self.ask("FT.INFO", name)
        return dict(zip(told[::2], told[1::2], strict=True))

    async def ask(self, *words: str | int) -> Any:
        """A command of an outsider."""
        return await self.client.execute_command(*words)
