"""The partitions that are to be tagged, and the objects of one that are."""

from typing import Any

from synthgen.stages.tag.context import TagContext
from synthgen.store import CommitLog, RunFolder
from synthgen.tables import LIST, TAG, tags_table
from synthgen.workers import Task


def todo(folder: RunFolder, context: TagContext, is_update: bool, epoch: int = 1) -> list[Task]:
    """Return the partitions to tag.

    Args:
        folder: The commits so far.
        context: The settings that tags are made with now.
        is_update: Whether partitions that were tagged with other settings are tagged again.
        epoch: Of the new commits.
    """
    listed, tagged = folder.log(LIST), folder.log(TAG)
    tasks = []
    for partition in listed.partitions:
        counts = tagged.counts([partition])
        is_retried = any(counts.get(f"quarantined.{reason}") for reason in context.retry)
        if not tagged.holds(partition) or is_retried or (is_update and is_stale(tagged, partition, context)):
            inputs = folder.logs((LIST, TAG), partition)
            tasks.append(Task(partition, tagged.next_revision(partition), inputs, epoch=epoch))
    return tasks


def is_stale(tagged: CommitLog, partition: str, context: TagContext) -> bool:
    """Return whether a tagged partition was made with other settings than these."""
    return tagged.fingerprint(partition, "images") != context.images_fingerprint or any(
        tagged.fingerprint(partition, tags_table(spec.name)) != spec.fingerprint for spec in context.taggers
    )


def count_objects(context: TagContext, task: Task) -> int:
    """Return how many objects a task has, from commits alone."""
    if is_retry(context, task):
        counts = task.inputs[TAG.folder].counts([task.partition])
        return sum(counts.get(f"quarantined.{reason}", 0) for reason in context.retry)
    return task.inputs[LIST.folder].counts([task.partition]).get("listed", 0)


def object_ids(context: TagContext, task: Task) -> tuple[str, ...]:
    """Return the objects of a task."""
    return tuple(row["object_id"] for row in objects_of(context, task))


def objects_of(context: TagContext, task: Task) -> list[dict[str, Any]]:
    """Return the objects rows to do: all of the partition, or those that are tried again."""
    folder = RunFolder(context.out, task.inputs)
    objects: list[dict[str, Any]] = folder.table(LIST, task.partition, "objects").to_pylist()
    if is_retry(context, task):
        images = folder.table(TAG, task.partition, "images", ["object_id", "reason"]).to_pylist()
        again = {row["object_id"] for row in images if row["reason"] in context.retry}
        objects = [row for row in objects if row["object_id"] in again]
    return [row for row in objects if task.only is None or row["object_id"] in task.only]


def is_retry(context: TagContext, task: Task) -> bool:
    """Return whether only quarantined images are done again: the partition was tagged with these settings."""
    tagged = task.inputs[TAG.folder]
    return bool(context.retry) and tagged.holds(task.partition) and not is_stale(tagged, task.partition, context)
