"""Asking pairs again, in place of the stage generate: its rows are of the tables of that stage."""

from collections.abc import Iterator, Mapping, Sequence
from functools import partial

from synthgen.console import Loading, Meter, StageProgress
from synthgen.engines import ModelName
from synthgen.engines.kinds import first_wait, gpus_of, resolve_model
from synthgen.stages import memory
from synthgen.stages.contract import Job, StageRun
from synthgen.stages.generate import context_of
from synthgen.stages.generate.reasker import build
from synthgen.stages.generate.reasking import ReaskContext, dropped_pairs, object_ids, todo
from synthgen.stages.spending import spending
from synthgen.store import Receipt
from synthgen.workers import PoolSpec, Task, run_pool


def context_for(job: Job) -> ReaskContext:
    """Return the context of the path of a job. Raises UserMistake if its model cannot be found."""
    path, engine = job.pipeline.reask, job.pipeline.reasker.engine
    return ReaskContext(context_of(job), _model_of(job), engine, path.samples, path.reasons)


def _model_of(job: Job) -> ModelName:
    """Return the exact model of the path; that which answers keeps its commit."""
    settings, own = job.pipeline.reasker, job.pipeline.generate.answerer
    if (settings.model, settings.revision, settings.engine.kind) == (own.model, own.revision, own.engine.kind):
        return job.model
    return resolve_model(settings, "reask.model", job.home)


def pending(run: StageRun) -> list[Task]:
    """Return the partitions with pairs that are to be asked again."""
    return todo(run.folder, context_for(run.job), run.epoch)


def results(run: StageRun, tasks: Sequence[Task]) -> Iterator[Receipt]:
    """Have actors with the engine of the path ask the pairs again."""
    if not tasks:
        return
    context = context_for(run.job)
    engine, images = context.engine, partial(object_ids, context)
    meter = Meter(Loading(first_wait([engine])), spending(run.job.pipeline.reasker))
    count = min(engine.replicas, len(tasks))
    spec = PoolSpec(build, context, images, count, engine.cpus, gpus_of(engine), run.strikes, run.job.home, "reask")
    memory.note_workers("reask", count, memory.generate_bytes(run.job.pipeline, engine))
    total = sum(len(dropped_pairs(context, task)) for task in tasks)
    with StageProgress("reask", total, "pair", is_bound=False) as bar:

        def show(counters: Mapping[str, float]) -> None:
            done = counters.get("pairs", 0.0) + counters.get("failed", 0.0)
            bar.show(done, meter.of_pairs(counters))

        for receipt in run_pool(spec, tasks, show, run.signals):
            yield receipt
            bar.add(receipt.tables["pairs"].files[0].rows)
