"""Probes: a request now and then that tells whether something serves as it should."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum, auto
from time import monotonic
from typing import Any, Final

from auterity.api.fields import seconds
from auterity.api.rollout import JsonValue, Probe
from auterity.engine.calls import trail
from auterity.engine.contract import Answer, Provider
from auterity.engine.errors import Busy, Conflict, Fenced, Rejected, Unavailable

AGAIN_AFTER: Final = 5.0
"""Seconds after which a probe that failed is sent again, to be sure."""
LONGEST_SHOWN: Final = 64


class Verdict(Enum):
    """What the last answers say."""

    PASSING = auto()
    UNSURE = auto()
    """The last one was bad, but not yet as many in a row as make it failing."""
    FAILING = auto()


@dataclass(frozen=True, slots=True)
class Health:
    """What a probe has found."""

    verdict: Verdict
    message: str
    """What is wrong."""
    due: float
    """Seconds until it is to be asked again."""


@dataclass(slots=True)
class _Streak:
    about: tuple[object, ...]
    failures: int = 0
    asked_at: float = float("-inf")
    message: str = ""


class Probes:
    """What the probes of all objects have found. A restart forgets it, and they are asked anew."""

    def __init__(self, clock: Callable[[], float] = monotonic) -> None:
        self._clock = clock
        self._streaks: dict[str, _Streak] = {}

    def forget(self, uid: str) -> None:
        """The object is gone."""
        self._streaks.pop(uid, None)

    async def ask(  # noqa: PLR0913 - whom, what, and on whose behalf
        self,
        uid: str,
        provider: Provider[Any, Any],
        id: str,
        probe: Probe,
        about: tuple[object, ...] = (),
        revision: str | None = None,
    ) -> tuple[Health, float | None]:
        """Ask if it is due; what is known then, and how long an answer took if there was one.

        `about` is what the answers are about, such as a step of a rollout: they count from 0 where
        it changes.
        """
        what = (revision, probe.model_dump_json(), *about)
        streak = self._streaks.get(uid)
        if streak is None or streak.about != what:
            streak = self._streaks[uid] = _Streak(what)
        took = None
        if self._clock() - streak.asked_at >= self._pause(streak, probe):
            problem, took = await _ask(provider, id, probe, revision)
            streak.asked_at = self._clock()
            streak.failures = streak.failures + 1 if problem else 0
            streak.message = problem
        verdict = Verdict.UNSURE if streak.failures else Verdict.PASSING
        if streak.failures >= probe.failures:
            verdict = Verdict.FAILING
        since = self._clock() - streak.asked_at
        return Health(verdict, streak.message, max(0.1, self._pause(streak, probe) - since)), took

    @staticmethod
    def _pause(streak: _Streak, probe: Probe) -> float:
        interval = seconds(probe.interval)
        unsure = 0 < streak.failures < probe.failures
        return min(interval, AGAIN_AFTER) if unsure else interval


class NoProbes(Probes):
    """Sends none, for whoever only looks: it may be a POST, and it may cost."""

    async def ask(self, *_: Any, **__: Any) -> tuple[Health, float | None]:
        return Health(Verdict.PASSING, "", float("inf")), None


async def _ask(
    provider: Provider[Any, Any], id: str, probe: Probe, revision: str | None
) -> tuple[str, float]:
    """What is wrong with the answer (nothing: empty), and how long it took."""
    here = trail.get()
    before = len(here.calls) if here else 0
    try:
        answer = await provider.probe(id, probe, revision)
        problem = judge(probe, answer)
    except Fenced:
        # Nothing was sent, and nothing is known of what serves.
        raise
    except (Unavailable, Rejected, Conflict, Busy) as failure:
        problem = failure.message
    took = sum(call.seconds for call in here.calls[before:]) if here else 0.0
    if not problem and took > seconds(probe.within):
        problem = f"it took longer than {probe.within}"
    return problem, took


def judge(probe: Probe, answer: Answer) -> str:
    """What is wrong with an answer; empty if nothing."""
    if answer.status != probe.expect.status:
        return f"it answered with status {answer.status}, not {probe.expect.status}"
    if (wanted := probe.expect.json_value) is None:
        return ""
    try:
        found = json.loads(answer.body)
    except ValueError:
        return "its answer is not JSON"
    return _compare(wanted, found)


def _compare(wanted: JsonValue, found: Any) -> str:
    for part in wanted.path.split("."):
        if isinstance(found, dict) and part in found:
            found = found[part]
        elif isinstance(found, list) and part.isdecimal() and int(part) < len(found):
            found = found[int(part)]
        else:
            return f"its answer has no {wanted.path}"
    text = found if isinstance(found, str) else json.dumps(found)
    if text == wanted.value:
        return ""
    return f"{wanted.path} is {_shown(text)}, not {_shown(wanted.value)}"


def _shown(text: str) -> str:
    return text if len(text) <= LONGEST_SHOWN else f"{text[: LONGEST_SHOWN - 1]}…"
