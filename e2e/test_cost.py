"""Budgets hold: nothing is made that would cost more, whoever asks at once and whoever dies."""

import random
import time
from typing import Any

from e2e.api import JSON, Witness
from e2e.kstatus import Kstatus, kstatus
from e2e.operator_process import OperatorProcess
from e2e.person import Person
from e2e.replicas import Start, agree
from e2e.team import Team
from e2e.vendors import Account, Vendors

BUDGET = "Budget"
DEPLOYMENT = "ModelDeployment"
SPEC: JSON = {
    "connectionRef": {"name": "vendor"},
    "model": {"image": "llm"},
    "hardware": "ship",
    "deletionPolicy": "Delete",
    "interval": "2s",
    "fleet": {},
}


def _spec(replicas: int, **more: Any) -> JSON:
    return {**SPEC, "scaling": {"min": 1, "max": replicas}, **more}


def _harbour(team: Team, vendors: Vendors) -> Account:
    account = vendors.open("fleet")
    team.connect(account)
    return account


def _costs(most: float) -> Any:
    return lambda found: found is not None and found.get("status", {}).get("most") == most


def _reason(found: JSON | None) -> str:
    conditions = (found or {}).get("status", {}).get("conditions") or ()
    return next((c["reason"] for c in conditions if c["type"] == "Ready"), "")


def _over(team: Team, names: list[str]) -> list[str]:
    """Those that wait for room, once every other one is ready."""
    for name in names:
        team.until(name, lambda found: _reason(found) in ("Ready", "OverBudget"), DEPLOYMENT)
    return [name for name in names if _reason(team.find(name, DEPLOYMENT)) == "OverBudget"]


def test_the_second_waits_and_is_made_by_itself_once_the_first_is_gone(
    vendors: Vendors, team: Team, operator: OperatorProcess, person: Person, figure
):
    account = _harbour(team, vendors)
    team.create("all", {"hourly": 0.8}, BUDGET)
    team.until_ready("all", BUDGET)
    team.create("first", _spec(2), DEPLOYMENT)
    team.until_ready("first", DEPLOYMENT)
    cost = team.status("first", DEPLOYMENT)["cost"]
    assert (cost["least"], cost["most"], cost["currency"]) == (0.25, 0.5, "USD")
    assert cost["basis"] == "prices of 2026-11-09, Fleet's own page"

    team.create("second", _spec(2), DEPLOYMENT)
    told = team.until_reason("second", "OverBudget", DEPLOYMENT)
    assert told == (
        "it would cost up to 0.50 USD an hour, and Budget 'all' allows 0.80, of which too much is "
        "used: it is not made"
    )
    assert team.ready("all", BUDGET)["message"] == (
        "Up to 0.50 of 0.80 USD an hour is used, by ModelDeployment first (0.50)"
    )
    assert kstatus(team.find("second", DEPLOYMENT)) is Kstatus.FAILED
    assert account.ask("names") == ["first"]
    assert account.ask("history", "second") == [], "nothing was asked of the vendor"
    answer = person.why(team, "modeldeployment/second")
    kinds = [link["object"]["kind"] for link in answer["chain"]]
    assert kinds == [DEPLOYMENT, BUDGET]
    assert answer["next"][0]["do"] == "ask for less, such as fewer replicas"
    assert operator.metric("auterity_cost_per_hour", namespace=team.namespace, bound="most") == 0.5
    assert operator.metric("auterity_cost_limit_per_hour", namespace=team.namespace) == 0.8
    rows = person.call("get", "budgets", f"--namespace={team.namespace}").splitlines()
    assert rows[0].split() == ["NAME", "READY", "REASON", "HOURLY", "MOST", "OBJECTS", "AGE"]
    assert rows[1].split()[:-1] == ["all", "True", "Ready", "0.8", "0.5", "1"]

    # Killed while one waits: the next process knows what was granted.
    operator.kill()
    operator.start()
    operator.wait_until_ready()
    team.edit("second", DEPLOYMENT, model={"image": "other"})
    team.until_reason("second", "OverBudget", DEPLOYMENT)
    assert account.ask("names") == ["first"]

    team.delete("first", DEPLOYMENT)
    team.until_gone("first", DEPLOYMENT)
    team.until_ready("second", DEPLOYMENT)
    assert account.ask("names") == ["second"]
    figure("refused with nothing asked of the vendor; made once there was room")


def test_of_many_at_once_as_many_are_made_as_there_is_room_for(
    vendors: Vendors, team: Team, operator: OperatorProcess, figure
):
    account = _harbour(team, vendors)
    team.create("all", {"hourly": 1.0}, BUDGET)
    names = [f"model-{number}" for number in range(8)]
    for name in names:
        team.create(name, _spec(1), DEPLOYMENT)
    operator.kill()
    operator.start()
    operator.wait_until_ready()
    waiting = _over(team, names)
    assert len(waiting) == 4
    assert set(account.ask("names")) == set(names) - set(waiting)
    team.until("all", _costs(1.0), BUDGET)
    team.edit("all", BUDGET, hourly=2.0)
    for name in names:
        team.until_ready(name, DEPLOYMENT)
    team.until("all", _costs(2.0), BUDGET)
    figure("8 at once, room for 4, the operator killed meanwhile: 4 made; raised: all 8")


