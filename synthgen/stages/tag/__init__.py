"""Stage tag: objects of the source become images with tags.

Workers fetch, hash, decode in child processes that may die, and embed in batches. Embeddings are kept: where a taxonomy
or a threshold was edited, tags are computed from them, and an image is read again only where a tagger that changed
needs its pixels.
"""

from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from typing import Any

from synthgen.console import Loading, Meter, StageProgress, note
from synthgen.stages import memory
from synthgen.stages.contract import StageRun
from synthgen.stages.tag.context import TagContext, context_of, resources
from synthgen.stages.tag.todo import count_objects, is_stale, object_ids, todo
from synthgen.stages.tag.untagged import untagged, untagged_message
from synthgen.stages.tag.worker import TagWorker, build
from synthgen.store import CommitLog, Receipt, RunFolder
from synthgen.tables import LEFT_OUT, TAG
from synthgen.workers import PoolSpec, Task, run_pool

__all__ = [
    "TagContext", "TagWorker", "build", "context_of", "is_stale", "left_out", "left_out_message", "object_ids",
    "pending", "resources", "results", "todo", "untagged", "untagged_message",
]  # fmt: skip


def pending(run: StageRun) -> list[Task]:
    """Return the partitions that are listed and not tagged; in an update, those that other settings shaped too."""
    return todo(run.folder, context_of(run.job, run.retry), run.is_update, run.epoch)


def results(run: StageRun, tasks: Sequence[Task]) -> Iterator[Receipt]:
    """Have actors tag the partitions."""
    context, settings = context_of(run.job, run.retry), run.job.pipeline.tag
    cpus, gpus = resources(context, settings.gpus)
    size = min(settings.workers, len(tasks))
    images = partial(object_ids, context)
    spec = PoolSpec(build, context, images, size, cpus, gpus, run.strikes, run.job.home, TAG.name)
    memory.note_workers(TAG.name, size, memory.tag_bytes(run.job.pipeline))
    total = sum(count_objects(context, task) for task in tasks)
    meter = Meter(Loading("the tagger is loading"))
    with StageProgress(TAG.name, total, "image") as bar:

        def show(counters: Mapping[str, float]) -> None:
            bar.show(counters.get("images", 0.0), meter.of_images(counters))

        yield from run_pool(spec, tasks, show, run.signals)
    if tasks and (message := left_out_message(run.folder)):
        note(f"{TAG.name}: {message}")


def left_out(log: CommitLog) -> dict[str, Any]:
    """Return how many of all tagged images lost some of their source tags, in total and by reason."""
    counts = log.counts()
    reasons = {reason: count for reason in LEFT_OUT if (count := counts.get(f"left_out.{reason}"))}
    return {"images": counts.get("left_out", 0), "of": counts.get("tagged", 0), "reasons": reasons}


def left_out_message(folder: RunFolder) -> str | None:
    """Return a line on tags that came along with images and were left out, or None if there are none."""
    counts = left_out(folder.log(TAG))
    if not counts["images"]:
        return None
    by_count = sorted(counts["reasons"].items(), key=lambda entry: -entry[1])
    listing = by_count[0][0] if len(by_count) == 1 else "left_out"
    reasons = ", ".join(f"{reason.replace('_', ' ')} ({count:,})" for reason, count in by_count)
    return (
        f"tags that should have come along were left out or missing for {counts['images']:,} of {counts['of']:,} "
        f"tagged images: {reasons}; `synth status {folder.out.url} --reason {listing}` lists them"
    )
