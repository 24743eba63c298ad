"""Modal's control plane by gRPC (https://modal.com/docs/guide/endpoints).

There is no REST API. The SDK's own client keeps its address and credentials for the whole process
and repeats calls by itself, so only its messages are used, over a channel of each connection's own.
"""

import asyncio
import logging
import os
import platform
import re
import ssl
from collections.abc import Mapping, Sequence
from functools import cache
from typing import TYPE_CHECKING, Any, ClassVar, Final
from urllib.parse import urlsplit

import certifi

from auterity.api.connection import RateLimit
from auterity.api.fields import SecretValue, ShortText, Url
from auterity.engine.calls import Call, Door, fence, reads
from auterity.engine.contract import Access, Connector, Identity, Session
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
from auterity.transport import http
from auterity.transport.endpoints import checked, refuse_resolved

if TYPE_CHECKING:
    from grpclib import GRPCError
    from grpclib.client import Channel

JSON = dict[str, Any]
TIMEOUT: Final = 30.0
KEEPALIVE: Final = 30.0
"""Seconds between pings, as Modal's own client has them."""
RETRY_POLICY: Final = "modal.client.RPCRetryPolicy"

_LOOKS: Final = frozenset({"AppDeploymentHistory"})
"""Calls that only look and whose name does not tell."""
_GET_OR_CREATE: Final = re.compile(r"([A-Za-z]+)GetOrCreate")

# Limits on how often one may call carry a policy; those on things and money only have words.
_USED_UP: Final = re.compile(r"quota|billing|budget|spend|plan\b|maximum number", re.IGNORECASE)


class ModalConnection(Connector):
    """One environment of a workspace at Modal."""

    vendor: ClassVar[str] = "modal"
    # Modal publishes no limits; its own client makes a few calls at a time.
    rate_limit: ClassVar[RateLimit] = RateLimit(per_second=5, burst=20, concurrent=4)

    endpoint: Url = "https://api.modal.com"
    """Address of Modal's control plane."""
    token_id: SecretValue
    """Id of an API token (ak-...), best of a service user of the environment."""
    token_secret: SecretValue
    """The token's secret (as-...). Not a proxy token, which is for requests to what is deployed."""
    environment: ShortText = "main"
    """The environment in which everything is made."""

    async def open(self, access: Access) -> "ModalSession":
        endpoint = checked(self.endpoint, allow_insecure=access.allow_insecure)
        return ModalSession(access.door, self, endpoint)


class ModalSession(Session):
    """Calls to Modal's control plane, with messages as JSON by the names of Modal's protocol."""

    def __init__(self, door: Door, connector: ModalConnection, endpoint: str) -> None:
        self.door, self.connector = door, connector
        self._at = urlsplit(endpoint)
        self._channel: Channel | None = None

    @property
    def environment(self) -> str:
        """The environment that everything is in."""
        return self.connector.environment

    async def verify(self) -> Identity:
        told = await self.call("TokenInfoGet")
        person = told.get("user_identity", {}).get("username")
        robot = told.get("service_user_identity", {}).get("service_user_name")
        who = f"service user {robot}" if robot else f"user {person or 'unknown'}"
        return Identity(
            f"{who} in workspace {told.get('workspace_name', 'unknown')}",
            expires_at=told.get("expires_at"),
        )

    async def call(self, method: str, **request: Any) -> JSON:
        """One call; fields that have their default are left out of the answer."""
        messages, json_format = _sdk()
        label = label_of(method, creates="object_creation_type" in request)
        async with self.door.call(label) as call:
            message = getattr(messages, f"{method}Request")()
            try:
                json_format.ParseDict(request, message)
            except json_format.ParseError:
                # Without its cause, which quotes what was sent.
                raise Rejected(f"Modal's {method} does not take what was declared") from None
            await refuse_resolved(self._at.hostname or "")
            answer = await self._send(method, message, call, repeatable=reads(label))
            told: JSON = json_format.MessageToDict(answer, preserving_proto_field_name=True)
            return told

    async def find(self, method: str, **request: Any) -> JSON | None:
        """As `call`; None if Modal does not know what is asked about."""
        try:
            return await self.call(method, **request)
        except NotFound:
            return None

    async def close(self) -> None:
        if self._channel is not None:
            self._channel.close()
            self._channel = None

    async def _send(self, method: str, message: Any, call: Call, *, repeatable: bool) -> Any:
        from google.protobuf.message import DecodeError
        from grpclib import GRPCError
        from grpclib.exceptions import ProtocolError, StreamTerminatedError
        from h2.exceptions import ProtocolError as Http2Error

        broken = (StreamTerminatedError, ProtocolError, Http2Error, ConnectionError)
        where = self._at.hostname
        try:
            async with asyncio.timeout(TIMEOUT):
                try:
                    answer = await self._once(method, message)
                except broken:
                    # The one retry there is: a read whose connection was closed under us.
                    if not repeatable:
                        raise
                    answer = await self._once(method, message)
        except GRPCError as error:
            call.status = error.status.name
            raise failure(error, method) from None
        except DecodeError:
            # Without its cause, which may quote the answer.
            raise Unavailable(
                f"{where} answered what is not Modal's protocol; is the endpoint right?"
            ) from None
        except TimeoutError as error:
            raise Unavailable(f"{where} did not answer in time") from error
        except ssl.SSLError as error:
            raise Unavailable(f"{where} cannot be trusted: its certificate is refused") from error
        except (*broken, OSError) as error:
            raise Unavailable(f"{where} cannot be reached") from error
        call.status = "OK"
        return answer

    async def _once(self, method: str, message: Any) -> Any:
        from modal_proto.api_grpc import ModalClientStub

        if self._channel is None:
            self._channel = self._open()
        await self._channel.__connect__()
        fence()
        stub = ModalClientStub(self._channel)
        return await getattr(stub, method)(message, timeout=TIMEOUT, metadata=self._metadata())

    def _open(self) -> "Channel":
        from grpclib.client import Channel
        from grpclib.config import Configuration

        # At DEBUG it tells every header, the token among them.
        logging.getLogger("hpack").setLevel(logging.INFO)
        encrypted = self._at.scheme == "https"
        return Channel(
            self._at.hostname,
            self._at.port or (443 if encrypted else 80),
            ssl=_tls() if encrypted else None,
            status_details_codec=_details(),
            config=Configuration(
                _keepalive_time=KEEPALIVE,
                _keepalive_permit_without_calls=True,
                _http2_min_sent_ping_interval_without_data=KEEPALIVE / 2,
            ),
        )

    def _metadata(self) -> Mapping[str, str]:
        from modal_proto import api_pb2
        from modal_version import __version__

        return {
            "x-modal-client-version": __version__,
            "x-modal-client-type": str(api_pb2.CLIENT_TYPE_CLIENT),
            "x-modal-python-version": platform.python_version(),
            "x-modal-host": self._at.hostname or "",
            "x-modal-token-id": self.connector.token_id.reveal(),
            "x-modal-token-secret": self.connector.token_secret.reveal(),
        }


