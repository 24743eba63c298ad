"""What is special of Apps at Modal: others deploy them, and a deployment forgets what we said."""

from typing import Any

import pytest
from modal_proto import api_pb2

from auterity.api.common import ConnectionRef
from auterity.cli.imported import imported
from auterity.engine.calls import reads
from auterity.engine.verdict import Again
from auterity.providers.modal.app import FUNCTION_TAG
from auterity.providers.modal.deployment import ModalDeployment
from auterity.providers.modal.params import ModalDeploymentParams
from auterity.transport.labels import owner_labels, owner_of
from auterity.transport.modal import label_of
from tests.conformance.cluster import NAMESPACE
from tests.conformance.harness import NAME, Harness
from tests.conformance.vendor import merged
from tests.fakes.modal import HF_TOKEN, Modal
from tests.fakes.modal_apps import NEW_TOKEN, App, AppWorkspace, Function, ModalApps

STAND_IN = ModalApps
SPEC = ModalApps.spec
BARE = merged(SPEC, {"environment": None})
MARK = f"testcluster/{NAMESPACE}/{NAME}"
SECRET = f"auterity-{NAME}"
RUN = f"run modal deploy --name {NAME} --env main"


def workspace(harness: Harness) -> AppWorkspace:
    assert isinstance(harness.vendor, ModalApps)
    return harness.vendor.workspace


def there(harness: Harness, function: str = "serve") -> tuple[App, Function]:
    assert isinstance(harness.vendor, ModalApps)
    return harness.vendor.of(f"{NAME}/{function}")


def wanted(**spec: Any) -> ModalDeploymentParams:
    fields = {"name": NAME, "model": {}, "app": {"function": "serve"}, **spec}
    return ModalDeploymentParams.model_validate(fields)


def test_a_lookup_by_get_or_create_only_looks_and_a_creation_does_not():
    assert label_of("SecretGetOrCreate") == "GetSecret"
    assert not reads(label_of("SecretGetOrCreate", creates=True))
    looks = ("AppGetByDeploymentName", "AppGetTags", "AppDeploymentHistory", "FunctionGet")
    assert [method for method in looks if not reads(label_of(method))] == []
    acts = ("AppSetTags", "AppStop", "SecretUpdate", "SecretDelete")
    assert [method for method in acts if reads(label_of(method))] == []


@pytest.mark.parametrize("spec", [SPEC, BARE], ids=["with an environment", "without one"])
async def test_what_is_not_deployed_is_waited_for_and_says_what_to_run(
    harness: Harness, spec: dict[str, Any]
):
    harness.apply(spec)
    await harness.visit()
    first = harness.ready
    assert (first["reason"], RUN in first["message"]) == ("Progressing", True), first
    harness.forget_faults()
    verdict = await harness.visit()
    assert (harness.ready["message"], verdict.again) == (first["message"], Again.POLL)
    assert harness.vendor_writes() == []
    harness.cluster.writes.clear()
    await harness.visit()
    assert harness.cluster.writes == []
    workspace(harness).deploy(NAME)
    await harness.converge()
    assert harness.ready["status"] == "True", harness.ready
    assert owner_of(there(harness)[0].tags) == MARK


@pytest.mark.parametrize("spec", [SPEC, BARE], ids=["with an environment", "without one"])
async def test_what_was_never_deployed_can_be_let_go_of(harness: Harness, spec: dict[str, Any]):
    harness.apply(spec)
    await harness.visit()
    await harness.remove()
    assert await harness.vendor.count() == 0


async def test_what_the_code_needs_can_be_added_while_it_cannot_be_deployed(harness: Harness):
    harness.apply()
    await harness.visit()
    added = {"name": "REGION", "value": "eu"}
    harness.apply(merged(SPEC, {"environment": [*SPEC["environment"], added]}))
    await harness.visit()
    held = workspace(harness).secrets[SECRET]
    assert held == {"HF_TOKEN": HF_TOKEN, "LOG_LEVEL": "info", "REGION": "eu"}
    assert (harness.ready["reason"], RUN in harness.ready["message"]) == ("Progressing", True)
    harness.forget_faults()
    await harness.visit()
    assert harness.vendor_writes() == [], "it is not written again and again"


