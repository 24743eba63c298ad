"""What is special of SageMaker: roll-backs, failed creations, leftovers; and IAM, against moto."""

import json
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from auterity.api.rollout import Metric
from auterity.engine.contract import Measured, Phase, Span
from auterity.engine.errors import Unauthorized
from auterity.engine.verdict import Again
from auterity.providers.sagemaker.endpoint import SageMakerEndpoint
from auterity.providers.sagemaker.params import SageMakerEndpointParams
from auterity.transport.aws import AwsSession
from tests.conformance.harness import NAME, Harness
from tests.conformance.rolling import BLUE_GREEN, CANARY, Roller, at_rest, revisions_of, spec_of
from tests.conformance.vendor import JSON, merged
from tests.fakes.sagemaker import SageMaker, SageMakerVendor, _invalid
from tools.servers.moto import Moto

OTHER_IMAGE = merged(SageMakerVendor.spec, SageMakerVendor.edits[0].patch)


STAND_IN = SageMakerVendor


def behind(harness: Harness) -> SageMaker:
    assert isinstance(harness.vendor, SageMakerVendor)
    return harness.vendor.sagemaker


async def test_an_update_that_was_rolled_back_is_told_and_not_sent_again(harness: Harness):
    await harness.make()
    fake = behind(harness)
    fake.breaks = "The container did not pass the ping health check."
    harness.apply(OTHER_IMAGE)
    await harness.converge()
    assert harness.ready["reason"] == "SpecRejected"
    assert "ping health check" in harness.ready["message"]
    assert harness.subject.status["summary"]["failureReason"].startswith("The container")
    told = harness.ready["message"]
    for _ in range(3):
        harness.forget_faults()
        verdict = await harness.visit()
        assert verdict.again is Again.AFTER
        assert [m for m in harness.vendor_writes() if m != "AddTags"] == []
    assert harness.ready["message"] == told


async def test_after_a_roll_back_the_earlier_spec_is_ready_again(harness: Harness):
    await harness.make()
    count = await harness.vendor.count()
    behind(harness).breaks = "No such image."
    harness.apply(OTHER_IMAGE)
    await harness.converge()
    harness.apply()
    await harness.converge()
    assert harness.ready["status"] == "True"
    assert await harness.vendor.count() == count


async def test_after_a_roll_back_another_edit_is_carried_out(harness: Harness):
    await harness.make()
    behind(harness).breaks = "No such image."
    harness.apply(OTHER_IMAGE)
    await harness.converge()
    image = SageMakerVendor.spec["model"]["image"].replace(":1", ":3")
    harness.apply(merged(SageMakerVendor.spec, {"model": {"image": image}}))
    await harness.converge()
    assert harness.ready["status"] == "True"
    observed = await harness.read()
    assert observed is not None
    assert observed.revisions[0].actual.model.image == image


async def test_a_creation_that_failed_is_told_and_made_anew_after_an_edit(harness: Harness):
    behind(harness).breaks = "Unable to provision requested ML compute capacity"
    harness.apply()
    await harness.converge()
    assert harness.ready["reason"] == "ProviderFailed"
    assert "compute capacity" in harness.ready["message"]
    harness.forget_faults()
    await harness.visit()
    assert harness.vendor_writes() == []
    harness.apply(OTHER_IMAGE)
    await harness.converge()
    assert harness.ready["status"] == "True", harness.ready


async def test_a_creation_that_failed_can_be_deleted(harness: Harness):
    behind(harness).breaks = "No such image."
    harness.apply()
    await harness.converge()
    await harness.remove()
    assert await harness.vendor.count() == 0


async def test_a_used_up_quota_is_told_as_one(harness: Harness):
    behind(harness).quota = 0
    harness.apply()
    await harness.converge()
    assert harness.ready["reason"] == "SpecRejected"
    assert "quota" in harness.ready["message"]
    await harness.remove()
    assert await harness.vendor.count() == 0


