"""Cognito user pools, as of 2026-11.

What it knows beyond the service model: every update resets what it leaves out, names of pools are
not unique, a protected pool and one with a domain cannot be deleted, scopes and identity providers
of clients must exist, lists have pages and no order. The texts of refusals are those seen from AWS.
"""

# ruff: noqa: N802, N803, FBT001, FBT002 - operations and members are called as AWS calls them

import json
from copy import deepcopy
from typing import Any, ClassVar

from auterity.providers.cognito.pool import CognitoUserPool
from tests.conformance.vendor import Edit, Refusal
from tests.fakes.aws import ACCOUNT, JSON, REGION, AwsVendor, Refused

PAGE = 2
STANDARD_SCOPES = {"openid", "email", "phone", "profile", "aws.cognito.signin.user.admin"}
POOL_DEFAULTS: JSON = {
    "Policies": {
        "PasswordPolicy": {
            "MinimumLength": 8,
            "RequireUppercase": True,
            "RequireLowercase": True,
            "RequireNumbers": True,
            "RequireSymbols": True,
            "TemporaryPasswordValidityDays": 7,
        },
        "SignInPolicy": {"AllowedFirstAuthFactors": ["PASSWORD"]},
    },
    "DeletionProtection": "INACTIVE",
    "MfaConfiguration": "OFF",
    "UserPoolTier": "ESSENTIALS",
    "LambdaConfig": {},
    "AdminCreateUserConfig": {"AllowAdminCreateUserOnly": False, "UnusedAccountValidityDays": 7},
    "VerificationMessageTemplate": {"DefaultEmailOption": "CONFIRM_WITH_CODE"},
    "EmailConfiguration": {"EmailSendingAccount": "COGNITO_DEFAULT"},
    "UserPoolTags": {},
}
CLIENT_DEFAULTS: JSON = {
    "RefreshTokenValidity": 30,
    "TokenValidityUnits": {},
    "EnableTokenRevocation": True,
    "PreventUserExistenceErrors": "LEGACY",
    "AuthSessionValidity": 3,
    "AllowedOAuthFlowsUserPoolClient": False,
    "EnablePropagateAdditionalUserContextData": False,
}
SECONDS = {"seconds": 1, "minutes": 60, "hours": 3600, "days": 86400}


