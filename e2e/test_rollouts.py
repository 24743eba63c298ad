"""Rollouts go their way, forward or back, though the operator dies at every step of it."""

import json
import time
from collections import defaultdict
from collections.abc import Callable
from itertools import groupby
from typing import Any

import httpx
import pytest

from e2e.api import JSON, path
from e2e.kstatus import Kstatus, kstatus
from e2e.operator_process import OperatorProcess
from e2e.person import Person
from e2e.team import PATIENCE, Team
from e2e.vendors import Account, Vendors

pytestmark = pytest.mark.timeout(480)  # the operator starts some twenty times

KIND = "ModelDeployment"
LATENCY = 0.05
CANARY = {
    "strategy": "Canary",
    "steps": [{"weight": 20, "pause": "UntilApproved"}, {"weight": 60, "pause": "1s"}],
    "promotion": "Probe",
}
TWO_STEPS = {"strategy": "Canary", "steps": [{"weight": 20}, {"weight": 60}], "promotion": "Probe"}
CHECKED = {
    "strategy": "Canary",
    "steps": [{"weight": 20}],
    "checks": [{"metric": "ErrorRate", "max": 5, "maxIncrease": 2}],
    "window": "2s",
}
PROBE = {"interval": "1s", "failures": 1}
Objects = dict[str, JSON]


def _serve(team: Team, name: str, rollout: JSON) -> None:
    """A model whose first image serves."""
    spec = {
        "connectionRef": {"name": "vendor"},
        "model": {"image": "first"},
        "rollout": rollout,
        "probe": PROBE,
        "fleet": {},
    }
    team.create(name, spec, KIND)


def _place(found: JSON) -> tuple[Any, ...]:
    """Where a rollout is, as far as the status tells."""
    status = found["status"]
    told = status.get("rollout") or {}
    revisions = [(one["name"], one["weight"], one["phase"]) for one in told.get("revisions", ())]
    reached = "since" in told
    return told.get("phase"), told.get("revision"), told.get("step"), reached, tuple(revisions)


class Lives:
    """The lives of the operator: each ends as soon as the status of a model has changed."""

    def __init__(self, team: Team, operator: OperatorProcess) -> None:
        self.team = team
        self.operator = operator
        self.deaths = 0
        self.seen: defaultdict[str, list[JSON]] = defaultdict(list)
        """Every version of each model that was looked at."""
        self.died_at: defaultdict[str, set[tuple[Any, ...]]] = defaultdict(set)
        """Where the rollout of each model was at a death."""

    def until(
        self,
        ended: Callable[[Objects], bool],
        meanwhile: Callable[[Objects], None] = lambda _: None,
        seconds: float = 360,
    ) -> Objects:
        """Kill it at every change until something is true of the models; `meanwhile` it is dead."""
        deadline = time.monotonic() + seconds
        while True:
            self.operator.kill()
            self.deaths += 1
            version, found = self._list()
            for name, one in found.items():
                self.died_at[name].add(_place(one))
            if ended(found):
                return found
            meanwhile(found)
            assert time.monotonic() < deadline, {n: _place(one) for n, one in found.items()}
            if not self.operator.alive:
                self.operator.start()
            self._until_changed(version, {name: _place(one) for name, one in found.items()})

    def steps(self, name: str) -> set[int]:
        """The steps of a model's rollout at which the operator has died."""
        return {place[2] for place in self.died_at[name] if place[2] is not None}

    def states(self, name: str) -> list[Kstatus]:
        """What GitOps tools made of a model, each state once."""
        return [state for state, _ in groupby(kstatus(one) for one in self.seen[name])]

    def _list(self) -> tuple[str, Objects]:
        with self._client() as client:
            told = client.get(path(KIND, self.team.namespace)).raise_for_status().json()
        for one in told["items"]:
            self.seen[one["metadata"]["name"]].append(one)
        found = {one["metadata"]["name"]: one for one in told["items"]}
        return told["metadata"]["resourceVersion"], found

    def _until_changed(self, version: str, places: dict[str, tuple[Any, ...]]) -> None:
        params = {"watch": "1", "resourceVersion": version, "timeoutSeconds": f"{PATIENCE:.0f}"}
        where = path(KIND, self.team.namespace)
        with self._client() as client, client.stream("GET", where, params=params) as answer:
            for line in answer.iter_lines():
                found = json.loads(line)["object"]
                name = found["metadata"]["name"]
                self.seen[name].append(found)
                if _place(found) != places[name]:
                    return
        raise AssertionError(f"nothing has changed in {PATIENCE:.0f} s: {places}")

    def _client(self) -> httpx.Client:
        return httpx.Client(base_url=self.team.api.url, trust_env=False, timeout=2 * PATIENCE)


