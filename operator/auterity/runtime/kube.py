"""The Kubernetes API: a small client over the HTTP library that Kopf brings along."""

import asyncio
from collections.abc import AsyncIterator, Callable
from datetime import datetime
from email.utils import parsedate_to_datetime
from typing import Any, Final

import aiohttp
import kopf
import orjson

from auterity.engine.cluster import ClusterUnavailable

JSON = dict[str, Any]
LONGEST_CALL: Final = 60.0
"""Seconds."""
TIMEOUT: Final = aiohttp.ClientTimeout(total=LONGEST_CALL, connect=10)
PAGE: Final = 500
CONNECTIONS: Final = 64
"""Most connections to the API server: a TLS handshake costs more than waiting for a free one."""
MERGE_PATCH: Final = "application/merge-patch+json"
LONGEST_LINE: Final = 1 << 20
"""An object's annotations may have 256 KiB."""
METADATA_ONLY: Final = "application/json;as=PartialObjectMetadata{};g=meta.k8s.io;v=v1"


class KubeError(Exception):
    """The API server refused: its HTTP status and its words."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(f"{status}: {message}")
        self.status, self.message = status, message


def login(**kwargs: Any) -> kopf.ConnectionInfo:
    """Credentials from the pod's ServiceAccount, else from KUBECONFIG; for Kopf and for `Kube`.

    Raises kopf.LoginError if there are none.
    """
    kwargs.setdefault("settings", kopf.OperatorSettings())
    found = kopf.login_with_service_account(**kwargs) or kopf.login_with_kubeconfig(**kwargs)
    if found is None:
        raise kopf.LoginError("neither a pod's ServiceAccount nor a kubeconfig was found")
    return found


def session(info: kopf.ConnectionInfo, *, limit: int = 0, **more: Any) -> aiohttp.ClientSession:
    """An HTTP session with these credentials; of so many connections at most, if not 0."""
    return aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(ssl=info.as_ssl_context(), limit=limit),
        headers=info.as_http_headers(),
        proxy=info.proxy_url,
        **more,
    )


class Kube:
    """Calls to the API server. Raises KubeError for its refusals, ClusterUnavailable otherwise."""

    def __init__(
        self,
        wrote: Callable[[str, str], None] = lambda _verb, _resource: None,
        login: Callable[[], kopf.ConnectionInfo] = login,
    ) -> None:
        self._wrote = wrote
        """Told of every write (verb, resource), for metrics."""
        self._login = login
        self._session: aiohttp.ClientSession | None = None
        self._left: dict[aiohttp.ClientSession, asyncio.Task[None]] = {}
        """Sessions with credentials that were refused, and what will close them."""
        self._server = ""

    async def call(  # noqa: PLR0913 - the parts of a request
        self,
        method: str,
        path: str,
        body: JSON | None = None,
        *,
        resource: str = "",
        params: dict[str, str] | None = None,
        content_type: str = "application/json",
        accept: str = "application/json",
    ) -> JSON:
        """One call; the answer's body. `resource` names what is written, for metrics."""
        if method != "GET":
            self._wrote(method.lower(), resource or path.rsplit("/", 1)[-1])
        for attempt in (1, 2):
            session = self._open()
            try:
                async with session.request(
                    method,
                    self._server + path,
                    params=params,
                    data=None if body is None else orjson.dumps(body),
                    headers={"Content-Type": content_type, "Accept": accept},
                ) as answer:
                    if answer.status == 401 and attempt == 1:  # noqa: PLR2004 - HTTP
                        # The ServiceAccount's token has been renewed on disk.
                        self._leave(session)
                        continue
                    return _checked(answer.status, await answer.read())
            except (aiohttp.ClientError, TimeoutError, OSError) as error:
                raise ClusterUnavailable(
                    f"the Kubernetes API does not answer ({type(error).__name__})"
                ) from error
        raise ClusterUnavailable("the Kubernetes API refuses the operator's credentials")

    async def find(self, path: str) -> JSON | None:
        """GET; None if there is nothing (404)."""
        try:
            return await self.call("GET", path)
        except KubeError as error:
            if error.status == 404:  # noqa: PLR2004 - HTTP
                return None
            raise

    async def list(self, path: str, **params: str) -> AsyncIterator[JSON]:
        """Every object of a collection, page by page."""
        token = ""
        while True:
            page = {"limit": str(PAGE), **params, **({"continue": token} if token else {})}
            body = await self.call("GET", path, params=page)
            for item in body.get("items") or ():
                yield item
            token = (body.get("metadata") or {}).get("continue") or ""
            if not token:
                return

    async def version(self) -> tuple[JSON, datetime]:
        """The API server's version, and its clock to the second."""
        session = self._open()
        try:
            async with session.get(f"{self._server}/version") as answer:
                body = _checked(answer.status, await answer.read())
                return body, parsedate_to_datetime(answer.headers["Date"])
        except (aiohttp.ClientError, TimeoutError, OSError, KeyError) as error:
            raise ClusterUnavailable(
                f"the Kubernetes API does not answer ({type(error).__name__})"
            ) from error

    async def metadata(self, path: str) -> JSON:
        """A collection with nothing but metadata."""
        return await self.call("GET", path, accept=METADATA_ONLY.format("List"))

    async def watch_metadata(self, path: str, version: str) -> AsyncIterator[tuple[str, JSON]]:
        """Changes of a collection since a version, as (type, object) with nothing but metadata.

        Ends when the server ends it. Raises KubeError 410 if the version is too old.
        """
        session = self._open()
        watch = {"watch": "1", "allowWatchBookmarks": "1", "timeoutSeconds": "300"}
        try:
            async with session.get(
                self._server + path,
                params={**watch, "resourceVersion": version},
                headers={"Accept": METADATA_ONLY.format("")},
                timeout=aiohttp.ClientTimeout(total=None, sock_connect=10, sock_read=330),
                read_bufsize=LONGEST_LINE,
            ) as answer:
                if answer.status != 200:  # noqa: PLR2004 - HTTP
                    _checked(answer.status, await answer.read())
                async for line in answer.content:
                    event = orjson.loads(line)
                    if event["type"] == "ERROR":
                        told = event["object"]
                        raise KubeError(int(told.get("code") or 0), str(told.get("message")))
                    yield event["type"], event["object"]
        except (aiohttp.ClientError, TimeoutError, OSError, ValueError) as error:
            raise ClusterUnavailable(
                f"the Kubernetes API does not answer ({type(error).__name__})"
            ) from error

    async def close(self) -> None:
        """Close the connections."""
        sessions = [*self._left, *([self._session] if self._session is not None else [])]
        self._session = None
        for task in self._left.values():
            task.cancel()
        self._left.clear()
        for session in sessions:
            await session.close()

    def _leave(self, session: aiohttp.ClientSession) -> None:
        """Let the next call log in anew.

        Closed only once no call can be on its way any more: its answer would be lost, and those
        that wait for a connection would be cancelled, which ends whoever called.
        """
        if session is not self._session:
            # Another call has found out before.
            return
        self._session = None
        self._left[session] = asyncio.create_task(self._end(session))

    async def _end(self, session: aiohttp.ClientSession) -> None:
        await asyncio.sleep(LONGEST_CALL)
        del self._left[session]
        await session.close()

    def _open(self) -> aiohttp.ClientSession:
        if self._session is None:
            info = self._login()
            self._server = info.server.rstrip("/")
            self._session = session(info, limit=CONNECTIONS, timeout=TIMEOUT)
        return self._session


def _checked(status: int, raw: bytes) -> JSON:
    try:
        body = orjson.loads(raw) if raw else {}
    except ValueError:
        body = {}
    if status < 400:  # noqa: PLR2004 - HTTP
        return dict(body)
    message = str(body.get("message") or raw[:200].decode(errors="replace"))
    if status == 429 or status >= 500:  # noqa: PLR2004 - HTTP
        raise ClusterUnavailable(f"the Kubernetes API answered {status}")
    raise KubeError(status, message)
