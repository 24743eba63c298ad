"""Several replicas share the objects: each has its own, whoever comes, goes, dies or is paused."""

import time
from collections import defaultdict
from dataclasses import replace
from datetime import datetime
from itertools import groupby

import pytest

from auterity.runtime.shards import owner
from e2e.api import JSON
from e2e.conftest import SYSTEM, Cluster, Installation
from e2e.kstatus import Kstatus, kstatus
from e2e.network import Network
from e2e.operator_process import OperatorProcess
from e2e.replicas import TAKEN_OVER_WITHIN, Start, agree
from e2e.team import PATIENCE, Team
from e2e.vendors import Account, Vendors

UNLIMITED = {"perSecond": 10000, "burst": 10000, "concurrent": 50}
STALL = 1.0
"""Seconds that the vendor's process may get no processor: what came meanwhile it sees at once."""


def _declare(team: Team, count: int, value: int = 0) -> None:
    for number in range(count):
        _index(team, f"index-{number}", value)


def _index(team: Team, name: str, value: int = 0) -> None:
    team.index(name, "numbered", numbered=_note(value))


def _note(value: int) -> JSON:
    return {"note": {"value": str(value)}}


def _objects(team: Team) -> dict[str, JSON]:
    return {o["metadata"]["name"]: o for o in team.api.list("vectorindexes", team.namespace)}


def _notes(account: Account) -> dict[str, int]:
    return {name: int(index["note"]) for name, index in account.holds().items()}


def _until_held(account: Account, wanted: dict[str, int]) -> float:
    """Wait until the vendor has this; how long it took."""
    begun = time.monotonic()
    while (found := _notes(account)) != wanted:
        waited = time.monotonic() - begun
        missing = {n for n in wanted.keys() | found.keys() if found.get(n) != wanted.get(n)}
        assert waited < 2 * PATIENCE, (
            f"after {waited:.0f} s {len(missing)} differ: {sorted(missing)}"
        )
        time.sleep(0.1)
    return time.monotonic() - begun


def _until_current(team: Team, count: int) -> None:
    deadline = time.monotonic() + 2 * PATIENCE
    while True:
        objects = _objects(team)
        waiting = [n for n, o in objects.items() if kstatus(o) is not Kstatus.CURRENT]
        if len(objects) == count and not waiting:
            return
        assert time.monotonic() < deadline, f"{len(waiting)} of {len(objects)}: {waiting[:5]}"
        time.sleep(0.2)


def _edit(team: Team, names: list[str], value: int) -> None:
    for name in names:
        team.edit(name, numbered=_note(value))


def _shares(team: Team, *replicas: OperatorProcess) -> dict[str, list[str]]:
    """The objects of each replica."""
    names = [each.name for each in replicas]
    shares: dict[str, list[str]] = {name: [] for name in names}
    for name, found in _objects(team).items():
        mine = owner(found["metadata"]["uid"], names)
        assert mine is not None
        shares[mine].append(name)
    return shares


def test_each_has_a_share_and_what_a_lost_one_had_is_taken_over(
    cluster: Cluster, vendors: Vendors, new_team, start: Start, figure
):
    first, second, third = start(), start(), start()
    agreed = agree(first, second, third)
    team, account = new_team(), vendors.open("numbered")
    team.connect(account, direct=True, rateLimit=UNLIMITED)
    _declare(team, 60)
    wanted = dict.fromkeys((f"index-{n}" for n in range(60)), 0)
    _until_current(team, 60)
    assert _notes(account) == wanted
    shares = _shares(team, first, second, third)
    for each in (first, second, third):
        assert shares[each.name]
        assert each.metric("auterity_objects", kind="VectorIndex") == len(shares[each.name])
    callers = defaultdict(set)
    for call in account.calls():
        callers[call.name].add(call.replica)
    assert {n: callers[n] for n in wanted} == {n: {w} for w, ns in shares.items() for n in ns}

    third.kill()
    theirs = shares[third.name]
    _edit(team, theirs, 1)
    wanted |= dict.fromkeys(theirs, 1)
    killed = _until_held(account, wanted)
    assert killed < TAKEN_OVER_WITHIN
    agree(first, second)

    theirs = _shares(team, first, second)[second.name]
    begun = time.monotonic()
    assert second.stop() == 0
    stopped = time.monotonic() - begun
    # It gave up its Lease: nobody waits for that to run out.
    leases = cluster.kubectl("get", "leases", f"--namespace={SYSTEM}", "-o=name")
    assert second.name not in leases
    assert first.name in leases
    _edit(team, theirs, 2)
    wanted |= dict.fromkeys(theirs, 2)
    handed = _until_held(account, wanted)
    assert first.metric("auterity_objects", kind="VectorIndex") == 60
    _until_current(team, 60)
    sizes = "/".join(str(len(share)) for share in shares.values())
    figure(
        f"3 replicas agreed {agreed:.1f} s after their start; shares of 60: {sizes}; edits of a "
        f"killed one's objects were at the vendor after {killed:.1f} s, of one that got SIGTERM "
        f"{handed:.1f} s after its end, which took {stopped:.1f} s"
    )


