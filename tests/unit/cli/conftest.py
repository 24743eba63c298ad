"""The engine's own fixtures: what the commands explain was made by the engine itself."""

from tests.unit.engine.conftest import harness, world

__all__ = ["harness", "world"]
