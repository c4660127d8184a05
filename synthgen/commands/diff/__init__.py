"""`synth diff`: what changed between two runs, or between a run and what it was before."""

from synthgen.commands.diff.command import DiffRequest, diff

__all__ = ["DiffRequest", "diff"]
