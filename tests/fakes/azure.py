"""Entra ID's tokens and Azure Resource Manager, as of 2026-11: what all of Azure's fakes share.

Tokens are for one scope and one application. Resources are known by their ids in any case, and go
through states that only a look (or `settle`) moves on; while one of them does, a second change of
what it is in is refused. Why an operation failed is told by the operation alone.
"""

import itertools
from collections.abc import Callable
from copy import deepcopy
from typing import Any
from urllib.parse import parse_qsl

from aiohttp import web

from tests.contract import resource_manager
from tests.fakes.server import FakeServer

JSON = dict[str, Any]
TENANT = "11111111-2222-4333-8444-555555555555"
CLIENT = "66666666-7777-4888-8999-aaaaaaaaaaaa"
SUBSCRIPTION = "bbbbbbbb-cccc-4ddd-8eee-ffffffffffff"
GROUP = f"/subscriptions/{SUBSCRIPTION}/resourceGroups/models"
SECRET = "Qx8~fakeFAKE.azure-secret-7Hn2Lw"
WRONG_SECRET = "Qx8~fakeFAKE.wrong-secret-3Bv9Ks"
MANAGEMENT = "https://management.azure.com/.default"
COGNITIVE = "https://cognitiveservices.azure.com/.default"
MACHINE_LEARNING = "https://ml.azure.com/.default"
SECRETS = {"azure": {"clientSecret": SECRET}}
WRONG_SECRETS = {"azure": {"clientSecret": WRONG_SECRET}}


class Refused(Exception):  # noqa: N818 - named like the engine's failures
    """An error answer, in Resource Manager's shape."""

    def __init__(self, status: int, code: str, message: str, **headers: str) -> None:
        super().__init__(message)
        self.status, self.code, self.message, self.headers = status, code, message, headers

    def response(self) -> web.Response:
        error = {"error": {"code": self.code, "message": self.message}}
        return web.json_response(error, status=self.status, headers=self.headers)


class Azure:
    """The server, with what every service needs."""

    def __init__(self) -> None:
        self.server = FakeServer(resource_manager.load())
        self.server.authorize = self._authorize
        self.slow = False
        self.tokens: dict[str, str] = {}
        self.keys: set[str] = set()
        """Keys that models on endpoints take."""
        self.operations: dict[str, JSON] = {}
        self.breaks: tuple[str, str] | None = None
        """Code and text that the next operation fails with."""
        self.audience = MANAGEMENT
        """Scope of the tokens that Resource Manager takes."""
        self.trusted: str | None = None
        """The token of a service account that the application trusts."""
        self._numbers = itertools.count(1)
        self.route("POST", "/{tenant}/oauth2/v2.0/token", self._token)
        self.route("GET", "/subscriptions", self._subscriptions)
        self.route(
            "GET", "/subscriptions/{s}/providers/{n}/locations/{l}/operations/{id}", self._operation
        )

    def route(self, method: str, path: str, handler: Callable[..., Any]) -> None:
        """Add a route; the handler gets the parts of the path and the body."""
        self.server.route(method, path, self._answering(handler))

    def begun(self, namespace: str) -> tuple[JSON, str]:
        """A new operation, and the address that tells of it."""
        id = f"op-{next(self._numbers)}"
        operation = self.operations[id] = {"id": id, "name": id, "status": "InProgress"}
        where = f"/subscriptions/{SUBSCRIPTION}/providers/{namespace}/locations/westeurope"
        address = f"https://management.azure.com{where}/operations/{id}?api-version=2025-09-01"
        return operation, address

    def ended(self, operation: JSON) -> bool:
        """End an operation; whether it went well."""
        if self.breaks is None:
            operation["status"] = "Succeeded"
            return True
        code, message = self.breaks
        self.breaks = None
        operation |= {"status": "Failed", "error": {"code": code, "message": message}}
        return False

    def _authorize(self, request: web.Request) -> web.Response | None:
        if request.path.endswith("/oauth2/v2.0/token"):
            return None
        token = request.headers.get("Authorization", "").removeprefix("Bearer ")
        wanted = self.audience
        if request.path.startswith("/openai/"):
            wanted = COGNITIVE
        elif request.path == "/score":
            wanted = MACHINE_LEARNING
            if token in self.keys:
                return None
        if self.tokens.get(token) != wanted:
            text = "The access token is invalid."
            return Refused(401, "InvalidAuthenticationToken", text).response()
        return None

    def _answering(self, handler: Callable[..., Any]) -> Any:
        async def handle(request: web.Request, body: Any) -> web.StreamResponse:
            number = next(self._numbers)
            try:
                answer = handler(request, body)
            except Refused as refused:
                response = refused.response()
            else:
                if isinstance(answer, web.Response):
                    response = answer
                else:
                    status, content = answer
                    response = (
                        web.Response(status=status)
                        if content is None
                        else web.json_response(content, status=status)
                    )
            response.headers["x-ms-request-id"] = f"r{number}"
            return response

        return handle

    def _token(self, request: web.Request, body: Any) -> Any:
        form = dict(parse_qsl(body.decode()))
        trace = f"Trace ID: t{next(self._numbers)} Timestamp: 2026-11-24 0{next(self._numbers)}Z"
        if request.match_info["tenant"] != TENANT:
            text = f"AADSTS90002: Tenant not found. {trace}"
            return _entra(400, "invalid_request", text)
        if form["client_id"] != CLIENT:
            text = f"AADSTS700016: Application {form['client_id']} was not found. {trace}"
            return _entra(400, "unauthorized_client", text)
        if "client_assertion" in form:
            if form["client_assertion"] != self.trusted:
                text = f"AADSTS700213: No matching federated identity record found. {trace}"
                return _entra(401, "invalid_client", text)
        elif form.get("client_secret") != SECRET:
            text = f"AADSTS7000215: Invalid client secret provided. {trace}"
            return _entra(401, "invalid_client", text)
        token = f"token-{next(self._numbers)}-of-entra"
        self.tokens[token] = form["scope"]
        return 200, {"token_type": "Bearer", "expires_in": 3599, "access_token": token}

    def _subscriptions(self, request: web.Request, body: Any) -> Any:
        one = {"subscriptionId": SUBSCRIPTION, "displayName": "Models", "state": "Enabled"}
        if "$skiptoken" in request.query:
            return 200, {"value": [one]}
        onward = "https://management.azure.com/subscriptions?api-version=2022-12-01"
        return 200, {"value": [], "nextLink": f"{onward}&$skiptoken=2"}

    def _operation(self, request: web.Request, body: Any) -> Any:
        if (operation := self.operations.get(request.match_info["id"])) is None:
            raise Refused(404, "NotFound", "The operation was not found.")
        return 200, deepcopy(operation)


def _entra(status: int, error: str, text: str) -> web.Response:
    return web.json_response({"error": error, "error_description": text}, status=status)


def connection(endpoint: str | None, **more: Any) -> JSON:
    """The vendor block of a Connection to the fake."""
    return {
        "tenantId": TENANT,
        "clientId": CLIENT,
        "clientSecret": {"secretKeyRef": {"name": "azure", "key": "clientSecret"}},
        "subscriptionId": SUBSCRIPTION,
        "resourceGroup": "models",
        "endpoints": {"login": endpoint, "management": endpoint, **more},
    }
