"""A packed run for every test of exports."""

from tests.fixtures.exporting import run

__all__ = ["run"]