class Cognito:
    """User pools and everything in them."""

    def __init__(self) -> None:
        self.pools: dict[str, JSON] = {}
        self.mfa: dict[str, JSON] = {}
        self.clients: dict[tuple[str, str], JSON] = {}
        self.groups: dict[tuple[str, str], JSON] = {}
        self.providers: dict[tuple[str, str], JSON] = {}
        self.servers: dict[tuple[str, str], JSON] = {}
        self.domains: dict[str, str] = {}
        self.made = 0

    def held(self) -> list[dict[Any, Any]]:
        return [
            *(self.pools, self.mfa, self.clients, self.groups),
            *(self.providers, self.servers, self.domains),
        ]

    def CreateUserPool(self, PoolName: str, **settings: Any) -> JSON:
        if settings.get("MfaConfiguration", "OFF") != "OFF":
            raise _invalid("SMS configuration is required to turn MFA on")
        self.made += 1
        id = f"{REGION}_Pool{self.made:05}"
        pool = self.pools[id] = {
            **_settings(settings),
            "Id": id,
            "Name": PoolName,
            "Arn": f"arn:aws:cognito-idp:{REGION}:{ACCOUNT}:userpool/{id}",
            "CreationDate": 1_700_000_000,
            "LastModifiedDate": 1_700_000_000,
            "EstimatedNumberOfUsers": 0,
            "SchemaAttributes": [{"Name": "sub", "AttributeDataType": "String", "Required": True}],
            "UsernameConfiguration": {"CaseSensitive": False},
        }
        self.mfa[id] = {"MfaConfiguration": "OFF"}
        return {"UserPool": deepcopy(pool)}

    def DescribeUserPool(self, UserPoolId: str) -> JSON:
        pool = deepcopy(self._pool(UserPoolId))
        pool["MfaConfiguration"] = self.mfa[UserPoolId]["MfaConfiguration"]
        template = pool["VerificationMessageTemplate"]
        if "EmailMessage" in template:
            pool["EmailVerificationMessage"] = template["EmailMessage"]
        for domain, of in self.domains.items():
            if of == UserPoolId:
                pool["Domain"] = domain
        return {"UserPool": pool}

    def UpdateUserPool(self, UserPoolId: str, **settings: Any) -> JSON:
        pool = self._pool(UserPoolId)
        admin = settings.get("AdminCreateUserConfig", {})
        policy = settings.get("Policies", {}).get("PasswordPolicy", {})
        if {"UnusedAccountValidityDays", "TemporaryPasswordValidityDays"} <= {*admin, *policy}:
            raise _invalid(
                "Please use TemporaryPasswordValidityDays in PasswordPolicy instead of "
                "UnusedAccountValidityDays"
            )
        update = settings.get("UserAttributeUpdateSettings", {})
        required = update.get("AttributesRequireVerificationBeforeUpdate", [])
        if not {*required} <= {*settings.get("AutoVerifiedAttributes", [])}:
            raise _invalid("AttributesRequireVerificationBeforeUpdate must be auto-verified")
        triggers = settings.get("LambdaConfig", {})
        version = triggers.get("PreTokenGenerationConfig", {}).get("LambdaArn")
        if version and triggers.get("PreTokenGeneration", version) != version:
            raise _invalid("PreTokenGeneration and PreTokenGenerationConfig do not agree")
        mfa = self.mfa[UserPoolId]
        wanted = settings.get("MfaConfiguration", "OFF")
        if wanted != "OFF" and not mfa.get("SoftwareTokenMfaConfiguration", {}).get("Enabled"):
            raise _invalid("SMS configuration is required to turn MFA on")
        mfa["MfaConfiguration"] = wanted
        kept = (
            *("Id", "Name", "Arn", "CreationDate", "LastModifiedDate", "SchemaAttributes"),
            *("EstimatedNumberOfUsers", "UsernameConfiguration", "UsernameAttributes"),
        )
        self.pools[UserPoolId] = {
            **_settings(settings),
            **{key: pool[key] for key in kept if key in pool},
        }
        return {}

    def DeleteUserPool(self, UserPoolId: str) -> None:
        pool = self._pool(UserPoolId)
        if pool["DeletionProtection"] == "ACTIVE":
            raise _invalid(
                "The user pool cannot be deleted because deletion protection is activated. "
                "Deletion protection must be inactivated first."
            )
        if UserPoolId in self.domains.values():
            raise _invalid(
                "User pool cannot be deleted. It has a domain configured that should be deleted "
                "first."
            )
        del self.pools[UserPoolId], self.mfa[UserPoolId]
        for parts in (self.clients, self.groups, self.providers, self.servers):
            for key in [key for key in parts if key[0] == UserPoolId]:
                del parts[key]

    def ListUserPools(self, MaxResults: int, NextToken: str = "0") -> JSON:
        listed = [{k: p[k] for k in ("Id", "Name")} for p in self.pools.values()]
        return _page("UserPools", listed, NextToken)

    def TagResource(self, ResourceArn: str, Tags: dict[str, str]) -> JSON:
        self._by_arn(ResourceArn)["UserPoolTags"] |= Tags
        return {}

    def UntagResource(self, ResourceArn: str, TagKeys: list[str]) -> JSON:
        for key in TagKeys:
            self._by_arn(ResourceArn)["UserPoolTags"].pop(key, None)
        return {}

    def GetUserPoolMfaConfig(self, UserPoolId: str) -> JSON:
        self._pool(UserPoolId)
        return deepcopy(self.mfa[UserPoolId])

    def SetUserPoolMfaConfig(self, UserPoolId: str, **config: Any) -> JSON:
        self._pool(UserPoolId)
        factors = [v for k, v in config.items() if k != "MfaConfiguration"]
        if config.get("MfaConfiguration", "OFF") != "OFF" and not factors:
            raise _invalid("Invalid MFA configuration given, can't turn on MFA without a factor")
        self.mfa[UserPoolId] = {"MfaConfiguration": "OFF", **config}
        return deepcopy(self.mfa[UserPoolId])

    def CreateUserPoolClient(
        self,
        UserPoolId: str,
        GenerateSecret: bool = False,
        **client: Any,
    ) -> JSON:
        self._pool(UserPoolId)
        self.made += 1
        secret = {"ClientSecret": f"clientsecret{self.made:020}"} if GenerateSecret else {}
        self._check_client(UserPoolId, client, secret=bool(secret))
        id = f"client{self.made:020}"
        made = {**CLIENT_DEFAULTS, **client, **secret, "UserPoolId": UserPoolId, "ClientId": id}
        self.clients[UserPoolId, id] = {**made, "CreationDate": 1_700_000_000 + self.made}
        return {"UserPoolClient": deepcopy(self.clients[UserPoolId, id])}

    def DescribeUserPoolClient(self, UserPoolId: str, ClientId: str) -> JSON:
        client = deepcopy(self._part("client", self.clients, UserPoolId, ClientId))
        for key in ("CallbackURLs", "LogoutURLs", "AllowedOAuthScopes", "ExplicitAuthFlows"):
            if key in client:
                client[key].reverse()
        return {"UserPoolClient": client}

    def UpdateUserPoolClient(self, UserPoolId: str, ClientId: str, **client: Any) -> JSON:
        there = self._part("client", self.clients, UserPoolId, ClientId)
        self._check_client(UserPoolId, client, secret="ClientSecret" in there)
        kept = ("UserPoolId", "ClientId", "ClientSecret", "CreationDate", "ClientName")
        self.clients[UserPoolId, ClientId] = {
            **CLIENT_DEFAULTS,
            **{key: there[key] for key in kept if key in there},
            **client,
        }
        return {"UserPoolClient": deepcopy(self.clients[UserPoolId, ClientId])}

    def DeleteUserPoolClient(self, UserPoolId: str, ClientId: str) -> None:
        self._part("client", self.clients, UserPoolId, ClientId)
        del self.clients[UserPoolId, ClientId]

    def ListUserPoolClients(
        self, UserPoolId: str, MaxResults: int = 60, NextToken: str = "0"
    ) -> JSON:
        self._pool(UserPoolId)
        keys = ("ClientId", "ClientName", "UserPoolId")
        listed = [{k: c[k] for k in keys} for c in _in(self.clients, UserPoolId)]
        return _page("UserPoolClients", listed, NextToken)

    def CreateGroup(self, UserPoolId: str, GroupName: str, **group: Any) -> JSON:
        self._pool(UserPoolId)
        if (UserPoolId, GroupName) in self.groups:
            raise Refused("GroupExistsException", "A group with the name already exists.")
        made = {**group, "GroupName": GroupName, "UserPoolId": UserPoolId}
        self.groups[UserPoolId, GroupName] = made
        return {"Group": made}

    def UpdateGroup(self, UserPoolId: str, GroupName: str, **group: Any) -> JSON:
        self._part("group", self.groups, UserPoolId, GroupName)
        del self.groups[UserPoolId, GroupName]
        return self.CreateGroup(UserPoolId, GroupName, **group)

    def DeleteGroup(self, UserPoolId: str, GroupName: str) -> None:
        self._part("group", self.groups, UserPoolId, GroupName)
        del self.groups[UserPoolId, GroupName]

    def ListGroups(self, UserPoolId: str, Limit: int = 60, NextToken: str = "0") -> JSON:
        self._pool(UserPoolId)
        return _page("Groups", _in(self.groups, UserPoolId), NextToken)

    def CreateIdentityProvider(
        self, UserPoolId: str, ProviderName: str, ProviderType: str, **provider: Any
    ) -> JSON:
        self._pool(UserPoolId)
        if (UserPoolId, ProviderName) in self.providers:
            raise Refused("DuplicateProviderException", "Provider already exists")
        self._check_provider(ProviderType, provider)
        made = {
            "AttributeMapping": {"username": "sub"},
            **provider,
            "ProviderName": ProviderName,
            "ProviderType": ProviderType,
            "UserPoolId": UserPoolId,
        }
        issuer = provider["ProviderDetails"]["oidc_issuer"]
        made["ProviderDetails"] = {
            "authorize_url": f"{issuer}/authorize",
            "token_url": f"{issuer}/token",
            "jwks_uri": f"{issuer}/jwks",
            "attributes_url_add_attributes": "false",
            **provider["ProviderDetails"],
        }
        self.providers[UserPoolId, ProviderName] = made
        return {"IdentityProvider": deepcopy(made)}

    def DescribeIdentityProvider(self, UserPoolId: str, ProviderName: str) -> JSON:
        found = self._part("provider", self.providers, UserPoolId, ProviderName)
        return {"IdentityProvider": deepcopy(found)}

    def UpdateIdentityProvider(self, UserPoolId: str, ProviderName: str, **provider: Any) -> JSON:
        there = self._part("provider", self.providers, UserPoolId, ProviderName)
        self._check_provider(there["ProviderType"], provider)
        del self.providers[UserPoolId, ProviderName]
        return self.CreateIdentityProvider(
            UserPoolId, ProviderName, there["ProviderType"], **provider
        )

    def DeleteIdentityProvider(self, UserPoolId: str, ProviderName: str) -> None:
        self._part("provider", self.providers, UserPoolId, ProviderName)
        for client in _in(self.clients, UserPoolId):
            if ProviderName in client.get("SupportedIdentityProviders", ()):
                raise _invalid(f"Identity provider {ProviderName} is in use by an app client")
        del self.providers[UserPoolId, ProviderName]

    def ListIdentityProviders(
        self, UserPoolId: str, MaxResults: int = 60, NextToken: str = "0"
    ) -> JSON:
        self._pool(UserPoolId)
        keys = ("ProviderName", "ProviderType")
        listed = [{k: p[k] for k in keys} for p in _in(self.providers, UserPoolId)]
        return _page("Providers", listed, NextToken)

    def CreateResourceServer(self, UserPoolId: str, Identifier: str, **server: Any) -> JSON:
        self._pool(UserPoolId)
        if (UserPoolId, Identifier) in self.servers:
            raise _invalid(f"{Identifier} already exists in user pool {UserPoolId}.")
        made = {**server, "Identifier": Identifier, "UserPoolId": UserPoolId}
        self.servers[UserPoolId, Identifier] = made
        return {"ResourceServer": made}

    def UpdateResourceServer(self, UserPoolId: str, Identifier: str, **server: Any) -> JSON:
        self._part("resource server", self.servers, UserPoolId, Identifier)
        del self.servers[UserPoolId, Identifier]
        return self.CreateResourceServer(UserPoolId, Identifier, **server)

    def DeleteResourceServer(self, UserPoolId: str, Identifier: str) -> None:
        self._part("resource server", self.servers, UserPoolId, Identifier)
        del self.servers[UserPoolId, Identifier]

    def ListResourceServers(
        self, UserPoolId: str, MaxResults: int = 50, NextToken: str = "0"
    ) -> JSON:
        self._pool(UserPoolId)
        return _page("ResourceServers", _in(self.servers, UserPoolId), NextToken)

    def CreateUserPoolDomain(self, UserPoolId: str, Domain: str) -> JSON:
        self._pool(UserPoolId)
        if Domain in self.domains:
            raise _invalid("Domain already associated with another user pool.")
        if UserPoolId in self.domains.values():
            raise _invalid("The user pool already has a domain of this kind.")
        if any(word in Domain for word in ("aws", "amazon", "cognito")):
            raise _invalid("Domain cannot contain reserved word")
        self.domains[Domain] = UserPoolId
        return {}

    def DeleteUserPoolDomain(self, UserPoolId: str, Domain: str) -> JSON:
        self._pool(UserPoolId)
        if self.domains.get(Domain) != UserPoolId:
            raise _invalid("No such domain or user pool exists.")
        del self.domains[Domain]
        return {}

    def _check_client(self, pool: str, client: JSON, *, secret: bool) -> None:
        flows, scopes = client.get("AllowedOAuthFlows", []), client.get("AllowedOAuthScopes", [])
        if bool(flows) != bool(scopes):
            raise Refused("InvalidOAuthFlowException", "AllowedOAuthFlows need AllowedOAuthScopes")
        if flows and not client.get("AllowedOAuthFlowsUserPoolClient"):
            raise _invalid("AllowedOAuthFlowsUserPoolClient must be true for OAuth flows")
        own = {
            f"{server['Identifier']}/{scope['ScopeName']}"
            for server in _in(self.servers, pool)
            for scope in server.get("Scopes", ())
        }
        if unknown := {*scopes} - STANDARD_SCOPES - own:
            raise Refused("ScopeDoesNotExistException", f"Invalid scope requested: {unknown}")
        if "client_credentials" in flows and (flows[1:] or not secret or not {*scopes} <= own):
            raise Refused(
                "InvalidOAuthFlowException",
                "client_credentials flow can not be selected along with code flow or implicit "
                "flow, needs a client secret and scopes of a resource server",
            )
        if "code" in flows and not client.get("CallbackURLs"):
            raise Refused("InvalidOAuthFlowException", "At least one callback URL is required")
        self._check_references(pool, client)
        self._check_values(client)

    def _check_references(self, pool: str, client: JSON) -> None:
        known = {"COGNITO", *(p["ProviderName"] for p in _in(self.providers, pool))}
        for name in client.get("SupportedIdentityProviders", ()):
            if name not in known:
                raise _invalid(f"The provider {name} does not exist for User Pool {pool}.")

    @staticmethod
    def _check_values(client: JSON) -> None:
        for url in (*client.get("CallbackURLs", ()), *client.get("LogoutURLs", ())):
            if url.startswith("http://") and not url.startswith("http://localhost"):
                raise _invalid(f"{url} cannot use the HTTP protocol.")
        explicit = client.get("ExplicitAuthFlows", [])
        if len({flow.startswith("ALLOW_") for flow in explicit}) > 1:
            raise _invalid("ExplicitAuthFlows must not mix old and ALLOW_ values")
        units = client.get("TokenValidityUnits", {})
        for word, default, low, high in (
            ("AccessToken", "hours", 300, 86400),
            ("IdToken", "hours", 300, 86400),
            ("RefreshToken", "days", 3600, 315_360_000),
        ):
            if validity := client.get(f"{word}Validity"):
                lifetime = validity * SECONDS[units.get(word, default)]
                if not low <= lifetime <= high:
                    raise _invalid(f"Invalid range for token validity: {word}")

    @staticmethod
    def _check_provider(type_: str, provider: JSON) -> None:
        needed = {"client_id", "authorize_scopes", "oidc_issuer", "attributes_request_method"}
        if type_ == "OIDC" and (missing := needed - {*provider["ProviderDetails"]}):
            raise _invalid(f"Missing ProviderDetails: {sorted(missing)}")

    def _pool(self, id: str) -> JSON:
        if id not in self.pools:
            raise _absent(f"User pool {id} does not exist.")
        return self.pools[id]

    def _by_arn(self, arn: str) -> JSON:
        return self._pool(arn.rpartition("/")[2])

    def _part(self, what: str, among: dict[tuple[str, str], JSON], pool: str, name: str) -> JSON:
        self._pool(pool)
        if (pool, name) not in among:
            raise _absent(f"User pool {what} {name} does not exist.")
        return among[pool, name]


