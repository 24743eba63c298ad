"""What is special of training jobs at SageMaker: their names; and IAM, against moto."""

import json
from collections.abc import Awaitable, Callable

import pytest

from auterity.engine.contract import Phase
from auterity.engine.drift import Memory, compare
from auterity.engine.errors import NotFound, Unauthorized
from auterity.providers.sagemaker.training import SageMakerTraining
from auterity.providers.sagemaker.training_params import SageMakerTrainingParams
from auterity.transport.aws import AwsSession
from tests.conformance.harness import NAME, Harness
from tests.conformance.vendor import JSON, merged
from tests.fakes.sagemaker_training import (
    HUB_MODEL,
    ServerlessVendor,
    Training,
    TrainingVendor,
    _Jobs,
)
from tools.servers.moto import Moto

STAND_IN = TrainingVendor
SignIn = Callable[..., Awaitable[AwsSession]]


def behind(harness: Harness) -> Training:
    assert isinstance(harness.vendor, _Jobs)
    return harness.vendor.training


@pytest.mark.parametrize(
    ("quota", "patch", "words"),
    [
        (0, {}, "a quota of the AWS account is used up"),
        (None, {"trainingData": "s3://acme/no-such"}, "No S3 objects found"),
        (None, {"trainingData": "file-1"}, "trainingData"),
        (None, {"method": "Supervised"}, "leaves it to the container"),
        (None, {"modelName": "churn"}, "gives what it makes no name"),
        (None, {"sageMaker": {"spotMaxWait": "1h"}}, "no less than MaxRuntimeInSeconds"),
        (
            None,
            {"sageMaker": {"channels": [{"name": "train", "address": "s3://acme/a"}]}},
            "are the channels",
        ),
        (None, {"sageMaker": {"instanceType": "ml.none.large"}}, "enum value set"),
    ],
)
async def test_what_sagemaker_does_not_train_is_told(
    harness: Harness, quota: int | None, patch: JSON, words: str
):
    behind(harness).quota = quota
    harness.apply(merged(TrainingVendor.spec, patch))
    verdict = await harness.converge()
    assert verdict.outcome == "SpecRejected", harness.ready
    assert words in harness.ready["message"]


async def test_a_failed_job_is_told_and_its_name_is_free_once_it_is_deleted(harness: Harness):
    behind(harness).breaks = "AlgorithmError: ValueError: could not convert string to float"
    harness.apply()
    await harness.converge()
    assert harness.ready["reason"] == "ProviderFailed"
    assert "could not convert string" in harness.ready["message"]
    await harness.remove()
    assert await harness.make() == NAME


async def test_a_job_that_took_too_long_says_so(harness: Harness):
    harness.vendor.slow = True
    harness.apply()
    await harness.visit()
    (job,) = behind(harness).jobs.values()
    job |= {"TrainingJobStatus": "Stopped", "SecondaryStatus": "MaxRuntimeExceeded"}
    await harness.visit()
    assert harness.ready["reason"] == "ProviderFailed"
    assert harness.ready["message"] == "the job is Stopped: MaxRuntimeExceeded"


async def test_another_attempt_beside_a_retained_record_has_another_name(harness: Harness):
    behind(harness).breaks = "ClientError: Please use an instance type with more memory."
    harness.apply(deletionPolicy="Retain")
    await harness.converge()
    await harness.remove()
    assert await harness.make() == f"{NAME}--2"


async def test_a_job_that_ends_while_it_is_stopped_is_looked_at_again(
    harness: Harness, monkeypatch: pytest.MonkeyPatch
):
    harness.vendor.slow = True
    harness.apply(deletionPolicy="Retain")
    await harness.visit()
    fake = behind(harness)
    stop = fake.StopTrainingJob

    def late(TrainingJobName: str) -> None:  # noqa: N803 - as AWS calls it
        fake.advance(TrainingJobName)
        stop(TrainingJobName)

    monkeypatch.setattr(fake, "StopTrainingJob", late)
    await harness.remove()
    assert [job["TrainingJobStatus"] for job in fake.jobs.values()] == ["Completed"]
    assert any(reason == "Retained" for _, reason, _ in harness.cluster.events)


