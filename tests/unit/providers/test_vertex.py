"""What is special of Vertex AI: uploads, failed deployments, names of models, tuned models."""

from collections.abc import AsyncIterator

import pytest

from auterity.engine.contract import Answer
from auterity.engine.errors import Rejected
from auterity.engine.rollout import ALL
from auterity.providers.vertex.endpoint import VertexEndpoint, number_of
from auterity.providers.vertex.models import Spelt, model_id
from auterity.providers.vertex.params import VertexEndpointParams
from auterity.providers.vertex.tuning import VertexTuning, VertexTuningParams
from tests.conformance.harness import NAME, Harness
from tests.conformance.vendor import JSON, merged
from tests.fakes.google import NUMBER, PROJECT
from tests.fakes.vertex import (
    IMAGE,
    PARENT,
    VertexAI,
    VertexTuningVendor,
    VertexVendor,
)

QUOTA = "The following quotas are exceeded: CustomModelServingT4GPUsPerProjectPerRegion"
REGISTRY: JSON = {
    "model": {"image": None, "artifact": None, "name": "in-registry"},
    "environment": None,
    "vertexAI": {"container": None},
}


async def driven(vendor: VertexVendor) -> AsyncIterator[Harness]:
    await vendor.start()
    await vendor.reset()
    it = Harness(vendor)
    await it.start()
    yield it
    await it.stop()
    await vendor.stop()


@pytest.fixture
async def endpoint() -> AsyncIterator[Harness]:
    async for it in driven(VertexVendor()):
        yield it


@pytest.fixture
async def tuning() -> AsyncIterator[Harness]:
    async for it in driven(VertexTuningVendor()):
        yield it


def behind(harness: Harness) -> VertexAI:
    assert isinstance(harness.vendor, VertexVendor)
    return harness.vendor.vertex


def spec(harness: Harness, *patches: JSON) -> JSON:
    made = type(harness.vendor).spec
    for patch in patches:
        made = merged(made, patch)
    return made


async def test_an_upload_that_takes_its_time_is_waited_for_and_not_repeated(endpoint: Harness):
    endpoint.vendor.slow = True
    endpoint.apply()
    for _ in range(4):
        await endpoint.visit()
    behind(endpoint).operations.settle()
    for _ in range(4):
        await endpoint.visit()
    assert endpoint.script.methods.count("UploadModel") == 1
    assert endpoint.ready["reason"] in ("Progressing", "RollingOut")
    behind(endpoint).operations.settle()
    for _ in range(4):
        await endpoint.visit()
    assert endpoint.script.methods.count("DeployModel") == 1
    endpoint.vendor.slow = False
    assert (await endpoint.converge()).outcome == "Ready"


async def test_an_upload_that_fails_is_told(endpoint: Harness):
    behind(endpoint).unreadable = "Service agent lacks storage.objects.get on gs://acme-models"
    endpoint.apply()
    await endpoint.converge()
    assert endpoint.ready["reason"] == "SpecRejected"
    assert endpoint.ready["message"].endswith(
        "the model could not be uploaded: "
        "Service agent lacks storage.objects.get on gs://acme-models"
    )


async def test_a_region_without_the_hardware_is_told(endpoint: Harness):
    behind(endpoint).breaks = {
        "code": 8,
        "message": "Machine type temporarily unavailable: resources are insufficient in region",
    }
    endpoint.apply()
    await endpoint.converge()
    assert endpoint.ready["reason"] == "ProviderFailed"
    assert "Vertex AI could not deploy it: Machine type temporarily" in endpoint.ready["message"]
    endpoint.apply(spec(endpoint, {"hardware": "n1-standard-8"}))
    assert (await endpoint.converge()).outcome == "Ready"
    assert len(behind(endpoint).models) == 2, "the model of the failed revision is gone"


async def test_an_endpoint_that_cannot_be_made_tells_why_and_is_tried_again(endpoint: Harness):
    words = "Service agent lacks cloudkms.cryptoKeyVersions.useToEncrypt on the key"
    behind(endpoint).unmakable = {"code": 7, "message": words}
    endpoint.apply()
    await endpoint.converge()
    assert endpoint.ready["reason"] == "SpecRejected", endpoint.ready
    assert endpoint.ready["message"].endswith(
        f"the endpoint could not be made: {words}; it is tried again"
    )
    assert (await endpoint.converge()).outcome == "Ready"


async def test_replicas_that_are_not_to_be_had_are_told_and_tried_again(endpoint: Harness):
    await endpoint.make()
    behind(endpoint).unscalable = {"code": 8, "message": QUOTA}
    endpoint.apply(spec(endpoint, {"scaling": {"max": 9}}))
    await endpoint.converge()
    assert endpoint.ready["reason"] == "SpecRejected", endpoint.ready
    assert endpoint.ready["message"].endswith(
        f"Vertex AI could not scale it: {QUOTA}; ask Google to raise the quota; it is tried again"
    )
    assert (await endpoint.converge()).outcome == "Ready"
    behind(endpoint).unscalable = {"code": 8, "message": QUOTA}
    endpoint.apply(spec(endpoint, {"scaling": {"max": 8}}))
    await endpoint.visit()
    await endpoint.visit()
    endpoint.apply(spec(endpoint, {"scaling": {"max": 7}}))
    assert (await endpoint.converge()).outcome == "Ready", "what was tried before is not told"


