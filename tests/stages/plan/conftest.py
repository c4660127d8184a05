"""Worlds for every test of the plan."""

from tests.fixtures.planning import planned, quick, world, worlds

__all__ = ["planned", "quick", "world", "worlds"]
