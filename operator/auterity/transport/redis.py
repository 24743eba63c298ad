"""Redis by redis-py (https://redis.readthedocs.io): commands to one server."""

import os
import ssl
from types import ModuleType
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Final

import certifi
from pydantic import Field

from auterity.api.connection import RateLimit
from auterity.api.fields import SecretValue, ShortText, Value
from auterity.engine.calls import Door, fence
from auterity.engine.contract import Access, Connector, Identity, Session
from auterity.engine.errors import (
    Conflict,
    Failure,
    NotFound,
    Rejected,
    Throttled,
    Unauthorized,
    Unavailable,
)
from auterity.engine.redaction import hide
from auterity.transport.endpoints import refuse_host, refuse_resolved

if TYPE_CHECKING:
    from redis.asyncio import Redis

TIMEOUT: Final = 20.0
CONNECT_TIMEOUT: Final = 10.0
LONGEST_REASON: Final = 400
MOST_CONNECTIONS: Final = 1000
"""As many as a Connection's budget may allow calls at the same time."""

# The search module has no error codes; its words differ between versions.
_MISSING: Final = ("unknown index name", "no such index", "index not found")
_TAKEN: Final = ("already exists",)
_NO_MODULE: Final = ("unknown command",)


class RedisConnection(Connector):
    """A Redis with the search module: Redis 8, Redis Stack, Redis Enterprise or Redis Cloud.

    Of a cluster name any node; its module must tell the others, as that of Redis Enterprise does.
    """

    vendor: ClassVar[str] = "redis"
    rate_limit: ClassVar[RateLimit] = RateLimit(per_second=100, burst=100, concurrent=8)

    host: Annotated[str, Field(min_length=1, max_length=253, pattern=r"^[A-Za-z0-9._:-]+$")]
    """Name or address of the server."""
    port: Annotated[int, Field(ge=1, le=65535)] = 6379
    """Its port."""
    user: ShortText = "default"
    """The user to log in as."""
    password: SecretValue | None = None
    """The user's password. It may be left out only for a server that asks for none."""
    tls: bool = True
    """Whether the connection is encrypted, and the server's certificate and name are checked.
    Without it, the operator must have been started with --allow-insecure-endpoints."""
    ca_certificate: Value | None = None
    """PEM certificates of the authorities that may have signed the server's certificate, besides
    the public ones."""

    async def open(self, access: Access) -> "RedisSession":
        refuse_host(self.host)
        if not self.tls and not access.allow_insecure:
            raise Rejected(
                "tls is false; the operator allows that only when started with "
                "--allow-insecure-endpoints"
            )
        return RedisSession(access.door, self)


