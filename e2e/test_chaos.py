"""Whatever the moment of the operator's death: nothing is lost, nothing is double."""

import os
import random
import time
from dataclasses import dataclass, field

from e2e.api import JSON
from e2e.kstatus import Kstatus, kstatus
from e2e.operator_process import OperatorProcess
from e2e.team import Team
from e2e.vendors import Vendors

SEED = int(os.environ.get("AUTERITY_CHAOS_SEED", "7"))
OBJECTS = 200
LASTS = 22.0
"""Seconds in which everything is created, edited and deleted."""
LATENCY = 0.05
UNLIMITED = {"perSecond": 10000, "burst": 10000, "concurrent": 50}


@dataclass
class _Declared:
    """What one connection's objects are to be at the vendor, by name."""

    vendor: str
    team: Team
    wanted: dict[str, int] = field(default_factory=dict)

    def block(self, value: int) -> JSON:
        if self.vendor == "numbered":
            return {"note": {"value": str(value)}}
        return {"replicas": value, "tags": {"value": str(value)}}


def _steps(dice: random.Random) -> list[tuple[float, str, int]]:
    """When to do what with which object: each is created, most are edited, some are deleted."""
    steps = []
    for number in range(OBJECTS):
        born = dice.uniform(0.0, LASTS * 0.6)
        steps.append((born, "create", number))
        later = sorted(dice.uniform(born, LASTS) for _ in range(dice.choice((0, 1, 1, 2))))
        steps += [(at, "edit", number) for at in later]
        if dice.random() < 0.3:
            steps.append((dice.uniform(max([born, *later]), LASTS), "delete", number))
    return sorted(steps)


def _do(what: str, number: int, of: list[_Declared], value: int) -> None:
    declared = of[number % len(of)]
    name, team = f"index-{number}", declared.team
    if what == "create":
        team.index(name, declared.vendor, **{declared.vendor: declared.block(value)})
    elif what == "edit":
        team.edit(name, **{declared.vendor: declared.block(value)})
    else:
        team.delete(name)
        del declared.wanted[name]
        return
    declared.wanted[name] = value


def test_nothing_is_lost_or_double_though_the_operator_is_killed_again_and_again(
    vendors: Vendors, new_team, operator: OperatorProcess, figure
):
    print(f"AUTERITY_CHAOS_SEED={SEED}")
    dice = random.Random(SEED)
    teams, accounts = [new_team(), new_team()], [vendors.open(), vendors.open("numbered")]
    for team, account in zip(teams, accounts, strict=True):
        team.connect(account, direct=True, rateLimit=UNLIMITED)
        account.ask("latency", LATENCY)
    declared = [
        _Declared(account.vendor, team) for team, account in zip(teams, accounts, strict=True)
    ]

    start, kills, doomed = time.monotonic(), 0, dice.uniform(0.5, 2.0)
    steps = _steps(dice)
    for value, (at, what, number) in enumerate(steps, start=1):
        while (now := time.monotonic() - start) < at:
            if now >= doomed:
                operator.kill()
                operator.start()
                kills += 1
                # Some die before they have done anything, others in the midst of it.
                doomed = time.monotonic() - start + dice.uniform(1.0, 5.0)
            time.sleep(max(0.0, min(at, doomed) - now))
        _do(what, number, declared, value % 60 + 1)
    operator.kill()
    operator.start()

    ended = time.monotonic()
    for each in declared:
        _until_settled(each, seconds=60)
    settled = time.monotonic() - ended
    for each, account in zip(declared, accounts, strict=True):
        held = account.holds()
        key = "note" if each.vendor == "numbered" else "replicas"
        assert {name: int(index[key]) for name, index in held.items()} == each.wanted

    created = sum(account.ask("requests", "POST") for account in accounts)
    left = sum(len(each.wanted) for each in declared)
    figure(
        f"seed {SEED}: {OBJECTS} objects, {len(steps)} steps, {kills + 1} kills, {created} creates "
        f"sent, {left} held, none lost or double; settled {settled:.1f} s after the last start"
    )
    for each in declared:
        for name in list(each.wanted):
            each.team.delete(name)
    for each, account in zip(declared, accounts, strict=True):
        each.wanted.clear()
        _until_settled(each, seconds=60)
        assert account.holds() == {}


def _until_settled(declared: _Declared, seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        found = {
            o["metadata"]["name"]: o
            for o in declared.team.api.list("vectorindexes", declared.team.namespace)
        }
        waiting = [name for name, o in found.items() if kstatus(o) is not Kstatus.CURRENT]
        if not waiting and found.keys() == declared.wanted.keys():
            assert all(
                o["status"]["syncedGeneration"] == o["metadata"]["generation"]
                for o in found.values()
            )
            return
        time.sleep(0.3)
    told = {name: found[name]["status"].get("conditions") for name in waiting[:5]}
    raise AssertionError(f"not settled: {len(waiting)} such as {told}")
