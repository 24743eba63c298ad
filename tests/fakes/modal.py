"""Modal's control plane as of 2026-11: one environment with its Dedicated Endpoints.

It speaks gRPC by the messages of Modal's SDK, whose names and types are Modal's own; what fits no
message never arrives. What they do not say is as the command line `modal endpoint` (1.6.4) and the
guide have it: that a name is free again once its endpoint has stopped, that settings which are not
sent stay, the limits of the windows. The words of refusals are this fake's.
"""

import itertools
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

from google.protobuf.empty_pb2 import Empty
from google.protobuf.message import Message
from grpclib import GRPCError, Status
from grpclib.const import Cardinality, Handler
from grpclib.encoding.base import StatusDetailsCodecBase
from grpclib.server import Server, Stream
from modal_proto import api_pb2

from auterity.providers.modal.deployment import ModalDeployment
from tests.conformance.vendor import Edit, Refusal, Vendor, merged
from tools.loopback import HOST, free_port

JSON = dict[str, Any]
Call = Callable[[Any], Message]
Info = api_pb2.EndpointGetInfoResponse
TOKEN_ID, TOKEN_SECRET = "ak-8fZkfakeFAKEq2Lw0PmT", "as-3vRnfakeFAKE7yUc5XdB"
OTHER_SECRET = "as-9bNwrongWRONG4Tc1Hy6K"
HF_TOKEN = "hf_fakeFAKE5qXw8Zr2Lp7"
ENVIRONMENT, WORKSPACE, ROBOT = "main", "acme", "auterity"
LIBRARY = ("Qwen/Qwen3.5-4B", "openai/gpt-oss-20b")
REPOSITORIES = ("acme/support-qwen", "acme/support-gated")
COMMIT = "da42f2c0984d716fb2032e4176d81adfac98c630"
REGIONS = ("us-west", "us-east", "eu-west")
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}")
GONE = (Info.ENDPOINT_STATUS_STOPPED, Info.ENDPOINT_STATUS_CANCELLED)
DEFAULTS = api_pb2.AutoscalerSettings(
    min_containers=0, max_containers=0, buffer_containers=0, scaleup_window=1, scaledown_window=60
)
WINDOWS = {"scaleup_window": (1, 3600), "scaledown_window": (2, 3600)}


@dataclass
class Endpoint:
    """An endpoint, served or not."""

    id: str
    asked: Any
    """The request that made it."""
    status: Info.EndpointStatus.ValueType
    settings: Any = field(default_factory=api_pb2.AutoscalerSettings)

    @property
    def server(self) -> str:
        return f"fu-{self.id.removeprefix('ep-')}"


class Details(StatusDetailsCodecBase):
    """Writes an error's details as Modal does."""

    def encode(self, status: Status, message: str | None, details: Any) -> bytes:
        told = api_pb2.RPCStatus(code=status.value, message=message or "")
        for detail in details or ():
            told.details.add().Pack(detail, type_url_prefix="type.modal.com/")
        return bytes(told.SerializeToString())

    def decode(self, status: Status, message: str | None, data: bytes) -> Any:
        raise NotImplementedError


