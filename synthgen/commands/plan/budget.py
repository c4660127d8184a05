"""The share of a plan that a budget pays for.

Comes in: a job whose output folder holds tagged images, and what a question of each kind takes of a budget. Goes out: the largest
`plan.share`, to six digits, at which the plan costs no more. Everything is drawn once as if nothing were thinned; at each
share that is tried the plan's own quotas then say which questions stay. Their number is not enough: a share leaves one question of
each type at least, and which ones stay decides what they cost, because the answer forms of a type differ in price.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from synthgen.commands.plan.counts import kinds_of, parts
from synthgen.commands.plan.pricing import Kind
from synthgen.config.pipeline import PlanConfig
from synthgen.job.job import open_job
from synthgen.stages.contract import Job
from synthgen.stages.plan import quotas
from synthgen.stages.plan.sampling import Floats
from synthgen.store import RunFolder

STEPS = 1_000_000  # six digits are what a pipeline file should show


@dataclass(frozen=True)
class UncappedPlan:
    """A plan before its quotas."""

    candidates: quotas.Candidates
    costs: Floats  # of each question that was drawn; nothing where it has an outcome by today's recipe

    def cost(self, settings: PlanConfig, share: float) -> float:
        """What is to be paid for at a share."""
        left = quotas.passing(settings.model_copy(update={"share": share}), self.candidates)
        return float(self.costs[left].sum())


def whole(folder: RunFolder, job: Job, each: Callable[[Kind], float]) -> UncappedPlan:
    """Draws the plan of a job without share and caps; `each` is what a question of a kind takes."""
    job = with_plan(folder, job, share=1.0, caps={})
    types, costs, drawn = tuple(job.definitions.prompts.types), [np.empty(0)], []
    place_of = {path: place for place, path in enumerate(types)}
    for seen in parts(folder, job):
        places = np.array([place_of[path] for path in seen.wanted.column("type").to_pylist()], dtype=np.int16)
        is_planned = np.arange(seen.wanted.num_rows) < seen.part.kept.num_rows
        drawn.append(quotas.Drawn(places, quotas.keys_of(job.pipeline.plan.seed, seen.wanted), is_planned))
        costs.append(np.where(seen.is_asked, 0.0, [each(kind) for kind in kinds_of(seen.wanted)]))
    return UncappedPlan(quotas.Candidates(types, quotas.together(drawn), {}), np.concatenate(costs))


def with_plan(folder: RunFolder, job: Job, **settings: object) -> Job:
    """The job with other settings of its plan."""
    return open_job(
        job.out,
        job.pipeline.model_copy(update={"plan": job.pipeline.plan.model_copy(update=settings)}),
        record=folder.record,
    )


def share_within(found: UncappedPlan, settings: PlanConfig, budget: float) -> float | None:
    """The largest share that a budget pays for; None if it does not pay for the smallest."""
    least, most = 1, STEPS
    if found.cost(settings, 1.0) <= budget:
        return 1.0
    if found.cost(settings, least / STEPS) > budget:
        return None
    while most - least > 1:
        middle = (least + most) // 2
        least, most = (middle, most) if found.cost(settings, middle / STEPS) <= budget else (least, middle)
    return least / STEPS
