"""Renewed credentials: no doubt about the old ones is lost."""

from auterity.engine.subject import Key, SecretData
from tests.conformance.harness import Harness


async def test_a_secret_that_is_renewed_while_it_is_read_is_read_again(
    harness: Harness, monkeypatch
):
    harness.apply()
    await harness.converge()
    read: list[Key] = []
    secret = harness.cluster.secret

    async def renewed_meanwhile(namespace: str, name: str) -> SecretData | None:
        found = await secret(namespace, name)
        read.append(Key("Secret", namespace, name))
        if len(read) == 1:
            harness.connections.doubt(harness.connection)
        return found

    monkeypatch.setattr(harness.cluster, "secret", renewed_meanwhile)
    harness.connections.doubt(harness.connection)
    await harness.visit()
    before = len(read)
    await harness.visit()
    assert len(read) > before
