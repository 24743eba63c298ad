"""Which endpoints a connection may name: none that leads to the node's own identity."""

import asyncio
import socket
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from auterity.engine.errors import Rejected, Unavailable
from auterity.transport import http
from auterity.transport.endpoints import checked, refuse_host, refuse_resolved
from tests.unit.transport.test_http import door

ALLOWED = [
    ("https://api.vendor.example", "https://api.vendor.example"),
    ("https://api.vendor.example/", "https://api.vendor.example"),
    ("https://api.vendor.example:8443/v2/", "https://api.vendor.example:8443/v2"),
    ("https://10.0.0.7", "https://10.0.0.7"),
    ("https://[2001:db8::1]:8443", "https://[2001:db8::1]:8443"),
    ("https://metadata.vendor.example", "https://metadata.vendor.example"),
    ("https://169.254.vendor.example", "https://169.254.vendor.example"),
]

METADATA = [
    "169.254.169.254",
    "169.254.169.254.",
    "169.254.0.1",
    "169.254.170.2",
    "168.63.129.16",
    "100.100.100.200",
    "192.0.0.192",
    "metadata",
    "metadata.google.internal",
    "METADATA.Google.Internal.",
    "metadata.goog",
    "instance-data.ec2.internal",
    "[fe80::1]",
    "[fe80::1%25eth0]",
    "[fd00:ec2::254]",
    "[fd20:ce::254]",
    "[::ffff:169.254.169.254]",
    "[::ffff:a9fe:a9fe]",
    "[64:ff9b::169.254.169.254]",
    "[64:ff9b::a83f:8110]",
    "[2002:a9fe:a9fe::1]",
]


@pytest.mark.parametrize(("endpoint", "kept"), ALLOWED)
def test_an_ordinary_endpoint_is_taken_without_its_last_slash(endpoint: str, kept: str):
    assert checked(endpoint, allow_insecure=False) == kept


@pytest.mark.parametrize("host", METADATA)
@pytest.mark.parametrize("scheme", ["http", "https"])
def test_the_nodes_own_identity_is_out_of_reach(scheme: str, host: str):
    for endpoint in (f"{scheme}://{host}", f"{scheme}://{host}:8080/latest"):
        with pytest.raises(Rejected, match="link-local or metadata"):
            checked(endpoint, allow_insecure=True)


@pytest.mark.parametrize(
    "endpoint",
    [
        "https://user:word@api.vendor.example",
        "https://user@api.vendor.example",
        "https://:word@api.vendor.example",
        "https://api.vendor.example\\@169.254.169.254/",
    ],
)
def test_credentials_have_no_place_in_an_endpoint(endpoint: str):
    with pytest.raises(Rejected) as caught:
        checked(endpoint, allow_insecure=True)
    assert "word" not in str(caught.value)


@pytest.mark.parametrize(
    "endpoint",
    ["", "api.vendor.example", "ftp://host", "file:///etc/passwd", "https://", "https://h:port"],
)
def test_what_is_no_url_is_refused(endpoint: str):
    with pytest.raises(Rejected, match="is not a URL"):
        checked(endpoint, allow_insecure=True)


def test_http_is_only_for_those_who_allow_it():
    with pytest.raises(Rejected, match="--allow-insecure-endpoints"):
        checked("http://10.0.0.7", allow_insecure=False)
    assert checked("http://10.0.0.7", allow_insecure=True) == "http://10.0.0.7"


@given(
    st.ip_addresses(v=4, network="169.254.0.0/16"), st.sampled_from(["", "::ffff:", "64:ff9b::"])
)
def test_no_spelling_of_a_link_local_address_passes(address: Any, prefix: str):
    with pytest.raises(Rejected):
        refuse_host(f"{prefix}{address}")


@given(st.ip_addresses(v=4, network="203.0.113.0/24"), st.sampled_from(["", "::ffff:"]))
def test_other_addresses_pass(address: Any, prefix: str):
    refuse_host(f"{prefix}{address}")


def _resolving(monkeypatch: pytest.MonkeyPatch, *addresses: str) -> None:
    async def resolve(*_: Any, **__: Any) -> Any:
        if not addresses:
            raise socket.gaierror("no such name")
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (one, 0)) for one in addresses]

    monkeypatch.setattr(asyncio.BaseEventLoop, "getaddrinfo", resolve)


async def test_a_name_is_refused_by_what_it_resolves_to(monkeypatch: pytest.MonkeyPatch):
    _resolving(monkeypatch, "203.0.113.7", "169.254.169.254")
    with pytest.raises(Rejected, match=r"evil\.example resolves"):
        await refuse_resolved("evil.example")


async def test_a_name_that_resolves_elsewhere_or_nowhere_passes(monkeypatch: pytest.MonkeyPatch):
    _resolving(monkeypatch, "203.0.113.7")
    await refuse_resolved("good.example")
    _resolving(monkeypatch)
    await refuse_resolved("nowhere.example")


@pytest.mark.parametrize("host", ["2852039166", "0xa9fea9fe", "169.254.43518"])
async def test_a_number_that_the_system_takes_for_an_address_is_not_connected_to(host: str):
    async with http.client(f"http://{host}") as client:
        with pytest.raises((Rejected, Unavailable), match=r"link-local|cannot be reached"):
            await http.send(door(), client, "GET", "/latest")


@pytest.mark.parametrize("host", ["1.2.3.999", "0177.0.0.1", "xn--", "a..b\u2603", "[::1"])
async def test_a_host_that_cannot_be_one_is_refused_in_words(host: str):
    with pytest.raises(Rejected, match="is not a URL"):
        async with http.client(checked(f"https://{host}", allow_insecure=False)) as client:
            await http.send(door(), client, "GET", "/latest")
