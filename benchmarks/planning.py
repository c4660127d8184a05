"""The time and the memory of listing and planning a bucket, and their growth when it has ten times the images.

Made-up objects are listed with the real listing; for each, the rows of tagging are written (3 to 8 tags of the everyday
taxonomy, a perceptual hash, an embedding; 3 % have the bytes of another image, 3 % are near to one); then they are
planned with the everyday mapping, prompts and pipeline. Each step runs in a fresh process, so that its peak memory is
not another's. `growth` is the time of planning all images over that of a tenth of them.

    python benchmarks/planning.py [--quick] [--profile]
"""

import cProfile
import json
import pstats
import random
import resource
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pyarrow as pa
from driver import commit_all, in_fresh_process, list_source

from synthgen.config import mapping, pipeline, prompt_pack, taxonomy
from synthgen.ingest.sources import Listed
from synthgen.stages import plan
from synthgen.store import Folder, Lease, Receipt, RunFolder, StageFolder, TablePart
from synthgen.tables import IMAGES, LIST, OBJECT_TAGS, PLAN, TAG, image_id

EMBEDDING = 512  # values of an embedding, float16
TAGGER = "everyday-clip"
Step = Callable[[Folder, int, Lease, plan.PlanContext], dict[str, int]]
MAX_DISTANCE = 100  # images from a duplicate back to its original, at most


