"""Stage 3, seen from a partition: many conversations at once, in front of one engine.

`todo` says which partitions have something left to ask or to score (the driver, from commits), a GenerateWorker does one
after the other (an actor). What shapes a pair's text is its recipe (context.py); what is left of a partition is worked out
from its rows where the work is done (todo.py). What a question takes of an engine is found on a few images (profiling.py).
"""

from synthgen.stages.generate.context import GENERATED, PLANNED, GenerateContext
from synthgen.stages.generate.profiling import Profile, ProfileSample, QuestionCost, measure
from synthgen.stages.generate.todo import is_to_ask, lacking, object_ids, scored_pairs, size, todo
from synthgen.stages.generate.worker import GenerateWorker, build

__all__ = [
    "GENERATED",
    "PLANNED",
    "GenerateContext",
    "GenerateWorker",
    "Profile",
    "ProfileSample",
    "QuestionCost",
    "build",
    "is_to_ask",
    "lacking",
    "measure",
    "object_ids",
    "scored_pairs",
    "size",
    "todo",
]
