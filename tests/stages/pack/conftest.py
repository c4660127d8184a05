"""Worlds for every test of packing."""

from tests.fixtures.packing import few_at_once, world

__all__ = ["few_at_once", "world"]
