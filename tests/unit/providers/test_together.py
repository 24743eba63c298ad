"""What is special of Together's endpoints: shares, what is removed step by step, who stopped it."""

from typing import Any

import pytest

from auterity.api.rollout import Probe
from auterity.engine.contract import Phase
from auterity.engine.errors import NotFound, Rejected
from auterity.providers.together.deployment import TogetherDeployment
from auterity.providers.together.params import TogetherDeploymentParams
from auterity.providers.together.seen import REMOVED, percents
from tests.conformance.harness import NAME, Harness
from tests.conformance.rolling import BLUE_GREEN, CANARY, Roller, revisions_of, spec_of
from tests.conformance.vendor import JSON, merged
from tests.fakes.together import CONFIGS, LLAMA, PROJECT, QWEN, Project, TogetherDeployments

STAND_IN = TogetherDeployments
OTHER_MODEL = TogetherDeployments.edits[0].patch
PROBE: JSON = {"body": '{"messages": [{"role": "user", "content": "ping"}]}', "failures": 1}


def behind(harness: Harness) -> Project:
    assert isinstance(harness.vendor, TogetherDeployments)
    return harness.vendor.project


def of_spec(**spec: Any) -> TogetherDeploymentParams:
    return TogetherDeploymentParams.model_validate(
        {"name": "chat", "model": {"name": QWEN}, **spec}
    )


def stop(harness: Harness) -> None:
    """As Together does after a time without requests, or anyone by its console."""
    (one,) = behind(harness).deployments.values()
    stopped = {"minReplicas": 0, "maxReplicas": 0}
    mask = ["autoscaling.minReplicas", "autoscaling.maxReplicas"]
    behind(harness).change_deployment(one["id"], {"autoscaling": stopped}, mask)
    behind(harness).settle()


async def refused(harness: Harness, patch: JSON) -> str:
    harness.apply(merged(TogetherDeployments.spec, patch))
    await harness.converge()
    assert harness.ready["reason"] == "SpecRejected", harness.ready
    return str(harness.ready["message"])


async def test_outputs_say_how_it_is_asked_and_hold_no_key(harness: Harness):
    await harness.make()
    outputs = harness.subject.status["outputs"]
    assert outputs["model"] == f"acme-prod/{NAME}"
    assert outputs["url"] == f"{outputs['openaiBaseUrl']}/chat/completions"
    assert "$TOGETHER_API_KEY" in outputs["curl"]


async def test_a_probe_asks_the_new_deployment_and_its_failure_goes_back(harness: Harness):
    harness.apply(spec_of(harness, CANARY, {"probe": PROBE}))
    await harness.converge()
    before = await revisions_of(harness)
    behind(harness).answers[LLAMA] = 500
    rollout = {**CANARY, "promotion": "Probe"}
    harness.apply(spec_of(harness, rollout, {"probe": PROBE}, OTHER_MODEL))
    verdict = await Roller(harness).run()
    assert verdict.outcome == "RolledBack", harness.ready
    assert "500" in harness.ready["message"]
    assert await revisions_of(harness) == before


async def test_a_probe_without_a_request_is_refused(harness: Harness):
    harness.apply(merged(TogetherDeployments.spec, {"probe": {}}))
    await harness.converge()
    assert "probe.body: Together needs a request as JSON" in harness.ready["message"]


async def test_a_revision_that_is_wanted_again_while_it_stops_is_added_anew(harness: Harness):
    harness.apply(spec_of(harness, BLUE_GREEN))
    await harness.converge()
    first = await revisions_of(harness)
    (old,) = behind(harness).deployments
    without_delay = {"strategy": "BlueGreen"}
    harness.apply(spec_of(harness, without_delay, OTHER_MODEL))

    async def once_the_old_one_stops() -> bool:
        project = behind(harness)
        stopping = [one for one in project.deployments.values() if REMOVED in one["name"]]
        if not stopping:
            return False
        assert [one["id"] for one in stopping] == [old]
        harness.apply(spec_of(harness, without_delay))
        return True

    verdict = await Roller(harness).run(once_the_old_one_stops)
    assert verdict.outcome == "Ready", harness.ready
    assert await revisions_of(harness) == first
    assert old not in behind(harness).deployments


async def test_while_together_rolls_out_by_itself_nothing_is_changed(harness: Harness):
    id = await harness.make()
    behind(harness).endpoints[id]["activeRolloutId"] = "rol_7"
    harness.apply(merged(TogetherDeployments.spec, {"scaling": {"max": 4}}))
    harness.forget_faults()
    verdict = await harness.visit()
    assert verdict.outcome == "Progressing"
    assert harness.ready["message"] == (
        "Together's own rollout rol_7 is under way; wait for it, or cancel it there"
    )
    assert harness.vendor_writes() == []


