"""Which endpoints a connection may name."""

import asyncio
import ipaddress
import socket
from typing import Final
from urllib.parse import urlsplit

from auterity.engine.errors import Rejected

METADATA_HOSTS: Final = frozenset(
    {
        "metadata",
        "metadata.google.internal",
        "metadata.goog",
        "instance-data",
        "instance-data.ec2.internal",
    }
)
METADATA_ADDRESSES: Final = frozenset(
    ipaddress.ip_address(address)
    for address in (
        "100.100.100.200",  # Alibaba Cloud
        "168.63.129.16",  # Azure's wire server
        "192.0.0.192",  # Oracle Cloud
        "fd00:ec2::254",  # AWS over IPv6
        "fd20:ce::254",  # Google Cloud over IPv6
    )
)

NAT64: Final = ipaddress.IPv6Network("64:ff9b::/96")


def checked(endpoint: str, *, allow_insecure: bool) -> str:
    """The endpoint without a trailing slash.

    Raises Rejected if it is not https (unless allowed), carries credentials, or names a
    link-local or metadata address: a Connection must not be a way to the node's own identity.
    """
    try:
        parts = urlsplit(endpoint)
        host, _ = parts.hostname, parts.port
    except ValueError:
        host = None
    if host is None or parts.scheme not in ("https", "http"):
        raise Rejected(f"endpoint {endpoint!r} is not a URL such as https://host")
    if parts.username or parts.password:
        raise Rejected("endpoint must not carry credentials; use the connection's secret fields")
    if parts.scheme == "http" and not allow_insecure:
        raise Rejected(
            f"endpoint {endpoint} is not https; the operator allows http only when started with "
            "--allow-insecure-endpoints"
        )
    refuse_host(host)
    return endpoint.rstrip("/")


def refuse_host(host: str) -> None:
    """Raises Rejected for a link-local or metadata host."""
    name = host.rstrip(".").lower()
    if name in METADATA_HOSTS or _is_metadata(name):
        raise Rejected(f"endpoint host {host} is a link-local or metadata address; not allowed")


async def refuse_resolved(host: str) -> None:
    """Raises Rejected if a host resolves to a link-local or metadata address.

    For SDKs that resolve names themselves. A host that does not resolve is left to the call.
    """
    try:
        found = await asyncio.get_running_loop().getaddrinfo(host, None, type=socket.SOCK_STREAM)
    except OSError:
        return
    for *_, address in found:
        if _is_metadata(str(address[0])):
            raise Rejected(f"endpoint host {host} resolves to a link-local or metadata address")


def _translated(address: ipaddress.IPv6Address) -> ipaddress.IPv4Address | None:
    """The IPv4 address that a NAT64 gateway would turn it into."""
    return ipaddress.IPv4Address(int(address) & 0xFFFFFFFF) if address in NAT64 else None


def _is_metadata(host: str) -> bool:
    try:
        address = ipaddress.ip_address(host.strip("[]").split("%")[0])
    except ValueError:
        return False
    if isinstance(address, ipaddress.IPv6Address):
        address = address.ipv4_mapped or address.sixtofour or _translated(address) or address
    return address.is_link_local or address in METADATA_ADDRESSES
