"""The network between the operator and the API server, which can be cut."""

import asyncio
import threading
from concurrent.futures import Future

from tools.loopback import HOST


class Network:
    """Passes bytes on from a port of its own; runs in a thread."""

    def __init__(self, port: int) -> None:
        self.upstream = port
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._open: set[asyncio.Task[None]] = set()
        self._whole = True
        self.port = 0

    def start(self) -> None:
        self._thread.start()
        self._call(self._listen()).result(10)

    def stop(self) -> None:
        self._call(self._close()).result(10)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)
        self._loop.close()

    def cut(self) -> None:
        """Drop every connection, and any new one until `mend`."""
        self._whole = False
        self._call(self._drop()).result(10)

    def mend(self) -> None:
        self._whole = True

    def _call(self, coroutine) -> Future[None]:
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop)

    async def _listen(self) -> None:
        self._server = await asyncio.start_server(self._accept, HOST, 0)
        self.port = self._server.sockets[0].getsockname()[1]

    async def _close(self) -> None:
        self._server.close()
        await self._drop()

    async def _drop(self) -> None:
        open_ = list(self._open)
        for task in open_:
            task.cancel()
        await asyncio.gather(*open_, return_exceptions=True)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._open.add(task)
        others: asyncio.StreamWriter | None = None
        try:
            if not self._whole:
                return
            there, others = await asyncio.open_connection(HOST, self.upstream)
            await asyncio.gather(_pass(reader, others), _pass(there, writer))
        except (OSError, asyncio.CancelledError):
            return
        finally:
            for end in (writer, others):
                if end is not None:
                    end.transport.abort()
            self._open.discard(task)


async def _pass(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(65536):
        writer.write(data)
        await writer.drain()
    raise ConnectionAbortedError
