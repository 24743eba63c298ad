"""What belongs to a realm: roles, clients and identity providers, each with the realm's mark."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Mapping
from typing import Any, ClassVar, Final, Generic, TypeVar
from urllib.parse import quote
from uuid import NAMESPACE_URL, uuid5

from auterity.api.fields import seconds
from auterity.api.identity_provider import Application, Role, UpstreamConnection
from auterity.engine.errors import Conflict, Rejected, Unavailable
from auterity.transport.rest import JSON, RestSession

E = TypeVar("E", Application, Role, UpstreamConnection)

MARK: Final = "auterity-owner"
"""Attribute of realms, roles and clients, and config key of identity providers."""
BUILT_IN_SCOPES: Final = frozenset({"acr", "basic", "roles", "service_account", "web-origins"})
"""Client scopes with Keycloak's own claims: every application has them, declared or not."""
LIFESPAN: Final = "access.token.lifespan"
LOGOUT: Final = "post.logout.redirect.uris"
PKCE: Final = "pkce.code.challenge.method"


def mark_of(thing: JSON) -> str | None:
    """The owner's mark on a realm or on what belongs to one."""
    value = (thing.get("attributes") or thing.get("config") or {}).get(MARK)
    return value[0] if isinstance(value, list) else value


class Part(ABC, Generic[E]):
    """One collection of a realm, which others may also use: only what carries our mark is ours."""

    noun: ClassVar[str]
    field: ClassVar[str]
    """The params' field that declares it."""
    path: ClassVar[str]
    """Below the realm's path."""
    query: ClassVar[Mapping[str, str]] = {}
    key: ClassVar[str]
    """Where an item has its declared name."""
    handle: ClassVar[str]
    """Where an item has the last segment of its own path."""

    def __init__(self, session: RestSession, realm: str) -> None:
        self.session, self.realm = session, realm
        self.base = f"/admin/realms/{quote(realm, safe='')}"

    @abstractmethod
    async def encode(self, entry: E, there: JSON | None, owner: str) -> JSON:
        """The body that creates the item, or turns the one that is there into what is wanted."""

    @abstractmethod
    def decode(self, item: JSON) -> E:
        """What an item tells."""

    async def wrote(self, entry: E, there: JSON | None) -> None:
        """Whatever an item's own body cannot change."""

    async def listed(self) -> list[JSON]:
        """Every item, whoever made it."""
        items = await self.session.call("GET", f"{self.base}{self.path}", params=self.query)
        if not isinstance(items, list):
            raise Unavailable("the vendor's answer is not the list that its API promises")
        return items

    async def keep(
        self, entries: Collection[E], touched: Callable[[str], bool], owner: str, *, adopting: bool
    ) -> None:
        """Make the touched items as the entries say; delete those of ours without an entry.

        Raises Conflict for an item of that name that is not ours, if not adopting.
        """
        call = self.session.call
        found = {item[self.key]: item for item in await self.listed()}
        wanted = {entry.name: entry for entry in entries}
        for name, entry in wanted.items():
            if not touched(name):
                continue
            there = found.get(name)
            mark = owner if there is None else mark_of(there)
            if mark != owner and not (adopting and mark is None):
                raise Conflict(
                    f"realm {self.realm} has {self.noun} {name!r} that is not ours: rename or "
                    f"delete it, or write {owner} into its {MARK}"
                )
            body = await self.encode(entry, there, owner)
            if there is None:
                await call("POST", f"{self.base}{self.path}", json=body)
            else:
                await call("PUT", self._item(there), json=body)
            await self.wrote(entry, there)
        for name, there in found.items():
            if name not in wanted and mark_of(there) == owner and touched(name):
                await call("DELETE", self._item(there))

    def _item(self, there: JSON) -> str:
        return f"{self.base}{self.path}/{quote(there[self.handle], safe='')}"