def test_a_paused_one_makes_no_call_once_another_has_begun(
    vendors: Vendors, new_team, start: Start, figure
):
    first, paused = start(), start()
    agree(first, paused)
    team, account = new_team(), vendors.open("numbered")
    team.connect(account, direct=True, rateLimit=UNLIMITED)
    account.ask("latency", 1.0)
    _declare(team, 40)
    wanted = dict.fromkeys((f"index-{n}" for n in range(40)), 0)
    team.until("index-0", lambda _: paused.metric("auterity_visits_running") >= 8)
    in_hand = paused.metric("auterity_visits_running")
    paused.pause()
    try:
        taken_over = _until_held(account, wanted)
        assert taken_over < TAKEN_OVER_WITHIN + 5, "the vendor alone takes seconds"
        # What it was doing must not simply be over by now.
        _edit(team, list(wanted), 1)
        wanted = dict.fromkeys(wanted, 1)
        time.sleep(0.5)
    finally:
        resumed = time.time()
        paused.resume()
    _until_held(account, wanted)
    agree(first, paused)
    met_again = _sees(first, paused.name, resumed)
    calls = account.calls()
    late = [c for c in calls if c.replica == paused.name and resumed < c.at < met_again]
    assert late == []
    for name in wanted:
        turns = [who for who, _ in groupby(c.replica for c in calls if c.name == name)]
        assert len(turns) <= 3, f"{name} was called for by {turns}"
    account.ask("latency", 0.0)
    _until_current(team, 40)
    assert sum(c.method == "POST" for c in calls) == 40, "nothing was made twice"
    broken_off = "visits in hand are broken off"
    assert any(broken_off in line["event"] for line in paused.lines("auterity.runtime"))
    figure(
        f"paused with {in_hand:.0f} visits in hand; the other finished all after {taken_over:.1f} "
        f"s; {len(late)} late calls in the {met_again - resumed:.1f} s until they met again"
    )


def _sees(replica: OperatorProcess, other: str, since: float) -> float:
    """When a replica saw another one first after some time."""
    for line in replica.lines("auterity.runtime"):
        at = datetime.fromisoformat(line["timestamp"]).timestamp()
        if at > since and line["event"].startswith("members: ") and other in line["event"]:
            return at
    raise AssertionError(f"{other} was never seen again")


def test_a_rolling_update_loses_nothing_and_makes_nothing_twice(
    vendors: Vendors, new_team, start: Start, figure
):
    old = [start(), start()]
    agree(*old)
    team, account = new_team(), vendors.open("numbered")
    team.connect(account, direct=True, rateLimit=UNLIMITED)
    account.ask("latency", 0.05)
    wanted: dict[str, int] = {}
    made = edits = 0

    def work(seconds: float) -> None:
        nonlocal made, edits
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            name = f"index-{made}"
            _index(team, name, edits)
            wanted[name] = edits
            made += 1
            if made % 3 == 0:
                gone = next(iter(wanted))
                team.delete(gone)
                del wanted[gone]
            for name in list(wanted)[-4:-1]:
                edits += 1
                _edit(team, [name], edits)
                wanted[name] = edits
            time.sleep(0.1)

    work(2.0)
    replicas = list(old)
    for each in old:
        new = start()
        while new.metric_or_none("auterity_replicas") != 3:
            work(0.3)
        replicas.append(new)
        # A pod is told to end, and the others work on while it does.
        each.terminate()
        while each.alive:
            work(0.1)
        replicas.remove(each)
        work(1.5)
    settled = _until_held(account, wanted)
    _until_current(team, len(wanted))
    agree(*replicas)
    posts = sum(call.method == "POST" for call in account.calls())
    assert posts <= made
    assert posts >= len(wanted)
    figure(
        f"both of 2 replicas replaced during {made} creations, {edits} edits and "
        f"{made - len(wanted)} deletions: {posts} creates sent, none lost or double; settled "
        f"{settled:.1f} s after the last"
    )


