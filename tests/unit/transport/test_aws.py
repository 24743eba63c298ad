"""AWS's answers, told by the reaction; and credentials, against moto."""

import asyncio
from collections.abc import AsyncIterator, Iterator

import pytest
from aiohttp import web
from botocore.exceptions import ClientError

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
from auterity.engine.redaction import private, remember
from auterity.transport import aws
from auterity.transport.aws import AwsConnection, AwsSession
from tests.conformance.cluster import MemoryCluster, Recorder
from tools.servers.moto import Moto

ENDPOINT = 'endpoint "arn:aws:sagemaker:eu-central-1:1:endpoint/x".'


def refused(code: str, message: str = "", status: int = 400, **headers: str) -> Failure:
    metadata = {"HTTPStatusCode": status, "HTTPHeaders": headers, "RequestId": "r-1"}
    answer = {"Error": {"Code": code, "Message": message}, "ResponseMetadata": metadata}
    return aws.refusal(ClientError(answer, "DescribeEndpoint"), "sagemaker", "DescribeEndpoint")


@pytest.mark.parametrize(
    ("code", "message", "status", "failure"),
    [
        ("ValidationException", f"Could not find {ENDPOINT}", 400, NotFound),
        ("ValidationException", f"Cannot create already existing {ENDPOINT}", 400, Conflict),
        ("ValidationException", f"Cannot update in-progress {ENDPOINT}", 400, Busy),
        ("ValidationException", "ModelPackage arn:aws:x/1 does not exist.", 400, NotFound),
        ("ValidationException", "The provided job name is currently in use.", 400, Conflict),
        ("ValidationException", "the training job is in status Stopped.", 400, Busy),
        ("ValidationException", "1 validation error detected", 400, Rejected),
        ("ResourceLimitExceeded", "The account-level service limit", 400, Rejected),
        ("LimitExceededException", "", 400, Rejected),
        ("ObjectNotFoundException", "No scalable target", 400, NotFound),
        ("ConcurrentUpdateException", "", 400, Busy),
        ("ResourceNotFoundException", "User pool x does not exist.", 400, NotFound),
        ("GroupExistsException", "", 400, Conflict),
        ("DuplicateProviderException", "", 400, Conflict),
        ("InvalidParameterException", "It has a domain configured", 400, Busy),
        ("ScopeDoesNotExistException", "", 400, Rejected),
        ("ThrottlingException", "Rate exceeded", 400, Throttled),
        ("TooManyRequestsException", "", 400, Throttled),
        ("429", "", 429, Throttled),
        ("ModelNotReadyException", "The model is not ready", 429, Busy),
        ("AccessDeniedException", "User: x is not authorized", 400, Unauthorized),
        ("AccessDenied", "", 403, Unauthorized),
        ("UnrecognizedClientException", "", 400, Unauthorized),
        ("InvalidSignatureException", "Signature expired: 2026", 400, Unauthorized),
        ("ExpiredTokenException", "", 400, Unauthorized),
        ("InternalFailure", "", 500, Unavailable),
        ("500", "<html>moved</html>", 500, Unavailable),
        ("404", "<html>nothing here</html>", 404, Unavailable),
        ("ServiceUnavailable", "", 503, Unavailable),
    ],
)
def test_an_answer_becomes_the_failure_that_it_means(
    code: str, message: str, status: int, failure: type[Failure]
):
    told = refused(code, message, status)
    assert type(told) is failure
    assert "<html>" not in told.message


def test_a_quota_is_told_as_one():
    assert "quota" in refused("ResourceLimitExceeded", "The service limit is 0").message


def test_no_time_of_a_signature_is_told():
    assert "2026" not in refused("InvalidSignatureException", "Signature expired: 2026").message


def test_a_wait_that_is_asked_for_is_kept():
    told = refused("429", "", 429, **{"retry-after": "12"})
    assert isinstance(told, Throttled)
    assert told.retry_after == 12


def test_what_aws_repeats_of_a_secret_is_hidden_before_it_is_cut():
    with private():
        remember("hunter2-hunter2-hunter2")
        long = "x" * (aws.LONGEST_TEXT - 5)
        told = refused("ValidationException", f"{long}hunter2-hunter2-hunter2 is too long")
    assert "hunter2" not in told.message


def connection(**fields: object) -> AwsConnection:
    block = AwsConnection.model_validate(
        {
            "region": "eu-central-1",
            "accessKeyId": "AKIATRANSPORT0000001",
            "secretAccessKey": {"secretKeyRef": {"name": "aws", "key": "secret"}},
            **fields,
        }
    )
    if block.secret_access_key is not None:
        block.secret_access_key.resolve("transport-secret-0123456789", "1")
    return block


