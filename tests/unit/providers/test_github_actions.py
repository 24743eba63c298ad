"""What is special of GitHub Actions: the ledger, dispatches, protection, names."""

from collections.abc import AsyncIterator
from typing import Any

import pytest
from pydantic import ValidationError

from auterity.providers.github_actions.ledger import Ledger, note_of, parsed, unclaimed
from auterity.providers.github_actions.params import GitHubActionsBinding
from tests.conformance.harness import NAME, Harness
from tests.conformance.vendor import merged
from tests.fakes.github_actions import CI, CONTENT, GitHubActionsVendor, Repository

NOTE = note_of(NAME)
SPEC = GitHubActionsVendor.spec
SECRET = {"secretKeyRef": {"name": "ci", "key": "npm"}}
PROTECTED = {"protection": [{"environment": "eu/prod", "waitTimer": 5}]}


class Bench:
    """One binding at one repository."""

    def __init__(self) -> None:
        self.vendor = GitHubActionsVendor()
        self.harness: Harness

    @property
    def shop(self) -> Repository:
        return self.vendor.shop

    async def apply(self, *patches: dict[str, Any], **common: Any) -> str:
        """Apply the spec with these patches; the outcome once it rests."""
        spec = SPEC
        for patch in patches:
            spec = merged(spec, patch)
        self.harness.apply(spec, **common)
        return (await self.harness.converge()).outcome

    @property
    def message(self) -> str:
        return str(self.harness.ready["message"])

    def ledger(self) -> Ledger:
        found = Ledger.noted(NAME, self.shop.entries.variables)
        assert found is not None
        return found


@pytest.fixture
async def bench() -> AsyncIterator[Bench]:
    it = Bench()
    await it.vendor.start()
    await it.vendor.reset()
    it.harness = Harness(it.vendor)
    await it.harness.start()
    yield it
    await it.harness.stop()
    await it.vendor.stop()
    assert not it.vendor.violations


async def test_secrets_arrive_and_those_of_others_stay(bench: Bench) -> None:
    assert await bench.apply() == "Ready"
    secrets = bench.shop.entries.secrets
    assert secrets["NPM_TOKEN"]["opened"] == bench.vendor.secrets["ci"]["npm"]
    prod = bench.shop.environments["eu/prod"]["entries"]
    assert prod.secrets["DEPLOY_KEY"]["opened"] == bench.vendor.secrets["ci"]["deploy"]
    await bench.harness.remove()
    assert secrets.keys() == {"OTHERS"}
    assert bench.shop.environments.keys() == {"others"}


async def test_a_secret_that_someone_else_has_written_is_written_again(bench: Bench) -> None:
    await bench.apply()
    bench.shop.entries.put_secret("NPM_TOKEN", "of someone else")
    await bench.harness.converge()
    assert bench.shop.entries.secrets["NPM_TOKEN"]["opened"] == bench.vendor.secrets["ci"]["npm"]
    assert "secrets.npm_token" in bench.harness.recorder.drift


async def test_what_exists_is_named_and_left_unless_adopted(bench: Bench) -> None:
    bench.shop.entries.put_secret("NPM_TOKEN", "of someone else")
    bench.shop.put_environment("eu/prod", {"wait_timer": 30})
    assert await bench.apply() == "Conflict"
    assert "secrets/npm_token,environments/eu%2Fprod exists" in bench.message
    assert NOTE not in bench.shop.entries.variables
    assert await bench.apply(policy="Adopt") == "Ready"
    assert bench.shop.entries.secrets["NPM_TOKEN"]["opened"] == bench.vendor.secrets["ci"]["npm"]
    assert bench.shop.environments["eu/prod"]["protection"]["wait_timer"] == 30
    assert bench.harness.subject.status["id"] == f"acme/shop#{NAME}"


async def test_an_entry_added_later_must_not_exist(bench: Bench) -> None:
    await bench.apply()
    bench.shop.entries.put_variable("LATER", "of someone else")
    patch = {"variables": [*SPEC["variables"], {"name": "later", "value": "ours"}]}
    assert await bench.apply(patch) == "Conflict"
    assert "variables later exists already in acme/shop" in bench.message
    assert bench.shop.entries.variables["LATER"]["value"] == "of someone else"


async def test_the_note_of_a_binding_names_all_it_holds_and_no_value(bench: Bench) -> None:
    await bench.apply()
    note = bench.shop.entries.variables[NOTE]["value"]
    assert "eu-central-1" not in note
    assert bench.ledger().holds == [
        ("environments", "eu/prod"),
        ("environments", "eu/prod", "secrets", "DEPLOY_KEY"),
        ("environments", "eu/prod", "variables", "URL"),
        ("secrets", "npm_token"),
        ("variables", "REGION"),
        ("workflows", CI),
        ("workflows", CI, "content"),
    ]


async def test_a_spoilt_note_stops_for_a_person(bench: Bench) -> None:
    await bench.apply()
    bench.shop.entries.put_variable(NOTE, "{")
    assert (await bench.harness.converge()).outcome == "Conflict"
    assert NOTE in bench.message


async def test_a_refused_name_leaves_nothing_behind(bench: Bench) -> None:
    patch = {"secrets": [{"name": "GITHUB_TOKEN", **SECRET}]}
    assert await bench.apply(patch) == "SpecRejected"
    assert "must not start with GITHUB_" in bench.message
    await bench.harness.remove()
    assert await bench.vendor.count() == bench.harness.baseline


