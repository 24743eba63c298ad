"""Realms of Keycloak: https://www.keycloak.org/docs-api/latest/rest-api/index.html."""

import re
from collections.abc import Callable, Iterable
from typing import Annotated, Any, ClassVar, Final, Literal, Self
from urllib.parse import quote
from uuid import NAMESPACE_URL, uuid5

from pydantic import Field, SecretStr, model_validator

from auterity.api.fields import Duration, SecretValue, ShortText, Text, alias_of, seconds
from auterity.api.identity_provider import (
    MFA,
    Application,
    IdentityProvider,
    PasswordPolicy,
    Role,
    UpstreamConnection,
)
from auterity.engine.contract import Identity, Observed
from auterity.engine.errors import Conflict, Rejected, Unauthorized, Unavailable
from auterity.transport.oauth import Grant, OAuthConnector, OAuthSession
from auterity.transport.rest import JSON, RestProvider, RestSession

MARK: Final = "auterity.io/owner"
"""Attribute of realms, clients and roles, and config key of identity providers."""
SECONDS: Final = ("access_token_lifespan", "sso_session_idle_timeout", "sso_session_max_lifespan")
SWITCHES: Final = (
    "admin_events_enabled",
    "brute_force_protected",
    "events_enabled",
    "registration_allowed",
    "remember_me",
    "reset_password_allowed",
    "verify_email",
)
PLAIN: Final = ("display_name", "login_theme", "ssl_required", *SWITCHES)
BUILT_IN_SCOPES: Final = frozenset({"acr", "basic", "roles", "service_account", "web-origins"})
"""Client scopes that carry Keycloak's own claims; every application has them."""
SECOND_FACTOR: Final = "/authentication/required-actions/CONFIGURE_TOTP"
LIFESPAN: Final = "access.token.lifespan"
LOGOUT: Final = "post.logout.redirect.uris"
PKCE: Final = "pkce.code.challenge.method"
POLICIES: Final = {
    "upperCase": "require_uppercase",
    "lowerCase": "require_lowercase",
    "digits": "require_digits",
    "specialChars": "require_symbols",
}
TYPES: Final[dict[str, JSON]] = {
    # Public clients differ in webOrigins: + lets browsers call the token endpoint from the
    # origins of the redirect URIs, which only an application in a browser needs.
    "Web": {"publicClient": False, "standardFlowEnabled": True, "webOrigins": []},
    "SinglePage": {"publicClient": True, "standardFlowEnabled": True, "webOrigins": ["+"]},
    "Native": {"publicClient": True, "standardFlowEnabled": True, "webOrigins": []},
    "Machine": {"publicClient": False, "standardFlowEnabled": False, "webOrigins": []},
}
Switch = bool | None


class KeycloakConnection(OAuthConnector):
    """A Keycloak server, and the client whose service account manages realms there."""

    vendor = "keycloak"

    realm: ShortText = "master"
    """Realm of the client. Only a client of `master` can create realms."""
    client_id: Text
    """Id of a confidential client with a service account."""
    client_secret: SecretValue
    """The client's secret."""

    def grant(self) -> Grant:
        return Grant(
            path=f"/realms/{quote(self.realm, safe='')}/protocol/openid-connect/token",
            client_id=self.client_id,
            client_secret=SecretStr(self.client_secret.reveal()),
        )

    async def identify(self, session: RestSession) -> Identity:
        info = await session.call("GET", "/admin/serverinfo")
        # The version is told only to those who may see the server's state.
        system = info.get("systemInfo") if isinstance(info, dict) else None
        version = f", Keycloak {system['version']}" if system else ""
        return Identity(f"service account {self.client_id} in realm {self.realm}{version}")


