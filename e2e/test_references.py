"""Integrations that wait for others, by name and by labels, and wake when these are ready."""

from e2e.team import Team
from e2e.vendors import Vendors


def test_dependencies_are_waited_for_and_wake_who_waits(vendors: Vendors, team: Team):
    account = vendors.open()
    team.connect(account)
    team.index("by-name", dependsOn=[{"kind": "VectorIndex", "name": "first"}])
    labels = {"matchLabels": {"tier": "base"}}
    team.index("by-label", dependsOn=[{"kind": "VectorIndex", "selector": labels}])
    assert (
        team.until_reason("by-name", "DependencyNotReady") == "VectorIndex 'first' does not exist"
    )
    assert team.until_reason("by-label", "DependencyNotReady") == (
        "no VectorIndex has the labels tier=base"
    )
    assert account.holds() == {}

    account.ask("slow", True)
    team.create("first", team.spec(), labels={"tier": "base"})
    team.until_reason("by-name", "DependencyNotReady", words="is not ready: Progressing")
    team.until_reason("by-label", "DependencyNotReady", words="is not ready: Progressing")
    assert set(account.holds()) == {"first"}
    account.ask("slow", False)
    account.ask("settle")
    for name in ("by-name", "by-label"):
        team.until_ready(name)
    assert set(account.holds()) == {"first", "by-name", "by-label"}


def test_outputs_of_another_are_taken_once_it_is_ready(vendors: Vendors, team: Team):
    account = vendors.open("numbered")
    team.connect(account)

    def note(**ref: object) -> dict[str, object]:
        return {"note": {"outputRef": {"kind": "VectorIndex", **ref}}}

    labels = {"matchLabels": {"tier": "base"}}
    team.index("by-name", "numbered", numbered=note(name="first", output="number"))
    team.index("by-label", "numbered", numbered=note(selector=labels, output="number"))
    team.index("mistaken", "numbered", numbered=note(name="first", output="nothing"))
    team.until_reason("by-name", "DependencyNotReady", words="'first' does not exist")
    team.until_reason("by-label", "DependencyNotReady", words="no VectorIndex has the labels")

    made = team.create("first", team.spec("numbered"), labels={"tier": "base"})
    for name in ("by-name", "by-label"):
        team.until_ready(name)
    held = account.holds()
    assert held["by-name"]["note"] == held["by-label"]["note"] == held["first"]["id"]
    assert team.until_reason("mistaken", "DependencyNotReady", words="no output") == (
        "VectorIndex 'first' has no output 'nothing'; it has: number"
    )

    team.create("second", team.spec("numbered"), labels={"tier": "base"})
    team.until_ready("second")
    team.annotate("by-label", requestedAt="now")
    assert team.until_reason("by-label", "DependencyNotReady") == (
        "output 'number': the selector matches 2 VectorIndex objects (first, second); "
        "it must match one"
    )

    team.delete("first")
    team.until_gone("first")
    team.create("first", team.spec("numbered"))
    again = team.until_ready("first")
    assert again["metadata"]["uid"] != made["metadata"]["uid"]
    team.until("by-name", lambda _: account.holds()["by-name"]["note"] == again["status"]["id"])
    team.until_ready("by-label")


def test_a_secret_value_in_a_spec_reaches_the_vendor_and_follows_its_rotation(
    vendors: Vendors, team: Team
):
    account = vendors.open("numbered")
    team.connect(account)
    first, second = vendors.made_up_token(), vendors.made_up_token()
    team.secret("notes", text=first)
    ref = {"note": {"secretKeyRef": {"name": "notes", "key": "text"}}}
    team.index("docs", "numbered", numbered=ref)
    team.until_ready("docs")
    assert account.holds()["docs"]["note"] == first
    team.secret("notes", text=second)
    team.until("docs", lambda _: account.holds()["docs"]["note"] == second)
    team.until_ready("docs")
    account.ask("edit", account.holds()["docs"]["id"], {"note": "someone else's"})
    team.annotate("docs", requestedAt="now")
    team.until("docs", lambda _: account.holds()["docs"]["note"] == second)
