"""Ray for small workers that do what a test scripts."""

from tests.fixtures.scripted_workers import ray

__all__ = ["ray"]
