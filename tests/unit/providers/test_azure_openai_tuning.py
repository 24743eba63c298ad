"""What is special of tuning at Azure OpenAI: files, finding a job again, why it failed."""

from collections.abc import AsyncIterator

import pytest

from auterity.providers.azure_openai.tuning import AzureOpenAITuningParams, suffix_of
from tests.conformance.harness import Harness
from tests.conformance.vendor import JSON, merged
from tests.fakes.azure import connection
from tests.fakes.azure_openai import Accounts
from tests.fakes.azure_openai_tuning import AzureOpenAITuningVendor, Tuning


@pytest.fixture
async def harness() -> AsyncIterator[Harness]:
    vendor = AzureOpenAITuningVendor()
    Accounts(vendor.azure)
    await vendor.start()
    it = Harness(vendor)
    await it.start()
    yield it
    await it.stop()
    await vendor.stop()


def behind(harness: Harness) -> Tuning:
    assert isinstance(harness.vendor, AzureOpenAITuningVendor)
    return harness.vendor.tuning


async def refused(harness: Harness, patch: JSON) -> str:
    harness.apply(merged(AzureOpenAITuningVendor.spec, patch))
    await harness.converge()
    assert harness.ready["reason"] == "SpecRejected", harness.ready
    assert behind(harness).jobs == {}
    return str(harness.ready["message"])


@pytest.mark.parametrize(
    ("patch", "words"),
    [
        ({"trainingData": "s3://b/x.jsonl"}, "trainingData: Azure OpenAI takes the id of an"),
        ({"trainingData": "file-gone"}, "The specified file 'file-gone' could not be found."),
        ({"baseModel": "gpt-99"}, "The specified base model does not support fine-tuning: gpt-99"),
        ({"method": "Reinforcement"}, "grader: a grader goes with method Reinforcement"),
        (
            {"method": "Reinforcement", "azureOpenAI": {"grader": "no json"}},
            "grader: it is not JSON",
        ),
    ],
)
async def test_what_azure_refuses_is_told(harness: Harness, patch: JSON, words: str) -> None:
    assert words in await refused(harness, patch)


async def test_an_unreadable_file_is_told(harness: Harness) -> None:
    behind(harness).breaks = "Line 7 of the training file is not a valid chat example."
    harness.apply()
    await harness.converge()
    assert harness.ready["reason"] == "ProviderFailed"
    assert harness.ready["message"] == (
        "the job is failed: Line 7 of the training file is not a valid chat example."
    )


async def test_the_request_has_the_method_with_numbers(harness: Harness) -> None:
    await harness.make()
    (job,) = behind(harness).jobs.values()
    assert job["method"] == {
        "type": "supervised",
        "supervised": {
            "hyperparameters": {"batch_size": 2, "learning_rate_multiplier": 0.5, "n_epochs": 3}
        },
    }
    assert harness.subject.status["outputs"]["model"] == job["fine_tuned_model"]


async def test_a_grader_goes_along(harness: Harness) -> None:
    grader = (
        '{"type": "string_check", "name": "same", "operation": "eq", '
        '"input": "{{sample.output_text}}", "reference": "{{item.answer}}"}'
    )
    patch = {"method": "Reinforcement", "azureOpenAI": {"grader": grader}, "hyperparameters": None}
    harness.apply(merged(AzureOpenAITuningVendor.spec, patch))
    await harness.converge()
    assert harness.ready["status"] == "True", harness.ready
    (job,) = behind(harness).jobs.values()
    assert job["method"]["reinforcement"]["grader"]["type"] == "string_check"


async def test_without_metadata_a_lost_job_is_found_by_its_suffix(harness: Harness) -> None:
    behind(harness).forgets_metadata = True
    harness.vendor.slow = True
    spec = merged(AzureOpenAITuningVendor.spec, {"modelName": None})
    harness.apply(spec)
    await harness.visit()
    harness.subject.status.pop("id")
    await harness.visit()
    assert len(behind(harness).jobs) == 1
    assert harness.ready["reason"] == "Progressing", harness.ready


def test_what_tells_jobs_apart_fits_and_differs() -> None:
    names = ("support-classifier-v1", "support-classifier-v2", "a.b", "a-b", "a_b", "x" * 60)
    block = {"account": "search", "baseModel": "gpt-4.1", "trainingData": "file-train1a2b"}
    suffixes = [
        suffix_of(AzureOpenAITuningParams.model_validate({**block, "name": name})) for name in names
    ]
    assert len(set(suffixes)) == len(names)
    assert all(len(suffix) <= 18 for suffix in suffixes)
    assert suffixes[3] == "a-b"


async def test_a_job_behind_many_others_is_found(harness: Harness) -> None:
    harness.vendor.slow = True
    harness.apply()
    await harness.visit()
    for _ in range(5):
        behind(harness).make({"model": "gpt-4.1", "training_file": "file-train1a2b"})
    provider = await harness.opened()
    want = provider.params.model_validate(
        {**AzureOpenAITuningVendor.spec, "account": "search", "name": harness.key.name}
    )
    assert await provider.locate(want) == harness.subject.status["id"]


async def test_a_model_that_is_deployed_is_not_deleted_and_that_is_told(harness: Harness) -> None:
    await harness.make()
    fake = behind(harness)
    fake.deployed = set(fake.models)
    harness.cluster.delete(harness.key)
    await harness.converge()
    assert "is deployed and cannot be deleted" in harness.ready["message"]
    assert harness.subject.kept
    fake.deployed.clear()
    await harness.remove()
    assert fake.models == {}


async def test_the_address_is_the_accounts_own_where_the_connection_names_none(
    harness: Harness,
) -> None:
    harness.cluster.put(
        "Connection", "vendor", {"azure": connection(behind(harness).azure.server.url)}
    )
    await harness.make()
    told = await refused_account(harness)
    assert told == "there is no account nobody in the connection's resource group"


async def refused_account(harness: Harness) -> str:
    await harness.remove()
    harness.apply(merged(AzureOpenAITuningVendor.spec, {"azureOpenAI": {"account": "nobody"}}))
    await harness.converge()
    return str(harness.ready["message"])
