"""What users declare of a Cognito user pool."""

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from auterity.api.fields import DESTRUCTIVE, IMMUTABLE, SHARED, Duration, Keyed, Model, TextMap
from auterity.api.identity_provider import IdentityProvider

Attribute = Literal["email", "phone_number"]
Trigger = Annotated[str, Field(min_length=1, max_length=63, pattern=r"^[A-Z][A-Za-z]+$")]
FunctionArn = Annotated[str, Field(min_length=20, max_length=2048, pattern=r"^arn:[^\s]+$")]
ScopeName = Annotated[str, Field(min_length=1, max_length=256)]


class ResourceServer(Model):
    """An API that tokens are for."""

    identifier: Annotated[str, Field(min_length=1, max_length=256)]
    """Identifier, such as the API's URL; its scopes are called `<identifier>/<scope>`."""
    scopes: Annotated[
        dict[ScopeName, Annotated[str, Field(min_length=1, max_length=256)]], Field(max_length=100)
    ] = Field(default_factory=dict)
    """What each scope means, by its name."""


class CognitoUserPoolParams(IdentityProvider):
    """A user pool: app clients are applications, OIDC providers connections, groups roles."""

    domain: Annotated[Annotated[str, Field(min_length=1, max_length=63)] | None, DESTRUCTIVE] = None
    """Prefix of the pool's own domain, unique in the region. Without a domain there are no login
    pages and no token endpoint."""
    tier: Literal["LITE", "ESSENTIALS", "PLUS"] | None = None
    """Feature plan."""
    deletion_protection: bool = True
    """Let nobody delete the pool by other ways. The operator takes the protection off when it is
    to delete the pool itself."""
    username_attributes: Annotated[
        Annotated[set[Attribute], Field(max_length=2)] | None, IMMUTABLE
    ] = None
    """What users sign in with instead of a user name. Cannot change."""
    auto_verified_attributes: Annotated[set[Attribute], Field(max_length=2)] | None = None
    """What is verified by a code when users sign up."""
    allow_admin_create_user_only: bool | None = None
    """Whether only administrators can create users, and nobody can sign up."""
    lambda_triggers: Annotated[dict[Trigger, FunctionArn], Field(max_length=20)] | None = None
    """Functions that Cognito calls, by trigger such as PreSignUp or PostConfirmation. Each needs
    a resource policy that lets cognito-idp.amazonaws.com invoke it."""
    id_token_lifetime: Duration | None = None
    """How long the id tokens of all applications are valid, from 5m to 24h."""
    refresh_token_lifetime: Duration | None = None
    """How long the refresh tokens of all applications are valid, from 1h to ten years."""
    resource_servers: Annotated[list[ResourceServer], Keyed("identifier"), Field(max_length=25)] = (
        Field(default_factory=list)
    )
    """APIs with scopes of their own, which applications (Machine ones above all) can ask for."""
    tags: Annotated[TextMap | None, SHARED] = None
    """Tags of the pool."""

    @model_validator(mode="after")
    def _as_cognito_tells(self) -> Self:
        # Cognito keeps these as sets.
        for app in self.applications:
            app.redirect_uris = sorted({*app.redirect_uris})
            app.logout_uris = sorted({*app.logout_uris})
            app.scopes = sorted({*app.scopes})
        return self
