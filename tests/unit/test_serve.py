"""Stand-ins as processes."""

import asyncio
import json
import os
import signal
import sys
from pathlib import Path

from tests.unit.providers.test_pinecone import opened

ROOT = Path(__file__).parents[2]


async def test_a_stand_in_serves_until_it_is_told_to_end():
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "tests.fakes.serve", "pinecone", "--latency", "0.01"),
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": "operator"},
        stdout=asyncio.subprocess.PIPE,
    )
    assert process.stdout is not None
    try:
        told = json.loads(await process.stdout.readline())
        assert (told["kind"], told["vendor"]) == ("VectorIndex", "pinecone")
        assert told["connection"]["pinecone"]["endpoint"] == told["url"]
        session = await opened(told["url"], told["secrets"]["pinecone"]["apiKey"])
        start = asyncio.get_running_loop().time()
        assert await session.list_indexes() == []
        assert asyncio.get_running_loop().time() - start >= 0.01
        await session.close()
    finally:
        process.send_signal(signal.SIGTERM)
        assert await process.wait() == 0
