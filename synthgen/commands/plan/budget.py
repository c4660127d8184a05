"""The share of a plan that a budget pays for: the largest `plan.share`, to six digits, at which the plan costs no more.

The whole plan is drawn once; for each share that is tried, the quotas of the plan decide which of its questions remain.
The number of questions is not enough to know their cost: a share keeps one question of each type at least, and the
answer forms of a type differ in price.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from synthgen.commands.plan.counts import count_partitions, kinds_of
from synthgen.commands.plan.pricing import Kind
from synthgen.config.families import with_unanswerable
from synthgen.config.planning import PlanConfig
from synthgen.job.job import with_plan_settings
from synthgen.stages.contract import Job
from synthgen.stages.plan import quotas
from synthgen.stages.plan.sampling import Floats
from synthgen.store import RunFolder

STEPS = 1_000_000  # a pipeline file should show no more than six digits


@dataclass(frozen=True)
class UncappedPlan:
    """A plan before its quotas."""

    candidates: quotas.Candidates
    costs: Floats  # (questions,) float64; 0 for what has an outcome by the current recipe

    def cost(self, settings: PlanConfig, share: float) -> float:
        """Return the cost of the questions that remain at a share."""
        remaining = quotas.quota_mask(settings.model_copy(update={"share": share}), self.candidates)
        return float(self.costs[remaining].sum())


def draw_uncapped(
    folder: RunFolder, job: Job, cost_of: Callable[[Kind], float], asking_of: Callable[[Kind], float]
) -> UncappedPlan:
    """Draw the plan of a job without share and caps.

    Args:
        folder: The output folder.
        job: The job.
        cost_of: Returns the cost of one question of a kind.
        asking_of: Returns what another model takes to write it.
    """
    job = with_plan_settings(job, share=1.0, caps={})
    types = tuple(with_unanswerable(job.definitions.prompts.types))
    place_of = {path: place for place, path in enumerate(types)}
    drawn, costs = [], [np.empty(0)]
    for partition in count_partitions(folder, job):
        rows = partition.assignments
        places = np.array([place_of[path] for path in rows.column("type").to_pylist()], dtype=np.int16)
        is_planned = np.arange(rows.num_rows) < partition.diff.kept.num_rows
        drawn.append(quotas.DrawnQuestions(places, quotas.keys_of(job.pipeline.plan.seed, rows), is_planned))
        answering = np.where(partition.is_asked, 0.0, [cost_of(kind) for kind in kinds_of(rows)])
        costs.append(answering + np.where(partition.is_written, 0.0, [asking_of(kind) for kind in kinds_of(rows)]))
    return UncappedPlan(quotas.Candidates(types, quotas.concatenate(drawn), {}), np.concatenate(costs))


def share_within(plan: UncappedPlan, settings: PlanConfig, budget: float) -> float | None:
    """Return the largest share that a budget pays for; None if it does not pay for the smallest."""
    if plan.cost(settings, 1.0) <= budget:
        return 1.0
    if plan.cost(settings, 1 / STEPS) > budget:
        return None
    within, above = 1, STEPS
    while above - within > 1:
        middle = (within + above) // 2
        if plan.cost(settings, middle / STEPS) <= budget:
            within = middle
        else:
            above = middle
    return within / STEPS
