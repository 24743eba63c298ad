"""A soak tells growth from noise, and from warming up."""

import random

import pytest

from e2e.memory import Memory

MINUTES = 30


def life(mib_a_minute: float, *, bursts: bool = False) -> Memory:
    """Warms up by 20 MiB in the first minutes, trembles, and grows as it is told to."""
    dice, found = random.Random(1), Memory()
    for second in range(MINUTES * 60):
        warmth = 20 * (1 - 0.99 ** (second / 2))
        burst = 16 if bursts and second % 120 > 100 else 0
        grown = mib_a_minute * second / 60
        found.note(float(second), 80 + warmth + burst + grown + dice.uniform(-1, 1))
    return found


@pytest.mark.parametrize("bursts", [False, True])
def test_a_process_that_only_warms_up_does_not_grow(*, bursts: bool):
    assert abs(life(0, bursts=bursts).slope) < 0.05


@pytest.mark.parametrize("bursts", [False, True])
@pytest.mark.parametrize("leak", [0.1, 0.8])
def test_a_leak_is_seen_whatever_else_happens(leak: float, *, bursts: bool):
    found = life(leak, bursts=bursts)
    assert found.slope == pytest.approx(leak, abs=0.05)
    assert found.grown == pytest.approx(leak * MINUTES * 2 / 3, rel=0.3)


def test_the_last_minutes_alone_bend_nothing():
    found = life(0)
    for second in range(60):
        found.note(MINUTES * 60.0 + second, 140.0)
    assert abs(found.slope) < 0.05


def test_each_minute_is_told():
    assert len(str(life(0)).split()) == MINUTES