async def test_a_deployment_that_resets_the_autoscaler_and_the_tags_is_mended(harness: Harness):
    await harness.make()
    workspace(harness).deploy(NAME, tags={"team": "chat"})
    app, function = there(harness)
    assert function.settings.max_containers == 0
    verdict = await harness.converge()
    assert verdict.outcome == "Ready"
    told = function.settings
    assert (told.min_containers, told.max_containers, told.scaledown_window) == (0, 2, 300)
    assert app.tags == {"team": "chat", **owner_labels(MARK), FUNCTION_TAG: "serve"}
    assert any(reason == "DriftReverted" for _, reason, _ in harness.cluster.events)
    assert harness.subject.status["summary"] == {"version": "2"}
    harness.forget_faults()
    await harness.visit()
    assert harness.vendor_writes() == []


async def test_taking_over_keeps_the_tags_of_others(harness: Harness):
    await harness.vendor.foreign(SPEC, NAME, None)
    harness.apply(policy="Adopt")
    await harness.converge()
    assert harness.ready["status"] == "True", harness.ready
    assert there(harness)[0].tags == {"team": "chat", **owner_labels(MARK), FUNCTION_TAG: "serve"}


@pytest.mark.parametrize("policy", ["Manage", "Adopt"])
async def test_an_app_of_another_owner_is_left_alone(harness: Harness, policy: str):
    await harness.vendor.foreign(SPEC, NAME, "other/cluster/object")
    harness.apply(policy=policy)
    verdict = await harness.converge()
    assert verdict.outcome == "Conflict", harness.ready
    assert "belongs to other/cluster/object" in harness.ready["message"]
    await harness.remove()
    assert harness.vendor_writes() == []


async def test_an_app_that_another_has_claimed_since_is_not_stopped(harness: Harness):
    await harness.make()
    app, _ = there(harness)
    app.tags = owner_labels("other/cluster/object")
    harness.cluster.delete(harness.key)
    verdict = await harness.visit()
    assert (verdict.outcome, app.state) == ("Conflict", api_pb2.APP_STATE_DEPLOYED)


async def test_a_secret_of_someone_else_is_not_touched(harness: Harness):
    workspace(harness).secrets[SECRET] = {"THEIRS": "value"}
    harness.apply()
    assert (await harness.converge()).outcome == "Conflict"
    await harness.remove()
    assert workspace(harness).secrets == {SECRET: {"THEIRS": "value"}}


async def test_the_deployment_that_must_serve_is_waited_for(harness: Harness):
    spec = merged(SPEC, {"modal": {"app": {"tag": "v2"}}})
    harness.apply(spec)
    await harness.visit()
    told = harness.ready["message"]
    await harness.visit()
    assert (harness.ready["message"], f"{RUN} --tag v2" in told) == (told, True)
    workspace(harness).deploy(NAME, tag="v1")
    for _ in range(3):
        await harness.visit()
    assert harness.ready["reason"] == "Progressing"
    assert f"{NAME} is deployment v1, not v2: run modal deploy" in harness.ready["message"]
    assert "--tag v2" in harness.ready["message"]
    assert there(harness)[1].settings.max_containers == 2, "all else is held meanwhile"
    harness.forget_faults()
    await harness.visit()
    assert harness.vendor_writes() == []
    workspace(harness).deploy(NAME, tag="v2")
    await harness.converge()
    assert harness.ready["status"] == "True", harness.ready
    assert harness.subject.status["summary"] == {"version": "2", "tag": "v2"}


async def test_a_function_that_is_not_there_can_be_corrected(harness: Harness):
    workspace(harness).secrets.clear()
    harness.apply(merged(SPEC, {"modal": {"app": {"function": "srve"}}}))
    await harness.visit()
    workspace(harness).deploy(NAME)
    for _ in range(3):
        await harness.visit()
    assert f"the App {NAME} has no function srve" in harness.ready["message"]
    harness.apply()
    await harness.converge()
    assert harness.ready["status"] == "True", harness.ready
    assert harness.subject.status["id"] == f"{NAME}/serve"
    assert there(harness)[0].tags[FUNCTION_TAG] == "serve"


