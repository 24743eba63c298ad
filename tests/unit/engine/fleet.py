"""Fleet, a vendor in memory that keeps several revisions of a model beside each other."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any, ClassVar

from auterity.api.connection import RateLimit
from auterity.api.fields import SHARED, UNVERSIONED, SecretValue, TextMap
from auterity.api.model_deployment import EnvironmentVariable, ModelDeployment, ModelSource, Scaling
from auterity.api.rollout import Metric, Probe
from auterity.engine.calls import fence
from auterity.engine.contract import (
    Access,
    Answer,
    Connector,
    Identity,
    Measured,
    Observed,
    Phase,
    Provider,
    Revision,
    Session,
    Span,
)
from auterity.engine.errors import Conflict, Rejected, Unauthorized
from tests.conformance.meter import PERCENTILES, Meter, minutes
from tests.conformance.vendor import JSON, Edit, Vendor

TOKEN = "token-Fl83kdmal0"


class FleetParams(ModelDeployment):
    """A model on the fleet."""

    color: str | None = None
    tags: Annotated[TextMap | None, SHARED, UNVERSIONED] = None


@dataclass
class Ship:
    """A revision."""

    fields: JSON
    weight: int = 0
    left: int = 0
    """Looks until it is ready, or has failed."""
    bad: bool = False
    scaling: tuple[int, int] = (1, 1)


@dataclass
class Fleet:
    """A deployment with its revisions."""

    name: str
    owner: str | None
    tags: dict[str, str]
    ships: dict[str, Ship] = field(default_factory=dict)


@dataclass
class Sea:
    """The vendor's side, and what is to go wrong there."""

    fleets: dict[str, Fleet] = field(default_factory=dict)
    calls: list[str] = field(default_factory=list)
    token: str = TOKEN
    slow: bool = False
    looks: int = 0
    """How many looks a new revision takes to be ready."""
    bad: set[str] = field(default_factory=set)
    """Images that never become ready."""
    breaks: bool = False
    """Whether the next revision that is added fails."""
    says: str = "no such image"
    """What is told of a revision that has failed."""
    answers: dict[str, int] = field(default_factory=dict)
    """Status that an image answers probes with; 200 if not here."""
    lowest_serving: int = 100
    """The least share of the traffic that went to ready revisions since one was first ready."""
    meter: Meter = field(default_factory=Meter)
    watch: bool = True
    problems: list[str] = field(default_factory=list)
    """Traffic that was sent where nothing answers, and the like."""

    def serving(self, fleet: Fleet) -> int:
        return sum(s.weight for s in fleet.ships.values() if self.phase(s) is Phase.READY)

    def phase(self, ship: Ship) -> Phase:
        if ship.left > 0:
            return Phase.PENDING
        return Phase.FAILED if ship.bad else Phase.READY


SEAS: dict[str, Sea] = {}


class FleetSession(Session):
    def __init__(self, access: Access, connector: "FleetConnection") -> None:
        self.door, self.sea = access.door, SEAS[connector.address]
        self.token = connector.token

    async def call(self, verb: str, act: Callable[[], Any]) -> Any:
        async with self.door.call(verb) as call:
            fence()
            self.sea.calls.append(verb)
            if self.token.reveal() != self.sea.token:
                raise Unauthorized("the token is refused")
            answer = act()
            call.status = "200"
            return answer

    async def verify(self) -> Identity:
        return Identity(await self.call("GetIdentity", lambda: "acme"))


class FleetConnection(Connector):
    """A sea."""

    vendor = "fleet"
    rate_limit = RateLimit(per_second=10000, burst=10000, concurrent=50)
    address: str
    token: SecretValue

    async def open(self, access: Access) -> Session:
        return FleetSession(access, self)


