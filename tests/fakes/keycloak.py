"""Keycloak 26.7.3 itself, started once a run; its description is checked on the way, 2026-11-24.

Keycloak tells a client secret of another issuer to nobody: what it was sent and has accepted is
remembered here.
"""

import atexit
import json
from copy import deepcopy
from typing import Any, ClassVar
from urllib.parse import quote

import aiohttp
from aiohttp import web
from yarl import URL

from auterity.providers.keycloak.parts import MARK
from auterity.providers.keycloak.realm import KeycloakRealm
from tests.conformance.vendor import Edit, Refusal, Vendor
from tests.contract.openapi import Description, Violation
from tests.fakes.server import FakeServer
from tools.loopback import free_port
from tools.servers.keycloak import Keycloak

JSON = dict[str, Any]
CLIENT = "auterity"
CLIENT_SECRET = "Vw3rT0-kc-client-9fQz"
UPSTREAM_SECRET = "Up5tream-fakeFAKE-2hLm"
PORT = free_port()
"""Of other issuers; known before they listen, because the spec names them."""
CORPORATE = f"http://127.0.0.1:{PORT}/corporate"
PARTNER = f"http://127.0.0.1:{PORT}/partner"
HOP_BY_HOP = {"connection", "content-length", "keep-alive", "transfer-encoding"}

QUICK = "-XX:TieredStopAtLevel=1"
"""Its life is too short for the full compiler to pay."""
KEYS: JSON = {
    "org.keycloak.keys.KeyProvider": [
        {"name": kind, "providerId": f"{kind}-generated", "config": {"priority": ["100"]}}
        for kind in ("ecdsa", "hmac", "aes")
    ]
}
"""Components of a realm that does without RSA: such keys take Keycloak longer than all the rest."""

_started: list[Keycloak] = []


def server() -> Keycloak:
    """The one server of this run, with a client that may create realms."""
    if not _started:
        keycloak = Keycloak(QUICK).start()
        atexit.register(keycloak.stop)
        _started.append(keycloak)
        client = {
            "clientId": CLIENT,
            "secret": CLIENT_SECRET,
            "serviceAccountsEnabled": True,
            "standardFlowEnabled": False,
        }
        keycloak.admin("POST", "/realms/master/clients", client)
        (made,) = keycloak.admin("GET", f"/realms/master/clients?clientId={CLIENT}")
        account = keycloak.admin("GET", f"/realms/master/clients/{made['id']}/service-account-user")
        role = keycloak.admin("GET", "/realms/master/roles/create-realm")
        keycloak.admin("POST", f"/realms/master/users/{account['id']}/role-mappings/realm", [role])
    return _started[0]


class Issuers:
    """OpenID Connect issuers to sign in with, as far as Keycloak looks at them."""

    def __init__(self) -> None:
        self.server = FakeServer()
        self.server.port = PORT
        self.server.route("GET", "/{name}/.well-known/openid-configuration", self._describe)

    async def _describe(self, request: web.Request, body: object) -> web.Response:
        name = request.match_info["name"]
        if name not in ("corporate", "partner"):
            return web.json_response({"error": "not found"}, status=404)
        url = f"http://127.0.0.1:{PORT}/{name}"
        return web.json_response(
            {
                "issuer": url,
                "authorization_endpoint": f"{url}/authorize",
                "token_endpoint": f"{url}/token",
                "jwks_uri": f"{url}/keys",
                "userinfo_endpoint": f"{url}/userinfo",
                "response_types_supported": ["code"],
            }
        )


def description() -> Description | None:
    """Keycloak's description, with the one body that it leaves open: a realm to create."""
    found = Description.load("keycloak.openapi.json")
    if found is None:
        return None
    document = deepcopy(found.document)
    body = document["paths"]["/admin/realms"]["post"]["requestBody"]
    schema = {"$ref": "#/components/schemas/RealmRepresentation"}
    body["content"]["application/json"]["schema"] = schema
    return Description(document)


