"""A long life in short: churn, renewed credentials, and an API server that comes and goes.

`AUTERITY_SOAK_SECONDS` makes it longer, and `AUTERITY_SOAK_RESTART_EVERY` tells how often the API
server is restarted.
"""

import os
import random
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import pytest

from e2e.api import JSON
from e2e.conftest import SYSTEM, Cluster, Installation
from e2e.kstatus import Kstatus, kstatus
from e2e.memory import Memory
from e2e.operator_process import OperatorProcess
from e2e.team import PATIENCE, Team
from e2e.vendors import Account, Vendors

SECONDS = float(os.environ.get("AUTERITY_SOAK_SECONDS", "25"))
SEED = int(os.environ.get("AUTERITY_SOAK_SEED", "5"))
RESTART_EVERY = float(os.environ.get("AUTERITY_SOAK_RESTART_EVERY", "60"))
POPULATION = 60
UNLIMITED = {"perSecond": 10000, "burst": 10000, "concurrent": 50}
CUT = 2.0
"""Seconds that the network is away at a time: shorter than a replica is taken for lost."""
LONG = 600.0
"""Seconds of life from which on memory can be told to grow for ever or to warm up."""
FLAT = 3.0
"""MiB that a replica may grow by in all of a long life, once it is warm."""
MOST = 128.0
"""Resident MiB that a replica may have at the end of any life, with so few objects."""


@dataclass
class Churn:
    """What is declared, and its changes."""

    team: Team
    account: Account
    dice: random.Random
    wanted: dict[str, int] = field(default_factory=dict)
    made: int = 0
    steps: int = 0

    def step(self) -> None:
        """Create, edit or delete one object."""
        self.steps += 1
        grow = len(self.wanted) < POPULATION
        if not self.wanted or self.dice.random() < (0.4 if grow else 0.15):
            name = f"index-{self.made}"
            self.made += 1
            self.team.index(name, "numbered", numbered=_note(self.steps), interval="5s")
        elif self.dice.random() < (0.1 if grow else 0.3):
            name = self.dice.choice(list(self.wanted))
            self.team.delete(name)
            del self.wanted[name]
            return
        else:
            name = self.dice.choice(list(self.wanted))
            self.team.edit(name, numbered=_note(self.steps))
        self.wanted[name] = self.steps

    def until_settled(self, seconds: float = 2 * PATIENCE) -> float:
        """Wait until all objects are current and the vendor has just them; how long it took."""
        begun = time.monotonic()
        while True:
            objects = self.team.api.list("vectorindexes", self.team.namespace)
            stuck = [o for o in objects if kstatus(o) is not Kstatus.CURRENT]
            held = {name: int(index["note"]) for name, index in self.account.holds().items()}
            if not stuck and len(objects) == len(self.wanted) and held == self.wanted:
                return time.monotonic() - begun
            if time.monotonic() - begun > seconds:
                told = [(o["metadata"]["name"], o["status"].get("conditions")) for o in stuck[:3]]
                differ = {n for n in {*held, *self.wanted} if held.get(n) != self.wanted.get(n)}
                raise AssertionError(f"stuck: {len(stuck)}, such as {told}; differ: {differ}")
            time.sleep(0.3)


def _note(value: int) -> JSON:
    return {"note": {"value": str(value)}}


