"""The `auterity` command."""

from auterity.cli.main import main

__all__ = ["main"]
