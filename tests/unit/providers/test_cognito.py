"""What is special of Cognito: others' things in the same pool, and updates that replace it all."""

from collections.abc import Awaitable, Callable

from pydantic import SecretStr

from auterity.engine.drift import Memory, compare
from auterity.providers.cognito.params import CognitoUserPoolParams
from auterity.providers.cognito.pool import CognitoUserPool
from auterity.transport.aws import AwsSession
from tests.conformance.harness import NAME, Harness
from tests.conformance.vendor import JSON, merged
from tests.fakes.cognito import FUNCTION, Cognito, CognitoVendor
from tools.servers.moto import Moto

STAND_IN = CognitoVendor


def behind(harness: Harness) -> Cognito:
    assert isinstance(harness.vendor, CognitoVendor)
    return harness.vendor.cognito


def web(harness: Harness) -> JSON:
    """The app client of the application of that name."""
    found = [c for c in behind(harness).clients.values() if c["ClientName"] == "web @auterity"]
    assert len(found) == 1
    return found[0]


async def test_what_others_have_in_an_adopted_pool_stays(harness: Harness):
    await harness.vendor.foreign(CognitoVendor.spec, NAME, None)
    fake = behind(harness)
    before = {client["ClientName"]: client for client in fake.clients.values()}
    await harness.make(policy="Adopt")
    after = {client["ClientName"]: client for client in fake.clients.values()}
    assert after["by hand"] == before["by hand"]
    assert (harness.subject.status["id"], "by-hand") in fake.groups
    # What has a declared name is taken over: with its id and secret, and others' settings.
    taken = after["web @auterity"]
    for key in ("ClientId", "ClientSecret"):
        assert taken[key] == before["web"][key]
    group = fake.groups[harness.subject.status["id"], "admin"]
    assert group["Precedence"] == 3


async def test_an_update_keeps_what_is_not_declared(harness: Harness):
    id = await harness.make()
    pool = behind(harness).pools[id]
    sender = {"LambdaVersion": "V1_0", "LambdaArn": FUNCTION}
    others = {
        "EmailConfiguration": {"EmailSendingAccount": "DEVELOPER", "From": "shop@example.com"},
        "VerificationMessageTemplate": {
            "DefaultEmailOption": "CONFIRM_WITH_CODE",
            "EmailMessage": "{####}",
            "EmailSubject": "Code",
        },
        "AccountRecoverySetting": {"RecoveryMechanisms": [{"Priority": 1, "Name": "admin_only"}]},
    }
    pool |= others
    pool["LambdaConfig"] |= {"CustomEmailSender": sender, "KMSKeyID": "arn:aws:kms:a:1:key/x"}
    pool["UserPoolTags"]["cost"] = "others"
    web(harness)["ReadAttributes"] = ["email"]
    harness.apply(
        merged(
            CognitoVendor.spec,
            {
                "passwordPolicy": {"minLength": 20},
                "cognito": {
                    "lambdaTriggers": {"CustomMessage": FUNCTION},
                    "refreshTokenLifetime": "9h",
                },
            },
        )
    )
    await harness.converge()
    assert harness.ready["status"] == "True", harness.ready
    pool = behind(harness).pools[id]
    assert {key: pool[key] for key in others} == others
    assert pool["LambdaConfig"]["CustomEmailSender"] == sender
    assert pool["LambdaConfig"]["CustomMessage"] == FUNCTION
    assert pool["UserPoolTags"]["cost"] == "others"
    assert pool["Policies"]["PasswordPolicy"]["TemporaryPasswordValidityDays"] == 7
    assert behind(harness).mfa[id]["MfaConfiguration"] == "OPTIONAL"
    assert web(harness)["ReadAttributes"] == ["email"]


async def test_a_protected_pool_with_a_domain_is_deleted(harness: Harness):
    id = await harness.make()
    assert behind(harness).pools[id]["DeletionProtection"] == "ACTIVE"
    assert behind(harness).domains
    await harness.remove()
    assert await harness.vendor.count() == 0


async def test_client_ids_and_secrets_are_published(harness: Harness):
    id = await harness.make(outputs={"secretName": "shop-login"})
    published = harness.cluster.secrets["team", "shop-login"]
    clients = {c["ClientName"]: c for c in behind(harness).clients.values()}
    shop, pages = clients["web @auterity"], clients["pages @auterity"]
    assert published["web.clientId"] == shop["ClientId"]
    assert published["web.clientSecret"] == shop["ClientSecret"]
    assert published["pages.clientId"] == pages["ClientId"]
    assert "pages.clientSecret" not in published
    assert published["issuer"] == f"https://cognito-idp.eu-central-1.amazonaws.com/{id}"
    assert shop["ClientSecret"] not in str(harness.subject.status)


async def test_a_connection_that_an_application_cannot_use_is_mended(harness: Harness):
    await harness.make()
    web(harness)["SupportedIdentityProviders"] = ["COGNITO"]
    await harness.converge()
    assert "connections.Corporate.issuer" in harness.recorder.drift
    assert web(harness)["SupportedIdentityProviders"] == ["COGNITO", "Corporate"]


async def test_two_pools_of_one_name_are_a_conflict(harness: Harness):
    for _ in range(2):
        await harness.vendor.foreign(CognitoVendor.spec, NAME, None)
    harness.apply(policy="Adopt")
    await harness.converge()
    assert harness.ready["reason"] == "Conflict"
    assert "several user pools" in harness.ready["message"]


async def test_moto_keeps_a_pool_as_declared_and_lets_it_go(
    moto: Moto, sign_in: Callable[..., Awaitable[AwsSession]]
):
    moto.reset()
    provider, spec = CognitoUserPool(await sign_in(moto.url)), CognitoVendor.spec
    fields = {**spec, **spec["cognito"], "name": "shop"}
    want = CognitoUserPoolParams.model_validate(fields)
    want.connections[0].client_secret.resolve("upstream-secret", "1")
    assert await provider.locate(want) is None
    id = await provider.create(want, "c/team/shop")
    assert await provider.locate(want) == id
    observed = await provider.read(id)
    assert observed is not None
    actual = observed.actual
    assert (observed.owner, actual.mfa, actual.domain) == ("c/team/shop", want.mfa, want.domain)
    assert actual.connections[0].client_secret.reveal() == "upstream-secret"
    assert compare(want, actual, Memory(), {}) == []
    assert isinstance(observed.secrets["web.clientSecret"], SecretStr)
    await provider.delete(id)
    assert await provider.read(id) is None
    await provider.delete(id)
