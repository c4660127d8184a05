"""Stage 3, seen from a partition: many conversations at once, in front of one engine.

`todo` says which partitions have something left to ask or to score (the driver, from commits), a GenerateWorker does one
after the other (an actor). What shapes a pair's text is its recipe (terms.py); what is left of a partition is worked out
from its rows where the work is done (left.py). What a question takes of an engine is found on a few images (measure.py).
"""

from synthgen.generate.left import is_to_ask, lacking, object_ids, scored_pairs, size, todo
from synthgen.generate.measure import Profile, Question, Sample, measure
from synthgen.generate.terms import GENERATED, PLANNED, Terms
from synthgen.generate.worker import GenerateWorker, build

__all__ = [
    "GENERATED", "PLANNED", "GenerateWorker", "Profile", "Question", "Sample", "Terms", "build", "is_to_ask", "lacking",
    "measure", "object_ids", "scored_pairs", "size", "todo",
]  # fmt: skip
