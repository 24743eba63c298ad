"""`auterity demo`: see it work on this machine alone, from a checkout."""

import runpy
import sys
from importlib.util import find_spec
from pathlib import Path

from auterity.cli.output import Problem


def demo() -> None:
    """See it work on this machine alone: a control plane, vendors, and the operator."""
    # An installed command does not look for modules where it is called, but `make` runs there.
    here = Path(__file__).parents[3]
    if (here / "tools" / "demo" / "__main__.py").is_file():
        sys.path.insert(0, str(here))
    if find_spec("tools") is None or find_spec("tools.demo") is None:
        raise Problem(
            "the demo starts servers that are built from a checkout of the source, and this is an "
            "installed package: clone the repository and run `make demo` there"
        )
    runpy.run_module("tools.demo", run_name="__main__")
