"""Replicas: whose an object is, and that it is never two members' at once."""

import random
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

import pytest

from auterity.engine.cluster import ClusterUnavailable
from auterity.engine.errors import Unavailable
from auterity.runtime.kube import KubeError
from auterity.runtime.shards import DURATION, RENEW, SET, SURE, Members, owner

UIDS = [f"uid-{n}" for n in range(60)]


@dataclass
class Leases:
    """The API server's Leases."""

    held: dict[str, dict[str, Any]] = field(default_factory=dict)
    away: set[str] = field(default_factory=set)
    """Members whose calls do not arrive."""

    def client(self, name: str) -> "Client":
        return Client(self, name)


@dataclass
class Client:
    leases: Leases
    name: str

    async def call(
        self, method: str, path: str, body: dict[str, Any] | None = None, **_: Any
    ) -> dict[str, Any]:
        if self.name in self.leases.away:
            raise ClusterUnavailable("no answer")
        lease = path.rpartition("/leases/")[2]
        held = self.leases.held
        match method:
            case "GET":
                return {"items": [dict(item) for item in held.values()]}
            case "POST":
                assert body is not None
                held[body["metadata"]["name"]] = body
            case "PATCH" if lease in held:
                assert body is not None
                held[lease] = body
            case "DELETE" if lease in held:
                del held[lease]
            case _:
                raise KubeError(404, "not found")
        return {}


class Member:
    """A member with a clock of its own, whose visits last."""

    def __init__(
        self, leases: Leases, name: str, speed: float = 1.0, tells: dict[str, str] | None = None
    ) -> None:
        self.time = 1000.0 * len(name) + random.random() * 50
        self.speed = speed
        self.visiting: dict[str, float] = {}
        self.it = Members(
            leases.client(name),  # type: ignore[arg-type]  # the part of Kube that is used
            "system",
            name,
            drained=self._drained,
            refreshed=self._refreshed,
            changed=lambda: None,
            lost=self._lost,
            tells=tells,
            clock=lambda: self.time,
        )

    async def _drained(self) -> None:
        # A drain ends when the last visit of what falls to others has ended.
        self.visiting = {u: t for u, t in self.visiting.items() if self.it.mine(u)}

    async def _refreshed(self) -> None:
        assert not self.it.acting

    def _lost(self) -> None:
        self.visiting.clear()

    async def tick(self) -> None:
        for act in (self.it._renew, self.it.look, self.it._watch_ourselves):
            try:
                await act()
            except ClusterUnavailable:
                continue

    def acts_on(self) -> set[str]:
        return {uid for uid in UIDS if self.it.acting and self.it.mine(uid)}


async def _join(*members: Member) -> None:
    for _ in range(4):
        for member in members:
            await member.tick()


def test_few_objects_move_when_a_member_comes_or_goes() -> None:
    three = {uid: owner(uid, ["a", "b", "c"]) for uid in UIDS}
    two = {uid: owner(uid, ["a", "b"]) for uid in UIDS}
    assert all(two[uid] == three[uid] for uid in UIDS if three[uid] != "c")
    counts = [list(three.values()).count(name) for name in "abc"]
    assert min(counts) > len(UIDS) / 6


def test_without_members_nobody_owns_anything() -> None:
    assert owner("uid", []) is None


async def test_one_member_acts_on_everything() -> None:
    alone = Member(Leases(), "a")
    await _join(alone)
    assert alone.acts_on() == set(UIDS)


async def test_members_share_all_objects_and_none_twice() -> None:
    leases = Leases()
    members = [Member(leases, name) for name in ("a", "b", "c")]
    await _join(*members)
    parts = [member.acts_on() for member in members]
    assert set.union(*parts) == set(UIDS)
    assert sum(map(len, parts)) == len(UIDS)
    assert all(parts)