def main() -> None:
    """Run each step in a fresh process; print a table, then one line of JSON."""
    steps = {"--list": list_images, "--tag": tag_everyday, "--plan": plan_images}
    if step := next((step for step in steps if step in sys.argv), None):
        place = sys.argv.index(step)
        print(json.dumps(measure(steps[step], Folder(sys.argv[place + 1]), int(sys.argv[place + 2]))))
        return
    most = 20_000 if "--quick" in sys.argv else 1_000_000
    profile = [option for option in sys.argv[1:] if option == "--profile"]
    with tempfile.TemporaryDirectory(prefix="synth-planning-") as folder:
        sizes = [
            {
                step: in_fresh_process(__file__, step, f"{folder}/{size}", size, *(profile if step == "--plan" else []))
                for step in steps
            }
            for size in (most // 10, most)
        ]
    print(f"{'images':>10} {'step':>6} {'seconds':>8} {'CPU s':>8} {'images/s':>9} {'peak MB':>8}")
    for size in sizes:
        for step, cost in size.items():
            rate = cost["images"] / cost["seconds"]
            print(
                f"{cost['images']:>10,} {step[2:]:>6} {cost['seconds']:>8.1f} {cost['cpu']:>8.1f} {rate:>9,.0f} "
                f"{cost['peak_mb']:>8.0f}"
            )
    report([size["--plan"] for size in sizes], sizes[-1]["--list"])


def report(plans: list[dict[str, Any]], lists: dict[str, Any]) -> None:
    """Print the outcomes of the images, and the line of JSON."""
    small, large = plans
    print(", ".join(f"{name} {count:,}" for name, count in large["counts"].items()))
    growth, cpu_growth = large["seconds"] / small["seconds"], large["cpu"] / small["cpu"]
    print(f"ten times the images take {growth:.1f} times as long to plan ({cpu_growth:.1f} times the work of a core)")
    result = {
        "images": large["images"],
        "images_per_second": round(large["images"] / large["seconds"]),
        "images_per_cpu_second": round(large["images"] / large["cpu"]),
        "peak_mb": round(large["peak_mb"]),
        "growth": round(growth, 2),
        "growth_cpu": round(cpu_growth, 2),
        "listed_per_second": round(lists["images"] / lists["seconds"]),
        "listing_peak_mb": round(lists["peak_mb"]),
    }
    print(json.dumps({"benchmark": "planning", **result}))


def measure(step: Step, out: Folder, count: int) -> dict[str, Any]:
    """Run a step; return seconds, core seconds, peak memory and counts, without reading the definition files."""
    context, profile = plan_context(), cProfile.Profile()
    start, cpu = time.perf_counter(), time.process_time()
    if "--profile" in sys.argv:
        profile.enable()
    with Lease.take(out) as lease:
        counts = step(out, count, lease, context)
    seconds, cpu = time.perf_counter() - start, time.process_time() - cpu
    if "--profile" in sys.argv:
        profile.disable()
        pstats.Stats(profile, stream=sys.stderr).sort_stats("tottime").print_stats(25)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return {"images": count, "seconds": seconds, "cpu": cpu, "peak_mb": peak, "counts": counts}


def list_images(out: Folder, count: int, lease: Lease, context: plan.PlanContext) -> dict[str, int]:
    """List made-up objects."""
    objects = (
        Listed(f"s3://photos/{number % 997:03d}/{number:09d}.jpg", f"{number:032x}", None, 200_000, None)
        for number in range(count)
    )
    list_source(out, objects, lease)
    assert StageFolder(out, LIST).log().counts() == {"listed": count}
    return {"listed": count}


def tag_everyday(out: Folder, count: int, lease: Lease, context: plan.PlanContext) -> dict[str, int]:
    """Write the rows of tagging with 3 to 8 tags an image."""
    leaves = list(taxonomy.load("everyday").tree.leaves)
    return tag_images(out, count, lease, lambda rng: rng.sample(leaves, rng.randint(3, 8)))


def tag_images(out: Folder, count: int, lease: Lease, tags_of: Callable[[random.Random], list[str]]) -> dict[str, int]:
    """Write the rows of tagging: every listed object gets an image and some tags."""
    source, stage = StageFolder(out, LIST), StageFolder(out, TAG)
    log, images = source.log(), made_up_images(random.Random(count))
    for partition in log.partitions:
        ids = source.current(log, partition, "objects").column("object_id").to_pylist()
        rng = random.Random(partition)
        embeddings = np.random.default_rng(len(ids)).random((len(ids), EMBEDDING)).astype(np.float16)
        contents = [next(images) for _ in ids]
        columns: dict[str, Any] = dict.fromkeys(IMAGES.names, [None] * len(ids)) | {
            "object_id": ids,
            "outcome": ["tagged"] * len(ids),
            "image_id": [content for content, _ in contents],
            "phash": [phash for _, phash in contents],
            "width": [rng.choice((320, 640, 1024, 4000)) for _ in ids],
            "height": [rng.choice((240, 640, 768, 3000)) for _ in ids],
            "embedding": list(embeddings),
        }
        tags = [[{"path": path, "score": rng.random(), "tagger": TAGGER} for path in tags_of(rng)] for _ in ids]
        tables = {
            "images": pa.table(columns, schema=IMAGES),
            f"tags/{TAGGER}": pa.table({"object_id": ids, "tags": tags}, schema=OBJECT_TAGS),
        }
        parts = {name: TablePart((stage.write(name, partition, 1, rows),), "f", True) for name, rows in tables.items()}
        stage.commit(Receipt(partition, 1, parts, {"tagged": len(ids)}, log.digests(LIST, [partition])), lease)
    return stage.log().counts()


def made_up_images(rng: random.Random) -> Iterator[tuple[str, int]]:
    """Yield content ids and perceptual hashes; some are another's, some are near to another's."""
    recent: list[tuple[str, int]] = []
    number = 0
    while True:
        kind, number = rng.random(), number + 1
        image = (image_id(str(number).encode()), rng.getrandbits(64))
        if recent and kind < 0.06:
            earlier = rng.choice(recent)
            image = earlier if kind < 0.03 else (image[0], earlier[1] ^ (1 << rng.randrange(64)))
        else:
            recent = [*recent[-MAX_DISTANCE:], image]
        yield image


def plan_images(out: Folder, count: int, lease: Lease, context: plan.PlanContext) -> dict[str, int]:
    """Plan the images with the real stage."""
    plan_all(out, context, lease)
    counts = StageFolder(out, PLAN).log().counts()
    assert sum(counts[name] for name in counts if name not in ("assigned", "retired")) == count
    return counts


def plan_all(out: Folder, context: plan.PlanContext, lease: Lease) -> None:
    """Plan all tagged images with the real stage."""
    run = RunFolder(out)
    commit_all(run, PLAN, plan.plan_tasks(context, plan.tasks_of(run, context, "growth")), lease)


def plan_context() -> plan.PlanContext:
    """Return the plan stage's context for the everyday pipeline."""
    settings, prompts = pipeline.load("everyday").plan, prompt_pack.load("everyday")
    tree = taxonomy.load("everyday").tree
    rules = mapping.load("everyday", tree, list(prompts.types))
    return plan.PlanContext(settings, rules, prompts.types, (TAGGER,), frozenset(tree.leaves), "f")


if __name__ == "__main__":
    main()
