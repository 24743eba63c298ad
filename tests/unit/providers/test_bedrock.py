"""What is special of Bedrock: its three ways of serving, and jobs whose records never go."""

from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from auterity.engine.contract import Phase
from auterity.engine.drift import Memory, compare
from auterity.providers.bedrock.customization import BedrockCustomization
from auterity.providers.bedrock.deployment import BedrockDeployment
from auterity.providers.bedrock.params import BedrockCustomizationParams, BedrockDeploymentParams
from auterity.transport.aws import AwsSession
from tests.conformance.harness import NAME, Harness
from tests.conformance.vendor import JSON, Vendor, merged
from tests.fakes.bedrock import (
    BASE,
    CUSTOM,
    FOUNDATION,
    OF_ANOTHER,
    ROLE,
    UNKNOWN,
    Bedrock,
    CustomizationVendor,
    OnDemandVendor,
    ProfileVendor,
    ThroughputVendor,
    _Account,
)
from tools.servers.ministack import Ministack
from tools.servers.moto import Moto

STAND_IN = OnDemandVendor
SignIn = Callable[..., Awaitable[AwsSession]]


def over(*vendors: type[Vendor]) -> pytest.MarkDecorator:
    """The harness over other stand-ins than the module's."""
    return pytest.mark.parametrize("harness", vendors, indirect=True)


def behind(harness: Harness) -> Bedrock:
    assert isinstance(harness.vendor, _Account)
    return harness.vendor.bedrock


def spec(vendor: type[Vendor], *patches: JSON) -> JSON:
    told = vendor.spec
    for patch in patches:
        told = merged(told, patch)
    return told


async def told_of(harness: Harness, *patches: JSON) -> str:
    """What a user reads once it is clear that it cannot be."""
    harness.apply(spec(type(harness.vendor), *patches))
    verdict = await harness.converge()
    assert verdict.outcome == "SpecRejected", harness.ready
    return str(harness.ready["message"])


async def test_a_model_that_cannot_be_deployed_is_told_and_not_tried_again(harness: Harness):
    await harness.make()
    fake = behind(harness)
    fake.breaks = "The model artifacts could not be loaded."
    message = await told_of(harness, OnDemandVendor.edits[0].patch)
    assert "could not be loaded" in message
    assert "declare another model" in message
    for _ in range(3):
        harness.forget_faults()
        await harness.visit()
        assert harness.vendor_writes() == []
    assert harness.ready["message"] == message
    harness.apply()
    await harness.converge()
    assert harness.ready["status"] == "True"


@over(OnDemandVendor, ThroughputVendor)
async def test_what_has_failed_is_told_and_made_anew_after_an_edit(harness: Harness):
    behind(harness).breaks = "The base model is not available in this region."
    harness.apply()
    await harness.converge()
    assert harness.ready["reason"] == "ProviderFailed"
    assert "not available in this region" in harness.ready["message"]
    harness.apply(spec(type(harness.vendor), harness.vendor.edits[0].patch))
    await harness.converge()
    assert harness.ready["status"] == "True", harness.ready
    assert await harness.vendor.count() == 1


@over(ThroughputVendor)
async def test_throughput_that_has_served_is_not_given_back_for_a_failed_update(harness: Harness):
    id = await harness.make()
    behind(harness).breaks = "The model artifacts could not be loaded."
    harness.apply(spec(ThroughputVendor, ThroughputVendor.edits[0].patch))
    await harness.converge()
    assert harness.ready["reason"] == "ProviderFailed", harness.ready
    assert "could not be loaded" in harness.ready["message"]
    harness.forget_faults()
    assert "is Failed" in await told_of(harness)
    assert harness.vendor_writes() == ["UpdateProvisionedModelThroughput"]
    assert harness.subject.status["id"] == id
    assert await harness.vendor.count() == 1


