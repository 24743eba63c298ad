"""What is special of Replicate: releases, slow deletion, trainings known by what they are."""

from typing import Any

import httpx
import pytest

from auterity.api.rollout import Probe
from auterity.engine.contract import Phase
from auterity.engine.drift import Memory, compare
from auterity.engine.errors import Conflict, Rejected, Throttled, Unavailable
from auterity.providers.replicate.connection import held, model_path
from auterity.providers.replicate.deployment import ReplicateDeployment, ReplicateDeploymentParams
from auterity.providers.replicate.training import (
    ReplicateTraining,
    ReplicateTrainingParams,
    decoded,
    shown,
)
from auterity.transport.http import Answer
from tests.conformance.harness import NAME, Harness
from tests.conformance.vendor import JSON, merged
from tests.fakes.replicate import (
    ACCOUNT,
    HF_TOKEN,
    SDXL,
    SDXL_NEW,
    Account,
    ReplicateDeployments,
    ReplicateTrainings,
    version_of,
)

STAND_IN = ReplicateDeployments
trainings = pytest.mark.parametrize("harness", [ReplicateTrainings], indirect=True)


@pytest.fixture
def account(harness: Harness) -> Account:
    found: Account = harness.vendor.account  # type: ignore[attr-defined]  # it is Replicate's
    return found


def wanted(**spec: Any) -> ReplicateDeploymentParams:
    flat = {"name": NAME, **ReplicateDeployments.spec, **spec}
    flat.pop("replicate")
    return ReplicateDeploymentParams.model_validate(flat)


def training(**spec: Any) -> ReplicateTrainingParams:
    flat = {"name": NAME, **ReplicateTrainings.spec, **ReplicateTrainings.spec["replicate"], **spec}
    want = ReplicateTrainingParams.model_validate(flat)
    for one in want.secret_inputs:
        one.resolve(HF_TOKEN, "1")
    return want


async def told(harness: Harness, patch: JSON) -> str:
    """What a user is told of a spec that is refused."""
    harness.apply(merged(type(harness.vendor).spec, patch))
    assert (await harness.converge()).outcome == "SpecRejected", harness.ready
    return str(harness.ready["message"])


async def test_only_a_change_makes_a_release(harness: Harness, account: Account):
    id = await harness.make()
    harness.apply(merged(ReplicateDeployments.spec, {"scaling": {"max": 4}}))
    await harness.converge()
    await harness.visit()
    release = account.deployments[id]["current_release"]
    assert (release["number"], release["configuration"]["max_instances"]) == (2, 4)


async def test_what_others_have_changed_and_may_keep_is_left(harness: Harness, account: Account):
    id = await harness.make(driftPolicy="Report")
    account.change(id, {"hardware": "gpu-h100", "min_instances": 2})
    assert (await harness.converge()).outcome == "Drifted"
    edited = merged(ReplicateDeployments.spec, {"scaling": {"max": 4}})
    harness.apply(edited, driftPolicy="Report")
    assert (await harness.converge()).outcome == "Drifted", harness.ready
    assert account.deployments[id]["current_release"]["configuration"] == {
        "hardware": "gpu-h100",
        "min_instances": 2,
        "max_instances": 4,
    }


async def test_a_deployment_is_taken_offline_and_deleted_once_replicate_lets_one(
    harness: Harness, account: Account
):
    id = await harness.make()
    harness.cluster.delete(harness.key)
    for _ in range(2):
        harness.forgive()
        assert not (await harness.visit()).gone
        assert "offline and unused for 15 minutes" in harness.ready["message"]
    release = account.deployments[id]["current_release"]
    assert release["number"] == 2, "it is scaled to zero once"
    assert release["configuration"]["max_instances"] == 0
    account.settle()
    assert (await harness.visit()).gone
    assert account.deployments == {}


async def test_without_a_version_the_latest_is_taken_and_then_left(
    harness: Harness, account: Account
):
    harness.apply(merged(ReplicateDeployments.spec, {"model": {"version": None}}))
    await harness.converge()
    (deployment,) = account.deployments.values()
    assert deployment["current_release"]["version"] == SDXL_NEW
    account.models["stability-ai/sdxl"].append(version_of("sdxl", 3))
    await harness.visit()
    assert deployment["current_release"]["number"] == 1


async def test_a_training_s_output_is_a_model_with_its_version(harness: Harness, account: Account):
    made = version_of("made")
    account.models[f"{ACCOUNT}/support-style"] = [made]
    ref = {"kind": "TuningJob", "name": "style", "output": "model"}
    want = wanted(model={"modelRef": ref})
    assert want.model.model_ref is not None
    want.model.model_ref.resolve(f"{ACCOUNT}/support-style:{made}", "1")
    provider = await harness.opened()
    observed = await provider.create(want, "")
    assert observed.outputs["model"] == f"{ACCOUNT}/support-style:{made}"
    assert compare(want, observed.actual, Memory(), {}) == []

    newer = version_of("newer")
    account.models[f"{ACCOUNT}/support-style"].append(newer)
    want.model.model_ref.resolve(f"{ACCOUNT}/support-style:{newer}", "2")
    (difference,) = compare(want, observed.actual, Memory(), {})
    await provider.update(observed.id, want, frozenset({difference.path}), "")
    assert account.deployments[observed.id]["current_release"]["version"] == newer


