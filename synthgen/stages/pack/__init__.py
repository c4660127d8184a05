"""Stage pack: write kept pairs and their images as training samples, in Parquet shards with a dataset card.

`sharding` decides which shards are written, `worker` writes one, and `publish` deletes the files that no commit names
and writes the card, so that the plain glob `5-shards/data/*.parquet` is the data set.
"""

from collections.abc import Iterator, Mapping

from synthgen.console import StageProgress
from synthgen.stages import memory
from synthgen.stages.contract import StageRun
from synthgen.stages.pack.publish import publish
from synthgen.stages.pack.samples import PackContext, Shard, context_of, origin_of
from synthgen.stages.pack.sharding import Shards, todo
from synthgen.stages.pack.worker import build, image_ids, write_shard
from synthgen.store import Receipt
from synthgen.tables import PACK
from synthgen.workers import PoolSpec, run_pool

__all__ = [
    "PackContext", "Shard", "Shards", "build", "context_of", "image_ids", "pending", "publish", "results", "todo",
    "write_shard",
]  # fmt: skip


def pending(run: StageRun) -> Shards:
    """Return the shards to rewrite and those to write for the first time."""
    return todo(run.folder, context_of(run.job), run.retry)


def results(run: StageRun, tasks: Shards) -> Iterator[Receipt]:
    """Write the shards in actors, then publish the folder."""
    context, pipeline = context_of(run.job), run.job.pipeline
    size = min(pipeline.pack.workers, len(tasks))
    spec = PoolSpec(build, context, image_ids, size, notes=run.strikes, home=run.job.home, name=PACK.name)
    memory.note_workers(PACK.name, size, memory.pack_bytes(pipeline))
    with StageProgress(PACK.name, tasks.sample_count, "sample") as bar:

        def show(counters: Mapping[str, float]) -> None:
            bar.show(counters.get("samples", 0.0))

        yield from run_pool(spec, tasks, show, run.signals)
    publish(run.folder, context, pipeline.selection, origin_of(run.job), run.lease, tasks.summaries)