class Mishaps:
    """What happens around the replicas, each at its time: early enough for the short form."""

    def __init__(
        self, cluster: Cluster, installation: Installation, vendors: Vendors, churn: Churn
    ) -> None:
        self._controlplane = cluster.controlplane
        self._network = installation.network
        self._vendors = vendors
        self._churn = churn
        self._plan = {
            self._rotate: (4.0, 10.0),
            self._cut: (8.0, 20.0),
            self._mend: (8.0 + CUT, 20.0),
            self._restart: (14.0, RESTART_EVERY),
        }
        self._due = {act: first for act, (first, _) in self._plan.items()}
        self.rotations = self.cuts = self.restarts = 0

    def happen(self, now: float) -> None:
        for act, (_, every) in self._plan.items():
            if self._due[act] <= now:
                self._due[act] += every
                act()

    def end(self) -> None:
        self._mend()

    def _rotate(self) -> None:
        token = self._vendors.made_up_token()
        self._churn.account.ask("accepts", token)
        for _ in range(3):
            self._churn.step()
        self._churn.team.secret(token=token)
        self.rotations += 1

    def _cut(self) -> None:
        if self._network is not None:
            self._network.cut()
            self.cuts += 1

    def _mend(self) -> None:
        if self._network is not None:
            self._network.mend()

    def _restart(self) -> None:
        if self._controlplane is not None:
            self._controlplane.restart_apiserver()
            self.restarts += 1

    def __str__(self) -> str:
        return (
            f"{self.rotations} rotations, {self.cuts} cuts, {self.restarts} restarts of the API "
            "server"
        )


@pytest.fixture
def replicas(
    cluster: Cluster, installation: Installation, the_operator: OperatorProcess, told
) -> Iterator[list[OperatorProcess]]:
    the_operator.kill()
    cluster.kubectl("delete", "leases", "--all", f"--namespace={SYSTEM}")
    account = installation.rights("auterity")
    found = [installation.operator(f"soak-{name}", account) for name in "ab"]
    for each in found:
        each.start()
    for each in found:
        each.wait_until_ready()
    yield found
    for each in found:
        if each.alive:
            told.append(each.metrics_text())
        each.kill()
    cluster.kubectl("delete", "leases", "--all", f"--namespace={SYSTEM}")


@pytest.mark.timeout(SECONDS + 6 * PATIENCE)
def test_nothing_gets_stuck_and_no_memory_is_lost_in_a_long_life(
    cluster: Cluster,
    installation: Installation,
    vendors: Vendors,
    team_of_replicas: Team,
    replicas: list[OperatorProcess],
    figure,
):
    team, account = team_of_replicas, vendors.open("numbered")
    team.connect(account, direct=True, rateLimit=UNLIMITED)
    churn = Churn(team, account, random.Random(SEED))
    mishaps = Mishaps(cluster, installation, vendors, churn)
    memories = [Memory() for _ in replicas]
    begun = noted = time.monotonic()
    try:
        while (now := time.monotonic() - begun) < SECONDS:
            churn.step()
            mishaps.happen(now)
            if time.monotonic() >= noted:
                noted += 1.0
                for memory, each in zip(memories, replicas, strict=True):
                    memory.note(now, each.resident_mib)
            time.sleep(0.02)
    finally:
        mishaps.end()
    settled = churn.until_settled()
    # Some are due now and then: every five seconds each of them is looked at.
    deadline = time.monotonic() + PATIENCE
    while any(each.metric("auterity_queue_depth") for each in replicas):
        assert time.monotonic() < deadline, "a queue is never empty"
        time.sleep(0.1)
    steps, made = churn.steps, churn.made
    for name in list(churn.wanted):
        team.delete(name)
        del churn.wanted[name]
    churn.until_settled()
    resident = "/".join(f"{memory.now:.0f}" for memory in memories)
    figure(
        f"seed {SEED}, {SECONDS:.0f} s, 2 replicas: {steps} steps on {made} objects, {mishaps}; "
        f"settled after {settled:.1f} s; resident {resident} MiB"
    )
    assert max(memory.now for memory in memories) < MOST
    if SECONDS < LONG:
        return
    for memory in memories:
        figure(f"{memory.slope:+.2f} MiB a minute since it was warm; minute by minute: {memory}")
    assert max(memory.grown for memory in memories) < FLAT


@pytest.fixture
def team_of_replicas(replicas: list[OperatorProcess], new_team: Callable[[], Team]) -> Team:
    return new_team()
