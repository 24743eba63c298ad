"""Shelf, a vendor in memory: it keeps what it is given, or misbehaves as a test asks."""

from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Annotated, Any, ClassVar

from pydantic import Field, SecretStr

from auterity.api.connection import RateLimit
from auterity.api.fields import (
    DESTRUCTIVE,
    SHARED,
    WRITE_ONLY,
    Keyed,
    LongText,
    Model,
    SecretValue,
    TextMap,
    Value,
)
from auterity.api.vector_index import VectorIndex
from auterity.engine.contract import Access, Connector, Identity, Observed, Phase, Provider, Session
from auterity.engine.errors import Conflict, Unauthorized
from tests.conformance.vendor import JSON, Vendor

TOKEN = "token-Xw83kdmal0"
PASSWORD = "passwd-Pq72mxlaw4"


class Variable(Model):
    """An environment variable."""

    name: str
    value: Value


class ShelfIndexParams(VectorIndex):
    """An index on the shelf."""

    replicas: int = 1
    tier: Annotated[str | None, DESTRUCTIVE] = None
    note: LongText | None = None
    tags: Annotated[TextMap | None, SHARED] = None
    labels: TextMap | None = None
    password: Annotated[SecretValue | None, WRITE_ONLY] = None
    script: Annotated[LongText | None, WRITE_ONLY] = None
    variables: Annotated[list[Variable], Keyed("name")] = Field(default_factory=list)
    peer: Value | None = None


@dataclass
class Thing:
    """What stands on the shelf."""

    name: str
    fields: JSON
    owner: str | None = None
    phase: Phase = Phase.READY


@dataclass
class World:
    """The vendor's side, and what is to go wrong there."""

    things: dict[str, Thing] = field(default_factory=dict)
    calls: list[str] = field(default_factory=list)
    """Every call as `verb id`, in order."""
    trouble: dict[str, list[BaseException]] = field(default_factory=dict)
    """Failures to raise, by verb: one a call, before anything is done."""
    lost: dict[str, list[BaseException]] = field(default_factory=dict)
    """Failures to raise after the verb was done."""
    before: dict[str, Callable[[], None]] = field(default_factory=dict)
    """Runs just before a verb, once: what others do at that moment."""
    forgetful: set[str] = field(default_factory=set)
    """Fields that it does not keep."""
    once: dict[str, str] = field(default_factory=dict)
    """Secrets that it tells only in the answer to create."""
    phase: Phase = Phase.READY
    """The phase of what is created or updated."""
    message: str | None = None
    made: int = 0
    opened: int = 0
    closed: int = 0
    token: str = TOKEN
    own_ids: bool = False
    """Whether ids are the vendor's own, or the names."""

    def stop(self, verb: str) -> None:
        self.trouble.setdefault(verb, [])
        if self.trouble[verb]:
            raise self.trouble[verb].pop(0)

    def lose(self, verb: str) -> None:
        if self.lost.get(verb):
            raise self.lost[verb].pop(0)

    def put(self, name: str, owner: str | None = None, **fields: Any) -> str:
        """Put a thing on the shelf as anybody could."""
        self.made += 1
        id = f"id-{self.made}" if self.own_ids else name
        known = {"dimension": 8, "metric": "cosine", "replicas": 1, "tags": {}, "labels": {}}
        self.things[id] = Thing(name, {**known, **fields}, owner, self.phase)
        return id


WORLDS: dict[str, World] = {}
"""By the address of the connection."""


class ShelfSession(Session):
    def __init__(self, access: Access, connector: "ShelfConnection") -> None:
        self.door, self.connector = access.door, connector
        self.world = WORLDS[connector.address]
        self.world.opened += 1

    async def call(self, verb: str, id: str, act: Callable[[], Any]) -> Any:
        world = self.world
        async with self.door.call(verb) as call:
            world.calls.append(f"{verb} {id}".strip())
            if (happening := world.before.pop(verb, None)) is not None:
                happening()
            world.stop(verb)
            if self.connector.token.reveal() != world.token:
                raise Unauthorized(f"the vendor refuses {self.connector.token.reveal()}")
            answer = act()
            call.status = "200"
            world.lose(verb)
            return answer

    async def verify(self) -> Identity:
        return Identity(await self.call("whoami", "", lambda: "acme"))

    async def close(self) -> None:
        self.world.closed += 1


class ShelfConnection(Connector):
    """A shelf."""

    vendor = "shelf"
    rate_limit = RateLimit(per_second=10000, burst=10000, concurrent=50)
    address: str
    token: SecretValue

    async def open(self, access: Access) -> Session:
        return ShelfSession(access, self)


