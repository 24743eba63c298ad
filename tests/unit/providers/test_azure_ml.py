"""What is special of Azure ML: what it refuses while it works, scaling, why it fails."""

import pytest

from auterity.providers.azure_ml.endpoint import AzureMLEndpoint
from auterity.providers.azure_ml.params import AzureMLEndpointParams
from auterity.providers.azure_ml.workspace import seconds_of
from tests.conformance.harness import NAME, Harness
from tests.conformance.rolling import BLUE_GREEN, Roller, spec_of
from tests.conformance.vendor import JSON, merged
from tests.fakes.azure_ml import MODEL, REGISTRY, AzureMLVendor, Workspace

STAND_IN = AzureMLVendor


def behind(harness: Harness) -> Workspace:
    assert isinstance(harness.vendor, AzureMLVendor)
    return harness.vendor.workspace


async def refused(harness: Harness, patch: JSON) -> str:
    harness.apply(merged(AzureMLVendor.spec, patch))
    await harness.converge()
    assert harness.ready["reason"] == "SpecRejected", harness.ready
    assert await harness.vendor.count() in (0, 1)
    return str(harness.ready["message"])


@pytest.mark.parametrize(
    ("patch", "words"),
    [
        ({"hardware": "Standard_Moon"}, "The SKU Standard_Moon is not available in region"),
        ({"model": {"name": "nobodys"}}, "The model nobodys could not be found"),
        ({"azureML": {"workspace": "nowhere"}}, "there is no workspace nowhere"),
        ({"model": {"image": "me/it:1"}}, "model: Azure takes an image as a registered"),
        ({"hardware": None}, "hardware: name the instance type"),
        ({"scaling": {"min": 0}}, "scaling: a managed online endpoint cannot scale to zero"),
        (
            {"scaling": {"target": {"metric": "ConcurrentRequests", "value": 5}}},
            "scaling: Azure measures for each deployment CPUUtilization",
        ),
    ],
)
async def test_what_azure_refuses_or_does_not_have_is_told(
    harness: Harness, patch: JSON, words: str
) -> None:
    assert words in await refused(harness, patch)


async def test_what_the_portal_notes_on_an_endpoint_survives_a_change(harness: Harness) -> None:
    await harness.make()
    endpoint = behind(harness).endpoints[NAME]
    endpoint |= {"kind": "Managed", "sku": {"name": "Default"}}
    harness.apply(merged(AzureMLVendor.spec, {"azureML": {"tags": {"stage": "live"}}}))
    assert (await harness.converge()).outcome == "Ready", harness.ready
    endpoint = behind(harness).endpoints[NAME]
    assert endpoint["tags"]["stage"] == "live"
    assert (endpoint["kind"], endpoint["sku"]) == ("Managed", {"name": "Default"})


async def test_a_deployment_that_fails_tells_why(harness: Harness) -> None:
    await harness.vendor.break_next_revision()
    harness.apply()
    await harness.converge()
    assert harness.ready["reason"] == "ProviderFailed", harness.ready
    told = harness.ready["message"]
    assert "ResourceNotReady: The container did not become ready in time." in told


async def test_a_quota_that_is_used_up_is_told(harness: Harness) -> None:
    text = "Not enough quota available for Standard_DS3_v2: 4 cores needed, 0 left."
    behind(harness).azure.breaks = ("OutOfQuota", text)
    harness.apply()
    await harness.converge()
    assert f"OutOfQuota: {text}" in harness.ready["message"]


async def test_each_deployment_is_scaled_and_nothing_of_it_stays(harness: Harness) -> None:
    await harness.make()
    (setting,) = behind(harness).settings.values()
    profile = setting["properties"]["profiles"][0]
    assert profile["capacity"] == {"minimum": "1", "maximum": "3", "default": "1"}
    up, down = profile["rules"]
    assert up["metricTrigger"]["metricName"] == "CpuUtilizationPercentage"
    assert (up["metricTrigger"]["threshold"], down["metricTrigger"]["threshold"]) == (60, 42)
    harness.apply(merged(AzureMLVendor.spec, {"scaling": {"min": 2, "max": 2, "target": None}}))
    await harness.converge()
    assert behind(harness).settings == {}
    (deployment,) = behind(harness).deployments.values()
    assert deployment["sku"]["capacity"] == 2


async def test_the_old_deployment_goes_only_without_traffic(harness: Harness) -> None:
    harness.apply(spec_of(harness, BLUE_GREEN))
    await harness.converge()
    harness.apply(spec_of(harness, BLUE_GREEN, {"model": {"name": f"{REGISTRY}churn/versions/5"}}))
    verdict = await Roller(harness).run()
    assert verdict.outcome == "Ready", harness.ready
    (deployment,) = behind(harness).deployments.values()
    assert deployment["properties"]["model"].endswith("/5")
    traffic = behind(harness).endpoints[NAME]["properties"]["traffic"]
    assert traffic[deployment["name"]] == 100


async def test_ids_in_other_words_are_the_same_and_other_ids_are_not(harness: Harness) -> None:
    await harness.make()
    (deployment,) = behind(harness).deployments.values()
    deployment["properties"]["model"] = f"azureml:{MODEL.upper()}"
    harness.forget_faults()
    assert (await harness.visit()).outcome == "Ready"
    assert harness.vendor_writes() == []
    deployment["properties"]["model"] = f"{REGISTRY}churn/versions/3"
    await harness.visit()
    assert harness.vendor_writes() != []


async def test_a_probe_goes_to_the_one_that_is_meant(harness: Harness) -> None:
    await harness.make()
    provider = await harness.opened()
    assert isinstance(provider, AzureMLEndpoint)
    (name,) = [key[1] for key in behind(harness).deployments]
    want = AzureMLEndpointParams.model_validate(
        {
            "model": {"name": MODEL},
            "workspace": "churn-ml",
            "probe": {"body": "{}"},
        }
    )
    assert want.probe is not None
    id = harness.subject.status["id"]
    answer = await provider.probe(id, want.probe, name)
    assert (answer.status, name in answer.body) == (200, True)
    behind(harness).answers[MODEL] = 424
    assert (await provider.probe(id, want.probe, None)).status == 424


@pytest.mark.parametrize(
    ("told", "seconds"), [("PT5S", 5), ("PT1M30S", 90), ("PT1H", 3600), ("P1DT1S", 86401)]
)
def test_durations_are_read_however_azure_writes_them(told: str, seconds: int) -> None:
    assert seconds_of(told) == seconds


@pytest.mark.parametrize("name", ["a", "9lives", "a--b", "ends-", "x" * 33])
def test_names_that_azure_would_refuse_are_told_at_admission(name: str) -> None:
    want = AzureMLEndpointParams.model_validate(
        {"name": name, "model": {"name": MODEL}, "hardware": "x", "workspace": "churn-ml"}
    )
    assert set(AzureMLEndpoint.objections(want)) == {"name"}