@pytest.mark.parametrize(
    ("patch", "words"),
    [
        ({"model": {"name": "my-model"}}, "Bedrock names custom models by their ARN"),
        ({"model": {"name": None, "artifact": "s3://a/b"}}, "takes a model by its id or ARN"),
        ({"hardware": "ml.m5.large"}, "hardware: Bedrock has no choice"),
        ({"scaling": {"min": 2}}, "scaling: Bedrock scales by itself"),
        ({"environment": [{"name": "A", "value": "b"}]}, "environment: Bedrock runs no container"),
    ],
)
async def test_what_bedrock_has_not_is_refused_at_once(harness: Harness, patch: JSON, words: str):
    assert words in await told_of(harness, patch)
    assert harness.vendor_writes() == []


async def test_a_model_that_does_not_exist_is_told_in_bedrocks_words(harness: Harness):
    message = await told_of(harness, {"model": {"name": UNKNOWN}})
    assert message.endswith("The provided model identifier is invalid.")


def test_a_name_that_bedrock_refuses_is_told_at_admission():
    fields = {"name": "a.b", "model": {"name": CUSTOM}, "customModelDeployment": {}}
    want = BedrockDeploymentParams.model_validate(fields)
    assert "letters and digits" in BedrockDeployment.objections(want)["name"]


@over(ThroughputVendor)
async def test_a_used_up_quota_is_told_as_one(harness: Harness):
    behind(harness).quota = 0
    message = await told_of(harness)
    assert "quota" in message
    assert "0 model units" in message


@over(ThroughputVendor)
async def test_a_commitment_is_not_deleted_before_its_end(harness: Harness):
    committed = {"bedrock": {"provisionedThroughput": {"commitment": "OneMonth"}}}
    harness.apply(spec(ThroughputVendor, committed))
    await harness.converge()
    assert harness.ready["status"] == "True"
    harness.cluster.delete(harness.key)
    await harness.converge()
    assert "before the end of its commitment" in harness.ready["message"]
    assert harness.subject.kept
    assert await harness.vendor.count() == 1


@over(ThroughputVendor)
async def test_throughput_moves_only_among_what_has_one_base(harness: Harness):
    await harness.make()
    assert "same base model" in await told_of(harness, {"model": {"name": OF_ANOTHER}})


@over(ThroughputVendor)
async def test_a_foundation_model_may_be_named_by_id_or_arn(harness: Harness):
    harness.apply(spec(ThroughputVendor, {"model": {"name": FOUNDATION[BASE]}}))
    await harness.converge()
    assert harness.ready["status"] == "True"
    harness.apply()
    harness.forget_faults()
    await harness.converge()
    assert harness.vendor_writes() == []


@over(ProfileVendor)
async def test_a_profile_takes_no_other_model(harness: Harness):
    await harness.make()
    harness.forget_faults()
    assert "declare another ModelDeployment" in await told_of(harness, {"model": {"name": BASE}})
    assert harness.vendor_writes() == []


@over(ProfileVendor)
async def test_a_profile_of_one_region_is_made_of_the_model_itself(harness: Harness):
    harness.apply(spec(ProfileVendor, {"model": {"name": BASE}}))
    await harness.converge()
    (profile,) = behind(harness).profiles.values()
    assert profile["models"] == [{"modelArn": FOUNDATION[BASE]}]


@over(ProfileVendor)
async def test_two_profiles_of_one_name_are_a_conflict(harness: Harness):
    for _ in range(2):
        await harness.vendor.foreign(ProfileVendor.spec, NAME, None)
    harness.apply(policy="Adopt")
    await harness.converge()
    assert harness.ready["reason"] == "Conflict"
    assert "several inference profiles" in harness.ready["message"]


CONVERSE = {
    "path": "converse",
    "body": '{"messages": [{"role": "user", "content": [{"text": "Hello"}]}]}',
    "expect": {"json": {"path": "output.message.content.0.text", "value": "Hello"}},
}
INVOKE = {"body": '{"a": 1}', "expect": {"json": {"path": "received", "value": "8"}}}


