"""Google's answers, told by the reaction; credentials; and the owner's mark in labels."""

import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
from aiohttp import web

from auterity.api.connection import RateLimit
from auterity.engine.calls import Door
from auterity.engine.contract import Access
from auterity.engine.errors import (
    Busy,
    Conflict,
    Failure,
    NotFound,
    Rejected,
    Throttled,
    Unauthorized,
    Unavailable,
)
from auterity.engine.limits import Budget
from auterity.transport import http
from auterity.transport.google import (
    VERTEX,
    GoogleConnection,
    GoogleSession,
    refusal,
)
from tests.conformance.cluster import MemoryCluster, Recorder
from tests.fakes.google import EMAIL, LOCATION, PROJECT
from tests.fakes.vertex import KEY, VertexVendor

QUOTA = "The following quotas are exceeded: CustomModelServingT4GPUsPerProjectPerRegion"
RATE = (
    "Quota exceeded for quota metric 'Resource management requests' and limit 'requests per minute'"
)


def told(status: int, code: str, message: str, *details: Any, **headers: str) -> Failure:
    error = {"code": status, "status": code, "message": message, "details": details}
    return refusal(http.Answer(status, headers, {"error": error}), "DeployModel")


def info(reason: str) -> dict[str, str]:
    return {"@type": "type.googleapis.com/google.rpc.ErrorInfo", "reason": reason}


@pytest.mark.parametrize(
    ("status", "code", "message", "failure"),
    [
        (400, "INVALID_ARGUMENT", "Machine type x is not supported.", Rejected),
        (400, "FAILED_PRECONDITION", "Another operation is in progress.", Busy),
        (400, "FAILED_PRECONDITION", "Model m is deployed: undeploy it first.", Rejected),
        (401, "UNAUTHENTICATED", "Request had invalid credentials.", Unauthorized),
        (403, "PERMISSION_DENIED", "Permission 'iam.serviceAccounts.actAs' denied", Unauthorized),
        (404, "NOT_FOUND", "The resource was not found.", NotFound),
        (409, "ALREADY_EXISTS", "Endpoint e already exists.", Conflict),
        (409, "ABORTED", "The etag does not match.", Busy),
        (429, "RESOURCE_EXHAUSTED", QUOTA, Rejected),
        (429, "RESOURCE_EXHAUSTED", "Resources are insufficient in region", Rejected),
        (429, "RESOURCE_EXHAUSTED", RATE, Throttled),
        (429, "RESOURCE_EXHAUSTED", "Try again later.", Throttled),
        (429, "RESOURCE_EXHAUSTED", f"{QUOTA}Accelerated", Rejected),
        (412, "FAILED_PRECONDITION", "The etag is not that of the resource.", Busy),
        (499, "CANCELLED", "The operation was cancelled.", Unavailable),
        (500, "INTERNAL", "Internal error encountered.", Unavailable),
        (503, "UNAVAILABLE", "The service is unavailable.", Unavailable),
        (504, "DEADLINE_EXCEEDED", "Deadline exceeded.", Unavailable),
    ],
)
def test_an_answer_is_named_by_the_reaction(
    status: int, code: str, message: str, failure: type[Failure]
):
    found = told(status, code, message)
    assert type(found) is failure
    assert message.partition("'")[0].rstrip(".") in found.message


def test_a_quota_is_not_taken_for_too_many_calls():
    assert told(429, "RESOURCE_EXHAUSTED", QUOTA).message == (
        f"a quota of the project is used up; ask Google to raise it: {QUOTA}"
    )


def test_a_quota_is_known_by_its_detail_whatever_the_text():
    used_up = {"@type": "type.googleapis.com/google.rpc.QuotaFailure", "violations": []}
    assert isinstance(told(429, "RESOURCE_EXHAUSTED", "No more of it.", used_up), Rejected)
    limited = told(429, "RESOURCE_EXHAUSTED", "No.", used_up, info("RATE_LIMIT_EXCEEDED"))
    assert isinstance(limited, Throttled)


def test_a_wait_that_google_asks_for_is_kept():
    delay = {"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": "12.5s"}
    by_body = told(429, "RESOURCE_EXHAUSTED", QUOTA, delay)
    by_header = told(429, "RESOURCE_EXHAUSTED", "slow down", **{"retry-after": "7"})
    assert isinstance(by_body, Throttled)
    assert isinstance(by_header, Throttled)
    assert (by_body.retry_after, by_header.retry_after) == (12.5, 7.0)


def test_a_project_that_is_not_set_up_is_told_apart_from_lacking_rights():
    disabled = told(403, "PERMISSION_DENIED", "Enable it by visiting ...", info("SERVICE_DISABLED"))
    assert disabled.message == (
        "the project is not set up for it: SERVICE_DISABLED: Enable it by visiting ..."
    )
    limited = told(403, "PERMISSION_DENIED", "Rate Limit Exceeded", info("rateLimitExceeded"))
    assert isinstance(limited, Throttled)


def test_a_404_of_someone_else_is_not_taken_for_is_gone():
    answer = http.Answer(404, {}, "<html>")
    assert isinstance(refusal(answer, "GetEndpoint"), Unavailable)


@pytest.mark.parametrize(
    ("location", "host"),
    [
        ("europe-west4", "europe-west4-aiplatform.googleapis.com"),
        ("global", "aiplatform.googleapis.com"),
        ("eu", "aiplatform.eu.rep.googleapis.com"),
    ],
)
def test_every_location_has_a_host(location: str, host: str):
    assert VERTEX.host(location) == host