class Roles(Part[Role]):
    """Realm roles."""

    noun = "a role"
    field = "roles"
    path = "/roles"
    query: ClassVar[Mapping[str, str]] = {"briefRepresentation": "false"}
    key = "name"
    handle = "name"

    async def encode(self, entry: Role, there: JSON | None, owner: str) -> JSON:
        attributes = (there or {}).get("attributes") or {}
        return {
            **(there or {}),
            "name": entry.name,
            "description": entry.description,
            "attributes": {**attributes, MARK: [owner]},
        }

    def decode(self, item: JSON) -> Role:
        return Role.model_construct(name=item["name"], description=item.get("description") or "")


def _flows(*, public: bool = False, sign_in: bool = True, origins: tuple[str, ...] = ()) -> JSON:
    return {
        "publicClient": public,
        "standardFlowEnabled": sign_in,
        "serviceAccountsEnabled": not sign_in,
        "implicitFlowEnabled": False,
        "directAccessGrantsEnabled": False,
        "webOrigins": list(origins),
    }


TYPES: Final[Mapping[str, JSON]] = {
    "Web": _flows(),
    # + lets browsers call the token endpoint from the origins of the redirect URIs.
    "SinglePage": _flows(public=True, origins=("+",)),
    "Native": _flows(public=True),
    "Machine": _flows(sign_in=False),
}
"""What each type of application is for Keycloak; whoever changes any of it changes the type."""


class Clients(Part[Application]):
    """OAuth clients."""

    noun = "a client"
    field = "applications"
    path = "/clients"
    key = "clientId"
    handle = "id"

    def __init__(self, session: RestSession, realm: str, *, full_scope: bool = False) -> None:
        super().__init__(session, realm)
        self.full_scope = full_scope
        self._scopes: dict[str, str] | None = None

    async def encode(self, entry: Application, there: JSON | None, owner: str) -> JSON:
        await self._scope_ids(entry)
        attributes = {
            MARK: owner,
            # Left out it would be +, the redirect URIs.
            LOGOUT: "##".join(entry.logout_uris) or "-",
            PKCE: "S256" if TYPES[entry.type]["standardFlowEnabled"] else "",
        }
        if entry.access_token_lifetime is not None:
            attributes[LIFESPAN] = str(int(seconds(entry.access_token_lifetime)))
        body: JSON = {
            **TYPES[entry.type],
            "clientId": entry.name,
            "protocol": "openid-connect",
            "enabled": True,
            "redirectUris": entry.redirect_uris,
            "fullScopeAllowed": self.full_scope,
            "attributes": attributes,
        }
        if there is None:
            body["id"] = client_uuid(self.realm, entry.name)
            # Only at creation: an update ignores them without a word.
            body["defaultClientScopes"] = sorted(BUILT_IN_SCOPES - {"service_account"})
            body["optionalClientScopes"] = entry.scopes
        return body

    async def wrote(self, entry: Application, there: JSON | None) -> None:
        if there is None:
            return
        ids, wanted = await self._scope_ids(entry), {*entry.scopes}
        has = {kind: _declared(there, kind) for kind in ("default", "optional")}
        for kind, names in has.items():
            for name in sorted(names - wanted):
                path = f"{self._item(there)}/{kind}-client-scopes/{ids[name]}"
                await self.session.call("DELETE", path)
        for name in sorted(wanted - has["default"] - has["optional"]):
            path = f"{self._item(there)}/optional-client-scopes/{ids[name]}"
            await self.session.call("PUT", path)

    def decode(self, item: JSON) -> Application:
        attributes = item["attributes"]
        redirects = sorted(item.get("redirectUris") or ())
        logout, lifespan = attributes.get(LOGOUT, "-"), attributes.get(LIFESPAN)
        fields: dict[str, Any] = {
            "name": item["clientId"],
            "type": next((t for t in TYPES if _is(t, item)), None),
            "redirect_uris": redirects,
            "logout_uris": redirects if logout == "+" else sorted({*logout.split("##")} - {"-"}),
            "scopes": sorted(_declared(item, "default") | _declared(item, "optional")),
            "access_token_lifetime": f"{lifespan}s" if lifespan else None,
        }
        return Application.model_construct(**fields)

    async def _scope_ids(self, entry: Application) -> dict[str, str]:
        """Client scopes of the realm by name; Keycloak silently leaves out those it lacks."""
        if self._scopes is None:
            scopes = await self.session.call("GET", f"{self.base}/client-scopes")
            self._scopes = {scope["name"]: scope["id"] for scope in scopes}
        if unknown := sorted({*entry.scopes} - {*self._scopes}):
            raise Rejected(
                f"realm {self.realm} has no client scope {', '.join(unknown)}, which application "
                f"{entry.name} is to ask for; it has {', '.join(sorted(self._scopes))}"
            )
        return self._scopes


