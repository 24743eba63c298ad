"""ModelDeployment at Modal (https://modal.com/docs/guide/dedicated-endpoints)."""

import json
import re
from collections.abc import Mapping
from contextlib import suppress
from typing import Annotated, Any, Final

from pydantic import Field

from auterity.api.fields import (
    CREATE_ONLY,
    IMMUTABLE,
    UNVERSIONED,
    Duration,
    SecretValue,
    ShortText,
    Text,
    seconds,
)
from auterity.api.model_deployment import ModelDeployment, ModelSource, Scaling
from auterity.engine.contract import Observed, Phase, Provider
from auterity.engine.errors import Busy, NotFound, Rejected, Unavailable
from auterity.providers.billing import Bill, of_replicas
from auterity.transport.modal import JSON, ModalConnection, ModalSession

STATE: Final = "ENDPOINT_STATUS_"
GONE: Final = ("STOPPED", "CANCELLED")
PHASES: Final = {
    "PROVISIONING": Phase.PENDING,
    "LIVE": Phase.READY,
    "FAILED": Phase.FAILED,
    "CANCELLING": Phase.DELETING,
}
COMMIT: Final = re.compile(r"[0-9a-f]{40}")
IN_PLACE: Final = ("scaling", "buffer_containers", "scaleup_window")
"""What Modal can change of an endpoint that serves."""


class ModalEndpointParams(ModelDeployment):
    """A Dedicated Endpoint at Modal: an open model, or weights of one's own, on its recipe."""

    base_model: Annotated[Text | None, IMMUTABLE] = None
    """For weights of one's own: the model of Modal's library whose recipe serves them. Then
    model.name is the repository at Hugging Face that has the weights."""
    hugging_face_token: Annotated[SecretValue | None, CREATE_ONLY, UNVERSIONED] = None
    """A token of Hugging Face, for a repository that is private or gated. It is sent once, when
    the endpoint is created."""
    routing_region: Annotated[ShortText, IMMUTABLE] = "us-west"
    """The region through which requests are routed."""
    compute_regions: Annotated[
        Annotated[list[ShortText], Field(min_length=1, max_length=16)] | None, IMMUTABLE
    ] = None
    """The regions in which containers may run, at a higher price; anywhere if left out."""
    colocated: Annotated[bool, IMMUTABLE] = False
    """Run all containers within the routing region, at a higher price."""
    unauthenticated: Annotated[bool, IMMUTABLE] = False
    """Answer requests without a proxy token, from anyone."""
    buffer_containers: Annotated[Annotated[int, Field(ge=0, le=1000)] | None, UNVERSIONED] = None
    """Containers that are kept running beyond what the requests need."""
    scaleup_window: Annotated[Duration | None, UNVERSIONED] = None
    """How long more containers must be called for until they are added."""