class ShelfIndex(Provider[ShelfIndexParams, ShelfSession]):
    """An index on the shelf: name and id are the same unless the world has own ids."""

    kind, vendor = "VectorIndex", "shelf"
    params, connection = ShelfIndexParams, ShelfConnection

    @property
    def world(self) -> World:
        return self.session.world

    async def locate(self, want: ShelfIndexParams) -> str | None:
        if not self.findable:
            return None
        if not self.world.own_ids:
            return want.name
        found = [id for id, thing in self.world.things.items() if thing.name == want.name]
        return found[0] if found else None

    async def read(self, id: str) -> Observed[ShelfIndexParams] | None:
        return await self.session.call("get", id, lambda: self._seen(id))

    async def read_all(self) -> AsyncIterator[Observed[ShelfIndexParams]]:
        for seen in await self.session.call(
            "list", "", lambda: [self._seen(id) for id in self.world.things]
        ):
            yield seen

    async def create(self, want: ShelfIndexParams, owner: str) -> Observed[ShelfIndexParams] | str:
        def act() -> str:
            taken = {thing.name for thing in self.world.things.values()}
            if want.name in taken and not self.world.own_ids:
                raise Conflict(f"{want.name} exists")
            return self.world.put(want.name, owner if self.marks_owner else None)

        id = await self.session.call("create", want.name, act)
        self._keep(id, want, frozenset(type(want).model_fields))
        if not self.world.once:
            return id
        seen = self._seen(id)
        assert seen is not None
        return replace(seen, secrets={k: SecretStr(v) for k, v in self.world.once.items()})

    async def update(
        self, id: str, want: ShelfIndexParams, changed: frozenset[str], owner: str
    ) -> None:
        def act() -> None:
            thing = self.world.things[id]
            self._keep(id, want, changed)
            thing.owner = owner if self.marks_owner else None
            thing.phase = self.world.phase

        await self.session.call("update", f"{id}: {','.join(sorted(changed))}", act)

    async def delete(self, id: str) -> None:
        await self.session.call("delete", id, lambda: self.world.things.pop(id, None))

    def _keep(self, id: str, want: ShelfIndexParams, changed: frozenset[str]) -> None:
        fields = self.world.things[id].fields
        for path in changed:
            name, _, entry = path.partition(".")
            if name in self.world.forgetful or name == "name":
                continue
            value = getattr(want, name)
            if name in {"password", "peer"}:
                fields[name] = value.reveal() if value else None
            elif name == "variables":
                fields[name] = {one.name: one.value.reveal() for one in value}
            elif entry:
                held = fields.setdefault(name, {})
                if entry in (value or {}):
                    held[entry] = value[entry]
                else:
                    held.pop(entry, None)
            elif name in ("tags", "labels"):
                fields[name] = {**fields.get(name, {}), **(value or {})}
            else:
                fields[name] = value

    def _seen(self, id: str) -> Observed[ShelfIndexParams] | None:
        thing = self.world.things.get(id)
        if thing is None:
            return None
        told = {k: v for k, v in thing.fields.items() if k not in ("password", "script", "peer")}
        if (peer := thing.fields.get("peer")) is not None:
            told["peer"] = Value(value=peer)
            told["peer"].resolve(peer, "")
        if "variables" in told:
            told["variables"] = [_variable(k, v) for k, v in told["variables"].items()]
        return Observed(
            id=id,
            actual=ShelfIndexParams.seen(**told),
            phase=thing.phase,
            owner=thing.owner,
            outputs={"host": f"{thing.name}.shelf.example"},
            message=self.world.message,
        )


def _variable(name: str, value: str) -> Variable:
    held = Value(value=value)
    held.resolve(value, "")
    return Variable(name=name, value=held)


class Unmarked(ShelfIndex):
    """Cannot carry a mark, but can be found by name."""

    marks_owner = False


class Unfindable(ShelfIndex):
    """Can neither carry a mark nor be found without its id."""

    marks_owner = False
    findable = False


class Listing(ShelfIndex):
    """Can list."""

    lists = True


class Fussy(ShelfIndex):
    """One that would take it, and then keep nothing of it."""

    @classmethod
    def objections(cls, want: ShelfIndexParams) -> Mapping[str, str]:
        found = {} if want.name.islower() else {"name": "it takes no capitals"}
        return found if want.note != "no" else {**found, "note": "it takes no such note"}


class Shelf(Vendor):
    """The stand-in: a world of its own for each test."""

    provider: ClassVar[type[Provider[Any, Any]]] = ShelfIndex
    spec: ClassVar[JSON] = {"dimension": 8, "shelf": {"replicas": 1}}
    secrets: ClassVar[dict[str, dict[str, str]]] = {
        "shelf": {"token": TOKEN},
        "inside": {"password": PASSWORD},
    }

    def __init__(self) -> None:
        super().__init__()
        self.address = f"shelf-{id(self)}"
        self.world = WORLDS[self.address] = World()

    async def start(self) -> None:
        pass

    async def stop(self) -> None:
        del WORLDS[self.address]

    async def reset(self) -> None:
        self.world.things.clear()

    def connection(self, endpoint: str | None) -> JSON:
        return {
            "address": self.address,
            "token": {"secretKeyRef": {"name": "shelf", "key": "token"}},
        }

    async def count(self) -> int:
        return len(self.world.things)

    async def tamper(self, id: str) -> str:
        self.world.things[id].fields["replicas"] = 9
        return "replicas"

    async def vanish(self, id: str) -> None:
        del self.world.things[id]

    async def foreign(self, spec: JSON, name: str, owner: str | None) -> None:
        self.world.put(name, owner)

    def written(self, method: str) -> bool:
        return method not in ("get", "list", "whoami")


def shelf_of(cls: type[Provider[Any, Any]]) -> Shelf:
    """A shelf that is kept by another of the providers above."""
    return type("Shelf", (Shelf,), {"provider": cls})()
