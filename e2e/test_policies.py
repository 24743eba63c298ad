"""What a user can ask of the engine besides the object itself."""

import re
import time
from datetime import datetime

from auterity.api import GROUP
from e2e.api import JSON
from e2e.kstatus import Kstatus, kstatus
from e2e.team import Team
from e2e.vendors import Vendors


def test_a_suspended_object_is_left_alone_until_it_is_resumed(vendors: Vendors, team: Team):
    account = vendors.open()
    team.connect(account)
    team.index("docs")
    team.until_ready("docs")
    team.edit("docs", suspend=True, example={"replicas": 4})
    told = team.until_reason("docs", "Suspended")
    assert told == "spec.suspend is true: the vendor is left alone"
    team.annotate("docs", requestedAt="1")
    team.until("docs", lambda o: o["status"].get("lastHandledReconcileAt") == "1")
    assert account.holds()["docs"]["replicas"] == 1
    team.edit("docs", suspend=False)
    team.until_reason("docs", "Ready")
    assert account.holds()["docs"]["replicas"] == 4


def test_a_visit_asked_for_is_made_at_once_and_echoed(vendors: Vendors, team: Team):
    account = vendors.open()
    team.connect(account)
    team.index("docs", interval="1h")
    team.until_ready("docs")
    account.ask("tamper", "docs")
    team.annotate("docs", requestedAt="2026-01-01T00:00:00Z")
    team.until(
        "docs", lambda o: o["status"].get("lastHandledReconcileAt") == "2026-01-01T00:00:00Z"
    )
    assert account.holds()["docs"]["replicas"] == 1
    team.until_event(
        "docs", "DriftReverted", "Someone else had changed example.replicas at example; undone"
    )


def test_what_has_a_ttl_goes_at_the_vendor_when_it_has_passed(vendors: Vendors, team: Team):
    account = vendors.open()
    team.connect(account)
    made = team.index("preview")["metadata"]["creationTimestamp"]
    team.until_ready("preview")
    # Of what has passed of it already: as much as it took to make it.
    ttl = int(time.time() - datetime.fromisoformat(made).timestamp()) + 3
    team.edit("preview", ttl=f"{ttl}s")
    team.until_reason("preview", "Expired")
    passed = datetime.fromisoformat(team.ready("preview")["lastTransitionTime"])
    assert (passed - datetime.fromisoformat(made)).total_seconds() >= ttl
    assert account.holds() == {}
    assert kstatus(team.find("preview")) is Kstatus.FAILED
    assert "id" not in team.status("preview")


def test_every_change_waits_for_approval_if_asked_to(vendors: Vendors, team: Team):
    account = vendors.open()
    team.connect(account)
    team.index("docs", approval="Always")

    def approve(action: str) -> JSON:
        told = team.until_reason("docs", "AwaitingApproval", words=f"{action} waits for approval")
        plan: JSON = team.status("docs")["plan"]
        assert plan["action"] == action
        assert told.endswith(f"annotate the object with {GROUP}/approve={plan['hash']}")
        team.annotate("docs", approve=plan["hash"])
        return plan

    approve("Create")
    team.until_ready("docs")
    team.edit("docs", example={"replicas": 3})
    team.until_reason("docs", "AwaitingApproval")
    assert account.holds()["docs"]["replicas"] == 1
    plan = approve("Update")
    assert plan["changes"] == [{"field": "example.replicas", "from": "1", "to": "3"}]
    team.until_ready("docs")
    assert account.holds()["docs"]["replicas"] == 3
    assert "plan" not in team.status("docs")
    team.delete("docs")
    approve("Delete")
    team.until_gone("docs")
    assert account.holds() == {}


def test_destructive_changes_alone_wait_for_approval_if_asked_to(vendors: Vendors, team: Team):
    account = vendors.open()
    team.connect(account)
    team.index("docs", approval="Destructive")
    team.until_ready("docs")
    team.edit("docs", example={"replicas": 2})
    team.until_ready("docs")
    team.delete("docs")
    told = team.until_reason("docs", "AwaitingApproval")
    assert set(account.holds()) == {"docs"}
    match = re.search(r"approve=(\w+)$", told)
    assert match is not None
    team.annotate("docs", approve=match[1])
    team.until_gone("docs")
    assert account.holds() == {}


