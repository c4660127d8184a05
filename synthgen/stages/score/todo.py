"""What a pass has still to score.

The driver knows from commits alone which partitions have something pending: those that the pass has not read as they
are now, and in an update those with a score that other settings shaped. A worker knows from rows which pairs lack which
scores. Pairs are never touched. A pass that waits for another one reads what that has said (`routing`), and has nothing
to do in a partition before it is through.
"""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from synthgen.stages.generate.todo import PendingImage, score_reasons, settled_pairs
from synthgen.stages.score.context import PassContext, table_of
from synthgen.stages.score.routing import Routes, decided_rows, misrouted, routes_of
from synthgen.store import CommitLog, RunFolder, StageFolder
from synthgen.tables import (
    GENERATE,
    PLAN,
    SCORE,
    count_scored,
    make_id,
    pass_partition,
    score_name,
    split_count,
    split_partition,
)
from synthgen.tables.passes import RETIRED, TAKEN, VALUE
from synthgen.workers import Task

Row = dict[str, Any]
AFTER = "after"  # the key under `reads` of the setting of that name


@dataclass(frozen=True)
class Pending:
    """What is pending in a partition of a pass.

    Attributes:
        images: By the id of the object that stands for the image; of a piece of a partition those of the piece.
        settled: The counts of what is not pending in the whole partition.
        decided: Score → rows that cost no call, as another score decides their pairs; of the first piece alone.
    """

    images: Mapping[str, PendingImage]
    settled: Counter[str] = field(default_factory=Counter)
    decided: Mapping[str, list[Row]] = field(default_factory=dict)


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
        if context.before and not _has_read(folder, context.before, partition):  # its turn comes when that is through
            continue
        name = pass_partition(partition, context.name)
        is_stale = is_update and _is_stale(scored, name, wanted)
        if not _has_read(folder, context, partition) or is_stale or _failures(context, scored, name):
            read = [name, *_read_first(context, partition)]
            inputs = {**folder.logs(SCORE.inputs, partition), SCORE.folder: scored.only(read)}
            tasks.append(Task(name, scored.next_revision(name), inputs, epoch=epoch))
    return tasks


def _has_read(folder: RunFolder, context: PassContext, partition: str) -> bool:
    """Return whether a pass is through a partition of pairs as it is now."""
    latest = folder.log(SCORE).latest(pass_partition(partition, context.name))
    return latest is not None and latest.receipt.reads == reads_of(folder, context, partition)


def reads_of(folder: RunFolder, context: PassContext, partition: str) -> dict[str, str]:
    """Return what a pass writes under `reads` once it is through a partition of pairs.

    Beside commits that is `after`, a hash of the setting, by which an edit of it is noticed that touches no value.
    """
    reads = folder.digests(SCORE.inputs, [partition]) | folder.digests((SCORE,), _read_first(context, partition))
    return {**reads, AFTER: make_id(context.judge.after.model_dump_json())} if context.judge.after else reads


def _read_first(context: PassContext, partition: str) -> list[str]:
    """Return the partition of the pass that a pass waits for, if it waits for one."""
    return [pass_partition(partition, context.before.name)] if context.before else []


def count_pending(context: PassContext, tasks: Iterable[Task]) -> tuple[int, bool]:
    """Return how many pairs are to be scored, from commits alone, and whether it may turn out to be fewer."""
    wanted = {table_of(context, name): made for name, made in context.fingerprints().items()}
    counts = [_count_pending(context, task, wanted) for task in tasks]
    return sum(count for count, _ in counts), any(is_bound for _, is_bound in counts)


def _count_pending(context: PassContext, task: Task, wanted: Mapping[str, str]) -> tuple[int, bool]:
    pairs = task.inputs[GENERATE.folder].counts().get(GENERATE.passes, 0)
    scored = task.inputs[SCORE.folder]
    if context.judge.after:
        return _open_pairs(context, task, pairs), True
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


def _open_pairs(context: PassContext, task: Task, pairs: int) -> int:
    """Return how many pairs the score that a pass waits for may leave open."""
    after, before = context.judge.after, context.before
    if before is None or after is None or (after.min, after.max) != (None, None):
        return pairs
    (own,) = _read_first(context, split_partition(task.partition)[0])
    counts = task.inputs[SCORE.folder].counts([own])
    decided = sum(counts.get(f"{after.score}.{outcome}", 0) for outcome in (VALUE, TAKEN))
    return max(0, pairs - counts.get(f"{before.name}.{RETIRED}", 0) - decided)


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
    routes = routes_of(context, folder, partition)
    reasons = score_reasons_of(context, folder, partition, routes)
    settled_by_score = {name: settled_pairs(of_pairs, context.retry) for name, of_pairs in reasons.items()}
    settled, lacking = Counter[str](), list[tuple[Row, list[str]]]()
    for row, object_id in _pairs(context, folder, partition):
        if object_id is None:
            settled[f"{context.name}.{RETIRED}"] += 1
            continue
        missing = [name for name, pairs in settled_by_score.items() if row["pair_id"] not in pairs]
        images[object_id].earlier.append(row)
        lacking.append((row, missing))
        to_measure = [name for name in missing if routes.decided(row["pair_id"], name) is None]
        if to_measure:
            images[object_id].unscored.append((row, to_measure))
        for name in reasons.keys() - set(missing):
            settled[_count_of(context, name, routes, row["pair_id"], reasons[name][row["pair_id"]])] += 1
    wanted = set(images if task.only is None else task.only)
    pending = {object_id: image for object_id, image in images.items() if object_id in wanted and image.unscored}
    return Pending(pending, settled, decided_rows(lacking, routes) if task.is_first else {})


def score_reasons_of(
    context: PassContext, folder: RunFolder, partition: str, routes: Routes
) -> dict[str, dict[str, str | None]]:
    """Return for each score of a pass the reason of each pair that has it by its current fingerprint; None for a value.

    A pair is left out whose row is not what the score that the pass waits for says of it now.

    Args:
        context: The pass.
        folder: The commits of passes.
        partition: Of the pairs.
        routes: Of this partition.
    """
    stage, own = StageFolder(context.out, SCORE), pass_partition(partition, context.name)
    found = {}
    for name, made in context.fingerprints().items():
        reasons = score_reasons(stage, folder.log(SCORE), own, table_of(context, name), made)
        for pair_id in misrouted(context, folder, partition, name, routes):
            reasons.pop(pair_id, None)
        found[name] = reasons
    return found


def _count_of(context: PassContext, name: str, routes: Routes, pair_id: str, reason: str | None) -> str:
    """Return the count that a row of a pass is of; `reason` is why it has no value."""
    whole, decided = score_name(context.name, name), routes.decided(pair_id, name)
    if decided and decided.value is not None:
        return f"{whole}.{TAKEN}"
    (count,) = count_scored(whole, [reason])
    return count


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