class Checkpoint:
    """Stands before Keycloak and holds every request to its Admin API against its description.

    A realm that is made gets KEYS as well.
    """

    def __init__(self) -> None:
        self.description = description()
        self.violations: list[Violation] = []
        self.accepted: list[str] = []
        """Bodies that Keycloak has accepted."""
        self.upstream = ""
        self._runner: web.AppRunner | None = None
        self._session: aiohttp.ClientSession | None = None

    async def start(self, upstream: str) -> str:
        """Listen on a free port of loopback; the URL."""
        self.upstream = upstream
        self._session = aiohttp.ClientSession(auto_decompress=False)
        app = web.Application(client_max_size=16 << 20)
        app.router.add_route("*", "/{tail:.*}", self._pass)
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", 0).start()
        return f"http://127.0.0.1:{self._runner.addresses[0][1]}"

    async def stop(self) -> None:
        """Stop listening."""
        if self._runner is not None:
            await self._runner.cleanup()
        if self._session is not None:
            await self._session.close()

    async def _pass(self, request: web.Request) -> web.StreamResponse:
        assert self._session is not None
        raw = await request.read()
        if (violation := self._check(request, raw)) is not None:
            self.violations.append(violation)
            return web.json_response({"errorMessage": f"contract: {violation}"}, status=400)
        url = URL(f"{self.upstream}{request.raw_path}", encoded=True)
        sent = raw
        if (request.method, request.path) == ("POST", "/admin/realms"):
            sent = json.dumps({**json.loads(raw), "components": KEYS}).encode()
        headers = {k: v for k, v in request.headers.items() if k.lower() not in HOP_BY_HOP}
        async with self._session.request(
            request.method, url, data=sent or None, headers=headers, allow_redirects=False
        ) as answer:
            body = await answer.read()
            if raw and answer.status < 300:
                self.accepted.append(raw.decode())
            kept = [(k, v) for k, v in answer.headers.items() if k.lower() not in HOP_BY_HOP]
            response = web.Response(body=body, status=answer.status)
            response.headers.popall("Content-Type", None)
            for name, value in kept:
                response.headers.add(name, value)
            return response

    def _check(self, request: web.Request, raw: bytes) -> Violation | None:
        path = request.rel_url.raw_path
        # The description is that of realms only.
        if self.description is None or not path.startswith("/admin/realms"):
            return None
        return self.description.check(
            request.method,
            path,
            query=dict(request.query),
            content_type=request.content_type if raw else None,
            body=json.loads(raw) if raw else None,
        )


SHOP: JSON = {
    "name": "shop",
    "type": "Web",
    "redirectUris": ["https://shop.example.com/callback"],
    "logoutUris": ["https://shop.example.com/bye"],
    "scopes": ["openid", "email"],
    "accessTokenLifetime": "10m",
}
CORPORATE_LOGIN: JSON = {
    "name": "corporate",
    "issuer": CORPORATE,
    "clientId": "keycloak",
    "clientSecret": {"secretKeyRef": {"name": "upstream", "key": "clientSecret"}},
    "scopes": ["openid", "email"],
}
BUYER: JSON = {"name": "buyer", "description": "May order"}


def _shop(**changed: Any) -> JSON:
    return {"applications": [{**SHOP, **changed}]}


def _login(**changed: Any) -> JSON:
    return {"connections": [{**CORPORATE_LOGIN, **changed}]}