@pytest.mark.parametrize(
    ("patch", "words"),
    [
        ({"hardware": "gpu-b900"}, "the vendor refused the request (400): Invalid hardware"),
        ({"hardware": None}, "hardware: Replicate needs the SKU of its hardware, such as gpu-t4"),
        ({"model": {"name": "nobody/nothing", "version": None}}, "knows no such object"),
        ({"model": {"name": "sdxl"}}, "does not exist"),
        ({"model": {"name": f"a/b:{SDXL}"}}, "write what stands behind the colon into version"),
        ({"model": {"name": f"{ACCOUNT}/support-style", "version": None}}, "has no version yet"),
        ({"environment": [{"name": "A", "value": "b"}]}, "no environment variables"),
        ({"scaling": {"toZeroAfter": "5m", "min": 0}}, "leave target, toZeroAfter out"),
    ],
)
async def test_what_is_refused_is_told(harness: Harness, account: Account, patch: JSON, words: str):
    assert words in await told(harness, patch)
    assert account.deployments == {}


async def test_another_model_is_refused_and_nothing_is_sent(harness: Harness, account: Account):
    id = await harness.make()
    account.models["acme/other"] = [SDXL]
    message = await told(harness, {"model": {"name": "acme/other"}})
    assert "serves stability-ai/sdxl, and Replicate takes no other model for it" in message
    assert account.deployments[id]["current_release"]["number"] == 1


async def test_all_pages_are_listed(harness: Harness):
    provider = await harness.opened()
    for number in range(5):
        await provider.create(wanted(name=f"d{number}"), "")
    seen = [one.id async for one in provider.read_all()]
    assert sorted(seen) == [f"{ACCOUNT}/d{number}" for number in range(5)]


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ('{"input": {"prompt": "hello"}}', 200),
        ('{"input": {"prompt": "fail"}}', 500),
        ('{"input": {}}', 422),
    ],
)
async def test_a_probe_is_a_prediction(harness: Harness, body: str, status: int):
    id = await harness.make()
    provider = await harness.opened()
    answer = await provider.probe(id, Probe(body=body), None)
    assert answer.status == status


async def test_a_probe_without_a_prediction_is_refused(harness: Harness):
    provider = await harness.opened()
    with pytest.raises(Rejected, match=r"probe\.body"):
        await provider.probe("acme/x", Probe(), None)


def _answer(status: int, body: Any, **headers: str) -> Answer:
    return Answer(status, httpx.Headers(headers), body)


def test_how_long_to_wait_stands_in_the_text_too_and_is_not_told():
    detail = "Request was throttled. Your rate limit resets in ~{}s."
    one, other = (held(_answer(429, {"detail": detail.format(wait)})) for wait in (30, 29))
    assert isinstance(one, Throttled)
    assert isinstance(other, Throttled)
    assert (one.retry_after, other.retry_after) == (30, 29)
    assert one.message == other.message
    named = held(_answer(429, {"detail": detail.format(30)}, **{"retry-after": "7"}))
    assert isinstance(named, Throttled)
    assert named.retry_after == 7


async def test_an_account_without_credit_and_a_taken_name_are_told_apart(harness: Harness):
    connector = (await harness.opened()).session.connector
    broke = connector.failure(_answer(402, {"detail": "You have insufficient credit"}))
    assert isinstance(broke, Rejected)
    assert "credit to be filled up: You have insufficient credit" in broke.message
    taken = connector.failure(_answer(400, {"detail": "A deployment ... already exists."}))
    assert isinstance(taken, Conflict)
    page = connector.failure(_answer(404, "<html>"))
    assert isinstance(page, Unavailable)


@pytest.mark.parametrize("name", ["sdxl", "a/b/c", "/b", "a/", f"a/b:{SDXL}"])
def test_what_is_no_model_s_name_is_refused(name: str):
    with pytest.raises(Rejected, match="not the name of a model"):
        model_path(name)


@pytest.mark.parametrize(
    ("text", "value", "form"),
    [
        ("1000", 1000, "1000"),
        ("4e-4", 0.0004, "0.0004"),
        ("true", True, "true"),
        ("null", None, "null"),
        ('"1000"', "1000", '"1000"'),
        ('"TOK"', "TOK", "TOK"),
        ("TOK", "TOK", "TOK"),
        ("NaN", "NaN", "NaN"),
        ("1e999", "1e999", "1e999"),
        ('{"a": [1]}', {"a": [1]}, '{"a":[1]}'),
    ],
)
def test_an_input_has_one_form(text: str, value: object, form: str):
    assert decoded(text) == value
    assert shown(decoded(text)) == form
    assert decoded(form) == value