def client_uuid(realm: str, name: str) -> str:
    """A client's own id: the same each time, so that it cannot be created twice.

    It has to be unique among all realms of a server.
    """
    return str(uuid5(NAMESPACE_URL, f"keycloak:{realm}/{name}"))


def _declared(client: JSON, kind: str) -> set[str]:
    return {*(client.get(f"{kind}ClientScopes") or ())} - BUILT_IN_SCOPES


def _is(type_: str, client: JSON) -> bool:
    flows = TYPES[type_]
    pkce = client["attributes"].get(PKCE) == "S256"
    return all(client.get(k) == v for k, v in flows.items()) and (
        pkce or not flows["standardFlowEnabled"]
    )


class IdentityProviders(Part[UpstreamConnection]):
    """OpenID Connect identity providers that users may sign in with."""

    noun = "an identity provider"
    field = "connections"
    path = "/identity-provider/instances"
    key = "alias"
    handle = "alias"
    first: ClassVar[Mapping[str, str]] = {
        "clientAuthMethod": "client_secret_post",
        "pkceEnabled": "true",
        "pkceMethod": "S256",
    }
    """What a new one starts with, and an administrator may change."""

    async def encode(self, entry: UpstreamConnection, there: JSON | None, owner: str) -> JSON:
        config = {**self.first, **((there or {}).get("config") or {})}
        if config.get("issuer") != entry.issuer:
            config |= await self._discover(entry)
        config |= {
            MARK: owner,
            "issuer": entry.issuer,
            "clientId": entry.client_id,
            "clientSecret": entry.client_secret.reveal(),
            "defaultScope": " ".join(entry.scopes),
        }
        # In full: what an update leaves out is removed, credentials included.
        return {
            **(there or {}),
            "alias": entry.name,
            "providerId": "oidc",
            "enabled": True,
            "config": config,
        }

    def decode(self, item: JSON) -> UpstreamConnection:
        config = item["config"]
        # The secret is masked: that it was written is remembered by the engine.
        fields: dict[str, Any] = {
            "name": item["alias"],
            "issuer": config.get("issuer"),
            "client_id": config.get("clientId"),
            "scopes": config.get("defaultScope", "").split(),
        }
        return UpstreamConnection.model_construct({*fields}, **fields)

    async def _discover(self, entry: UpstreamConnection) -> dict[str, str]:
        url = f"{entry.issuer.rstrip('/')}/.well-known/openid-configuration"
        body = {"providerId": "oidc", "fromUrl": url}
        try:
            config: dict[str, str] = await self.session.call(
                "POST", f"{self.base}/identity-provider/import-config", json=body
            )
        except Unavailable as failure:
            # Keycloak answers 500, and nothing more, if it cannot read the document.
            raise Unavailable(
                f"{failure.message}; was it that Keycloak cannot read {url}?"
            ) from failure
        if (told := config.get("issuer")) != entry.issuer:
            raise Rejected(
                f"the issuer {entry.issuer} of connection {entry.name} calls itself {told}: "
                "tokens would be refused; declare it in those very words"
            )
        return config
