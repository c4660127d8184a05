"""`synth calibrate`: fits the thresholds of an open_clip tagger to images whose tags are known.

command.py is the order of the steps, labels.py reads the labelled images, fitting.py is the arithmetic, summary.py
writes the tagger file.
"""

from synthgen.commands.calibrate.command import CalibrateRequest, calibrate

__all__ = ["CalibrateRequest", "calibrate"]