class RedisSession(Session):
    """Commands to one Redis, each of which is one call. Answers are as of RESP2."""

    def __init__(self, door: Door, connector: RedisConnection) -> None:
        self.door, self.connector = door, connector
        self._client: Redis | None = None

    async def verify(self) -> Identity:
        # Not ACL WHOAMI: managed services refuse it. This also shows that the module is there.
        await self.look("FT._LIST")
        return Identity(f"{self.connector.user}@{self.connector.host}")

    async def look(self, *words: str | int) -> Any:
        """What a command answers that changes nothing."""
        return await self._do(f"SHOW {words[0]}", words, repeatable=True)

    async def act(self, *words: str | int) -> None:
        """A command that changes something."""
        await self._do(str(words[0]), words, repeatable=False)

    async def close(self) -> None:
        if self._client is not None:
            await self._client.aclose()
            self._client = None

    async def _do(self, label: str, words: tuple[str | int, ...], *, repeatable: bool) -> Any:
        redis = _sdk()
        if self._client is None:
            self._client = self._open()
        # redis-py has no types for what a command answers.
        client: Any = self._client
        async with self.door.call(label) as call:
            try:
                try:
                    answer = await client.execute_command(*words)
                except redis.ConnectionError as error:
                    if not repeatable or type(error) is not redis.ConnectionError:
                        raise
                    # The one retry there is: a read whose connection was dropped.
                    fence()
                    answer = await client.execute_command(*words)
            except redis.RedisError as error:
                call.status = getattr(error, "status_code", None) or "error"
                raise self._failure(error) from error
            except (OSError, TimeoutError) as error:
                raise Unavailable(f"{self._where} cannot be reached") from error
            call.status = "ok"
            return answer

    def _open(self) -> "Redis":
        from redis.asyncio import Connection, ConnectionPool, Redis, SSLConnection
        from redis.asyncio.retry import Retry
        from redis.backoff import NoBackoff

        it = self.connector
        password = None if it.password is None else it.password.reveal()
        if password == "":
            raise Unauthorized("password is empty in the connection's Secret")

        class Checked(Connection):
            """Refuses metadata addresses at every connect."""

            async def connect_check_health(self, *args: Any, **options: Any) -> None:
                if not self.is_connected:
                    await refuse_resolved(self.host)
                await super().connect_check_health(*args, **options)
                fence()

        class CheckedTls(Checked, SSLConnection):
            """The same, with TLS."""

        tls: dict[str, Any] = {
            "ssl_ca_certs": os.environ.get("SSL_CERT_FILE") or certifi.where(),
            "ssl_ca_data": None if it.ca_certificate is None else it.ca_certificate.reveal(),
        }
        pool = ConnectionPool(
            connection_class=CheckedTls if it.tls else Checked,
            max_connections=MOST_CONNECTIONS,
            host=it.host,
            port=it.port,
            # redis-py logs in as soon as it has either.
            username=it.user if password else None,
            password=password,
            socket_timeout=TIMEOUT,
            socket_connect_timeout=CONNECT_TIMEOUT,
            retry=Retry(NoBackoff(), 0),
            # HELLO and CLIENT SETINFO are more than the user may be allowed.
            protocol=2,
            driver_info=None,
            decode_responses=True,
            encoding_errors="replace",
            **(tls if it.tls else {}),
        )
        return Redis.from_pool(pool)

    @property
    def _where(self) -> str:
        return f"Redis at {self.connector.host}:{self.connector.port}"

    def _failure(self, error: Exception) -> Failure:
        """What an exception of redis-py means; of the first class in the list that fits."""
        of = _sdk().exceptions
        where, user = self._where, self.connector.user
        text = " ".join(hide(str(error)).split())[:LONGEST_REASON]
        if _about_tls(error):
            return Rejected(
                f"{where} cannot be trusted: check host, tls and caCertificate in the connection"
            )
        if "max number of clients" in text:
            return Throttled(f"{where} takes no more connections")
        away = of.ReadOnlyError | of.ClusterDownError | of.MasterDownError | of.TryAgainError
        meanings: tuple[tuple[Any, Failure], ...] = (
            (
                of.AuthenticationError | of.AuthorizationError,
                Unauthorized(
                    f"{where} refuses the user {user}: {text}; check user and password in the "
                    "connection"
                ),
            ),
            (
                of.NoPermissionError,
                Unauthorized(f"{where}: {text}; widen the access rules of the user {user}"),
            ),
            (of.BusyLoadingError, Unavailable(f"{where} is still loading its data")),
            (of.TimeoutError, Unavailable(f"{where} did not answer in time")),
            (of.ConnectionError, Unavailable(f"{where} cannot be reached")),
            (
                of.InvalidResponse,
                Unavailable(f"{where} does not answer as a Redis does; is the port right?"),
            ),
            (away, Unavailable(f"{where}: {text}")),
            (
                of.MovedError | of.AskError,
                Rejected(
                    f"{where} is a node of a cluster whose search module does not tell the other "
                    "nodes; indexes can be kept only where it does, as in Redis Enterprise"
                ),
            ),
        )
        found = (failure for cls, failure in meanings if isinstance(error, cls))
        return next(found, None) or self._refusal(text)

    def _refusal(self, text: str) -> Failure:
        """What the words of an error answer mean."""
        words, where = text.lower(), self._where
        if words.startswith("busy "):
            return Unavailable(f"{where}: {text}")
        if any(told in words for told in _NO_MODULE):
            return Rejected(
                f"{where} has no search module: that takes Redis 8, Redis Stack, or a database "
                f"with search ({text})"
            )
        if any(told in words for told in _MISSING):
            return NotFound(f"{where}: {text}")
        if any(told in words for told in _TAKEN):
            return Conflict(f"{where}: {text}")
        return Rejected(f"{where}: {text}")


def _about_tls(error: BaseException) -> bool:
    cause: BaseException | None = error
    while cause is not None and not isinstance(cause, ssl.SSLError):
        cause = cause.__cause__ or cause.__context__
    return cause is not None


def _sdk() -> ModuleType:
    try:
        import redis
    except ImportError as error:
        raise Rejected("redis-py is missing: install auterity[redis]") from error
    return redis
