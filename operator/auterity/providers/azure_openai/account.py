"""The account that deployments and tuning jobs are in; it is not kept here, only named."""

from typing import Annotated, Final

from pydantic import Field

from auterity.engine.errors import Rejected
from auterity.transport.azure import JSON, AzureSession

VERSION: Final = "2025-09-01"
"""Of the API: the one that azure-mgmt-cognitiveservices 14.1 speaks."""
AccountName = Annotated[
    str, Field(min_length=2, max_length=64, pattern=r"^[a-zA-Z0-9][a-zA-Z0-9_.-]*$")
]
OPEN_AI: Final = "OpenAI Language Model Instance API"
"""What an account calls its address for the OpenAI API, where it has several."""


def id_of(session: AzureSession, account: str = "") -> str:
    """The id of an account, or of the list of them."""
    accounts = f"{session.group}/providers/Microsoft.CognitiveServices/accounts"
    return f"{accounts}/{account}" if account else accounts


def address_of(session: AzureSession, account: JSON) -> str:
    """Where an account answers, without a trailing slash."""
    if session.open_ai is not None:
        return session.open_ai
    told = account.get("properties") or {}
    address = (told.get("endpoints") or {}).get(OPEN_AI) or told.get("endpoint")
    if not address:
        raise Rejected(f"account {account.get('name')} has no address yet, or serves no OpenAI API")
    return str(address).rstrip("/")
