"""One connection's trouble, or one namespace's storm, is nobody else's.

`AUTERITY_STORM_EDITS` makes the storm greater.
"""

import os
import time
from itertools import groupby, pairwise

import pytest

from e2e.api import JSON
from e2e.operator_process import OperatorProcess
from e2e.team import PATIENCE, Team
from e2e.vendors import Account, Vendors

PACE = {"perSecond": 40, "burst": 4, "concurrent": 10}
UNLIMITED = {"perSecond": 10000, "burst": 10000, "concurrent": 50}
OBJECTS = 60
EDITED = int(os.environ.get("AUTERITY_STORM_EDITS", "500")) // 2
"""Objects of the storm, each edited twice."""
CALLS = "auterity_vendor_calls_total"
PROBES = (15, 45, 105, 225)
"""Seconds after which a vendor that does not answer is tried again."""


def _declare(team: Team, vendor: str, count: int) -> None:
    for number in range(count):
        team.index(f"index-{number}", vendor)


def _converge(vendors: Vendors, team: Team) -> float:
    """Seconds that a healthy vendor's objects take."""
    account = vendors.open("numbered")
    team.connect(account, direct=True, rateLimit=PACE)
    begun = time.monotonic()
    _declare(team, "numbered", OBJECTS)
    while len(account.holds()) < OBJECTS:
        assert time.monotonic() - begun < PATIENCE, "the healthy vendor's objects do not converge"
        time.sleep(0.05)
    seconds = time.monotonic() - begun
    for number in range(OBJECTS):
        team.until_ready(f"index-{number}")
    return seconds


def test_a_throttled_and_a_broken_vendor_hold_back_their_own_objects_alone(
    vendors: Vendors, new_team, operator: OperatorProcess, figure
):
    alone = _converge(vendors, new_team())

    throttled, broken = new_team(), new_team()
    slow, dead = vendors.open(), vendors.open()
    throttled.connect(slow, direct=True, rateLimit=PACE)
    broken.connect(dead, direct=True, rateLimit=PACE)
    slow.ask("throttle", 5)
    dead.ask("stop")
    errors = operator.metric(CALLS, vendor="example", status="error")
    started = time.monotonic()
    for team in (throttled, broken):
        _declare(team, "example", 20)
    for name in ("index-0", "index-19"):
        throttled.until_reason(name, "RateLimited")
        broken.until_reason(name, "ProviderUnavailable")

    beside = _converge(vendors, new_team())

    labels = {"connection": f"Connection/{broken.namespace}/vendor"}
    # A probe, for which nothing holds it back, is soon over.
    for metric, least in (("auterity_breaker_open", 1), ("auterity_connection_held_seconds", 1e-9)):
        broken.until("index-0", lambda _, m=metric, x=least: operator.metric(m, **labels) >= x)
    asked = slow.ask("throttled")
    # Until the broken one was tried again.
    while sum(_waited(asked)) < 2 or time.monotonic() - started < PROBES[0] + 2:
        assert time.monotonic() - started < 2 * PATIENCE, "the throttled vendor is not asked again"
        time.sleep(0.2)
        asked = slow.ask("throttled")
    labels = {"connection": f"Connection/{throttled.namespace}/vendor"}
    assert operator.metric("auterity_breaker_open", **labels) == 0
    throttled.until(
        "index-0",
        lambda _: operator.metric("auterity_connection_held_seconds", **labels) > 0,
    )
    probes = operator.metric(CALLS, vendor="example", status="error") - errors
    seconds = time.monotonic() - started
    waited = _waited(asked)
    first = waited.index(True) + 1
    assert first <= 10, "more than what was in flight already"
    assert all(waited[first:]), f"asked while told to wait: {asked}"
    # Five failures open the breaker, with nine more in flight; then it is tried.
    assert probes <= 5 + 9 + 1 + sum(seconds > after for after in PROBES)
    figure(
        f"{OBJECTS} objects of a healthy vendor took {alone:.1f} s alone and {beside:.1f} s beside "
        f"the others ({beside / alone:.2f}x); in {seconds:.0f} s the one with Retry-After 5 was "
        f"asked {first} + {len(asked) - first} times, the broken one {probes:.0f} times"
    )

    slow.ask("throttle", 0)
    throttled.until_ready("index-0")
    throttled.until_ready("index-19")
    for number in range(20):
        throttled.delete(f"index-{number}")
        broken.annotate(f"index-{number}", forget="true")
        broken.delete(f"index-{number}")
    for team in (throttled, broken):
        team.until("vendor", lambda _, t=team: not t.api.list("vectorindexes", t.namespace))
    if beside >= alone * 1.5 + 1:
        # Is the machine slower than it was, with nobody to hold anyone back?
        alone = max(alone, _converge(vendors, new_team()))
    assert beside < alone * 1.5 + 1