class ModalEndpoint(Provider[ModalEndpointParams, ModalSession]):
    """Dedicated Endpoints of an environment, by their id; a name belongs to one that serves.

    A stopped endpoint keeps its id and its record for ever and serves nothing: it counts as gone.
    """

    kind = "ModelDeployment"
    vendor = "modal"
    params = ModalEndpointParams
    connection = ModalConnection
    marks_owner = False
    poll_after = 15.0
    docs = "https://modal.com/docs/guide/dedicated-endpoints"
    permissions = ("API token that may write in the environment, best of a service user",)
    proof = (
        "stateful gRPC stand-in that speaks Modal's protocol by the messages of Modal's SDK 1.6.4"
    )
    publishes = (
        ("url", "Address of the endpoint."),
        ("openaiBaseUrl", "Base URL for clients of OpenAI."),
        ("model", "What requests name as their model."),
        ("authentication", "How requests are authenticated."),
        ("curl", "A request to try, with placeholders for the token."),
    )
    quirks = (
        (
            "Modal makes endpoints known only by its command line. The operator makes the same "
            "calls as version 1.6 of it; Modal does not promise to keep them, and a change shows "
            "as a refusal that asks for an upgrade."
        ),
        (
            "Only scaling can change. For another model, version or region declare a second "
            "ModelDeployment, move requests over, for instance by a ModelRoute, and delete the "
            "first."
        ),
        (
            "An endpoint carries no tags: that it is ours is remembered in status.id only. If the "
            "status is lost, set policy: Adopt."
        ),
        (
            "An endpoint is authenticated unless modal.unauthenticated is set. Modal wants a proxy "
            "token in the environment before it creates one: modal workspace proxy-tokens create."
        ),
        (
            "scaling.min is 1 if left out, which is paid for also while idle. With min: 0, "
            "toZeroAfter is how long an idle container is kept, from 2s to 1h."
        ),
        "Hardware is part of the model's recipe at Modal, so spec.hardware is refused.",
        "Apps that are made by Python code are deployed by that code: see modal deploy.",
    )

    @classmethod
    def objections(cls, want: ModalEndpointParams) -> Mapping[str, str]:
        found = {}
        if problem := _unserved(want.model, want.base_model):
            found["model"] = problem
        if want.hugging_face_token is not None and want.base_model is None:
            found["base_model"] = "huggingFaceToken is for weights of one's own: it needs this"
        if want.colocated and want.compute_regions:
            found["colocated"] = "either colocated or computeRegions"
        if want.hardware is not None:
            found["hardware"] = "Modal chooses it by the model's recipe: leave it out"
        if want.environment:
            found["environment"] = "an endpoint at Modal has no environment variables"
        if want.scaling.target is not None:
            found["scaling"] = "Modal scales an endpoint by its recipe: leave target out"
        elif not _whole(want.scaling.to_zero_after):
            found["scaling"] = "toZeroAfter: Modal counts whole seconds"
        if not _whole(want.scaleup_window):
            found["scaleup_window"] = "Modal counts whole seconds"
        return found

    @classmethod
    def billed(cls, want: ModalEndpointParams) -> Bill:
        # Only Modal knows what a recipe runs on: what a container costs can be put into a list.
        recipe = want.base_model or want.model.name
        return (of_replicas(recipe, want.scaling),) if recipe else None

    async def locate(self, want: ModalEndpointParams) -> str | None:
        told = await self.session.find(
            "EndpointGetByName", name=want.name, environment_name=self.session.environment
        )
        return (told or {}).get("endpoint_id") or None

    async def read(self, id: str) -> Observed[ModalEndpointParams] | None:
        told = await self.session.find("EndpointGetInfo", endpoint_id=id)
        if told is None:
            return None
        info = told.get("info", {})
        state = str(info.get("status", "")).removeprefix(STATE)
        if state in GONE or str(info.get("lifecycle", {}).get("status")).endswith("_STOPPED"):
            return None
        if state not in PHASES:
            raise Unavailable(f"Modal tells a state of the endpoint that is not known: {state}")
        fields: JSON = {}
        if state == "LIVE":
            fields = await self._served(told)
        elif info.get("repo_id"):
            # The rest is only told of what serves.
            fields = {"model": _model(info)}
        return Observed(
            id=id,
            actual=ModalEndpointParams.seen(**fields),
            phase=PHASES[state],
            outputs=_outputs(info),
            message=_message(state),
            summary={"state": state.lower()},
        )

    async def create(self, want: ModalEndpointParams, owner: str) -> str:
        told = await self.session.call(
            "EndpointCreate",
            name=want.name,
            environment_name=self.session.environment,
            model=_source(want),
            proxy_regions=[want.routing_region],
            compute_region=_placement(want),
            unauthenticated=want.unauthenticated,
            serving_mode="ENDPOINT_SERVING_MODE_DEDICATED",
            autoscaler_settings=_autoscaler(want),
        )
        return str(told["endpoint_id"])

    async def update(
        self, id: str, want: ModalEndpointParams, changed: frozenset[str], owner: str
    ) -> None:
        if not changed:
            return
        told = await self.session.call("EndpointGetInfo", endpoint_id=id)
        if str(told.get("info", {}).get("status")) == f"{STATE}FAILED":
            # It has never served, and nothing of it can be changed.
            await self._stop(id)
            raise Busy("the endpoint had failed; it is made anew")
        fixed = sorted(path for path in changed if not path.startswith(IN_PLACE))
        if fixed:
            raise Rejected(
                f"Modal cannot change {', '.join(fixed)} of an endpoint: declare another "
                "ModelDeployment, move requests over, and delete this one"
            )
        server = told.get("metadata", {}).get("server_id")
        if not server:
            raise Unavailable("Modal does not tell yet which server serves the endpoint")
        await self.session.call(
            "FunctionUpdateSchedulingParams", function_id=server, settings=_autoscaler(want)
        )

    async def delete(self, id: str) -> None:
        if await self.read(id) is not None:
            await self._stop(id)

    async def _stop(self, id: str) -> None:
        with suppress(NotFound):
            await self.session.call(
                "EndpointStop", endpoint_id=id, source="ENDPOINT_STOP_SOURCE_CLI"
            )

    async def _served(self, told: JSON) -> JSON:
        """What a live endpoint serves, and how; no most is told as 0 or not at all."""
        info = told["info"]
        fields: JSON = {
            "model": _model(info),
            "unauthenticated": not info.get("requires_proxy_auth", False),
        }
        if not (server := told.get("metadata", {}).get("server_id")):
            return fields
        answer = await self.session.call("FunctionGetSchedulingParams", function_id=server)
        now = answer.get("autoscaler_configuration", {}).get("settings", {})
        scaling = Scaling.model_construct(
            min=now.get("min_containers", 0),
            max=now.get("max_containers") or None,
            to_zero_after=_duration(now.get("scaledown_window")),
        )
        return fields | {
            "scaling": scaling,
            "buffer_containers": now.get("buffer_containers", 0),
            "scaleup_window": _duration(now.get("scaleup_window")),
        }