class KeycloakRealmParams(IdentityProvider):
    """A realm with its clients (applications), identity providers (connections) and roles."""

    display_name: Annotated[str, Field(max_length=255)] | None = None
    """Name of the realm as its users see it."""
    login_theme: Annotated[str, Field(max_length=255)] | None = None
    """Theme of the login pages, as installed at the server."""
    ssl_required: Literal["all", "external", "none"] | None = None
    """Who must use https: all, external (all but private addresses) or none."""
    access_token_lifespan: Duration | None = None
    """How long access tokens are valid where the application does not say otherwise."""
    sso_session_idle_timeout: Duration | None = None
    """A session without any request ends after this time."""
    sso_session_max_lifespan: Duration | None = None
    """A session ends after this time in any case."""
    brute_force_protected: Switch = None
    """Lock users out for a while after too many wrong passwords."""
    registration_allowed: Switch = None
    """Let people register themselves."""
    remember_me: Switch = None
    """Offer to stay signed in after the browser was closed."""
    reset_password_allowed: Switch = None
    """Offer to reset a forgotten password by email."""
    verify_email: Switch = None
    """Make users verify their email address."""
    events_enabled: Switch = None
    """Keep a record of what users do, such as signing in."""
    admin_events_enabled: Switch = None
    """Keep a record of what administrators change."""
    full_scope_allowed: bool = False
    """Put all of a user's roles into the tokens of every application. Otherwise a token has only
    the roles that were assigned to the client's scope at Keycloak."""

    @model_validator(mode="after")
    def _as_keycloak_tells(self) -> Self:
        # Keycloak keeps these as sets, and neither openid nor its own scopes can be left out.
        for app in self.applications:
            app.redirect_uris = sorted({*app.redirect_uris})
            app.logout_uris = sorted({*app.logout_uris})
            app.scopes = sorted({*app.scopes} - BUILT_IN_SCOPES - {"openid"})
        return self


