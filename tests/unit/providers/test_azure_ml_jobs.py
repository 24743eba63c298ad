"""What is special of Azure ML's jobs: attempts, the model they register, fine-tuning by Azure."""

import pytest

from tests.conformance.harness import NAME, Harness
from tests.conformance.vendor import JSON, merged
from tests.fakes.azure_ml_jobs import WHERE, AzureMLJobVendor, Jobs

FINE_TUNING: JSON = {
    "azureML": {"command": None, "task": "ChatCompletion", "maxRuntime": None, "jobTier": None}
}


STAND_IN = AzureMLJobVendor


def behind(harness: Harness) -> Jobs:
    assert isinstance(harness.vendor, AzureMLJobVendor)
    return harness.vendor.workspace


async def test_the_model_is_the_version_that_this_job_has_registered(harness: Harness) -> None:
    await harness.make()
    await harness.remove()
    behind(harness).models["support", "1"] = {"name": "1", "properties": {"jobName": "another"}}
    await harness.make()
    model = harness.subject.status["outputs"]["model"]
    assert model == f"{WHERE}/models/support/versions/2"
    await harness.remove()
    assert set(behind(harness).models) == {("support", "1")}


async def test_azure_fine_tunes_by_itself(harness: Harness) -> None:
    harness.apply(merged(AzureMLJobVendor.spec, FINE_TUNING))
    await harness.converge()
    assert harness.ready["status"] == "True", harness.ready
    (job,) = behind(harness).jobs.values()
    details = job["properties"]["fineTuningDetails"]
    assert details["hyperParameters"] == {
        "learning_rate": "0.0002",
        "num_train_epochs": "2",
        "seed": "42",
    }
    assert details["validationData"]["jobInputType"] == "uri_folder"
    assert "model" in harness.subject.status["outputs"]


async def test_a_further_attempt_gets_a_number(harness: Harness) -> None:
    fake = behind(harness)
    fake.breaks = True
    harness.apply(deletionPolicy="Retain")
    await harness.converge()
    assert harness.ready["reason"] == "ProviderFailed"
    assert harness.ready["message"] == "the job is Failed; see its logs"
    assert harness.subject.status["url"] == f"https://ml.azure.com/runs/{NAME}"
    await harness.remove()
    await harness.make()
    assert list(fake.jobs) == [NAME, f"{NAME}--2"]


@pytest.mark.parametrize(
    ("patch", "words"),
    [
        (
            {"azureML": {"command": {"environmentId": "azureml:nobodys:1"}}},
            "The environment azureml:nobodys:1 could not be found.",
        ),
        ({"azureML": {"compute": "gone"}}, "Unknown compute target 'gone'."),
        ({"azureML": {"workspace": "nowhere"}}, "The workspace was not found."),
        ({"method": "Supervised"}, "method: Azure Machine Learning leaves it to the task"),
        (FINE_TUNING | {"baseModel": None}, "baseModel: a fine-tuning needs it"),
        (
            merged(FINE_TUNING, {"azureML": {"instanceCount": 2}}),
            "instanceCount: a fine-tuning runs on one machine",
        ),
    ],
)
async def test_what_azure_refuses_is_told(harness: Harness, patch: JSON, words: str) -> None:
    harness.apply(merged(AzureMLJobVendor.spec, patch))
    await harness.converge()
    assert harness.ready["reason"] == "SpecRejected", harness.ready
    assert words in harness.ready["message"]
    assert behind(harness).jobs == {}
