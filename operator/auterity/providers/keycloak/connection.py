"""The Connection to a Keycloak server."""

from typing import ClassVar
from urllib.parse import quote

from pydantic import SecretStr

from auterity.api.connection import RateLimit
from auterity.api.fields import SecretValue, ShortText, Text
from auterity.engine.contract import Identity
from auterity.transport.oauth import Grant, OAuthConnector
from auterity.transport.rest import RestSession


class KeycloakConnection(OAuthConnector):
    """A Keycloak server, and a client whose service account manages realms there.

    `endpoint` is the server's base URL, including /auth or another --http-relative-path.
    """

    vendor = "keycloak"
    # Keycloak itself sets no limit; this keeps a small server usable for those who sign in.
    rate_limit: ClassVar[RateLimit] = RateLimit(per_second=30, burst=60, concurrent=6)

    realm: ShortText = "master"
    """Realm of the client. Only a client of the realm master can create realms."""
    client_id: Text
    """Id of a confidential client that has a service account."""
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
        # Told only to those who may see the whole server's state.
        version = info.get("systemInfo", {}).get("version") if isinstance(info, dict) else None
        server = f", Keycloak {version}" if version else ""
        return Identity(f"service account {self.client_id} in realm {self.realm}{server}")
