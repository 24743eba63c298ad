"""A Dedicated Endpoint at Modal (https://modal.com/docs/guide/dedicated-endpoints)."""

import json
import re
from contextlib import suppress
from typing import Any, Final

from auterity.api.model_deployment import ModelSource
from auterity.engine.contract import Observed, Phase
from auterity.engine.errors import Busy, NotFound, Rejected, Unavailable
from auterity.providers.modal import scaling
from auterity.providers.modal.forms import NO_TOKEN, PROXY_TOKEN, Form, headers
from auterity.providers.modal.params import ModalDeploymentParams
from auterity.transport.modal import JSON

ROUTING_REGION: Final = "us-west"
"""Where requests are routed if nobody says."""
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


QUIRKS: Final = (
    (
        "Of an endpoint, only scaling can change. For another model, version or region declare a "
        "second ModelDeployment, move requests over, for instance by a ModelRoute, and delete the "
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
    "Hardware is part of the recipe, or of the App's code, so spec.hardware is refused.",
)


def objections(want: ModalDeploymentParams) -> dict[str, str]:
    """What an endpoint cannot have."""
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
    return found


class Endpoints(Form):
    """Dedicated Endpoints of an environment, by their id; a name belongs to one that serves.

    A stopped endpoint keeps its id and its record for ever and serves nothing: it counts as gone.
    """

    async def locate(self, want: ModalDeploymentParams) -> str | None:
        told = await self.session.find(
            "EndpointGetByName", name=want.name, environment_name=self.session.environment
        )
        return (told or {}).get("endpoint_id") or None

    async def read(self, id: str) -> Observed[ModalDeploymentParams] | None:
        told = await self.session.find("EndpointGetInfo", endpoint_id=id)
        if told is None:
            return None
        info = told.get("info", {})
        state = str(info.get("status", "")).removeprefix(STATE)
        if state in GONE or str(info.get("lifecycle", {}).get("status")).endswith("_STOPPED"):
            return None
        if state not in PHASES:
            raise Unavailable(f"Modal tells a state of the endpoint that is not known: {state}")
        fields: JSON = {"app": None}
        if state == "LIVE":
            fields |= await self._served(told)
        elif info.get("repo_id"):
            # The rest is only told of what serves.
            fields["model"] = _model(info)
        return Observed(
            id=id,
            actual=ModalDeploymentParams.seen(**fields),
            phase=PHASES[state],
            outputs=_outputs(info),
            message=_message(state),
            summary={"state": state.lower()},
        )

    async def create(self, want: ModalDeploymentParams, owner: str) -> str:
        told = await self.session.call(
            "EndpointCreate",
            name=want.name,
            environment_name=self.session.environment,
            model=_source(want),
            proxy_regions=[want.routing_region or ROUTING_REGION],
            compute_region=_placement(want),
            unauthenticated=want.unauthenticated,
            serving_mode="ENDPOINT_SERVING_MODE_DEDICATED",
            autoscaler_settings=scaling.declared(want),
        )
        return str(told["endpoint_id"])

    async def update(
        self, id: str, want: ModalDeploymentParams, changed: frozenset[str], owner: str
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
            "FunctionUpdateSchedulingParams", function_id=server, settings=scaling.declared(want)
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
        """What a live endpoint serves, and how."""
        info = told["info"]
        fields: JSON = {
            "model": _model(info),
            "unauthenticated": not info.get("requires_proxy_auth", False),
        }
        if not (server := told.get("metadata", {}).get("server_id")):
            return fields
        return fields | await scaling.settings_of(self.session, server)


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


def _source(want: ModalDeploymentParams) -> JSON:
    if want.base_model is None:
        return {"base_model_repo_id": want.model.reference}
    repository: dict[str, Any] = {"repo_id": want.model.reference}
    if want.model.version is not None:
        repository["revision"] = want.model.version
    if want.hugging_face_token is not None:
        repository["huggingface_token"] = want.hugging_face_token.reveal()
    return {"custom": {"base_model_repo_id": want.base_model, "huggingface": repository}}


def _placement(want: ModalDeploymentParams) -> JSON:
    if want.compute_regions:
        return {"explicit": {"regions": want.compute_regions}}
    return {"colocated": {}} if want.colocated else {"auto": {}}


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
    authentication = PROXY_TOKEN if info.get("requires_proxy_auth") else NO_TOKEN
    told = {"url": url, "openaiBaseUrl": base, "model": model, "authentication": authentication}
    body = json.dumps({"model": model, "messages": [{"role": "user", "content": "Hello"}]})
    sent = f'-H "Content-Type: application/json"{headers(authentication)}'
    return told | {"curl": f"curl {base}/chat/completions {sent} -d '{body}'"}
