"""A source that changes and a run over it, for every test of the plan."""

from tests.fixtures.planning import planned, quick, world, worlds

__all__ = ["planned", "quick", "world", "worlds"]
