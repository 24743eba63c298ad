"""Runs one vendor's stand-in as a process of its own, for end-to-end tests, benches and demos.

    PYTHONPATH=operator python -m tests.fakes.serve pinecone --port 8080 --latency 0.02

Prints one line of JSON once it listens: kind, vendor, url, the Connection's vendor block, and the
Secrets that it refers to. Ends on SIGTERM or SIGINT.
"""

import argparse
import asyncio
import importlib
import inspect
import json
import signal
import sys

from tests import fakes
from tests.conformance.vendor import Vendor
from tests.fakes.server import FakeServer


def stand_ins(name: str) -> dict[str, type[Vendor]]:
    """The stand-ins in `tests/fakes/<name>.py`, by kind."""
    module = importlib.import_module(f"{fakes.__name__}.{name}")
    return {
        cls.provider.kind: cls
        for cls in vars(module).values()
        if inspect.isclass(cls)
        and issubclass(cls, Vendor)
        and not inspect.isabstract(cls)
        and cls.__module__ == module.__name__
    }


def configured(vendor: Vendor, arguments: argparse.Namespace) -> None:
    """Set port and latency where the stand-in is a fake of ours. Exits if it is not."""
    servers = [value for value in vars(vendor).values() if isinstance(value, FakeServer)]
    if not servers and (arguments.port or arguments.latency or arguments.unchecked):
        sys.exit(f"{arguments.name} is a real server: it takes no port and no latency from here")
    for server in servers:
        server.latency = arguments.latency
        if arguments.unchecked:
            server.description = None
    if servers:
        servers[0].port = arguments.port


async def serve(vendor: Vendor) -> None:
    """Start, tell where, and stop on a signal."""
    done = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, done.set)
    await vendor.start()
    try:
        cls = type(vendor)
        told = {
            "kind": cls.provider.kind,
            "vendor": cls.provider.vendor,
            "url": vendor.url,
            "connection": {cls.provider.connection.vendor: vendor.connection(vendor.url)},
            "secrets": cls.secrets,
        }
        print(json.dumps(told), flush=True)
        await done.wait()
    finally:
        await vendor.stop()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("name", help="module in tests/fakes, such as pinecone")
    parser.add_argument("--kind", help="where the module has stand-ins of several kinds")
    parser.add_argument("--port", type=int, default=0, help="default: any that is free")
    parser.add_argument("--latency", type=float, default=0.0, help="seconds before every answer")
    parser.add_argument(
        "--unchecked",
        action="store_true",
        help="hold no request against the vendor's description: for benches",
    )
    arguments = parser.parse_args()
    found = stand_ins(arguments.name)
    if arguments.kind is None and len(found) > 1:
        parser.error(f"choose a --kind of {', '.join(found)}")
    cls = found.get(arguments.kind) if arguments.kind else next(iter(found.values()), None)
    if cls is None:
        parser.error(f"{arguments.name} has no stand-in of that kind")
    if (reason := cls.missing()) is not None:
        sys.exit(f"{arguments.name} cannot run here: {reason}")
    vendor = cls()
    configured(vendor, arguments)
    asyncio.run(serve(vendor))


if __name__ == "__main__":
    main()