@trainings
async def test_inputs_have_their_types_and_secrets_are_told_to_nobody(
    harness: Harness, account: Account
):
    id = await harness.make()
    assert account.runs[id]["input"] == {
        "input_images": "https://example.com/style.zip",
        "seed": 7,
        "steps": 1000,
        "learning_rate": 0.0004,
        "trigger_word": "1000",
        "hf_token": HF_TOKEN,
    }
    observed = await harness.read()
    assert observed is not None
    assert HF_TOKEN not in repr(observed)
    assert observed.outputs["model"] == account.runs[id]["output"]["version"]


@trainings
@pytest.mark.parametrize(
    ("patch", "words"),
    [
        ({"baseModel": "nobody/nothing"}, "knows no such object"),
        ({"modelName": "missing"}, "The specified training destination does not exist"),
        ({"trainingData": "my.zip"}, "Does not match format 'uri'"),
        ({"hyperparameters": {"steps": "many"}}, "Expected: integer, given: string"),
        ({"hyperparameters": {"hf_token": "x"}}, "hf_token may be secret: use secretInputs"),
        ({"epochs": 3}, "epochs: trainers call it differently"),
        ({"baseModel": None}, "Replicate needs a trainer"),
    ],
)
async def test_what_a_training_is_refused_for_is_told(
    harness: Harness, account: Account, patch: JSON, words: str
):
    assert words in await told(harness, patch)
    assert account.runs == {}


@trainings
async def test_a_training_that_fails_tells_why_and_is_not_repeated(
    harness: Harness, account: Account
):
    account.fails = "No images found\n  in the archive"
    harness.apply()
    for _ in range(2):
        assert (await harness.converge()).outcome == "ProviderFailed"
    assert "training is failed: No images found in the archive" in harness.ready["message"]
    assert len(account.runs) == 1


@trainings
async def test_one_that_was_aborted_has_failed(harness: Harness, account: Account):
    account.slow = True
    harness.apply()
    await harness.visit()
    (run,) = account.runs.values()
    run["status"] = "aborted"
    assert (await harness.visit()).outcome == "ProviderFailed"


@trainings
async def test_the_very_same_training_is_not_run_twice_without_being_asked_for(
    harness: Harness, account: Account
):
    id = await harness.make(deletionPolicy="Retain")
    await harness.remove()
    harness.apply()
    assert (await harness.converge()).outcome == "Conflict"
    assert f"{id} exists at replicate and is not ours" in harness.ready["message"]
    harness.apply(merged(ReplicateTrainings.spec, {"seed": 8}))
    await harness.converge()
    assert harness.ready["status"] == "True"
    assert len(account.runs) == 2


@trainings
async def test_one_of_several_that_could_be_meant_is_not_guessed(
    harness: Harness, account: Account
):
    for _ in range(2):
        await harness.vendor.foreign(ReplicateTrainings.spec, NAME, None)
    provider = await harness.opened()
    with pytest.raises(Conflict, match="2 trainings with these very inputs"):
        await provider.locate(training())


@trainings
@pytest.mark.parametrize(
    "other", [{"modelName": "another"}, {"seed": 8}, {"hyperparameters": {}}, {"version": "0" * 64}]
)
async def test_another_destination_or_input_is_another_training(
    harness: Harness, account: Account, other: JSON
):
    await harness.vendor.foreign(ReplicateTrainings.spec, NAME, None)
    provider = await harness.opened()
    assert await provider.locate(training()) is not None
    assert await provider.locate(training(**other)) is None


@trainings
async def test_a_training_that_ended_before_it_was_stopped_leaves_no_version(
    harness: Harness, account: Account, monkeypatch: pytest.MonkeyPatch
):
    account.slow = True
    provider = await harness.opened()
    observed = await provider.create(training(), "")
    assert observed.phase is Phase.PENDING
    find = provider.session.find

    async def too_late(path: str, **request: Any) -> Any:
        seen = {**await find(path, **request)}
        account.finish(account.runs[observed.id])
        return seen

    monkeypatch.setattr(provider.session, "find", too_late)
    await provider.delete(observed.id)
    assert account.models[f"{ACCOUNT}/support-style"] == []


@trainings
async def test_a_version_that_a_deployment_uses_is_not_deleted_and_the_object_says_so(
    harness: Harness, account: Account
):
    id = await harness.make()
    model, _, version = account.runs[id]["output"]["version"].partition(":")
    uses = {"name": "d", "model": model, "version": version, "hardware": "cpu"}
    account.deploy({**uses, "min_instances": 0, "max_instances": 1})
    harness.cluster.delete(harness.key)
    assert not (await harness.visit()).gone
    assert "Version is used by a deployment" in harness.ready["message"]
    account.deployments.clear()
    await harness.remove()
    assert account.models[model] == []


def test_the_operator_names_what_a_deployment_and_a_training_cannot_have():
    want = wanted(model={"image": "r8.im/acme/x", "name": "acme/x"}, hardware=None)
    assert set(ReplicateDeployment.objections(want)) == {"model", "hardware"}
    assert set(ReplicateTraining.objections(training(modelName="acme/x", method="Supervised"))) == {
        "model_name",
        "method",
    }
