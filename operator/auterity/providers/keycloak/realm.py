"""Realms, with what belongs to them, as identity providers."""

from collections.abc import Callable
from functools import partial
from typing import Annotated, Any, Final, Literal, Self, cast
from urllib.parse import quote

from pydantic import Field, SecretStr, model_validator

from auterity.api.fields import Duration, alias_of, seconds
from auterity.api.identity_provider import MFA, IdentityProvider, PasswordPolicy
from auterity.engine.contract import Observed, Provider
from auterity.engine.errors import NotFound, Unauthorized
from auterity.providers.keycloak.connection import KeycloakConnection
from auterity.providers.keycloak.parts import (
    BUILT_IN_SCOPES,
    MARK,
    Clients,
    IdentityProviders,
    Part,
    Roles,
    mark_of,
)
from auterity.transport.oauth import OAuthSession
from auterity.transport.rest import JSON, as_promised

TIMES: Final = ("access_token_lifespan", "sso_session_idle_timeout", "sso_session_max_lifespan")
PLAIN: Final = (
    "admin_events_enabled",
    "brute_force_protected",
    "display_name",
    "events_enabled",
    "login_theme",
    "registration_allowed",
    "remember_me",
    "reset_password_allowed",
    "ssl_required",
    "verify_email",
)
REALM: Final = ("password_policy", *PLAIN, *TIMES)
"""Fields that the realm's own document holds."""
DISCOVERY: Final = "/.well-known/openid-configuration"
SECOND_FACTOR: Final = "authentication/required-actions/CONFIGURE_TOTP"
POLICIES: Final = {
    "upperCase": "require_uppercase",
    "lowerCase": "require_lowercase",
    "digits": "require_digits",
    "specialChars": "require_symbols",
}
USUAL_LENGTH: Final = 8
"""What Keycloak takes a policy `length` without a number for."""


class KeycloakRealmParams(IdentityProvider):
    """A realm with its clients (applications), identity providers (connections) and roles."""

    display_name: Annotated[str, Field(min_length=1, max_length=255)] | None = None
    """Name of the realm as its users see it."""
    login_theme: Annotated[str, Field(min_length=1, max_length=255)] | None = None
    """Theme of the login pages, one that is installed at the server."""
    ssl_required: Literal["all", "external", "none"] | None = None
    """Who must use https: all, external (all but private addresses) or none."""
    access_token_lifespan: Duration | None = None
    """How long access tokens are valid, where an application does not say otherwise."""
    sso_session_idle_timeout: Duration | None = None
    """A session without any request ends after this time."""
    sso_session_max_lifespan: Duration | None = None
    """A session ends after this time in any case."""
    brute_force_protected: bool | None = None
    """Lock users out for a while after too many wrong passwords."""
    registration_allowed: bool | None = None
    """Let people register themselves."""
    remember_me: bool | None = None
    """Offer to stay signed in after the browser was closed."""
    reset_password_allowed: bool | None = None
    """Offer to reset a forgotten password by email."""
    verify_email: bool | None = None
    """Make users verify their email address."""
    events_enabled: bool | None = None
    """Keep a record of what users do, such as signing in."""
    admin_events_enabled: bool | None = None
    """Keep a record of what administrators change."""
    full_scope_allowed: bool = False
    """Put all roles of a user into the tokens of every application. Otherwise a token has only
    those that were assigned to the scope of its client at Keycloak."""

    @model_validator(mode="after")
    def _as_keycloak_tells(self) -> Self:
        # Sets at Keycloak, and openid and its own scopes are there without being declared.
        for app in self.applications:
            app.redirect_uris = sorted({*app.redirect_uris})
            app.logout_uris = sorted({*app.logout_uris})
            app.scopes = sorted({*app.scopes} - BUILT_IN_SCOPES - {"openid"})
        return self