def _app(name: str, type_: str, scopes: list[str], *uris: str, **more: Any) -> JSON:
    return {"name": name, "type": type_, "scopes": scopes, "redirectUris": list(uris), **more}


WEB = _app(
    "web",
    "Web",
    ["profile", "openid"],
    "https://shop.example.com/z",
    "https://shop.example.com/a",
    logoutUris=["https://shop.example.com/out"],
    accessTokenLifetime="30m",
)
PAGES = _app("pages", "SinglePage", ["openid"], "https://pages.example.com/")
PHONE = _app("phone", "Native", ["openid"], "com.example.shop://in")
BATCH = _app("batch", "Machine", ["https://api.example.com/read"])
API = {
    "identifier": "https://api.example.com",
    "scopes": {"read": "Read orders", "write": "Write orders"},
}
CORPORATE = {
    "name": "Corporate",
    "issuer": "https://login.example.com",
    "clientId": "shop",
    "clientSecret": {"secretKeyRef": {"name": "upstream", "key": "secret"}},
    "scopes": ["openid", "email"],
}
FUNCTION = f"arn:aws:lambda:{REGION}:{ACCOUNT}:function:check"


class CognitoVendor(AwsVendor):
    """Cognito behind the provider."""

    provider = CognitoUserPool
    key = "AKIACONFORMANCE00002"
    spec: ClassVar[JSON] = {
        "mfa": "Optional",
        "passwordPolicy": {"minLength": 14},
        "applications": [WEB, PAGES, PHONE, BATCH],
        "connections": [CORPORATE],
        "roles": [{"name": "admin", "description": "May all"}, {"name": "guest"}],
        "cognito": {
            "domain": "shop-example",
            "tier": "ESSENTIALS",
            "usernameAttributes": ["email"],
            "autoVerifiedAttributes": ["email"],
            "lambdaTriggers": {"PreSignUp": FUNCTION},
            "resourceServers": [API],
            "idTokenLifetime": "45m",
            "tags": {"team": "shop", "stage": "test"},
        },
    }
    edits = (
        Edit(
            "one application more",
            {"applications": [*spec["applications"], {**PAGES, "name": "admin-area"}]},
        ),
        Edit("one application less", {"applications": [WEB, BATCH]}),
        Edit("an application that loses its secret", {"applications": [{**WEB, "type": "Native"}]}),
        Edit(
            "an application's parts",
            {
                "applications": [
                    {
                        **WEB,
                        "redirectUris": ["https://shop.example.com/new"],
                        "logoutUris": [],
                        "scopes": ["openid", "https://api.example.com/write"],
                        "accessTokenLifetime": "20m",
                    },
                    BATCH,
                ]
            },
        ),
        Edit("applications without OAuth", {"applications": [{"name": "web"}]}),
        Edit(
            "one connection more",
            {"connections": [CORPORATE, {**CORPORATE, "name": "Partner", "clientId": "them"}]},
        ),
        Edit("no connection", {"connections": []}),
        Edit(
            "a connection's parts",
            {
                "connections": [
                    {
                        **CORPORATE,
                        "issuer": "https://new.example.com",
                        "clientId": "new",
                        "scopes": ["openid"],
                    }
                ]
            },
        ),
        Edit(
            "one role more, one less, one other",
            {"roles": [{"name": "guest", "description": "May look"}, {"name": "clerk"}]},
        ),
        Edit("a required factor", {"mfa": "Required"}),
        Edit("no factor", {"mfa": "Off"}),
        Edit("another password policy", {"passwordPolicy": {"requireSymbols": True}}),
        Edit("another domain", {"cognito": {"domain": "shop-example-2"}}),
        Edit("another tier", {"cognito": {"tier": "PLUS"}}),
        Edit("no protection", {"cognito": {"deletionProtection": False}}),
        Edit(
            "sign-up",
            {
                "cognito": {
                    "allowAdminCreateUserOnly": True,
                    "autoVerifiedAttributes": ["phone_number"],
                }
            },
        ),
        Edit(
            "other triggers",
            {"cognito": {"lambdaTriggers": {"PreSignUp": None, "CustomMessage": FUNCTION}}},
        ),
        Edit(
            "other lifetimes",
            {"cognito": {"idTokenLifetime": "10m", "refreshTokenLifetime": "48h"}},
        ),
        Edit(
            "other APIs",
            {
                "applications": [WEB],
                "cognito": {
                    "resourceServers": [
                        {"identifier": "https://api.example.com.au", "scopes": {"all": "All"}}
                    ]
                },
            },
        ),
        Edit(
            "an API's scopes",
            {"cognito": {"resourceServers": [{**API, "scopes": {"read": "Read", "ask": "Ask"}}]}},
        ),
        Edit("a tag more and one less", {"cognito": {"tags": {"stage": None, "cost": "42"}}}),
    )
    immutable: ClassVar[JSON] = {"cognito": {"usernameAttributes": ["phone_number"]}}
    refusal = Refusal(
        {"cognito": {"lambdaTriggers": {"PreSignUp": "arn:of:no:function:at:all"}}},
        "satisfy regular expression pattern",
    )
    secrets: ClassVar[dict[str, dict[str, str]]] = {
        "aws": {"secretAccessKey": "y8Ld61igMr1tWcO5nA2uSx9zVf7dQb4hKj6pUl+/"},
        "upstream": {"secret": "upstream-7c1e0d9f4b2a"},
    }
    wrong_secrets: ClassVar[dict[str, dict[str, str]]] = {
        "aws": {"secretAccessKey": "wrong1Ld61igMr1tWcO5nA2uSx9zVf7dQb4hKj6pU"}
    }
    rotated_secrets: ClassVar[dict[str, dict[str, str]]] = {
        "upstream": {"secret": "upstream-new-5a3f8e6d1c70"}
    }
    fast = False  # A creation is some forty calls: one fault at each is enough.

    def serve(self) -> None:
        self.cognito = Cognito()
        self.aws.add("cognito-idp", self.cognito, "InvalidParameterException")

    async def reset(self) -> None:
        for held in self.cognito.held():
            held.clear()

    async def count(self) -> int:
        return sum(len(held) for held in self.cognito.held())

    async def tamper(self, id: str) -> str:
        self.cognito.pools[id]["Policies"]["PasswordPolicy"]["MinimumLength"] = 6
        return "passwordPolicy.minLength"

    async def vanish(self, id: str) -> None:
        self.cognito.domains.clear()
        self.cognito.pools[id]["DeletionProtection"] = "INACTIVE"
        self.cognito.DeleteUserPool(id)

    async def foreign(self, spec: JSON, name: str, owner: str | None) -> None:
        tags = {"integrations.auterity.io/owner": owner} if owner else {}
        pool = self.cognito.CreateUserPool(
            name, UserPoolTags=tags, UsernameAttributes=spec["cognito"]["usernameAttributes"]
        )
        id = pool["UserPool"]["Id"]
        self.cognito.CreateUserPoolClient(id, ClientName="by hand")
        self.cognito.CreateUserPoolClient(id, GenerateSecret=True, ClientName="web")
        self.cognito.CreateGroup(id, "by-hand")
        self.cognito.CreateGroup(id, "admin", Precedence=3)

    async def told(self, id: str) -> str:
        parts = (self.cognito.clients, self.cognito.providers, self.cognito.groups)
        return json.dumps([self.cognito.pools[id], *([*part.values()] for part in parts)])


def _settings(given: JSON) -> JSON:
    settings = deepcopy(POOL_DEFAULTS)
    for key, value in given.items():
        known = {} if key in ("LambdaConfig", "UserPoolTags") else settings.get(key)
        settings[key] = {**known, **value} if isinstance(known, dict) else value
    policy = given.get("Policies", {}).get("PasswordPolicy")
    if policy is not None:
        # Within a policy that is given, a class that is left out is not required.
        settings["Policies"]["PasswordPolicy"] = {"TemporaryPasswordValidityDays": 7, **policy}
    return settings


def _in(parts: dict[tuple[str, str], JSON], pool: str) -> list[JSON]:
    return [deepcopy(part) for (of, _), part in parts.items() if of == pool]


def _invalid(message: str) -> Refused:
    return Refused("InvalidParameterException", message)


def _absent(message: str) -> Refused:
    return Refused("ResourceNotFoundException", message)


def _page(key: str, items: list[JSON], token: str) -> JSON:
    first = int(token)
    page: JSON = {key: items[first : first + PAGE]}
    if first + PAGE < len(items):
        page["NextToken"] = str(first + PAGE)
    return page
