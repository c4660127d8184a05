"""A partition of the plan as an epoch would have it, before quotas: who is asked, what, and which of it is planned already.

Comes in: what the epoch is made from, and a Drawer. Goes out: a Draft. It is made twice where there are quotas: once to count
what all partitions together would ask, once to write.
"""

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from synthgen.stages.plan.assign import Assigner, subjects_of
from synthgen.stages.plan.duplicates import KEPT, DuplicateSurvey
from synthgen.stages.plan.inputs import Inputs
from synthgen.store import CommitLog, StageFolder
from synthgen.tables import PLAN


@dataclass(frozen=True)
class PlanState:
    """What an epoch is made from."""

    inputs: Inputs
    survey: DuplicateSurvey
    log: CommitLog  # the plan so far
    redraws: bool  # the plan so far counts for nothing


@dataclass(frozen=True)
class Draft:
    """A partition before quotas."""

    objects: pa.Table  # of Inputs.objects
    outcome: NDArray[np.int8]  # index into survey.OUTCOMES, an entry an object
    assignments: pa.Table
    is_planned: NDArray[np.bool_]  # an entry an assignment
    before: pa.Table  # assignments of the plan so far, retired ones too
    stands: bool  # what is planned is of today's settings: no quota takes it back


def draft(state: PlanState, assigner: Assigner, partition: str) -> Draft:
    """What a partition would be asked."""
    objects, outcome = state.inputs.objects(partition), state.survey.outcome[state.survey.places[partition]]
    assignments = assigner.draw_all(subjects_of(objects.filter(pa.array(outcome == KEPT))))
    before = planned_before(state, partition)
    live = before.filter(pc.invert(before.column("retired"))).column("assignment_id").combine_chunks()
    is_planned = np.asarray(pc.is_in(assignments.column("assignment_id"), live))
    stands = not state.redraws and state.log.fingerprint(partition, "assignments") == assigner.context.fingerprint
    return Draft(objects, outcome, assignments, is_planned & (not state.redraws), before, stands)


def planned_before(state: PlanState, partition: str) -> pa.Table:
    """The assignments of a partition in the plan so far."""
    return StageFolder(state.inputs.out, PLAN).current(state.log, partition, "assignments")
