"""What is special of Hugging Face: pauses, engines, secrets, deployments that fail, its probe."""

from typing import Any

import httpx
import pytest

from auterity.api.rollout import Probe
from auterity.engine.contract import Phase
from auterity.engine.errors import Rejected, Throttled, Unauthorized, Unavailable
from auterity.providers.huggingface.connection import held
from auterity.providers.huggingface.endpoint import HuggingFaceEndpoint
from auterity.providers.huggingface.params import HuggingFaceEndpointParams
from auterity.transport.http import Answer
from tests.conformance.harness import NAME, Harness
from tests.conformance.vendor import JSON, merged
from tests.fakes.huggingface import OTHER_SHA, SHA, TOKEN, Endpoints, HuggingFace

STAND_IN = HuggingFace
SPEC = HuggingFace.spec


@pytest.fixture
def api(harness: Harness) -> Endpoints:
    found: Endpoints = harness.vendor.api  # type: ignore[attr-defined]  # it is Hugging Face's
    return found


def wanted(patch: JSON, name: str = NAME) -> HuggingFaceEndpointParams:
    spec = merged(SPEC, patch)
    return HuggingFaceEndpointParams.model_validate({**spec, **spec["huggingFace"], "name": name})


async def applied(harness: Harness, patch: JSON) -> str:
    harness.apply(merged(SPEC, patch))
    return (await harness.converge()).outcome


async def test_a_paused_endpoint_is_ready_and_runs_again_when_it_is_to(
    harness: Harness, api: Endpoints
):
    id = await harness.make()
    assert await applied(harness, {"huggingFace": {"paused": True}}) == "Ready"
    assert api.endpoints[id]["status"]["state"] == "paused"
    assert "url" not in harness.subject.status["outputs"]
    assert await applied(harness, {}) == "Ready"
    assert api.endpoints[id]["status"]["state"] == "running"
    assert ("PUT", f"/v2/endpoint/acme/{id}") not in api.server.requests


async def test_a_pause_by_someone_else_is_undone(harness: Harness, api: Endpoints):
    id = await harness.make()
    api.endpoints[id]["status"]["state"] = "paused"
    assert (await harness.converge()).outcome == "Ready"
    assert api.endpoints[id]["status"]["state"] == "running"


async def test_one_that_runs_already_need_not_be_resumed(harness: Harness):
    id = await harness.make()
    provider = await harness.opened()
    await provider.update(id, wanted({"model": {"version": SHA}}), frozenset({"paused"}), "o")


async def test_secrets_go_where_nobody_reads_them(harness: Harness, api: Endpoints):
    id = await harness.make()
    model = api.endpoints[id]["model"]
    assert model["env"] == {"MAX_TOKENS": "1512", "LOG_LEVEL": "info"}
    assert api.secrets[id] == {"HF_TOKEN": HuggingFace.secrets["model"]["token"]}
    assert "auterity-secret:HF_TOKEN" in api.endpoints[id]["tags"]
    env = [v for v in SPEC["environment"] if v["name"] != "HF_TOKEN"]
    assert await applied(harness, {"environment": env}) == "Ready"
    assert api.secrets[id] == {}
    assert "auterity-secret:HF_TOKEN" not in api.endpoints[id]["tags"]


async def test_a_deployment_that_fails_tells_why_and_an_edit_mends_it(
    harness: Harness, api: Endpoints
):
    api.fails = "Container exited with code 1"
    harness.apply()
    assert (await harness.converge()).outcome == "ProviderFailed"
    assert harness.ready["message"] == "the endpoint is failed: Container exited with code 1"
    assert await applied(harness, {"huggingFace": {"args": []}}) == "Ready"


async def test_an_update_that_fails_is_told_while_the_earlier_one_serves(
    harness: Harness, api: Endpoints
):
    await harness.make()
    api.fails = "out of memory"
    assert await applied(harness, {"model": {"name": "acme/support-8b"}}) == "ProviderFailed"
    assert harness.ready["message"] == "the endpoint is updateFailed: out of memory"
    assert harness.subject.status["outputs"]["url"]


