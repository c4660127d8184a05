"""`synth learn`: a mapping file from a seed set whose images have tags and whose questions have instruction types.

Comes in: a seed (LLaVA or ShareGPT JSON, TRL or FineVision Parquet, a run's own shards). Goes out: pipelines/mappings/NAME.yaml
and a report. command.py is the order of the steps; tfidf.py is the arithmetic and needs nothing else.
"""

from synthgen.commands.learn.command import LearnRequest, learn
from synthgen.commands.learn.tfidf import TfidfSettings

__all__ = ["LearnRequest", "TfidfSettings", "learn"]
