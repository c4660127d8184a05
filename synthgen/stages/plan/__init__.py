"""Stage plan: decide which questions each tagged image is asked, before any model is started.

`inputs` reads the tagged images, `duplicates` compares all of them at once, and `epochs` fixes what is planned next and
the numbers it is drawn with. `assign` draws the questions of images, `draft` does so for a partition, `quotas` limits
their number, and `plan` writes each partition. Questions that are planned already stay planned.
"""

from collections.abc import Iterable, Iterator

from synthgen.stages.contract import StageRun
from synthgen.stages.plan.assign import Assigner, PlanContext, context_of
from synthgen.stages.plan.inputs import Inputs
from synthgen.stages.plan.plan import PlanTask, plan_tasks, tasks_of
from synthgen.store import Receipt

__all__ = ["Assigner", "Inputs", "PlanContext", "context_of", "pending", "plan_tasks", "results", "tasks_of"]


def pending(run: StageRun) -> Iterator[PlanTask]:
    """Yield the partitions that are tagged and not planned, and those that the change of the run affects."""
    return tasks_of(run.folder, context_of(run.job), run.change)


def results(run: StageRun, tasks: Iterable[PlanTask]) -> Iterator[Receipt]:
    """Plan each partition in this process."""
    return plan_tasks(context_of(run.job), tasks)
