"""At how many calls of a slow vendor faults are tried.

Every run tries some of them, the same ones each time, and different ones in different tests and at
different vendors. `AUTERITY_EVERY_FAULT=1` tries all, which takes an hour.
"""

import os
from typing import Final
from zlib import crc32

from tests.conformance.vendor import Vendor

EVERY: Final = bool(os.environ.get("AUTERITY_EVERY_FAULT"))
STRIDE: Final = 3
"""One in so many calls of a slow vendor."""


def calls_to_try(vendor: Vendor, calls: int, test: str) -> range:
    """The numbers of the calls at which a test has something go wrong."""
    if EVERY or type(vendor).fast or calls < STRIDE:
        return range(calls)
    provider = vendor.provider
    return range(
        crc32(f"{provider.kind} {provider.vendor} {test}".encode()) % STRIDE, calls, STRIDE
    )