def test_a_forgotten_object_goes_without_a_call_to_the_vendor(vendors: Vendors, team: Team):
    account = vendors.open()
    team.connect(account)
    team.index("docs")
    team.until_ready("docs")
    account.ask("fault", "SERVER_ERROR")
    team.delete("docs")
    team.until_reason("docs", "ProviderUnavailable")
    team.annotate("docs", forget="true")
    team.until_gone("docs")
    assert set(account.holds()) == {"docs"}
    assert team.events("docs")[-1] == (
        "Forgotten",
        "Let go without asking the vendor; left: docs",
    )


def test_what_is_observed_is_never_changed(vendors: Vendors, team: Team):
    account = vendors.open()
    team.connect(account)
    team.index("docs", policy="Observe")
    told = team.until_reason("docs", "NotFound")
    assert told == "There is no docs at example; policy is Observe"
    account.ask("foreign", {}, "docs", None)
    account.ask("tamper", "docs")
    before = account.holds()
    team.annotate("docs", requestedAt="1")
    team.until_reason("docs", "Observed")
    (drift,) = [d for d in team.status("docs")["drift"] if d["field"] == "example.replicas"]
    assert drift == {"field": "example.replicas", "want": "1", "actual": "6"}
    team.delete("docs")
    team.until_gone("docs")
    assert account.holds() == before


def test_what_is_adopted_is_planned_first_and_taken_over_then(vendors: Vendors, team: Team):
    account = vendors.open()
    account.ask("foreign", {}, "docs", None)
    account.ask("tamper", "docs")
    team.connect(account)
    uid = team.index("docs", policy="Adopt")["metadata"]["uid"]
    team.until_ready("docs")
    held = account.holds()["docs"]
    assert held["replicas"] == 1
    assert held["tags"]["owner"].endswith(f"/{team.namespace}/docs")
    team.until_event("docs", "Adopted", "Took over docs")

    def planned(_: object) -> list[JSON]:
        return [v["status"]["plan"] for v in team.witness.versions[uid] if "plan" in v["status"]]

    team.until("docs", planned)
    plan, *again = planned(None)
    assert all(other == plan for other in again)
    assert plan["action"] == "Adopt"
    assert {"field": "example.replicas", "from": "6", "to": "1"} in plan["changes"]


def test_drift_is_only_reported_if_asked_to(vendors: Vendors, team: Team):
    account = vendors.open()
    team.connect(account)
    team.index("docs", driftPolicy="Report", interval="1s")
    team.until_ready("docs")
    account.ask("tamper", "docs")
    told = team.until_reason("docs", "Drifted")
    assert told == (
        "Changed at example by someone else: example.replicas; driftPolicy is Report, so it is "
        "left: see status.drift"
    )
    assert team.status("docs")["drift"] == [
        {"field": "example.replicas", "want": "1", "actual": "6"}
    ]
    assert account.holds()["docs"]["replicas"] == 6
    team.edit("docs", driftPolicy="Revert")
    team.until_reason("docs", "Ready")
    assert account.holds()["docs"]["replicas"] == 1
    assert "drift" not in team.status("docs")


def test_what_is_retained_stays_at_the_vendor(vendors: Vendors, team: Team):
    account = vendors.open()
    team.connect(account)
    spec = team.spec()
    del spec["deletionPolicy"]
    team.create("docs", spec)
    found = team.until_ready("docs")
    assert found["spec"]["deletionPolicy"] == "Retain"
    team.delete("docs")
    team.until_gone("docs")
    assert set(account.holds()) == {"docs"}
    assert team.events("docs")[-1] == ("Retained", "Left at example: docs")

    team.create("docs", spec)
    team.until_ready("docs")
    assert len(account.holds()) == 1