async def test_a_probe_asks_the_new_variant_and_what_it_answers_decides(harness: Harness):
    probe = {"probe": {"body": '{"a": 1}', "expect": {"json": {"path": "received", "value": "8"}}}}
    harness.apply(spec_of(harness, BLUE_GREEN, probe))
    assert (await Roller(harness).run()).outcome == "Ready"
    before = await revisions_of(harness)
    behind(harness).answers[OTHER_IMAGE["model"]["image"]] = 500
    never = {**probe["probe"], "failures": 1}
    harness.apply(spec_of(harness, BLUE_GREEN, {"probe": never}, SageMakerVendor.edits[0].patch))
    assert (await Roller(harness).run()).outcome == "RolledBack"
    assert "500" in harness.ready["message"]
    assert await revisions_of(harness) == before
    assert harness.recorder.probes[0] is True
    assert harness.recorder.probes[-1] is False


async def test_what_no_variant_owns_is_changed_beside_a_canary(harness: Harness):
    harness.apply(spec_of(harness, CANARY))
    await Roller(harness).run()
    before = await revisions_of(harness)
    capture = {"sageMaker": {"dataCapture": {"destination": "s3://captured/x"}}}
    image = SageMakerVendor.edits[0].patch
    harness.apply(spec_of(harness, CANARY, image, capture))
    await harness.converge()
    assert harness.subject.status["rollout"]["phase"] == "Paused"
    assert before.keys() < (await revisions_of(harness)).keys()
    observed = await harness.read()
    assert observed is not None
    assert observed.actual.data_capture.destination == "s3://captured/x"
    assert (await Roller(harness).run()).outcome == "Ready"
    await at_rest(harness)


async def test_beside_a_serverless_variant_no_other_is_tried(harness: Harness):
    serverless = next(e for e in SageMakerVendor.edits if e.name == "serverless").patch
    harness.apply(spec_of(harness, {}, serverless))
    assert (await Roller(harness).run()).outcome == "Ready"
    smaller = {"sageMaker": {"serverless": {"memorySizeInMB": 1024}}}
    harness.apply(spec_of(harness, BLUE_GREEN, serverless, smaller))
    assert (await Roller(harness).run()).outcome == "SpecRejected"
    assert "serverless" in harness.ready["message"]
    harness.apply(spec_of(harness, {}, serverless, smaller))
    assert (await Roller(harness).run()).outcome == "Ready"


async def test_no_instance_at_all_is_refused_before_anything_is_made(harness: Harness):
    none: JSON = {"scaling": {"min": 0, "max": 1, "target": None}}
    harness.apply(merged(SageMakerVendor.spec, none))
    assert (await harness.converge()).outcome == "SpecRejected"
    assert "SageMaker keeps an instance at least" in harness.ready["message"]
    assert await harness.vendor.count() == 0


async def test_autoscaling_of_both_variants_ends_with_them(harness: Harness):
    harness.apply(spec_of(harness, CANARY))
    await Roller(harness).run()
    count = await harness.vendor.count()
    harness.apply(spec_of(harness, CANARY, SageMakerVendor.edits[0].patch))
    await harness.converge()
    assert len(await revisions_of(harness)) == 2
    vendor = harness.vendor
    assert isinstance(vendor, SageMakerVendor)
    assert len(vendor.autoscaling.targets) == 2
    assert (await Roller(harness).run()).outcome == "Ready"
    assert await vendor.count() == count
    await harness.remove()
    assert await vendor.count() == 0


async def test_an_endpoint_deleted_without_its_model_is_made_anew(harness: Harness):
    await harness.make()
    count = await harness.vendor.count()
    del behind(harness).endpoints[NAME]
    await harness.converge()
    assert harness.ready["status"] == "True"
    assert await harness.vendor.count() == count


