"""What direct tests of providers share: the engine over a stand-in, and sessions at moto."""

from collections.abc import AsyncIterator, Awaitable, Callable, Iterator

import pytest

from auterity.api.connection import RateLimit
from auterity.engine.calls import Door
from auterity.engine.contract import Access
from auterity.engine.limits import Budget
from auterity.transport.aws import AwsConnection, AwsSession
from tests.conformance.cluster import MemoryCluster, Recorder
from tests.conformance.harness import Harness
from tests.conformance.vendor import Vendor
from tools.servers.ministack import Ministack
from tools.servers.moto import Moto


@pytest.fixture
async def harness(request: pytest.FixtureRequest) -> AsyncIterator[Harness]:
    """The engine over the module's STAND_IN, or over the one that is the test's parameter."""
    vendor: type[Vendor] = getattr(request, "param", None) or request.module.STAND_IN
    standing = vendor()
    await standing.start()
    it = Harness(standing)
    await it.start()
    yield it
    await it.stop()
    await standing.stop()


@pytest.fixture(scope="module")
def moto() -> Iterator[Moto]:
    if (reason := Moto.available()) is not None:
        pytest.skip(reason)
    with Moto() as server:
        yield server


@pytest.fixture(scope="module")
def ministack() -> Iterator[Ministack]:
    if (reason := Ministack.available()) is not None:
        pytest.skip(reason)
    with Ministack() as server:
        yield server


@pytest.fixture
async def sign_in() -> AsyncIterator[Callable[..., Awaitable[AwsSession]]]:
    """Opens sessions at a server that speaks as AWS does, and closes them afterwards."""
    opened: list[AwsSession] = []

    async def open_(url: str, key: str = "AKIAROOT000000000001", secret: str = "any") -> AwsSession:
        block = AwsConnection.model_validate(
            {
                "region": "eu-central-1",
                "accessKeyId": key,
                "secretAccessKey": {"secretKeyRef": {"name": "aws", "key": "secret"}},
                "endpoint": url,
            }
        )
        assert block.secret_access_key is not None
        block.secret_access_key.resolve(secret, "1")
        limit = RateLimit(per_second=1000, burst=1000, concurrent=20)
        door = Door("aws", "team/aws", Budget(limit), Recorder())
        secrets = MemoryCluster().secret_store("team")
        access = Access(door, secrets, allow_insecure=True, namespace="team")
        opened.append(await block.open(access))
        return opened[-1]

    yield open_
    for session in opened:
        await session.close()
