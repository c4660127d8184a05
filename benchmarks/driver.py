"""Stages run without the command line, each receipt committed before the next is asked for; and fresh processes."""

import argparse
import json
import subprocess
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, cast

from synthgen.config.pipeline import Pipeline
from synthgen.engines import ModelName
from synthgen.engines.kinds import gpus_of
from synthgen.ingest.sources import Listed
from synthgen.stages import generate, listing
from synthgen.stages.contract import Definitions, Job, StageRun
from synthgen.store import Folder, Lease, Receipt, RunFolder
from synthgen.tables import GENERATE, LIST, StageSpec
from synthgen.workers import PoolSpec, StopSignals, Task, leave_ray, listening, run_pool
from synthgen.workers.task import Build

ROOT = Path(__file__).parent.parent


def commit_all(folder: RunFolder, spec: StageSpec, receipts: Iterable[Receipt], lease: Lease) -> None:
    """Commit the receipts of a stage as they come."""
    for receipt in receipts:
        folder.commit(spec, receipt, lease)


def list_source(out: Folder, objects: Iterable[Listed], lease: Lease) -> None:
    """Run the list stage over a listing of the source."""
    # Of a job, listing reads the output folder and the shape alone.
    job = Job(out, cast(Pipeline, None), cast(Definitions, None), ModelName("none", ""), {"listed": "f"})
    run = StageRun(LIST, job, RunFolder(out), lease, StopSignals(), objects=objects)
    commit_all(run.folder, LIST, listing.results(run, listing.pending(run)), lease)


def generate_with(build: Build, job: Job, more: Iterable[Task] = ()) -> Iterator[Receipt]:
    """Run the generate stage with workers of another kind, and yield the receipts of its tasks and of `more`.

    Those of its own tasks are committed.
    """
    folder, context = RunFolder(job.out), generate.context_of(job)
    tasks = generate.todo(folder, context, is_update=False)
    partitions = {task.partition for task in tasks}
    engine = job.pipeline.generate.engine
    spec = PoolSpec(build, context, _nothing, 1, engine.cpus, gpus_of(engine))
    try:
        with listening() as signals, folder.lease() as lease:
            for receipt in run_pool(spec, [*tasks, *more], lambda counters: None, signals):
                if receipt.partition in partitions:
                    folder.commit(GENERATE, receipt, lease)
                yield receipt
    finally:
        leave_ray()


def is_quick(description: str | None) -> bool:
    """Parse the command line of a benchmark whose one option is --quick, and return whether it is given."""
    parser = argparse.ArgumentParser(description=(description or "").partition("\n")[0])
    parser.add_argument("--quick", action="store_true", help="fewer and smaller runs")
    return bool(parser.parse_args().quick)


def in_fresh_process(file: str, *words: object) -> dict[str, Any]:
    """Run a benchmark with these words in a fresh process, and return its last line, which is JSON."""
    command = [sys.executable, file, *map(str, words)]
    process = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, cwd=ROOT)
    cost: dict[str, Any] = json.loads(process.stdout.splitlines()[-1])
    return cost


def _nothing(task: Task) -> tuple[str, ...]:
    return ()
