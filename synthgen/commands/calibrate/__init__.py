"""`synth calibrate`: the thresholds of an open_clip tagger, from a small set of images whose tags are known.

Comes in: labelled images and a tagger. Goes out: a new tagger file on the user's shelf, and a report of what it gains.
command.py is the order of the steps, labels.py reads the set, fitting.py is the arithmetic and needs nothing else.
"""

from synthgen.commands.calibrate.command import CalibrateRequest, calibrate

__all__ = ["CalibrateRequest", "calibrate"]
