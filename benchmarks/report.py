"""The seconds, the memory and the size of a report, as a ratio to reading the tables that it counts once.

Made-up pairs (4 an image, with tags, three scores, decisions and clusters) are written as the stages would, and
`synth report` reads them without pictures: these come from the source, and do not depend on the number of pairs;
`pictures_mb` is the most that they add to the file. Each size runs in a fresh process, so that its peak memory is not
another's; `memory_growth` is the memory of all pairs over that of a tenth of them.

    python benchmarks/report.py [--quick]
"""

import json
import random
import resource
import sys
import tempfile
import time
from typing import Any

import pyarrow as pa
from driver import in_fresh_process, is_quick

from synthgen import tables as schemas
from synthgen.commands.report import command, outcomes, pictures, scores
from synthgen.store import Folder, Lease, Receipt, RunFolder, StageFolder, TablePart
from synthgen.store.commits import partition_name
from synthgen.tables import GENERATE, PLAN, SELECT, StageSpec

IMAGES_A_PARTITION = 2_500
PAIRS_AN_IMAGE = 4
SCORES = ("likelihood", "answer", "agreement")
TYPES = [f"family_{family}/type_{number}" for family in range(8) for number in range(38)]
TAGS = [f"root_{root}/group_{group}/leaf_{leaf}" for root in range(6) for group in range(5) for leaf in range(8)]
REASONS = ["kept"] * 17 + ["score:answer", "duplicate:question", "rule:loops"]
NOUNS = ("bus", "car", "dog", "cat", "tree", "house", "sign", "child", "table", "chair", "lamp", "boat", "horse")
PIPELINE = {
    "about": "made up",
    "source": {"uri": "nowhere"},
    "tag": {"tagger": "everyday-clip"},
    "plan": {"mapping": "everyday"},
    "generate": {"model": "none", "prompts": "everyday", "engine": {"kind": "scripted"}, "scores": list(SCORES)},
    "select": {"keep": {"answer": {"min": 0.2}}},
}