class KeycloakRealm(Provider[KeycloakRealmParams, OAuthSession]):
    """One realm. What belongs to it carries the same mark as the realm itself."""

    kind = "IdentityProvider"
    vendor = "keycloak"
    params = KeycloakRealmParams
    connection = KeycloakConnection
    docs = "https://www.keycloak.org/docs-api/latest/rest-api/index.html"
    permissions = (
        (
            "realm role create-realm of the realm master: the service account then has every right "
            "on the realms that it creates, and none on others"
        ),
        (
            "for a realm that exists: roles manage-realm, manage-clients and "
            "manage-identity-providers of the client <realm>-realm"
        ),
    )
    proof = "Keycloak 26.7.3 itself; requests are also held against its official description"
    publishes = (
        ("issuer", "Issuer of the tokens."),
        ("discoveryUrl", "The issuer's OpenID Connect document."),
        ("<application>.clientId", "Client id of each application."),
        ("<application>.clientSecret", "Its secret, unless it is public; in the Secret only."),
    )
    quirks = (
        "Deleting the realm erases its users and keys. It is retained by default.",
        (
            "mfa: Required makes users that are created from then on set up a one-time password "
            "at their first login; Optional lets users do so; Off hides it. Users who have one "
            "are asked for it in any case. To demand it of everybody, bind a flow of your own."
        ),
        (
            "The tokens of an application have the claims of the scopes that it declares and no "
            "others: name profile and email where they are needed."
        ),
        (
            "Clients, roles and identity providers that others made in the realm are left alone. "
            "One of a declared name is taken over only together with the realm (policy: Adopt)."
        ),
        (
            "Keycloak reads the endpoints of a connection from its issuer when the connection is "
            "made and when its issuer changes: it must be able to reach the issuer then."
        ),
        "A client secret that was regenerated at Keycloak reaches the outputs at the next visit.",
    )

    async def read(self, id: str) -> Observed[KeycloakRealmParams] | None:
        if (realm := await self._realm(id)) is None:
            return None
        with as_promised():
            return await self._observed(realm)

    async def create(self, want: KeycloakRealmParams, owner: str) -> str:
        # The realm first, with its mark. A realm can be imported with all that belongs to it,
        # but Keycloak then answers 500 where /clients says what is wrong with a client.
        body = {"realm": want.name, "enabled": True, "attributes": {MARK: owner}}
        await self.session.call("POST", "/admin/realms", json={**body, **_settings(want, {})})
        self.session.renew()  # The rights on a realm are in tokens that are newer than it.

        def declared(field: str, *_: str) -> bool:
            return getattr(want, field) not in ([], MFA.OPTIONAL)  # A new realm has these.

        await self._keep_parts(want.name, want, declared, owner, adopting=False)
        return want.name

    async def update(
        self, id: str, want: KeycloakRealmParams, changed: frozenset[str], owner: str
    ) -> None:
        def touched(*names: str) -> bool:
            path = ".".join(names)
            if names[0] == Clients.field and "full_scope_allowed" in changed:
                return True
            return any(c == path or c.startswith(f"{path}.") for c in changed)

        if (realm := await self._realm(id)) is None:
            raise NotFound(f"there is no realm {id}")
        adopting = mark_of(realm) != owner
        await self._keep_parts(id, want, touched, owner, adopting=adopting)
        # The mark comes last: until then, what is being adopted counts as not yet ours.
        if adopting or any(touched(field) for field in REALM):
            # As it was read but for what we change: attributes are replaced as a whole, and some
            # of them hold settings that would fall back to defaults.
            attributes = {**(realm.get("attributes") or {}), MARK: owner}
            body = {**realm, "attributes": attributes, **_settings(want, realm)}
            await self.session.call("PUT", _path(id), json=body)

    async def delete(self, id: str) -> None:
        try:
            await self.session.call("DELETE", _path(id))
        except NotFound:
            return

    async def _realm(self, id: str) -> JSON | None:
        for last in (False, True):
            realm: JSON | None = await self.session.find(_path(id))
            if not isinstance(realm, dict) or "id" in realm:
                return realm
            if not last:
                # A few fields are all that is told to those without rights; a token that is
                # older than the realm, or than our rights on it, has none.
                self.session.renew()
        raise Unauthorized(
            f"the service account may not look into realm {id}: assign to it the roles "
            f"manage-realm, manage-clients and manage-identity-providers of client {id}-realm"
        )

    async def _keep_parts(
        self,
        id: str,
        want: KeycloakRealmParams,
        touched: Callable[..., bool],
        owner: str,
        *,
        adopting: bool,
    ) -> None:
        for part in self._parts(id, full_scope=want.full_scope_allowed):
            if touched(part.field):
                entries = getattr(want, part.field)
                of_part = partial(touched, part.field)
                await part.keep(entries, of_part, owner, adopting=adopting)
        if touched("mfa"):
            path = f"{_path(id)}/{SECOND_FACTOR}"
            action = await self.session.call("GET", path)
            wanted = {
                "enabled": want.mfa is not MFA.OFF,
                "defaultAction": want.mfa is MFA.REQUIRED,
            }
            await self.session.call("PUT", path, json={**action, **wanted})

    def _parts(self, id: str, *, full_scope: bool = False) -> tuple[Part[Any], ...]:
        return (
            Roles(self.session, id),
            Clients(self.session, id, full_scope=full_scope),
            IdentityProviders(self.session, id),
        )

    async def _observed(self, realm: JSON) -> Observed[KeycloakRealmParams]:
        name, mark = realm["realm"], mark_of(realm)
        ours: dict[str, list[JSON]] = {}
        fields: JSON = {}
        for part in self._parts(name):
            items = await part.listed()
            ours[part.field] = [i for i in items if mark is not None and mark_of(i) == mark]
            fields[part.field] = [part.decode(item) for item in ours[part.field]]
        second_factor = await self.session.find(f"{_path(name)}/{SECOND_FACTOR}")
        # Asked, because users may know the server by another name than our endpoint.
        issuer = (await self.session.call("GET", f"/realms/{quote(name, safe='')}{DISCOVERY}"))[
            "issuer"
        ]
        clients = ours[Clients.field]
        full_scope = {client["fullScopeAllowed"] for client in clients}
        if full_scope:
            fields["full_scope_allowed"] = full_scope.pop() if len(full_scope) == 1 else None
        for field in PLAIN:
            fields[field] = realm.get(alias_of(KeycloakRealmParams, field))
        for field in TIMES:
            fields[field] = f"{realm[alias_of(KeycloakRealmParams, field)]}s"
        connector = cast("KeycloakConnection", self.session.connector)
        console = f"{issuer.rsplit('/realms/', 1)[0]}/admin/{quote(connector.realm)}/console"
        return Observed(
            id=name,
            actual=KeycloakRealmParams.seen(
                mfa=_mfa(second_factor or {}),
                password_policy=_password_policy(realm.get("passwordPolicy")),
                **fields,
            ),
            owner=mark,
            outputs={
                "issuer": issuer,
                "discoveryUrl": f"{issuer}{DISCOVERY}",
                **{f"{c['clientId']}.clientId": c["clientId"] for c in clients},
            },
            secrets={
                f"{c['clientId']}.clientSecret": SecretStr(c["secret"])
                for c in clients
                if not c["publicClient"]
            },
            url=f"{console}/#/{quote(name)}",
        )


