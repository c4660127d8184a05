"""A distilled judge: a small head on frozen embeddings that grades as a large model did, at a fraction of the cost.

`synth distill` fits one to the grades of a run (the method of CCI3.0-HQ, arXiv 2410.18505: a regression head on frozen
embeddings, trained on the ratings of a large model). As an engine it serves the calls of the score that it was fitted
to, and says so where it is unsure.
"""

from synthgen.engines.distilled.embedder import Embedder
from synthgen.engines.distilled.engine import UNSURE, DistilledEngine, check_distilled, no_options
from synthgen.engines.distilled.features import features_of
from synthgen.engines.distilled.head import Head, fit
from synthgen.engines.distilled.model import DistilledModel, load, prompt_digest, save, score_fault

__all__ = [
    "UNSURE",
    "DistilledEngine",
    "DistilledModel",
    "Embedder",
    "Head",
    "check_distilled",
    "features_of",
    "fit",
    "load",
    "no_options",
    "prompt_digest",
    "save",
    "score_fault",
]
