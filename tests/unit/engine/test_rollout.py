"""The algorithm alone: whatever happens at the vendor, it gets home, and nobody goes unserved."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from auterity.api.rollout import Rollout
from auterity.engine import rollout
from auterity.engine.contract import Phase
from auterity.engine.rollout import Position, Seen, Stage, choose, decide, stages

T0 = datetime(2026, 1, 1, tzinfo=UTC)
WAYS: dict[str, dict[str, Any]] = {
    "Rolling": {},
    "Canary": {"steps": [{"weight": 5, "pause": "1m"}, {"weight": 40}, {"weight": 80}]},
    "BlueGreen": {"preview": "1m", "keepOld": "1m"},
}
NAMES = st.sampled_from(["r-a", "r-b", "r-c"])
EVENTS = st.lists(
    st.one_of(
        st.tuples(st.just("edit"), NAMES),
        st.tuples(st.just("fails"), NAMES),
        st.tuples(st.just("heals"), NAMES),
        st.tuples(st.just("forget"), st.just("")),
        st.tuples(st.just("vanishes"), NAMES),
        st.tuples(st.just("stray"), st.sampled_from(["x", "y"])),
        st.tuples(st.just("step"), st.sampled_from(["", "lost"])),
    ),
    max_size=40,
)


class World:
    """A vendor that does what it is told, the status, and the clock."""

    def __init__(self, way: tuple[Stage, ...]) -> None:
        self.way = way
        self.revisions = {"r-a": Seen("r-a", 100, Phase.READY)}
        self.position: Position | None = Position("r-a", "r-a")
        self.target, self.generation, self.now = "r-a", 1, T0
        self.bad: set[str] = set()

    @property
    def serving(self) -> int:
        return sum(r.weight for r in self.revisions.values() if r.phase is Phase.READY)

    def seen(self) -> list[Seen]:
        return list(self.revisions.values())

    def start(self) -> None:
        """What was starting is ready by now, or has failed."""
        for name, one in self.revisions.items():
            if one.phase is Phase.PENDING:
                phase = Phase.FAILED if name in self.bad else Phase.READY
                self.revisions[name] = replace(one, phase=phase)

    def step(self, *, lost: bool = False) -> rollout.Decision:
        """One decision, carried out; `lost`: the operator dies before it can tell of it."""
        self.now += timedelta(minutes=2)
        self.start()
        served, position = self.serving, self.position
        decision = decide(
            self.position,
            self.seen(),
            target=self.target,
            way=self.way,
            generation=self.generation,
            now=self.now,
        )
        if isinstance(decision, rollout.Gate) and not decision.left:
            decision = decision.onward
        match decision:
            case rollout.Move(position=moved):
                self.position = moved
            case rollout.Add():
                news = [n for n in self.revisions if n != getattr(position, "stable", None)]
                assert len(news) <= 1, f"{self.target} is added to {list(self.revisions)}"
                weight = 100 if not self.revisions else 0
                self.revisions[self.target] = Seen(self.target, weight, Phase.PENDING)
            case rollout.Shift(weights=weights):
                self.shift(weights)
            case rollout.Remove(name=name):
                assert not self.revisions[name].weight, f"{name} is removed with its traffic"
                del self.revisions[name]
            case rollout.Broken(message=message, back=True):
                self.position = rollout.fail(self.position, self.target, self.generation, message)
            case rollout.Done():
                self.position = Position(self.target, self.target)
        assert self.serving >= min(served, 1), f"{decision} leaves nobody to serve"
        if lost:
            self.position = position
        return decision

    def shift(self, weights: dict[str, int]) -> None:
        assert set(weights) == set(self.revisions), weights
        assert sum(weights.values()) == 100, weights
        for name, weight in weights.items():
            one = self.revisions[name]
            if weight > one.weight:
                assert one.phase is Phase.READY, f"{name} gets {weight} % and is {one.phase}"
            self.revisions[name] = replace(one, weight=weight)

    def happen(self, event: str, name: str) -> None:  # noqa: C901 - one case an event
        match event:
            case "edit":
                self.target, self.generation = name, self.generation + 1
            case "fails" if name != self.best():
                self.bad.add(name)
                if name in self.revisions:
                    self.revisions[name] = replace(self.revisions[name], phase=Phase.FAILED)
            case "heals":
                self.bad.discard(name)
                if name in self.revisions:
                    self.revisions[name] = replace(self.revisions[name], phase=Phase.READY)
            case "vanishes" if name != self.best():
                self.revisions.pop(name, None)
                left = sum(one.weight for one in self.revisions.values())
                if left != 100:
                    # As vendors do: the rest is for those that are left.
                    best = self.best()
                    weight = self.revisions[best].weight + 100 - left
                    self.revisions[best] = replace(self.revisions[best], weight=weight)
            case "forget":
                self.position = None
            case "stray" if len(self.revisions) < 4:
                self.revisions[name] = Seen(name, 0, Phase.READY)
            case "step":
                self.step(lost=name == "lost")

    def best(self) -> str:
        """What serves most: it would be no test of ours to break that."""
        return max(self.seen(), key=lambda r: (r.phase is Phase.READY, r.weight)).name

    def settle(self) -> rollout.Decision:
        """Go on until nothing more is to be done."""
        for _ in range(80):
            decision = self.step()
            resting = rollout.Done | rollout.GoneBack
            if isinstance(decision, resting) or (
                isinstance(decision, rollout.Broken) and not decision.back
            ):
                return decision
        raise AssertionError(f"still {decision} at {self.position} with {self.seen()}")


@pytest.mark.parametrize("strategy", WAYS)
@given(events=EVENTS)
def test_whatever_happens_it_gets_home_and_somebody_always_serves(
    strategy: str, events: list[tuple[str, str]]
):
    world = World(stages(Rollout(strategy=strategy, **WAYS[strategy])))
    for event, name in events:
        world.happen(event, name)
    world.bad.clear()
    for name in list(world.revisions):
        world.happen("heals", name)
    world.target, world.generation = "r-d", world.generation + 1
    assert isinstance(world.settle(), rollout.Done)
    assert [(r.name, r.weight) for r in world.seen()] == [("r-d", 100)]


@pytest.mark.parametrize("strategy", WAYS)
@given(lost=st.lists(st.booleans(), max_size=30))
def test_a_bad_revision_leaves_the_one_before_whatever_is_lost(strategy: str, lost: list[bool]):
    world = World(stages(Rollout(strategy=strategy, **WAYS[strategy])))
    world.bad.add("r-b")
    world.happen("edit", "r-b")
    for one in lost:
        world.step(lost=one)
    assert isinstance(world.settle(), rollout.GoneBack)
    assert [(r.name, r.weight) for r in world.seen()] == [("r-a", 100)]
    assert isinstance(world.step(), rollout.GoneBack), "it is not tried again"
    world.happen("edit", "r-b")
    world.bad.clear()
    assert isinstance(world.settle(), rollout.Done)


def weights_of(world: World, name: str) -> list[int]:
    """The weights that a revision has on its way home."""
    found: list[int] = []
    while not isinstance(world.step(), rollout.Done):
        if name in world.revisions and found[-1:] != [world.revisions[name].weight]:
            found.append(world.revisions[name].weight)
    return found


def test_a_canary_takes_every_step():
    world = World(stages(Rollout(strategy="Canary", **WAYS["Canary"])))
    world.happen("edit", "r-b")
    assert weights_of(world, "r-b") == [0, 5, 40, 80, 100]


def test_going_back_to_what_served_takes_no_steps():
    world = World(stages(Rollout(strategy="Canary", **WAYS["Canary"])))
    world.happen("edit", "r-b")
    while world.revisions.get("r-b", Seen("", 0, Phase.READY)).weight < 40:
        world.step()
    world.happen("edit", "r-a")
    assert weights_of(world, "r-a") == [100]
    assert list(world.revisions) == ["r-a"]


def test_beside_a_broken_revision_no_steps_are_taken():
    world = World(stages(Rollout(strategy="Canary", **WAYS["Canary"])))
    world.revisions["r-a"] = replace(world.revisions["r-a"], phase=Phase.FAILED)
    world.happen("edit", "r-b")
    assert weights_of(world, "r-b") == [0, 100]


def test_other_steps_in_the_middle_never_jump_ahead():
    way = stages(Rollout(strategy="Canary", steps=[{"weight": 10}, {"weight": 20}]))
    world = World(way)
    world.happen("edit", "r-b")
    while world.revisions.get("r-b", Seen("", 0, Phase.READY)).weight < 20:
        world.step()
    world.way = stages(Rollout(strategy="Canary", steps=[{"weight": 15}, {"weight": 60}]))
    assert weights_of(world, "r-b") == [20, 15, 60, 100]


def test_a_pause_is_reckoned_from_when_the_step_was_reached():
    way = stages(Rollout(strategy="Canary", steps=[{"weight": 10, "pause": "10m"}]))
    seen = [Seen("r-a", 90, Phase.READY), Seen("r-b", 10, Phase.READY)]
    position = Position("r-b", "r-a", (0, 10, 100), 1, since=T0)
    at = T0 + timedelta(minutes=4)
    found = decide(position, seen, target="r-b", way=way, generation=2, now=at)
    assert isinstance(found, rollout.Gate)
    assert found.left == timedelta(minutes=6)


def test_approval_is_asked_before_the_last_step():
    way = stages(Rollout(strategy="Canary", steps=[{"weight": 10}], promotion="Approval"))
    assert [(stage.weight, stage.approval) for stage in way] == [
        (0, False),
        (10, True),
        (100, False),
    ]


def test_a_revision_is_known_by_what_it_has_and_not_by_what_it_is_called():
    seen = [Seen("blue", 100, Phase.READY)]
    assert choose("r-a", seen, None, lambda _: False, lambda _: True) == "blue"
    assert choose("r-a", seen, None, lambda _: True, lambda _: True) == "r-a"
    assert choose("r-a", seen, None, lambda _: False, lambda _: False) == "r-a"


def test_a_revision_that_someone_has_changed_is_replaced_by_one_of_another_name():
    seen = [Seen("r-a", 100, Phase.READY)]
    assert choose("r-a", seen, "r-a", lambda _: True, lambda _: True) == "r-a-2"
    seen.append(Seen("r-a-2", 0, Phase.PENDING))
    assert choose("r-a", seen, "r-a-2", lambda n: n == "r-a", lambda _: True) == "r-a-2"


def test_a_bad_revision_that_is_all_there_is_serves():
    failed = rollout.fail(Position("r-b", "r-a"), "r-b", 2, "its probe fails")
    seen = [Seen("r-b", 50, Phase.READY)]
    found = decide(failed, seen, target="r-b", way=stages(Rollout()), generation=2, now=T0)
    assert found == rollout.Shift({"r-b": 100})


def test_nothing_moves_to_the_one_before_while_that_is_not_ready():
    seen = [Seen("r-a", 10, Phase.PENDING), Seen("r-b", 90, Phase.READY)]
    way = stages(Rollout())
    home = decide(Position("r-a", "r-a"), seen, target="r-a", way=way, generation=2, now=T0)
    assert isinstance(home, rollout.Wait)
    failed = rollout.fail(Position("r-b", "r-a"), "r-b", 2, "bad")
    back = decide(failed, seen, target="r-b", way=way, generation=2, now=T0)
    assert isinstance(back, rollout.Wait)
