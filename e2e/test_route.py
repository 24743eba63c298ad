"""A route leads to the first model that serves, whoever fails meanwhile: vendors or operators."""

import base64
import time
from datetime import datetime
from typing import Any

from auterity.runtime.shards import owner
from e2e.api import JSON
from e2e.kstatus import Kstatus, kstatus
from e2e.operator_process import OperatorProcess
from e2e.person import Person
from e2e.replicas import TAKEN_OVER_WITHIN, Start, agree
from e2e.team import Team
from e2e.vendors import Account, Vendors

AFTER, BACK_AFTER = 2.0, 3.0
ROUTE = "ModelRoute"
DEPLOYMENT = "ModelDeployment"
PROBE = {"interval": "1s", "failures": 1}


def _chat(team: Team, vendors: Vendors) -> tuple[Account, Account]:
    """Two models at two vendors, and one name for both; ready when this returns."""
    accounts = vendors.open("fleet"), vendors.open("solo")
    team.connect(accounts[0])
    team.secret("solo", token=accounts[1].token)
    token = {"secretKeyRef": {"name": "solo", "key": "token"}}
    solo = {"solo": {"endpoint": accounts[1].url, "token": token}}
    team.create("solo", solo, kind="Connection")
    for name, connection, account in zip(
        ("first", "second"), ("vendor", "solo"), accounts, strict=True
    ):
        spec = {
            "connectionRef": {"name": connection},
            "model": {"image": "llm"},
            "probe": PROBE,
            "interval": "1s",
            "outputs": {"secretName": f"of-{name}"},
            account.vendor: {},
        }
        team.create(name, spec, DEPLOYMENT)
    route = {
        "candidates": [{"name": "first"}, {"name": "second"}],
        "failover": {"after": f"{AFTER:.0f}s", "failbackAfter": f"{BACK_AFTER:.0f}s"},
        "outputs": {"secretName": "chat"},
    }
    for name in ("first", "second"):
        team.until_ready(name, DEPLOYMENT)
    team.create("chat", route, ROUTE)
    team.until("chat", _uses("first"), ROUTE)
    for name in ("of-first", "of-second"):
        vendors.secrets |= {
            v for k, v in _secret(team, name).items() if k in ("apiKey", "password")
        }
    return accounts


def _secret(team: Team, name: str) -> dict[str, str]:
    found = team.api.find("secrets", team.namespace, name)
    assert found is not None, f"there is no Secret {name}"
    return {key: base64.b64decode(value).decode() for key, value in found["data"].items()}


def _uses(name: str) -> Any:
    def uses(found: JSON | None) -> bool:
        return kstatus(found) is Kstatus.CURRENT and bool(
            found and found["status"].get("active") == name
        )

    return uses


def _became(team: Team, name: str, state: str, after: JSON) -> JSON:
    """The route as it was when a candidate came into a state, after it was as given.

    Whoever looks now and then may come too late to see it.
    """
    since = int(after["metadata"]["resourceVersion"])

    def found(_: object) -> list[JSON]:
        return [
            one
            for one in list(team.witness.versions[after["metadata"]["uid"]])
            if int(one["metadata"]["resourceVersion"]) > since
            and _candidate(one, name)["state"] == state
        ]

    team.until("chat", found, ROUTE)
    return found(None)[0]


def _candidate(found: JSON | None, name: str) -> JSON:
    assert found is not None
    return next(c for c in found["status"]["candidates"] if c["name"] == name)


def _since(found: JSON | None, name: str) -> float:
    """Seconds since a candidate is as it is."""
    return time.time() - datetime.fromisoformat(_candidate(found, name)["since"]).timestamp()


def _is_published(team: Team, name: str) -> None:
    """What the model has, and no more: above all no key of the one before."""
    published = _secret(team, f"of-{name}")
    assert _secret(team, "chat") == {**published, "deployment": name}
    keys = {"first": {"url", "apiKey"}, "second": {"address", "password"}}
    assert published.keys() == keys[name]


