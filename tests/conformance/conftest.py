"""Finds every vendor stand-in and runs the suite over it."""

import importlib
import inspect
import logging
import pkgutil
from collections.abc import AsyncIterator

import pytest

from auterity.providers import catalogue
from tests import fakes
from tests.conformance.harness import Harness
from tests.conformance.vendor import Vendor
from tests.example.vendor import Example
from tests.unit.engine.fleet import FleetVendor


def vendors() -> dict[str, type[Vendor]]:
    """Every Vendor class in tests/fakes by `<kind>-<vendor>`, or `<kind>-<vendor>-<variant>`."""
    found: dict[str, type[Vendor]] = {}
    for info in pkgutil.iter_modules(fakes.__path__, f"{fakes.__name__}."):
        module = importlib.import_module(info.name)
        for cls in vars(module).values():
            if (
                inspect.isclass(cls)
                and issubclass(cls, Vendor)
                and not inspect.isabstract(cls)
                and cls.__module__ == module.__name__
            ):
                whole = (cls.provider.kind, cls.provider.vendor, cls.variant)
                found["-".join(filter(None, whole))] = cls
    return found


STAND_INS = vendors()
VENDORS: dict[str, type[Vendor]] = {
    **STAND_INS,
    "VectorIndex-example": Example,
    "ModelDeployment-fleet": FleetVendor,
}
"""The example of `docs/adding-a-provider.md`, and a vendor with revisions in memory, go through
the same suite."""


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "vendor_class" in metafunc.fixturenames:
        chosen = VENDORS
        if metafunc.module.__name__.endswith("test_rollouts"):
            chosen = {name: cls for name, cls in VENDORS.items() if cls.provider.revisions}
        if metafunc.module.__name__.endswith("test_checks"):
            chosen = {name: cls for name, cls in VENDORS.items() if cls.provider.measures}
        for mark in metafunc.definition.iter_markers("vendors"):
            chosen = {name: cls for name, cls in chosen.items() if mark.kwargs["that"](cls)}
        metafunc.parametrize("vendor_class", chosen.values(), ids=list(chosen))


@pytest.fixture
def all_vendors() -> dict[str, type[Vendor]]:
    return STAND_INS


@pytest.fixture
async def harness(
    vendor_class: type[Vendor], caplog: pytest.LogCaptureFixture
) -> AsyncIterator[Harness]:
    """The engine over one vendor; afterwards nothing told holds a secret or breaks a contract."""
    if (reason := vendor_class.missing()) is not None:
        pytest.skip(reason)
    caplog.set_level(logging.DEBUG)
    vendor = vendor_class()
    await vendor.start()
    try:
        await vendor.reset()
        it = Harness(vendor)
        await it.start()
        try:
            yield it
            _nothing_secret(it, _logged(caplog))
            assert not vendor.violations, f"requests broke the description: {vendor.violations}"
        finally:
            await it.stop()
    finally:
        await vendor.stop()


def _logged(caplog: pytest.LogCaptureFixture) -> str:
    """Everything logged: in a fixture's last part, `caplog.text` has only what came since."""
    records = (one for phase in ("setup", "call", "teardown") for one in caplog.get_records(phase))
    return "\n".join(caplog.handler.format(record) for record in records)


def _nothing_secret(it: Harness, logged: str) -> None:
    cls = type(it.vendor)
    told = it.everything_told() + logged
    for source in (cls.secrets, cls.wrong_secrets, cls.rotated_secrets):
        for name, data in source.items():
            for key, value in data.items():
                assert value not in told, f"the value of Secret {name}, key {key}, was told"


def provider_ids() -> set[str]:
    return {f"{kind}-{vendor}" for kind, vendor in catalogue()}


def pytest_report_header() -> list[str]:
    missing = {name: cls.missing() for name, cls in VENDORS.items()}
    return [f"vendor {name}: left out, {why}" for name, why in missing.items() if why]
