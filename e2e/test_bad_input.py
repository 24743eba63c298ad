"""Mistakes: each is told, in words that say what and where, and what to do."""

import pytest

from e2e.kstatus import Kstatus, kstatus
from e2e.team import Team
from e2e.vendors import Account, Vendors
from tools.controlplane import KubectlError


@pytest.fixture
def account(vendors: Vendors) -> Account:
    return vendors.open()


def refused(team: Team, spec: dict, name: str = "docs") -> str:
    with pytest.raises(KubectlError) as caught:
        team.apply(name, spec)
    return str(caught.value)


def test_what_the_schema_forbids_is_refused_by_the_api_server(team: Team):
    spec = team.spec()
    unknown = {**{k: v for k, v in spec.items() if k != "example"}, "acme": {}}
    assert 'unknown field "spec.acme"' in refused(team, unknown)
    two = refused(team, {**spec, "numbered": {}})
    assert "exactly one vendor must be given: " in two
    assert {"example", "numbered"} <= {*two.rpartition(": ")[2].strip().split(", ")}
    assert "spec.dimension" in refused(team, {**spec, "dimension": 0})

    team.apply("docs", spec)
    changed = refused(team, {**spec, "dimension": 16})
    assert "spec.dimension: Invalid value" in changed
    assert "cannot change" in changed
    other = refused(team, {**{k: v for k, v in spec.items() if k != "example"}, "numbered": {}})
    assert "vendor cannot change: delete and create anew" in other


def test_a_missing_secret_or_key_is_named_and_waited_for(account: Account, team: Team):
    team.create("vendor", account.block(), kind="Connection")
    team.index("docs")
    told = team.until_reason("vendor", "DependencyNotReady", "Connection")
    assert told == f"Secret 'vendor' in namespace '{team.namespace}' does not exist"
    team.secret(apiKey=account.token)
    told = team.until_reason("vendor", "DependencyNotReady", "Connection", words="key")
    assert told == f"Secret 'vendor' in namespace '{team.namespace}' has no key 'token'"
    team.until_reason("docs", "DependencyNotReady", words="has no key 'token'")
    team.secret(token=account.token)
    team.until_ready("vendor", "Connection")
    team.until_ready("docs")


def test_a_missing_connection_is_named_and_waited_for(account: Account, team: Team):
    team.index("docs")
    assert team.until_reason("docs", "DependencyNotReady") == "Connection 'vendor' does not exist"
    team.connect(account)
    team.until_ready("docs")


def test_wrong_credentials_from_the_start_are_told(account: Account, vendors: Vendors, team: Team):
    team.secret(token=vendors.made_up_token())
    team.create("vendor", account.block(), kind="Connection")
    told = team.until_reason("vendor", "CredentialsRejected", "Connection")
    assert told == "the vendor refuses the credentials: unknown token"
    assert kstatus(team.find("vendor", "Connection")) is Kstatus.FAILED


def test_an_object_of_the_same_name_that_is_not_ours_is_left_alone(account: Account, team: Team):
    account.ask("foreign", {}, "plain", None)
    account.ask("foreign", {}, "theirs", "elsewhere/team/theirs")
    before = account.holds()
    team.connect(account)
    for name in ("plain", "theirs"):
        team.index(name)
    assert team.until_reason("plain", "Conflict") == (
        "plain exists at example and is not ours; to take it over set spec.policy to Adopt, else "
        "choose another spec.externalName"
    )
    assert team.until_reason("theirs", "Conflict") == (
        "theirs exists at example and belongs to elsewhere/team/theirs; delete or rename one of "
        "the two"
    )
    assert kstatus(team.find("plain")) is Kstatus.FAILED
    for name in ("plain", "theirs"):
        team.delete(name)
        team.until_gone(name)
    assert account.holds() == before


def test_what_the_vendor_does_not_show_at_once_is_told_apart_by_its_mark(
    account: Account, team: Team
):
    team.connect(account)
    team.index("probe")
    team.until_ready("probe")
    ours = account.holds()["probe"]["tags"]["owner"].replace("/probe", "/ours")
    account.ask("foreign", {}, "ours", ours)
    account.ask("hide", 1)
    team.index("ours")
    team.until_ready("ours")

    account.ask("foreign", {}, "plain", None)
    account.ask("hide", 1)
    team.index("plain")
    team.until_reason("plain", "Conflict", words="plain exists at example and is not ours")
    assert "owner" not in account.holds()["plain"]["tags"]


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        ("WEB_PAGE", "answered with a web page instead of data; is the endpoint right?"),
        ("HALF_JSON", "sent broken JSON"),
        ("SERVER_ERROR", "the vendor answered 500"),
        ("LOST_REQUEST", "127.0.0.1 cannot be reached"),
    ],
)
def test_an_answer_that_makes_no_sense_is_told_and_tried_again(
    account: Account, team: Team, fault: str, words: str
):
    team.connect(account)
    account.ask("fault", fault)
    team.index("docs")
    team.until_reason("docs", "ProviderUnavailable", words=words)
    assert kstatus(team.find("docs")) is Kstatus.IN_PROGRESS
    account.ask("fault", None)
    team.until_ready("docs")


def test_what_the_vendor_refuses_is_told_in_its_own_words(account: Account, team: Team):
    team.connect(account)
    team.index("docs", externalName="_docs")
    told = team.until_reason("docs", "SpecRejected")
    assert told == "the vendor refused the request (400): name must start with a letter"
    assert kstatus(team.find("docs")) is Kstatus.FAILED
    team.delete("docs")
    team.until_gone("docs")
    assert account.holds() == {}


def test_an_endpoint_that_must_not_be_called_is_refused(account: Account, team: Team):
    team.secret(token=account.token)
    block = account.block()["example"]
    team.create(
        "vendor", {"example": {**block, "endpoint": "http://169.254.169.254"}}, kind="Connection"
    )
    told = team.until_reason("vendor", "SpecRejected", "Connection")
    assert told == "endpoint host 169.254.169.254 is a link-local or metadata address; not allowed"
