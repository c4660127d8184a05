"""`synth report`: one HTML page on a run, with its counts, its scores, what was lost, and pairs to look at."""

from synthgen.commands.report.command import forget_report, write_after_run, write_report

__all__ = ["forget_report", "write_after_run", "write_report"]