def _rests(found: JSON, *reasons: str) -> bool:
    """Whether nothing more is to come, for one of these reasons of Ready."""
    status, meta = found["status"], found["metadata"]
    ready: JSON = next((c for c in status.get("conditions", ()) if c["type"] == "Ready"), {})
    return bool(
        status.get("observedGeneration") == meta["generation"] and ready.get("reason") in reasons
    )


def _served_throughout(account: Account, name: str) -> list[JSON]:
    """What was done with a model since it first served; at no moment a request was lost."""
    history: list[JSON] = account.ask("history", name)
    whole = [_ready_share(one) for one in history]
    first = whole.index(100)
    assert set(whole[first:]) == {100}, [
        (one["did"], one["revisions"]) for one in history if _ready_share(one) < 100
    ]
    return history[first:]


def _ready_share(moment: JSON) -> int:
    return sum(one["weight"] for one in moment["revisions"] if one["state"] == "ready")


def _weights(history: list[JSON], revision: str) -> list[int]:
    """The share that a revision had, whenever it changed."""
    found = [
        one["weight"]
        for moment in history
        for one in moment["revisions"]
        if one["name"] == revision
    ]
    return [weight for weight, _ in groupby(found)]


def _only(account: Account, name: str) -> JSON:
    """The one revision that is left of a model, with all of the traffic."""
    (left,) = account.ask("serves", name)
    assert (left["weight"], left["state"]) == (100, "ready")
    found: JSON = left
    return found


def test_rollouts_end_as_they_should_though_the_operator_is_killed_at_every_step(
    vendors: Vendors, team: Team, operator: OperatorProcess, person: Person, figure
):
    account = vendors.open("fleet")
    team.connect(account, direct=True)
    for name, rollout in (("good", CANARY), ("broken", TWO_STEPS), ("sick", TWO_STEPS)):
        _serve(team, name, rollout)
    for name in ("good", "broken", "sick"):
        team.until_ready(name, KIND)
    first = {name: _only(account, name)["name"] for name in ("good", "broken", "sick")}
    account.ask("latency", LATENCY)
    lives = Lives(team, operator)
    plans: list[str] = []

    def gone_back(found: Objects) -> bool:
        return all(_rests(found[name], "RolledBack") for name in ("broken", "sick"))

    def approve(found: Objects) -> None:
        # Not before: while it is looked at, the operator lives, and the others would go on.
        if not plans and gone_back(found) and _rests(found["good"], "AwaitingApproval"):
            plans.append(_hold_out(team, account, operator, person, found["good"]))

    def ended(found: Objects) -> bool:
        return gone_back(found) and _rests(found["good"], "Ready")

    operator.kill()
    for name, image in (("good", "second"), ("broken", "broken"), ("sick", "sick")):
        team.edit(name, KIND, model={"image": image})
    begun = time.monotonic()
    found = lives.until(ended, approve)
    took = time.monotonic() - begun
    operator.start()
    operator.wait_until_ready()

    assert account.ask("problems") == []
    assert found["good"]["status"]["approved"] == plans[0]
    _is_as_wanted(account, found, first)
    _moved_as_declared(account, found)
    _died_where_it_matters(lives)
    figure(
        f"a canary approved and promoted, two gone back from (no such image; a probe that fails at "
        f"20 %): {lives.deaths} deaths in {took:.0f} s, at all of their steps; one revision added "
        "each, at no moment a share without a ready revision"
    )


