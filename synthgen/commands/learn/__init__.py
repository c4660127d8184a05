"""`synth learn`: a mapping file from a seed whose images have tags and whose questions have instruction types.

command.py holds the order of the steps; tfidf.py is the arithmetic and needs nothing else.
"""

from synthgen.commands.learn.command import learn
from synthgen.commands.learn.request import LearnRequest
from synthgen.commands.learn.tfidf import TfidfSettings

__all__ = ["LearnRequest", "TfidfSettings", "learn"]
