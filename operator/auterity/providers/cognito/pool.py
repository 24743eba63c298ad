"""User pools of Amazon Cognito."""

import re
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final

from pydantic import SecretStr

from auterity.api import GROUP
from auterity.api.identity_provider import MFA, Role, UpstreamConnection
from auterity.engine.contract import Observed, Provider
from auterity.engine.errors import Conflict, NotFound
from auterity.providers.cognito.params import CognitoUserPoolParams
from auterity.providers.cognito.settings import (
    LIFETIMES,
    MARK,
    MFA_WORDS,
    POOL_FIELDS,
    WITH_SECRET,
    application_of,
    client_of,
    connection_of,
    identifier_of,
    lifetimes_of,
    marked,
    overlay,
    server_of,
    settings_of,
    unmarked,
)
from auterity.transport.aws import JSON, OWNER_TAG, AwsConnection, AwsSession

MOST: Final = 60
"""Items on a page."""
Step = Callable[[JSON, CognitoUserPoolParams, frozenset[str]], Awaitable[None]]
POOL_NAME: Final = re.compile(r"[\w\s+=,.@-]{1,128}")
DOMAIN: Final = re.compile(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?")
RESERVED: Final = ("aws", "amazon", "cognito")
"""In a domain."""


class CognitoUserPool(Provider[CognitoUserPoolParams, AwsSession]):
    """One user pool and what is declared in it.

    Every update of Cognito's replaces all settings, so each begins with what is there.
    """

    kind = "IdentityProvider"
    vendor = "cognito"
    params = CognitoUserPoolParams
    connection = AwsConnection
    docs = (
        "https://docs.aws.amazon.com/cognito-user-identity-pools/latest/APIReference/Welcome.html"
    )
    permissions = (
        "cognito-idp:ListUserPools",
        "cognito-idp:CreateUserPool",
        "cognito-idp:DescribeUserPool",
        "cognito-idp:UpdateUserPool",
        "cognito-idp:DeleteUserPool",
        "cognito-idp:TagResource",
        "cognito-idp:UntagResource",
        "cognito-idp:GetUserPoolMfaConfig",
        "cognito-idp:SetUserPoolMfaConfig",
        "cognito-idp:ListUserPoolClients",
        "cognito-idp:CreateUserPoolClient",
        "cognito-idp:DescribeUserPoolClient",
        "cognito-idp:UpdateUserPoolClient",
        "cognito-idp:DeleteUserPoolClient",
        "cognito-idp:ListGroups",
        "cognito-idp:CreateGroup",
        "cognito-idp:UpdateGroup",
        "cognito-idp:DeleteGroup",
        "cognito-idp:ListIdentityProviders",
        "cognito-idp:CreateIdentityProvider",
        "cognito-idp:DescribeIdentityProvider",
        "cognito-idp:UpdateIdentityProvider",
        "cognito-idp:DeleteIdentityProvider",
        "cognito-idp:ListResourceServers",
        "cognito-idp:CreateResourceServer",
        "cognito-idp:UpdateResourceServer",
        "cognito-idp:DeleteResourceServer",
        "cognito-idp:CreateUserPoolDomain",
        "cognito-idp:DeleteUserPoolDomain",
    )
    proof = (
        "against a stateful fake that holds requests and its own answers against botocore's "
        "service model and checks signatures; and against moto 5.2.5"
    )
    publishes = (
        ("issuer", "Issuer of the tokens."),
        ("discoveryUrl", "The issuer's OpenID Connect document."),
        ("userPoolId", "Id of the user pool."),
        ("userPoolArn", "Its ARN."),
        ("region", "Its region."),
        ("domainUrl", "Where the login pages are, if it has a domain."),
        ("<application>.clientId", "Client id of each application."),
        ("<application>.clientSecret", "Its secret, if it has one; in the Secret only."),
    )
    quirks = (
        "Deleting the pool deletes its users; it is retained by default.",
        (
            "Pool names are not unique at Cognito, but here they are: two pools of one name in an "
            "account and region are a conflict."
        ),
        (
            f"What is ours in a pool shows by '{MARK}': at the end of app clients' and resource "
            "servers' names and of groups' descriptions, and in identity providers' identifiers. "
            "All else in the pool is left alone, but what has a declared name is taken over."
        ),
        (
            "An application that gets or loses its secret by a change of type is made anew, with "
            "another client id."
        ),
        (
            "A second factor is a one-time password from an app. Requiring it locks out users who "
            "have none yet."
        ),
        "Every declared connection can be used by every application but Machine ones.",
        (
            "An application without redirectUris and scopes has no OAuth flows: it signs in by "
            "Cognito's own API. A Machine application needs scopes of a resource server."
        ),
    )

    @classmethod
    def objections(cls, want: CognitoUserPoolParams) -> Mapping[str, str]:
        found = {}
        if not POOL_NAME.fullmatch(want.name):
            found["name"] = "Cognito takes 1 to 128 letters, digits, spaces and _+=,.@-"
        if want.domain is not None and not DOMAIN.fullmatch(want.domain):
            found["domain"] = "Cognito takes lower-case letters, digits and inner hyphens"
        elif want.domain is not None and any(word in want.domain for word in RESERVED):
            found["domain"] = f"Cognito keeps the words {', '.join(RESERVED)} for itself"
        return found

    async def locate(self, want: CognitoUserPoolParams) -> str | None:
        pools = await self._all("ListUserPools", "UserPools", MaxResults=MOST)
        found = sorted(pool["Id"] for pool in pools if pool["Name"] == want.name)
        if len(found) > 1:
            raise Conflict(
                f"several user pools are called {want.name} ({', '.join(found[:5])}): rename all "
                "but one, or choose another spec.externalName"
            )
        return next(iter(found), None)

    async def read(self, id: str) -> Observed[CognitoUserPoolParams] | None:
        try:
            pool = (await self._call("DescribeUserPool", UserPoolId=id))["UserPool"]
        except NotFound:
            return None
        mfa = await self._call("GetUserPoolMfaConfig", UserPoolId=id)
        clients = {
            name: await self._client(id, found)
            for name, found in (await self._clients(id)).items()
            if found["ClientName"] == marked(name)
        }
        connections = [
            connection_of(told, clients.values())
            for name in await self._connections(id)
            if identifier_of(name) in (told := await self._connection(id, name))["IdpIdentifiers"]
        ]
        roles = await self._all("ListGroups", "Groups", UserPoolId=id, Limit=MOST)
        servers = await self._servers(id)
        tags = pool.get("UserPoolTags", {})
        return Observed(
            id=id,
            actual=CognitoUserPoolParams.seen(
                mfa=next(m for m, word in MFA_WORDS.items() if word == mfa["MfaConfiguration"]),
                applications=[application_of(name, c) for name, c in clients.items()],
                connections=connections,
                roles=[
                    Role.model_construct(
                        name=role["GroupName"], description=unmarked(role["Description"])
                    )
                    for role in roles
                    if role.get("Description", "").endswith(MARK)
                ],
                resource_servers=[server_of(s) for s in servers if s["Name"].endswith(MARK)],
                domain=pool.get("Domain"),
                tags={k: v for k, v in tags.items() if not k.startswith(("aws:", f"{GROUP}/"))},
                **settings_of(pool),
                **lifetimes_of(clients.values()),
            ),
            owner=tags.get(OWNER_TAG),
            outputs=self._outputs(pool, clients),
            secrets={
                f"{name}.clientSecret": SecretStr(client["ClientSecret"])
                for name, client in clients.items()
                if client.get("ClientSecret")
            },
            url=f"https://{self.session.region}.console.aws.amazon.com/cognito/v2/idp/user-pools/{id}",
        )

    async def create(self, want: CognitoUserPoolParams, owner: str) -> str:
        # The pool comes first and marked: whatever is not in it yet is found missing by a read.
        identity: JSON = {}
        if want.username_attributes is not None:
            identity["UsernameAttributes"] = sorted(want.username_attributes)
        tags = {**(want.tags or {}), OWNER_TAG: owner}
        answer = await self._call(
            "CreateUserPool",
            PoolName=want.name,
            UserPoolTags=tags,
            **identity,
            **overlay({}, want, POOL_FIELDS),
        )
        pool = answer["UserPool"]
        await self._apply(pool, want, frozenset(type(want).model_fields) - {*POOL_FIELDS})
        return str(pool["Id"])

    async def update(
        self, id: str, want: CognitoUserPoolParams, changed: frozenset[str], owner: str
    ) -> None:
        pool = (await self._call("DescribeUserPool", UserPoolId=id))["UserPool"]
        tags, arn = {**(want.tags or {}), OWNER_TAG: owner}, pool["Arn"]
        await self._call("TagResource", ResourceArn=arn, Tags=tags)
        named = {path.partition(".")[2] for path in changed if path.startswith("tags.")}
        if gone := sorted(named - set(tags)):
            await self._call("UntagResource", ResourceArn=arn, TagKeys=gone)
        if settings := [field for field in POOL_FIELDS if _touched(changed, field)]:
            pool = (await self._call("DescribeUserPool", UserPoolId=id))["UserPool"]
            await self._call("UpdateUserPool", UserPoolId=id, **overlay(pool, want, settings))
        await self._apply(pool, want, changed)

    async def delete(self, id: str) -> None:
        try:
            pool = (await self._call("DescribeUserPool", UserPoolId=id))["UserPool"]
            for domain in filter(None, (pool.get("Domain"), pool.get("CustomDomain"))):
                await self._call("DeleteUserPoolDomain", UserPoolId=id, Domain=domain)
            if pool.get("DeletionProtection") == "ACTIVE":
                unprotected = {**overlay(pool), "DeletionProtection": "INACTIVE"}
                await self._call("UpdateUserPool", UserPoolId=id, **unprotected)
            await self._call("DeleteUserPool", UserPoolId=id)
        except NotFound:
            return

    async def _apply(
        self, pool: JSON, want: CognitoUserPoolParams, changed: frozenset[str]
    ) -> None:
        """Make everything in the pool as wanted, where it is touched.

        What is referred to comes before what refers to it, and goes after it.
        """
        steps: tuple[tuple[tuple[str, ...], Step], ...] = (
            (("mfa",), self._set_mfa),
            (("domain",), self._keep_domain),
            (("roles",), self._keep_roles),
            (("resource_servers",), self._keep_servers),
            (("connections",), self._keep_connections),
            (("applications", "connections", *LIFETIMES), self._keep_clients),
            (("connections",), self._drop_connections),
            (("resource_servers",), self._drop_servers),
        )
        for fields, step in steps:
            if any(_touched(changed, field) for field in fields):
                await step(pool, want, changed)

    async def _set_mfa(self, pool: JSON, want: CognitoUserPoolParams, _: frozenset[str]) -> None:
        now = await self._call("GetUserPoolMfaConfig", UserPoolId=pool["Id"])
        kept = {k: v for k, v in now.items() if k.endswith("Configuration")}
        if want.mfa is not MFA.OFF:
            kept["SoftwareTokenMfaConfiguration"] = {"Enabled": True}
        kept["MfaConfiguration"] = MFA_WORDS[want.mfa]
        await self._call("SetUserPoolMfaConfig", UserPoolId=pool["Id"], **kept)

    async def _keep_domain(
        self, pool: JSON, want: CognitoUserPoolParams, _: frozenset[str]
    ) -> None:
        id, now = pool["Id"], pool.get("Domain")
        if want.domain in (None, now):
            return
        if now:
            await self._call("DeleteUserPoolDomain", UserPoolId=id, Domain=now)
        await self._call("CreateUserPoolDomain", UserPoolId=id, Domain=want.domain)

    async def _keep_roles(
        self, pool: JSON, want: CognitoUserPoolParams, changed: frozenset[str]
    ) -> None:
        id = pool["Id"]
        groups = await self._all("ListGroups", "Groups", UserPoolId=id, Limit=MOST)
        found, wanted = {g["GroupName"]: g for g in groups}, {r.name: r for r in want.roles}
        for name, role in wanted.items():
            if not _touched(changed, "roles", name):
                continue
            group: JSON = {"GroupName": name, "Description": marked(role.description)}
            if (there := found.get(name)) is None:
                await self._call("CreateGroup", UserPoolId=id, **group)
            else:
                kept = {k: there[k] for k in ("RoleArn", "Precedence") if k in there}
                await self._call("UpdateGroup", UserPoolId=id, **kept, **group)
        for name, there in found.items():
            ours = there.get("Description", "").endswith(MARK)
            if ours and name not in wanted and f"roles.{name}" in changed:
                await self._drop("DeleteGroup", UserPoolId=id, GroupName=name)

    async def _keep_servers(
        self, pool: JSON, want: CognitoUserPoolParams, changed: frozenset[str]
    ) -> None:
        id = pool["Id"]
        found = {server["Identifier"] for server in await self._servers(id)}
        for server in want.resource_servers:
            if _touched(changed, "resource_servers", server.identifier):
                operation = "Update" if server.identifier in found else "Create"
                await self._call(
                    f"{operation}ResourceServer",
                    UserPoolId=id,
                    Identifier=server.identifier,
                    Name=MARK,
                    Scopes=[
                        {"ScopeName": name, "ScopeDescription": meaning}
                        for name, meaning in server.scopes.items()
                    ],
                )

    async def _drop_servers(
        self, pool: JSON, want: CognitoUserPoolParams, changed: frozenset[str]
    ) -> None:
        id, wanted = pool["Id"], {server.identifier for server in want.resource_servers}
        for server in await self._servers(id):
            name = server["Identifier"]
            ours = server["Name"].endswith(MARK) and name not in wanted
            if ours and f"resource_servers.{name}" in changed:
                await self._drop("DeleteResourceServer", UserPoolId=id, Identifier=name)

    async def _keep_connections(
        self, pool: JSON, want: CognitoUserPoolParams, changed: frozenset[str]
    ) -> None:
        for connection in want.connections:
            if _touched(changed, "connections", connection.name):
                await self._keep_connection(pool["Id"], connection)

    async def _keep_connection(self, id: str, want: UpstreamConnection) -> None:
        asked: JSON = {"UserPoolId": id, "ProviderName": want.name}
        details = {
            "client_id": want.client_id,
            "client_secret": want.client_secret.reveal(),
            "authorize_scopes": " ".join(want.scopes),
            "oidc_issuer": want.issuer,
        }
        identifier = identifier_of(want.name)
        if want.name not in await self._connections(id):
            details["attributes_request_method"] = "GET"
            await self._call(
                "CreateIdentityProvider",
                **asked,
                ProviderType="OIDC",
                ProviderDetails=details,
                IdpIdentifiers=[identifier],
            )
            return
        now = await self._connection(id, want.name)
        # The endpoints that Cognito has found at the issuer, it finds anew.
        kept = {k: v for k, v in now["ProviderDetails"].items() if "_url" not in k}
        for name in ("AttributeMapping", "AcrMapping"):
            if name in now:
                asked[name] = now[name]
        await self._call(
            "UpdateIdentityProvider",
            **asked,
            ProviderDetails={"attributes_request_method": "GET", **kept, **details},
            IdpIdentifiers=sorted({*now["IdpIdentifiers"], identifier}),
        )

    async def _drop_connections(
        self, pool: JSON, want: CognitoUserPoolParams, changed: frozenset[str]
    ) -> None:
        wanted = {connection.name for connection in want.connections}
        for name in await self._connections(pool["Id"]):
            if name not in wanted and f"connections.{name}" in changed:
                await self._drop("DeleteIdentityProvider", UserPoolId=pool["Id"], ProviderName=name)

    async def _keep_clients(
        self, pool: JSON, want: CognitoUserPoolParams, changed: frozenset[str]
    ) -> None:
        id, everywhere = pool["Id"], any(_of_every_client(path) for path in changed)
        found, wanted = await self._clients(id), {app.name: app for app in want.applications}
        for name, app in wanted.items():
            if not everywhere and not _touched(changed, "applications", name):
                continue
            there = await self._client(id, found[name]) if name in found else None
            if there is not None and bool(there.get("ClientSecret")) != (app.type in WITH_SECRET):
                await self._drop("DeleteUserPoolClient", UserPoolId=id, ClientId=there["ClientId"])
                there = None
            client = client_of(app, want, there or {})
            if there is None:
                secret = app.type in WITH_SECRET
                await self._call(
                    "CreateUserPoolClient", UserPoolId=id, GenerateSecret=secret, **client
                )
            else:
                await self._call("UpdateUserPoolClient", **{**client, "UserPoolId": id})
        for name, there in found.items():
            ours = there["ClientName"] == marked(name) and name not in wanted
            if ours and f"applications.{name}" in changed:
                await self._drop("DeleteUserPoolClient", UserPoolId=id, ClientId=there["ClientId"])

    def _outputs(self, pool: JSON, clients: dict[str, JSON]) -> dict[str, str]:
        region, id, domain = self.session.region, pool["Id"], pool.get("Domain")
        host = "amazonaws.com.cn" if pool["Arn"].startswith("arn:aws-cn:") else "amazonaws.com"
        issuer = f"https://cognito-idp.{region}.{host}/{id}"
        outputs = {
            "issuer": issuer,
            "discoveryUrl": f"{issuer}/.well-known/openid-configuration",
            "userPoolId": id,
            "userPoolArn": pool["Arn"],
            "region": region,
        }
        if domain:
            outputs["domainUrl"] = f"https://{domain}.auth.{region}.amazoncognito.com"
        return outputs | {f"{name}.clientId": c["ClientId"] for name, c in clients.items()}

    async def _clients(self, id: str) -> dict[str, JSON]:
        """App clients by the application's name; of two that could be meant, the marked one."""
        listed = await self._all(
            "ListUserPoolClients", "UserPoolClients", UserPoolId=id, MaxResults=MOST
        )
        unmarked_first = sorted(
            listed, key=lambda c: (c["ClientName"].endswith(MARK), c["ClientId"])
        )
        return {unmarked(client["ClientName"]): client for client in unmarked_first}

    async def _client(self, id: str, client: JSON) -> JSON:
        answer = await self._call(
            "DescribeUserPoolClient", UserPoolId=id, ClientId=client["ClientId"]
        )
        described: JSON = answer["UserPoolClient"]
        return described

    async def _connections(self, id: str) -> list[str]:
        listed = await self._all(
            "ListIdentityProviders", "Providers", UserPoolId=id, MaxResults=MOST
        )
        return [told["ProviderName"] for told in listed if told["ProviderType"] == "OIDC"]

    async def _connection(self, id: str, name: str) -> JSON:
        answer = await self._call("DescribeIdentityProvider", UserPoolId=id, ProviderName=name)
        return {"IdpIdentifiers": [], **answer["IdentityProvider"]}

    async def _servers(self, id: str) -> list[JSON]:
        return await self._all(
            "ListResourceServers", "ResourceServers", UserPoolId=id, MaxResults=50
        )

    async def _drop(self, operation: str, **parameters: Any) -> None:
        try:
            await self._call(operation, **parameters)
        except NotFound:
            return

    async def _call(self, operation: str, **parameters: Any) -> JSON:
        return await self.session.call("cognito-idp", operation, **parameters)

    async def _all(self, operation: str, items: str, **parameters: Any) -> list[JSON]:
        return await self.session.pages("cognito-idp", operation, items, **parameters)


def _of_every_client(path: str) -> bool:
    """Whether a change concerns all app clients, and not only one."""
    field, _, rest = path.partition(".")
    if field == "connections":
        # One that is new, gone, or not in every client yet: the latter is told as its issuer.
        return "." not in rest or rest.endswith(".issuer")
    return field in LIFETIMES


def _touched(changed: frozenset[str], *path: str) -> bool:
    """Whether a change is at a field, below it, or of all that it is part of."""
    here = ".".join(path)
    return any(c == here or c.startswith(f"{here}.") or here.startswith(f"{c}.") for c in changed)