async def test_a_used_up_quota_is_told(endpoint: Harness):
    behind(endpoint).quota = 0
    endpoint.apply()
    await endpoint.converge()
    assert endpoint.ready["message"].endswith(
        "a quota of the project is used up; ask Google to raise it: "
        "The following quotas are exceeded: CustomModelServingCPUsPerProjectPerRegion"
    )


async def test_a_model_that_does_not_exist_is_told(endpoint: Harness):
    endpoint.apply(spec(endpoint, REGISTRY, {"model": {"name": "no-such"}}))
    await endpoint.converge()
    assert endpoint.ready["reason"] == "SpecRejected"
    assert "models/no-such was not found" in endpoint.ready["message"]


@pytest.mark.parametrize(
    ("patch", "words"),
    [
        ({"scaling": {"min": 0}}, "scaling.min must be 1 or more"),
        (
            {"scaling": {"target": {"metric": "MemoryUtilization", "value": 50}}},
            "scaling.target.metric: Vertex AI knows",
        ),
        ({"model": {"version": "2"}}, "model.version: only a model in Vertex AI's registry"),
        ({"model": {"image": None}}, "model: an artifact needs an image"),
        ({**REGISTRY, "environment": [{"name": "A", "value": "b"}]}, "environment and container"),
    ],
)
async def test_what_vertex_cannot_do_is_told_by_field(endpoint: Harness, patch: JSON, words: str):
    endpoint.apply(spec(endpoint, patch))
    await endpoint.converge()
    assert endpoint.ready["reason"] == "SpecRejected"
    assert words in endpoint.ready["message"]
    assert not behind(endpoint).endpoints.get(NAME, {}).get("deployedModels")
    assert list(behind(endpoint).models) == ["in-registry"]


@pytest.mark.parametrize(
    "name",
    [
        "in-registry",
        "in-registry@default",
        f"projects/{PROJECT}/locations/europe-west4/models/in-registry",
        f"projects/{NUMBER}/locations/europe-west4/models/in-registry@1",
    ],
)
async def test_a_model_of_the_registry_may_be_written_in_every_way(endpoint: Harness, name: str):
    endpoint.apply(spec(endpoint, REGISTRY, {"model": {"name": name}}))
    await endpoint.converge()
    assert endpoint.ready["status"] == "True", endpoint.ready
    endpoint.forget_faults()
    await endpoint.visit()
    assert endpoint.vendor_writes() == []


async def test_an_alias_that_moves_brings_a_new_revision(endpoint: Harness):
    moving = spec(endpoint, REGISTRY, {"model": {"version": "prod"}})
    model = behind(endpoint).models["in-registry"]
    model["versionAliases"] = ["default", "prod"]
    endpoint.apply(moving)
    await endpoint.converge()
    first = behind(endpoint).endpoints[NAME]["deployedModels"][0]["id"]
    behind(endpoint).models["in-registry"]["versionAliases"] = ["default"]
    found = await endpoint.read()
    assert found is not None
    assert found.revisions[0].actual.model.version != "prod"
    assert found.revisions[0].actual.model.version == "default"
    assert first == number_of(found.revisions[0].name)


async def test_a_tuned_gemini_model_is_served_without_machines(endpoint: Harness):
    fake = behind(endpoint)
    fake.make_model("555", {"displayName": "tuned"})
    bare = {"model": {"name": f"{PARENT}/models/555@1"}, "vertexAI": {}}
    endpoint.apply(bare)
    await endpoint.converge()
    assert endpoint.ready["status"] == "True", endpoint.ready
    (live,) = fake.endpoints[NAME]["deployedModels"]
    assert not live.keys() & {"dedicatedResources", "automaticResources"}


async def test_model_gardens_recipe_is_completed_by_what_is_declared(endpoint: Harness):
    patch = next(e.patch for e in VertexVendor.edits if e.name == "a model of Model Garden")
    endpoint.apply(spec(endpoint, patch))
    await endpoint.converge()
    revision = endpoint.subject.status["rollout"]["revision"]
    model = behind(endpoint).models[model_id(NAME, revision)]
    names = [one["name"] for one in model["containerSpec"]["env"]]
    assert names == ["DEPLOY_SOURCE", "LOG_LEVEL", "TOKEN"]
    assert model["baseModelSource"] == {
        "modelGardenSource": {"publicModelName": "publishers/google/models/gemma3"}
    }
    (live,) = behind(endpoint).endpoints[NAME]["deployedModels"]
    machine = live["dedicatedResources"]["machineSpec"]
    assert machine["machineType"] == "g2-standard-12"


