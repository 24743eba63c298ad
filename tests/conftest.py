"""Spreads the tests over processes: a file stays together, and so do all tests of one vendor.

A file that uses an expensive vendor joins it: `pytestmark = pytest.mark.xdist_group(<its module>)`.
All that ask the API server with every CRD are together: it takes half a minute of the machine.
"""

import pytest


@pytest.hookimpl(tryfirst=True)  # before xdist looks for groups
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if item.get_closest_marker("xdist_group") is not None:
            continue
        call = getattr(item, "callspec", None)
        vendor = call.params.get("vendor_class") if call else None
        group = vendor.__module__ if vendor else item.path.as_posix()
        if item.path.parent.name == "crds" and "api" in getattr(item, "fixturenames", ()):
            group = "tests.crds"
        item.add_marker(pytest.mark.xdist_group(group))
