"""The process: it ends when it is asked to, whatever it waits for."""

import asyncio
import json
import os
import signal
from pathlib import Path

import pytest

from auterity.runtime import app
from auterity.runtime.operator import Options
from tests.unit.engine.shelf import ShelfIndex


@pytest.mark.parametrize("name", ["here", None], ids=["starting", "asking who it is"])
async def test_it_ends_while_it_waits_for_the_api_server(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    unused_tcp_port_factory,
    name: str | None,
):
    config = {
        "clusters": [
            {"name": "c", "cluster": {"server": f"http://127.0.0.1:{unused_tcp_port_factory()}"}}
        ],
        "users": [{"name": "u", "user": {"token": "token-of-the-operator"}}],
        "contexts": [{"name": "x", "context": {"cluster": "c", "user": "u"}}],
        "current-context": "x",
    }
    path = tmp_path / "kubeconfig"
    path.write_text(json.dumps(config))
    monkeypatch.setenv("KUBECONFIG", str(path))
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
