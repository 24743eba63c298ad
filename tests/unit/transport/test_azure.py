"""What Azure's answers mean, who may lend what, and how tokens are had."""

from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from auterity.api.connection import RateLimit
from auterity.engine import errors
from auterity.engine.calls import Door
from auterity.engine.contract import Access
from auterity.engine.limits import Budget
from auterity.transport.azure import (
    CLOUDS,
    AzureConnection,
    AzureSession,
    refusal,
    tags_after,
    user_tags,
)
from auterity.transport.http import Answer
from tests.conformance.cluster import MemoryCluster, Recorder
from tests.fakes.azure import CLIENT, GROUP, SECRET, TENANT, Azure, connection
from tests.fakes.azure_openai import Accounts

VERSION = "2025-09-01"
ACCOUNT = f"{GROUP}/providers/Microsoft.CognitiveServices/accounts/search"


@pytest.fixture
async def azure() -> AsyncIterator[Azure]:
    it = Azure()
    Accounts(it)
    await it.server.start()
    yield it
    await it.server.stop()


def access(**more: Any) -> Access:
    limit = RateLimit(per_second=10000, burst=10000, concurrent=10)
    door = Door("azure", "it", Budget(limit), Recorder())
    return Access(door, MemoryCluster().secret_store("team"), allow_insecure=True, **more)


async def opened(azure: Azure, secret: str = SECRET, **more: Any) -> AzureSession:
    declared = AzureConnection.model_validate(connection(azure.server.url) | more)
    if declared.client_secret is not None:
        declared.client_secret.resolve(secret, "1")
    return await declared.open(access())


def answer(status: int, code: str, message: str = "it is so") -> Answer:
    return Answer(status, {}, {"error": {"code": code, "message": message}})


@pytest.mark.parametrize(
    ("status", "code", "kind"),
    [
        (401, "InvalidAuthenticationToken", errors.Unauthorized),
        (403, "AuthorizationFailed", errors.Unauthorized),
        (403, "RequestDisallowedByPolicy", errors.Rejected),
        (409, "ScopeLocked", errors.Rejected),
        (400, "InvalidRequestContent", errors.Rejected),
        (409, "SkuNotAvailable", errors.Rejected),
        (400, "InsufficientQuota", errors.Rejected),
        (409, "QuotaExceeded", errors.Rejected),
        (404, "ResourceNotFound", errors.NotFound),
        (404, "SubscriptionNotFound", errors.Unauthorized),
        (409, "RequestConflict", errors.Busy),
        (409, "AnotherOperationInProgress", errors.Busy),
        (412, "PreconditionFailed", errors.Busy),
        (409, "FlagMustBeSetForRestore", errors.Conflict),
        (409, "CustomDomainInUse", errors.Conflict),
        (409, "MissingSubscriptionRegistration", errors.Rejected),
    ],
)
def test_codes_mean_what_to_do(status: int, code: str, kind: type[errors.Failure]) -> None:
    failure = refusal(answer(status, code))
    assert type(failure) is kind
    assert failure.message.endswith(f"{code}: it is so")


def test_an_endpoint_that_is_being_changed_is_waited_for() -> None:
    text = "Cannot create a deployment in endpoint e because it is in Updating provisioning state."
    assert isinstance(refusal(answer(400, "BadArgument", text)), errors.Busy)


def test_a_quota_is_told_in_azures_words() -> None:
    text = "This operation require 900 new capacity in quota Tokens Per Minute (thousands) - gpt"
    failure = refusal(answer(400, "InsufficientQuota", text))
    assert failure is not None
    assert failure.message == (
        "a quota of the subscription is used up; ask Azure to raise it: InsufficientQuota: " + text
    )


def test_a_region_without_room_is_not_taken_for_a_quota() -> None:
    failure = refusal(answer(400, "OutOfCapacity", "No Standard_NC24ads_A100_v4 in westeurope."))
    assert isinstance(failure, errors.Rejected)
    assert failure.message.startswith("Azure has no such machines to give at the moment: OutOfCap")


def test_what_is_another_each_time_is_left_out() -> None:
    told = "It failed. Correlation ID: 7a3c; Timestamp: 2026-11-24T10:00:00Z"
    once = refusal(answer(400, "BadRequest", told))
    again = refusal(answer(400, "BadRequest", told.replace("7a3c", "9f00").replace("10:", "11:")))
    assert once is not None
    assert again is not None
    assert once.message == again.message == "Azure refused it: BadRequest: It failed."