class Workspace:
    """A workspace behind the control plane. Calls that it does not have are UNIMPLEMENTED."""

    def __init__(self) -> None:
        self.ids = itertools.count(1)
        self.server: Server | None = None
        self.port = 0
        self.reset()

    def reset(self) -> None:
        self.slow = False
        self.proxy_tokens = True
        self.refusal: GRPCError | None = None
        """What the next call is answered, whatever it is."""
        self.endpoints: dict[str, Endpoint] = {}

    async def start(self) -> None:
        self.server = Server([self], status_details_codec=Details())
        self.port = self.port or free_port()
        await self.server.start(HOST, self.port)

    async def stop(self) -> None:
        if self.server is not None:
            self.server.close()
            await self.server.wait_closed()

    def calls(self) -> tuple[Call, ...]:
        return (
            *(self.token_info_get, self.endpoint_create, self.endpoint_get_by_name),
            *(self.endpoint_get_info, self.endpoint_stop),
            *(self.function_get_scheduling_params, self.function_update_scheduling_params),
        )

    def __mapping__(self) -> dict[str, Handler]:
        handlers = {}
        for call in self.calls():
            name = "".join(part.title() for part in call.__name__.split("_"))
            handlers[f"/modal.client.ModalClient/{name}"] = Handler(
                self._answering(call),
                Cardinality.UNARY_UNARY,
                getattr(api_pb2, f"{name}Request"),
                getattr(api_pb2, f"{name}Response", Empty),
            )
        return handlers

    def _answering(self, call: Call) -> Callable[..., Any]:
        async def answer(stream: Stream[Any, Any]) -> None:
            request = await stream.recv_message()
            told: JSON = dict(stream.metadata or {})
            token = (told.get("x-modal-token-id"), told.get("x-modal-token-secret"))
            if token != (TOKEN_ID, TOKEN_SECRET) or "x-modal-client-version" not in told:
                raise GRPCError(Status.UNAUTHENTICATED, "Token ID or secret is not valid")
            if self.refusal is not None:
                refusal, self.refusal = self.refusal, None
                raise refusal
            await stream.send_message(call(request))

        return answer

    # Calls

    def token_info_get(self, _: Any) -> Message:
        robot = api_pb2.ServiceUserIdentity(service_user_id="su-1", service_user_name=ROBOT)
        return api_pb2.TokenInfoGetResponse(
            token_id=TOKEN_ID, workspace_name=WORKSPACE, service_user_identity=robot
        )

    def endpoint_create(self, asked: Any) -> Message:
        in_environment(asked.environment_name)
        if not NAME.fullmatch(asked.name):
            raise GRPCError(Status.INVALID_ARGUMENT, f"invalid endpoint name '{asked.name}'")
        if self._named(asked.name) is not None:
            raise GRPCError(Status.ALREADY_EXISTS, f"Endpoint '{asked.name}' already exists")
        if not (asked.unauthenticated or self.proxy_tokens):
            raise GRPCError(Status.FAILED_PRECONDITION, "Create a proxy token in main first")
        if asked.serving_mode != api_pb2.ENDPOINT_SERVING_MODE_DEDICATED:
            raise GRPCError(Status.INVALID_ARGUMENT, "only dedicated endpoints are known here")
        _checked_model(asked.model)
        _checked_regions(asked)
        made = Endpoint(f"ep-{next(self.ids):022d}", asked, Info.ENDPOINT_STATUS_PROVISIONING)
        made.settings.CopyFrom(DEFAULTS)
        made.settings.MergeFrom(checked_settings(asked.autoscaler_settings))
        self.endpoints[made.id] = made
        if not self.slow:
            _finish(made)
        return api_pb2.EndpointCreateResponse(
            endpoint_id=made.id, name=asked.name, model_name=asked.name
        )

    def endpoint_get_by_name(self, asked: Any) -> Message:
        in_environment(asked.environment_name)
        found = self._named(asked.name)
        return api_pb2.EndpointGetByNameResponse(
            endpoint_id=found.id if found else "", environment_name=ENVIRONMENT
        )

    def endpoint_get_info(self, asked: Any) -> Message:
        it = self._known(asked.endpoint_id)
        stopped = it.status in GONE
        told = Info()
        told.info.name, told.info.status = it.asked.name, it.status
        told.info.lifecycle.status = (
            api_pb2.ENDPOINT_LIFECYCLE_STATUS_STOPPED
            if stopped
            else api_pb2.ENDPOINT_LIFECYCLE_STATUS_ACTIVE
        )
        told.info.serving_mode = it.asked.serving_mode
        source = it.asked.model
        if source.WhichOneof("source") == "custom":
            told.info.repo_id = source.custom.huggingface.repo_id
            told.info.revision = source.custom.huggingface.revision or COMMIT
        else:
            told.info.repo_id, told.info.revision = source.base_model_repo_id, "0" * 40
        if it.status == Info.ENDPOINT_STATUS_LIVE:
            told.info.service_url = f"https://{WORKSPACE}--{it.asked.name}.us-east.modal.direct"
            told.info.model_name = it.asked.name
            told.info.requires_proxy_auth = not it.asked.unauthenticated
            told.metadata.app_id, told.metadata.server_id = f"ap-{it.id[3:]}", it.server
            told.metadata.environment_name = ENVIRONMENT
        return told

    def endpoint_stop(self, asked: Any) -> Message:
        it = self._known(asked.endpoint_id)
        if it.status in GONE:
            raise GRPCError(Status.FAILED_PRECONDITION, "Endpoint is already stopped")
        if self.slow:
            it.status = Info.ENDPOINT_STATUS_CANCELLING
        else:
            it.status = Info.ENDPOINT_STATUS_STOPPED
        return api_pb2.EndpointStopResponse()

    def function_get_scheduling_params(self, asked: Any) -> Message:
        told = api_pb2.FunctionGetSchedulingParamsResponse()
        told.autoscaler_configuration.settings.CopyFrom(self._serving(asked.function_id).settings)
        return told

    def function_update_scheduling_params(self, asked: Any) -> Message:
        it = self._serving(asked.function_id)
        it.settings.MergeFrom(checked_settings(asked.settings))
        return api_pb2.FunctionUpdateSchedulingParamsResponse(current_settings=it.settings)

    # State

    def settle(self) -> None:
        for it in self.endpoints.values():
            _finish(it)

    def _named(self, name: str) -> Endpoint | None:
        return next((it for it in self.active() if it.asked.name == name), None)

    def active(self) -> list[Endpoint]:
        return [it for it in self.endpoints.values() if it.status not in GONE]

    def _known(self, id: str) -> Endpoint:
        if (it := self.endpoints.get(id)) is None:
            raise GRPCError(Status.NOT_FOUND, f"Endpoint {id} not found")
        return it

    def _serving(self, server: str) -> Any:
        for it in self.endpoints.values():
            if it.server == server and it.status == Info.ENDPOINT_STATUS_LIVE:
                return it
        raise GRPCError(Status.NOT_FOUND, f"Function {server} not found")