async def opened(block: AwsConnection, *, lends_identity: bool = False) -> AwsSession:
    limit = RateLimit(per_second=1000, burst=1000, concurrent=20)
    door = Door("aws", "team/aws", Budget(limit), Recorder())
    secrets = MemoryCluster().secret_store("team")
    access = Access(
        door, secrets, allow_insecure=True, lends_identity=lends_identity, namespace="team"
    )
    return await block.open(access)


async def test_an_access_key_without_its_secret_is_refused():
    with pytest.raises(Rejected, match="go together"):
        await opened(connection(secretAccessKey=None))


async def test_metadata_addresses_are_no_endpoints():
    with pytest.raises(Rejected, match="metadata"):
        await opened(connection(endpoint="http://169.254.169.254"))


async def test_without_a_key_the_nodes_identity_is_not_asked_for(monkeypatch: pytest.MonkeyPatch):
    for name in ("AWS_ACCESS_KEY_ID", "AWS_PROFILE", "AWS_WEB_IDENTITY_TOKEN_FILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", "/nowhere")
    monkeypatch.setenv("AWS_CONFIG_FILE", "/nowhere")
    block = connection(accessKeyId=None, secretAccessKey=None, endpoint="http://127.0.0.1:9")
    with pytest.raises(Rejected, match="lends its own AWS identity only to ClusterConnections"):
        await opened(block)
    session = await opened(block, lends_identity=True)
    with pytest.raises(Unauthorized, match="no AWS credentials"):
        await session.call("sagemaker", "ListModels")
    assert session._session is not None
    chain = session._session._session.get_component("credential_provider").providers
    assert "iam-role" not in [provider.METHOD for provider in chain]
    await session.close()


async def test_a_closed_connection_is_tried_again_by_a_read_and_not_by_a_write():
    seen: list[str] = []

    async def cut(request: web.Request) -> web.Response:
        seen.append(request.headers["X-Amz-Target"])
        assert request.transport is not None
        request.transport.abort()
        raise asyncio.CancelledError

    app = web.Application()
    app.router.add_post("/", cut)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    port = runner.addresses[0][1]
    session = await opened(connection(endpoint=f"http://127.0.0.1:{port}"))
    with pytest.raises(Unavailable):
        await session.call("sagemaker", "DescribeModel", ModelName="m")
    with pytest.raises(Unavailable):
        await session.call("sagemaker", "DeleteModel", ModelName="m")
    assert seen == ["SageMaker.DescribeModel"] * 2 + ["SageMaker.DeleteModel"]
    await session.close()
    await runner.cleanup()


async def test_what_the_sdk_refuses_to_send_is_told():
    session = await opened(connection(endpoint="http://127.0.0.1:9"))
    with pytest.raises(Rejected, match="Unknown parameter"):
        await session.call("sagemaker", "DescribeModel", ModelName="m", Colour="red")
    await session.close()


@pytest.fixture(scope="module")
def moto() -> Iterator[Moto]:
    if (reason := Moto.available()) is not None:
        pytest.skip(reason)
    with Moto() as server:
        yield server


@pytest.fixture
async def account(moto: Moto) -> AsyncIterator[AwsSession]:
    """A session with all rights."""
    moto.reset()
    session = await opened(connection(endpoint=moto.url))
    yield session
    await session.close()


async def test_a_role_is_assumed_and_named(moto: Moto, account: AwsSession):
    role = {"roleArn": "arn:aws:iam::210987654321:role/serving", "externalId": "team-7"}
    session = await opened(connection(endpoint=moto.url, assumeRole=role))
    told = await session.verify()
    assert told.name == "arn:aws:sts::210987654321:assumed-role/serving/auterity-team"
    assert told.expires_at is None
    assert (await account.verify()).name != told.name
    await session.close()


async def test_an_unknown_key_and_a_wrong_secret_are_credentials_refused(
    moto: Moto, account: AwsSession
):
    await account.call("iam", "CreateUser", UserName="team")
    key = (await account.call("iam", "CreateAccessKey", UserName="team"))["AccessKey"]
    moto.enforce_iam()
    unknown = await opened(connection(endpoint=moto.url))
    with pytest.raises(Unauthorized, match="does not know"):
        await unknown.verify()
    wrong = await opened(connection(endpoint=moto.url, accessKeyId=key["AccessKeyId"]))
    with pytest.raises(Unauthorized, match="signature"):
        await wrong.verify()
    await unknown.close()
    await wrong.close()


async def test_many_calls_at_once_share_one_client(account: AwsSession):
    answers = await asyncio.gather(*(account.call("sagemaker", "ListModels") for _ in range(20)))
    assert [answer["Models"] for answer in answers] == [[]] * 20
    assert list(account._clients) == ["sagemaker"]
