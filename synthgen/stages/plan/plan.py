"""The plan of a partition: the outcomes of its images, and the changes of its assignments.

The row of an image has its outcome and the places of its copies. Of the assignments, only the difference from the
committed ones is written, so that nothing planned is planned twice.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import groupby
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from synthgen.stages.contract import Change
from synthgen.stages.plan.assign import Assigner, PlanContext
from synthgen.stages.plan.copies import Copies, place_of
from synthgen.stages.plan.draft import Draft, draft
from synthgen.stages.plan.epochs import EpochTask, next_task
from synthgen.stages.plan.facts import KEPT, OUTCOMES, QUARANTINED
from synthgen.stages.plan.quotas import limit_mask
from synthgen.store import Receipt, RunFolder, StageFolder, TablePart
from synthgen.tables import ASSIGNMENTS, PLAN, PLANNED_IMAGES
from synthgen.workers import Task


@dataclass(frozen=True)
class PlannedPartition:
    """A partition as it should be.

    Attributes:
        assignments: Those of the draft that the quotas keep.
        outcomes: The outcome of each object of the draft, or `quarantined`, (objects,) str.
    """

    draft: Draft
    assignments: pa.Table
    outcomes: NDArray[np.str_]


@dataclass(frozen=True, kw_only=True)
class PlanTask(Task):
    """A partition of an epoch."""

    epoch_task: EpochTask = field(compare=False)


def tasks_of(folder: RunFolder, context: PlanContext, change: Change) -> Iterator[PlanTask]:
    """Yield the partitions to plan, epoch after epoch.

    An epoch that was cut short comes first. The next one is made from what is committed once all of its partitions are.
    """
    while task := next_task(folder, context, change):
        for partition in task.pending:
            revision = task.snapshot.log.next_revision(partition)
            yield PlanTask(partition, revision, epoch=task.epoch.number, epoch_task=task)
        change = "growth" if change == "redraw" and task.epoch.redraws else change  # a plan is redrawn once


def plan_tasks(context: PlanContext, tasks: Iterable[PlanTask]) -> Iterator[Receipt]:
    """Plan each partition."""
    for epoch_task, partitions in groupby(tasks, key=lambda task: task.epoch_task):
        assigner, snapshot = epoch_task.assigner(context), epoch_task.snapshot
        stage = StageFolder(snapshot.inputs.out, PLAN)
        with Copies(snapshot.inputs, snapshot.survey, epoch_task.pending) as copies:
            for task in partitions:
                planned = plan_partition(epoch_task, assigner, task.partition)
                images = _images(epoch_task, task.partition, planned, copies.places(task.partition))
                yield _receipt(stage, epoch_task, task.partition, planned, images)


def plan_partition(task: EpochTask, assigner: Assigner, partition: str) -> PlannedPartition:
    """Return the assignments of a partition and the outcomes of its objects."""
    part = draft(task.snapshot, assigner, partition, redraws=task.epoch.redraws)
    assignments = part.assignments
    if task.epoch.limits:
        is_within = limit_mask(task.epoch.limits, assigner.context.settings.seed, assignments, part.is_planned)
        assignments = _without_orphans(assignments.filter(pa.array(is_within)), assigner.context)
    is_served, is_asked = _has_rows(part.objects, part.assignments), _has_rows(part.objects, assignments)
    of_kept = np.where(is_asked, "planned", np.where(is_served, "over_quota", "unserved"))
    outcomes = np.where(part.outcome != KEPT, np.array(OUTCOMES)[part.outcome], of_kept)
    return PlannedPartition(part, assignments, outcomes)


def _without_orphans(assignments: pa.Table, context: PlanContext) -> pa.Table:
    """Return assignments without those that go on from another one where quotas left their image no other."""
    followers = pa.array([path for path, kind in context.types.items() if kind.follows], pa.string())
    follows = pc.is_in(assignments.column("type"), followers)
    is_followed = pc.and_(pc.invert(follows), pc.is_null(assignments.column("partner")))  # no talk goes on from these
    others = assignments.column("object_id").filter(is_followed).combine_chunks()
    return assignments.filter(pc.or_(pc.invert(follows), pc.is_in(assignments.column("object_id"), others)))


def _has_rows(objects: pa.Table, assignments: pa.Table) -> NDArray[np.bool_]:
    """Return whether each object has an assignment."""
    return np.asarray(pc.is_in(objects.column("object_id"), assignments.column("object_id").combine_chunks()))


def _images(
    task: EpochTask, partition: str, planned: PlannedPartition, copies: Mapping[int, Mapping[str, str]]
) -> pa.Table:
    """Return the rows of PLANNED_IMAGES of a partition; `copies` is as of `Copies.places`, by index of the survey.

    An image is read by the newest version of its place, as the older ones are gone.
    """
    survey, objects = task.snapshot.survey, planned.draft.objects
    span = survey.spans[partition]
    indexes = range(span.start, span.stop)
    same_as = [survey.represented_by(index) for index in indexes]
    names = pa.array([name for name, _ in task.against], pa.string())
    run = survey.run[span]
    reason = names.take(pa.array(run, pa.int64(), mask=run < 0))
    uris, versions = [], []
    for index, uri, version, row in zip(indexes, *_columns(objects, "uri", "version", "row"), strict=True):
        others = {**copies.get(index, {})}
        versions.append(others.pop(place_of(uri, row), version))
        uris.append([uri, *others])
    new = {
        "outcome": planned.outcomes.tolist(),
        "reason": reason,
        "same_as": same_as,
        "version": versions,
        "uris": uris,
    }
    columns = {name: new[name] if name in new else objects.column(name) for name in PLANNED_IMAGES.names}
    images = pa.table(columns, schema=PLANNED_IMAGES)
    return images.filter(pa.array(planned.draft.outcome != QUARANTINED))


def _columns(rows: pa.Table, *names: str) -> list[list[Any]]:
    return [rows.column(name).to_pylist() for name in names]


def _receipt(
    stage: StageFolder, task: EpochTask, partition: str, planned: PlannedPartition, images: pa.Table
) -> Receipt:
    """Write the rows of a partition that differ from the committed ones."""
    log = task.snapshot.log
    revision = log.next_revision(partition)
    before = stage.current(log, partition, "images")
    changes, counts = _changes(planned.draft.before, planned.assignments)
    counts.update(PLAN.table("images").count_rows(images))
    counts.subtract(PLAN.table("images").count_rows(before))
    files = (stage.write("assignments", partition, revision, changes),)
    tables = {"assignments": TablePart(files, task.epoch.fingerprint)}
    if revision == 1 or not images.equals(before):
        file = stage.write("images", partition, revision, images)
        tables["images"] = TablePart((file,), task.epoch.fingerprint, replaces=True)
    return Receipt(partition, revision, tables, dict(counts), task.epoch.reads[partition], task.epoch.number)


def _changes(before: pa.Table, wanted: pa.Table) -> tuple[pa.Table, Counter[str]]:
    """Return the rows that turn the assignments before into the wanted ones.

    Returns:
        The rows, and by how much they change the number of assigned and of retired ones.
    """
    if not before.num_rows:
        return wanted, Counter(assigned=wanted.num_rows)
    ids, is_retired = wanted.column("assignment_id"), before.column("retired")
    live, retired = before.filter(pc.invert(is_retired)), before.filter(is_retired)
    index = pc.index_in(ids, live.column("assignment_id").combine_chunks())
    is_new = index.is_null()
    # An image can be represented by another object now: that is the same question, to be asked there. Where an
    # image has other tags now, its question can name another thing.
    is_moved = pc.fill_null(pc.not_equal(live.column("object_id").take(index), wanted.column("object_id")), False)
    things = (pc.fill_null(column, "") for column in (live.column("thing").take(index), wanted.column("thing")))
    is_moved = pc.or_(is_moved, pc.not_equal(*things))
    # A row that commands/repair.py restored from pairs lacks its causes.
    is_bare = pc.and_(pc.invert(is_new), pc.is_null(live.column("because").take(index)))
    gone = _retire(live.filter(pc.invert(pc.is_in(live.column("assignment_id"), ids.combine_chunks()))))
    added = wanted.filter(is_new)
    is_revived = pc.is_in(added.column("assignment_id"), retired.column("assignment_id").combine_chunks())
    revived = pc.sum(is_revived, min_count=0).as_py()
    counts = Counter({"assigned": added.num_rows - gone.num_rows, "retired": gone.num_rows - revived})
    return pa.concat_tables([wanted.filter(pc.or_(pc.or_(is_new, is_moved), is_bare)), gone]), counts


def _retire(rows: pa.Table) -> pa.Table:
    """Return assignments marked as retired."""
    column = rows.schema.get_field_index("retired")
    return rows.set_column(column, ASSIGNMENTS.field("retired"), pa.array([True] * rows.num_rows, pa.bool_()))