def test_together_they_keep_to_the_connections_budget(
    vendors: Vendors, new_team, start: Start, figure
):
    first, second = start(), start()
    agree(first, second)
    team, account = new_team(), vendors.open("numbered")
    team.connect(account, direct=True, rateLimit={"perSecond": 20, "burst": 4, "concurrent": 10})
    _declare(team, 70)
    _until_held(account, dict.fromkeys((f"index-{n}" for n in range(70)), 0))
    times = [call.at for call in account.calls()]
    assert {call.replica for call in account.calls()} == {first.name, second.name}
    worst = 0.0
    for begin, at in enumerate(times):
        for end in range(begin + 10, len(times)):
            allowed = 4 + 20 * (times[end] - at + STALL)
            worst = max(worst, (end - begin + 1) / allowed)
    middle = times[10 : len(times) // 2]
    rate = len(middle) / (middle[-1] - middle[0])
    figure(f"perSecond 20 and 2 replicas: {rate:.1f} calls a second, worst {worst:.2f} of budget")
    assert worst <= 1
    # One alone, with its share, would come to ten.
    assert rate > 12


def test_new_credentials_are_taken_up_by_all(vendors: Vendors, new_team, start: Start, figure):
    first, second = start(), start()
    agree(first, second)
    team, account = new_team(), vendors.open("numbered")
    team.connect(account, direct=True, rateLimit=UNLIMITED)
    _declare(team, 20)
    _until_current(team, 20)
    renewed = vendors.made_up_token()
    account.ask("accepts", renewed)
    names = list(_objects(team))
    # Of one replica only: the other, which may be the one that verifies, sees nothing amiss.
    theirs = _shares(team, first, second)[_other(team, first, second).name]
    _edit(team, theirs, 1)
    for name in theirs:
        # Looked at again after the Connection was, it waits for that.
        team.until(name, lambda o: _reason(o) in ("CredentialsRejected", "DependencyNotReady"))
    begun = time.monotonic()
    team.secret(token=renewed)
    _until_held(account, dict.fromkeys(names, 0) | dict.fromkeys(theirs, 1))
    figure(f"{len(theirs)} objects of the replica that does not verify: {_since(begun)}")


def _reason(found: JSON) -> str:
    """Of its Ready condition."""
    return next(c["reason"] for c in found["status"]["conditions"] if c["type"] == "Ready")


def _since(begun: float) -> str:
    return f"caught up {time.monotonic() - begun:.1f} s after the rotation"


def _other(team: Team, *replicas: OperatorProcess) -> OperatorProcess:
    """A replica that does not have the team's Connection."""
    found = team.find("vendor", "Connection")
    assert found is not None
    verifies = owner(found["metadata"]["uid"], [each.name for each in replicas])
    return next(each for each in replicas if each.name != verifies)


def test_what_another_let_go_of_unseen_is_not_made_anew(
    cluster: Cluster, installation: Installation, vendors: Vendors, new_team, start: Start
):
    if installation.network is None or cluster.controlplane is None:
        pytest.skip("only an embedded control plane can be cut off and restarted")
    network = Network(installation.network.upstream)
    network.start()
    try:
        first, cut_off = start(), start(replace(installation, network=network), "cut-off-auterity")
        agree(first, cut_off)
        team, account = new_team(), vendors.open("numbered")
        team.connect(account, direct=True, rateLimit=UNLIMITED)
        _declare(team, 12)
        _until_current(team, 12)
        theirs = _shares(team, first, cut_off)[first.name]
        network.cut()
        for name in theirs:
            team.delete(name)
        for name in theirs:
            team.until_gone(name)
        # It no longer knows what has happened before: a watch has to begin with what exists.
        cluster.controlplane.restart_apiserver()
        network.mend()
        posts = account.ask("requests", "POST")
        agree(first, cut_off)
        first.kill()
        agree(cut_off)
        for name in _objects(team):
            team.annotate(name, requestedAt="now")
        for name in _objects(team):
            team.until(name, lambda o: o["status"].get("lastHandledReconcileAt") == "now")
        assert account.ask("requests", "POST") == posts
        assert set(account.holds()) == _objects(team).keys()
        assert cut_off.metric("auterity_objects", kind="VectorIndex") == 12 - len(theirs)
    finally:
        network.stop()
