"""Planning a partition: what became of its images, and what is added to and taken back from its assignments.

Comes in: a Task. Goes out: commits of `2-planned`. An object's row says whether it is planned and where else its bytes are;
of the assignments only the difference to what is committed is written, so that nothing planned is ever planned again.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import groupby

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from synthgen.stages.contract import Change
from synthgen.stages.plan.assign import Assigner, PlanContext
from synthgen.stages.plan.copies import Copies
from synthgen.stages.plan.draft import Draft, draft
from synthgen.stages.plan.duplicates import KEPT, OUTCOMES, QUARANTINED
from synthgen.stages.plan.epochs import EpochTask, next_task
from synthgen.stages.plan.quotas import let_through
from synthgen.store import Receipt, RunFolder, StageFolder, TablePart
from synthgen.tables import ASSIGNMENTS, PLAN, PLANNED_IMAGES
from synthgen.workers import Task


@dataclass(frozen=True)
class Planned:
    """A partition as it should be."""

    draft: Draft
    assignments: pa.Table
    names: np.ndarray  # the outcome of each object of the draft, quarantined ones too


@dataclass(frozen=True)
class PlanTask(Task):
    """A partition of an epoch."""

    of: EpochTask | None = field(default=None, compare=False)


def tasks_of(folder: RunFolder, context: PlanContext, change: Change) -> Iterator[PlanTask]:
    """Yield the partitions to plan, epoch after epoch.

    An epoch that was cut short comes first. The next one is made from what is committed once all of its partitions are.
    """
    while of := next_task(folder, context, change):
        log = of.state.log
        for partition in of.pending:
            yield PlanTask(partition, log.next_revision(partition), epoch=of.epoch.number, of=of)
        change = "growth" if change == "redraw" and of.epoch.redraws else change  # once is enough


def plan_tasks(context: PlanContext, tasks: Iterable[PlanTask]) -> Iterator[Receipt]:
    """Plan each partition."""
    for of, partitions in groupby(tasks, key=lambda task: task.of):
        assert of is not None
        assigner, stage = of.assigner(context), StageFolder(of.state.inputs.out, PLAN)
        with Copies(of.state.inputs, of.state.survey, of.pending) as copies:
            for task in partitions:
                planned = plan_partition(of, assigner, task.partition)
                images = _images(of, task.partition, planned, copies.of(task.partition))
                yield _receipt(stage, of, task.partition, planned, images)


def plan_partition(task: EpochTask, assigner: Assigner, partition: str) -> Planned:
    """What a partition is asked, and what becomes of its objects."""
    found = draft(task.state, assigner, partition)
    assignments = found.assignments
    if task.epoch.limits:
        passes = let_through(task.epoch.limits, assigner.context.settings.seed, assignments, found.is_planned)
        assignments = assignments.filter(pa.array(passes))
    served, asked = (
        np.asarray(pc.is_in(found.objects.column("object_id"), rows.column("object_id").combine_chunks()))
        for rows in (found.assignments, assignments)
    )
    kept = np.where(asked, "planned", np.where(served, "over_quota", "unserved"))
    return Planned(found, assignments, np.where(found.outcome != KEPT, np.array(OUTCOMES)[found.outcome], kept))


def _images(task: EpochTask, partition: str, planned: Planned, copies: Mapping[int, list[str]]) -> pa.Table:
    """The images rows of a partition."""
    survey, objects = task.state.survey, planned.draft.objects
    span = survey.places[partition]
    places = range(span.start, span.stop)
    same_as = [
        None if other == place else survey.object_id(other)
        for place, other in zip(places, survey.stands_for[span], strict=True)
    ]
    uris = [[uri, *copies.get(place, ())] for place, uri in zip(places, objects.column("uri").to_pylist(), strict=True)]
    columns = {"outcome": planned.names.tolist(), "same_as": same_as, "uris": uris}
    found = {name: columns[name] if name in columns else objects.column(name) for name in PLANNED_IMAGES.names}
    images = pa.table(found, schema=PLANNED_IMAGES)
    return images.filter(pa.array(planned.draft.outcome != QUARANTINED))


def _receipt(stage: StageFolder, task: EpochTask, partition: str, planned: Planned, images: pa.Table) -> Receipt:
    """Writes of a partition's rows what differs from those that are committed."""
    log = task.state.log
    revision = log.next_revision(partition)
    before = stage.current(log, partition, "images")
    changes, counts = _changes(planned.draft.before, planned.assignments)
    counts.update(images.column("outcome").to_pylist())
    counts.subtract(before.column("outcome").to_pylist())
    files = (stage.write("assignments", partition, revision, changes),)
    tables = {"assignments": TablePart(files, task.epoch.fingerprint)}
    if revision == 1 or not images.equals(before):
        file = stage.write("images", partition, revision, images)
        tables["images"] = TablePart((file,), task.epoch.fingerprint, replaces=True)
    return Receipt(partition, revision, tables, dict(counts), task.epoch.reads[partition], task.epoch.number)


def _changes(before: pa.Table, wanted: pa.Table) -> tuple[pa.Table, Counter[str]]:
    """The rows that make the assignments what is wanted, and by how much they change the number of live and of retired ones."""
    if not before.num_rows:
        return wanted, Counter(assigned=wanted.num_rows)
    ids, is_retired = wanted.column("assignment_id"), before.column("retired")
    live, asleep = before.filter(pc.invert(is_retired)), before.filter(is_retired)
    place = pc.index_in(ids, live.column("assignment_id").combine_chunks())
    is_new = place.is_null()
    # An image whose bytes are now asked for at another object is the same question, to be asked there.
    is_moved = pc.fill_null(pc.not_equal(live.column("object_id").take(place), wanted.column("object_id")), False)
    # What was read back from the pairs after damage (commands/repair.py) says no longer what caused it.
    is_bare = pc.and_(pc.invert(is_new), pc.is_null(live.column("because").take(place)))
    gone = live.filter(pc.invert(pc.is_in(live.column("assignment_id"), ids.combine_chunks())))
    gone = gone.set_column(
        gone.schema.get_field_index("retired"),
        ASSIGNMENTS.field("retired"),
        pa.array([True] * gone.num_rows, pa.bool_()),
    )
    added = wanted.filter(is_new)
    woken = pc.sum(
        pc.is_in(added.column("assignment_id"), asleep.column("assignment_id").combine_chunks()), min_count=0
    ).as_py()
    counts = Counter({"assigned": added.num_rows - gone.num_rows, "retired": gone.num_rows - woken})
    return pa.concat_tables([wanted.filter(pc.or_(pc.or_(is_new, is_moved), is_bare)), gone]), counts
