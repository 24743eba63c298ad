"""What is special of Modal: gRPC's statuses in words, one commit of weights, what cannot change."""

import asyncio
import logging
from collections.abc import AsyncIterator
from typing import Any

import pytest
from google.protobuf.any_pb2 import Any as Packed
from grpclib import GRPCError, Status
from modal_proto import api_pb2

from auterity.api.connection import RateLimit
from auterity.api.fields import SecretKeyRef, SecretValue
from auterity.engine.calls import Door, reads
from auterity.engine.contract import Access, Phase
from auterity.engine.errors import (
    Busy,
    Conflict,
    NotFound,
    Rejected,
    Throttled,
    Unauthorized,
    Unavailable,
)
from auterity.engine.limits import Budget
from auterity.providers.modal.deployment import ModalDeployment
from auterity.providers.modal.params import ModalDeploymentParams
from auterity.transport.modal import ModalConnection, failure, label_of
from tests.conformance.cluster import NAMESPACE, MemoryCluster, Recorder
from tests.conformance.harness import Harness
from tests.fakes.modal import (
    COMMIT,
    HF_TOKEN,
    TOKEN_ID,
    TOKEN_SECRET,
    Info,
    Modal,
    Workspace,
)
from tools.loopback import HOST, free_port

STAND_IN = Modal
MARK = "testcluster/team/chat"
OPEN = {"model": {"name": "Qwen/Qwen3.5-4B"}}


def secret(value: str) -> SecretValue:
    it = SecretValue(secret_key_ref=SecretKeyRef(name="modal", key="any"))
    it.resolve(value, "1")
    return it


async def opened(url: str, **fields: Any) -> ModalDeployment:
    limit = RateLimit(per_second=10000, burst=10000, concurrent=50)
    access = Access(
        door=Door("modal", "test", Budget(limit), Recorder()),
        secrets=MemoryCluster().secret_store(NAMESPACE),
        allow_insecure=True,
    )
    connection = ModalConnection(
        endpoint=url, token_id=secret(TOKEN_ID), token_secret=secret(TOKEN_SECRET), **fields
    )
    return ModalDeployment(await connection.open(access))


def wanted(**spec: Any) -> ModalDeploymentParams:
    return ModalDeploymentParams.model_validate({"name": "chat", **OPEN, **spec})


@pytest.fixture
async def workspace() -> AsyncIterator[Workspace]:
    it = Workspace()
    await it.start()
    yield it
    await it.stop()


@pytest.fixture
async def provider(workspace: Workspace) -> AsyncIterator[ModalDeployment]:
    it = await opened(f"http://{HOST}:{workspace.port}")
    yield it
    await it.session.close()


@pytest.mark.parametrize(
    ("status", "text", "kind", "shown"),
    [
        (Status.UNAUTHENTICATED, "no", Unauthorized, "check tokenId and tokenSecret"),
        (Status.PERMISSION_DENIED, "viewer", Unauthorized, "may not do EndpointCreate at Modal"),
        (Status.NOT_FOUND, "gone", NotFound, "Modal does not know it: gone"),
        (Status.ALREADY_EXISTS, "taken", Conflict, "Modal has something of that name: taken"),
        (Status.ABORTED, "busy", Busy, "Modal is still working on it: busy"),
        (Status.INVALID_ARGUMENT, "bad name", Rejected, "Modal refuses it: bad name"),
        (Status.RESOURCE_EXHAUSTED, "GPU quota", Rejected, "a limit of the workspace"),
        (Status.RESOURCE_EXHAUSTED, "slow down", Throttled, "Modal asked for fewer calls"),
        (Status.UNIMPLEMENTED, None, Rejected, "upgrade the operator"),
        (Status.UNAVAILABLE, None, Unavailable, "Modal cannot answer now (UNAVAILABLE)"),
        (Status.INTERNAL, "<html>", Unavailable, "Modal cannot answer now (INTERNAL)"),
    ],
)
def test_every_status_is_told_by_what_it_means(status: Status, text: str, kind: type, shown: str):
    found = failure(GRPCError(status, text), "EndpointCreate")
    assert type(found) is kind
    assert shown in found.message


def test_calls_that_only_look_are_known_as_such():
    looks = ("EndpointGetInfo", "EndpointGetByName", "TokenInfoGet", "FunctionGetSchedulingParams")
    assert [label_of(method) for method in looks] == [
        *("GetEndpointInfo", "GetEndpointByName", "GetTokenInfo"),
        "GetFunctionSchedulingParams",
    ]
    acts = ("EndpointCreate", "EndpointStop", "FunctionUpdateSchedulingParams")
    assert not [method for method in acts if reads(label_of(method))]