def _finish(it: Endpoint) -> None:
    """What is under way comes to its end. A gated repository cannot be read without a token."""
    if it.status == Info.ENDPOINT_STATUS_CANCELLING:
        it.status = Info.ENDPOINT_STATUS_CANCELLED
    elif it.status == Info.ENDPOINT_STATUS_PROVISIONING:
        weights = it.asked.model.custom.huggingface
        gated = weights.repo_id.endswith("-gated") and weights.huggingface_token != HF_TOKEN
        it.status = Info.ENDPOINT_STATUS_FAILED if gated else Info.ENDPOINT_STATUS_LIVE


def in_environment(name: str) -> None:
    if name != ENVIRONMENT:
        raise GRPCError(Status.NOT_FOUND, f"Environment '{name}' not found in '{WORKSPACE}'")


def _checked_model(source: Any) -> None:
    base = source.base_model_repo_id or source.custom.base_model_repo_id
    if base not in LIBRARY:
        raise GRPCError(
            Status.INVALID_ARGUMENT, f"Model '{base}' is not in the Modal Library; see modal.com"
        )
    weights = source.custom.huggingface
    if source.WhichOneof("source") == "custom" and weights.repo_id not in REPOSITORIES:
        raise GRPCError(
            Status.INVALID_ARGUMENT, f"Repository '{weights.repo_id}' was not found at Hugging Face"
        )


def _checked_regions(asked: Any) -> None:
    placement = asked.compute_region.WhichOneof("placement")
    if len(asked.proxy_regions) != 1 or placement is None:
        raise GRPCError(Status.INVALID_ARGUMENT, "one routing region and a placement are needed")
    for region in (*asked.proxy_regions, *asked.compute_region.explicit.regions):
        if region not in REGIONS:
            raise GRPCError(Status.INVALID_ARGUMENT, f"Region '{region}' is not available")


def checked_settings(settings: Any) -> Any:
    for name, (least, most) in WINDOWS.items():
        if settings.HasField(name) and not least <= getattr(settings, name) <= most:
            raise GRPCError(
                Status.INVALID_ARGUMENT, f"{name} must be between {least} and {most} seconds"
            )
    if settings.max_containers and settings.min_containers > settings.max_containers:
        raise GRPCError(Status.INVALID_ARGUMENT, "min_containers is more than max_containers")
    return settings


