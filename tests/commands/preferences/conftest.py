"""The packed run and the tiny processor that the tests of preferences share."""

from tests.fixtures.packing import few_at_once, world
from tests.fixtures.tiny_vlm import model, one_thread, processor

__all__ = ["few_at_once", "model", "one_thread", "processor", "world"]
