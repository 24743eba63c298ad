"""What is special of fine-tuning at Together: files, reasons, and what is left to delete."""

import pytest

from auterity.engine.errors import Conflict
from auterity.providers.together.tuning import TogetherTuning, TogetherTuningParams
from tests.conformance.harness import Harness
from tests.conformance.vendor import JSON, merged
from tests.fakes.together import LLAMA, PROJECT
from tests.fakes.together_tuning import WANDB_KEY, Jobs, TogetherTunings

STAND_IN = TogetherTunings


def behind(harness: Harness) -> Jobs:
    assert isinstance(harness.vendor, TogetherTunings)
    return harness.vendor.project


async def tried(harness: Harness, patch: JSON) -> tuple[str, str]:
    harness.apply(merged(TogetherTunings.spec, patch))
    await harness.visit()
    return harness.ready["reason"], harness.ready["message"]


async def test_outputs_are_what_a_deployment_takes(harness: Harness):
    id = await harness.make()
    outputs = harness.subject.status["outputs"]
    assert outputs["model"] == f"projects/{PROJECT}/models/ml_{id[3:]}"
    assert outputs["adapter"] == f"{outputs['model']}a"
    assert harness.subject.status["summary"] == {"status": "completed", "epochs": "3 of 3"}
    assert WANDB_KEY in await harness.vendor.told(id)


async def test_a_file_that_cannot_be_read_is_told_before_anything_runs(harness: Harness):
    assert await tried(harness, {"trainingData": "file-broken"}) == (
        "SpecRejected",
        "trainingData: Together cannot read file-broken: line 3 is no JSON",
    )
    assert not behind(harness).jobs


async def test_a_file_that_is_not_there_is_told(harness: Harness):
    assert await tried(harness, {"validationData": "file-none"}) == (
        "SpecRejected",
        "validationData: Together has no file file-none; upload it for fine-tuning",
    )


async def test_a_file_that_is_still_checked_is_waited_for(harness: Harness):
    reason, message = await tried(harness, {"trainingData": "file-fresh"})
    assert (reason, message) == (
        "DependencyNotReady",
        "trainingData: Together is still checking file-fresh",
    )
    behind(harness).files["file-fresh"]["processing_status"] = "COMPLETED"
    await harness.converge()
    assert harness.ready["status"] == "True"


async def test_a_model_that_cannot_be_tuned_is_told_in_togethers_words(harness: Harness):
    reason, message = await tried(harness, {"baseModel": "acme/none"})
    assert reason == "SpecRejected"
    assert "Model acme/none is not available for fine-tuning" in message


async def test_a_run_that_fails_tells_why_and_is_not_repeated(harness: Harness):
    behind(harness).fails = "billing limit reached after 2 epochs"
    harness.apply()
    await harness.converge()
    assert harness.ready["reason"] == "ProviderFailed"
    assert harness.ready["message"] == "the job is error: billing limit reached after 2 epochs"
    await harness.visit()
    assert len(behind(harness).jobs) == 1


async def test_a_model_that_is_served_is_not_deleted_and_the_job_waits(harness: Harness):
    id = await harness.make()
    project = behind(harness)
    project.models[f"ml_{id[3:]}"]["base"] = LLAMA
    endpoint = project.make_endpoint({"name": "support"})
    body: JSON = {
        "name": "blue",
        "model": harness.subject.status["outputs"]["model"],
        "autoscaling": {"minReplicas": 1, "maxReplicas": 1},
    }
    project.make_deployment(endpoint["id"], body)
    harness.cluster.delete(harness.key)
    await harness.converge()
    assert "is used by a deployment" in harness.ready["message"]
    assert id in project.jobs
    project.deployments.clear()
    await harness.remove()
    assert not project.jobs
    assert not project.models


async def test_two_jobs_of_one_name_are_for_a_person_to_decide(harness: Harness):
    spec = TogetherTunings.spec
    for _ in range(2):
        await harness.vendor.foreign(spec, "conformant", None)
    provider = await harness.opened()
    want = TogetherTuningParams(name="conformant", model_name=spec["modelName"])
    with pytest.raises(Conflict, match="2 jobs with the suffix support-"):
        await provider.locate(want)


def test_what_together_cannot_do_is_objected_to():
    want = TogetherTuningParams.model_validate(
        {"method": "Reinforcement", "hyperparameters": {"suffix": "x", "n_evals": "1"}}
    )
    assert TogetherTuning.objections(want) == {
        "training_data": "Together needs the id of a file",
        "base_model": "Together needs it, or hyperparameters.from_checkpoint",
        "method": "Together can do Supervised and Preference",
        "hyperparameters": "suffix: there is a field of its own for it",
    }
