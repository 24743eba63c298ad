"""What is special of Keycloak's realms; against the server itself where it can run."""

from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest

from auterity.api.fields import SecretKeyRef, SecretValue
from auterity.engine import errors
from auterity.engine.calls import Door
from auterity.engine.contract import Access, Observed
from auterity.engine.limits import Budget
from auterity.providers.keycloak.connection import KeycloakConnection
from auterity.providers.keycloak.parts import MARK, client_uuid
from auterity.providers.keycloak.realm import KeycloakRealm, KeycloakRealmParams, _settings
from auterity.transport.oauth import OAuthSession
from tests.conformance.cluster import MemoryCluster, Recorder
from tests.fakes.keycloak import (
    CLIENT,
    CLIENT_SECRET,
    CORPORATE_LOGIN,
    SHOP,
    UPSTREAM_SECRET,
    KeycloakRealms,
)

# One Keycloak is enough for a machine.
pytestmark = pytest.mark.xdist_group(KeycloakRealms.__module__)
OURS = "cluster/team/customers"
REALM = "customers"


class Opened:
    """A provider over a real server, and the administrator's view of it."""

    def __init__(self, vendor: KeycloakRealms, session: OAuthSession) -> None:
        self.vendor, self.session = vendor, session
        self.provider = KeycloakRealm(session)
        self.admin = vendor._keycloak.admin

    async def make(self, **spec: Any) -> KeycloakRealmParams:
        want = wanted(**spec)
        await self.provider.create(want, OURS)
        return want

    async def update(self, *changed: str, **spec: Any) -> None:
        await self.provider.update(REALM, wanted(**spec), frozenset(changed), OURS)

    async def read(self) -> Observed[KeycloakRealmParams]:
        observed = await self.provider.read(REALM)
        assert observed is not None
        return observed

    def client(self, name: str = "shop") -> Any:
        (found,) = self.admin("GET", f"/realms/{REALM}/clients?clientId={name}")
        return found


def wanted(**spec: Any) -> KeycloakRealmParams:
    want = KeycloakRealmParams.model_validate({"name": REALM, **spec})
    for connection in want.connections:
        connection.client_secret.resolve(UPSTREAM_SECRET, "1")
    return want


def connector(endpoint: str | None, client: str = CLIENT) -> KeycloakConnection:
    secret = SecretValue(secret_key_ref=SecretKeyRef(name="keycloak", key="clientSecret"))
    secret.resolve(CLIENT_SECRET, "1")
    return KeycloakConnection(endpoint=endpoint or "", client_id=client, client_secret=secret)


async def session(connection: KeycloakConnection) -> OAuthSession:
    door = Door("keycloak", "test", Budget(KeycloakConnection.rate_limit), Recorder())
    access = Access(door, MemoryCluster().secret_store("team"), allow_insecure=True)
    return await connection.open(access)


@pytest.fixture
async def keycloak() -> AsyncIterator[Opened]:
    if (reason := KeycloakRealms.missing()) is not None:
        pytest.skip(reason)
    vendor = KeycloakRealms()
    await vendor.start()
    await vendor.reset()
    opened = Opened(vendor, await session(connector(vendor.url)))
    yield opened
    await opened.session.close()
    await vendor.reset()
    await vendor.stop()
    assert not vendor.violations


async def test_the_published_credentials_sign_an_application_in(keycloak: Opened):
    await keycloak.make(applications=[{"name": "billing", "type": "Machine"}])
    observed = await keycloak.read()
    async with httpx.AsyncClient(trust_env=False) as http:
        discovered = (await http.get(observed.outputs["discoveryUrl"])).json()
        answer = await http.post(
            discovered["token_endpoint"],
            data={
                "grant_type": "client_credentials",
                "client_id": observed.outputs["billing.clientId"],
                "client_secret": observed.secrets["billing.clientSecret"].get_secret_value(),
            },
        )
        assert answer.status_code == 200, answer.text
    assert discovered["issuer"] == observed.outputs["issuer"]
    assert observed.outputs["issuer"] == f"{keycloak.vendor.url}/realms/{REALM}"


async def test_settings_in_a_realms_attributes_survive_an_update(keycloak: Opened):
    await keycloak.make()
    realm = keycloak.admin("GET", f"/realms/{REALM}")
    realm |= {"oauth2DeviceCodeLifespan": 1234, "clientSessionMaxLifespan": 4321}
    realm["attributes"] |= {"oauth2DeviceCodeLifespan": "1234", "theirs": "kept"}
    keycloak.admin("PUT", f"/realms/{REALM}", realm)
    before = keycloak.admin("GET", f"/realms/{REALM}")
    await keycloak.update("display_name", display_name="Customers")
    after = keycloak.admin("GET", f"/realms/{REALM}")
    assert after["displayName"] == "Customers"
    assert before["attributes"]["theirs"] == "kept"
    assert {k for k in before if before[k] != after.get(k)} <= {"displayName"}


