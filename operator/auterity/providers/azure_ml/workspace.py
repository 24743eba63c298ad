"""The workspace that everything is in; it is not kept here, only named."""

import re
from collections.abc import Mapping
from typing import Annotated, Final

from pydantic import Field

from auterity.engine.errors import Rejected, Unavailable
from auterity.transport.azure import OUR_TAGS, AzureSession

VERSION: Final = "2025-12-01"
"""Of the API: the one that azure-ai-ml 1.35 speaks."""
WorkspaceName = Annotated[
    str, Field(min_length=3, max_length=33, pattern=r"^[a-zA-Z0-9][a-zA-Z0-9_-]{2,32}$")
]


def id_of(session: AzureSession, workspace: str) -> str:
    """The id of a workspace."""
    return f"{session.group}/providers/Microsoft.MachineLearningServices/workspaces/{workspace}"


async def location_of(session: AzureSession, workspace: str) -> str:
    """The region of a workspace, which what is made in it has to name."""
    body = await session.find(id_of(session, workspace), VERSION)
    if body is None:
        raise Rejected(f"there is no workspace {workspace} in the connection's resource group")
    return str(body["location"])


def noted(**declared: str | None) -> dict[str, str]:
    """Ids as they were declared, to be kept beside what Azure makes of them."""
    return {f"{OUR_TAGS}{key}": value for key, value in declared.items() if value is not None}


def as_declared(key: str, told: str | None, notes: Mapping[str, str] | None) -> str | None:
    """An id that Azure tells, as it was declared: it may tell it with another prefix or case."""
    declared = (notes or {}).get(f"{OUR_TAGS}{key}")
    same = declared is not None and told is not None and _plain(told) == _plain(declared)
    return declared if same else told


def _plain(id: str) -> str:
    return re.sub("^(azureml:)+", "", id.lower())


def duration(seconds: int) -> str:
    """Seconds as Azure writes them."""
    return f"PT{seconds}S"


def seconds_of(told: str | None) -> int | None:
    """A duration of Azure's in seconds."""
    if told is None:
        return None
    found = re.fullmatch(r"P(?:(\d+)D)?(?:T(?:(\d+)H)?(?:(\d+)M)?(?:(\d+)(?:\.\d+)?S)?)?", told)
    if found is None:
        raise Unavailable(f"Azure answered a duration of {told!r}")
    days, hours, minutes, rest = (int(part or 0) for part in found.groups())
    return ((days * 24 + hours) * 60 + minutes) * 60 + rest
