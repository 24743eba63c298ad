"""What each provider says is paid for by the hour, and what it comes to by the lists."""

from typing import Any

import pytest

from auterity.engine.contract import Billed
from auterity.engine.prices import Prices
from tests.manifests import Manifest, read
from tools.generate import ROOT, sample_path
from tools.samples import parts

NOTHING: tuple[Billed, ...] = ()


def sample(kind: str, vendor: str, name: str | None = None) -> Manifest:
    text = (ROOT / sample_path(kind, vendor)).read_text()
    of_kind = [one for _, one in parts(text) if one["kind"] == kind]
    return next(one for one in of_kind if name in (None, one["metadata"]["name"]))


def billed(
    kind: str, vendor: str, block: dict[str, Any] | None = None, **spec: Any
) -> tuple[Billed, ...] | None:
    """Of the sample, with these fields of spec and of the vendor's block; None leaves one out."""
    document = sample(kind, vendor, spec.pop("of", None))
    document["spec"] = overlaid(document["spec"], spec)
    document["spec"][vendor] = overlaid(document["spec"][vendor], block or {})
    it = read(document)
    found = it.provider.billed(it.want)
    return None if found is None else tuple(found)


def overlaid(fields: dict[str, Any], changes: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in (fields | changes).items() if value is not None}


def deployment(vendor: str, block: dict[str, Any] | None = None, **spec: Any) -> Any:
    return billed("ModelDeployment", vendor, block, **spec)


def job(vendor: str, block: dict[str, Any] | None = None, **spec: Any) -> Any:
    return billed("TuningJob", vendor, block, **spec)


@pytest.mark.parametrize(
    ("vendor", "region", "least", "most"),
    [
        ("sageMaker", "eu-central-1", 0.115, 0.46),
        ("sageMaker", "eu-west-1", 0.128, 0.512),
        ("vertexAI", "europe-west4", 0.219, 0.876),
        ("azureML", None, 0.293, 1.172),
        ("huggingFace", None, 0.0, 1.6),
        ("replicate", None, 0.0, 2.43),
        ("azureOpenAI", None, 0.0, 0.0),
        ("bedrock", "us-east-1", 0.0, 0.0),
    ],
)
def test_a_sample_comes_to_what_its_replicas_cost(
    vendor: str, region: str | None, least: float, most: float
) -> None:
    prices, few, many = Prices(), 0.0, 0.0
    for one in deployment(vendor):
        price = prices.find(vendor, one.item, region)
        assert price is not None
        few += price.amount * one.least
        many += price.amount * one.most
    assert [few, many] == pytest.approx([least, most])


def test_replicas_are_counted_from_the_fewest_to_the_most_and_from_nothing_if_there_may_be_none():
    assert deployment("sageMaker", scaling={"min": 2}) == (Billed("ml.m5.large", 2, 2),)
    assert deployment("sageMaker", scaling=None) == (Billed("ml.m5.large", 1, 1),)
    assert deployment("replicate", scaling={"min": 0}) == (Billed("gpu-t4", 0, 1),)


def test_hardware_that_is_not_declared_cannot_be_estimated():
    for vendor in ("sageMaker", "azureML", "huggingFace", "replicate", "vertexAI"):
        assert deployment(vendor, hardware=None) is None


def test_sagemaker_bills_nothing_by_the_hour_without_instances_unless_some_are_kept_warm():
    small: dict[str, Any] = {"memorySizeInMB": 2048, "maxConcurrency": 10}
    without: dict[str, Any] = {"hardware": None, "scaling": None, "rollout": None}
    assert deployment("sageMaker", {"serverless": small}, **without) == NOTHING
    warm = small | {"provisionedConcurrency": 1}
    assert deployment("sageMaker", {"serverless": warm}, **without) is None


def test_vertex_ai_bills_accelerators_apart_where_the_machine_does_not_come_with_them():
    gpus = {"acceleratorType": "NVIDIA_TESLA_T4", "acceleratorCount": 2}
    assert deployment("vertexAI", gpus) == (
        Billed("n1-standard-4", 1, 4),
        Billed("NVIDIA_TESLA_T4", 2, 8),
    )
    one = {"acceleratorType": "NVIDIA_H100_80GB"}
    whole = deployment("vertexAI", one, hardware="a3-highgpu-1g")
    assert whole == (Billed("a3-highgpu-1g", 1, 4),)


def test_spot_machines_may_all_be_taken_away():
    assert deployment("vertexAI", {"spot": True}) == (Billed("n1-standard-4", 0, 4),)
    assert job("azureML") == (Billed("Standard_DS3_v2", 0, 1),)
    assert job("sageMaker", of="churn-2") == (Billed("ml.g5.xlarge", 0, 1),)


