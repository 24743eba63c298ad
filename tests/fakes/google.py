"""What fakes of Google's APIs share: signed tokens, errors of google.rpc.Status, operations."""

import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

from aiohttp import web
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
)
from google.auth import jwt

from tests.contract.discovery import Discovery
from tests.fakes.server import FakeServer

JSON = dict[str, Any]
Answer = Callable[[web.Request, Any], JSON]
PROJECT = "acme-models"
NUMBER = "461234567890"
"""Google answers names of resources with the project's number, whatever they were asked by."""
LOCATION = "europe-west4"
EMAIL = f"auterity@{PROJECT}.iam.gserviceaccount.com"
KEY_ID = "0f3b7c2d9e"


def key_of_a_service_account(email: str = EMAIL) -> str:
    """A new key, as the JSON that Google gives out."""
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()
    return json.dumps(
        {
            "type": "service_account",
            "project_id": PROJECT,
            "private_key_id": KEY_ID,
            "private_key": pem,
            "client_email": email,
            "client_id": "104213568790",
            "token_uri": "https://oauth2.googleapis.com/token",
        }
    )


class Refused(Exception):  # noqa: N818 - it is an answer
    """One of Google's refusals."""

    def __init__(self, status: int, code: str, message: str, *details: JSON) -> None:
        super().__init__(message)
        error = {"code": status, "status": code, "message": message, "details": list(details)}
        self.status, self.body = status, {"error": error}

    def response(self) -> web.Response:
        return web.json_response(self.body, status=self.status)


def invalid(message: str) -> Refused:
    return Refused(400, "INVALID_ARGUMENT", message)


def precondition(message: str) -> Refused:
    return Refused(400, "FAILED_PRECONDITION", message)


def absent(name: str) -> Refused:
    return Refused(404, "NOT_FOUND", f"The resource {name} was not found.")


class Operations:
    """Long-running operations: told as running once, and done by then; `slow`: when settled."""

    def __init__(self, prefix: str) -> None:
        self.prefix = prefix
        self.slow = False
        self._all: dict[str, list[JSON]] = {}
        self._pending: list[tuple[JSON, Callable[[], JSON], JSON | None]] = []
        self._count = 0

    def start(
        self,
        kind: str,
        name: str,
        done: Callable[[], JSON],
        error: JSON | None = None,
    ) -> JSON:
        """Begin one on a resource."""
        self._count += 1
        at = datetime(2026, 11, 1, tzinfo=UTC) + timedelta(seconds=self._count)
        operation: JSON = {
            "name": f"{name}/operations/{7 * 10**17 + self._count}",
            "metadata": {
                "@type": f"type.googleapis.com/{self.prefix}.{kind}OperationMetadata",
                "genericMetadata": {"createTime": at.strftime("%Y-%m-%dT%H:%M:%SZ")},
            },
        }
        self._all.setdefault(name, []).append(operation)
        self._pending.append((operation, done, error))
        return dict(operation)

    def on(self, name: str) -> list[JSON]:
        """All on a resource."""
        return self._all.get(name, [])

    def running(self, name: str) -> bool:
        return any(not one.get("done") for one in self.on(name))

    def looked(self) -> None:
        """Somebody has looked: what is under way is done at the next look."""
        if not self.slow:
            self.settle()

    def settle(self) -> None:
        pending, self._pending = self._pending, []
        for operation, done, error in pending:
            operation["done"] = True
            if error is not None:
                operation["error"] = error
            else:
                operation["response"] = done()

    def clear(self) -> None:
        self._all.clear()
        self._pending.clear()


class GoogleFake:
    """A Google API on loopback: requests are held against its discovery document."""

    def __init__(self, api: str, key: str, *beside: str) -> None:
        """`key` is that of the service account that may do everything; `beside` are other APIs."""
        description = Discovery.load(api, *beside)
        self.server = FakeServer(description)  # type: ignore[arg-type]  # it checks alike
        self._certificates = {KEY_ID: _public(key)}
        self._trusted: set[str] = set()
        """Tokens that were verified: they live for longer than a test."""
        self.server.authorize = self._authorize

    def route(self, method: str, path: str, answer: Answer) -> None:
        async def handle(request: web.Request, body: Any) -> web.StreamResponse:
            try:
                return web.json_response(answer(request, body if body is not None else {}))
            except Refused as refused:
                return refused.response()

        self.server.route(method, path, handle)

    def _authorize(self, request: web.Request) -> web.Response | None:
        token = request.headers.get("Authorization", "").removeprefix("Bearer ")
        if token in self._trusted:
            return None
        try:
            claims = jwt.decode(token, certs=self._certificates)
        except ValueError:
            claims = {}
        if claims.get("sub") == EMAIL and "cloud-platform" in claims.get("scope", ""):
            self._trusted.add(token)
            return None
        return Refused(
            401,
            "UNAUTHENTICATED",
            "Request had invalid authentication credentials. Expected OAuth 2 access token, login "
            "cookie or other valid authentication credential.",
        ).response()


def _public(text: str) -> bytes:
    key = load_pem_private_key(json.loads(text)["private_key"].encode(), None)
    return key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
