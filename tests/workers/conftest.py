"""Ray for the scripted workers."""

from tests.fixtures.scripted_workers import ray

__all__ = ["ray"]
