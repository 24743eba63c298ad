"""The Connection to Together AI."""

import json
from collections.abc import AsyncIterator
from http import HTTPStatus
from typing import ClassVar
from urllib.parse import quote

from auterity.api.connection import RateLimit
from auterity.api.fields import SecretValue, ShortText, Url
from auterity.engine.contract import Access, Answer, Identity
from auterity.engine.errors import Failure, Rejected, Unavailable
from auterity.transport import http
from auterity.transport.endpoints import checked
from auterity.transport.rest import JSON, RestConnector, RestSession


class TogetherConnection(RestConnector):
    """A project at Together AI, and an API key that may manage it."""

    vendor = "together"
    # Together documents limits of inference only.
    rate_limit: ClassVar[RateLimit] = RateLimit(per_second=5, burst=10, concurrent=4)

    endpoint: Url = "https://api.together.ai"
    """Base URL of the API, without a version."""
    inference_endpoint: Url = "https://api-inference.together.ai/v1"
    """Base URL that dedicated endpoints are asked at."""
    api_key: SecretValue
    """API key of the project, or of the organization."""
    project: ShortText | None = None
    """Id of the project. Needed only with a key of an organization: any other has its own."""

    def headers(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {self.api_key.reveal()}"}

    async def identify(self, session: RestSession) -> Identity:
        who = await session.call("GET", "/v3/whoami")
        project = who.get("project") or {}
        organization = (who.get("organization") or {}).get("name")
        told = str(who.get("type", "an API key"))
        if project:
            told = f"project {project['name']} ({project['slug']})"
        return Identity(f"{told} of {organization}" if organization else told)

    def failure(self, answer: http.Answer) -> Failure | None:
        if answer.status == HTTPStatus.NOT_FOUND and not isinstance(answer.body, dict):
            # Together's own 404 is JSON; that of a gateway must not be taken for "is gone".
            return Unavailable("404 came, and not in Together's own words; is the endpoint right?")
        return http.failure_of(answer)

    async def open(self, access: Access) -> "TogetherSession":
        rest = await super().open(access)
        inference = checked(self.inference_endpoint, allow_insecure=access.allow_insecure)
        return TogetherSession(rest, self, inference)


class TogetherSession(RestSession):
    """Calls to one project."""

    def __init__(self, rest: RestSession, connector: TogetherConnection, inference: str) -> None:
        super().__init__(rest.door, rest.client, connector)
        self.inference = inference
        self._project = connector.project

    async def project(self) -> str:
        """The project's id."""
        if self._project is None:
            who = await self.call("GET", "/v3/whoami")
            if not who.get("project"):
                raise Rejected(
                    "the API key belongs to no single project: name one by spec.together.project "
                    "of the connection"
                )
            self._project = str(who["project"]["id"])
        return self._project

    async def under_project(self, *parts: str) -> str:
        """A path of API v2."""
        below = "".join(f"/{quote(part, safe='')}" for part in parts)
        return f"/v2/projects/{quote(await self.project(), safe='')}{below}"

    async def pages(self, path: str, **query: str) -> AsyncIterator[JSON]:
        """Everything in a list of API v2."""
        after: dict[str, str] = {}
        while True:
            page = await self.call("GET", path, params={"limit": "100", **query, **after})
            if not isinstance(page, dict) or not isinstance(page.get("data"), list):
                raise Unavailable("Together's answer is not the list that its API promises")
            for item in page["data"]:
                yield item
            if not page.get("next_cursor"):
                return
            after = {"after": str(page["next_cursor"])}

    async def ask(self, path: str, body: JSON) -> Answer:
        """A request of a user; whatever the model answers."""
        answer = await http.send(
            self.door,
            self.client,
            "POST",
            f"{self.inference}/{path.lstrip('/')}",
            label="QueryModel",
            concerns_all=lambda _: None,
            json=body,
        )
        if answer.status in (HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN):
            raise http.failure_of(answer) or Unavailable("Together refuses the API key")
        body = answer.body
        return Answer(answer.status, body if isinstance(body, str) else json.dumps(body))
