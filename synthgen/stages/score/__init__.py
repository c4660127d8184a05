"""Stage score: passes in which models of their own score the pairs that are there; most runs have none.

A pass measures like `generate` does when a score is added to a finished run, but on another engine: the conversations
and the measures are those of `synthgen.stages.generate`. `todo` knows from commits what is pending, `context` hashes
what shapes a score, `routing` which pairs are left to a pass that waits for another score. Passes whose workers fit on
the cluster together run side by side, the others one after the other, since two engines do not share a GPU.
"""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path

from synthgen.console import Cost, Loading, Meter, StageProgress, note
from synthgen.engines.kinds import first_wait, gpus_of
from synthgen.stages import memory
from synthgen.stages.contract import StageRun
from synthgen.stages.score.context import PassContext, contexts_of, waves_of
from synthgen.stages.score.receipt import make_receipt
from synthgen.stages.score.todo import count_pending, find_pending, object_ids, todo
from synthgen.stages.score.worker import ScoreWorker, build
from synthgen.stages.spending import spending
from synthgen.store import Folder, Receipt
from synthgen.tables import SCORE, split_partition
from synthgen.tables.passes import DECIDED, TAKEN
from synthgen.workers import PoolSpec, PoolWork, Task, rounds_on_cluster, run_pools

__all__ = [
    "PassContext",
    "ScoreWorker",
    "build",
    "contexts_of",
    "count_pending",
    "find_pending",
    "in_words",
    "object_ids",
    "pending",
    "pool_of",
    "results",
    "todo",
    "waves_of",
]  # fmt: skip


def pending(run: StageRun) -> list[Task]:
    """Return the partitions that passes which wait for none have to score; `results` finds those of the others."""
    first = waves_of(run.job, run.retry)[:1]
    return [task for wave in first for task in _todo_of(run, wave)]


def results(run: StageRun, tasks: Sequence[Task]) -> Iterator[Receipt]:
    """Have actors with the engine of each pass score what is pending.

    An engine, which can load for minutes, is started for the first partition that has something to score. A pass that
    waits for another one learns what it has to do when that is through.
    """
    for number, wave in enumerate(waves_of(run.job, run.retry)):
        yield from _run_wave(run, wave, _todo_of(run, wave) if number else tasks)


def _todo_of(run: StageRun, wave: Sequence[PassContext]) -> list[Task]:
    return [task for context in wave for task in todo(run.folder, context, run.is_update, run.epoch)]


def _run_wave(run: StageRun, wave: Sequence[PassContext], tasks: Sequence[Task]) -> Iterator[Receipt]:
    """Have passes that wait for none of each other score what is pending."""
    works: list[tuple[PassContext, list[Task]]] = []
    for context in wave:
        own = [task for task in tasks if split_partition(task.partition)[1] == context.name]
        for idle, task in enumerate(own):
            if (found := find_pending(context, task)).images:
                works.append((context, own[idle:]))
                break
            yield make_receipt(context, task, found, {})
    if works:
        yield from _in_rounds(run, works)


def _in_rounds(run: StageRun, works: Sequence[tuple[PassContext, list[Task]]]) -> Iterator[Receipt]:
    """Run pools one after the other, those that fit on the cluster together at the same time."""
    specs = [pool_of(context, len(tasks), run.job.home, run.strikes) for context, tasks in works]
    rounds = rounds_on_cluster(specs)
    if len(works) > 1:
        note(f"{SCORE.name}: {in_words([[works[number][0].name for number in each] for each in rounds])}")
    for context, _ in works:
        if after := context.judge.after:
            note(f"{SCORE.name}: pass {context.name} scores the pairs that {after.score} leaves open")
    for together in rounds:
        yield from _run_round(run, [works[number] for number in together], [specs[number] for number in together])


def _run_round(
    run: StageRun, works: Sequence[tuple[PassContext, list[Task]]], specs: Sequence[PoolSpec]
) -> Iterator[Receipt]:
    pairs = [count_pending(context, tasks) for context, tasks in works]
    title = " and ".join(context.name for context, _ in works)
    meter = Meter(Loading(first_wait([context.engine for context, _ in works])), lambda _: _cost(works, counters))
    for (context, _), spec in zip(works, specs, strict=True):
        size = memory.generate_bytes(run.job.pipeline, context.engine)
        memory.note_workers(f"{SCORE.name} {context.name}", spec.size, size)
    total, is_bound = sum(count for count, _ in pairs), any(bound for _, bound in pairs)
    counters: dict[str, Mapping[str, float]] = {}
    with StageProgress(f"{SCORE.name} {title}", total, "pair", is_bound=is_bound) as bar:

        def show(name: str, latest: Mapping[str, float]) -> None:
            counters[name] = latest
            both = sum((Counter(each) for each in counters.values()), Counter[str]())
            bar.show(both.get("pairs", 0), meter.of_scores(both))

        pools = [
            PoolWork(spec, tasks, partial(show, context.name))
            for (context, tasks), spec in zip(works, specs, strict=True)
        ]
        for receipt in run_pools(pools, run.signals):
            yield receipt
            bar.add(_measured(receipt))


def _measured(receipt: Receipt) -> int:
    """Return how many pairs a pass measured, of the score of which it measured most."""
    rows = {name.partition("/")[2]: sum(file.rows for file in part.files) for name, part in receipt.tables.items()}
    free = {name: sum(receipt.counts.get(f"{name}.{outcome}", 0) for outcome in (TAKEN, DECIDED)) for name in rows}
    return max(count - max(0, free[name]) for name, count in rows.items())


def _cost(works: Sequence[tuple[PassContext, list[Task]]], counters: Mapping[str, Mapping[str, float]]) -> Cost | None:
    """Return the cost of passes that run side by side; None where it is not known of each, or not in one unit."""
    costs = [spending(context.judge.settings)(counters.get(context.name, {})) for context, _ in works]
    units = {cost.unit if cost else None for cost in costs}
    return (
        Cost(sum(cost.spent for cost in costs if cost), units.pop() or "") if len(units) == 1 and all(costs) else None
    )


def pool_of(context: PassContext, tasks: int | None, home: Path, strikes: Folder | None = None) -> PoolSpec:
    """Return the pool of a pass.

    Args:
        context: The pass.
        tasks: How many it has at most; None if that is not known.
        home: The folder that an actor imports code of the user from.
        strikes: Where deaths are recorded.
    """
    engine, images = context.engine, partial(object_ids, context)
    count = engine.replicas if tasks is None else min(engine.replicas, tasks)
    name = f"{SCORE.name} {context.name}"
    return PoolSpec(build, context, images, count, engine.cpus, gpus_of(engine), strikes, home, name)


def in_words(rounds: Sequence[Sequence[str]]) -> str:
    """Return which passes run side by side, and in which order."""
    parts = [f"{' and '.join(names)} side by side" if len(names) > 1 else names[0] for names in rounds]
    return f"passes run in this order: {', then '.join(parts)}"