async def test_modal_is_left_alone_as_long_as_its_policy_says(
    workspace: Workspace, provider: ModalDeployment
):
    policy = api_pb2.RPCRetryPolicy(retry_after_secs=7)
    unknown = Packed(type_url="type.modal.com/modal.client.Unheard", value=b"\x00")
    workspace.refusal = GRPCError(Status.RESOURCE_EXHAUSTED, "too many", [unknown, policy])
    with pytest.raises(Throttled) as caught:
        await provider.read("ep-1")
    assert caught.value.retry_after == 7


async def test_the_connection_tells_workspace_and_service_user(provider: ModalDeployment):
    assert (await provider.session.verify()).name == "service user auterity in workspace acme"


async def test_a_connection_that_was_closed_is_opened_again(
    workspace: Workspace, provider: ModalDeployment
):
    await provider.session.verify()
    await workspace.stop()
    await workspace.start()
    assert (await provider.session.verify()).name


async def test_nobody_there_is_told_without_an_address_of_ours():
    provider = await opened(f"http://{HOST}:{free_port()}")
    with pytest.raises(Unavailable, match="cannot be reached"):
        await provider.read("ep-1")
    await provider.session.close()


async def test_a_server_that_does_not_speak_grpc_is_told_so():
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1)
        writer.write(b"HTTP/1.1 502 Bad Gateway\r\n\r\n<html>proxy</html>")
        writer.close()

    server = await asyncio.start_server(answer, HOST, 0)
    provider = await opened(f"http://{HOST}:{server.sockets[0].getsockname()[1]}")
    with pytest.raises(Unavailable, match="cannot be reached"):
        await provider.read("ep-1")
    await provider.session.close()
    server.close()
    await server.wait_closed()


async def test_the_token_is_not_logged(provider: ModalDeployment, caplog: pytest.LogCaptureFixture):
    caplog.set_level(logging.DEBUG)
    caplog.set_level(logging.DEBUG, "hpack")
    block = {"huggingFaceToken": {"secretKeyRef": {"name": "hf", "key": "token"}}}
    want = wanted(model={"name": "acme/support-qwen"}, baseModel="Qwen/Qwen3.5-4B", **block)
    assert want.hugging_face_token is not None
    want.hugging_face_token.resolve(HF_TOKEN, "1")
    await provider.create(want, MARK)
    assert not [it for it in (TOKEN_ID, TOKEN_SECRET, HF_TOKEN) if it in caplog.text]


async def test_an_open_model_needs_its_name_only(workspace: Workspace, provider: ModalDeployment):
    id = await provider.create(wanted(), MARK)
    (made,) = workspace.active()
    assert made.asked.model.base_model_repo_id == "Qwen/Qwen3.5-4B"
    assert made.asked.compute_region.WhichOneof("placement") == "auto"
    found = await provider.read(id)
    assert found is not None
    assert found.phase is Phase.READY
    base = "https://acme--chat.us-east.modal.direct/v1"
    assert found.outputs == {
        "url": base.removesuffix("/v1"),
        "openaiBaseUrl": base,
        "model": "chat",
        "authentication": "headers Modal-Key and Modal-Secret, of a proxy token",
        "curl": f'curl {base}/chat/completions -H "Content-Type: application/json" '
        '-H "Modal-Key: $PROXY_TOKEN_ID" -H "Modal-Secret: $PROXY_TOKEN_SECRET" '
        """-d '{"model": "chat", "messages": [{"role": "user", "content": "Hello"}]}'""",
    }


@pytest.mark.parametrize(
    ("block", "placement"),
    [({"colocated": True}, "colocated"), ({"computeRegions": ["us-east", "eu-west"]}, "explicit")],
)
async def test_containers_run_where_they_are_declared_to(
    workspace: Workspace, provider: ModalDeployment, block: dict[str, Any], placement: str
):
    await provider.create(wanted(**block), MARK)
    (made,) = workspace.active()
    assert made.asked.compute_region.WhichOneof("placement") == placement
    assert list(made.asked.compute_region.explicit.regions) == block.get("computeRegions", [])


async def test_a_region_without_room_for_it_is_told(provider: ModalDeployment):
    with pytest.raises(Rejected, match="Region 'ap-moon' is not available"):
        await provider.create(wanted(computeRegions=["ap-moon"]), MARK)


