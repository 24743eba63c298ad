"""Finds every provider: those in this package, and those of other installed packages."""

import importlib
import inspect
import pkgutil
from functools import cache
from importlib.metadata import entry_points
from types import ModuleType
from typing import Any

from auterity import providers
from auterity.api.kinds import KINDS
from auterity.engine.contract import Provider

ENTRY_POINTS = "auterity.providers"
"""A package names its provider modules under this group of entry points."""

Catalogue = dict[tuple[str, str], type[Provider[Any, Any]]]
"""(kind, vendor) -> provider."""


@cache
def catalogue() -> Catalogue:
    """Every provider by kind and vendor. Loads no vendor SDK.

    Raises TypeError if two providers claim the same kind and vendor, or a kind is unknown.
    """
    found: Catalogue = {}
    for module in _modules():
        for cls in vars(module).values():
            if (
                inspect.isclass(cls)
                and issubclass(cls, Provider)
                and not inspect.isabstract(cls)
                and cls.__module__ == module.__name__
            ):
                key = (cls.kind, cls.vendor)
                if cls.kind not in KINDS:
                    raise TypeError(f"{cls.__qualname__}: no such kind as {cls.kind}")
                if key in found:
                    raise TypeError(f"{cls.__qualname__} and {found[key].__qualname__}: both {key}")
                found[key] = cls
    return dict(sorted(found.items()))


def _modules() -> list[ModuleType]:
    own = [
        importlib.import_module(info.name)
        for info in pkgutil.walk_packages(providers.__path__, f"{providers.__name__}.")
        if info.name != __name__
    ]
    return own + [point.load() for point in entry_points(group=ENTRY_POINTS)]
