"""How much memory the driver takes for ten thousand images and for a million: what it holds must not grow with the bucket.

Does all that the driver does in each stage (listing, logs, plans, commits, decisions, what is to be packed) with workers that
write at once what tagging and a scripted engine would have answered: the tables are made up, in the real format by the real
store, and no image is read, so that a million images take minutes and not days. Each stage runs in a process of its own, so that
its peak is its own; `beside` is the peak of a process that it starts (the survey of duplicates). Commits grow until there are
8,000 partitions, which is at 256,000 images; from there on a partition has more images. `ratio` is the peak of the largest
bucket over that of the smallest, `time_growth` the seconds for ten times the images over the seconds for one.

    python benchmarks/driver_memory.py [--images 1000000] [--quick]
"""

import json
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import planning
import pyarrow as pa
from driver import commit_all

from synthgen.config import mapping, prompt_pack, taxonomy
from synthgen.config import pipeline as pipelines
from synthgen.config.pipeline import Pipeline
from synthgen.config.prompt_pack import turn_text
from synthgen.engines import ModelName
from synthgen.stages import generate, pack, plan, select
from synthgen.stages.generate import GenerateContext
from synthgen.stages.pack import PackContext
from synthgen.store import Folder, Lease, Receipt, RunFolder, StageFolder, TablePart
from synthgen.tables import ASSIGNMENTS, GENERATE, PACK, PAIRS, PLAN, SCORES, SELECT, SHARD_INDEX, UNPACKED, pair_id
from synthgen.workers import Task

SCORE = "likelihood"
IMAGE_BYTES = 100_000
Step = Callable[[Folder, int, Lease], None]


def main() -> None:
    """Runs each stage in a process of its own; prints a table, then one line of JSON."""
    steps: dict[str, Step] = {
        "list": listed,
        "tag": tagged,
        "plan": planned,
        "generate": generated,
        "select": selected,
        "pack": packed,
    }
    if sys.argv[1:2] and sys.argv[1] in steps:
        print(json.dumps(measured(steps[sys.argv[1]], Folder(sys.argv[2]), int(sys.argv[3]))))
        return
    most = int(sys.argv[sys.argv.index("--images") + 1]) if "--images" in sys.argv else 1_000_000
    sizes = (
        (1_000, 10_000)
        if "--quick" in sys.argv
        else tuple(size for size in (10_000, 100_000, 1_000_000) if size <= most)
    )
    found: dict[int, dict[str, dict[str, float]]] = {}
    print(f"{'images':>10} {'stage':>9} {'seconds':>9} {'peak MB':>9} {'beside':>9}")
    with tempfile.TemporaryDirectory(prefix="synth-driver-") as folder:
        for size in sizes:
            found[size] = {}
            for name in steps:
                one = found[size][name] = in_own_process(name, f"{folder}/{size}", size)
                print(
                    f"{size:>10,} {name:>9} {one['seconds']:>9.1f} {one['peak_mb']:>9.0f} {one['beside_mb']:>9.0f}",
                    flush=True,
                )
    report(found)


def report(found: dict[int, dict[str, dict[str, float]]]) -> None:
    """Which stage grows most, and the line of JSON."""
    small, large = min(found), max(found)
    peaks = {size: max(one["peak_mb"] for one in stages.values()) for size, stages in found.items()}
    seconds = {size: sum(one["seconds"] for one in stages.values()) for size, stages in found.items()}
    most = max(found[large], key=lambda name: found[large][name]["peak_mb"])
    print(
        f"the driver's peak is in {most}: {peaks[small]:.0f} MB for {small:,} images, {peaks[large]:.0f} MB for {large:,}"
    )
    last = sorted(found)[-2:]
    told = {"ratio": round(peaks[large] / peaks[small], 2), "peak_mb": round(peaks[large]), "images": large}
    bytes_an_image = round((peaks[large] - peaks[small]) * 2**20 / (large - small))
    growth = round(seconds[last[1]] / seconds[last[0]], 2)
    print(json.dumps({"benchmark": "driver_memory", **told, "bytes_an_image": bytes_an_image, "time_growth": growth}))


def in_own_process(step: str, folder: str, size: int) -> dict[str, float]:
    """What a stage took."""
    command = [sys.executable, __file__, step, folder, str(size)]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, cwd=Path(__file__).parent.parent)
    found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return found


def measured(step: Step, out: Folder, count: int) -> dict[str, float]:
    """Seconds and peak of this process."""
    started = time.perf_counter()
    with Lease.take(out) as lease:
        step(out, count, lease)
    peak, beside = (
        resource.getrusage(which).ru_maxrss / 1024 for which in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)
    )
    return {"seconds": time.perf_counter() - started, "peak_mb": peak, "beside_mb": beside}