def test_a_404_that_is_not_azures_own_is_no_proof_of_absence() -> None:
    assert isinstance(refusal(Answer(404, {}, "<html>gateway</html>")), errors.Unavailable)


def test_details_are_told_too() -> None:
    body = {"error": {"code": "X", "message": "Several.", "details": [{"message": "No disk."}]}}
    failure = refusal(Answer(400, {}, body))
    assert failure is not None
    assert failure.message == "Azure refused it: X: Several. No disk."


async def test_a_wrong_secret_is_told_without_what_changes_each_time(azure: Azure) -> None:
    session = await opened(azure, "wrong-secret-of-nobody")
    told = []
    for _ in range(2):
        with pytest.raises(errors.Unauthorized) as caught:
            await session.verify()
        told.append(caught.value.message)
    await session.close()
    assert told[0] == told[1]
    assert told[0].endswith("AADSTS7000215: Invalid client secret provided.")


async def test_a_revoked_token_is_replaced_once(azure: Azure) -> None:
    session = await opened(azure)
    await session.find(ACCOUNT, VERSION)
    azure.tokens.clear()
    assert await session.find(ACCOUNT, VERSION) is not None
    await session.close()


async def test_the_operators_identity_is_lent_to_nobody_by_default(azure: Azure) -> None:
    with pytest.raises(errors.Rejected, match="lends its own workload identity only"):
        await opened(azure, clientSecret=None)


@pytest.fixture
def public_cloud(azure: Azure, monkeypatch: pytest.MonkeyPatch) -> None:
    url = azure.server.url
    cloud = replace(CLOUDS["Public"], login=url, management=url)
    monkeypatch.setitem(CLOUDS, "Public", cloud)
    azure.audience = f"{url}/.default"


def without_secret(**more: Any) -> AzureConnection:
    own: dict[str, Any] = {
        "clientSecret": None,
        "clientId": None,
        "tenantId": None,
        "endpoints": {},
    }
    return AzureConnection.model_validate(connection(None) | own | more)


async def test_the_token_of_the_service_account_is_read_anew(
    azure: Azure, public_cloud: None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    token = tmp_path / "token"
    token.write_text("first-assertion")
    monkeypatch.setenv("AZURE_FEDERATED_TOKEN_FILE", str(token))
    monkeypatch.setenv("AZURE_CLIENT_ID", CLIENT)
    monkeypatch.setenv("AZURE_TENANT_ID", TENANT)
    session = await without_secret().open(access(lends_identity=True))
    azure.trusted = "second-assertion"
    with pytest.raises(errors.Unauthorized, match="AADSTS700213"):
        await session.verify()
    token.write_text("second-assertion")
    assert "in subscription Models" in (await session.verify()).name
    await session.close()


async def test_without_a_workload_identity_it_is_told_how_to_give_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("AZURE_FEDERATED_TOKEN_FILE", raising=False)
    session = await without_secret().open(access(lends_identity=True))
    with pytest.raises(errors.Unauthorized, match=r"azure\.workload\.identity/use"):
        await session.verify()
    await session.close()


@pytest.mark.parametrize("name", ["login", "management", "openAI"])
async def test_the_operators_identity_is_shown_to_azure_alone(name: str) -> None:
    declared = without_secret(endpoints={name: "https://elsewhere.example"})
    with pytest.raises(errors.Rejected, match="shown to Azure alone"):
        await declared.open(access(lends_identity=True))


async def test_metadata_addresses_are_refused_also_where_azure_tells_them(azure: Azure) -> None:
    session = await opened(azure)
    with pytest.raises(errors.Rejected, match="metadata address"):
        await session.data("http://169.254.169.254", session.cloud.cognitive, "GET", "/openai/v1")
    await session.close()


async def test_a_pause_in_milliseconds_is_kept() -> None:
    from auterity.transport.azure import _held

    failure = _held(Answer(429, {"retry-after-ms": "1500", "retry-after": "9"}, None))
    assert isinstance(failure, errors.Throttled)
    assert failure.retry_after == 1.5


def test_tags_of_others_stay_and_names_are_the_same_in_any_case() -> None:
    now = {"Team": "a", "theirs": "x", "hidden-link": "y", "Stage": "z"}
    after = tags_after(
        now, {"team": "b"}, frozenset({"tags.team", "tags.stage"}), {"auterity-owner": "o"}
    )
    assert after == {"theirs": "x", "hidden-link": "y", "team": "b", "auterity-owner": "o"}
    assert user_tags(after) == {"theirs": "x", "team": "b"}