def label_of(method: str, *, creates: bool = False) -> str:
    """The door's name for a call: the verb first, so that what only looks is known as such.

    A GetOrCreate `creates` if it is told how to, and else is how Modal looks something up.
    """
    if method in _LOOKS:
        return f"Get{method}"
    if thing := _GET_OR_CREATE.match(method):
        return f"{'Create' if creates else 'Get'}{thing[1]}"
    return re.sub(r"^([A-Za-z]+?)(Get|List)", r"\2\1", method)


def failure(error: "GRPCError", method: str) -> Failure:
    """The failure that a status of Modal's means."""
    text, status = error.message or "", error.status.name
    said = http.reason(http.Answer(0, {}, {"message": text}))
    if status == "RESOURCE_EXHAUSTED":
        wait = next(iter(error.details or ()), None)
        if wait is None and _USED_UP.search(text):
            return Rejected(f"a limit of the workspace at Modal is reached{said}")
        return Throttled(f"Modal asked for fewer calls{said}", wait)
    refusals: dict[str, Failure] = {
        "UNAUTHENTICATED": Unauthorized(
            f"Modal refuses the token{said}; check tokenId and tokenSecret of the connection"
        ),
        "PERMISSION_DENIED": Unauthorized(f"the token may not do {method} at Modal{said}"),
        "NOT_FOUND": NotFound(f"Modal does not know it{said}"),
        "ALREADY_EXISTS": Conflict(f"Modal has something of that name{said}"),
        "ABORTED": Busy(f"Modal is still working on it{said}"),
        "INVALID_ARGUMENT": Rejected(f"Modal refuses it{said}"),
        "OUT_OF_RANGE": Rejected(f"Modal refuses it{said}"),
        "FAILED_PRECONDITION": Rejected(f"Modal refuses it as things are{said}"),
        "UNIMPLEMENTED": Rejected(
            f"Modal no longer knows {method}: its protocol has changed; upgrade the operator"
        ),
    }
    return refusals.get(status) or Unavailable(f"Modal cannot answer now ({status}){said}")


@cache
def _tls() -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=os.environ.get("SSL_CERT_FILE") or certifi.where())
    context.set_alpn_protocols(["h2"])
    return context


@cache
def _details() -> Any:
    """Reads of an error's details the seconds that Modal asks to wait, and nothing else."""
    from grpclib import Status
    from grpclib.encoding.base import StatusDetailsCodecBase
    from modal_proto import api_pb2

    class Waits(StatusDetailsCodecBase):
        def encode(self, status: Status, message: str | None, details: Sequence[Any]) -> bytes:
            raise NotImplementedError

        def decode(self, status: Status, message: str | None, data: bytes) -> list[float]:
            waits = []
            for detail in api_pb2.RPCStatus.FromString(data).details:
                if detail.TypeName() == RETRY_POLICY:
                    policy = api_pb2.RPCRetryPolicy.FromString(detail.value)
                    waits.append(policy.retry_after_secs)
            return waits

    return Waits()


def _sdk() -> tuple[Any, Any]:
    try:
        import grpclib  # noqa: F401 - it comes with Modal's SDK
        from google.protobuf import json_format
        from modal_proto import api_pb2
    except ImportError as error:
        raise Rejected("Modal's SDK is missing: install auterity[modal]") from error
    return api_pb2, json_format
