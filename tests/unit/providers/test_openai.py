"""What is special of OpenAI: two families of 429, the closing of fine-tuning, models that go."""

from typing import Any

import pytest
from aiohttp import web

from auterity.engine.contract import Phase
from auterity.engine.errors import Conflict
from auterity.providers.openai import OpenAITuning, OpenAITuningParams, body_of
from tests.conformance.harness import NAME, Harness
from tests.conformance.vendor import JSON, merged
from tests.fakes.openai import OpenAITunings, Project, Refused, description

STAND_IN = OpenAITunings


def behind(harness: Harness) -> Project:
    assert isinstance(harness.vendor, OpenAITunings)
    return harness.vendor.project


def wanted(**spec: Any) -> OpenAITuningParams:
    base = {"name": "tone", "baseModel": "o4-mini", "trainingData": "file-train"}
    return OpenAITuningParams.model_validate({**base, **spec})


@pytest.mark.parametrize(
    ("status", "words"),
    [
        (403, "You are not allowed to create fine-tuning jobs"),
        (400, "Fine-tuning is no longer available for your organization."),
    ],
)
async def test_that_fine_tuning_has_closed_is_told_and_nothing_is_tried_again_soon(
    harness: Harness, status: int, words: str
):
    behind(harness).refuses = Refused(status, words)
    harness.apply()
    verdict = await harness.converge()
    assert (verdict.outcome, harness.condition("Stalled")) == ("SpecRejected", True)
    assert words in harness.ready["message"]
    assert "starts no job for anyone after 6 January 2027" in harness.ready["message"]
    assert verdict.seconds > 300


async def test_the_end_of_a_model_is_told_as_soon_as_openai_tells_it(harness: Harness):
    await harness.make()
    (model,) = behind(harness).models
    assert set(harness.subject.status["summary"]) == {"status", "trainedTokens"}
    behind(harness).shutdowns[model] = "2027-10-23"
    assert (await harness.visit()).outcome == "Ready"
    assert harness.subject.status["summary"]["shutdownDate"] == "2027-10-23"
    behind(harness).models.clear()
    assert (await harness.visit()).outcome == "Ready"
    assert harness.subject.status["summary"]["model"] == "no longer there"


async def test_a_quota_that_is_used_up_is_not_waited_for(harness: Harness):
    behind(harness).refuses = Refused(
        429, "You exceeded your current quota, please check your plan.", "insufficient_quota"
    )
    harness.apply()
    verdict = await harness.converge()
    assert verdict.outcome == "SpecRejected"
    assert harness.ready["message"] == (
        "the quota or the budget is used up: You exceeded your current quota, please check your "
        "plan.; raise it, or add credits"
    )


async def test_a_rate_limit_is_waited_for(harness: Harness):
    behind(harness).refuses = Refused(429, "Rate limit reached", "rate_limit_exceeded")
    harness.apply()
    assert (await harness.visit()).outcome == "RateLimited"


async def test_a_file_that_cannot_be_read_is_told_in_openais_words(harness: Harness):
    harness.apply(merged(OpenAITunings.spec, {"trainingData": "file-broken"}))
    await harness.converge()
    assert harness.ready["reason"] == "ProviderFailed"
    assert harness.ready["message"] == (
        "the job is failed: The job failed due to an unsupported file format. Line 3 is not JSON. "
        "(training_file)"
    )


async def test_a_status_that_nobody_knows_is_pending(harness: Harness):
    id = await harness.make()
    behind(harness).jobs[id]["status"] = "paused"
    observed = await harness.read()
    assert observed is not None
    assert (observed.phase, observed.message) == (Phase.PENDING, "the job is paused")


async def test_a_snapshot_is_no_other_model_than_its_alias(harness: Harness):
    id = await harness.make()
    assert behind(harness).jobs[id]["model"] == "gpt-4.1-mini-2025-04-14"
    assert (await harness.visit()).outcome == "Ready"


async def test_a_run_whose_model_is_gone_does_not_count_for_one_declared_anew(harness: Harness):
    id = await harness.make()
    harness.apply(deletionPolicy="Retain")
    await harness.remove()
    behind(harness).models.clear()
    assert await harness.make() != id


async def test_a_run_of_another_owner_is_left_alone(harness: Harness):
    await harness.vendor.foreign(OpenAITunings.spec, NAME, "other/cluster/object")
    harness.forget_faults()
    for policy in ("Manage", "Adopt"):
        harness.apply(policy=policy)
        assert (await harness.converge()).outcome == "Conflict"
        assert "other/cluster/object" in harness.ready["message"]
    assert harness.vendor_writes() == []


async def test_runs_of_several_owners_are_for_a_person_to_decide(harness: Harness):
    for owner in ("a/team/it", "b/team/it"):
        await harness.vendor.foreign(OpenAITunings.spec, NAME, owner)
    provider = await harness.opened()
    with pytest.raises(Conflict, match="a/team/it, b/team/it"):
        await provider.locate(wanted(name=NAME))


@pytest.mark.parametrize(
    "spec",
    [
        {"method": "Preference", "epochs": 2, "hyperparameters": {"beta": "0.2"}},
        {
            "method": "Reinforcement",
            "hyperparameters": {"reasoning_effort": "medium"},
            "grader": '{"type": "string_check", "name": "same", "operation": "eq", '
            '"input": "{{sample.output_text}}", "reference": "{{item.answer}}"}',
        },
        {"hyperparameters": {"batch_size": "auto"}},
        {"wandb": {"project": "tone"}, "metadata": {"team": "voice"}},
    ],
)
def test_every_method_is_a_request_that_openai_describes(spec: JSON):
    want = wanted(**spec)
    assert not OpenAITuning.objections(want)
    official = description()
    if official is None:
        pytest.skip("no official descriptions at hand")
    violation = official.check(
        "POST",
        "/fine_tuning/jobs",
        query={},
        content_type="application/json",
        body=body_of(want, "cluster/team/tone"),
    )
    assert violation is None


def test_a_grader_belongs_to_reinforcement():
    assert "grader" in OpenAITuning.objections(wanted(method="Reinforcement"))
    assert "grader" in OpenAITuning.objections(wanted(grader="{}"))
    graded = wanted(method="Reinforcement", grader="no JSON")
    assert OpenAITuning.objections(graded)["grader"] == "not a JSON object"


async def test_the_organization_is_told_by_the_answer(harness: Harness):
    provider = await harness.opened()
    identity = await provider.session.verify()
    assert identity.name == "project proj_acme of organization acme"


async def test_a_404_of_a_gateway_is_not_taken_for_a_job_that_is_gone(harness: Harness):
    id = await harness.make()

    behind(harness).server.authorize = lambda _: web.Response(text="no route", status=404)
    await harness.visit()
    assert harness.ready["reason"] == "ProviderUnavailable"
    assert harness.subject.status["id"] == id
