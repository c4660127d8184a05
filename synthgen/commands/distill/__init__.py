"""`synth distill`: fit a small judge to the grades that a large one, or people, gave the pairs of a run."""

from synthgen.commands.distill.command import DistillRequest, distill, report

__all__ = ["DistillRequest", "distill", "report"]