async def test_what_an_update_names_and_sagemaker_does_not_show_yet_is_waited_for(
    harness: Harness, monkeypatch: pytest.MonkeyPatch
):
    fake = behind(harness)
    create = fake.CreateEndpointConfig
    misses: list[object] = []

    def late(EndpointConfigName: str, **config: Any) -> JSON:  # noqa: N803 - as AWS calls it
        if not misses:
            misses.append(EndpointConfigName)
            raise _invalid('Could not find model "arn".')
        return create(EndpointConfigName, **config)

    monkeypatch.setattr(fake, "CreateEndpointConfig", late)
    harness.apply()
    verdict = await harness.visit()
    assert verdict.again is not Again.AFTER, harness.ready
    assert not harness.condition("Stalled")
    await harness.converge()
    assert harness.ready["status"] == "True"
    assert misses


async def test_an_endpoint_that_is_being_updated_is_deleted_once_it_may_be(harness: Harness):
    await harness.make()
    harness.vendor.slow = True
    harness.apply(OTHER_IMAGE)
    await harness.visit()
    harness.cluster.delete(harness.key)
    verdict = await harness.visit()
    assert verdict.again is not Again.NEVER
    assert harness.subject.kept
    harness.vendor.slow = False
    await harness.remove()
    assert await harness.vendor.count() == 0


async def test_autoscaled_instances_are_left_as_they_are(harness: Harness):
    await harness.make()
    (variant,) = behind(harness).endpoints[NAME]["ProductionVariants"]
    variant["DesiredInstanceCount"] = variant["CurrentInstanceCount"] = 3
    harness.forget_faults()
    await harness.visit()
    assert harness.vendor_writes() == []
    harness.apply(OTHER_IMAGE)
    await harness.converge()
    (variant,) = behind(harness).endpoints[NAME]["ProductionVariants"]
    assert variant["DesiredInstanceCount"] == 3


async def test_names_tell_nothing_of_a_secret(harness: Harness):
    await harness.make()
    before = set(behind(harness).models)
    await harness.remove()
    # The Secret is the same one, so is its version: only its value differs.
    where = ("team", "model")
    harness.cluster.secrets[where] = {"token": "another-token-0123456789"}
    await harness.make()
    assert set(behind(harness).models) == before


class Account:
    """An AWS account in which rights count."""

    def __init__(self, moto: Moto, sign_in: Callable[..., Awaitable[AwsSession]]) -> None:
        self.moto, self.sign_in = moto, sign_in

    async def provider(self, actions: tuple[str, ...]) -> SageMakerEndpoint:
        """The provider as a user who may do this and nothing else."""
        root = await self.sign_in(self.moto.url)
        policy = {
            "Version": "2012-10-17",
            "Statement": [{"Effect": "Allow", "Action": list(actions), "Resource": "*"}],
        }
        await root.call("iam", "CreateUser", UserName="team")
        await root.call(
            "iam",
            "PutUserPolicy",
            UserName="team",
            PolicyName="least",
            PolicyDocument=json.dumps(policy),
        )
        key = (await root.call("iam", "CreateAccessKey", UserName="team"))["AccessKey"]
        self.moto.enforce_iam()
        session = await self.sign_in(self.moto.url, key["AccessKeyId"], key["SecretAccessKey"])
        return SageMakerEndpoint(session)


@pytest.fixture
def account(moto: Moto, sign_in: Callable[..., Awaitable[AwsSession]]) -> Account:
    moto.reset()
    return Account(moto, sign_in)


def wanted() -> SageMakerEndpointParams:
    spec = SageMakerVendor.spec
    fields = {**spec, **spec["sageMaker"], "name": "churn", "environment": []}
    return SageMakerEndpointParams.model_validate(fields)


async def test_the_documented_rights_are_enough(account: Account):
    provider = await account.provider(SageMakerEndpoint.permissions)
    assert (await provider.session.verify()).name.endswith(":user/team")
    want = wanted()
    assert await provider.read("churn") is None
    assert await provider.create(want, "c/team/churn") == "churn"
    observed = await provider.read("churn")
    assert observed is not None
    assert (observed.phase, observed.owner) == (Phase.READY, "c/team/churn")
    (revision,) = observed.revisions
    assert (revision.name, revision.weight) == ("AllTraffic", 100)
    assert revision.actual.model.image == want.model.image
    assert revision.actual.vpc is not None
    assert want.vpc is not None
    assert revision.actual.vpc.subnets == want.vpc.subnets
    assert observed.actual.tags == want.tags
    assert revision.actual.scaling.max == 1
    await provider.update("churn", want, frozenset({"scaling.max", "tags.team"}), "c/team/churn")
    observed = await provider.read("churn")
    assert observed is not None
    scaling = observed.revisions[0].actual.scaling
    assert scaling.target is not None
    assert (scaling.max, scaling.target.value) == (3, 600)
    await provider.delete("churn")
    # What is left has to be seen, or it would never be deleted.
    assert await provider.read("churn") is not None
    await provider.delete("churn")
    assert await provider.read("churn") is None


