"""Conditions, what is hidden, when it expires, what one list tells."""

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from auterity.api.fields import seconds
from auterity.engine import errors
from auterity.engine.conditions import LONGEST_MESSAGE, STALLED, Reason, conditions, reason_of
from auterity.engine.contract import Observed
from auterity.engine.expiry import Expiry
from auterity.engine.listings import KEPT, Listings
from auterity.engine.redaction import HIDDEN, hide, private, remember
from auterity.engine.subject import Key
from tests.unit.engine.shelf import ShelfIndexParams
from tests.unit.engine.virtual import now, virtually

FIRST, SECOND = "2026-01-01T00:00:00Z", "2026-01-02T00:00:00Z"


def made(
    previous: Any = (),
    *,
    ready: bool | None = False,
    reason: Reason = Reason.PROGRESSING,
    message: str = "m",
    at: str = FIRST,
    **more: Any,
) -> list[dict[str, Any]]:
    return conditions(
        previous, ready=ready, reason=reason, message=message, generation=3, now=at, **more
    )


@pytest.mark.parametrize("reason", Reason)
def test_what_is_not_ready_is_stalled_or_reconciling_never_both(reason: Reason):
    types = [c["type"] for c in made(reason=reason)]
    assert types == ["Ready", "Stalled" if reason in STALLED else "Reconciling"]
    assert [c["type"] for c in made(reason=reason, ready=True)] == ["Ready"]
    assert [c["type"] for c in made(reason=reason, settled=True)] == ["Ready"]


def test_unknown_is_neither_true_nor_false():
    first, *_ = made(ready=None)
    assert first["status"] == "Unknown"


def test_the_same_again_gives_the_same_list():
    before = made(at=FIRST)
    assert made(before, at=SECOND) == before


def test_the_transition_time_follows_the_status_only():
    before = made(at=FIRST)
    after = made(before, message="other", reason=Reason.CONFLICT, at=SECOND)
    assert [(c["type"], c["lastTransitionTime"]) for c in after] == [
        ("Ready", FIRST),
        ("Stalled", SECOND),
    ]
    (ready,) = made(before, ready=True, at=SECOND)
    assert ready["lastTransitionTime"] == SECOND


@given(st.text(max_size=LONGEST_MESSAGE * 2))
def test_messages_are_bounded(message: str):
    (ready, _) = made(message=message)
    assert len(ready["message"]) <= LONGEST_MESSAGE
    assert ready["message"] == message or ready["message"].endswith("…")
    assert ready["observedGeneration"] == 3


def test_every_failure_has_a_reason():
    classes = [
        one for one in vars(errors).values() if isinstance(one, type) and one is not errors.Failure
    ]
    for one in classes:
        assert issubclass(one, errors.Failure)
        assert reason_of(one("m")) is not Reason.INTERNAL_ERROR, one
    assert reason_of(errors.Failure("m")) is Reason.INTERNAL_ERROR
    assert reason_of(errors.NotFound("m")) is Reason.SPEC_REJECTED


@given(st.lists(st.text(min_size=4, max_size=12), min_size=1, max_size=4), st.text(max_size=10))
def test_no_remembered_value_is_left(values: list[str], around: str):
    with private():
        for value in values:
            remember(value)
        told = hide(around.join(["", *values, ""]))
        rest = told.replace(HIDDEN, "")
        # What stays of one value may by chance join what stood around it.
        assert not any(value in part for value in values for part in told.split(HIDDEN))
        assert len(rest) <= len(around) * (len(values) + 1)


def test_values_within_values_and_lines_are_hidden():
    with private():
        remember("outer-inner-outer")
        remember("inner")
        remember("line one\nline two\nx")
        assert hide("outer-inner-outer") == HIDDEN
        assert hide("an inner one") == f"an {HIDDEN} one"
        assert hide("> line two <") == f"> {HIDDEN} <"
        assert hide("x marks") == "x marks"


def test_short_values_would_blot_out_words_and_are_left():
    with private():
        remember("abc")
        assert hide("abcdef") == "abcdef"


@given(st.text(min_size=4, max_size=20))
def test_a_value_is_hidden_as_json_and_urls_spell_it(value: str):
    from urllib.parse import quote, quote_plus

    spelt = [json.dumps(value)[1:-1], json.dumps(value, ensure_ascii=False)[1:-1]]
    spelt += [quote(value), quote(value, safe=""), quote_plus(value)]
    with private():
        remember(value)
        for one in spelt:
            assert one not in hide(f"[{one}]").replace(HIDDEN, "") or len(one) < 4


async def test_what_one_task_knows_is_not_hidden_from_others_and_forgotten_after():
    async def knowing() -> str:
        with private():
            remember("secret-value")
            await asyncio.sleep(0)
            inside = await asyncio.create_task(asyncio.sleep(0, hide("secret-value")))
        assert hide("secret-value") == "secret-value"
        return inside

    async def other() -> str:
        await asyncio.sleep(0)
        return hide("secret-value")

    assert list(await asyncio.gather(knowing(), other())) == [HIDDEN, "secret-value"]


@pytest.mark.parametrize(
    ("duration", "expected"),
    [
        ("90s", 90),
        ("10m", 600),
        ("1h30m", 5400),
        ("1.5h", 5400),
        ("100ms", 0.1),
        ("1m500ms", 60.5),
        ("1h1m1s1ms", 3661.001),
        ("0s", 0),
        ("72h", 259200),
    ],
)
def test_durations_are_read_as_go_reads_them(duration: str, expected: float):
    assert seconds(duration) == pytest.approx(expected)


