"""What the watch brings back of our own writes: left out before Kopf takes it in."""

from collections.abc import AsyncIterator, Callable
from typing import Any, cast

import aiohttp
import kopf
import orjson

from auterity.runtime.kube import login, session

Known = Callable[[Any], bool]
"""Whether an object, as the API server tells it, is known already as it is or newer."""
_CHANGED = b'{"type":"MODIFIED"'
"""How the API server begins to tell of a change. Told otherwise, nothing is left out."""
_FAILED = b'{"type":"ERROR"'
_TOO_OLD = 410
"""HTTP status: Kopf lists anew and goes on. At any other it ends, and the process with it."""


class Login:
    """Credentials for Kopf, as a session that leaves out of each watch what is known already.

    Each status that we write is told by the watch once more. The answer of the write has said it
    all, and Kopf's way to a handler costs fifty times what it takes to look at the event here.
    """

    def __init__(self, known: Known) -> None:
        self._known = known
        self._last: tuple[kopf.ConnectionInfo, kopf.AiohttpSession] | None = None

    async def login(self, **kwargs: Any) -> kopf.AiohttpSession:
        """For Kopf to be called. Raises kopf.LoginError if there are no credentials."""
        info = login(**kwargs)
        if self._last is None or self._last[0] != info:
            made = kopf.AiohttpSession(
                server=info.server,
                priority=info.priority,
                default_namespace=info.default_namespace,
                expiration=info.expiration,
                aiohttp_session=session(info, middlewares=[self._listen]),
            )
            self._last = info, made
        # Credentials that were refused are the same as before, so that Kopf tries them no more.
        return self._last[1]

    async def _listen(
        self, request: aiohttp.ClientRequest, handler: aiohttp.ClientHandlerType
    ) -> aiohttp.ClientResponse:
        answer = await handler(request)
        if "watch" in request.url.query and answer.ok:
            answer.content = cast("aiohttp.StreamReader", _News(answer.content, self._known))
        return answer


class _News:
    """The content of a watch's answer, without the lines that tell of a known change.

    And without what would end Kopf: where a watch fails, it is to begin anew.
    """

    def __init__(self, content: aiohttp.StreamReader, known: Known) -> None:
        self._content, self._known = content, known

    def __getattr__(self, name: str) -> Any:
        return getattr(self._content, name)

    async def iter_chunked(self, size: int) -> AsyncIterator[bytes]:
        """Whole lines. One that was broken off is told again by the next watch."""
        rest = b""
        async for chunk in self._content.iter_chunked(size):
            *lines, rest = (rest + chunk).split(b"\n")
            if news := [_mild(line) for line in lines if not self._echoes(line)]:
                yield b"\n".join([*news, b""])

    def _echoes(self, line: bytes) -> bool:
        return line.startswith(_CHANGED) and self._known(orjson.loads(line)["object"])


def _mild(line: bytes) -> bytes:
    if not line.startswith(_FAILED):
        return line
    told = orjson.loads(line)
    return orjson.dumps({**told, "object": {**told["object"], "code": _TOO_OLD}})
