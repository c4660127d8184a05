"""Stage 2: from tagged images to questions to be asked, before any model is started.

Comes in: everything tagged so far, the mapping, the plan's settings. Goes out: for every object what became of it, and the
assignments of those images that are planned. `inputs` reads what is tagged, `survey` finds what is a duplicate of what over
all images at once, `epochs` fixes what is planned next and with which numbers, `drawing` draws an image's assignments, `drafts`
does so for a partition, `quotas` thins them out, and `planning` writes each partition and commits it. What was planned before
stays planned.
"""

from synthgen.stages.plan.assign import Assigner, PlanContext
from synthgen.stages.plan.epochs import Change
from synthgen.stages.plan.inputs import Inputs
from synthgen.stages.plan.plan import run

__all__ = ["Assigner", "Change", "Inputs", "PlanContext", "run"]
