"""A user pool's settings and parts, between Cognito's words and ours."""

from collections.abc import Callable, Iterable
from typing import Any, Final

from auterity.api.fields import SecretKeyRef, SecretValue, seconds
from auterity.api.identity_provider import (
    MFA,
    Application,
    PasswordPolicy,
    UpstreamConnection,
)
from auterity.providers.cognito.params import CognitoUserPoolParams, ResourceServer
from auterity.transport.aws import JSON

MARK: Final = "@auterity"
"""Ends the name or description of what is ours in a pool: nothing in a pool has tags."""
MFA_WORDS: Final = {MFA.OFF: "OFF", MFA.OPTIONAL: "OPTIONAL", MFA.REQUIRED: "ON"}
PASSWORD: Final = {
    "min_length": "MinimumLength",
    "require_uppercase": "RequireUppercase",
    "require_lowercase": "RequireLowercase",
    "require_digits": "RequireNumbers",
    "require_symbols": "RequireSymbols",
}
POOL_READ_ONLY: Final = frozenset(
    {
        *("Id", "Name", "Arn", "Status", "CreationDate", "LastModifiedDate", "SchemaAttributes"),
        *("EstimatedNumberOfUsers", "Domain", "CustomDomain", "AliasAttributes"),
        *("UsernameAttributes", "UsernameConfiguration", "SmsConfigurationFailure"),
        "EmailConfigurationFailure",
        # Told twice; the template is what counts.
        *("EmailVerificationMessage", "EmailVerificationSubject", "SmsVerificationMessage"),
    }
)
BEFORE_UPDATE: Final = "AttributesRequireVerificationBeforeUpdate"
CLIENT_READ_ONLY: Final = frozenset(
    {"ClientSecret", "CreationDate", "LastModifiedDate", "ClientType"}
)
REFRESH, SRP = "ALLOW_REFRESH_TOKEN_AUTH", "ALLOW_USER_SRP_AUTH"
WITH_SECRET: Final = ("Web", "Machine")
UNITS: Final = {"seconds": 1, "minutes": 60, "hours": 3600, "days": 86400}
DEFAULT_UNITS: Final = {"AccessToken": "hours", "IdToken": "hours", "RefreshToken": "days"}
LIFETIMES: Final = {"id_token_lifetime": "IdToken", "refresh_token_lifetime": "RefreshToken"}
NOT_EVERYWHERE: Final = "not enabled in every application"


def marked(text: str) -> str:
    """A name or description of ours."""
    return f"{text} {MARK}".strip()


def unmarked(text: str) -> str:
    """What a name or description was before it was marked."""
    return text.removesuffix(MARK).strip()


def identifier_of(name: str) -> str:
    """The identifier that marks an identity provider as ours."""
    # At most 40 characters, of which a name has at most 32.
    return f"{MARK}.{name}"[-40:]


def overlay(
    pool: JSON, want: CognitoUserPoolParams | None = None, fields: Iterable[str] = ()
) -> JSON:
    """All settings of a pool, with these fields as wanted: what an update leaves out is reset."""
    settings = {key: value for key, value in pool.items() if key not in POOL_READ_ONLY}
    if admin := settings.get("AdminCreateUserConfig"):
        # The password policy's TemporaryPasswordValidityDays means the same, and excludes it.
        settings["AdminCreateUserConfig"] = {
            k: v for k, v in admin.items() if k != "UnusedAccountValidityDays"
        }
    for field in fields:
        if (value := getattr(want, field)) is not None:
            settings |= POOL_FIELDS[field](value, settings)
    return settings


def _password_policy(want: PasswordPolicy, settings: JSON) -> JSON:
    policies = settings.get("Policies", {})
    asked = {word: getattr(want, name) for name, word in PASSWORD.items()}
    return {"Policies": {**policies, "PasswordPolicy": policies.get("PasswordPolicy", {}) | asked}}


def _tier(want: str, _: JSON) -> JSON:
    return {"UserPoolTier": want}


def _protection(want: bool, _: JSON) -> JSON:  # noqa: FBT001 - a field's value
    return {"DeletionProtection": "ACTIVE" if want else "INACTIVE"}


def _only_administrators(want: bool, settings: JSON) -> JSON:  # noqa: FBT001 - a field's value
    admin = settings.get("AdminCreateUserConfig", {})
    return {"AdminCreateUserConfig": {**admin, "AllowAdminCreateUserOnly": want}}


def _verified(want: set[str], settings: JSON) -> JSON:
    changed: JSON = {"AutoVerifiedAttributes": sorted(want)}
    update, key = settings.get("UserAttributeUpdateSettings", {}), BEFORE_UPDATE
    if update.get(key):
        # Cognito refuses to ask for a verification of what it does not verify.
        left = [name for name in update[key] if name in want]
        changed["UserAttributeUpdateSettings"] = {**update, key: left}
    return changed


def _triggers(want: dict[str, str], settings: JSON) -> JSON:
    now = settings.get("LambdaConfig", {})
    kept = {k: v for k, v in now.items() if not isinstance(v, str) or k == "KMSKeyID"}
    version = kept.pop("PreTokenGenerationConfig", None)
    if version and (function := want.get("PreTokenGeneration")):
        # Told twice, and refused if the two do not agree.
        kept["PreTokenGenerationConfig"] = {**version, "LambdaArn": function}
    return {"LambdaConfig": {**kept, **want}}


POOL_FIELDS: Final[dict[str, Callable[[Any, JSON], JSON]]] = {
    "password_policy": _password_policy,
    "tier": _tier,
    "deletion_protection": _protection,
    "allow_admin_create_user_only": _only_administrators,
    "auto_verified_attributes": _verified,
    "lambda_triggers": _triggers,
}
"""Fields that are settings of the pool itself, and what each changes of them."""


