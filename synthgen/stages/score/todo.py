"""What a pass has still to score.

The driver knows from commits alone which partitions have something pending: those that the pass has not read as they
are now, and in an update those with a score that other settings shaped. A worker knows from rows which pairs lack which
scores. Pairs are never touched.
"""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from synthgen.stages.generate.todo import PendingImage, score_reasons, settled_pairs
from synthgen.stages.score.context import PassContext, table_of
from synthgen.store import CommitLog, RunFolder, StageFolder
from synthgen.tables import (
    GENERATE,
    PLAN,
    SCORE,
    count_scored,
    pass_partition,
    score_name,
    split_count,
    split_partition,
)
from synthgen.tables.passes import RETIRED
from synthgen.workers import Task

Row = dict[str, Any]


@dataclass(frozen=True)
class Pending:
    """What is pending in a partition of a pass.

    Attributes:
        images: By the id of the object that stands for the image; of a piece of a partition those of the piece.
        settled: The counts of what is not pending in the whole partition.
    """

    images: Mapping[str, PendingImage]
    settled: Counter[str] = field(default_factory=Counter)


def todo(folder: RunFolder, context: PassContext, is_update: bool, epoch: int = 1) -> list[Task]:
    """Return the partitions of a pass with something pending.

    Args:
        folder: The commits so far.
        context: The pass.
        is_update: Whether scores that other settings shaped are measured again.
        epoch: Of the new commits.
    """
    generated, scored, tasks = folder.log(GENERATE), folder.log(SCORE), []
    wanted = {table_of(context, name): made for name, made in context.fingerprints().items()}
    for partition in generated.partitions:
        if not generated.holds(partition):  # it is to be generated again first
            continue
        name = pass_partition(partition, context.name)
        latest = scored.latest(name)
        has_read = latest is not None and latest.receipt.reads == folder.digests(SCORE.inputs, [partition])
        is_stale = is_update and _is_stale(scored, name, wanted)
        if not has_read or is_stale or _failures(context, scored, name):
            inputs = {**folder.logs(SCORE.inputs, partition), SCORE.folder: scored.only([name])}
            tasks.append(Task(name, scored.next_revision(name), inputs, epoch=epoch))
    return tasks


def count_pending(context: PassContext, tasks: Iterable[Task]) -> tuple[int, bool]:
    """Return how many pairs are to be scored, from commits alone, and whether it may turn out to be fewer."""
    wanted = {table_of(context, name): made for name, made in context.fingerprints().items()}
    counts = [_count_pending(context, task, wanted) for task in tasks]
    return sum(count for count, _ in counts), any(is_bound for _, is_bound in counts)


def _count_pending(context: PassContext, task: Task, wanted: Mapping[str, str]) -> tuple[int, bool]:
    pairs = task.inputs[GENERATE.folder].counts().get(GENERATE.passes, 0)
    scored = task.inputs[SCORE.folder]
    if scored.latest(task.partition) is None:
        return pairs, bool(task.inputs[PLAN.folder].counts().get("retired"))
    if _is_stale(scored, task.partition, wanted):
        return pairs, True
    counts = scored.counts([task.partition])
    settled = Counter[str]()
    for name, count in counts.items():
        settled[split_count(name)[0]] += count
    least = min((settled[score_name(context.name, name)] for name in context.fingerprints()), default=0)
    pending = max(0, pairs - settled[context.name] - least) + _failures(context, scored, task.partition)
    # A pair that was asked again took the place of another one, which counts as scored still.
    return min(pairs, pending or task.inputs[GENERATE.folder].counts().get("reasked", 0)), True


def _failures(context: PassContext, scored: CommitLog, partition: str) -> int:
    """Return how many scores are to be tried again."""
    counts = scored.counts([partition]) if context.retry else {}
    names = {score_name(context.name, name) for name in context.fingerprints()}
    parts = ((*split_count(name), count) for name, count in counts.items())
    return sum(count for name, outcome, count in parts if name in names and outcome in context.retry)


def _is_stale(scored: CommitLog, partition: str, wanted: Mapping[str, str]) -> bool:
    """Return whether a partition has a score that other settings shaped, or lacks one."""
    return any(scored.fingerprint(partition, table) != made for table, made in wanted.items())


def object_ids(context: PassContext, task: Task) -> tuple[str, ...]:
    """Return the objects of a task that have something pending."""
    return tuple(sorted(find_pending(context, task).images))


def find_pending(context: PassContext, task: Task) -> Pending:
    """Read a partition of a pass and return what is pending in it."""
    folder, (partition, _) = RunFolder(context.out, task.inputs), split_partition(task.partition)
    rows = folder.table(PLAN, partition, "images").to_pylist()
    images = {row["object_id"]: PendingImage(row) for row in rows}
    reasons = score_reasons_of(context, task.inputs[SCORE.folder], partition)
    settled_by_score = {name: settled_pairs(of_pairs, context.retry) for name, of_pairs in reasons.items()}
    settled = Counter[str]()
    for row, object_id in _pairs(context, folder, partition):
        if object_id is None:
            settled[f"{context.name}.{RETIRED}"] += 1
            continue
        missing = [name for name, pairs in settled_by_score.items() if row["pair_id"] not in pairs]
        images[object_id].earlier.append(row)
        if missing:
            images[object_id].unscored.append((row, missing))
        for name in reasons.keys() - set(missing):
            settled.update(count_scored(score_name(context.name, name), [reasons[name][row["pair_id"]]]))
    wanted = set(images if task.only is None else task.only)
    pending = {object_id: image for object_id, image in images.items() if object_id in wanted and image.unscored}
    return Pending(pending, settled)


def score_reasons_of(context: PassContext, scored: CommitLog, partition: str) -> dict[str, dict[str, str | None]]:
    """Return for each score of a pass the reason of each pair that has it by its current fingerprint; None for a value.

    Args:
        context: The pass.
        scored: The commits of passes.
        partition: Of the pairs.
    """
    stage, own = StageFolder(context.out, SCORE), pass_partition(partition, context.name)
    return {
        name: score_reasons(stage, scored, own, table_of(context, name), made)
        for name, made in context.fingerprints().items()
    }


def _pairs(context: PassContext, folder: RunFolder, partition: str) -> list[tuple[Row, str | None]]:
    """Return the current pairs of a partition, each with the object of its image; None where it is not scored.

    That is where an edit of the plan withdrew its question, or its type is gone, so that the next update does.
    """
    objects = live_objects(folder, partition)
    rows = folder.table(GENERATE, partition, "pairs").to_pylist()
    return [
        (row, objects.get(row["assignment_id"]) if context.prompts.has_type(row["type"]) else None)
        for row in rows
        if row["outcome"] == GENERATE.passes
    ]


def live_objects(folder: RunFolder, partition: str) -> dict[str, str]:
    """Return the object of each assignment of a partition that is not retired."""
    rows = folder.table(PLAN, partition, "assignments", ["assignment_id", "object_id", "retired"]).to_pylist()
    return {row["assignment_id"]: row["object_id"] for row in rows if not row["retired"]}
