"""`auterity version`: what is installed."""

import platform

from auterity import __version__
from auterity.api import API_VERSION
from auterity.cli.output import Output, Table, show


def version(*, output: Output = "table") -> None:
    """Print the version of this command.

    Parameters
    ----------
    output
        How it is printed.
    """
    told = {"auterity": __version__, "api": API_VERSION, "python": platform.python_version()}
    show(told, Table(("Name", "Version"), list(told.items())), output=output)