@given(st.integers(0, 99), st.integers(0, 59), st.integers(0, 59), st.integers(0, 999))
def test_a_duration_is_the_sum_of_its_parts(h: int, m: int, s: int, ms: int):
    assert seconds(f"{h}h{m}m{s}s{ms}ms") == pytest.approx(h * 3600 + m * 60 + s + ms / 1000)


def expiry(ttl: str | None, at: str) -> Expiry:
    return Expiry.of(ttl, "2026-01-01T00:00:00Z", at)


def test_without_a_ttl_nothing_ends():
    it = expiry(None, "2036-01-01T00:00:00Z")
    assert (it.passed, it.warning, it.next_visit("10m")) == (False, None, None)


@pytest.mark.parametrize(
    ("at", "passed", "warned", "then"),
    [
        ("2026-01-01T00:00:00Z", False, False, 600),
        ("2026-01-03T22:55:00Z", False, False, 300),
        ("2026-01-03T23:00:00Z", False, True, 600),
        ("2026-01-03T23:59:30Z", False, True, 30),
        ("2026-01-04T00:00:00Z", True, True, 0.1),
        ("2027-01-01T00:00:00Z", True, True, 0.1),
    ],
)
def test_the_last_hour_of_a_long_life_is_warned_of(at: str, passed, warned, then: float):
    it = expiry("72h", at)
    assert it.passed is passed
    assert bool(it.warning) is warned
    assert it.next_visit("10m") == pytest.approx(then)


def test_the_last_tenth_of_a_short_life_is_warned_of():
    assert expiry("10m", "2026-01-01T00:08:59Z").warning is None
    assert "2026-01-01T00:10:00Z" in (expiry("10m", "2026-01-01T00:09:00Z").warning or "")


@given(st.integers(1, 10**6), st.integers(0, 2 * 10**6), st.integers(1, 10**5))
def test_visits_are_due_in_time_and_come_to_the_end(ttl: int, age: int, interval: int):
    from datetime import UTC, datetime, timedelta

    born = datetime(2026, 1, 1, tzinfo=UTC)
    it = Expiry.of(f"{ttl}s", born.isoformat(), (born + timedelta(seconds=age)).isoformat())
    due = it.next_visit(f"{interval}s")
    assert due is not None
    assert it.passed is (age >= ttl)
    assert 0 < due <= interval or due == pytest.approx(0.1)
    if not it.passed:
        assert age + due <= ttl + 0.1


CONNECTION = Key("Connection", "team", "a")


class Lister:
    """Stands for a provider that lists."""

    taken = 0
    session: object = None
    failures: list[Exception]

    def __init__(self) -> None:
        self.failures = []
        self.there = {"one": 1, "two": 1}

    async def read_all(self) -> AsyncIterator[Observed[ShelfIndexParams]]:
        self.taken += 1
        await asyncio.sleep(1)
        if self.failures:
            raise self.failures.pop(0)
        for id, replicas in self.there.items():
            yield Observed(id=id, actual=ShelfIndexParams.seen(replicas=replicas))


def test_one_list_serves_many_for_a_while_and_is_then_taken_anew():
    async def main() -> None:
        lister, listings = Lister(), Listings(clock=now)

        async def find(id: str) -> Any:
            return await listings.find(CONNECTION, lister, id)  # type: ignore[arg-type]  # lists

        found = await asyncio.gather(*(find(id) for id in ["one", "two", "three"] * 50))
        assert lister.taken == 1
        assert [seen and seen.id for seen in found[:3]] == ["one", "two", None]
        lister.there = {"three": 1}
        await asyncio.sleep(KEPT - 2)
        assert await find("three") is None
        await asyncio.sleep(3)
        assert (await find("three")).id == "three"
        assert lister.taken == 2

    virtually(main)


def test_what_was_changed_is_no_longer_told_by_the_list():
    async def main() -> None:
        lister, listings = Lister(), Listings(clock=now)
        listings.changed(CONNECTION, lister, "one")  # type: ignore[arg-type]  # lists
        assert await listings.find(CONNECTION, lister, "one")  # type: ignore[arg-type]  # lists
        listings.changed(CONNECTION, lister, "one")  # type: ignore[arg-type]  # lists
        assert await listings.find(CONNECTION, lister, "one") is None  # type: ignore[arg-type]  # lists
        assert await listings.find(CONNECTION, lister, "two")  # type: ignore[arg-type]  # lists
        assert lister.taken == 1

    virtually(main)


def test_each_connection_has_its_own_list():
    async def main() -> None:
        lister, listings = Lister(), Listings(clock=now)
        for name in ("a", "b"):
            await listings.find(Key("Connection", "team", name), lister, "one")  # type: ignore[arg-type]  # lists
        assert lister.taken == 2

    virtually(main)


def test_a_list_that_fails_is_taken_again_and_one_that_is_refused_is_not():
    async def main() -> None:
        lister, listings = Lister(), Listings(clock=now)
        lister.failures = [errors.Unavailable("down"), errors.Unauthorized("may not list")]
        with pytest.raises(errors.Unavailable):
            await listings.find(CONNECTION, lister, "one")  # type: ignore[arg-type]  # lists
        for _ in range(3):
            assert await listings.find(CONNECTION, lister, "one") is None  # type: ignore[arg-type]  # lists
        assert lister.taken == 2
        await asyncio.sleep(KEPT + 1)
        assert await listings.find(CONNECTION, lister, "one")  # type: ignore[arg-type]  # lists

    virtually(main)


def test_a_list_is_dropped_from_memory_when_it_is_old():
    async def main() -> None:
        lister, listings = Lister(), Listings(clock=now)
        await listings.find(CONNECTION, lister, "one")  # type: ignore[arg-type]  # lists
        (kept,) = listings._listings.values()
        assert kept.found
        await asyncio.sleep(KEPT + 2)
        assert not listings._listings

    virtually(main)
