"""Whatever the moment of the operator's death: nothing is lost, nothing is double."""

import os
import random
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial

import pytest

from e2e.api import JSON
from e2e.database import Database
from e2e.kstatus import Kstatus, kstatus
from e2e.operator_process import OperatorProcess
from e2e.team import PATIENCE, Team
from e2e.vendors import Account, Vendors
from tools.servers.postgres import Postgres

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
    holds: Callable[[], dict[str, int]]
    """The value of everything that exists there, by name."""
    wanted: dict[str, int] = field(default_factory=dict)

    def block(self, value: int) -> JSON:
        if self.vendor == "numbered":
            return {"note": {"value": str(value)}}
        if self.vendor == "pgvector":
            return {"hnsw": {"m": value, "efConstruction": 64}}
        return {"replicas": value, "tags": {"value": str(value)}}


@pytest.fixture
def database(vendors: Vendors) -> Iterator[Database | None]:
    if (reason := Postgres.available()) is not None:
        print(f"without a real database: {reason}")
        yield None
        return
    found = Database()
    found.start()
    vendors.secrets.add(found.token)
    yield found
    found.stop()


def _values(account: Account) -> dict[str, int]:
    key = "note" if account.vendor == "numbered" else "replicas"
    return {name: int(index[key]) for name, index in account.holds().items()}


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
    vendors: Vendors, database: Database | None, new_team, operator: OperatorProcess, figure
):
    print(f"AUTERITY_CHAOS_SEED={SEED}")
    dice = random.Random(SEED)
    declared = []
    accounts = [vendors.open(), vendors.open("numbered")]
    for account in accounts:
        team = new_team()
        team.connect(account, direct=True, rateLimit=UNLIMITED)
        account.ask("latency", LATENCY)
        declared.append(_Declared(account.vendor, team, partial(_values, account)))
    if database is not None:
        team = new_team()
        team.connect_by(database.block(), database.token, rateLimit=UNLIMITED)
        declared.append(_Declared(database.vendor, team, database.holds))

    steps = _steps(dice)
    kills = _live_through(steps, declared, operator, dice)

    ended = time.monotonic()
    for each in declared:
        _until_settled(each)
    settled = time.monotonic() - ended

    created = sum(account.ask("requests", "POST") for account in accounts)
    left = sum(len(each.wanted) for each in declared)
    figure(
        f"seed {SEED}: {OBJECTS} objects at {', '.join(d.vendor for d in declared)}; {len(steps)} "
        f"steps, {kills} kills, {created} creates sent over HTTP, {left} held, none lost or "
        f"double; settled {settled:.1f} s after the last start"
    )
    for each in declared:
        for name in list(each.wanted):
            each.team.delete(name)
        each.wanted.clear()
    for each in declared:
        _until_settled(each)


def _live_through(
    steps: list[tuple[float, str, int]],
    declared: list[_Declared],
    operator: OperatorProcess,
    dice: random.Random,
) -> int:
    """Do each step at its time, and kill the operator again and again; how often it was."""
    start, kills, doomed = time.monotonic(), 1, dice.uniform(0.5, 2.0)
    for value, (at, what, number) in enumerate(steps, start=1):
        while (now := time.monotonic() - start) < at:
            if now >= doomed:
                operator.kill()
                operator.start()
                kills += 1
                # Some die before they have done anything, others in the midst of it.
                doomed = time.monotonic() - start + dice.uniform(1.0, 5.0)
            time.sleep(max(0.0, min(at, doomed) - now))
        _do(what, number, declared, value % 30 + 2)
    operator.kill()
    operator.start()
    return kills


def _until_settled(declared: _Declared, seconds: float = 2 * PATIENCE) -> None:
    """Wait until every object is as declared, and the vendor has nothing else."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        objects = declared.team.api.list("vectorindexes", declared.team.namespace)
        found = {o["metadata"]["name"]: o for o in objects}
        waiting = [name for name, o in found.items() if kstatus(o) is not Kstatus.CURRENT]
        if not waiting and found.keys() == declared.wanted.keys():
            assert all(
                o["status"]["syncedGeneration"] == o["metadata"]["generation"] for o in objects
            )
            assert declared.holds() == declared.wanted
            return
        time.sleep(0.3)
    told = {name: found[name]["status"].get("conditions") for name in waiting[:5]}
    raise AssertionError(f"not settled: {len(waiting)} such as {told}")