@pytest.mark.parametrize("probe", [CONVERSE, INVOKE], ids=["converse", "invoke"])
async def test_a_probe_asks_the_model(harness: Harness, probe: JSON):
    often = {"probe": {**probe, "failures": 1, "interval": "1ms"}}
    harness.apply(spec(OnDemandVendor, often))
    await harness.converge()
    assert harness.ready["status"] == "True", harness.ready
    behind(harness).answers = (424, "ModelErrorException", "The model cannot read this.")
    await harness.converge()
    assert harness.ready["reason"] == "ProbeFailing"
    assert "status 400" in harness.ready["message"]


async def test_a_model_that_is_still_being_loaded_pauses_nothing(harness: Harness):
    harness.apply(spec(OnDemandVendor, {"probe": {**INVOKE, "failures": 1, "interval": "1ms"}}))
    behind(harness).answers = (429, "ModelNotReadyException", "The model is being loaded.")
    await harness.converge()
    assert harness.ready["reason"] == "ProbeFailing"
    assert "being loaded" in harness.ready["message"]
    behind(harness).answers = None
    # Not forgiven as by `converge`: a pause would show.
    await harness.visit()
    assert harness.ready["status"] == "True"


@pytest.mark.parametrize(
    ("request_", "words"),
    [
        ({"path": "chat"}, "invoke and converse"),
        ({"path": "converse", "body": "[]"}, "JSON object"),
    ],
)
async def test_a_probe_that_bedrock_has_no_call_for_is_told(
    harness: Harness, request_: JSON, words: str
):
    harness.apply(spec(OnDemandVendor, {"probe": {**request_, "failures": 1}}))
    await harness.converge()
    assert harness.ready["reason"] == "ProbeFailing"
    assert words in harness.ready["message"]


@pytest.mark.parametrize(
    "form",
    [
        ({"provisionedThroughput": {"modelUnits": 1}}),
        ({"inferenceProfile": {"description": "Search"}}),
    ],
)
async def test_ministack_keeps_what_is_declared_and_lets_it_go(
    ministack: Ministack, sign_in: SignIn, form: JSON
):
    ministack.reset()
    provider = BedrockDeployment(await sign_in(ministack.url))
    source = f"arn:aws:bedrock:eu-central-1::foundation-model/{BASE}"
    fields = {"name": "search", "model": {"name": source}, "tags": {"team": "search"}, **form}
    want = BedrockDeploymentParams.model_validate(fields)
    if "inferenceProfile" in form:
        # It knows other models; an ARN is passed on as it is.
        want.model.name = source
    id = await provider.create(want, "c/team/search")
    # It forgets the tags that throughput is created with.
    await provider.update(id, want, frozenset(), "c/team/search")
    observed = await provider.read(id)
    assert observed is not None
    assert (observed.phase, observed.owner) == (Phase.READY, "c/team/search")
    assert compare(want, observed.actual, Memory(), {}) == []
    changed = want.model_copy(update={"tags": {"cost": "42"}})
    await provider.update(id, changed, frozenset({"tags.cost", "tags.team"}), "c/team/search")
    observed = await provider.read(id)
    assert observed is not None
    assert observed.actual.tags == {"cost": "42"}
    await provider.delete(id)
    assert await provider.read(id) is None
    await provider.delete(id)


@over(CustomizationVendor)
async def test_a_failed_job_is_told_and_declared_anew_it_runs_again(harness: Harness):
    fake = behind(harness)
    fake.breaks = "Line 3 of the training data is no valid JSON."
    harness.apply()
    await harness.converge()
    assert harness.ready["reason"] == "ProviderFailed"
    assert "Line 3" in harness.ready["message"]
    await harness.remove()
    assert await harness.make() == f"{NAME}+2"
    assert [job["status"] for job in fake.jobs.values()] == ["Failed", "Completed"]
    assert harness.subject.status["outputs"]["modelName"] == f"{NAME}-2"


@over(CustomizationVendor)
async def test_a_job_whose_model_was_deleted_runs_again_if_declared_anew(harness: Harness):
    await harness.make()
    await harness.remove()
    assert await harness.make() == f"{NAME}+2"