async def test_what_others_made_in_the_realm_is_left_alone(keycloak: Opened):
    await keycloak.make(applications=[SHOP])
    keycloak.admin("POST", f"/realms/{REALM}/clients", {"clientId": "theirs"})
    keycloak.admin("POST", f"/realms/{REALM}/roles", {"name": "theirs"})
    assert [app.name for app in (await keycloak.read()).actual.applications] == ["shop"]
    await keycloak.update("applications.shop", "roles", applications=[], roles=[])
    assert keycloak.client("theirs")
    assert keycloak.admin("GET", f"/realms/{REALM}/roles/theirs")
    with pytest.raises(errors.Conflict, match=rf"client 'theirs' that is not ours.*{OURS}.*{MARK}"):
        await keycloak.update("applications.theirs", applications=[{**SHOP, "name": "theirs"}])
    with pytest.raises(errors.Conflict, match=r"client 'account' that is not ours"):
        await keycloak.update("applications.account", applications=[{**SHOP, "name": "account"}])


async def test_a_realm_is_adopted_with_what_has_a_declared_name(keycloak: Opened):
    await keycloak.vendor.foreign({}, REALM, None)
    theirs = keycloak.client()
    await keycloak.update("applications.shop", applications=[SHOP])
    ours = keycloak.client()
    assert ours["id"] == theirs["id"] != client_uuid(REALM, "shop")
    assert ours["attributes"][MARK] == OURS
    observed = await keycloak.read()
    assert (observed.owner, len(observed.actual.applications)) == (OURS, 1)
    assert observed.actual.applications[0].scopes == ["email"]


async def test_opening_an_application_for_passwords_is_drift(keycloak: Opened):
    await keycloak.make(applications=[SHOP])
    client = keycloak.client()
    assert not client["fullScopeAllowed"]
    for weaker in (
        {"directAccessGrantsEnabled": True},
        {"attributes": {**client["attributes"], "pkce.code.challenge.method": "plain"}},
    ):
        keycloak.admin("PUT", f"/realms/{REALM}/clients/{client['id']}", {**client, **weaker})
        assert (await keycloak.read()).actual.applications[0].type is None
    await keycloak.update("applications.shop.type", applications=[SHOP])
    assert (await keycloak.read()).actual.applications[0].type == "Web"


async def test_a_refused_application_is_told_in_keycloaks_words(keycloak: Opened):
    bad = {**SHOP, "redirectUris": ["javascript:alert(1)"]}
    with pytest.raises(errors.Rejected, match=r"A redirect URI uses an illegal scheme"):
        await keycloak.make(applications=[bad])
    # The realm is there, with its mark: the next visit goes on from here.
    assert (await keycloak.read()).owner == OURS


async def test_a_scope_that_the_realm_lacks_is_refused_instead_of_left_out(keycloak: Opened):
    with pytest.raises(errors.Rejected, match=r"no client scope nonsense.*it has.*profile"):
        await keycloak.make(applications=[{**SHOP, "scopes": ["openid", "nonsense"]}])


async def test_an_issuer_that_cannot_be_read_is_named(keycloak: Opened):
    unknown = {**CORPORATE_LOGIN, "issuer": CORPORATE_LOGIN["issuer"].replace("corp", "c0rp")}
    with pytest.raises(errors.Unavailable, match=r"cannot read http.*c0rporate/.well-known/openid"):
        await keycloak.make(connections=[unknown])
    slash = {**CORPORATE_LOGIN, "issuer": f"{CORPORATE_LOGIN['issuer']}/"}
    with pytest.raises(errors.Rejected, match=r"calls itself http.*/corporate:"):
        await keycloak.update("connections.corporate", connections=[slash])


async def test_without_rights_on_a_realm_nothing_is_taken_for_drift(keycloak: Opened):
    keycloak.admin("POST", "/realms", {"realm": REALM, "enabled": True})
    with pytest.raises(errors.Unauthorized, match=r"manage-realm.*of client customers-realm"):
        await keycloak.read()


async def test_the_connection_tells_the_service_account(keycloak: Opened):
    identity = await keycloak.session.verify()
    assert identity.name.startswith("service account auterity in realm master")
    stranger = await session(connector(keycloak.vendor.url, client="stranger"))
    with pytest.raises(errors.Unauthorized, match=r"secret of stranger: Invalid client"):
        await stranger.verify()
    await stranger.close()


def test_password_policies_that_cannot_be_declared_are_kept():
    want = wanted(passwordPolicy={"minLength": 10, "requireLowercase": False})
    has = {"passwordPolicy": "hashIterations(5) and lowerCase(2) and notUsername(undefined)"}
    assert _settings(want, has)["passwordPolicy"] == (
        "hashIterations(5) and notUsername(undefined) and length(10) and upperCase(1) and digits(1)"
    )


def test_what_keycloak_keeps_as_a_set_is_wanted_in_one_order():
    twice = ["https://b.example.com", "https://a.example.com", "https://b.example.com"]
    app = {**SHOP, "redirectUris": twice, "scopes": ["profile", "openid", "roles", "email"]}
    (declared,) = wanted(applications=[app]).applications
    assert declared.redirect_uris == ["https://a.example.com", "https://b.example.com"]
    assert declared.scopes == ["email", "profile"]
