"""Spreads the tests over processes: a file stays together, and so do all tests of one vendor."""

import pytest


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        call = getattr(item, "callspec", None)
        vendor = call.params.get("vendor_class") if call else None
        group = vendor.__module__ if vendor else item.path.as_posix()
        item.add_marker(pytest.mark.xdist_group(group))