def test_an_object_keeps_to_its_own_budget(vendors: Vendors, team: Team):
    account = _harbour(team, vendors)
    team.create("small", _spec(4, budget={"hourly": 0.6}), DEPLOYMENT)
    told = team.until_reason("small", "OverBudget", DEPLOYMENT)
    assert "up to 1.00 USD an hour, and spec.budget allows 0.60: it is not made" in told
    assert account.ask("names") == []
    team.edit("small", DEPLOYMENT, scaling={"min": 1, "max": 2})
    team.until_ready("small", DEPLOYMENT)

    team.edit("small", DEPLOYMENT, scaling={"min": 1, "max": 4})
    told = team.until_reason("small", "OverBudget", DEPLOYMENT)
    assert told.endswith("it is left as it was")
    assert team.status("small", DEPLOYMENT)["cost"]["most"] == 0.5

    team.edit("small", DEPLOYMENT, budget={"hourly": 0.6, "onExceed": "Warn"})
    team.until_ready("small", DEPLOYMENT)
    assert "spec.budget allows 0.60" in team.ready("small", DEPLOYMENT)["message"]
    warned = [text for reason, text in team.events("small") if reason == "OverBudget"]
    assert warned[-1] == "it may cost up to 1.00 USD an hour, and spec.budget allows 0.60"


def test_a_budget_that_comes_later_stops_nothing_and_says_so(
    vendors: Vendors, team: Team, person: Person
):
    _harbour(team, vendors)
    team.create("big", _spec(4), DEPLOYMENT)
    team.until_ready("big", DEPLOYMENT)
    team.create("all", {"hourly": 0.5}, BUDGET)
    told = team.until_reason("all", "OverBudget", BUDGET)
    assert "Up to 1.00 of 0.50 USD an hour is used, by ModelDeployment big (1.00)" in told
    answer = person.why(team, "bud/all")
    assert answer["next"][1]["do"] == "or allow more"

    def is_told(found: JSON | None) -> bool:
        ready = next(c for c in found["status"]["conditions"] if c["type"] == "Ready")
        return ready["status"] == "True" and "Budget 'all' allows 0.50" in ready["message"]

    team.until("big", is_told, DEPLOYMENT)
    team.create("odd", {**_spec(1), "hardware": "kite"}, DEPLOYMENT)
    told = team.until_reason("odd", "OverBudget", DEPLOYMENT)
    assert "no price is known for kite at fleet" in told


RIVALS = 8


def test_replicas_that_race_for_the_last_room_never_both_get_it(
    vendors: Vendors, new_team, start: Start, witness: Witness, figure
):
    """Whenever there is room, all that wait for it are woken at once, at both replicas."""
    replicas = [start(), start()]
    agree(*replicas)
    team = new_team()
    account = _harbour(team, vendors)
    team.create("all", {"hourly": 0.25}, BUDGET)
    team.until_ready("all", BUDGET)
    names = [f"rival-{number}" for number in range(RIVALS)]
    for name in names:
        team.create(name, _spec(1, interval="10m"), DEPLOYMENT)
    chance, begun = random.Random(1), time.monotonic()
    rounds = 0
    for mishap in [None] * 12 + ["kill", "pause", None, None]:
        winner = _winner(team, names)
        assert account.ask("names") == [winner]
        assert _over(team, names) == [name for name in names if name != winner]
        team.delete(winner, DEPLOYMENT)
        if mishap is not None:
            time.sleep(chance.uniform(0, 0.1))
            replicas = _mishap(mishap, replicas, start)
        team.until_gone(winner, DEPLOYMENT)
        team.create(winner, _spec(1, interval="10m"), DEPLOYMENT)
        rounds += 1
    took = time.monotonic() - begun
    assert account.ask("most") == 1
    dearest, at_once = _replayed(witness, team)
    assert dearest == 0.25
    assert at_once > 0, "no two have asked at once: this proves nothing"
    figure(
        f"{RIVALS} on 2 replicas for the room of one, {rounds} times in {took:.0f} s, one killed "
        f"and one paused: never more than one made; {at_once} times several asked at once"
    )


def _winner(team: Team, names: list[str]) -> str:
    """The one that got the room, once there is one."""
    deadline = time.monotonic() + 40
    while time.monotonic() < deadline:
        if ready := [n for n in names if _reason(team.find(n, DEPLOYMENT)) == "Ready"]:
            assert len(ready) == 1
            return ready[0]
        time.sleep(0.05)
    raise AssertionError("nobody gets the room")


def _mishap(kind: str, replicas: list[OperatorProcess], start: Start) -> list[OperatorProcess]:
    left, lost = replicas
    if kind == "kill":
        lost.kill()
        other = start()
        agree(left, other)
        return [left, other]
    lost.pause()
    time.sleep(10)
    lost.resume()
    agree(left, lost)
    return replicas


def _replayed(witness: Witness, team: Team) -> tuple[float, int]:
    """The most that was ever granted at once, and how often one asked while another did."""
    versions = [
        found
        for told in list(witness.versions.values())
        for found in told
        if (found["kind"], found["metadata"]["namespace"]) == (DEPLOYMENT, team.namespace)
    ]
    versions.sort(key=lambda found: int(found["metadata"]["resourceVersion"]))
    granted: dict[str, float] = {}
    asking: set[str] = set()
    dearest, at_once = 0.0, 0
    for found in versions:
        uid, status = found["metadata"]["uid"], found.get("status", {})
        granted.pop(uid, None)
        if found["watched"] != "DELETED":
            granted[uid] = (status.get("cost") or {}).get("most") or 0.0
        if "asking" not in status or found["watched"] == "DELETED":
            asking.discard(uid)
        elif uid not in asking:
            asking.add(uid)
            at_once += len(asking) > 1
        dearest = max(dearest, sum(granted.values()))
    return dearest, at_once