async def test_a_newcomer_waits_until_the_others_have_made_way() -> None:
    leases = Leases()
    old = Member(leases, "a")
    await _join(old)
    new = Member(leases, "b")
    await new.tick()
    await new.tick()
    assert not new.acts_on(), "the other does not know of it yet"
    assert old.acts_on() == set(UIDS)
    await old.tick()
    assert set() < old.acts_on() < set(UIDS), "it has made way"
    assert not new.acts_on(), "it has not seen that yet"
    await new.tick()
    assert old.acts_on() | new.acts_on() == set(UIDS)
    assert not old.acts_on() & new.acts_on()


async def test_a_lost_member_is_replaced_after_its_lease() -> None:
    leases = Leases()
    left, lost = Member(leases, "a"), Member(leases, "b")
    await _join(left, lost)
    waited = 0.0
    while left.acts_on() != set(UIDS):
        left.time += RENEW
        waited += RENEW
        await left.tick()
    assert DURATION <= waited < 15


async def test_a_member_that_leaves_is_replaced_at_once() -> None:
    leases = Leases()
    left, gone = Member(leases, "a"), Member(leases, "b")
    await _join(left, gone)
    await gone.it.leave()
    await left.tick()
    assert left.acts_on() == set(UIDS)
    assert not gone.acts_on()


async def test_a_member_is_alone_until_it_sees_another_and_once_that_is_long_gone() -> None:
    leases = Leases()
    old = Member(leases, "a")
    assert not old.it.alone, "it does not know yet"
    await _join(old)
    assert old.it.alone
    new = Member(leases, "b")
    await new.tick()
    assert old.it.alone
    await old.tick()
    assert not old.it.alone
    await _join(old, new)
    assert not old.it.alone
    assert not new.it.alone
    while new.it.name in leases.held:
        assert not old.it.alone, "it may only be paused"
        old.time += RENEW
        await old.tick()
    await old.tick()
    assert old.it.alone


async def test_a_member_that_was_paused_acts_no_more_and_makes_no_call() -> None:
    leases = Leases()
    other, paused = Member(leases, "a"), Member(leases, "b")
    await _join(other, paused)
    paused.visiting["uid-1"] = 1.0
    paused.time += SURE + 0.01
    assert not paused.acts_on()
    with pytest.raises(Unavailable, match="another takes over"):
        paused.it.fence()
    await paused.it._watch_ourselves()
    assert not paused.visiting, "visits in hand are broken off"


async def test_a_member_that_is_cut_off_stops_before_another_begins() -> None:
    leases = Leases()
    other, alone = Member(leases, "a"), Member(leases, "b")
    await _join(other, alone)
    leases.away.add("b")
    for _ in range(40):
        for member in (other, alone):
            member.time += 0.25
        await alone.tick()
        await other.tick()
        assert not other.acts_on() & alone.acts_on()
    assert other.acts_on() == set(UIDS)


class World:
    """Members that come, go, pause and lose touch, with clocks of different speeds."""

    def __init__(self, seed: int) -> None:
        self.chance = random.Random(seed)
        self.leases = Leases()
        self.members: dict[str, Member] = {}
        self.paused: dict[str, float] = {}
        self.due: dict[str, float] = {}
        self.now = 0.0
        self.born = 0
        for _ in range(self.chance.randint(2, 4)):
            self.bear()

    def bear(self) -> None:
        name = f"m{self.born}"
        self.born += 1
        self.members[name] = Member(self.leases, name, self.chance.uniform(0.97, 1.03))
        self.due[name] = self.now

    async def step(self) -> None:
        self.now += 0.1
        for member in self.members.values():
            member.time += 0.1 * member.speed
        await self.mishap()
        for name, member in list(self.members.items()):
            if self.paused.get(name, 0.0) > self.now:
                continue
            self.paused.pop(name, None)
            if self.now >= self.due[name]:
                self.due[name] = self.now + RENEW
                await member.tick()
            else:
                await member.it._watch_ourselves()

    async def mishap(self) -> None:
        event, name = self.chance.random(), self.chance.choice(list(self.members))
        if event < 0.006:
            self.paused[name] = self.now + self.chance.uniform(1, 20)
        elif event < 0.010:
            self.leases.away ^= {name}
        elif event < 0.012 and len(self.members) > 1 and name not in self.paused:
            await self.members.pop(name).it.leave()
        elif event < 0.014:
            self.bear()

    def acting(self) -> list[set[str]]:
        """A paused member does not act: what it finds when it wakes up is what counts."""
        return [member.acts_on() for member in self.present()]

    def present(self) -> list[Member]:
        return [m for n, m in self.members.items() if n not in self.paused]