def _waited(asked: list[float]) -> list[bool]:
    """Of each call but the first, whether the five seconds since the one before were over."""
    return [after - before > 4.9 for before, after in pairwise(asked)]


def _note(value: int) -> JSON:
    return {"note": {"value": str(value)}}


def _notes(account: Account, prefix: str) -> list[str]:
    return [i["note"] for name, i in account.holds().items() if name.startswith(prefix)]


@pytest.mark.timeout(120 + EDITED)
def test_a_storm_in_one_namespace_does_not_starve_another(
    vendors: Vendors, new_team, operator: OperatorProcess, figure
):
    account = vendors.open("numbered")
    stormy, calm = new_team(), new_team()
    stormy.secret(token=account.token)
    shared = f"shared-{stormy.namespace}"
    block = {
        "secretNamespace": stormy.namespace,
        "allowedNamespaces": [stormy.namespace, calm.namespace],
        **account.block(direct=True),
    }
    stormy.create(shared, {**block, "rateLimit": UNLIMITED}, kind="ClusterConnection")
    stormy.until_ready(shared, "ClusterConnection")
    ref = {"connectionRef": {"kind": "ClusterConnection", "name": shared}}
    begun = time.monotonic()
    for number in range(EDITED):
        stormy.index(f"storm-{number}", "numbered", **ref)
    # No more than half of the storm is to be over once it is declared, on a slow machine either.
    pace = min(PACE["perSecond"], EDITED / (time.monotonic() - begun) / 2)
    calm.index("calm", "numbered", **ref)
    calm.until_ready("calm")
    stormy.until(f"storm-{EDITED - 1}", lambda _: len(account.holds()) == EDITED + 1, seconds=300)

    stormy.edit(shared, "ClusterConnection", rateLimit={**PACE, "perSecond": int(pace)})
    stormy.until_ready(shared, "ClusterConnection")
    for value in (1, 2):
        for number in range(EDITED):
            stormy.edit(f"storm-{number}", numbered=_note(value))
    waits, first = [], len(account.calls())
    for value in (1, 2, 3):
        begun = time.monotonic()
        calm.edit("calm", numbered=_note(value))
        calm.until("calm", lambda _, v=value: account.holds()["calm"]["note"] == str(v))
        waits.append(time.monotonic() - begun)
    others = [call.name != "calm" for call in account.calls()[first:]]
    longest = max(sum(1 for _ in calls) for other, calls in groupby(others) if other)
    left = sum(note != "2" for note in _notes(account, "storm-"))
    figure(
        f"{2 * EDITED} edits, {int(pace)} calls a second: another namespace's edits took "
        f"{', '.join(f'{w:.1f}' for w in waits)} s and waited for {longest} calls at most, with "
        f"{left} of {EDITED} still to come"
    )
    assert left > 50, "the storm is over: this shows nothing"
    # Of some five hundred that were waiting already.
    assert longest < 4 * PACE["perSecond"]

    stormy.edit(shared, "ClusterConnection", rateLimit=UNLIMITED)
    stormy.until(
        "storm-0", lambda _: set(_notes(account, "storm-")) == {"2"}, seconds=60 + EDITED / 10
    )
