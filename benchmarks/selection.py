"""The time of deciding on pairs, its growth for ten times the pairs, and what rules over the whole set add to it.

Made-up pairs (4 an image, questions from templates, some of them repeats, a score each) are written as the generate
stage would; then the select stage decides on them, with every rule, threshold and comparison on. Each size runs in a
fresh process, so that its peak memory is not another's. `growth` is the core seconds of all pairs over those of a tenth
of them. `whole_set_ratio` and `whole_set_memory_ratio` compare the same pairs with ranks, balance and quotas added to
the thresholds; `changed` decides once more with another threshold, `near` also compares questions, answers and phrases
over the whole set; `trial` counts what three other thresholds would keep, as `synth select --what-if` does.

    python benchmarks/selection.py [--quick | --largest]
"""

import argparse
import json
import random
import resource
import sys
import tempfile
import time
from typing import Any

from driver import commit_all, in_fresh_process

from synthgen import tables as schemas
from synthgen.config.deduplication import NearAnswersConfig, NearQuestionsConfig, PhrasesConfig
from synthgen.config.selection import AnswerBalance, KeepRule, Quota, Quotas, SelectConfig
from synthgen.stages import select
from synthgen.stages.select.trial import tallies
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
PLAIN = SelectConfig(keep={"likelihood": KeepRule(min=0.2)}, forbidden=(r"\d{3}-\d{4}", r"https?://"), same_question=50)
TYPES = [f"{group}/{name}" for group in ("coarse", "fine", "logic", "cross") for name in THINGS[:10]]
WHOLE_SET = PLAIN.model_copy(
    update={
        "keep": {"likelihood": KeepRule(min=0.2, drop=0.15)},
        "balance": {"logic/**": AnswerBalance(by="likelihood")},
        "quotas": Quotas(
            types={"coarse/**": Quota(share=0.2, by="likelihood"), "fine/**": Quota(most=100_000, by="likelihood")},
            forms={"short": Quota(share=0.3, by="likelihood")},
        ),
    }
)
CHANGED = PLAIN.model_copy(update={"keep": {"likelihood": KeepRule(min=0.3)}})
NEAR = PLAIN.model_copy(
    update={
        "survivor": "likelihood",
        "global_questions": NearQuestionsConfig(most=100),
        "global_answers": NearAnswersConfig(),
        "phrases": PhrasesConfig(),
    }
)
SETTINGS = {"plain": PLAIN, "changed": CHANGED, "near": NEAR, "whole_set": WHOLE_SET}
TRIALS = [PLAIN, *(PLAIN.model_copy(update={"keep": {"likelihood": KeepRule(min=least)}}) for least in (0.3, 0.4, 0.5))]