class KeycloakRealms(Vendor):
    """Realms of a Keycloak server."""

    provider = KeycloakRealm
    takes_time = True
    fast = False
    spec: ClassVar[JSON] = {
        "mfa": "Optional",
        "passwordPolicy": {"minLength": 14, "requireSymbols": True},
        "applications": [SHOP],
        "connections": [CORPORATE_LOGIN],
        "roles": [BUYER],
        "keycloak": {
            "displayName": "Shop",
            "sslRequired": "external",
            "accessTokenLifespan": "5m",
            "ssoSessionIdleTimeout": "30m",
            "ssoSessionMaxLifespan": "8h",
            "bruteForceProtected": True,
            "registrationAllowed": False,
            "rememberMe": False,
            "resetPasswordAllowed": True,
            "verifyEmail": False,
            "eventsEnabled": True,
            "adminEventsEnabled": True,
            "loginTheme": "keycloak",
        },
    }
    edits = (
        Edit(
            "a redirect URI and scopes",
            _shop(
                redirectUris=[
                    "https://shop.example.com/callback",
                    "https://a.example.com/callback",
                ],
                scopes=["email", "profile", "phone"],
            ),
        ),
        Edit("no logout URI, no scope", _shop(logoutUris=[], scopes=[])),
        Edit("an application's tokens live longer", _shop(accessTokenLifetime="1h")),
        Edit("an application in a browser", _shop(type="SinglePage")),
        Edit("an application on a device", _shop(type="Native")),
        Edit("an application without users", _shop(type="Machine", redirectUris=[], logoutUris=[])),
        Edit("another application", {"applications": [SHOP, {**SHOP, "name": "back.office"}]}),
        Edit("no application", {"applications": []}),
        Edit("another issuer", _login(issuer=PARTNER)),
        Edit("another client id and scope there", _login(clientId="other", scopes=["openid"])),
        Edit(
            "another connection",
            {"connections": [CORPORATE_LOGIN, {**CORPORATE_LOGIN, "name": "partner"}]},
        ),
        Edit("no connection", {"connections": []}),
        Edit("a role's description", {"roles": [{**BUYER, "description": "May pay"}]}),
        Edit("another role", {"roles": [BUYER, {"name": "Sales / EMEA"}]}),
        Edit("no role", {"roles": []}),
        Edit("a second factor for new users", {"mfa": "Required"}),
        Edit("no second factor", {"mfa": "Off"}),
        Edit("a shorter password", {"passwordPolicy": {"minLength": 8, "requireSymbols": False}}),
        Edit(
            "a name and a theme",
            {"keycloak": {"displayName": "Market", "loginTheme": "keycloak.v2"}},
        ),
        Edit(
            "sessions",
            {
                "keycloak": {
                    "accessTokenLifespan": "90s",
                    "ssoSessionIdleTimeout": "1h",
                    "ssoSessionMaxLifespan": "12h",
                }
            },
        ),
        Edit(
            "switches",
            {
                "keycloak": {
                    "sslRequired": "none",
                    "bruteForceProtected": False,
                    "registrationAllowed": True,
                    "rememberMe": True,
                    "resetPasswordAllowed": False,
                    "verifyEmail": True,
                    "eventsEnabled": False,
                    "adminEventsEnabled": False,
                }
            },
        ),
        Edit("all roles in tokens", {"keycloak": {"fullScopeAllowed": True}}),
    )
    refusal = Refusal({"externalName": "shop/eu"}, "Character '/' not allowed")
    secrets: ClassVar[dict[str, dict[str, str]]] = {
        "keycloak": {"clientSecret": CLIENT_SECRET},
        "upstream": {"clientSecret": UPSTREAM_SECRET},
    }
    wrong_secrets: ClassVar[dict[str, dict[str, str]]] = {
        "keycloak": {"clientSecret": "Wr0ng-kc-client-7xPd"}
    }
    rotated_secrets: ClassVar[dict[str, dict[str, str]]] = {
        "upstream": {"clientSecret": "R0tated-fakeFAKE-8sKw"}
    }

    def __init__(self) -> None:
        super().__init__()
        self._checkpoint = Checkpoint()
        self._issuers = Issuers()

    @property
    def violations(self) -> list[Violation]:
        return self._checkpoint.violations

    @classmethod
    def missing(cls) -> str | None:
        return Keycloak.available()

    async def start(self) -> None:
        self._keycloak = server()
        self.url = await self._checkpoint.start(self._keycloak.url)
        await self._issuers.server.start()

    async def stop(self) -> None:
        await self._issuers.server.stop()
        await self._checkpoint.stop()

    async def reset(self) -> None:
        self.slow = False
        self._checkpoint.accepted.clear()
        self._keycloak.reset()

    def connection(self, endpoint: str | None) -> JSON:
        secret = {"secretKeyRef": {"name": "keycloak", "key": "clientSecret"}}
        return {"endpoint": endpoint, "clientId": CLIENT, "clientSecret": secret}

    async def count(self) -> int:
        """Realms, and in all of them clients, roles and identity providers."""
        realms = [r["realm"] for r in self._admin("GET", "/realms?briefRepresentation=true")]
        parts = ("clients", "roles", "identity-provider/instances")
        return len(realms) + sum(
            len(self._admin("GET", f"/realms/{quote(realm)}/{part}"))
            for realm in realms
            for part in parts
        )

    async def tamper(self, id: str) -> str:
        (client,) = self._admin("GET", f"/realms/{id}/clients?clientId=shop")
        client["redirectUris"] = ["https://evil.example.com/*"]
        self._admin("PUT", f"/realms/{id}/clients/{client['id']}", client)
        return "applications.shop.redirectUris"

    async def vanish(self, id: str) -> None:
        self._admin("DELETE", f"/realms/{id}")

    async def foreign(self, spec: JSON, name: str, owner: str | None) -> None:
        attributes = {} if owner is None else {MARK: owner}
        realm = {"realm": name, "enabled": True, "displayName": "Theirs", "attributes": attributes}
        self._admin("POST", "/realms", {**realm, "components": KEYS})
        client = {"clientId": "shop", "redirectUris": ["https://theirs.example.com/*"]}
        self._admin("POST", f"/realms/{name}/clients", client)
        # An administrator lets the operator in; its token is older than that.
        (own,) = self._admin("GET", f"/realms/master/clients?clientId={CLIENT}")
        account = self._admin("GET", f"/realms/master/clients/{own['id']}/service-account-user")
        (rights,) = self._admin("GET", f"/realms/master/clients?clientId={name}-realm")
        roles = self._admin("GET", f"/realms/master/clients/{rights['id']}/roles")
        enough = ("manage-realm", "manage-clients", "manage-identity-providers")
        self._admin(
            "POST",
            f"/realms/master/users/{account['id']}/role-mappings/clients/{rights['id']}",
            [role for role in roles if role["name"] in enough],
        )

    async def told(self, id: str) -> str:
        parts = ("", "/clients", "/roles", "/identity-provider/instances")
        held = [self._admin("GET", f"/realms/{id}{part}") for part in parts]
        return json.dumps([held, self._checkpoint.accepted])

    def _admin(self, method: str, path: str, body: object = None) -> Any:
        return self._keycloak.admin(method, path, body)