@over(CustomizationVendor)
async def test_a_job_whose_model_was_retained_is_taken_as_done(harness: Harness):
    await harness.make(deletionPolicy="Retain")
    await harness.remove()
    assert await harness.make() == NAME
    assert len(behind(harness).jobs) == 1


@over(CustomizationVendor)
async def test_a_model_that_is_served_is_not_deleted(harness: Harness):
    await harness.make()
    fake = behind(harness)
    model = harness.subject.status["outputs"]["model"]
    served = fake.CreateCustomModelDeployment("search", model, "token")["customModelDeploymentArn"]
    harness.cluster.delete(harness.key)
    await harness.converge()
    assert "in use by a custom model deployment" in harness.ready["message"]
    fake.DeleteCustomModelDeployment(served)
    await harness.remove()
    assert fake.models == {}


@over(CustomizationVendor)
@pytest.mark.parametrize(
    ("quota", "patch", "words"),
    [
        (0, {}, "quota"),
        (None, {"baseModel": "amazon.no-such-v1:0"}, "model identifier is invalid"),
        (None, {"baseModel": None}, "baseModel"),
        (None, {"method": "Preference"}, "pairs of answers"),
        (None, {"method": "Reinforcement"}, "graderLambdaArn"),
        (None, {"seed": 1}, "seed: Bedrock takes none"),
    ],
)
async def test_what_bedrock_does_not_train_is_told(
    harness: Harness, quota: int | None, patch: JSON, words: str
):
    behind(harness).quota = quota
    assert words in await told_of(harness, patch)


@over(CustomizationVendor)
@pytest.mark.parametrize(
    "patch",
    [
        {
            "method": "Reinforcement",
            "hyperparameters": {"learningRate": "0.0001", "reasoningEffort": "low"},
            "bedrock": {"graderLambdaArn": "arn:aws:lambda:eu-central-1:123456789012:function:g"},
        },
        {
            "method": None,
            "bedrock": {
                "customizationType": "DISTILLATION",
                "distillation": {"teacherModel": "amazon.nova-pro-v1:0", "maxResponseLength": 900},
            },
        },
        {"method": None, "bedrock": {"customizationType": "CONTINUED_PRE_TRAINING"}},
        {"baseModel": CUSTOM},
    ],
    ids=["reinforcement", "distillation", "pre-training", "of a custom model"],
)
async def test_every_kind_of_customisation_is_asked_for_and_read_back(
    harness: Harness, patch: JSON
):
    harness.apply(spec(CustomizationVendor, patch))
    await harness.converge()
    assert harness.ready["status"] == "True", harness.ready
    assert harness.vendor.violations == []


async def test_moto_runs_a_job_and_stops_it(moto: Moto, sign_in: SignIn):
    moto.reset()
    session = await sign_in(moto.url)
    for bucket in ("training", "output"):
        await session.call(
            "s3",
            "CreateBucket",
            Bucket=bucket,
            CreateBucketConfiguration={"LocationConstraint": "eu-central-1"},
        )
    provider = BedrockCustomization(session)
    fields: dict[str, Any] = {
        "name": "search",
        "baseModel": BASE,
        "trainingData": "s3://training/train.jsonl",
        "validationData": "s3://training/check.jsonl",
        "epochs": 2,
        "roleArn": ROLE,
        "output": "s3://output/metrics",
        "tags": {"team": "search"},
    }
    want = BedrockCustomizationParams.model_validate(fields)
    assert await provider.locate(want) is None
    id = await provider.create(want, "c/team/search")
    assert await provider.locate(want) == id
    observed = await provider.read(id)
    assert observed is not None
    assert (observed.phase, observed.owner) == (Phase.PENDING, "c/team/search")
    assert compare(want, observed.actual, Memory(), {}) == []
    await provider.cancel(id)
    observed = await provider.read(id)
    assert observed is not None
    assert observed.phase is Phase.FAILED
    assert await provider.locate(want) is None
    await provider.cancel(id)
    await provider.delete(id)
