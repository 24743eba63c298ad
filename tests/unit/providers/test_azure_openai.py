"""What is special of Azure OpenAI: versions that move on, one change at a time, what it says."""

import asyncio
from typing import Any

import pytest

from auterity.providers.azure_openai.deployment import (
    AzureOpenAIDeployment,
    AzureOpenAIDeploymentParams,
)
from tests.conformance.harness import NAME, Harness
from tests.conformance.vendor import JSON, merged
from tests.fakes.azure_openai import ACCOUNT, KEY, QUOTA, Accounts, AzureOpenAIVendor

STAND_IN = AzureOpenAIVendor


def behind(harness: Harness) -> Accounts:
    assert isinstance(harness.vendor, AzureOpenAIVendor)
    return harness.vendor.accounts


def with_(patch: JSON) -> JSON:
    return merged(AzureOpenAIVendor.spec, patch)


async def refused(harness: Harness, patch: JSON) -> str:
    harness.apply(with_(patch))
    await harness.converge()
    assert harness.ready["reason"] == "SpecRejected", harness.ready
    return str(harness.ready["message"])


async def test_a_version_that_azure_replaces_is_no_drift_and_stays_in_other_changes(
    harness: Harness,
) -> None:
    automatic = {"azureOpenAI": {"versionUpgradeOption": "OnceNewDefaultVersionAvailable"}}
    harness.apply(with_(automatic))
    await harness.converge()
    behind(harness).upgrade(NAME)
    harness.forget_faults()
    assert (await harness.converge()).outcome == "Ready"
    assert harness.vendor_writes() == []
    assert harness.subject.status["summary"]["version"] == "2025-09-09"
    harness.apply(with_(merged(automatic, {"azureOpenAI": {"capacity": 60}})))
    assert (await harness.converge()).outcome == "Ready"
    model = behind(harness).deployments[NAME]["properties"]["model"]
    assert model["version"] == "2025-09-09"


async def test_the_deployment_that_one_belongs_to_survives_a_change(harness: Harness) -> None:
    await harness.make()
    behind(harness).deployments[NAME]["properties"]["parentDeploymentName"] = "base"
    harness.apply(with_({"azureOpenAI": {"capacity": 60}}))
    assert (await harness.converge()).outcome == "Ready"
    assert behind(harness).deployments[NAME]["properties"]["parentDeploymentName"] == "base"


async def test_another_model_needs_another_deployment(harness: Harness) -> None:
    await harness.make()
    told = await refused(harness, {"model": {"name": "gpt-4.1-mini"}})
    assert told.startswith("model: the model of a deployment cannot change")


async def test_another_change_in_the_account_is_waited_for(harness: Harness) -> None:
    fake = behind(harness)
    fake.azure.slow = True
    fake.make("other", {"sku": {"name": "Standard"}, "properties": {"model": {"name": "gpt-4.1"}}})
    harness.apply()
    verdict = await harness.visit()
    assert verdict.outcome == "Progressing"
    assert "Another operation is being performed" in harness.ready["message"]
    fake.azure.slow = False
    fake.settle()
    assert (await harness.converge()).outcome == "Ready"


async def test_a_quota_that_is_used_up_is_told(harness: Harness) -> None:
    told = await refused(harness, {"azureOpenAI": {"capacity": QUOTA + 1}})
    assert told.startswith("a quota of the subscription is used up; ask Azure to raise it: ")
    assert f"the quota limit is {QUOTA}" in told


async def test_an_account_that_does_not_exist_is_told(harness: Harness) -> None:
    told = await refused(harness, {"azureOpenAI": {"account": "nobody"}})
    assert "the parent resource 'nobody' could not be found" in told


@pytest.mark.parametrize(
    ("patch", "words"),
    [
        ({"hardware": "Standard_NC6"}, "hardware: Azure OpenAI has no machines to choose"),
        ({"scaling": {"min": 2}}, "scaling: Azure OpenAI has no replicas"),
        ({"model": {"image": "me/it:1"}}, "model: Azure OpenAI serves models by name"),
    ],
)
async def test_what_azure_does_not_have_is_refused(
    harness: Harness, patch: JSON, words: str
) -> None:
    assert words in await refused(harness, patch)


async def test_a_failed_deployment_tells_why(harness: Harness) -> None:
    harness.vendor.azure.breaks = (  # type: ignore[attr-defined]  # it is Azure's
        "ServiceUnavailable",
        "No capacity for this model. Correlation ID: 81fe",
    )
    harness.apply()
    await harness.converge()
    assert harness.ready["reason"] == "ProviderFailed"
    assert harness.ready["message"] == (
        "the deployment is Failed: ServiceUnavailable: No capacity for this model."
    )


async def test_a_tuned_model_is_served_in_its_one_version(harness: Harness) -> None:
    behind(harness).tuned["gpt-4.1.ft-1"] = "gpt-4.1"
    harness.apply(with_({"model": {"name": "gpt-4.1.ft-1", "version": "1"}}))
    assert (await harness.converge()).outcome == "Ready"


async def test_the_key_goes_to_the_secret_only(harness: Harness) -> None:
    await harness.make(outputs={"secretName": "assistant"})
    assert KEY in harness.cluster.secrets["team", "assistant"]["apiKey"]
    assert KEY not in harness.everything_told()
    outputs = harness.subject.status["outputs"]
    assert outputs["openaiBaseUrl"].endswith("/openai/v1/")
    assert outputs["model"] == NAME


async def test_a_probe_asks_the_deployment(harness: Harness) -> None:
    body = '{"messages": [{"role": "user", "content": "ping"}]}'
    harness.apply(with_({"probe": {"body": body}}))
    await harness.converge()
    assert harness.subject.status["probe"]["verdict"] == "Passing"


def test_a_name_that_azure_would_refuse_is_told_at_admission() -> None:
    want = AzureOpenAIDeploymentParams.model_validate(
        {"name": "-x", "model": {"name": "gpt"}, "account": ACCOUNT, "capacity": 1}
    )
    assert set(AzureOpenAIDeployment.objections(want)) == {"name"}


async def test_an_account_gets_one_change_at_a_time(harness: Harness) -> None:
    await harness.make()
    provider = await harness.opened()
    server = behind(harness).azure.server
    server.latency = 0.02
    under_way, most = 0, 0
    send = provider.session.arm

    async def counted(method: str, *args: Any, **more: Any) -> Any:
        nonlocal under_way, most
        under_way += 1
        most = max(most, under_way)
        try:
            return await send(method, *args, **more)
        finally:
            under_way -= 1

    provider.session.arm = counted
    await asyncio.gather(*(provider.delete(f"{ACCOUNT}/other-{n}") for n in range(3)))
    assert most == 1