def main() -> None:
    """Measure two sizes; print a table, then one line of JSON."""
    if "--size" in sys.argv:
        print(json.dumps(measure(int(sys.argv[-1]))))
        return
    most = 100_000 if is_quick(__doc__) else 1_000_000
    print(f"{'pairs':>10} {'seconds':>8} {'of CPU':>7} {'reading':>8} {'ratio':>6} {'peak MB':>8} {'file MB':>8}")
    small, large = (run(count) for count in (most // 10, most))
    growth = large["peak_mb"] / small["peak_mb"]
    print(f"ten times the pairs take {growth:.2f} times the memory; pictures add at most {large['pictures_mb']:.1f} MB")
    print(json.dumps({"benchmark": "report", **large, "memory_growth": round(growth, 2)}))


def run(count: int) -> dict[str, Any]:
    """Measure one size in a fresh process, and print its line."""
    cost: dict[str, Any] = in_fresh_process(__file__, "--size", count)
    times = f"{cost['seconds']:>8.1f} {cost['cpu_seconds']:>7.1f} {cost['reading_cpu_seconds']:>8.1f}"
    print(f"{count:>10,} {times} {cost['ratio']:>6.2f} {cost['peak_mb']:>8.0f} {cost['file_mb']:>8.2f}", flush=True)
    return cost


def measure(count: int) -> dict[str, Any]:
    """Write `count` pairs, read them once, and write their report; return what that costs."""
    with tempfile.TemporaryDirectory() as folder:
        out = Folder(folder)
        with Lease.take(out) as lease:
            write_run(out, lease, count)
        cpu = time.process_time()
        read_once(RunFolder(out))
        reading = time.process_time() - cpu
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        start, cpu = time.perf_counter(), time.process_time()
        page = command.report_page(RunFolder(out), has_pictures=False)
        seconds, cpu = time.perf_counter() - start, time.process_time() - cpu
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    costs = {"seconds": seconds, "cpu_seconds": cpu, "reading_cpu_seconds": reading, "peak_mb": peak}
    sizes = {"file_mb": len(page) / 1e6, "pictures_mb": pictures.SMALL.together * 4 / 3 / 1e6}
    costs |= {"reading_peak_mb": before, "ratio": cpu / reading}
    return {"pairs": count, **{name: round(value, 2) for name, value in (costs | sizes).items()}}


def read_once(folder: RunFolder) -> None:
    """Read what a report counts: the same columns of the same tables, once."""
    for partition in folder.log(GENERATE).partitions:
        folder.table(PLAN, partition, "images", ["image_id", "outcome", "tags"])
        folder.table(GENERATE, partition, "pairs", outcomes.COLUMNS)
        folder.table(SELECT, partition, "decisions", ["pair_id", "reason"])
        folder.table(SELECT, partition, "clusters/question", ["cluster", "survivor"])
        for score in SCORES:
            folder.scores(partition, score, scores.COLUMNS)


def write_run(out: Folder, lease: Lease, count: int) -> None:
    """Write a run of so many pairs, partition by partition."""
    out.write("run.json", b'{"format": 1}')
    started = {"started_in": out.url, "started_with": {"pipeline": "made-up", "settings": [], "limit": None}}
    RunFolder(out).write_record({"pipeline": PIPELINE, "shape": {}, "unfinished": {}, "tagger_models": {}, **started})
    for number, first in enumerate(range(0, count // PAIRS_AN_IMAGE, IMAGES_A_PARTITION)):
        random.seed(number)
        last = min(count // PAIRS_AN_IMAGE, first + IMAGES_A_PARTITION)
        images = [_image(index) for index in range(first, last)]
        pairs = [_pair(image, index) for image in images for index in range(PAIRS_AN_IMAGE)]
        reasons = [random.choice(REASONS) for _ in pairs]
        partition = partition_name(1, number)
        _commit(out, lease, PLAN, partition, {"images": schemas.table(images, schemas.PLANNED_IMAGES)}, "planned")
        measured = {f"scores/{name}": _scores(pairs) for name in SCORES}
        _commit(out, lease, GENERATE, partition, {"pairs": schemas.table(pairs, schemas.PAIRS), **measured}, "pair")
        decided = {"decisions": _decisions(pairs, reasons), "clusters/question": _clusters(pairs)}
        _commit(out, lease, SELECT, partition, decided, "kept")


def _commit(
    out: Folder, lease: Lease, spec: StageSpec, partition: str, written: dict[str, pa.Table], outcome: str
) -> None:
    stage = StageFolder(out, spec)
    parts = {name: TablePart((stage.write(name, partition, 1, rows),), "f") for name, rows in written.items()}
    stage.commit(Receipt(partition, 1, parts, {outcome: next(iter(written.values())).num_rows}), lease)


def _image(number: int) -> dict[str, Any]:
    leaves = random.sample(TAGS, 3)
    paths = {"/".join(leaf.split("/")[:depth]) for leaf in leaves for depth in (1, 2, 3)}
    identity = schemas.image_id(str(number).encode())
    tags = [{"path": path, "score": 0.9, "tagger": "made-up"} for path in sorted(paths)]
    return {
        "object_id": identity[:32],
        "image_id": identity,
        "outcome": "planned",
        "uri": f"{number}.jpg",
        "tags": tags,
    }


def _pair(image: dict[str, Any], index: int) -> dict[str, Any]:
    question = f"What colour is the {random.choice(NOUNS)} beside the {random.choice(NOUNS)}?"
    answer = " ".join(random.choices(NOUNS, k=random.randint(1, 60)))
    assignment = schemas.make_id("assignment", image["image_id"], str(index))
    return {
        "assignment_id": assignment,
        "pair_id": schemas.make_id("pair", assignment),
        "image_id": image["image_id"],
        "object_id": image["object_id"],
        "outcome": "pair",
        "type": random.choice(TYPES),
        "form": random.choice(schemas.ANSWER_FORMS[:3]),
        "language": "English",
        "question": question,
        "answer": answer,
        "raw_answer": answer,
        "prompt_tokens": 900,
        "cached_tokens": 700,
        "output_tokens": 60,
        "seconds": 1.0,
    }


def _scores(pairs: list[dict[str, Any]]) -> pa.Table:
    cost = {"calls": 1, "prompt_tokens": 900, "cached_tokens": 850, "output_tokens": 1}
    rows = [{"pair_id": pair["pair_id"], "value": random.random(), "detail": "{}", **cost} for pair in pairs]
    return schemas.table(rows, schemas.SCORES)


def _decisions(pairs: list[dict[str, Any]], reasons: list[str]) -> pa.Table:
    ids = ("pair_id", "assignment_id", "image_id")
    rows = [
        {**{name: pair[name] for name in ids}, "kept": reason == "kept", "reason": reason}
        for pair, reason in zip(pairs, reasons, strict=True)
    ]
    return schemas.table(rows, schemas.DECISIONS)


def _clusters(pairs: list[dict[str, Any]]) -> pa.Table:
    """Return clusters of two of the pairs of every fourth image."""
    rows = [
        {"pair_id": pair["pair_id"], "cluster": pairs[start]["pair_id"], "similarity": 0.9, "survivor": index == 0}
        for start in range(0, len(pairs), PAIRS_AN_IMAGE * 4)
        for index, pair in enumerate(pairs[start : start + 2])
    ]
    return schemas.table(rows, schemas.CLUSTERS)


if __name__ == "__main__":
    main()