def access(**settings: Any) -> Access:
    budget = Budget(RateLimit(per_second=10000, burst=10000, concurrent=50))
    door = Door("google", "team/google", budget, Recorder())
    return Access(door, MemoryCluster().secret_store("team"), allow_insecure=True, **settings)


def connection(key: str | None = KEY, endpoint: str | None = None) -> GoogleConnection:
    block: dict[str, Any] = {"project": PROJECT, "location": LOCATION, "endpoint": endpoint}
    if key is not None:
        block["serviceAccountKey"] = {"secretKeyRef": {"name": "google", "key": "key"}}
    made = GoogleConnection.model_validate(block)
    if made.service_account_key is not None:
        made.service_account_key.resolve(key or "", "1")
    return made


@pytest.fixture
async def vendor() -> AsyncIterator[VertexVendor]:
    made = VertexVendor()
    await made.start()
    yield made
    await made.stop()


async def test_the_identity_is_the_service_account(vendor: VertexVendor):
    session = await connection(endpoint=vendor.url).open(access())
    try:
        assert (await session.verify()).name == f"{EMAIL} in project {PROJECT}"
    finally:
        await session.close()


async def test_the_credentials_ask_for_nothing_past_the_door(
    vendor: VertexVendor, monkeypatch: pytest.MonkeyPatch
):
    from google.auth import _regional_access_boundary_utils as boundary

    asked: list[object] = []
    manager = boundary._RegionalAccessBoundaryRefreshManager
    monkeypatch.setattr(manager, "start_refresh", lambda *args: asked.append(args))
    session = await connection(endpoint=vendor.url).open(access())
    try:
        await session.verify()
        await session.get(VERTEX, "ListEndpoints", f"{session.parent}/endpoints")
    finally:
        await session.close()
    assert asked == []


async def test_a_key_that_is_none_is_told_without_showing_it():
    for key in ("not JSON", '{"type": "external_account", "token_url": "https://x"}', "[]"):
        session = await connection(key, "http://127.0.0.1:9").open(access())
        with pytest.raises(Unauthorized, match="is not the JSON key") as found:
            await session.verify()
        assert found.value.__cause__ is None
        assert key not in found.value.message
        await session.close()


async def test_the_operators_identity_is_not_lent_to_everyone():
    with pytest.raises(Rejected, match="lends its own Google identity only"):
        await connection(key=None).open(access())
    lent = await connection(key=None).open(access(lends_identity=True))
    await lent.close()


async def test_a_metadata_address_is_refused():
    with pytest.raises(Rejected, match="metadata"):
        await connection(endpoint="http://169.254.169.254").open(access())


async def other_than_google(answer: Callable[[], web.StreamResponse]) -> Failure:
    async def handle(_: web.Request) -> web.StreamResponse:
        return answer()

    app = web.Application()
    app.router.add_route("*", "/{tail:.*}", handle)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    session: GoogleSession = await connection(endpoint=url).open(access())
    try:
        with pytest.raises(Failure) as found:
            await session.verify()
        with pytest.raises(Failure) as also:
            await session.operations(VERTEX, "projects/p/locations/l/endpoints/e")
        assert type(found.value) is type(also.value)
        return found.value
    finally:
        await session.close()
        await runner.cleanup()


async def test_a_redirect_is_not_followed():
    failure = await other_than_google(lambda: web.Response(status=302, headers={"Location": "/x"}))
    assert isinstance(failure, Unavailable)


async def test_a_web_page_is_no_answer():
    failure = await other_than_google(
        lambda: web.Response(text="<html>Sign in</html>", content_type="text/html")
    )
    assert failure.message == (
        "127.0.0.1 answered what is not the data of Google's API; is the endpoint right?"
    )


async def test_nobody_there_is_told():
    session = await connection(endpoint="http://127.0.0.1:9").open(access())
    with pytest.raises(Unavailable, match=r"127\.0\.0\.1 cannot be reached"):
        await session.verify()
    await session.close()


async def test_fields_that_a_method_does_not_have_are_refused_before_the_call():
    session = await connection(endpoint="http://127.0.0.1:9").open(access())
    with pytest.raises(Rejected, match=r'GetEndpoint does not take it.*no field named "nmae"'):
        await session.call(VERTEX, "EndpointService", "GetEndpoint", nmae="x")
    await session.close()


PART = """
import sys
from auterity.transport.google import VERTEX, _part
before = set(sys.modules)
endpoints = _part(VERTEX, "services.endpoint_service")
_part(VERTEX, "types.endpoint_service")
models = _part(VERTEX, "services.model_service")
loaded = {name.rpartition(".")[2] for name in sys.modules if "aiplatform_v1.services." in name}
print(*sorted(name for name in loaded if name.endswith("_service")))
from google.cloud import aiplatform_v1 as whole
assert whole.EndpointServiceClient is endpoints.EndpointServiceClient
assert whole.ModelServiceClient is models.ModelServiceClient
assert whole.DeployModelRequest is _part(VERTEX, "types.endpoint_service").DeployModelRequest
"""


def test_of_googles_client_library_only_what_is_used_is_loaded() -> None:
    done = subprocess.run([sys.executable, "-c", PART], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == ["endpoint_service", "model_service"]