async def test_a_method_that_is_not_there_is_no_function(harness: Harness):
    await harness.make()
    assert await (await harness.opened()).read(f"{NAME}/Model.web") is not None
    app, _ = there(harness)
    app.tags[FUNCTION_TAG] = "Model.other"
    observed = await harness.read()
    assert observed is not None
    assert "has no function Model.other" in (observed.message or "")


@pytest.mark.parametrize(
    ("policy", "reason"), [("Revert", "Progressing"), ("Report", "ProviderFailed")]
)
async def test_an_app_that_was_stopped_is_not_ready_until_it_is_deployed_again(
    harness: Harness, policy: str, reason: str
):
    await harness.make(driftPolicy=policy)
    app, _ = there(harness)
    app.state = api_pb2.APP_STATE_STOPPED
    await harness.visit()
    assert (harness.ready["status"], harness.ready["reason"]) == ("False", reason)
    assert RUN in harness.ready["message"]
    workspace(harness).deploy(NAME)
    await harness.converge()
    assert harness.ready["status"] == "True", harness.ready
    assert there(harness)[0].id != app.id


async def test_the_autoscaler_can_be_left_to_the_code(harness: Harness):
    await harness.make(createOnly=["scaling"])
    _, function = there(harness)
    assert function.settings.max_containers == 0
    harness.apply(merged(SPEC, {"modal": {"bufferContainers": 2}}), createOnly=["scaling"])
    await harness.converge()
    assert (function.settings.max_containers, function.settings.buffer_containers) == (0, 2)


@pytest.mark.parametrize(
    ("function", "outputs"),
    [
        (
            "serve",
            {
                "url": f"https://acme--{NAME}-serve.modal.run",
                "authentication": "headers Modal-Key and Modal-Secret, of a proxy token",
                "curl": 'curl -H "Modal-Key: $PROXY_TOKEN_ID" -H "Modal-Secret: '
                f'$PROXY_TOKEN_SECRET" https://acme--{NAME}-serve.modal.run',
            },
        ),
        (
            "Model.web",
            {
                "url": f"https://acme--{NAME}-model-web.modal.run",
                "authentication": "none",
                "curl": f"curl https://acme--{NAME}-model-web.modal.run",
            },
        ),
        (
            "Chat",
            {
                "url": f"https://acme--{NAME}-chat.us-east.modal.direct",
                "authentication": "headers Modal-Key and Modal-Secret, of a proxy token",
                "curl": 'curl -H "Modal-Key: $PROXY_TOKEN_ID" -H "Modal-Secret: '
                f'$PROXY_TOKEN_SECRET" https://acme--{NAME}-chat.us-east.modal.direct',
            },
        ),
        ("train", {"authentication": "a token of the workspace, by Modal's SDK"}),
    ],
)
async def test_outputs_say_how_the_function_is_called(
    harness: Harness, function: str, outputs: dict[str, str]
):
    harness.apply(merged(SPEC, {"modal": {"app": {"function": function}}}))
    await harness.converge()
    common = {"app": NAME, "function": function, "secret": SECRET}
    assert harness.subject.status["outputs"] == {**common, **outputs}


async def test_an_app_that_is_not_ours_can_be_imported(harness: Harness):
    await harness.vendor.foreign(SPEC, NAME, None)
    provider = await harness.opened()
    given: dict[str, Any] = {"app": {"function": "serve"}}
    sought = ModalDeploymentParams.model_construct(None, name=NAME, **given)
    observed = await provider.read(await provider.locate(sought) or "")
    assert observed is not None
    made = imported(
        ModalDeployment,
        observed,
        name=NAME,
        namespace=None,
        connection=ConnectionRef(name="vendor"),
        given=given,
    )
    assert made.missing == []
    harness.apply(made.manifest["spec"])
    await harness.converge()
    assert harness.ready["status"] == "True", harness.ready


async def test_variables_that_are_no_longer_declared_are_removed(harness: Harness):
    await harness.make()
    workspace(harness).secrets[SECRET]["THEIRS"] = "value"
    harness.apply(merged(SPEC, {"environment": SPEC["environment"][:1]}))
    await harness.converge()
    assert workspace(harness).secrets == {SECRET: {"HF_TOKEN": HF_TOKEN}}
    harness.cluster.put_secret("hugging-face", {"token": NEW_TOKEN})
    await harness.converge()
    assert workspace(harness).secrets == {SECRET: {"HF_TOKEN": NEW_TOKEN}}


