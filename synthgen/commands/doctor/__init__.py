"""`synth doctor`: the parts of a run that are missing on this machine, and the commands that fix it."""

from synthgen.commands.doctor.command import examine
from synthgen.commands.doctor.finding import Finding, text

__all__ = ["Finding", "examine", "text"]