async def test_a_dispatch_happens_once_wherever_the_operator_dies(bench: Bench) -> None:
    harness = bench.harness
    await harness.make()
    writes = [n for n, method in enumerate(harness.script.methods) if method != "GET"]
    for number in writes:
        for when in ("kill_before", "kill_after"):
            await harness.remove()
            bench.shop.runs.clear()
            harness.forget_faults()
            setattr(harness.script, when, number)
            harness.apply()
            await harness.converge_in_spite_of_death()
            assert len(bench.shop.runs) == 1, (number, when)
            assert bench.ledger().dispatches[CI].run == bench.shop.runs[0]["id"]


async def test_only_a_changed_dispatch_is_sent_again(bench: Bench) -> None:
    await bench.apply()
    first = bench.shop.runs[0]
    assert bench.harness.subject.status["summary"] == {
        "deploy.yml": f"success: {first['html_url']}"
    }
    file = {"path": CI, "content": {"value": CONTENT + "# changed\n"}}
    dispatch = {"ref": "main", "inputs": {"reason": "setup"}}
    await bench.apply({"githubActions": {"workflows": [{**file, "dispatch": dispatch}]}})
    bench.shop.files.pop(("main", CI))
    await bench.harness.converge()
    assert bench.shop.runs == [first]
    again = {**dispatch, "trigger": "2"}
    await bench.apply({"githubActions": {"workflows": [{**file, "dispatch": again}]}})
    assert len(bench.shop.runs) == 2


async def test_a_workflow_that_github_does_not_know_yet_is_waited_for(bench: Bench) -> None:
    path = ".github/workflows/late.yml"
    workflow = {"path": path, "enabled": True, "dispatch": {"ref": "main"}}
    bench.harness.apply(merged(SPEC, {"githubActions": {"workflows": [workflow]}}))
    verdict = await bench.harness.visit()
    assert verdict.outcome == "Progressing", bench.message
    assert "has to be on the default branch" in bench.message
    bench.shop.files["main", path] = CONTENT.encode()
    await bench.harness.converge()
    assert bench.harness.ready["status"] == "True"
    await bench.harness.remove()
    assert ("main", path) in bench.shop.files


async def test_protection_is_written_and_taken_away_again(bench: Bench) -> None:
    edit = next(e for e in GitHubActionsVendor.edits if e.name == "protection")
    assert await bench.apply(edit.patch) == "Ready"
    place = bench.shop.environments["eu/prod"]
    assert place["protection"]["wait_timer"] == 15
    assert place["protection"]["prevent_self_review"] is True
    assert {p["name"] for p in place["patterns"].values()} == {"main", "release/*", "v*"}
    assert place["entries"].secrets.keys() == {"DEPLOY_KEY"}
    await bench.apply()
    told = bench.shop.told_environment(bench.shop.environments["eu/prod"])
    assert (told["protection_rules"], told["deployment_branch_policy"]) == ([], None)


async def test_protection_that_is_not_declared_is_left(bench: Bench) -> None:
    await bench.apply({"githubActions": PROTECTED})
    reviewers = [{"type": "User", "id": 102}]
    bench.shop.put_environment("eu/prod", {"wait_timer": 5, "reviewers": reviewers})
    await bench.apply(
        {"githubActions": {"protection": [{"environment": "eu/prod", "waitTimer": 9}]}}
    )
    protection = bench.shop.environments["eu/prod"]["protection"]
    assert (protection["wait_timer"], protection["reviewers"]) == (9, reviewers)


async def test_a_plan_without_protection_rules_still_has_environments(bench: Bench) -> None:
    bench.shop.protects = False
    assert await bench.apply() == "Ready"
    assert await bench.apply({"githubActions": PROTECTED}) == "SpecRejected"
    assert "billing plan" in bench.message


async def test_a_missing_permission_is_told_with_its_name(bench: Bench) -> None:
    bench.vendor.github.denied = {"/secrets/": "secrets=write"}
    assert await bench.apply() == "CredentialsRejected"
    assert "it needs secrets=write" in bench.message
    bench.vendor.github.denied = {}
    assert (await bench.harness.converge()).outcome == "Ready"


async def test_an_unknown_reviewer_is_named(bench: Bench) -> None:
    protection = [{"environment": "eu/prod", "reviewers": {"users": ["nobody"]}}]
    assert await bench.apply({"githubActions": {"protection": protection}}) == "SpecRejected"
    assert "/users/nobody" in bench.message


@pytest.mark.parametrize(
    ("patch", "words"),
    [
        ({"secrets": [{"name": "A", **SECRET}, {"name": "a", **SECRET}]}, "are the same to GitHub"),
        ({"variables": [{"name": "auterity_x", "value": "1"}]}, "are reserved"),
        ({"protection": [{"environment": "nowhere"}]}, "no environment here"),
        ({"protection": [{"environment": "eu/prod", "tags": ["v*"]}]}, "need deployments: Custom"),
    ],
)
def test_what_cannot_be_kept_is_refused_at_once(patch: dict[str, Any], words: str) -> None:
    flat = {**{k: v for k, v in SPEC.items() if k != "githubActions"}, "name": NAME}
    with pytest.raises(ValidationError, match=words):
        GitHubActionsBinding.model_validate({**flat, **patch})


def test_ids_of_what_is_unclaimed_can_be_read_back() -> None:
    keys = [("secrets", "A"), ("environments", "eu/prod", "secrets", "B,?#")]
    assert parsed(unclaimed("acme/shop#ci", keys)) == ("acme/shop", "ci", keys)
    assert parsed("acme/shop#ci") == ("acme/shop", "ci", [])