@pytest.mark.parametrize(
    "missing",
    ["sagemaker:CreateModel", "sagemaker:CreateEndpointConfig", "sagemaker:CreateEndpoint"],
)
async def test_a_missing_right_is_named(account: Account, missing: str):
    rights = tuple(right for right in SageMakerEndpoint.permissions if right != missing)
    provider = await account.provider(rights)
    with pytest.raises(Unauthorized, match=missing.partition(":")[2]):
        await provider.create(wanted(), "c/team/churn")


@pytest.mark.parametrize("after", [[], [{"name": "TOKEN", "value": "for-tests-only"}]])
async def test_a_secret_that_is_no_longer_declared_is_not_shown(
    harness: Harness, after: list[JSON]
):
    await harness.make()
    before = SageMakerVendor.spec["environment"][:1]
    harness.apply({**SageMakerVendor.spec, "environment": before + after}, approval="Always")
    await harness.converge()
    (change,) = harness.subject.status["plan"]["changes"]
    assert change["field"] == "environment.TOKEN"
    assert SageMakerVendor.secrets["model"]["token"] not in harness.everything_told()


async def test_moto_tells_what_was_put_into_cloudwatch(account: Account):
    root = await account.sign_in(account.moto.url)
    start = datetime.now(UTC).replace(second=0, microsecond=0) - timedelta(minutes=10)

    async def put(minute: int, variant: str, name: str, *values: float) -> None:
        names = {"EndpointName": "churn", "VariantName": variant}
        data = {
            "MetricName": name,
            "Dimensions": [{"Name": key, "Value": value} for key, value in names.items()],
            "Timestamp": start + timedelta(minutes=minute, seconds=20),
            "Values": list(values),
        }
        await root.call("cloudwatch", "PutMetricData", Namespace="AWS/SageMaker", MetricData=[data])

    for minute, failed in ((-1, 9.0), (0, 1.0), (1, 2.0), (2, 0.0), (3, 9.0)):
        await put(minute, "r-new", "Invocations", *[1.0] * 10)
        await put(minute, "r-new", "Invocation5XXErrors", failed)
        await put(minute, "r-new", "Invocation4XXErrors", 1.0)
        await put(minute, "r-old", "Invocations", 1.0)
    # Not as a user with the documented rights: moto calls this one monitoring:GetMetricData.
    provider = SageMakerEndpoint(root)
    asked = frozenset({Metric.ERROR_RATE, Metric.CLIENT_ERROR_RATE})
    span = Span(start, start + timedelta(minutes=3))
    told = await provider.measure("churn", "r-new", asked, span)
    assert told.requests == 30
    assert told.values == pytest.approx({Metric.ERROR_RATE: 10, Metric.CLIENT_ERROR_RATE: 10})
    assert (await provider.measure("churn", "r-old", frozenset(), span)).requests == 3
    assert await provider.measure("churn", "r-none", asked, span) == Measured()


async def test_without_the_right_to_read_figures_that_is_said(account: Account):
    others = (
        right for right in SageMakerEndpoint.permissions if right != "cloudwatch:GetMetricData"
    )
    provider = await account.provider(tuple(others))
    now = datetime.now(UTC).replace(second=0, microsecond=0)
    with pytest.raises(Unauthorized, match="GetMetricData"):
        await provider.measure(
            "churn", "r-new", frozenset(Metric), Span(now - timedelta(minutes=3), now)
        )
