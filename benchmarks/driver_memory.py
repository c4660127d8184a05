"""The driver's memory for ten thousand images and for a million: it must not grow with the bucket.

Runs all that the driver does in each stage (listing, logs, plans, commits, decisions, packing tasks). The workers write
at once what tagging and a scripted engine would have answered: made-up tables, in the real format by the real store,
without reading an image, so that a million images take minutes and not days. Each stage runs in a fresh process, so
that its peak is not another's; `beside` is the peak of a process that it starts (the survey of duplicates). Commits
grow until there are 8,000 partitions, which is at 256,000 images; from there on a partition has more images. `ratio` is
the peak of the largest bucket over that of the smallest, `time_growth` the seconds for ten times the images over the
seconds for one.

    python benchmarks/driver_memory.py [--images 1000000] [--quick]
"""

import json
import resource
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

import planning
import pyarrow as pa
from driver import commit_all, in_fresh_process

from synthgen.config import pipeline as pipelines
from synthgen.config import prompt_pack
from synthgen.config.pipeline import Pipeline
from synthgen.config.turns import turn_text
from synthgen.engines import ModelName
from synthgen.stages import generate, pack, select
from synthgen.stages.generate import GenerateContext
from synthgen.stages.pack import PackContext
from synthgen.store import Folder, Lease, Receipt, RunFolder, StageFolder, TablePart
from synthgen.tables import ASSIGNMENTS, GENERATE, PACK, PAIRS, PLAN, SCORES, SELECT, SHARD_INDEX, UNPACKED, pair_id
from synthgen.workers import Task

SCORE = "likelihood"
IMAGE_BYTES = 100_000
Step = Callable[[Folder, int, Lease], None]


def main() -> None:
    """Run each stage in a fresh process; print a table, then one line of JSON."""
    steps: dict[str, Step] = {
        "list": list_images,
        "tag": tag_images,
        "plan": plan_images,
        "generate": generate_pairs,
        "select": select_pairs,
        "pack": pack_shards,
    }
    if sys.argv[1:2] and sys.argv[1] in steps:
        print(json.dumps(measure(steps[sys.argv[1]], Folder(sys.argv[2]), int(sys.argv[3]))))
        return
    most = int(sys.argv[sys.argv.index("--images") + 1]) if "--images" in sys.argv else 1_000_000
    sizes = tuple(size for size in (10_000, 100_000, 1_000_000) if size <= most)
    if "--quick" in sys.argv:
        sizes = (1_000, 10_000)
    costs: dict[int, dict[str, dict[str, float]]] = {}  # images -> stage -> figures
    print(f"{'images':>10} {'stage':>9} {'seconds':>9} {'peak MB':>9} {'beside':>9}")
    with tempfile.TemporaryDirectory(prefix="synth-driver-") as folder:
        for size in sizes:
            costs[size] = {}
            for name in steps:
                cost = costs[size][name] = in_fresh_process(__file__, name, f"{folder}/{size}", size)
                print(
                    f"{size:>10,} {name:>9} {cost['seconds']:>9.1f} {cost['peak_mb']:>9.0f} {cost['beside_mb']:>9.0f}",
                    flush=True,
                )
    report(costs)


def report(costs: dict[int, dict[str, dict[str, float]]]) -> None:
    """Print the stage with the highest peak, and the line of JSON."""
    small, large = min(costs), max(costs)
    peaks = {size: max(cost["peak_mb"] for cost in stages.values()) for size, stages in costs.items()}
    seconds = {size: sum(cost["seconds"] for cost in stages.values()) for size, stages in costs.items()}
    highest = max(costs[large], key=lambda name: costs[large][name]["peak_mb"])
    print(
        f"the driver's peak is in {highest}: {peaks[small]:.0f} MB for {small:,} images, "
        f"{peaks[large]:.0f} MB for {large:,}"
    )
    before_last, last = sorted(costs)[-2:]
    record = {
        "benchmark": "driver_memory",
        "ratio": round(peaks[large] / peaks[small], 2),
        "peak_mb": round(peaks[large]),
        "images": large,
        "bytes_an_image": round((peaks[large] - peaks[small]) * 2**20 / (large - small)),
        "time_growth": round(seconds[last] / seconds[before_last], 2),
    }
    print(json.dumps(record))


def measure(step: Step, out: Folder, count: int) -> dict[str, float]:
    """Run a stage; return its seconds and the peaks of this process and of its children, in MiB."""
    started = time.perf_counter()
    with Lease.take(out) as lease:
        step(out, count, lease)
    seconds = time.perf_counter() - started
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    beside = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024
    return {"seconds": seconds, "peak_mb": peak, "beside_mb": beside}