class FleetDeployment(Provider[FleetParams, FleetSession]):
    """A fleet is made without ships; each revision is one."""

    kind, vendor = "ModelDeployment", "fleet"
    params, connection = FleetParams, FleetConnection
    revisions = True
    probes = True
    measures = frozenset(Metric) - {Metric.LATENCY_P50}

    @property
    def sea(self) -> Sea:
        return self.session.sea

    async def read(self, id: str) -> Observed[FleetParams] | None:
        return await self.session.call("Get", lambda: self._seen(id))

    async def create(self, want: FleetParams, owner: str) -> str:
        def act() -> None:
            if want.name in self.sea.fleets:
                raise Conflict(f"{want.name} exists")
            self.sea.fleets[want.name] = Fleet(want.name, owner, dict(want.tags or {}))

        await self.session.call("create", act)
        return want.name

    async def update(self, id: str, want: FleetParams, changed: frozenset[str], owner: str) -> None:
        def act() -> None:
            fleet = self.sea.fleets[id]
            fleet.owner = owner
            for path in changed:
                name, _, entry = path.partition(".")
                if name == "tags" and entry in (want.tags or {}):
                    fleet.tags[entry] = (want.tags or {})[entry]
                elif name == "tags":
                    fleet.tags.pop(entry, None)
                elif name == "scaling":
                    for ship in fleet.ships.values():
                        ship.scaling = (want.scaling.min, want.scaling.max or want.scaling.min)
                elif self.in_place and len(fleet.ships) == 1:
                    (ship,) = fleet.ships.values()
                    ship.fields = _fields(want)
                else:
                    self.sea.problems.append(f"update of {path}")

        await self.session.call("update", act)

    async def delete(self, id: str) -> None:
        await self.session.call("delete", lambda: self.sea.fleets.pop(id, None))

    async def add_revision(self, id: str, want: FleetParams, owner: str) -> None:
        def act() -> None:
            fleet = self.sea.fleets[id]
            if want.revision in fleet.ships:
                return
            if len(fleet.ships) > 1 and self.sea.watch:
                self.sea.problems.append(f"a third revision was added to {sorted(fleet.ships)}")
            bad = want.model.image in self.sea.bad or self.sea.breaks
            self.sea.breaks = False
            ship = Ship(_fields(want), left=self.sea.looks or int(self.sea.slow), bad=bad)
            ship.scaling = (want.scaling.min, want.scaling.max or want.scaling.min)
            fleet.ships[want.revision] = ship

        await self.session.call("add", act)

    async def set_traffic(self, id: str, weights: Mapping[str, int]) -> None:
        def act() -> None:
            fleet = self.sea.fleets[id]
            if sum(weights.values()) != 100 or set(weights) != set(fleet.ships):
                raise Rejected(f"not all, or not 100: {dict(weights)}")
            if not self.traffic_split and set(weights.values()) - {0, 100}:
                raise Rejected(f"the traffic cannot be divided: {dict(weights)}")
            before = self.sea.serving(fleet)
            for name, weight in weights.items():
                ship = fleet.ships[name]
                if weight > ship.weight and self.sea.phase(ship) is not Phase.READY:
                    self.sea.problems.append(f"{name} gets {weight} and is not ready")
                ship.weight = weight
            if self.sea.serving(fleet) < before:
                self.sea.problems.append(f"fewer are served: {dict(weights)}")

        await self.session.call("shift", act)

    async def remove_revision(self, id: str, revision: str) -> None:
        def act() -> None:
            ship = self.sea.fleets[id].ships.get(revision)
            if ship is not None and ship.weight:
                raise Rejected(f"{revision} still gets {ship.weight} %")
            self.sea.fleets[id].ships.pop(revision, None)

        await self.session.call("remove", act)

    async def probe(self, id: str, request: Probe, revision: str | None) -> Answer:
        def act() -> Answer:
            ships = self.sea.fleets[id].ships
            ship = ships[revision] if revision else max(ships.values(), key=lambda s: s.weight)
            return Answer(self.sea.answers.get(ship.fields["image"], 200), '{"ok": true}')

        return await self.session.call("GetAnswer", act)

    async def measure(
        self, id: str, revision: str, metrics: frozenset[Metric], span: Span
    ) -> Measured:
        def act() -> Measured:
            start, end = span.start.timestamp(), span.end.timestamp()
            flow = self.sea.meter.of(revision, start, end)
            if not flow.requests:
                return Measured()
            told = {Metric.ERROR_RATE: flow.errors, Metric.CLIENT_ERROR_RATE: flow.refused}
            told |= {metric: flow.percentile(p) for metric, p in PERCENTILES.items()}
            count = flow.requests * len(minutes(start, end))
            return Measured(count, {metric: told[metric] for metric in metrics})

        return await self.session.call("GetFigures", act)

    def _seen(self, id: str) -> Observed[FleetParams] | None:
        fleet = self.sea.fleets.get(id)
        if fleet is None:
            return None
        revisions = [self._revision(name, ship) for name, ship in fleet.ships.items()]
        for ship in fleet.ships.values():
            if ship.left and not self.sea.slow:
                ship.left -= 1
        return Observed(
            id=id,
            actual=FleetParams.seen(tags=dict(fleet.tags)),
            owner=fleet.owner,
            outputs={"host": f"{fleet.name}.fleet.example"},
            revisions=revisions,
        )

    def _revision(self, name: str, ship: Ship) -> Revision[FleetParams]:
        least, most = ship.scaling
        return Revision(
            name=name,
            weight=ship.weight,
            phase=self.sea.phase(ship),
            message=self.sea.says if self.sea.phase(ship) is Phase.FAILED else None,
            actual=FleetParams.seen(
                model=ModelSource.told(ship.fields["artifact"], image=ship.fields["image"]),
                color=ship.fields["color"],
                environment=[_variable(k, v) for k, v in ship.fields["environment"].items()],
                scaling=Scaling.model_construct(min=least, max=most),
            ),
        )


