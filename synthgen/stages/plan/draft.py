"""A draft of a partition: its assignments before quotas, next to those of the plan so far.

Where there are quotas, every partition is drafted twice: once to count the questions of all partitions together, and
once to write it.
"""

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from synthgen.stages.plan.assign import Assigner
from synthgen.stages.plan.duplicates import DuplicateSurvey
from synthgen.stages.plan.facts import KEPT
from synthgen.stages.plan.images import images_of
from synthgen.stages.plan.inputs import Inputs
from synthgen.store import CommitLog, StageFolder
from synthgen.tables import PLAN


@dataclass(frozen=True)
class PlanSnapshot:
    """Everything that an epoch reads.

    Attributes:
        log: The plan so far.
    """

    inputs: Inputs
    survey: DuplicateSurvey
    log: CommitLog


@dataclass(frozen=True)
class Draft:
    """A partition before quotas.

    Attributes:
        objects: As of `Inputs.objects`.
        outcome: Index into `facts.OUTCOMES`, (objects,) int8.
        assignments: Every question that could be asked.
        is_planned: Whether the plan so far has it, (assignments,) bool.
        before: The assignments of the plan so far, retired ones too.
        is_current: The partition was planned with the current settings, so no quota retires its assignments.
    """

    objects: pa.Table
    outcome: NDArray[np.int8]
    assignments: pa.Table
    is_planned: NDArray[np.bool_]
    before: pa.Table
    is_current: bool


def draft(snapshot: PlanSnapshot, assigner: Assigner, partition: str, *, redraws: bool) -> Draft:
    """Draw the assignments of a partition; with `redraws` the plan so far is ignored."""
    objects = snapshot.inputs.objects(partition)
    outcome = snapshot.survey.outcome[snapshot.survey.spans[partition]]
    before = planned_before(snapshot, partition)
    live = before.filter(pc.invert(before.column("retired")))
    named = {} if redraws else _named_by(live)
    assignments = assigner.draw_all(images_of(objects.filter(pa.array(outcome == KEPT))), named)
    names, planned = assignments.column("assignment_id"), live.column("assignment_id").combine_chunks()
    is_planned = np.asarray(pc.is_in(names, planned)) & (not redraws)
    planned_with = snapshot.log.fingerprint(partition, "assignments")
    is_current = not redraws and planned_with == assigner.context.fingerprint
    return Draft(objects, outcome, assignments, is_planned, before, is_current)


def _named_by(assignments: pa.Table) -> dict[str, str]:
    """Return the id of each assignment that names a thing or a partner → what it names."""
    named = pc.coalesce(assignments.column("thing"), assignments.column("partner"))
    ids, names = assignments.column("assignment_id").filter(pc.is_valid(named)), pc.drop_null(named)
    return dict(zip(ids.to_pylist(), names.to_pylist(), strict=True))


def planned_before(snapshot: PlanSnapshot, partition: str) -> pa.Table:
    """Return the assignments of a partition in the plan so far."""
    return StageFolder(snapshot.inputs.out, PLAN).current(snapshot.log, partition, "assignments")