async def test_where_keys_are_not_told_values_are_written_once(harness: Harness):
    workspace(harness).tells_keys = False
    await harness.make()
    harness.forget_faults()
    assert (await harness.visit()).outcome == "Ready"
    assert harness.vendor_writes() == []


async def test_a_secret_that_vanished_comes_back(harness: Harness):
    await harness.make()
    workspace(harness).secrets.clear()
    await harness.converge()
    assert harness.ready["status"] == "True", harness.ready
    assert workspace(harness).secrets == {SECRET: {"HF_TOKEN": HF_TOKEN, "LOG_LEVEL": "info"}}


async def test_deletion_waits_until_the_app_has_stopped(harness: Harness):
    await harness.make()
    app, _ = there(harness)
    harness.vendor.slow = True
    harness.cluster.delete(harness.key)
    assert (await harness.visit()).outcome == "Deleting"
    assert (app.state, workspace(harness).secrets) == (api_pb2.APP_STATE_STOPPING, {})
    assert harness.ready["message"] == "Modal is stopping the App"
    harness.vendor.slow = False
    await harness.remove()
    assert app.state == api_pb2.APP_STATE_STOPPED


async def test_retain_leaves_app_tags_and_secret(harness: Harness):
    await harness.make(deletionPolicy="Retain")
    before = await harness.vendor.told(f"{NAME}/serve")
    await harness.remove()
    assert await harness.vendor.told(f"{NAME}/serve") == before


async def test_an_endpoint_does_not_become_an_app(harness: Harness):
    harness.apply(Modal.spec)
    await harness.converge()
    assert harness.ready["status"] == "True", harness.ready
    harness.forget_faults()
    harness.apply()
    assert (await harness.converge()).outcome == "SpecRejected"
    assert "Modal cannot change app" in harness.ready["message"]
    assert harness.vendor_writes() == []


async def test_an_environment_that_is_not_there_is_told(harness: Harness):
    connection = harness.cluster.subjects[harness.connection]
    spec = merged(connection.spec, {"modal": {"environment": "staging"}})
    harness.cluster.put("Connection", "vendor", spec)
    harness.apply(BARE)
    assert (await harness.converge()).outcome == "SpecRejected"
    assert "Environment 'staging' not found" in harness.ready["message"]
    await harness.remove()


@pytest.mark.parametrize(
    ("spec", "field", "words"),
    [
        ({"name": "a b"}, "name", "1 to 64 letters"),
        ({"name": f"ap-{'0' * 22}"}, "name", "1 to 64 letters"),
        (
            {"name": "a" * 60, "environment": [{"name": "A", "value": "b"}]},
            "name",
            "too long for a Secret that is called auterity-<name>",
        ),
        ({"model": {"name": "Qwen/Qwen3.5-4B"}}, "model", "the App's code says what it serves"),
        ({"hardware": "H100"}, "hardware", "the App's code says it"),
        (
            {"huggingFaceToken": {"secretKeyRef": {"name": "a", "key": "b"}}},
            "hugging_face_token",
            "",
        ),
        ({"routingRegion": "us-east"}, "routing_region", "is for endpoints"),
        ({"computeRegions": ["us-east"]}, "compute_regions", "is for endpoints"),
        ({"colocated": True}, "colocated", "is for endpoints"),
        ({"unauthenticated": True}, "unauthenticated", "is for endpoints"),
        ({"scaling": {"min": 0, "toZeroAfter": "2.5s"}}, "scaling", "whole seconds"),
    ],
)
def test_what_an_app_cannot_be_told_is_objected_to(spec: dict[str, Any], field: str, words: str):
    assert list(ModalDeployment.objections(wanted())) == []
    found = ModalDeployment.objections(wanted(**spec))
    assert (list(found), words in found[field]) == ([field], True)


def test_app_and_base_model_exclude_each_other():
    with pytest.raises(ValueError, match="at most one of app, baseModel"):
        wanted(baseModel="Qwen/Qwen3.5-4B")
