"""The tiny vision-language model that the tests of methods share."""

from tests.fixtures.tiny_vlm import model, one_thread, processor

__all__ = ["model", "one_thread", "processor"]