def main() -> None:
    """Measure two sizes and three kinds of work; print a table, then one line of JSON."""
    if "--size" in sys.argv:
        print(json.dumps(measure(int(sys.argv[-1]), sys.argv[-2])))
        return
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--quick", action="store_true", help="100,000 pairs")
    parser.add_argument("--largest", action="store_true", help="ten million pairs")
    options = parser.parse_args()
    most = 10_000_000 if options.largest else 100_000 if options.quick else 1_000_000
    print(f"{'pairs':>10} {'':>10} {'seconds':>8} {'of CPU':>7} {'pairs/s':>9} {'peak MB':>8}  kept")
    small = run(most // 10, "plain")
    works = ("plain", "changed", *(() if options.largest else ("near", "whole_set", "trial")))
    costs = {work: run(most, work) for work in works}
    plain = costs["plain"]
    # of core seconds: other processes change the seconds of one size and not of the other
    growth = plain["cpu_seconds"] / small["cpu_seconds"]
    print(f"ten times the pairs take {growth:.1f} times as long")
    result = {"pairs": most, "rows_per_second": round(most / plain["seconds"]), "growth": round(growth, 2)}
    result |= {name: round(plain[name], 1) for name in ("seconds", "cpu_seconds", "peak_mb")}
    for work in sorted({"near", "whole_set"} & costs.keys()):
        ratio, memory = (costs[work][name] / plain[name] for name in ("cpu_seconds", "peak_mb"))
        print(f"{work}: {ratio:.2f} times the time, {memory:.2f} times the memory")
        result |= {f"{work}_ratio": round(ratio, 2), f"{work}_memory_ratio": round(memory, 2)}
    result |= {f"{work}_cpu_seconds": round(cost["cpu_seconds"], 1) for work, cost in costs.items() if work != "plain"}
    print(json.dumps({"benchmark": "selection", **result}))


def run(count: int, work: str) -> dict[str, Any]:
    """Measure one kind of work in a fresh process, and print its line."""
    cost: dict[str, Any] = in_fresh_process(__file__, "--size", work, count)
    rate = cost["pairs"] / cost["seconds"]
    figures = f"{cost['seconds']:>8.2f} {cost['cpu_seconds']:>7.2f} {rate:>9,.0f} {cost['peak_mb']:>8.0f}"
    print(f"{count:>10,} {work:>10} {figures}  {cost['kept']:,}", flush=True)
    return cost


def measure(count: int, work: str) -> dict[str, Any]:
    """Write `count` pairs and select among them; return the cost of selecting."""
    with tempfile.TemporaryDirectory() as folder, Lease.take(Folder(folder)) as lease:
        out = Folder(folder)
        for number in range(0, count, PAIRS_A_PARTITION):
            _write_pairs(out, lease, number, min(count, number + PAIRS_A_PARTITION))
        if work == "changed":
            decide(out, lease, PLAIN)
        start, cpu = time.perf_counter(), time.process_time()
        kept = count_trials(out) if work == "trial" else decide(out, lease, SETTINGS[work])
        seconds, cpu = time.perf_counter() - start, time.process_time() - cpu
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return {"pairs": count, "seconds": seconds, "cpu_seconds": cpu, "peak_mb": peak, "kept": kept}


def decide(out: Folder, lease: Lease, settings: SelectConfig) -> int:
    """Decide on all pairs, and return how many are kept."""
    run = RunFolder(out)
    selection = select.prepare(run, settings)
    commit_all(run, SELECT, select.decide(selection, selection.todo), lease)
    counts = run.log(SELECT).counts()
    assert sum(counts.values()) == run.log(GENERATE).counts()["pair"]
    return counts["kept"]


def count_trials(out: Folder) -> int:
    """Count what each of TRIALS would keep, and return it for the first."""
    run = RunFolder(out)
    found = tallies([select.prepare(run, settings) for settings in TRIALS])
    return sum(found[0].kept.values())


def _write_pairs(out: Folder, lease: Lease, start: int, end: int) -> None:
    partition, stage = partition_name(1, start // PAIRS_A_PARTITION), StageFolder(out, GENERATE)
    random.seed(start)
    pairs = [_pair(number) for number in range(start, end)]
    scores = [{"pair_id": pair["pair_id"], "value": random.random()} for pair in pairs]
    tables = {"pairs": schemas.table(pairs, schemas.PAIRS), "scores/likelihood": schemas.table(scores, schemas.SCORES)}
    parts = {name: TablePart((stage.write(name, partition, 1, table),), "f") for name, table in tables.items()}
    stage.commit(Receipt(partition, 1, parts, {"pair": len(pairs)}), lease)


def _pair(number: int) -> dict[str, Any]:
    a, b, c = random.sample(THINGS, 3)
    question = random.choice(TEMPLATES).format(a=a, b=b, c=c, s=random.choice(SIDES))
    answer = " ".join(random.choices(THINGS, k=random.randint(1, 60)))
    answer = random.choice(("Yes, ", "Yes, ", "No, ", "", "", "")) + answer
    return {
        "assignment_id": schemas.make_id("assignment", str(number)),
        "pair_id": schemas.make_id("pair", str(number)),
        "image_id": schemas.image_id(str(number // PAIRS_AN_IMAGE).encode()),
        "outcome": "pair",
        "type": random.choice(TYPES),
        "form": random.choice(schemas.ANSWER_FORMS[:3]),
        "language": "English",
        "question": question,
        "answer": answer,
        "raw_answer": answer,
    }


if __name__ == "__main__":
    main()
