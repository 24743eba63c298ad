"""What the integrations of a namespace take of its budgets, added up as they change."""

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from typing import Final

from auterity.api.common import Policy
from auterity.engine.subject import Key, Subject

DIGITS: Final = 6
"""Amounts are rounded to so many: sums of decimal fractions are a little off."""
_UNIT: Final = 10**DIGITS


@dataclass(frozen=True, slots=True)
class Use:
    """What one integration takes of the budgets of its namespace."""

    key: Key
    least: float = 0.0
    most: float | None = None
    """What was granted to it. None: its price is not known."""
    asking: float = 0.0
    """What it asks for, all in all, and was not granted yet."""
    turn: tuple[str, str] = ("", "")
    """Of two that ask at once, the lesser goes first."""

    @property
    def granted(self) -> float:
        """What was granted to it, as far as that is known."""
        return self.most or 0.0

    @property
    def taken(self) -> float:
        """What is not left for others."""
        return max(self.granted, self.asking)


def use_of(subject: Subject) -> Use | None:
    """What an integration takes; None: nothing.

    One that is only observed takes nothing: it is someone else's.
    """
    if subject.spec.get("policy") == Policy.OBSERVE:
        return None
    cost = subject.status.get("cost") or {}
    asking = subject.status.get("asking") or 0.0
    most: float | None = cost.get("most")
    runs = "id" in subject.status and not subject.status.get("completed")
    if most is None and not (cost or asking or runs):
        return None
    if most is None and not (cost or runs):
        most = 0.0
    turn = (subject.created_at, subject.uid)
    return Use(subject.key, cost.get("least") or 0.0, most, asking, turn)


class Tally:
    """The uses of one namespace, and their sums at any time.

    Whoever keeps many objects tells it of each change, so that a visit need not look at all.
    """

    def __init__(self, subjects: Iterable[Subject] = ()) -> None:
        self._uses: dict[Key, Use] = {}
        # Whole numbers, since what is added and taken away for months must come out even.
        self._granted = self._taken = 0
        for subject in subjects:
            self.put(subject)

    def __len__(self) -> int:
        return len(self._uses)

    @property
    def uses(self) -> Collection[Use]:
        """What each integration takes that takes anything."""
        return self._uses.values()

    def put(self, subject: Subject) -> None:
        """An integration is new, or has changed."""
        self.drop(subject.key)
        if (use := use_of(subject)) is not None:
            self._uses[subject.key] = use
            self._add(use, 1)

    def drop(self, key: Key) -> None:
        """An integration is gone."""
        if (use := self._uses.pop(key, None)) is not None:
            self._add(use, -1)

    def of(self, key: Key) -> Use:
        """What one integration takes."""
        return self._uses.get(key) or Use(key, most=0.0)

    def granted(self, but: Key) -> float:
        """What was granted to all others than one."""
        return (self._granted - _units(self.of(but).granted)) / _UNIT

    def taken(self, but: Key) -> float:
        """What all others than one leave to nobody, be it granted or only asked for."""
        return (self._taken - _units(self.of(but).taken)) / _UNIT

    def _add(self, use: Use, sign: int) -> None:
        self._granted += sign * _units(use.granted)
        self._taken += sign * _units(use.taken)


def _units(amount: float) -> int:
    return round(amount * _UNIT)
