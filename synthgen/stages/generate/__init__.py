"""Stage generate: a conversation about each planned image becomes pairs and scores.

Where one model asks and another answers, it is two passes with an engine each, since two engines do not share a GPU:
`first_pass` writes the questions, then this module has them answered. Workers hold the engine and run many
conversations at once. `todo` knows from commits what is pending, `context` hashes
everything that shapes a pair, `conversation` and `scoring` make the calls about one image, and `profiling` measures on
a few images what a question costs.
"""

from collections.abc import Iterator, Mapping, Sequence
from functools import partial

from synthgen.console import Loading, Meter, StageProgress
from synthgen.engines.kinds import first_wait, gpus_of
from synthgen.stages import memory
from synthgen.stages.contract import StageRun
from synthgen.stages.generate.context import GenerateContext, context_of
from synthgen.stages.generate.profiling import Profile, ProfileSample, ProfileTask, QuestionCost, measure
from synthgen.stages.generate.receipt import make_receipt
from synthgen.stages.generate.todo import (
    count_pending,
    find_pending,
    missing_scores,
    needs_asking,
    object_ids,
    scored_pairs,
    todo,
)
from synthgen.stages.generate.worker import GenerateWorker, build
from synthgen.stages.spending import spending
from synthgen.store import Receipt
from synthgen.workers import PoolSpec, Task, run_pool

__all__ = [
    "GenerateContext",
    "GenerateWorker",
    "Profile",
    "ProfileSample",
    "ProfileTask",
    "QuestionCost",
    "build",
    "context_of",
    "count_pending",
    "measure",
    "missing_scores",
    "needs_asking",
    "object_ids",
    "pending",
    "results",
    "results_of",
    "scored_pairs",
    "todo",
]  # fmt: skip


def pending(run: StageRun) -> list[Task]:
    """Return the partitions with something to ask or to score; in an update, those that other settings shaped too."""
    return todo(run.folder, context_of(run.job, run.retry), run.is_update, run.epoch)


def results(run: StageRun, tasks: Sequence[Task]) -> Iterator[Receipt]:
    """Have actors with an engine ask and score what is pending.

    The engine, which can load for minutes, is started for the first partition that has something to ask.
    """
    yield from results_of(run, tasks, context_of(run.job, run.retry))


def results_of(run: StageRun, tasks: Sequence[Task], context: GenerateContext) -> Iterator[Receipt]:
    """Yield a receipt for each task of a pass, which its context describes."""
    name, engine, idle = context.spec.name, context.engine, 0
    for task in tasks:
        if (found := find_pending(context, task)).images:
            break
        yield make_receipt(context, task, found)
        idle += 1
    tasks = tasks[idle:]
    gpus = gpus_of(engine)
    count = min(engine.replicas, len(tasks))
    images = partial(object_ids, context)
    spec = PoolSpec(build, context, images, count, engine.cpus, gpus, run.strikes, run.job.home, name)
    memory.note_workers(name, count, memory.generate_bytes(run.job.pipeline, engine))
    total, is_bound = count_pending(context, tasks)
    generate = run.job.pipeline.generate
    meter = Meter(
        Loading(first_wait([engine])), spending(generate.asker if context.is_first_pass else generate.answerer)
    )
    with StageProgress(name, total, "assignment", is_bound=is_bound) as bar:

        def show(counters: Mapping[str, float]) -> None:
            done = counters.get("pairs", 0.0) + counters.get("failed", 0.0)
            bar.show(done, meter.of_pairs(counters))

        for receipt in run_pool(spec, tasks, show, run.signals):
            yield receipt
            bar.add(sum(file.rows for file in receipt.tables[context.spec.watched].files))
