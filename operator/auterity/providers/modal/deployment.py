"""ModelDeployment at Modal: an endpoint on a recipe of Modal's, or an App of one's own code."""

from collections.abc import Mapping

from auterity.engine.contract import Observed, Provider
from auterity.providers.billing import Bill, of_replicas
from auterity.providers.modal import app, endpoint, scaling
from auterity.providers.modal.app import Apps
from auterity.providers.modal.endpoint import Endpoints
from auterity.providers.modal.forms import Form
from auterity.providers.modal.params import ModalDeploymentParams
from auterity.transport.modal import ModalConnection, ModalSession


class ModalDeployment(Provider[ModalDeploymentParams, ModalSession]):
    """Dedicated Endpoints of an environment by their id, and Apps by their name and function."""

    kind = "ModelDeployment"
    vendor = "modal"
    params = ModalDeploymentParams
    connection = ModalConnection
    # Apps carry a mark, and another's is heeded. Endpoints cannot, and an App has none until it is
    # deployed, nor after a deployment that brings tags of its own.
    marks_owner = False
    poll_after = 15.0
    docs = "https://modal.com/docs/guide/dedicated-endpoints"
    permissions = (
        "API token that may write in the environment, best of a service user",
        "For an App nothing more: the token that deploys it need not be this one",
    )
    proof = (
        "both forms against a stateful gRPC stand-in that speaks Modal's protocol by the messages "
        "of Modal's SDK 1.6.4"
    )
    publishes = (
        ("url", "Address of the endpoint, or of the App's function if it has one."),
        ("openaiBaseUrl", "Base URL for clients of OpenAI; of an endpoint."),
        ("model", "What requests name as their model; of an endpoint."),
        ("app", "Name of the App."),
        ("function", "The App's function that serves."),
        ("secret", "Name of Modal's Secret with the environment that was declared for the App."),
        ("authentication", "How requests are authenticated."),
        ("curl", "A request to try, with placeholders for the token."),
    )
    quirks = (
        (
            "Modal makes endpoints known only by its command line, and its API only by its SDK. "
            "The operator makes the same calls as version 1.6 of them; Modal does not promise to "
            "keep them, and a change shows as a refusal that asks for an upgrade."
        ),
        *endpoint.QUIRKS,
        *app.QUIRKS,
    )

    def __init__(self, session: ModalSession) -> None:
        super().__init__(session)
        self._apps, self._endpoints = Apps(session), Endpoints(session)

    @classmethod
    def objections(cls, want: ModalDeploymentParams) -> Mapping[str, str]:
        found = endpoint.objections(want) if want.app is None else app.objections(want)
        return found | scaling.objections(want)

    @classmethod
    def billed(cls, want: ModalDeploymentParams) -> Bill:
        # Only Modal, or the App's code, knows what it runs on: what a container costs can be put
        # into a list.
        if want.app is not None:
            return (of_replicas(f"{want.name}/{want.app.function}", want.scaling),)
        recipe = want.base_model or want.model.name
        return (of_replicas(recipe, want.scaling),) if recipe else None

    async def locate(self, want: ModalDeploymentParams) -> str | None:
        return await self._declared(want).locate(want)

    async def read(self, id: str) -> Observed[ModalDeploymentParams] | None:
        return await self._behind(id).read(id)

    async def create(self, want: ModalDeploymentParams, owner: str) -> str:
        return await self._declared(want).create(want, owner)

    async def update(
        self, id: str, want: ModalDeploymentParams, changed: frozenset[str], owner: str
    ) -> None:
        await self._behind(id).update(id, want, changed, owner)

    async def delete(self, id: str) -> None:
        await self._behind(id).delete(id)

    def _declared(self, want: ModalDeploymentParams) -> Form:
        return self._endpoints if want.app is None else self._apps

    def _behind(self, id: str) -> Form:
        return self._apps if app.SEPARATOR in id else self._endpoints