async def test_another_model_does_not_keep_the_commit_of_the_one_before(
    harness: Harness, api: Endpoints
):
    id = await harness.make()
    assert api.endpoints[id]["model"]["revision"] == SHA
    assert await applied(harness, {"model": {"name": "acme/support-8b"}}) == "Ready"
    assert api.endpoints[id]["model"]["revision"] == OTHER_SHA


async def test_tags_of_others_are_left_where_none_are_declared(harness: Harness, api: Endpoints):
    harness.apply(merged(SPEC, {"huggingFace": {"tags": None}}))
    await harness.converge()
    endpoint = api.endpoints[NAME]
    endpoint["tags"].append("by-hand")
    env = [*SPEC["environment"], {"name": "WORKERS", "value": "2"}]
    await applied(harness, {"huggingFace": {"tags": None}, "environment": env})
    assert "by-hand" in api.endpoints[NAME]["tags"]


async def test_what_others_have_changed_and_may_keep_is_left(harness: Harness, api: Endpoints):
    id = await harness.make(driftPolicy="Report")
    endpoint = api.endpoints[id]
    endpoint["model"]["env"]["LOG_LEVEL"] = "debug"
    endpoint["compute"]["scaling"]["maxReplica"] = 3
    endpoint["compute"]["scaling"]["scaleToZeroTimeout"] = 60
    assert (await harness.converge()).outcome == "Drifted"
    env = [{"name": "MAX_TOKENS", "value": "9"}, *SPEC["environment"][1:]]
    patch = {"environment": env, "scaling": {"min": 1, "toZeroAfter": None}}
    harness.apply(merged(SPEC, patch), driftPolicy="Report")
    assert (await harness.converge()).outcome == "Drifted", harness.ready
    assert api.endpoints[id]["model"]["env"] == {"MAX_TOKENS": "9", "LOG_LEVEL": "debug"}
    scaling = api.endpoints[id]["compute"]["scaling"]
    assert (scaling["minReplica"], scaling["maxReplica"]) == (1, 3)
    assert scaling["scaleToZeroTimeout"] == 60


async def test_a_variable_that_becomes_a_secret_is_no_longer_told(harness: Harness, api: Endpoints):
    id = await harness.make()
    env = [*SPEC["environment"], {"name": "API_KEY", "value": "still-in-the-open"}]
    assert await applied(harness, {"environment": env}) == "Ready"
    source = {"secretKeyRef": {"name": "model", "key": "key"}}
    env = [*SPEC["environment"], {"name": "API_KEY", **source}]
    assert await applied(harness, {"environment": env}) == "Ready"
    assert "API_KEY" not in api.endpoints[id]["model"]["env"]
    assert api.secrets[id]["API_KEY"] == HuggingFace.secrets["model"]["key"]


async def test_what_was_called_protected_is_authenticated(harness: Harness, api: Endpoints):
    id = await harness.make()
    api.endpoints[id]["type"] = "protected"
    harness.forget_faults()
    assert (await harness.visit()).outcome == "Ready"
    assert harness.vendor_writes() == []


@pytest.mark.parametrize(
    ("patch", "words"),
    [
        ({"hardware": "nvidia-h100"}, "Instance compute 'aws - us-east-1 - gpu - nvidia-h100"),
        ({"huggingFace": {"region": "mars-1"}}, "Instance compute 'aws - mars-1"),
        ({"model": {"name": "acme/nothing"}}, "Repository acme/nothing not found"),
        ({"huggingFace": {"container": {"engine": "warp"}}}, "unknown variant `warp`"),
        ({"model": {"version": "main"}}, "version has to be a commit in full"),
        ({"hardware": None}, "hardware: Hugging Face needs an instance type"),
        (
            {"externalName": "Support_7B"},
            "spec.externalName: Hugging Face takes 1 to 32 lower-case letters",
        ),
        ({"scaling": {"toZeroAfter": "90s"}}, "toZeroAfter has to be whole minutes"),
    ],
)
async def test_what_is_refused_is_told(harness: Harness, api: Endpoints, patch: JSON, words: str):
    assert await applied(harness, patch) == "SpecRejected", harness.ready
    assert words in harness.ready["message"]
    assert api.endpoints == {}