def _path(realm: str) -> str:
    return f"/admin/realms/{quote(realm, safe='')}"


def _settings(want: KeycloakRealmParams, realm: JSON) -> JSON:
    """What is declared of the realm's own document."""
    settings: JSON = {}
    for field in (*PLAIN, *TIMES):
        if (value := getattr(want, field)) is not None:
            name = alias_of(KeycloakRealmParams, field)
            settings[name] = int(seconds(value)) if field in TIMES else value
    if (policy := want.password_policy) is not None:
        # Policies that cannot be declared here, such as a history, are left as they are.
        parts = _policies(realm.get("passwordPolicy"))
        parts |= {"length": str(policy.min_length)}
        for name, field in POLICIES.items():
            parts.pop(name, None)
            if getattr(policy, field):
                parts[name] = "1"
        settings["passwordPolicy"] = " and ".join(f"{name}({n})" for name, n in parts.items())
    return settings


def _policies(text: str | None) -> dict[str, str]:
    """A policy string such as `length(12) and digits(1)`, by name."""
    split = (part.strip().partition("(") for part in (text or "").split(" and "))
    return {name: argument.removesuffix(")") for name, _, argument in split if name}


def _password_policy(text: str | None) -> PasswordPolicy | None:
    parts = _policies(text)
    if not parts:
        return None
    length = parts.get("length", "0")
    fields: JSON = {field: name in parts for name, field in POLICIES.items()}
    fields["min_length"] = int(length) if length.isdigit() else USUAL_LENGTH
    return PasswordPolicy.model_construct(**fields)


def _mfa(action: JSON) -> MFA:
    if not action.get("enabled"):
        return MFA.OFF
    return MFA.REQUIRED if action.get("defaultAction") else MFA.OPTIONAL
