"""IdentityProvider: a directory of users with its applications, roles and rules."""

from enum import StrEnum
from typing import Annotated, Literal

from pydantic import Field

from auterity.api.fields import Duration, Keyed, Model, Params, SecretValue, ShortText, Text, Url

Scope = Annotated[str, Field(min_length=1, max_length=256)]


class MFA(StrEnum):
    """Whether users need a second factor."""

    OFF = "Off"
    OPTIONAL = "Optional"
    REQUIRED = "Required"


class Application(Model):
    """An application that signs users in (an OAuth client)."""

    name: Annotated[
        str, Field(min_length=1, max_length=63, pattern=r"^[A-Za-z0-9][-._A-Za-z0-9]*$")
    ]
    """Name of the application; its outputs are named by it."""
    type: Literal["Web", "SinglePage", "Native", "Machine"] = "Web"
    """Web and Machine have a client secret; SinglePage and Native are public."""
    redirect_uris: Annotated[
        list[Annotated[str, Field(min_length=1, max_length=1024)]], Field(max_length=50)
    ] = Field(default_factory=list)
    """Where users may be sent after signing in."""
    logout_uris: Annotated[
        list[Annotated[str, Field(min_length=1, max_length=1024)]], Field(max_length=50)
    ] = Field(default_factory=list)
    """Where users may be sent after signing out."""
    scopes: Annotated[list[Scope], Field(max_length=50)] = Field(default_factory=list)
    """OAuth scopes it may ask for."""
    access_token_lifetime: Duration | None = None
    """How long an access token is valid."""


class UpstreamConnection(Model):
    """Another identity provider that users may sign in with."""

    name: Annotated[str, Field(min_length=1, max_length=32, pattern=r"^[A-Za-z0-9][-A-Za-z0-9_]*$")]
    """Name of the connection."""
    issuer: Url
    """Its OpenID Connect issuer."""
    client_id: Text
    """Client id there."""
    client_secret: SecretValue
    """Client secret there."""
    scopes: Annotated[list[Scope], Field(max_length=20)] = Field(default_factory=lambda: ["openid"])
    """Scopes asked for."""


class Role(Model):
    """A role or group that users can have."""

    name: ShortText
    """Name of the role."""
    description: Annotated[str, Field(max_length=1024)] = ""
    """What it is for."""


class PasswordPolicy(Model):
    """What a password must have."""

    min_length: Annotated[int, Field(ge=6, le=99)] = 12
    """Fewest characters."""
    require_uppercase: bool = True
    """At least one upper-case letter."""
    require_lowercase: bool = True
    """At least one lower-case letter."""
    require_digits: bool = True
    """At least one digit."""
    require_symbols: bool = False
    """At least one other character."""


class IdentityProvider(Params):
    """A directory of users with applications, upstream connections, roles and rules.

    Its outputs are `issuer`, `discoveryUrl` (the issuer's OpenID Connect document) and, for every
    application, `<application>.clientId` and, if it has a secret, `<application>.clientSecret`.
    """

    mfa: MFA = MFA.OPTIONAL
    """Whether users need a second factor."""
    password_policy: PasswordPolicy | None = None
    """What a password must have."""
    applications: Annotated[list[Application], Keyed("name"), Field(max_length=50)] = Field(
        default_factory=list
    )
    """Applications; their client ids and secrets go to the outputs Secret."""
    connections: Annotated[list[UpstreamConnection], Keyed("name"), Field(max_length=20)] = Field(
        default_factory=list
    )
    """Other identity providers to sign in with."""
    roles: Annotated[list[Role], Keyed("name"), Field(max_length=100)] = Field(default_factory=list)
    """Roles."""