SERVERLESS = pytest.mark.parametrize("harness", [ServerlessVendor], indirect=True)


@SERVERLESS
async def test_a_serverless_job_makes_a_model_package_that_goes_with_it(harness: Harness):
    await harness.make()
    (package,) = behind(harness).packages
    assert harness.subject.status["outputs"]["model"] == package
    assert harness.subject.status["summary"]["epoch"] == "2 of 2"
    await harness.remove()
    assert behind(harness).packages == set()


@SERVERLESS
async def test_the_version_of_a_model_of_the_hub_is_sagemakers_to_choose(harness: Harness):
    harness.apply(merged(ServerlessVendor.spec, {"baseModel": f"{HUB_MODEL}/1.0.0"}))
    await harness.converge()
    assert harness.ready["status"] == "True", harness.ready


@SERVERLESS
@pytest.mark.parametrize(
    ("patch", "words"),
    [
        ({"method": None}, "method: SageMaker needs it for serverless"),
        ({"baseModel": "amazon-nova-lite"}, "the ARN of a model of its hub"),
        ({"epochs": 2}, "epochs: SageMaker takes it for an image"),
        ({"sageMaker": {"instanceType": "ml.g5.xlarge"}}, "instanceType: SageMaker takes it for"),
    ],
)
async def test_what_is_not_serverless_is_told(harness: Harness, patch: JSON, words: str):
    harness.apply(merged(ServerlessVendor.spec, patch))
    verdict = await harness.converge()
    assert verdict.outcome == "SpecRejected", harness.ready
    assert words in harness.ready["message"]


class Team:
    """The provider as a user in an AWS account that may do this and nothing else."""

    def __init__(self, moto: Moto, sign_in: SignIn) -> None:
        self.moto, self.sign_in = moto, sign_in

    async def provider(self, actions: tuple[str, ...]) -> SageMakerTraining:
        self.moto.reset()
        root = await self.sign_in(self.moto.url)
        allowed = {"Effect": "Allow", "Action": list(actions), "Resource": "*"}
        policy = json.dumps({"Version": "2012-10-17", "Statement": [allowed]})
        user = {"UserName": "team"}
        await root.call("iam", "CreateUser", **user)
        await root.call("iam", "PutUserPolicy", **user, PolicyName="least", PolicyDocument=policy)
        key = (await root.call("iam", "CreateAccessKey", **user))["AccessKey"]
        self.moto.enforce_iam()
        return SageMakerTraining(
            await self.sign_in(self.moto.url, key["AccessKeyId"], key["SecretAccessKey"])
        )


@pytest.fixture
def team(moto: Moto, sign_in: SignIn) -> Team:
    return Team(moto, sign_in)


def wanted() -> SageMakerTrainingParams:
    spec = TrainingVendor.spec
    block = {k: v for k, v in spec["sageMaker"].items() if k != "environment"}
    return SageMakerTrainingParams.model_validate({**spec, **block, "name": "churn"})


async def test_the_documented_rights_are_enough(team: Team):
    provider = await team.provider(SageMakerTraining.permissions)
    want = wanted()
    assert await provider.locate(want) is None
    id = await provider.create(want, "c/team/churn")
    assert await provider.locate(want) == id
    observed = await provider.read(id)
    assert observed is not None
    assert (observed.phase, observed.owner) == (Phase.READY, "c/team/churn")
    assert observed.outputs["model"].startswith("s3://acme/churn/models/")
    assert compare(want, observed.actual, Memory(), {}) == []
    changed = want.model_copy(update={"tags": {"cost": "42"}})
    await provider.update(id, changed, frozenset({"tags.cost", "tags.team"}), "c/team/churn")
    observed = await provider.read(id)
    assert observed is not None
    assert observed.actual.tags == {"cost": "42"}


async def test_a_missing_right_is_named(team: Team):
    rights = tuple(r for r in SageMakerTraining.permissions if not r.endswith(":CreateTrainingJob"))
    provider = await team.provider(rights)
    with pytest.raises(Unauthorized, match="CreateTrainingJob"):
        await provider.create(wanted(), "c/team/churn")
    with pytest.raises(NotFound):
        await provider.update("churn", wanted(), frozenset(), "c/team/churn")
