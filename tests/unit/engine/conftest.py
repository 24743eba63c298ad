"""The engine over a shelf; afterwards no secret may have been told."""

import logging
from collections.abc import AsyncIterator

import pytest
from hypothesis import HealthCheck, settings

from tests.conformance.harness import Harness
from tests.unit.engine.shelf import PASSWORD, TOKEN, ShelfIndex, World, shelf_of

# A machine that is busy with other tests is slow, and proves nothing by it.
settings.register_profile("busy", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("busy")


@pytest.fixture
async def harness(
    request: pytest.FixtureRequest, caplog: pytest.LogCaptureFixture
) -> AsyncIterator[Harness]:
    """A harness over a shelf; `@pytest.mark.parametrize("harness", [Cls], indirect=True)`."""
    caplog.set_level(logging.DEBUG)
    shelf = shelf_of(getattr(request, "param", ShelfIndex))
    it = Harness(shelf)
    await it.start()
    try:
        yield it
        told = it.everything_told() + caplog.text + repr([r.__dict__ for r in caplog.records])
        for secret in (TOKEN, PASSWORD, *shelf.world.once.values()):
            assert secret not in told
    finally:
        await it.stop()
        await shelf.stop()


@pytest.fixture
def world(harness: Harness) -> World:
    """The vendor's side."""
    found: World = harness.vendor.world  # type: ignore[attr-defined]  # it is a Shelf
    return found