def pipeline() -> Pipeline:
    """Return the everyday pipeline with one question an image."""
    scores = [f"generate.scores=[{SCORE}]", "select.keep={}", "select.balance={}", f"select.survivor={SCORE}"]
    return pipelines.load("everyday", ["plan.per_image=1", *scores])


def list_images(out: Folder, count: int, lease: Lease) -> None:
    """List made-up objects with the real stage."""
    planning.list_images(out, count, lease, planning.plan_context())


def tag_images(out: Folder, count: int, lease: Lease) -> None:
    """Commit made-up rows of tagging."""
    planning.tag_everyday(out, count, lease, planning.plan_context())


def plan_images(out: Folder, count: int, lease: Lease) -> None:
    """Plan with the real stage."""
    planning.plan_all(out, replace(planning.plan_context(), settings=pipeline().plan), lease)


def generate_pairs(out: Folder, count: int, lease: Lease) -> None:
    """Find the tasks as a run does, and commit made-up answers."""
    chosen, run = pipeline(), RunFolder(out)
    model, settings = ModelName("none", "none"), chosen.generate
    context = GenerateContext(
        out,
        chosen.source,
        chosen.images,
        prompt_pack.load("everyday"),
        model,
        settings.engine,
        settings.sampling,
        settings.scores,
        0,
    )
    tasks = generate.todo(run, context, is_update=False)
    commit_all(run, GENERATE, (answer(out, task) for task in tasks), lease)


def answer(out: Folder, task: Task) -> Receipt:
    """Write a pair and a score for every assignment of a partition."""
    folder, stage = RunFolder(out, task.inputs), StageFolder(out, GENERATE)
    asked = folder.table(PLAN, task.partition, "assignments")
    ids, size = asked.column("assignment_id").to_pylist(), asked.num_rows
    pairs = [pair_id(assignment, "recipe", 0) for assignment in ids]
    columns: dict[str, Any] = {name: asked.column(name) for name in ASSIGNMENTS.names if name in PAIRS.names}
    columns |= {"pair_id": pairs, "outcome": ["pair"] * size, "recipe": ["recipe"] * size, "attempt": [0] * size}
    columns |= {
        "question": [f"What is number {assignment[:12]} of these?" for assignment in ids],
        "answer": [f"It is {assignment[12:20]}." for assignment in ids],
    }
    rows = pa.table({name: columns.get(name, [None] * size) for name in PAIRS.names}, schema=PAIRS)
    score_columns = {"pair_id": pairs, "assignment_id": ids, "value": [0.9] * size}
    scores = pa.table({name: score_columns.get(name, [None] * size) for name in SCORES.names}, schema=SCORES)
    tables = {"pairs": rows, f"scores/{SCORE}": scores}
    files = {name: stage.write(name, task.partition, 1, table) for name, table in tables.items()}
    parts = {name: TablePart((file,), "f") for name, file in files.items()}
    return Receipt(task.partition, 1, parts, {"pair": size}, folder.digests((PLAN,), [task.partition]))


def select_pairs(out: Folder, count: int, lease: Lease) -> None:
    """Select with the real stage."""
    run = RunFolder(out)
    selection = select.prepare(run, pipeline().select)
    commit_all(run, SELECT, select.decide(selection, selection.todo), lease)


def pack_shards(out: Folder, count: int, lease: Lease) -> None:
    """Find the shards and write the card as a run does; of a shard write only its index."""
    chosen, prompts, run = pipeline(), prompt_pack.load("everyday"), RunFolder(out)
    context = PackContext(out, chosen.source, chosen.images, chosen.pack, (SCORE,), partial(turn_text, prompts), "w")
    shards = pack.todo(run, context)
    commit_all(run, PACK, (_indexed(out, shard) for shard in shards), lease)
    pack.publish(run, context, chosen.select, {"Engine": "scripted"}, lease, shards.summaries)


def _indexed(out: Folder, shard: pack.Shard) -> Receipt:
    """Write the index of a shard alone."""
    stage, size = StageFolder(out, PACK), len(shard.samples)
    columns: dict[str, Any] = {"image_id": shard.images, "sample_id": shard.samples, "bytes": [IMAGE_BYTES] * size}
    columns |= {name: [["x"]] * size for name in ("types", "forms", "languages")}
    index = pa.table({name: columns.get(name, [None] * size) for name in SHARD_INDEX.names}, schema=SHARD_INDEX)
    tables = {"index": index, "unpacked": UNPACKED.empty_table()}
    files = {name: stage.write(name, shard.partition, 1, rows) for name, rows in tables.items()}
    parts = {name: TablePart((file,), "f", replaces=True) for name, file in files.items()}
    return Receipt(shard.partition, 1, parts, {"samples": size, "turns": size}, epoch=shard.epoch)


if __name__ == "__main__":
    main()