class Modal(Vendor):
    """An environment with endpoints. Faults come at the door: it does not speak HTTP/1."""

    provider = ModalDeployment
    spec: ClassVar[JSON] = {
        "model": {"name": "acme/support-qwen", "version": COMMIT},
        "scaling": {"min": 0, "max": 2, "toZeroAfter": "5m"},
        "modal": {
            "baseModel": "Qwen/Qwen3.5-4B",
            "huggingFaceToken": {"secretKeyRef": {"name": "hugging-face", "key": "token"}},
            "routingRegion": "us-east",
        },
    }
    edits: ClassVar[Sequence[Edit]] = (
        Edit("more containers", {"scaling": {"max": 4}}),
        Edit("idle containers go sooner", {"scaling": {"toZeroAfter": "90s"}}),
        Edit("always one container", {"scaling": {"min": 1, "toZeroAfter": None}}),
        Edit("a container in reserve", {"modal": {"bufferContainers": 1}}),
        Edit("slower to add containers", {"modal": {"scaleupWindow": "30s"}}),
    )
    immutable: ClassVar[JSON] = {"modal": {"unauthenticated": True}}
    refusal = Refusal({"modal": {"baseModel": "nobody/unheard-of"}}, "not in the Modal Library")
    secrets: ClassVar[dict[str, dict[str, str]]] = {
        "modal": {"tokenId": TOKEN_ID, "tokenSecret": TOKEN_SECRET},
        "hugging-face": {"token": HF_TOKEN},
    }
    wrong_secrets: ClassVar[dict[str, dict[str, str]]] = {"modal": {"tokenSecret": OTHER_SECRET}}
    has_pending = True

    def __init__(self) -> None:
        self.workspace = Workspace()
        super().__init__()

    @property
    def slow(self) -> bool:
        return self.workspace.slow

    @slow.setter
    def slow(self, slow: bool) -> None:
        self.workspace.slow = slow

    async def start(self) -> None:
        await self.workspace.start()

    async def stop(self) -> None:
        await self.workspace.stop()

    async def reset(self) -> None:
        self.workspace.reset()

    def connection(self, endpoint: str | None) -> JSON:
        return {
            "endpoint": endpoint or f"http://{HOST}:{self.workspace.port}",
            "tokenId": {"secretKeyRef": {"name": "modal", "key": "tokenId"}},
            "tokenSecret": {"secretKeyRef": {"name": "modal", "key": "tokenSecret"}},
        }

    async def count(self) -> int:
        return len(self.workspace.active())

    async def tamper(self, id: str) -> str:
        self.workspace.endpoints[id].settings.max_containers = 9
        return "scaling.max"

    async def vanish(self, id: str) -> None:
        self.workspace.endpoints[id].status = Info.ENDPOINT_STATUS_STOPPED

    async def foreign(self, spec: JSON, name: str, owner: str | None) -> None:
        assert owner is None, "endpoints carry no mark"
        weights = api_pb2.EndpointHuggingFaceModelSource(
            repo_id=spec["model"]["name"], revision=spec["model"]["version"]
        )
        asked = api_pb2.EndpointCreateRequest(
            name=name,
            environment_name=ENVIRONMENT,
            proxy_regions=[spec["modal"]["routingRegion"]],
            serving_mode=api_pb2.ENDPOINT_SERVING_MODE_DEDICATED,
        )
        asked.compute_region.auto.SetInParent()
        asked.model.custom.base_model_repo_id = spec["modal"]["baseModel"]
        asked.model.custom.huggingface.CopyFrom(weights)
        self.workspace.endpoint_create(asked)

    async def settle(self) -> None:
        if not self.slow:
            self.workspace.settle()

    async def told(self, id: str) -> str:
        it = self.workspace.endpoints[id]
        return f"{it.asked} {it.settings}"


def spec_with(patch: JSON) -> JSON:
    """The spec with a patch, for direct tests."""
    return merged(Modal.spec, patch)