class KeycloakRealm(RestProvider[KeycloakRealmParams]):
    """One realm. What belongs to it carries the same mark as the realm itself."""

    kind = "IdentityProvider"
    vendor = "keycloak"
    params = KeycloakRealmParams
    connection = KeycloakConnection
    docs = "https://www.keycloak.org/docs-api/latest/rest-api/index.html"
    permissions = (
        "realm role create-realm of the realm master: the service account then has every right "
        "on the realms that it creates, and none on others",
        "for a realm that exists: roles manage-realm, manage-clients and "
        "manage-identity-providers of the client <realm>-realm (of realm-management, if the "
        "client is one of the realm itself)",
    )
    proof = "against Keycloak 26.7.3; requests are held against Keycloak's own description"
    quirks = (
        "Deleting the realm erases its users and keys; it is retained by default.",
        "mfa Required makes users who are created from then on set up a one-time password at "
        "their first login, Optional lets users do so, Off hides it. Users who have one are "
        "always asked for it. To demand it of everyone, bind an authentication flow of your own.",
        "An application's tokens carry the claims of the scopes it declares, and no others: name "
        "profile and email where they are needed.",
        "Clients, roles and identity providers that others made in the realm are left alone, and "
        "one that has a declared name is taken over only together with the realm "
        "(policy: Adopt).",
        "A connection's endpoints are read from its issuer by Keycloak when the connection is "
        "made or its issuer changes: Keycloak must be able to reach the issuer.",
        "Keycloak keeps one client secret. Regenerate it there; the outputs follow.",
    )

    collection: ClassVar[str] = "/admin/realms"
    session: OAuthSession  # type: ignore[assignment]  # its connector opens no other

    async def read(self, id: str) -> Observed[KeycloakRealmParams] | None:
        if (realm := await self._realm(id)) is None:
            return None
        path, find = self.path(id), self.session.find
        return self._decoded(
            {
                "realm": realm,
                "clients": await find(f"{path}/clients"),
                "roles": await find(f"{path}/roles", params={"briefRepresentation": "false"}),
                "providers": await find(f"{path}/identity-provider/instances"),
                "second factor": await find(f"{path}{SECOND_FACTOR}") or {},
                # Not derived from our endpoint: users may know the server by another name.
                "public": await find(f"/realms/{quote(id, safe='')}/.well-known/openid-configuration"),
            }
        )

    async def create(self, want: KeycloakRealmParams, owner: str) -> str:
        # Realm first, marked. Importing all of it in this one call would answer 500 for
        # whatever is wrong with a client, where /clients tells what it is.
        await self.session.call("POST", self.collection, json=self.encode(want, owner))
        self.session.renew()  # Roles for the new realm are in tokens that are newer than it.
        await self._keep_entries(want.name, want, lambda *_: True, owner, adopting=False)
        return want.name

    async def update(
        self, id: str, want: KeycloakRealmParams, changed: frozenset[str], owner: str
    ) -> None:
        def touched(field: str, name: str = "") -> bool:
            path = f"{field}.{name}" if name else field
            return any(c == path or c.startswith(f"{path}.") for c in changed)

        realm = await self.session.call("GET", self.path(id))
        adopting = _mark(realm) != owner
        await self._keep_entries(id, want, touched, owner, adopting=adopting)
        # The realm's mark comes last: until then all that is adopted counts as not yet ours.
        fields = ("password_policy", *PLAIN, *SECONDS)
        if adopting or any(touched(field) for field in fields):
            # In full, as it was read: attributes are replaced as a whole, and those that are
            # left out fall back to defaults.
            body = {**realm, **self.encode(want, owner)}
            body["attributes"] = {**realm.get("attributes", {}), MARK: owner}
            if want.password_policy is not None:
                body["passwordPolicy"] = _policy(want.password_policy, realm)
            await self.session.call("PUT", self.path(id), json=body)

    def encode(self, want: KeycloakRealmParams, owner: str) -> JSON:
        body: JSON = {"realm": want.name, "enabled": True, "attributes": {MARK: owner}}
        for field in (*PLAIN, *SECONDS):
            if (value := getattr(want, field)) is not None:
                key = alias_of(KeycloakRealmParams, field)
                body[key] = int(seconds(value)) if field in SECONDS else value
        if want.password_policy is not None:
            body["passwordPolicy"] = _policy(want.password_policy, {})
        return body

    def decode(self, body: JSON) -> Observed[KeycloakRealmParams]:
        realm, issuer = body["realm"], body["public"]["issuer"]
        mark, name = _mark(realm), realm["realm"]
        clients = _ours(body["clients"], mark)
        apps = [_application(client) for client in clients]
        fields: JSON = {f: realm.get(alias_of(KeycloakRealmParams, f)) for f in PLAIN}
        fields |= {f: f"{realm[alias_of(KeycloakRealmParams, f)]}s" for f in SECONDS}
        full = {client["fullScopeAllowed"] for client in clients}
        if full:
            fields["full_scope_allowed"] = full.pop() if len(full) == 1 else None
        return Observed(
            id=name,
            actual=KeycloakRealmParams.seen(
                mfa=_mfa(body["second factor"]),
                password_policy=_password_policy(realm.get("passwordPolicy")),
                applications=apps,
                connections=[_connection(p) for p in _ours(body["providers"], mark)],
                roles=[
                    Role.model_construct(name=r["name"], description=r.get("description") or "")
                    for r in _ours(body["roles"], mark)
                ],
                **fields,
            ),
            owner=mark,
            outputs={
                "issuer": issuer,
                "discoveryUrl": f"{issuer}/.well-known/openid-configuration",
                **{f"{c['clientId']}.clientId": c["clientId"] for c in clients},
            },
            secrets={
                f"{c['clientId']}.clientSecret": SecretStr(c["secret"])
                for c in clients
                if not c["publicClient"] and "secret" in c
            },
            url=f"{issuer.rsplit('/realms/', 1)[0]}/admin/{quote(name)}/console/",
        )
