"""What both ways of serving a model at Modal answer, and how they tell to ask it."""

from abc import ABC, abstractmethod
from typing import Final

from auterity.engine.contract import Observed
from auterity.providers.modal.params import ModalDeploymentParams
from auterity.transport.modal import ModalSession

PROXY_TOKEN: Final = "headers Modal-Key and Modal-Secret, of a proxy token"  # noqa: S105 - words
NO_TOKEN: Final = "none"  # noqa: S105 - words


class Form(ABC):
    """One way of serving."""

    def __init__(self, session: ModalSession) -> None:
        self.session = session

    @abstractmethod
    async def locate(self, want: ModalDeploymentParams) -> str | None:
        """The id under which it would exist."""

    @abstractmethod
    async def read(self, id: str) -> Observed[ModalDeploymentParams] | None:
        """What is there."""

    @abstractmethod
    async def create(self, want: ModalDeploymentParams, owner: str) -> str:
        """Make it; its id."""

    @abstractmethod
    async def update(
        self, id: str, want: ModalDeploymentParams, changed: frozenset[str], owner: str
    ) -> None:
        """Make what has changed as wanted."""

    @abstractmethod
    async def delete(self, id: str) -> None:
        """Delete it; absent is fine."""


def headers(authentication: str | None) -> str:
    """The headers of a request for curl, with placeholders for a proxy token."""
    found = []
    if authentication == PROXY_TOKEN:
        found = ["Modal-Key: $PROXY_TOKEN_ID", "Modal-Secret: $PROXY_TOKEN_SECRET"]
    return "".join(f' -H "{header}"' for header in found)