def test_the_next_one_takes_over_and_the_first_one_comes_back(
    vendors: Vendors, team: Team, operator: OperatorProcess, person: Person, figure
):
    fleet, _ = _chat(team, vendors)
    begun = team.until("chat", _uses("first"), ROUTE)
    assert begun is not None
    _is_published(team, "first")
    told = person.call("get", "modelroutes", f"--namespace={team.namespace}").splitlines()
    assert told[0].split() == ["NAME", "READY", "REASON", "ACTIVE", "VENDOR", "AGE"]
    assert told[1].split()[:-1] == ["chat", "True", "Ready", "first", "fleet"]

    # Its probe fails; the operator dies in between, and patience is kept all the same.
    fleet.ask("answer_with", 503)
    out = _became(team, "first", "Out", begun)
    assert out["status"]["active"] == "first"
    assert kstatus(out) is Kstatus.IN_PROGRESS
    operator.kill()
    operator.start()
    over = team.until("chat", _uses("second"), ROUTE)
    assert over is not None
    took_over = _since(over, "first")
    assert took_over >= AFTER
    assert _candidate(over, "first")["since"] == _candidate(out, "first")["since"]
    _is_published(team, "second")
    team.until_event("chat", "FailedOver", "second takes over from first: ProbeFailing")
    answer = person.why(team, "mroute/chat")
    assert answer["ready"]
    assert answer["chain"][0]["says"] == "Uses second at solo, instead of first"
    assert answer["next"][0]["command"].endswith(
        f"why ModelDeployment/first --namespace={team.namespace}"
    )
    shown = person.run("tree", namespace=team.namespace)
    rows = [line.split() for line in shown.splitlines()]
    assert [ROUTE, f"{team.namespace}/chat", "True", "Ready"] in rows
    assert ["├─", DEPLOYMENT, f"{team.namespace}/second", "in", "use", "True", "Ready"] in rows
    without_vendor = f'auterity_objects{{kind="{ROUTE}",ready="True",reason="Ready",vendor=""}}'
    assert without_vendor in operator.metrics_text()
    assert operator.metric("auterity_visits_total", kind=ROUTE, vendor="") > 0

    # It is well again, and is used only once it has been so for a while.
    fleet.ask("answer_with", 200)
    well = _became(team, "first", "Serving", over)
    assert well["status"]["active"] == "second"
    operator.kill()
    operator.start()
    back = team.until("chat", _uses("first"), ROUTE)
    came_back = _since(back, "first")
    assert came_back >= BACK_AFTER
    _is_published(team, "first")
    team.until_event("chat", "FailedBack", "first serves again and is used")

    # Its vendor is gone altogether.
    fleet.ask("fault", "LOST_REQUEST")
    gone = team.until("chat", _uses("second"), ROUTE)
    assert _candidate(gone, "first")["reason"] == "ProviderUnavailable"
    assert _since(gone, "first") >= AFTER
    _is_published(team, "second")
    figure(
        f"the second took over {took_over:.1f} s after the first was out (after: {AFTER:.0f} s); "
        f"the first came back after {came_back:.1f} s (failbackAfter: {BACK_AFTER:.0f} s), the "
        "operator killed in between; the Secret never had a key of the other"
    )


def test_another_replica_leads_to_the_next_one(vendors: Vendors, new_team, start: Start, figure):
    replicas = {each.name: each for each in (start(), start())}
    agree(*replicas.values())
    team = new_team()
    fleet, _ = _chat(team, vendors)
    route = team.find("chat", ROUTE)
    assert route is not None
    keeper = owner(route["metadata"]["uid"], list(replicas))
    assert keeper is not None
    fleet.ask("answer_with", 503)
    replicas.pop(keeper).kill()
    begun = time.monotonic()
    over = team.until("chat", _uses("second"), ROUTE)
    took = time.monotonic() - begun
    assert took < TAKEN_OVER_WITHIN + AFTER + 3
    assert _since(over, "first") >= AFTER
    _is_published(team, "second")
    (left,) = replicas.values()
    assert left.metric("auterity_objects", kind=ROUTE) == 1
    figure(
        f"the replica of the route killed as its first model failed: failed over in {took:.1f} s"
    )


def test_a_route_that_nobody_serves_tells_what_it_waits_for(
    vendors: Vendors, team: Team, person: Person
):
    team.create("chat", {"candidates": [{"name": "absent"}]}, ROUTE)
    told = team.until_reason("chat", "DependencyNotReady", ROUTE)
    assert told == "no candidate has served yet: absent (Missing)"
    assert kstatus(team.find("chat", ROUTE)) is Kstatus.IN_PROGRESS
    answer = person.why(team, "modelroutes/chat")
    assert [link["object"]["kind"] for link in answer["chain"]] == [ROUTE, DEPLOYMENT]
    assert answer["chain"][1]["state"] == "Missing"
    refused = person.run("forget", "mroute/chat", "--yes", namespace=team.namespace, code=1)
    assert "a ModelRoute makes nothing at any vendor" in refused
    report = person.run("doctor", namespace=team.namespace)
    assert "modelroutes" not in report, "nothing is amiss with routes"
    team.edit("chat", ROUTE, suspend=True)
    team.until_reason("chat", "Suspended", ROUTE)
    team.edit("chat", ROUTE, suspend=False)
    team.until_reason("chat", "DependencyNotReady", ROUTE)
    team.delete("chat", ROUTE)
    team.until_gone("chat", ROUTE)
