"""The autoscaler's settings, which endpoints and functions have in common."""

from collections.abc import Collection
from typing import Final

from auterity.api.fields import seconds
from auterity.api.model_deployment import Scaling
from auterity.providers.modal.params import ModalDeploymentParams
from auterity.transport.modal import JSON, ModalSession

SETTINGS: Final = {
    "scaling.min": "min_containers",
    "scaling.max": "max_containers",
    "scaling.to_zero_after": "scaledown_window",
    "buffer_containers": "buffer_containers",
    "scaleup_window": "scaleup_window",
}
"""What the fields are called at Modal, by their paths."""


def declared(want: ModalDeploymentParams, only: Collection[str] = tuple(SETTINGS)) -> JSON:
    """The declared settings, or some of them by their paths.

    Modal leaves those alone that it is not sent.
    """
    values = {
        "scaling.min": want.scaling.min,
        "scaling.max": want.scaling.max,
        "scaling.to_zero_after": _seconds(want.scaling.to_zero_after),
        "buffer_containers": want.buffer_containers,
        "scaleup_window": _seconds(want.scaleup_window),
    }
    sent = {path: value for path, value in values.items() if value is not None and path in only}
    return {SETTINGS[path]: value for path, value in sent.items()}


async def settings_of(session: ModalSession, function: str) -> JSON:
    """The settings in effect, as fields of the params; no most is told as 0 or not at all."""
    answer = await session.call("FunctionGetSchedulingParams", function_id=function)
    now = answer.get("autoscaler_configuration", {}).get("settings", {})
    scaling = Scaling.model_construct(
        min=now.get("min_containers", 0),
        max=now.get("max_containers") or None,
        to_zero_after=_duration(now.get("scaledown_window")),
    )
    return {
        "scaling": scaling,
        "buffer_containers": now.get("buffer_containers", 0),
        "scaleup_window": _duration(now.get("scaleup_window")),
    }


def objections(want: ModalDeploymentParams) -> dict[str, str]:
    """What of it Modal's autoscaler does not have."""
    found = {}
    if want.scaling.target is not None:
        found["scaling"] = "Modal scales by the recipe or the code: leave target out"
    elif not _whole(want.scaling.to_zero_after):
        found["scaling"] = "toZeroAfter: Modal counts whole seconds"
    if not _whole(want.scaleup_window):
        found["scaleup_window"] = "Modal counts whole seconds"
    return found


def _whole(duration: str | None) -> bool:
    return duration is None or seconds(duration).is_integer()


def _seconds(duration: str | None) -> int | None:
    return None if duration is None else int(seconds(duration))


def _duration(told: int | None) -> str | None:
    return None if told is None else f"{told}s"
