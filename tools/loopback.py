"""Ports and plain HTTP calls on this machine, past any proxy."""

import secrets
import socket
import ssl
import urllib.error
import urllib.request
from collections.abc import Mapping

HOST = "127.0.0.1"


def free_port() -> int:
    """Return a port nobody listens on, below the range that outgoing connections are given.

    A server that restarts on its port would otherwise find it taken by some client now and then.
    """
    for _ in range(100):
        port = 15_000 + secrets.randbelow(17_000)
        with socket.socket() as probe:
            try:
                probe.bind((HOST, port))
            except OSError:
                continue
            return port
    raise RuntimeError("no free port between 15000 and 32000")


def request(
    method: str,
    url: str,
    body: bytes | None = None,
    headers: Mapping[str, str] | None = None,
    *,
    tls: ssl.SSLContext | None = None,
) -> bytes:
    """Send one request and return the body of a good answer; anything else is an OSError.

    A body is JSON unless `headers` says otherwise.
    """
    handlers: list[urllib.request.BaseHandler] = [urllib.request.ProxyHandler({})]
    if tls:
        handlers.append(urllib.request.HTTPSHandler(context=tls))
    fields = {"Content-Type": "application/json", **(headers or {})}
    call = urllib.request.Request(url, body, fields, method=method)  # noqa: S310 - ours, on loopback
    with urllib.request.build_opener(*handlers).open(call, timeout=10) as answer:
        content: bytes = answer.read()
    return content


def answers(
    url: str, headers: Mapping[str, str] | None = None, *, tls: ssl.SSLContext | None = None
) -> bool:
    """Tell whether a GET is answered with success."""
    try:
        request("GET", url, headers=headers, tls=tls)
    except OSError:
        return False
    return True