async def test_a_quota_that_is_used_up_is_no_matter_of_credentials(
    harness: Harness, api: Endpoints
):
    api.quota = 0
    assert await applied(harness, {}) == "SpecRejected"
    assert "quota or billing does not allow it: Quota exceeded" in harness.ready["message"]


def _answer(status: int, body: Any, **headers: str) -> Answer:
    return Answer(status, httpx.Headers(headers), body)


async def test_another_organisation_and_a_proxy_s_page_are_told_apart(harness: Harness):
    connector = (await harness.opened()).session.connector
    other = connector.failure(_answer(401, {"error": "You are not a member"}))
    assert isinstance(other, Unauthorized)
    assert isinstance(connector.failure(_answer(404, "<html></html>")), Unavailable)
    assert isinstance(connector.failure(_answer(402, {"error": "add a card"})), Rejected)


def test_when_to_come_back_stands_in_a_header_of_its_own():
    failure = held(_answer(429, {"error": "slow"}, ratelimit='"api";r=0;t=55'))
    assert isinstance(failure, Throttled)
    assert failure.retry_after == 55


@pytest.mark.parametrize(
    ("engine", "openai"), [("custom", False), ("vLLM", True), ("sGLang", True), ("tgi", True)]
)
async def test_how_to_call_it_is_told_without_a_token(harness: Harness, engine: str, openai: bool):  # noqa: FBT001 - a parameter of the test
    await applied(harness, {"huggingFace": {"container": {"engine": engine}}})
    outputs = harness.subject.status["outputs"]
    assert outputs["model"] == "acme/support-7b"
    assert ("openaiBaseUrl" in outputs) is openai
    assert ("/v1/chat/completions" in outputs["curl"]) is openai
    assert "Bearer <access token of Hugging Face>" in outputs["curl"]
    assert TOKEN not in repr(outputs)


async def test_a_probe_asks_the_endpoint_itself(harness: Harness, api: Endpoints):
    id = await harness.make()
    provider = await harness.opened()
    answer = await provider.probe(id, Probe(path="/v1/x", body='{"inputs": "hi"}'), None)
    assert (answer.status, answer.body) == (200, '{"path": "/v1/x", "got": {"inputs": "hi"}}')
    assert (await provider.probe(id, Probe(), None)).status == 200
    api.endpoints[id]["status"]["state"] = "scaledToZero"
    assert (await provider.probe(id, Probe(), None)).status == 503


async def test_a_probe_sends_the_token_nowhere_but_over_https(
    harness: Harness, api: Endpoints, monkeypatch: pytest.MonkeyPatch
):
    id = await harness.make()
    provider = await harness.opened()
    monkeypatch.setattr(provider.session.connector, "endpoint", "https://api.example.com/v2")
    with pytest.raises(Rejected, match="is not https"):
        await provider.probe(id, Probe(), None)
    api.endpoints[id]["status"]["url"] = "https://169.254.169.254/latest"
    with pytest.raises(Rejected, match="metadata address"):
        await provider.probe(id, Probe(), None)


@pytest.mark.parametrize(
    ("patch", "field"),
    [
        ({"model": {"artifact": "s3://x", "name": None}}, "model"),
        ({"model": {"image": None}}, "container"),
        ({"scaling": {"target": {"metric": "MemoryUtilization", "value": 3}}}, "scaling"),
        ({"huggingFace": {"container": {"engine": "tgi", "tensorParallelSize": 2}}}, "container"),
        ({"huggingFace": {"container": {"engine": "sGLang", "dataParallelSize": 2}}}, "container"),
    ],
)
def test_what_hugging_face_cannot_do_is_named(patch: JSON, field: str):
    assert set(HuggingFaceEndpoint.objections(wanted(patch))) == {field}


async def test_a_state_that_nobody_has_heard_of_is_waited_for(harness: Harness, api: Endpoints):
    id = await harness.make()
    api.endpoints[id]["status"]["state"] = "migrating"
    observed = await harness.read()
    assert observed is not None
    assert observed.phase is Phase.PENDING