def pipeline() -> Pipeline:
    """The everyday pipeline with one question an image."""
    return pipelines.load("everyday", ["plan.per_image=1", f"generate.scores=[{SCORE}]", "select.keep={}"])


def listed(out: Folder, count: int, lease: Lease) -> None:
    """Listing, the real one."""
    planning.listed(out, count, lease, planning.terms_of())


def tagged(out: Folder, count: int, lease: Lease) -> None:
    """Every partition's receipt committed; the rows are made up."""
    planning.tagged(out, count, lease, planning.terms_of())


def planned(out: Folder, count: int, lease: Lease) -> None:
    """Planning, the real one."""
    prompts = prompt_pack.load("everyday")
    rules = mapping.load("everyday", taxonomy.load("everyday").tree, list(prompts.types))
    planning.plan_all(out, plan.PlanContext(pipeline().plan, rules, prompts.types, (planning.TAGGER,), "f"), lease)


def generated(out: Folder, count: int, lease: Lease) -> None:
    """What is to be asked is found as a run finds it; a scripted worker answers."""
    chosen, run = pipeline(), RunFolder(out)
    model, settings = ModelName("none", "none"), chosen.generate
    context = GenerateContext(
        out, chosen.source, chosen.images, prompt_pack.load("everyday"), model, settings.engine, settings.sampling, settings.scores, 0
    )  # fmt: skip
    tasks = generate.todo(run, context, update=False)
    commit_all(run, GENERATE, (answered(out, task) for task in tasks), lease)


def answered(out: Folder, task: Task) -> Receipt:
    """Write a pair and a score for every assignment of a partition."""
    folder, stage = RunFolder(out, task.inputs), StageFolder(out, GENERATE)
    asked = folder.table(PLAN, task.partition, "assignments")
    ids, size = asked.column("assignment_id").to_pylist(), asked.num_rows
    pairs = [pair_id(one, "recipe", 0) for one in ids]
    columns: dict[str, Any] = {name: asked.column(name) for name in ASSIGNMENTS.names if name in PAIRS.names}
    columns |= {"pair_id": pairs, "outcome": ["pair"] * size, "recipe": ["recipe"] * size, "attempt": [0] * size}
    columns |= {
        "question": [f"What is number {one[:12]} of these?" for one in ids],
        "answer": [f"It is {one[12:20]}." for one in ids],
    }
    rows = pa.table({name: columns.get(name, [None] * size) for name in PAIRS.names}, schema=PAIRS)
    given = {"pair_id": pairs, "assignment_id": ids, "value": [0.9] * size}
    scores = pa.table({name: given.get(name, [None] * size) for name in SCORES.names}, schema=SCORES)
    tables = {"pairs": rows, f"scores/{SCORE}": scores}
    files = {name: stage.write(name, task.partition, 1, table) for name, table in tables.items()}
    parts = {name: TablePart((file,), "f") for name, file in files.items()}
    return Receipt(task.partition, 1, parts, {"pair": size}, folder.digests((PLAN,), [task.partition]))


def selected(out: Folder, count: int, lease: Lease) -> None:
    """Selection, the real one."""
    run = RunFolder(out)
    selection = select.prepare(run, pipeline().select)
    commit_all(run, SELECT, select.decide(selection, selection.todo), lease)


def packed(out: Folder, count: int, lease: Lease) -> None:
    """What is to be packed, and the card, as a run makes them; of a shard only its index is written."""
    chosen, prompts, run = pipeline(), prompt_pack.load("everyday"), RunFolder(out)
    context = PackContext(out, chosen.source, chosen.images, chosen.pack, (SCORE,), partial(turn_text, prompts), "w")
    commit_all(run, PACK, (_indexed(out, shard) for shard in pack.todo(run, context)), lease)
    pack.publish(run, context, chosen.select, {}, lease)


def _indexed(out: Folder, shard: pack.Shard) -> Receipt:
    """Write the index of a shard alone."""
    stage, size = StageFolder(out, PACK), len(shard.samples)
    columns: dict[str, Any] = {"image_id": shard.images, "sample_id": shard.samples, "bytes": [IMAGE_BYTES] * size}
    columns |= {name: [["x"]] * size for name in ("types", "forms", "languages")}
    tables = {"index": pa.table(columns, schema=SHARD_INDEX), "unpacked": UNPACKED.empty_table()}
    files = {name: stage.write(name, shard.partition, 1, rows) for name, rows in tables.items()}
    parts = {name: TablePart((file,), "f", replaces=True) for name, file in files.items()}
    return Receipt(shard.partition, 1, parts, {"samples": size, "turns": size}, epoch=shard.epoch)


if __name__ == "__main__":
    main()