async def test_a_proxy_token_that_is_missing_is_told(
    workspace: Workspace, provider: ModalDeployment
):
    workspace.proxy_tokens = False
    with pytest.raises(Rejected, match="Create a proxy token in main first"):
        await provider.create(wanted(), MARK)
    await provider.create(wanted(unauthenticated=True), MARK)


async def test_an_environment_that_does_not_exist_is_told(workspace: Workspace):
    provider = await opened(f"http://{HOST}:{workspace.port}", environment="staging")
    with pytest.raises(NotFound, match="Environment 'staging' not found"):
        await provider.create(wanted(), MARK)
    await provider.session.close()


@pytest.mark.parametrize(
    ("spec", "field", "words"),
    [
        ({"model": {"image": "acme/llm:1"}}, "model", "serves a named model"),
        ({"model": {}}, "model", "needs a name"),
        ({"model": {"name": "a/b", "version": COMMIT}}, "model", "needs modal.baseModel"),
        ({"model": {"name": "a/b", "version": "main"}, "baseModel": "c/d"}, "model", "no branch"),
        ({"colocated": True, "computeRegions": ["us-west"]}, "colocated", "either"),
        ({"hardware": "H100"}, "hardware", "recipe"),
        ({"environment": [{"name": "A", "value": "b"}]}, "environment", "no environment variables"),
        (
            {"scaling": {"max": 2, "target": {"metric": "ConcurrentRequests", "value": 4}}},
            "scaling",
            "leave target out",
        ),
        ({"scaling": {"min": 0, "toZeroAfter": "2.5s"}}, "scaling", "whole seconds"),
        ({"scaleupWindow": "500ms"}, "scaleup_window", "whole seconds"),
    ],
)
async def test_what_an_endpoint_cannot_have_is_objected_to(
    spec: dict[str, Any], field: str, words: str
):
    assert words in ModalDeployment.objections(wanted(**spec))[field]


async def test_another_model_is_not_brought_by_stopping_what_serves(harness: Harness):
    id = await harness.make()
    harness.apply({**Modal.spec, "model": {"name": "acme/support-qwen", "version": "a" * 40}})
    await harness.converge()
    assert "Modal cannot change model.version" in harness.ready["message"]
    observed = await harness.read()
    assert observed is not None
    assert (observed.id, observed.phase) == (id, Phase.READY)


async def test_a_rotated_token_of_hugging_face_changes_nothing(harness: Harness):
    await harness.make()
    harness.cluster.put_secret("hugging-face", {"token": "hf_fakeFAKE9aNew1Pq6Lx3"})
    harness.forget_faults()
    verdict = await harness.converge()
    assert (verdict.outcome, harness.vendor_writes()) == ("Ready", [])


async def test_weights_that_cannot_be_read_fail_and_can_be_deleted(harness: Harness):
    harness.cluster.put_secret("hugging-face", {"token": "hf_fakeFAKEwrong4Tz8Qn2"})
    harness.apply({**Modal.spec, "model": {"name": "acme/support-gated"}})
    await harness.converge()
    assert harness.ready["status"] == "False"
    assert "Modal could not provision the endpoint" in harness.ready["message"]
    await harness.remove()
    assert await harness.vendor.count() == 0


async def test_what_has_failed_is_made_anew_once_the_model_is_edited(harness: Harness):
    harness.cluster.put_secret("hugging-face", {"token": "hf_fakeFAKEwrong4Tz8Qn2"})
    harness.apply({**Modal.spec, "model": {"name": "acme/support-gated"}})
    await harness.converge()
    failed = harness.subject.status["id"]
    harness.apply()
    await harness.converge()
    assert harness.ready["status"] == "True", harness.ready
    assert harness.subject.status["id"] != failed
    assert await harness.vendor.count() == 1


async def test_a_name_is_free_again_once_its_endpoint_has_stopped(
    workspace: Workspace, provider: ModalDeployment
):
    first = await provider.create(wanted(), MARK)
    with pytest.raises(Conflict, match="already exists"):
        await provider.create(wanted(), MARK)
    await provider.delete(first)
    await provider.delete(first)
    assert (await provider.locate(wanted()), await provider.read(first)) == (None, None)
    second = await provider.create(wanted(), MARK)
    assert second != first
    assert workspace.endpoints[first].status == Info.ENDPOINT_STATUS_STOPPED


async def test_no_most_is_told_as_none(workspace: Workspace, provider: ModalDeployment):
    id = await provider.create(wanted(), MARK)
    workspace.endpoints[id].settings.max_containers = 0
    found = await provider.read(id)
    assert found is not None
    assert found.actual.scaling.max is None
