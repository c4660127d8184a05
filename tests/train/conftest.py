"""A tiny vision-language model, for every test of training."""

from tests.fixtures.tiny_vlm import model, one_thread, processor

__all__ = ["model", "one_thread", "processor"]
