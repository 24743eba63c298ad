"""One certificate for all replicas, renewed before it ends, trusted all the while."""

import asyncio
import ssl
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta

import pytest
from cryptography import x509

from auterity.engine.errors import Busy
from auterity.runtime import certificates
from auterity.runtime.certificates import Certificate, shared

NAMES = ["hook.ops.svc", "127.0.0.1"]
NOW = datetime.now(UTC).replace(microsecond=0)


class Store:
    """A Secret."""

    def __init__(self) -> None:
        self.data: dict[str, str] | None = None
        self.version = 0
        self.writes = 0

    async def read(self, name: str) -> tuple[dict[str, str], str] | None:
        assert name == "hook-admission"
        found = None if self.data is None else (dict(self.data), str(self.version))
        await asyncio.sleep(0)
        return found

    async def write(self, name: str, data: Mapping[str, str], version: str | None) -> str:
        if version != (None if self.data is None else str(self.version)):
            raise Busy("someone else was faster")
        self.data, self.version, self.writes = dict(data), self.version + 1, self.writes + 1
        return str(self.version)


@pytest.fixture
def store() -> Store:
    return Store()


async def made(store: Store, now: datetime = NOW, names: list[str] = NAMES) -> Certificate:
    return await shared(store, "hook-admission", names, now)


async def greet(serving: Certificate, trusting: Certificate, name: str, tmp_path) -> None:
    """A TLS handshake of an API server that trusts one with a replica that serves another."""
    chain, key = tmp_path / "chain", tmp_path / "key"
    chain.write_text(serving.chain)
    key.write_text(serving.key)
    ours = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    ours.load_cert_chain(chain, key)
    theirs = ssl.create_default_context(cadata=trusting.authorities)
    # What newer versions of Python ask by default.
    theirs.verify_flags |= ssl.VERIFY_X509_STRICT

    async def answer(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0, ssl=ours)
    try:
        port = server.sockets[0].getsockname()[1]
        _, writer = await asyncio.open_connection(
            "127.0.0.1", port, ssl=theirs, server_hostname=name
        )
        writer.close()
        await writer.wait_closed()
    finally:
        server.close()


async def test_the_first_replica_makes_it_and_the_others_take_it(store: Store, tmp_path):
    first, second = await asyncio.gather(made(store), made(store))
    assert first == second
    assert store.writes == 1
    assert await made(store) == first
    for name in NAMES:
        await greet(first, second, name, tmp_path)
    with pytest.raises(ssl.SSLCertVerificationError):
        await greet(first, second, "other.ops.svc", tmp_path)


async def test_it_is_renewed_before_it_ends_by_the_same_authority(store: Store, tmp_path):
    first = await made(store)
    later = NOW + certificates.RENEWED_AFTER
    assert await made(store, later - timedelta(seconds=1)) == first
    second = await made(store, later)
    assert second != first
    assert second.authorities == first.authorities
    found = x509.load_pem_x509_certificate(second.chain.encode())
    assert found.not_valid_after_utc - later == certificates.LASTS
    assert found.not_valid_before_utc < later


async def test_a_new_authority_is_trusted_beside_the_old_one(store: Store, tmp_path):
    first = await made(store)
    later = NOW + certificates.AUTHORITY_RENEWED_AFTER
    second = await made(store, later)
    held = x509.load_pem_x509_certificates(second.authorities.encode())
    assert len(held) == 2
    assert held[0].subject != held[1].subject
    # A replica that has not looked yet serves with the old one.
    await greet(first, second, NAMES[0], tmp_path)
    with pytest.raises(ssl.SSLCertVerificationError):
        await greet(second, first, NAMES[0], tmp_path)
    third = await made(store, later + certificates.AUTHORITY_RENEWED_AFTER)
    held = x509.load_pem_x509_certificates(third.authorities.encode())
    assert len(held) == 2, "the oldest is trusted no more"


async def test_other_names_and_a_spoilt_secret_need_a_new_one(store: Store, tmp_path):
    first = await made(store)
    second = await made(store, names=["other.ops.svc"])
    assert second.authorities == first.authorities
    await greet(second, first, "other.ops.svc", tmp_path)
    assert store.data is not None
    for spoilt in (
        {},
        {"ca.crt": "x"},
        {**store.data, "renewedAfter": "soon"},
        {**store.data, "ca.crt": "x", "names": "[]"},
    ):
        store.data = dict(spoilt)
        found = await made(store)
        await greet(found, found, NAMES[0], tmp_path)


async def test_it_gives_up_where_others_write_all_the_time(
    store: Store, monkeypatch: pytest.MonkeyPatch
):
    async def write(*_: object) -> str:
        raise Busy("someone else was faster")

    monkeypatch.setattr(store, "write", write)
    with pytest.raises(Busy, match="hook-admission"):
        await made(store)


async def test_nothing_tells_the_keys(store: Store):
    found = await made(store)
    assert "PRIVATE KEY" in found.key
    assert "PRIVATE" not in repr(found)


def test_without_the_library_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    with pytest.raises(ModuleNotFoundError, match=r"install auterity\[admission\]"):
        certificates.must_be_installed()