async def test_superseded_models_stay_if_asked(endpoint: Harness):
    endpoint.apply(spec(endpoint, {"vertexAI": {"keepSuperseded": True}}))
    await endpoint.converge()
    edited = spec(endpoint, VertexVendor.edits[0].patch, {"vertexAI": {"keepSuperseded": True}})
    endpoint.apply(edited)
    assert (await endpoint.converge()).outcome == "Ready"
    assert len(behind(endpoint).models) == 3
    endpoint.apply(spec(endpoint, VertexVendor.edits[0].patch))
    assert (await endpoint.converge()).outcome == "Ready"
    assert len(behind(endpoint).models) == 2


async def test_a_model_undeployed_by_someone_else_is_deployed_again(endpoint: Harness):
    await endpoint.make()
    live = behind(endpoint).endpoints[NAME]
    live["deployedModels"], live["trafficSplit"] = [], {}
    verdict = await endpoint.converge()
    assert verdict.outcome == "Ready", endpoint.ready
    assert list(live["trafficSplit"].values()) == [ALL]


async def test_a_probe_asks_the_endpoint(endpoint: Harness):
    await endpoint.make(probe={"body": '{"instances": []}'})
    assert endpoint.subject.status["probe"]["verdict"] == "Passing"
    provider = await endpoint.opened()
    behind(endpoint).answers[IMAGE] = 500
    probe = VertexEndpointParams.model_validate(
        {"model": {"image": IMAGE}, "probe": {"body": "{}"}}
    ).probe
    assert probe is not None
    answer: Answer = await provider.probe(NAME, probe, None)
    assert answer.status == 500
    with pytest.raises(Rejected, match="one path"):
        await provider.probe(NAME, probe.model_copy(update={"path": "/x"}), None)


def test_names_that_google_refuses_are_told_early():
    for name, allowed in (("churn", True), ("Churn", False), ("a.b", False), ("x" * 64, False)):
        want = VertexEndpointParams.model_validate({"name": name, "model": {"image": IMAGE}})
        assert ("name" not in VertexEndpoint.objections(want)) is allowed


def test_ids_of_models_fit_and_differ():
    long, longer = model_id("e" * 60, "r-0123456789"), model_id("e" * 61, "r-0123456789")
    assert len(long) <= 63
    assert long != longer
    assert model_id("123", "r-1").startswith("m-123")


def test_a_name_equals_every_spelling_of_it():
    name = Spelt.of("a@1", "a", "b")
    assert (name == "b", name != "b", name == "c", name != "c") == (True, False, False, True)
    assert name == "a"
    assert hash(name) == hash("a@1")


async def test_an_unreadable_tuning_file_is_told(tuning: Harness):
    behind(tuning).breaks = {"code": 3, "message": "Row: 7. Missing required `contents` field."}
    tuning.apply()
    await tuning.converge()
    assert tuning.ready["reason"] == "ProviderFailed"
    assert tuning.ready["message"] == (
        "the job is FAILED: Row: 7. Missing required `contents` field."
    )


async def test_a_used_up_tuning_quota_is_told(tuning: Harness):
    behind(tuning).quota = 0
    tuning.apply()
    await tuning.converge()
    assert "ask Google to raise it" in tuning.ready["message"]


@pytest.mark.parametrize(
    ("patch", "words"),
    [
        ({"method": "Reinforcement"}, "method: Vertex AI does not tune by Reinforcement"),
        ({"seed": 7}, "seed: Vertex AI takes none"),
        ({"baseModel": None}, "exactly one of baseModel and vertexAI.tunedModel"),
        ({"trainingData": None}, "trainingData is needed"),
    ],
)
async def test_what_tuning_cannot_do_is_told_by_field(tuning: Harness, patch: JSON, words: str):
    tuning.apply(spec(tuning, patch))
    await tuning.converge()
    assert tuning.ready["reason"] == "SpecRejected"
    assert words in tuning.ready["message"]
    assert behind(tuning).jobs == {}


async def test_a_job_goes_on_from_a_tuned_model(tuning: Harness):
    going_on: JSON = {
        "baseModel": None,
        "method": "Preference",
        "modelName": "better",
        "hyperparameters": {"beta": "0.2", "adapterSize": None, "learningRateMultiplier": None},
        "vertexAI": {"tunedModel": f"{PARENT}/models/1@1", "checkpoint": "2"},
    }
    tuning.apply(spec(tuning, going_on))
    assert (await tuning.converge()).outcome == "Ready", tuning.ready
    (job,) = behind(tuning).jobs.values()
    assert job["preTunedModel"] == {"tunedModelName": f"{PARENT}/models/1@1", "checkpointId": "2"}
    assert job["preferenceOptimizationSpec"]["hyperParameters"] == {"beta": 0.2, "epochCount": "3"}
    assert job["tunedModelDisplayName"] == "better"


async def test_a_run_whose_model_was_deleted_is_not_taken_for_one_declared_anew(tuning: Harness):
    first = await tuning.make()
    await tuning.remove()
    second = await tuning.make()
    assert first != second


async def test_a_retained_run_is_found_again(tuning: Harness):
    first = await tuning.make(deletionPolicy="Retain")
    await tuning.remove()
    assert await tuning.make() == first


def test_objections_say_what_would_be_refused_anyway():
    want = VertexTuningParams.model_validate({"name": "x", "seed": 1})
    assert set(VertexTuning.objections(want)) == {"seed", "base_model", "training_data"}