@pytest.mark.parametrize("seed", range(25))
async def test_whatever_happens_no_object_is_two_members_at_once(seed: int) -> None:
    world = World(seed)
    for _ in range(900):
        await world.step()
        acting = world.acting()
        assert sum(map(len, acting)) == len(set().union(*acting))
        if any(member.it.alone and member.it.acting for member in world.present()):
            assert sum(map(bool, acting)) == 1, "one acts as if there was no other"
    world.leases.away.clear()
    world.paused.clear()
    for _ in range(12):
        for member in world.members.values():
            member.time += RENEW
            await member.tick()
    assert set().union(*(m.acts_on() for m in world.members.values())) == set(UIDS)


@dataclass
class Stale:
    """A client whose first answer to a look lies there while a pause goes by, and more happens."""

    client: Client
    meanwhile: Callable[[], Awaitable[None]] | None

    async def call(self, method: str, *args: Any, **more: Any) -> dict[str, Any]:
        answer = await self.client.call(method, *args, **more)
        if method == "GET" and self.meanwhile is not None:
            meanwhile, self.meanwhile = self.meanwhile, None
            await meanwhile()
        return answer


@pytest.mark.parametrize("renewed", [False, True], ids=["", "renewed before it is read"])
@pytest.mark.parametrize("told_before", [False, True], ids=["", "it tells nothing new"])
async def test_an_answer_from_before_a_pause_proves_nothing(
    renewed: bool,  # noqa: FBT001 - a parameter of the test
    told_before: bool,  # noqa: FBT001 - as above
) -> None:
    leases = Leases()
    other, paused = Member(leases, "a"), Member(leases, "b")
    await _join(other, paused)
    if not told_before:
        await other.tick()

    async def pause() -> None:
        for member in (other, paused):
            member.time += 20.0
        await other.tick()
        await paused.it._watch_ourselves()
        if renewed:
            await paused.it._renew()

    client = Stale(leases.client("b"), pause)
    paused.it._kube = client  # type: ignore[assignment]  # as in Member
    await paused.it.look()
    assert "a" in paused.it.live
    await paused.it._renew()
    assert other.acts_on()
    assert not paused.acts_on() & other.acts_on()
    await _join(paused, other)
    assert paused.acts_on() | other.acts_on() == set(UIDS)
    assert not paused.acts_on() & other.acts_on()


async def test_a_pause_while_others_make_way_breaks_off_what_is_in_hand() -> None:
    leases = Leases()
    paused = Member(leases, "b")
    await _join(Member(leases, "a"), paused)
    paused.it._agreed = False
    paused.visiting["uid-1"] = 1.0
    paused.time += SURE + 0.01
    await paused.it._renew()
    assert not paused.visiting


async def test_a_member_that_left_never_comes_back_by_a_late_renewal() -> None:
    leases = Leases()
    member = Member(leases, "a")
    await _join(member)
    await member.it.leave()
    await member.it._renew()
    assert not leases.held


async def test_a_lease_tells_who_its_member_is_from_its_first_moment() -> None:
    leases = Leases()
    member = Member(leases, "a", tells={"about": "me"})
    for _ in range(3):
        await member.it._renew()
        assert leases.held["a"]["metadata"]["annotations"]["about"] == "me"


@pytest.mark.parametrize("said", ["no JSON", "5", "null", "[[1]]", '{"a": 1}', "[1]"])
async def test_a_lease_that_nobody_can_read_stops_no_member(said: str):
    leases = Leases()
    member = Member(leases, "a")
    await _join(member)
    leases.held["odd"] = {"metadata": {"name": "odd", "annotations": {SET: said}}, "spec": {}}
    await member.it.look()
    assert member.it.live == {"a", "odd"}
    assert not member.it.acting
