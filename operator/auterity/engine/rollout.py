"""The one algorithm of rollouts: from where things stand to the next step.

Nothing here calls anyone. Every decision that must outlive a crash is a `Move`, written to the
status before it is acted upon; every act is repeated until the vendor shows its effect.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Final

from auterity.api.fields import seconds
from auterity.api.rollout import UNTIL_APPROVED, Pause, Promotion, Rollout, Strategy
from auterity.engine.contract import Phase

ALL: Final = 100


@dataclass(frozen=True, slots=True)
class Stage:
    """A weight of the new revision, and what keeps it there."""

    weight: int
    pause: timedelta = timedelta()
    approval: bool = False


@dataclass(frozen=True, slots=True)
class Failed:
    """A revision that was gone back from."""

    name: str
    generation: int
    message: str


@dataclass(frozen=True, slots=True)
class Position:
    """How far a rollout is, as the status remembers it."""

    revision: str
    """The revision that is rolled out, or has been."""
    stable: str | None = None
    """The revision to go back to; the same as `revision` once it is complete."""
    weights: tuple[int, ...] = ()
    """Of the stages that `step` counts."""
    step: int | None = None
    """None once it is complete."""
    since: datetime | None = None
    """When the step was reached."""
    failed: Failed | None = None


@dataclass(frozen=True, slots=True)
class Seen:
    """A revision as the vendor tells it."""

    name: str
    weight: int
    phase: Phase
    message: str | None = None


@dataclass(frozen=True, slots=True)
class Add:
    """Add the revision that is wanted."""


@dataclass(frozen=True, slots=True)
class Shift:
    """Divide the traffic."""

    weights: dict[str, int]


@dataclass(frozen=True, slots=True)
class Remove:
    """Remove a revision without traffic."""

    name: str


@dataclass(frozen=True, slots=True)
class Move:
    """Remember this position; what it means is done on the next visit."""

    position: Position


@dataclass(frozen=True, slots=True)
class Wait:
    """The vendor is at work."""

    message: str


@dataclass(frozen=True, slots=True)
class Gate:
    """A step was reached: whether it may be left is for its pause, the probe and people to say."""

    stage: Stage
    left: timedelta
    """What is left of the pause."""
    onward: "Move | Remove"
    """What follows."""


@dataclass(frozen=True, slots=True)
class Broken:
    """The new revision has failed."""

    message: str
    back: bool
    """Whether there is another one to go back to."""


@dataclass(frozen=True, slots=True)
class GoneBack:
    """The bad revision is gone, and what served before serves."""

    failed: Failed


@dataclass(frozen=True, slots=True)
class Done:
    """The wanted revision serves, and no other is there."""


Undone = Add | Shift | Remove | Move | Wait | Gate | Broken | GoneBack
Decision = Undone | Done


def stages(rollout: Rollout, *, at_once: bool = False) -> tuple[Stage, ...]:
    """The way of a new revision from no traffic to all of it."""
    keep = timedelta(seconds=seconds(rollout.keep_old or "0s"))
    if at_once:
        return Stage(0), Stage(ALL)
    way = [_stage(0, rollout.preview)]
    if rollout.strategy is Strategy.CANARY:
        way += [_stage(step.weight, step.pause) for step in rollout.steps or ()]
    last = way.pop() if way[-1].weight == ALL else Stage(ALL)
    if rollout.promotion is Promotion.APPROVAL:
        way[-1] = replace(way[-1], approval=True)
    return *way, replace(last, pause=max(last.pause, keep))


def decide(  # noqa: PLR0913 - all that a rollout depends on
    position: Position | None,
    seen: Sequence[Seen],
    *,
    target: str,
    way: Sequence[Stage],
    generation: int,
    now: datetime,
) -> Decision:
    """The next step.

    Whatever is there at the vendor, following the decisions: traffic is only ever moved to a
    revision that is ready, no more than one revision is new, and in the end only one is left.
    """
    it = _Rollout(position, list(seen), target, way, now)
    failed = position.failed if position else None
    if it.new is not None and not it.others:
        # Also one that is known to be bad: it is all there is.
        return it.alone(it.new)
    if failed is not None and (failed.name, failed.generation) == (target, generation):
        return it.go_back(failed)
    if it.new is None:
        return it.begin()
    if position is not None and position.stable == target:
        return it.go_home(it.new)
    return it.proceed(it.new)


def fail(position: Position | None, target: str, generation: int, message: str) -> Position:
    """The position after which the bad revision is gone back from."""
    failed = Failed(target, generation, message[:1024])
    return replace(position or Position(target), step=None, since=None, failed=failed)


class _Rollout:
    def __init__(
        self,
        position: Position | None,
        seen: list[Seen],
        target: str,
        way: Sequence[Stage],
        now: datetime,
    ) -> None:
        self.position, self.seen, self.target = position, seen, target
        self.way, self.now = way, now
        self.new = next((one for one in seen if one.name == target), None)
        self.others = [one for one in seen if one.name != target]
        self.stable = self._stable()

    def begin(self) -> Decision:
        """The wanted revision is not there."""
        if not self.seen:
            return Add()
        if self.stable is not None and self.stable.phase is Phase.FAILED:
            # No other is any better: none will ever be ready to get the traffic.
            tidied = self._idle()
        else:
            tidied = self._only(self.stable)
        if tidied is not None:
            return tidied
        if self.stable is not None and self.stable.phase is Phase.PENDING:
            return Wait(self.stable.message or f"revision {self.stable.name} is starting")
        position = self.position
        under_way = position is not None and position.step is not None
        if position is None or position.revision != self.target or not under_way:
            return Move(self._at(0))
        return Add()

    def alone(self, new: Seen) -> Decision:
        """No other revision is there."""
        if new.phase is not Phase.READY:
            return _unready(new, back=False)
        return Done() if new.weight == ALL else Shift({new.name: ALL})

    def go_home(self, new: Seen) -> Decision:
        """It served before: it gets everything back, and everything else goes."""
        if new.phase is Phase.FAILED:
            return _unready(new, back=False)
        return self._only(new) or Done()

    def go_back(self, failed: Failed) -> Decision:
        """The wanted revision is known to be bad: what served before serves, and nothing else."""
        if self.stable is None:
            return Broken(failed.message, back=False)
        return self._only(self.stable) or GoneBack(failed)

    def proceed(self, new: Seen) -> Decision:
        """Both are there: further on the way."""
        stable = self.stable
        strays = [o for o in self.others if o is not stable and o.phase is not Phase.DELETING]
        if stable is None:
            return Wait(f"revision {self.others[0].name} is being removed")
        if strays:
            return self._without(strays, new)
        if new.phase is not Phase.READY:
            return _unready(new, back=stable.phase is Phase.READY)
        return self._onward(new, stable)

    def _onward(self, new: Seen, stable: Seen) -> Decision:
        if stable.phase is Phase.FAILED:
            # Nothing can be won by steps beside one that does not serve.
            return self._only(new) or Done()
        position, weights = self.position, tuple(stage.weight for stage in self.way)
        if position is None or position.step is None or position.revision != self.target:
            return Move(self._at(self._reached(new.weight)))
        if position.weights != weights:
            return Move(replace(self._at(self._reached(new.weight)), stable=stable.name))
        return self._step(new, stable, position, position.step)

    def _step(self, new: Seen, stable: Seen, position: Position, step: int) -> Decision:
        stage = self.way[step]
        if new.weight != stage.weight:
            return Shift({new.name: stage.weight, stable.name: ALL - stage.weight})
        if position.since is None:
            return Move(replace(position, since=self.now))
        left = max(timedelta(), stage.pause - (self.now - position.since))
        if step + 1 < len(self.way):
            return Gate(stage, left, Move(replace(position, step=step + 1, since=None)))
        return Gate(stage, left, Remove(stable.name))

    def _without(self, strays: Sequence[Seen], new: Seen) -> Decision:
        """More than two: someone else has added one, or the status was lost."""
        for stray in strays:
            if not stray.weight:
                return Remove(stray.name)
        heirs = [one for one in (self.stable, new) if one and one.phase is Phase.READY]
        if not heirs:
            return Wait("no other revision is ready to take over")
        kept = {one.name: one.weight for one in (self.stable, new) if one}
        kept[heirs[0].name] += ALL - sum(kept.values())
        return Shift({**{one.name: 0 for one in strays}, **kept})

    def _only(self, serving: Seen | None) -> Decision | None:
        """What is left to do until only this one is there; None if nothing."""
        if serving is None:
            left = [one for one in self.seen if one.phase is not Phase.DELETING]
            return Remove(left[0].name) if left else None
        others = [one for one in self.seen if one is not serving]
        if serving.weight != ALL and (others or serving.phase is Phase.READY):
            if serving.phase is not Phase.READY:
                return Wait(serving.message or f"revision {serving.name} is not ready")
            return Shift({**{one.name: 0 for one in others}, serving.name: ALL})
        left = [one for one in others if one.phase is not Phase.DELETING]
        if left:
            return Remove(left[0].name)
        return Wait(f"revision {others[0].name} is being removed") if others else None

    def _idle(self) -> Decision | None:
        """One without traffic that is neither wanted nor stable."""
        left = [one for one in self.others if one is not self.stable and not one.weight]
        idle = [one for one in left if one.phase is not Phase.DELETING]
        return Remove(idle[0].name) if idle else None

    def _stable(self) -> Seen | None:
        """What served before: as the status knows it, else what gets most of the traffic."""
        there = [one for one in self.others if one.phase is not Phase.DELETING]
        known = self.position.stable if self.position else None
        for one in there:
            if one.name == known and one.phase is not Phase.FAILED:
                return one
        return max(
            there, key=lambda o: (o.phase is not Phase.FAILED, o.weight, o.name), default=None
        )

    def _at(self, step: int) -> Position:
        weights = tuple(stage.weight for stage in self.way)
        stable = self.stable.name if self.stable else None
        return Position(self.target, stable, weights, step)

    def _reached(self, weight: int) -> int:
        return max(i for i, stage in enumerate(self.way) if stage.weight <= weight)


def _unready(new: Seen, *, back: bool) -> Decision:
    if new.phase is Phase.FAILED:
        return Broken(new.message or f"revision {new.name} has failed", back=back)
    doing = "being removed, and added anew" if new.phase is Phase.DELETING else "starting"
    return Wait(new.message or f"revision {new.name} is {doing}")


def _stage(weight: int, pause: Pause | None) -> Stage:
    if pause == UNTIL_APPROVED:
        return Stage(weight, approval=True)
    return Stage(weight, timedelta(seconds=seconds(pause or "0s")))


def choose(
    base: str,
    seen: Sequence[Seen],
    remembered: str | None,
    differs: Callable[[str], bool],
    told: Callable[[str], bool],
) -> str:
    """The name of the revision that is wanted.

    One that is there and has what is wanted, whatever it is called; else the name that was derived
    from what is wanted (`base`), or a variant of it where someone has changed the one of that name.
    """
    same = [one for one in seen if one.phase is not Phase.DELETING and not differs(one.name)]
    named = {one.name for one in same if one.name == base or one.name.startswith(f"{base}-")}
    if remembered in named:
        return str(remembered)
    if named:
        return min(named)
    alike = [one for one in same if one.phase is Phase.READY and told(one.name)]
    if alike:
        return max(alike, key=lambda one: (one.weight, one.name)).name
    taken = {one.name for one in seen if one.phase is not Phase.DELETING}
    name, number = base, 1
    while name in taken:
        number += 1
        name = f"{base}-{number}"
    return name