def _is_as_wanted(account: Account, found: Objects, first: dict[str, str]) -> None:
    """What was wanted serves alone, and what was gone back from is gone."""
    told = {name: one["status"]["rollout"] for name, one in found.items()}
    assert _only(account, "good")["image"] == "second"
    assert _only(account, "good")["name"] == told["good"]["revision"] != first["good"]
    for name in ("broken", "sick"):
        left = _only(account, name)
        assert (left["name"], left["image"]) == (first[name], "first")
        assert told[name]["failed"]["name"] != first[name]
        assert [one["name"] for one in told[name]["revisions"]] == [first[name]]
    assert told["broken"]["failed"]["message"] == "no such image"
    assert "it answered with status 500, not 200" in told["sick"]["failed"]["message"]


def _moved_as_declared(account: Account, found: Objects) -> None:
    """The traffic has gone from step to step, and never to where nobody answers."""
    told = {name: one["status"]["rollout"] for name, one in found.items()}
    history = {name: _served_throughout(account, name) for name in found}
    assert _weights(history["good"], told["good"]["revision"]) == [0, 20, 60, 100]
    assert _weights(history["sick"], told["sick"]["failed"]["name"]) == [0, 20, 0]
    assert _weights(history["broken"], told["broken"]["failed"]["name"]) == [0]
    for name, moments in history.items():
        added = [one["did"] for one in moments if one["did"].startswith("add ")]
        assert len(added) == 1, f"{name}: {added}"


def _died_where_it_matters(lives: Lives) -> None:
    assert lives.steps("good") == {0, 1, 2, 3}
    assert lives.steps("sick") >= {0, 1}
    assert lives.steps("broken") == {0}
    for name in ("broken", "sick"):
        assert "RollingBack" in {place[0] for place in lives.died_at[name]}
    assert lives.states("good") == [Kstatus.IN_PROGRESS, Kstatus.CURRENT]
    assert lives.states("sick") == [Kstatus.IN_PROGRESS, Kstatus.FAILED]
    assert lives.states("broken") == [Kstatus.IN_PROGRESS, Kstatus.FAILED]


def test_the_vendors_figures_decide_though_the_operator_is_killed_at_every_step(
    vendors: Vendors, team: Team, operator: OperatorProcess, figure
):
    account = vendors.open("fleet")
    team.connect(account, direct=True)
    for name in ("good", "failing"):
        _serve(team, name, CHECKED)
    for name in ("good", "failing"):
        team.until_ready(name, KIND)
    first = _only(account, "failing")["name"]
    lives = Lives(team, operator)

    operator.kill()
    for name, image in (("good", "second"), ("failing", "failing")):
        team.edit(name, KIND, model={"image": image})
    begun = time.monotonic()
    found = lives.until(lambda o: _rests(o["failing"], "RolledBack") and _rests(o["good"], "Ready"))
    took = time.monotonic() - begun
    operator.start()
    operator.wait_until_ready()

    told = {name: one["status"]["rollout"] for name, one in found.items()}
    history = {name: _served_throughout(account, name) for name in found}
    assert _only(account, "good")["image"] == "second"
    assert _weights(history["good"], told["good"]["revision"]) == [0, 20, 100]
    assert lives.steps("good") == {0, 1, 2}
    assert _only(account, "failing")["name"] == first
    assert _weights(history["failing"], told["failing"]["failed"]["name"]) == [0, 20, 0]
    assert "its checks fail: ErrorRate is 8.33 % over" in told["failing"]["failed"]["message"]
    assert told["failing"]["checks"]["verdict"] == "Failing"
    assert account.ask("problems") == []
    figure(
        f"a canary promoted by the vendor's figures, another gone back from at 20 %: "
        f"{lives.deaths} deaths in {took:.0f} s, at all of their steps"
    )


def test_without_requests_the_vendors_figures_decide_nothing(
    vendors: Vendors, team: Team, operator: OperatorProcess
):
    account = vendors.open("fleet")
    team.connect(account, direct=True)
    _serve(team, "quiet", CHECKED)
    team.until_ready("quiet", KIND)
    team.edit("quiet", KIND, model={"image": "quiet"})
    message = team.until_reason("quiet", "RollingOut", KIND, "fewer than 20 requests were measured")
    assert "has 20 % of the traffic" in message
    told = team.status("quiet", KIND)["rollout"]
    assert told["phase"] == "Measuring"
    asked = operator.metric("auterity_rollout_checks_total", kind=KIND, verdict="Unsure")
    team.until(
        "quiet",
        lambda _: (
            operator.metric("auterity_rollout_checks_total", kind=KIND, verdict="Unsure")
            > asked + 2
        ),
        KIND,
    )
    assert team.status("quiet", KIND)["rollout"] == told
    account.ask("speak")
    team.until_ready("quiet", KIND)
    moved = _weights(_served_throughout(account, "quiet"), told["revision"])
    assert moved == [0, 20, 100]
    assert operator.metric("auterity_rollout_checks_total", kind=KIND, verdict="Passing")
    assert account.ask("problems") == []