def test_a_tuned_gemini_model_has_no_machines_of_its_own():
    tuned = {"modelRef": {"kind": "TuningJob", "name": "support-answers", "output": "model"}}
    none: dict[str, Any] = {"hardware": None, "environment": None}
    plain = {"container": None}
    assert deployment("vertexAI", plain, model=tuned, scaling=None, **none) == NOTHING
    assert deployment("vertexAI", plain, model=tuned, **none) is None, "Google chooses machines"


def test_hugging_face_tells_instances_by_cloud_and_size_and_bills_none_while_paused():
    assert deployment("huggingFace") == (Billed("aws/nvidia-l4/x1", 0, 2),)
    assert deployment("huggingFace", {"paused": True}) == NOTHING


def test_bedrock_bills_reserved_units_by_their_commitment_and_all_else_by_use():
    assert deployment("bedrock", of="search-nova") == NOTHING
    assert deployment("bedrock", of="search-tuned") == NOTHING
    reserved = deployment("bedrock", of="search-reserved")
    assert reserved == (Billed("amazon.nova-lite-v1:0:24k", 1, 1),)
    three = {"provisionedThroughput": {"modelUnits": 3, "commitment": "OneMonth"}}
    model = "cohere.embed-english-v3:0:512"
    committed = deployment("bedrock", three, of="search-reserved", model={"name": model})
    assert committed == (Billed(f"{model}/OneMonth", 3, 3),)
    tuned = {"modelRef": {"kind": "TuningJob", "name": "search-tone", "output": "model"}}
    custom = deployment("bedrock", three, of="search-reserved", model=tuned)
    assert custom == (Billed("custom-model/OneMonth", 3, 3),)


def test_azure_openai_bills_provisioned_units_and_the_hosting_of_tuned_models():
    assert deployment("azureOpenAI") == NOTHING
    units = deployment("azureOpenAI", {"sku": "DataZoneProvisionedManaged"})
    assert units == (Billed("DataZoneProvisionedManaged", 50, 50),)
    tuned = {"name": "gpt-4.1.ft-0123456789", "version": "1"}
    assert deployment("azureOpenAI", model=tuned) == (Billed("tuned-model-hosting", 1, 1),)
    assert deployment("azureOpenAI", {"sku": "DeveloperTier"}, model=tuned) == NOTHING
    provisioned = deployment("azureOpenAI", {"sku": "ProvisionedManaged"}, model=tuned)
    assert provisioned == (Billed("ProvisionedManaged", 50, 50),)


def test_what_only_the_vendor_knows_the_machines_of_can_be_given_a_price_by_its_name():
    assert deployment("modal", of="chat") == (Billed("Qwen/Qwen3.5-4B", 0, 3),)
    assert deployment("modal", of="support") == (Billed("Qwen/Qwen3.5-4B", 1, 4),)
    assert deployment("modal", of="translate") == (Billed("translate/serve", 0, 5),)
    config = "projects/proj_0123456789/configs/cr_0123456789"
    assert deployment("together") == (Billed(config, 1, 4),)
    assert deployment("together", {"config": None}) is None


def test_jobs_on_machines_of_ones_own_bill_them_and_all_others_the_tokens():
    assert job("sageMaker", {"instanceCount": 2, "spotMaxWait": None}) == (
        Billed("ml.g5.xlarge", 2, 2),
    )
    assert job("sageMaker", of="search-tone") is None
    two = {"instanceCount": 2, "jobTier": "Standard"}
    assert job("azureML", two) == (Billed("Standard_DS3_v2", 2, 2),)
    assert job("azureML", {"instanceType": None}) is None
    for vendor in ("azureOpenAI", "bedrock", "openAI", "together", "vertexAI"):
        assert job(vendor) == NOTHING
    assert job("replicate") is None, "the trainer's hardware is not told"


def test_learning_from_a_grader_takes_time_on_machines_that_nobody_names():
    for vendor in ("azureOpenAI", "bedrock", "openAI", "vertexAI"):
        assert job(vendor, method="Reinforcement") is None


def test_pinecone_bills_what_is_used_unless_nodes_are_the_index_s_own():
    assert billed("VectorIndex", "pinecone") == NOTHING
    nodes = {"mode": "Dedicated", "nodeType": "b1", "shards": 1, "replicas": 1}
    assert billed("VectorIndex", "pinecone", {"readCapacity": nodes}) is None