async def test_what_stopped_for_want_of_requests_is_left_so(harness: Harness):
    await harness.make()
    stop(harness)
    harness.forget_faults()
    verdict = await harness.visit()
    assert (verdict.outcome, harness.vendor_writes()) == ("Ready", [])


async def test_what_someone_has_stopped_is_started_again(harness: Harness):
    never = {"together": {"inactiveTimeout": 0}}
    harness.apply(merged(TogetherDeployments.spec, never))
    await harness.converge()
    stop(harness)
    verdict = await harness.converge()
    assert verdict.outcome == "Ready"
    (one,) = behind(harness).deployments.values()
    assert one["autoscaling"]["maxReplicas"] == 2


async def test_a_deployment_for_shadow_traffic_is_left_alone_but_goes_with_the_endpoint(
    harness: Harness,
):
    id = await harness.make()
    shadow = behind(harness).make_deployment(
        id, {"name": "shadow", "model": LLAMA, "autoscaling": {"minReplicas": 1}}
    )
    shadow["trafficMode"] = "TRAFFIC_MODE_SHADOW"
    harness.forget_faults()
    assert (await harness.visit()).outcome == "Ready"
    assert harness.vendor_writes() == []
    await harness.remove()
    assert await harness.vendor.count() == 0


async def test_missing_capacity_is_told_in_togethers_words(harness: Harness):
    await harness.vendor.break_next_revision()
    harness.apply()
    await harness.converge()
    assert harness.ready["reason"] == "ProviderFailed"
    assert "is FAILED: no capacity for 1x H100 80GB in us-east-1" in harness.ready["message"]


@pytest.mark.parametrize(
    ("patch", "words"),
    [
        ({"externalName": "Chat_1"}, "name Chat_1 must be lower-case letters"),
        ({"together": {"config": CONFIGS[LLAMA][0]}}, "is not compatible with"),
        ({"together": {"config": None}}, "has several configs; choose one"),
        (
            {"together": {"placement": {"regions": ["mars-1"]}}},
            "region mars-1 has no such hardware",
        ),
        ({"together": {"inactiveTimeout": 5}}, "must be 0 or 30 to 1440, not 5"),
        ({"model": {"name": "Qwen/Qwen3.5-9B"}}, "Together takes projects/<project id>/models/"),
        ({"hardware": "1x-h100"}, "hardware: Together has it in the config"),
    ],
)
async def test_a_refusal_says_what_is_wrong(harness: Harness, patch: JSON, words: str):
    assert words in await refused(harness, patch)


def test_scaling_that_together_cannot_do_is_objected_to():
    cpu = of_spec(scaling={"max": 2, "target": {"metric": "CPUUtilization", "value": 50}})
    assert "not CPUUtilization" in TogetherDeployment.objections(cpu)["scaling"]
    zero = of_spec(scaling={"min": 0, "max": 1})
    assert "toZeroAfter" in TogetherDeployment.objections(zero)["scaling"]
    pinned = of_spec(model={"name": f"{QWEN}/revisions/rv_1"})
    assert "model.version" in TogetherDeployment.objections(pinned)["model"]


def test_weights_of_any_sum_are_whole_percents():
    assert percents({"a": 7, "b": 3}, ["a", "b"]) == {"a": 70, "b": 30}
    assert percents({"a": 1, "b": 1, "c": 1}, ["a", "b", "c"]) == {"a": 34, "b": 33, "c": 33}
    assert percents({"gone": 1}, ["a"]) == {"a": 0}


async def test_a_key_of_an_organization_needs_a_project(
    harness: Harness, monkeypatch: pytest.MonkeyPatch
):
    provider = await harness.opened()
    assert await provider.session.project() == PROJECT

    async def whoami(*_: Any, **__: Any) -> JSON:
        return {"type": "org_api_key", "organization": {"id": "org_1", "name": "Acme"}}

    monkeypatch.setattr(type(provider.session), "call", whoami)
    monkeypatch.setattr(provider.session, "_project", None)
    with pytest.raises(Rejected, match=r"spec\.together\.project"):
        await provider.session.project()
    identity = await provider.session.verify()
    assert identity.name == "org_api_key of Acme"


async def test_a_deployment_that_does_not_start_is_pending_with_its_message(harness: Harness):
    harness.vendor.slow = True
    harness.apply()
    await harness.visit()
    await harness.visit()
    observed = await harness.read()
    assert observed is not None
    assert [one.phase for one in observed.revisions] == [Phase.PENDING]
    assert "is PROVISIONING: starting" in str(observed.revisions[0].message)


async def test_a_model_that_vanished_answers_no_probe(harness: Harness):
    await harness.make()
    provider = await harness.opened()
    with pytest.raises(NotFound):
        await provider.probe("ep_none", Probe.model_validate(PROBE), None)
