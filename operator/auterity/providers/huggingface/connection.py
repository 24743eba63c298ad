"""The Connection to Hugging Face's Inference Endpoints (https://endpoints.huggingface.co)."""

import re
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any, ClassVar, Final
from urllib.parse import quote

from auterity.api.connection import RateLimit
from auterity.api.fields import SecretValue, ShortText, Url
from auterity.engine.contract import Access, Identity
from auterity.engine.errors import Failure, Rejected, Throttled, Unavailable
from auterity.transport import http
from auterity.transport.rest import RestConnector, RestSession

RESETS: Final = re.compile(r"\bt=(\d+)")
"""In `RateLimit: "api";r=0;t=55`: Hugging Face does not always send Retry-After."""


class HuggingFaceSession(RestSession):
    """Calls to the API of Inference Endpoints."""

    connector: "HuggingFaceConnection"

    async def call(self, method: str, path: str, **request: Any) -> Any:
        return await super().call(method, path, concerns_all=held, **request)

    @property
    def endpoints(self) -> str:
        """The path of the namespace's endpoints."""
        return f"/endpoint/{quote(self.connector.namespace, safe='')}"


class HuggingFaceConnection(RestConnector):
    """A user or an organisation at Hugging Face."""

    vendor = "huggingFace"
    # Hugging Face publishes no limit of this API; that of the Hub is 500 calls in five minutes.
    rate_limit: ClassVar[RateLimit] = RateLimit(per_second=1.6, burst=50, concurrent=6)

    endpoint: Url = "https://api.endpoints.huggingface.cloud/v2"
    """Base URL of the API that manages Inference Endpoints, with its version."""
    namespace: ShortText
    """User or organisation that the endpoints belong to."""
    token: SecretValue
    """Access token that may read and write Inference Endpoints of the namespace. It must also be
    able to read the models that are deployed."""

    def headers(self) -> Mapping[str, str]:
        return {"Authorization": f"Bearer {self.token.reveal()}"}

    async def identify(self, session: RestSession) -> Identity:
        # This API has no call that tells who the token belongs to.
        await session.call("GET", f"/endpoint/{quote(self.namespace, safe='')}")
        return Identity(f"a token for the endpoints of {self.namespace}")

    def failure(self, answer: http.Answer) -> Failure | None:
        told = http.reason(answer)
        if answer.status == HTTPStatus.NOT_FOUND and str(answer.body or "").lstrip()[:1] == "<":
            # A proxy's page must not be taken for "is gone".
            return Unavailable("404 came as a web page; is the endpoint of the Connection right?")
        if answer.status == HTTPStatus.PAYMENT_REQUIRED or (
            answer.status == HTTPStatus.FORBIDDEN and "quota" in told.lower()
        ):
            return Rejected(f"Hugging Face's quota or billing does not allow it{told}")
        return super().failure(answer)

    async def open(self, access: Access) -> HuggingFaceSession:
        plain = await super().open(access)
        return HuggingFaceSession(plain.door, plain.client, self)


def held(answer: http.Answer) -> Failure | None:
    """As for any vendor, with Hugging Face's own header for when to come back."""
    failure = http.held(answer)
    if isinstance(failure, Throttled) and failure.retry_after is None:
        found = RESETS.search(answer.headers.get("ratelimit", ""))
        failure.retry_after = float(found[1]) if found else None
    return failure