def _hold_out(
    team: Team, account: Account, operator: OperatorProcess, person: Person, found: JSON
) -> str:
    """See that a step stays until it is approved, and approve it; the hash of its plan."""
    plan = found["status"]["plan"]
    new, old = (found["status"]["rollout"][which] for which in ("revision", "stable"))
    answer = person.why(team, "mdep/good")
    assert answer["chain"][0]["state"] == "AwaitingApproval"
    assert (
        answer["chain"][0]["says"] == f"{new} has 20 % of the traffic; Promote waits for approval"
    )
    assert answer["chain"][0]["details"] == [f"rollout.weight: {new}: 20 % -> {new}: 60 %"]
    assert answer["next"][0]["command"].startswith("kubectl auterity approve ModelDeployment/good")
    operator.start()
    operator.wait_until_ready()
    team.until(
        "good",
        lambda _: operator.metric_or_none(
            "auterity_visits_total", kind=KIND, outcome="AwaitingApproval"
        ),
        KIND,
    )
    shares = {one["name"]: one["weight"] for one in account.ask("serves", "good")}
    assert shares == {new: 20, old: 80}
    assert team.status("good", KIND)["plan"] == plan
    told = person.run("approve", "mdep/good", "--yes", namespace=team.namespace)
    assert f"plan {plan['hash']} is approved" in told
    return str(plan["hash"])


def test_a_person_goes_back_by_hand_in_the_middle_of_a_rollout(
    vendors: Vendors, team: Team, person: Person
):
    account = vendors.open("fleet")
    team.connect(account, direct=True)
    _serve(team, "chat", {**CANARY, "steps": [{"weight": 40, "pause": "UntilApproved"}]})
    team.until_ready("chat", KIND)
    first = _only(account, "chat")["name"]
    approvals = []
    for image in ("second", "third"):
        team.edit("chat", KIND, model={"image": image})
        team.until_reason("chat", "AwaitingApproval", KIND)
        assert kstatus(team.find("chat", KIND)) is Kstatus.IN_PROGRESS
        approvals.append(team.status("chat", KIND)["plan"]["hash"])
        if image == "second":
            person.run("approve", "mdep/chat", "--yes", namespace=team.namespace)
            team.until_ready("chat", KIND)
    # The annotation that opened one step still stands there, and opens no other.
    assert approvals[0] != approvals[1]
    second = team.status("chat", KIND)["rollout"]["stable"]
    history = team.status("chat", KIND)["rollout"]["history"]
    assert [one["name"] for one in history] == [second, first]
    team.edit("chat", KIND, fleet={"tags": {"team": "a"}}, rollout={"rollbackTo": first})
    team.until(
        "chat",
        lambda o: o["status"]["rollout"].get("revision") == first and _rests(o, "Ready"),
        KIND,
    )
    assert _only(account, "chat")["name"] == first
    assert _only(account, "chat")["image"] == "first"
    assert kstatus(team.find("chat", KIND)) is Kstatus.CURRENT
    assert account.ask("tags", "chat") == {"team": "a"}

    moments = _served_throughout(account, "chat")
    third = next(r["name"] for m in moments for r in m["revisions"] if r["image"] == "third")
    assert _weights(moments, third) == [0, 40, 0]
    assert account.ask("problems") == []
    # To let go of it is to want what the spec says once more.
    team.edit("chat", KIND, rollout={"rollbackTo": None})
    team.until_reason("chat", "AwaitingApproval", KIND)
    assert team.status("chat", KIND)["rollout"]["revision"] == third
    events = [reason for reason, _ in team.events("chat")]
    assert events.count("Promoted") == 2
