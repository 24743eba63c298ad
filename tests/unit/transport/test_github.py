"""How GitHub's answers become failures, and what else its transport does by itself."""

import time
from collections.abc import AsyncIterator
from typing import Any

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from nacl.encoding import Base64Encoder
from nacl.public import PrivateKey, SealedBox

from auterity.api.fields import SecretKeyRef, SecretValue
from auterity.engine import errors
from auterity.engine.calls import Door, Trail, trail
from auterity.engine.contract import Access
from auterity.engine.limits import Budget
from auterity.transport.github import GitHubApp, GitHubConnector, GitHubSession, failure_of, seal
from auterity.transport.http import Answer
from tests.conformance.cluster import MemoryCluster, Recorder
from tests.fakes.github_actions import INSTALLATION, TOKEN, WRONG_TOKEN, GitHub, Refused

SECONDARY = "You have exceeded a secondary rate limit. Please wait a few minutes."


@pytest.fixture
async def github() -> AsyncIterator[GitHub]:
    fake = GitHub()
    await fake.server.start()
    yield fake
    await fake.server.stop()


def secret(value: str) -> SecretValue:
    found = SecretValue(secret_key_ref=SecretKeyRef(name="github", key="token"))
    found.resolve(value, "1")
    return found


async def opened(github: GitHub, **credentials: Any) -> GitHubSession:
    connector = GitHubConnector(endpoint=github.server.url, **credentials)
    door = Door("github", "test", Budget(GitHubConnector.rate_limit), Recorder())
    secrets = MemoryCluster().secret_store("team")
    session = await connector.open(Access(door, secrets, allow_insecure=True))
    assert isinstance(session, GitHubSession)
    return session


@pytest.mark.parametrize(
    ("status", "headers", "body", "expected"),
    [
        (401, {}, {"message": "Bad credentials"}, errors.Unauthorized),
        (403, {}, {"message": "Resource not accessible by integration"}, errors.Unauthorized),
        (403, {}, {"message": "Upgrade to GitHub Pro to enable this"}, errors.Rejected),
        (403, {}, {"message": "Repository was archived so is read-only."}, errors.Rejected),
        (403, {"retry-after": "30"}, {"message": "anything"}, errors.Throttled),
        (403, {}, {"message": SECONDARY}, errors.Throttled),
        (429, {}, None, errors.Throttled),
        (404, {}, {"message": "Not Found"}, errors.NotFound),
        (409, {}, {"message": "Already exists"}, errors.Conflict),
        (410, {}, {"message": "Gone"}, errors.Rejected),
        (303, {}, None, errors.Conflict),
        (422, {}, {"errors": [{"code": "already_exists"}]}, errors.Conflict),
        (422, {}, {"message": "Validation Failed"}, errors.Rejected),
        (502, {}, None, errors.Unavailable),
        (503, {"retry-after": "5"}, None, errors.Throttled),
    ],
)
def test_each_answer_has_its_failure(
    status: int, headers: dict[str, str], body: Any, expected: type[errors.Failure]
) -> None:
    failure = failure_of(Answer(status, headers, body), "PUT", "/repos/a/b/environments/c")
    assert type(failure) is expected


def test_another_commit_at_the_same_time_is_waited_for_but_a_rule_is_not() -> None:
    path = "/repos/a/b/contents/x.yml"
    stale = Answer(409, {}, {"message": "x.yml does not match 123"})
    ruled = Answer(409, {}, {"message": "Repository rule violations found"})
    assert type(failure_of(stale, "PUT", path)) is errors.Busy
    assert type(failure_of(ruled, "PUT", path)) is errors.Rejected


def test_an_exhausted_hour_is_waited_for_until_its_end() -> None:
    headers = {"x-ratelimit-remaining": "0", "x-ratelimit-reset": str(time.time() + 900)}
    body = {"message": "API rate limit exceeded for user ID 1. Request ID AB:CD."}
    failure = failure_of(Answer(403, headers, body), "GET", "/user")
    assert isinstance(failure, errors.Throttled)
    assert failure.retry_after == pytest.approx(900, abs=5)
    assert "AB:CD" not in failure.message


def test_the_missing_permission_is_named() -> None:
    headers = {"x-accepted-github-permissions": "secrets=write"}
    failure = failure_of(Answer(403, headers, {"message": "No"}), "PUT", "/repos/a/b")
    assert failure is not None
    assert failure.message == "the credentials may not PUT /repos/a/b (it needs secrets=write): No"


def test_only_the_owner_of_the_key_opens_what_was_sealed() -> None:
    key = PrivateKey.generate()
    sealed = seal(key.public_key.encode(Base64Encoder).decode(), "ünsafe")
    assert SealedBox(key).decrypt(sealed.encode(), Base64Encoder).decode() == "ünsafe"


async def test_a_token_tells_its_login_and_when_it_expires(github: GitHub) -> None:
    session = await opened(github, token=secret(TOKEN))
    identity = await session.verify()
    assert (identity.name, identity.expires_at) == ("robot-of-acme", "2027-03-01T12:00:00Z")
    await session.close()


async def test_a_wrong_token_is_refused(github: GitHub) -> None:
    session = await opened(github, token=secret(WRONG_TOKEN))
    with pytest.raises(errors.Unauthorized, match="Bad credentials"):
        await session.verify()
    await session.close()


async def test_an_app_acts_as_its_installation(github: GitHub) -> None:
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048).private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    app = GitHubApp(app_id="12", installation_id=INSTALLATION, private_key=secret(key.decode()))
    session = await opened(github, app=app)
    assert (await session.verify()).name == "app acme-keeper installed at acme"
    assert await session.pages("/repos/acme/shop/environments", "environments") == []
    await session.close()
    app.installation_id = 1
    session = await opened(github, app=app)
    with pytest.raises(errors.NotFound, match="access_tokens"):
        await session.pages("/repos/acme/shop/environments", "environments")
    await session.close()


async def test_a_key_that_is_none_is_refused_without_telling_it(github: GitHub) -> None:
    app = GitHubApp(app_id="12", installation_id=1, private_key=secret("no key at all"))
    with pytest.raises(errors.Rejected, match="not an RSA private key") as refused:
        await opened(github, app=app)
    assert "no key at all" not in str(refused.value)


async def test_what_has_not_changed_costs_no_quota(github: GitHub) -> None:
    session = await opened(github, token=secret(TOKEN))
    path = "/repos/acme/shop/actions/variables"
    shop = github.repositories["acme/shop"]
    shop.entries.put_variable("A", "1")
    first = await session.pages(path, "variables")
    visit = Trail()
    trail.set(visit)
    assert await session.pages(path, "variables") == first
    shop.entries.put_variable("A", "2")
    changed = await session.pages(path, "variables")
    assert [call.status for call in visit.calls] == ["304", "200"]
    assert changed[0]["value"] == "2"
    await session.close()


async def test_a_secondary_limit_pauses_the_whole_connection(github: GitHub) -> None:
    session = await opened(github, token=secret(TOKEN))
    github.limited = [Refused(403, SECONDARY)]
    with pytest.raises(errors.Throttled) as throttled:
        await session.verify()
    assert throttled.value.retry_after == 60
    asked = len(github.server.requests)
    with pytest.raises(errors.Throttled):
        await session.verify()
    assert len(github.server.requests) == asked
    await session.close()


async def test_an_unreachable_endpoint_is_told_by_its_host(github: GitHub) -> None:
    session = await opened(github, token=secret(TOKEN))
    await github.server.stop()
    with pytest.raises(errors.Unavailable, match=r"127\.0\.0\.1:\d+ cannot be reached"):
        await session.verify()
    await session.close()
