"""Stage plan: tagged images become questions to be asked, before any model is started.

`inputs` reads what is tagged, `duplicates` finds duplicates over all images at once, `epochs` fixes what is planned next
and with which numbers, `assign` draws the questions of an image, `draft` does so for a partition, `quotas` thins them out,
and `plan` writes each partition. What was planned before stays planned.
"""

from collections.abc import Iterable, Iterator

from synthgen.stages.contract import StageRun
from synthgen.stages.plan.assign import Assigner, PlanContext, context_of
from synthgen.stages.plan.inputs import Inputs
from synthgen.stages.plan.plan import PlanTask, plan_tasks, tasks_of
from synthgen.store import Receipt

__all__ = ["Assigner", "Inputs", "PlanContext", "context_of", "pending", "plan_tasks", "results", "tasks_of"]


def pending(run: StageRun) -> Iterator[PlanTask]:
    """Yield the partitions that are tagged and not planned, and those that the change of the run touches."""
    return tasks_of(run.folder, context_of(run.job), run.change)


def results(run: StageRun, tasks: Iterable[PlanTask]) -> Iterator[Receipt]:
    """Plan each partition in this process."""
    return plan_tasks(context_of(run.job), tasks)
