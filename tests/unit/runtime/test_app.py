"""The process: it ends when it is asked to, whatever it waits for."""

import asyncio
import os
import signal

import pytest

from auterity.runtime import app
from auterity.runtime.operator import Options
from tests.unit.engine.shelf import ShelfIndex


@pytest.mark.usefixtures("api_port")
@pytest.mark.parametrize("name", ["here", None], ids=["starting", "asking who it is"])
async def test_it_ends_while_it_waits_for_the_api_server(unused_tcp_port_factory, name: str | None):
    running = asyncio.create_task(
        app._run(
            {("VectorIndex", "shelf"): ShelfIndex},
            Options(cluster_name=name),
            "127.0.0.1",
            unused_tcp_port_factory(),
        )
    )
    try:
        await asyncio.sleep(0.3)
        assert not running.done(), running.exception()
        os.kill(os.getpid(), signal.SIGTERM)
        async with asyncio.timeout(5):
            await asyncio.shield(running)
    finally:
        running.cancel()