def _unserved(model: ModelSource, base_model: str | None) -> str | None:
    """Why an endpoint cannot serve it."""
    if model.image is not None or model.artifact is not None:
        return "an endpoint at Modal serves a named model: give name or modelRef"
    if model.name is None and model.model_ref is None:
        return "Modal needs a name such as Qwen/Qwen3.5-4B, or a modelRef"
    if model.version is not None and base_model is None:
        return "version is for weights of one's own: it needs modal.baseModel"
    if model.version is not None and not COMMIT.fullmatch(model.version):
        return "version must be a whole commit: an endpoint follows no branch"
    return None


def _model(info: JSON) -> ModelSource:
    return ModelSource.told(info.get("repo_id"), version=info.get("revision"))


def _source(want: ModalEndpointParams) -> JSON:
    if want.base_model is None:
        return {"base_model_repo_id": want.model.reference}
    repository: dict[str, Any] = {"repo_id": want.model.reference}
    if want.model.version is not None:
        repository["revision"] = want.model.version
    if want.hugging_face_token is not None:
        repository["huggingface_token"] = want.hugging_face_token.reveal()
    return {"custom": {"base_model_repo_id": want.base_model, "huggingface": repository}}


def _placement(want: ModalEndpointParams) -> JSON:
    if want.compute_regions:
        return {"explicit": {"regions": want.compute_regions}}
    return {"colocated": {}} if want.colocated else {"auto": {}}


def _autoscaler(want: ModalEndpointParams) -> JSON:
    """The declared settings; Modal leaves those alone that it is not sent."""
    settings: JSON = {"min_containers": want.scaling.min, "max_containers": want.scaling.max}
    windows = {
        "scaledown_window": want.scaling.to_zero_after,
        "scaleup_window": want.scaleup_window,
    }
    settings |= {name: int(seconds(text)) for name, text in windows.items() if text is not None}
    if want.buffer_containers is not None:
        settings["buffer_containers"] = want.buffer_containers
    return settings


def _whole(duration: str | None) -> bool:
    return duration is None or seconds(duration).is_integer()


def _duration(told: int | None) -> str | None:
    return None if told is None else f"{told}s"


def _message(state: str) -> str | None:
    if state == "FAILED":
        return (
            "Modal could not provision the endpoint; its page at modal.com has the logs. An edit "
            "of the model makes it anew; for anything else delete this object and declare it again"
        )
    return "Modal is provisioning the endpoint" if state == "PROVISIONING" else None


def _outputs(info: JSON) -> dict[str, str]:
    if not (url := info.get("service_url")):
        return {}
    base, model = f"{url.rstrip('/')}/v1", info.get("model_name", "")
    told = {"url": url, "openaiBaseUrl": base, "model": model, "authentication": "none"}
    headers = ['"Content-Type: application/json"']
    if info.get("requires_proxy_auth"):
        told["authentication"] = "headers Modal-Key and Modal-Secret, of a proxy token"
        headers += ['"Modal-Key: $PROXY_TOKEN_ID"', '"Modal-Secret: $PROXY_TOKEN_SECRET"']
    body = json.dumps({"model": model, "messages": [{"role": "user", "content": "Hello"}]})
    sent = " ".join(f"-H {header}" for header in headers)
    return told | {"curl": f"curl {base}/chat/completions {sent} -d '{body}'"}