def _fields(want: FleetParams) -> JSON:
    return {
        "image": want.model.image,
        "artifact": want.model.reference,
        "color": want.color,
        "environment": {one.name: one.reveal() for one in want.environment},
    }


def _variable(name: str, value: str) -> EnvironmentVariable:
    held = EnvironmentVariable(name=name, value=value)
    held.resolve(value, "")
    return held


class Switched(FleetDeployment):
    """Cannot divide the traffic."""

    traffic_split = False


class InPlace(FleetDeployment):
    """Can also replace what a revision is made of."""

    in_place = True


class Single(FleetDeployment):
    """Has no revisions: everything is brought by `update`."""

    revisions = False
    in_place = True
    probes = False
    measures = frozenset()

    async def create(self, want: FleetParams, owner: str) -> str:
        id = await super().create(want, owner)
        self.sea.fleets[id].ships["one"] = Ship(_fields(want), 100)
        return id

    def _seen(self, id: str) -> Observed[FleetParams] | None:
        if (seen := super()._seen(id)) is None:
            return None
        (one,) = seen.revisions
        actual = one.actual.model_copy(update={"tags": seen.actual.tags})
        return Observed(id=id, actual=actual, owner=seen.owner, outputs=seen.outputs)


class FleetVendor(Vendor):
    """The stand-in: a sea of its own for each test."""

    provider: ClassVar[type[Provider[Any, Any]]] = FleetDeployment
    spec: ClassVar[JSON] = {"model": {"image": "one"}, "fleet": {"tags": {"team": "a"}}}
    edits = (
        Edit("another image", {"model": {"image": "two"}}),
        Edit("scaling", {"scaling": {"min": 2, "max": 4}}),
        Edit("a tag", {"fleet": {"tags": {"team": "b"}}}),
    )
    secrets: ClassVar[dict[str, dict[str, str]]] = {"fleet": {"token": TOKEN}}
    wrong_secrets: ClassVar[dict[str, dict[str, str]]] = {"fleet": {"token": "token-wrong-Xy72n"}}
    has_pending = True

    def __init__(self) -> None:
        self.address = f"fleet-{id(self)}"
        self.sea = SEAS[self.address] = Sea()
        super().__init__()
        self.meter = self.sea.meter

    @property
    def slow(self) -> bool:
        return self.sea.slow

    @slow.setter
    def slow(self, value: bool) -> None:
        self.sea.slow = value

    async def settle(self) -> None:
        for fleet in self.sea.fleets.values():
            for ship in fleet.ships.values():
                ship.left = 0

    async def start(self) -> None:
        pass

    async def stop(self) -> None:
        del SEAS[self.address]

    async def reset(self) -> None:
        self.sea.fleets.clear()

    def connection(self, endpoint: str | None) -> JSON:
        token = {"secretKeyRef": {"name": "fleet", "key": "token"}}
        return {"address": self.address, "token": token}

    async def count(self) -> int:
        return sum(1 + len(fleet.ships) for fleet in self.sea.fleets.values())

    async def tamper(self, id: str) -> str:
        self.sea.fleets[id].tags["team"] = "z"
        return "fleet.tags.team"

    async def vanish(self, id: str) -> None:
        del self.sea.fleets[id]

    async def foreign(self, spec: JSON, name: str, owner: str | None) -> None:
        fields: JSON = {"image": "one", "artifact": None, "color": None, "environment": {}}
        self.sea.fleets[name] = Fleet(name, owner, {"team": "a"}, {"blue": Ship(fields, 100)})

    async def break_next_revision(self) -> None:
        self.sea.breaks = True

    @property
    def violations(self) -> list[str]:
        return self.sea.problems

    def written(self, method: str) -> bool:
        return method not in ("Get", "GetIdentity", "GetAnswer", "GetFigures")


def fleet_of(cls: type[Provider[Any, Any]]) -> FleetVendor:
    """A sea that is kept by another of the providers above."""
    return type("FleetVendor", (FleetVendor,), {"provider": cls})()