def settings_of(pool: JSON) -> JSON:
    """Fields that are settings of the pool itself, as Cognito tells them."""
    policy = pool.get("Policies", {}).get("PasswordPolicy", {})
    triggers = pool.get("LambdaConfig", {}).items()
    return {
        "password_policy": PasswordPolicy.model_construct(
            **{name: policy.get(word, False) for name, word in PASSWORD.items()}
        ),
        "tier": pool.get("UserPoolTier"),
        "deletion_protection": pool.get("DeletionProtection") == "ACTIVE",
        "username_attributes": set(pool.get("UsernameAttributes", ())),
        "auto_verified_attributes": set(pool.get("AutoVerifiedAttributes", ())),
        "allow_admin_create_user_only": pool.get("AdminCreateUserConfig", {}).get(
            "AllowAdminCreateUserOnly", False
        ),
        "lambda_triggers": {k: v for k, v in triggers if isinstance(v, str) and k != "KMSKeyID"},
    }


def client_of(app: Application, want: CognitoUserPoolParams, now: JSON) -> JSON:
    """All settings of an app client, with those as wanted that the application declares."""
    kept = {key: value for key, value in now.items() if key not in CLIENT_READ_ONLY}
    machine = app.type == "Machine"
    oauth = bool(app.scopes or app.redirect_uris)
    flow = "client_credentials" if machine else "code"
    units = dict(kept.get("TokenValidityUnits", {}))
    lifetimes = {"AccessToken": app.access_token_lifetime}
    lifetimes |= {word: getattr(want, field) for field, word in LIFETIMES.items()}
    for word, lifetime in lifetimes.items():
        if lifetime is not None:
            kept[f"{word}Validity"], units[word] = int(seconds(lifetime)), "seconds"
    if units:
        kept["TokenValidityUnits"] = units
    # Those that Cognito's first version had cannot be mixed with the others.
    others = {f for f in now.get("ExplicitAuthFlows", ()) if f.startswith("ALLOW_")} - {SRP}
    if now.get("RefreshTokenRotation", {}).get("Feature") != "ENABLED":
        others |= {REFRESH}
    return {
        "PreventUserExistenceErrors": "ENABLED",
        "EnableTokenRevocation": True,
        **kept,
        "ClientName": marked(app.name),
        "ExplicitAuthFlows": sorted(others | ({SRP} if app.type == "Native" else set())),
        "AllowedOAuthFlowsUserPoolClient": oauth,
        "AllowedOAuthFlows": [flow] if oauth else [],
        "AllowedOAuthScopes": app.scopes,
        "CallbackURLs": app.redirect_uris,
        "LogoutURLs": app.logout_uris,
        "SupportedIdentityProviders": _providers(app, want),
    }


def _providers(app: Application, want: CognitoUserPoolParams) -> list[str]:
    return [] if app.type == "Machine" else ["COGNITO", *sorted(c.name for c in want.connections)]


def application_of(name: str, client: JSON) -> Application:
    """An app client as Cognito tells it."""
    if "client_credentials" in client.get("AllowedOAuthFlows", ()):
        type_ = "Machine"
    elif client.get("ClientSecret"):
        type_ = "Web"
    else:
        type_ = "Native" if SRP in client.get("ExplicitAuthFlows", ()) else "SinglePage"
    return Application.model_construct(
        name=name,
        type=type_,  # type: ignore[arg-type]  # one of the four
        redirect_uris=sorted(client.get("CallbackURLs", ())),
        logout_uris=sorted(client.get("LogoutURLs", ())),
        scopes=sorted(client.get("AllowedOAuthScopes", ())),
        access_token_lifetime=_lifetime(client, "AccessToken"),
    )


def _lifetime(client: JSON, word: str) -> str | None:
    if not (validity := client.get(f"{word}Validity")):
        return None
    unit = client.get("TokenValidityUnits", {}).get(word, DEFAULT_UNITS[word])
    return f"{validity * UNITS[unit]}s"


def lifetimes_of(clients: Iterable[JSON]) -> JSON:
    """Lifetimes that all applications share; several where they differ."""
    told: JSON = {}
    for field, word in LIFETIMES.items():
        if values := {_lifetime(client, word) or "default" for client in clients}:
            told[field] = ", ".join(sorted(values))
    return told


def connection_of(told: JSON, clients: Iterable[JSON]) -> UpstreamConnection:
    """An OIDC provider as Cognito tells it, and as far as the applications may use it."""
    details, name = told["ProviderDetails"], told["ProviderName"]
    lacking = any(
        name not in client.get("SupportedIdentityProviders", ())
        for client in clients
        if "client_credentials" not in client.get("AllowedOAuthFlows", ())
    )
    fields: JSON = {
        "name": name,
        "issuer": NOT_EVERYWHERE if lacking else details.get("oidc_issuer"),
        "client_id": details.get("client_id"),
        "scopes": details.get("authorize_scopes", "").split(),
    }
    if secret := details.get("client_secret"):
        hidden = SecretKeyRef.model_construct(name="cognito", key=name)
        fields["client_secret"] = SecretValue.model_construct(secret_key_ref=hidden)
        fields["client_secret"].resolve(secret, "")
    return UpstreamConnection.model_construct(**fields)


def server_of(told: JSON) -> ResourceServer:
    """A resource server as Cognito tells it."""
    return ResourceServer.model_construct(
        identifier=told["Identifier"],
        scopes={s["ScopeName"]: s["ScopeDescription"] for s in told.get("Scopes", ())},
    )
