"""The time of deciding on pairs, and its growth for ten times the pairs.

Made-up pairs (4 an image, questions from templates, some of them repeats, a score each) are written as the generate
stage would; then the select stage decides on them, with every rule, threshold and comparison on. Each size runs in a
fresh process, so that its peak memory is not another's. `growth` is the core seconds of all pairs over those of a tenth
of them.

    python benchmarks/selection.py [--quick]
"""

import json
import random
import resource
import sys
import tempfile
import time
from typing import Any

from driver import commit_all, in_fresh_process, is_quick

from synthgen import tables as schemas
from synthgen.config.pipeline import SelectConfig
from synthgen.config.selection import KeepRule
from synthgen.stages import select
from synthgen.store import Folder, Lease, Receipt, RunFolder, StageFolder, TablePart
from synthgen.store.commits import partition_name
from synthgen.tables import GENERATE, SELECT

PAIRS_A_PARTITION = 10_000
PAIRS_AN_IMAGE = 4
NOUNS = "bus car dog cat tree house sign child table chair window lamp boat bridge horse bicycle bottle cup phone clock"
THINGS, SIDES = NOUNS.split(), ("left", "right", "top", "bottom", "front", "back", "middle", "edge")
TEMPLATES = (
    "What colour is the {a} on the {s} of the {b}?",
    "How many pieces of {a} can be seen on the {s} of the {b}?",
    "Is the {a} nearer to the {b} than to the {c} on the {s}?",
    "What is written on the {a} that stands at the {s} of the {b}?",
    "Why might the {a} be placed beside the {b} and not beside the {c}?",
)
SETTINGS = SelectConfig(
    keep={"likelihood": KeepRule(min=0.2)}, forbidden=(r"\d{3}-\d{4}", r"https?://"), same_question=50
)


def main() -> None:
    """Measure two sizes; print a table, then one line of JSON."""
    if "--size" in sys.argv:
        print(json.dumps(measure(int(sys.argv[-1]))))
        return
    most = 100_000 if is_quick(__doc__) else 1_000_000
    small, large = (in_fresh_process(__file__, "--size", size) for size in (most // 10, most))
    print(f"{'pairs':>10} {'seconds':>8} {'of CPU':>7} {'pairs/s':>9} {'peak MB':>8}  kept")
    for cost in (small, large):
        rate = cost["pairs"] / cost["seconds"]
        figures = f"{cost['seconds']:>8.2f} {cost['cpu_seconds']:>7.2f} {rate:>9,.0f} {cost['peak_mb']:>8.0f}"
        print(f"{cost['pairs']:>10,} {figures}  {cost['kept']:,}")
    # of core seconds: other processes change the seconds of one size and not of the other
    growth = large["cpu_seconds"] / small["cpu_seconds"]
    print(f"ten times the pairs take {growth:.1f} times as long")
    figures_of_most = {name: round(large[name], 1) for name in ("seconds", "cpu_seconds", "peak_mb")}
    result = {
        "pairs": most,
        "rows_per_second": round(most / large["seconds"]),
        "growth": round(growth, 2),
        **figures_of_most,
    }
    print(json.dumps({"benchmark": "selection", **result}))


def measure(count: int) -> dict[str, Any]:
    """Write `count` pairs and select among them; return the cost of selecting."""
    with tempfile.TemporaryDirectory() as folder, Lease.take(Folder(folder)) as lease:
        out = Folder(folder)
        for number in range(0, count, PAIRS_A_PARTITION):
            _write_pairs(out, lease, number, min(count, number + PAIRS_A_PARTITION))
        start, cpu = time.perf_counter(), time.process_time()
        run = RunFolder(out)
        selection = select.prepare(run, SETTINGS)
        commit_all(run, SELECT, select.decide(selection, selection.todo), lease)
        seconds, cpu = time.perf_counter() - start, time.process_time() - cpu
        counts = run.log(SELECT).counts()
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    assert sum(counts.values()) == count
    return {
        "pairs": count,
        "seconds": seconds,
        "cpu_seconds": cpu,
        "peak_mb": peak / 1024,
        "kept": counts["kept"],
    }


def _write_pairs(out: Folder, lease: Lease, start: int, end: int) -> None:
    partition, stage = partition_name(1, start // PAIRS_A_PARTITION), StageFolder(out, GENERATE)
    random.seed(start)
    pairs = [_pair(number) for number in range(start, end)]
    scores = [{"pair_id": pair["pair_id"], "value": random.random()} for pair in pairs]
    tables = {"pairs": schemas.table(pairs, schemas.PAIRS), "scores/likelihood": schemas.table(scores, schemas.SCORES)}
    parts = {name: TablePart((stage.write(name, partition, 1, table),), "f") for name, table in tables.items()}
    stage.commit(Receipt(partition, 1, parts), lease)


def _pair(number: int) -> dict[str, Any]:
    a, b, c = random.sample(THINGS, 3)
    question = random.choice(TEMPLATES).format(a=a, b=b, c=c, s=random.choice(SIDES))
    answer = " ".join(random.choices(THINGS, k=random.randint(1, 60)))
    return {
        "assignment_id": schemas.make_id("assignment", str(number)),
        "pair_id": schemas.make_id("pair", str(number)),
        "image_id": schemas.image_id(str(number // PAIRS_AN_IMAGE).encode()),
        "outcome": "pair",
        "form": random.choice(schemas.ANSWER_FORMS[:3]),
        "language": "English",
        "question": question,
        "answer": answer,
        "raw_answer": answer,
    }


if __name__ == "__main__":
    main()
