"""The share of true pairs of a run over the demo images, before and after selection.

The oracle reads the scene graph, which no stage of the pipeline does, so this measures the pipeline and is no part of
it. Prints a table by instruction type, the pairs that selection dropped by reason, the shares in words, and one line of
JSON last.

    python -m demo.truth runs/demo
"""

from __future__ import annotations

import argparse
import json
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping
from pathlib import Path, PurePosixPath
from typing import Any

from demo.oracle import judge, judge_negative
from demo.world import Scene
from synthgen.store import Folder, StageFolder
from synthgen.tables import DECISIONS, PAIRS, PLANNED_IMAGES, SCORES, SELECT, stage_at

HERE = Path(__file__).parent
DECLINED = "It is not in the picture."  # said of each question, to judge the question alone
BOUNDS = (0.0, 0.3, 0.5, 0.7, 0.9, 0.99)  # of the score `unanswerable`


def load_scenes() -> dict[str, Scene]:
    """Return the scene of each committed image, by file name."""
    lines = (HERE / "scenes.jsonl").read_text().splitlines()
    return {row["image"]: Scene.from_json(json.dumps(row["scene"])) for row in map(json.loads, lines)}


def read_rows(out: Folder, stage: str, table: str, schema: Any) -> Iterator[dict[str, Any]]:
    """Yield the current rows of a table of a run's output folder."""
    folder = StageFolder(out, stage_at(stage))
    log = folder.log()
    for partition in log.partitions:
        yield from folder.current(log, partition, table, schema.names).to_pylist()


def measure(folder: Path) -> dict[str, Any]:
    """Judge every pair of a run; print the tables and return the figures."""
    out, scenes = Folder(str(folder)), load_scenes()
    planned = read_rows(out, "2-planned", "images", PLANNED_IMAGES)
    image_of = {row["object_id"]: PurePosixPath(row["uri"]).name for row in planned}
    decision_of = {row["pair_id"]: row for row in read_rows(out, "4-selected", "decisions", DECISIONS)}
    by_type: dict[str, Counter[str]] = defaultdict(Counter)
    dropped: dict[str, Counter[bool]] = defaultdict(Counter)  # reason -> is true -> pairs
    assigned = 0
    for pair in read_rows(out, "3-generated", "pairs", PAIRS):
        assigned += 1
        if pair["outcome"] != "pair":
            continue
        decision = decision_of[pair["pair_id"]]
        if decision["reason"] == "retired":  # an edit retired its question
            continue
        scene, is_kept = scenes[image_of[pair["object_id"]]], decision["kept"]
        verdict = (judge_negative if pair["partner"] else judge)(scene, pair["question"], pair["answer"])
        is_true = verdict.value == "true"
        by_type[pair["type"]].update(generated=1, true=is_true, kept=is_kept, kept_true=is_kept and is_true)
        if not is_kept:
            dropped[decision["reason"]][is_true] += 1
    return report(by_type, dropped, assigned)


def measure_negatives(folder: Path) -> dict[str, Any]:
    """Judge the questions of all negatives, answered or not; print how many are right by the score that decides."""
    out, scenes = Folder(str(folder)), load_scenes()
    planned = read_rows(out, "2-planned", "images", PLANNED_IMAGES)
    image_of = {row["object_id"]: PurePosixPath(row["uri"]).name for row in planned}
    scored = read_rows(out, "3-generated", "scores/unanswerable", SCORES)
    values = {row["pair_id"]: row["value"] for row in scored}
    rows = [row for row in read_rows(out, "3-generated", "pairs", PAIRS) if row["partner"] and row["question"]]
    verdicts = [judge_negative(scenes[image_of[row["object_id"]]], row["question"], DECLINED).value for row in rows]
    found = [(values.get(row["pair_id"]), value == "true") for row, value in zip(rows, verdicts, strict=True)]
    if not found:
        return {}
    print(f"\n{'negatives, by the least of unanswerable':<40} {'pairs':>6} {'right':>6}")
    for bound in BOUNDS:
        right = [is_right for value, is_right in found if value is not None and value >= bound]
        print(f"{bound:<40} {len(right):6} {sum(right) / max(1, len(right)):6.1%}")
    unjudged = [is_right for value, is_right in found if value is None]
    print(f"{'without a value':<40} {len(unjudged):6} {sum(unjudged) / max(1, len(unjudged)):6.1%}")
    return {"negatives": len(found), "right_negatives": round(sum(right for _, right in found) / len(found), 4)}


def report(by_type: Mapping[str, Counter[str]], dropped: Mapping[str, Counter[bool]], assigned: int) -> dict[str, Any]:
    """Print the tables and the shares in words; return the figures.

    Args:
        by_type: For each instruction type, how many pairs were generated, true, kept, and both kept and true.
        dropped: For each reason, how many dropped pairs were true and how many false.
        assigned: Number of questions that were planned.
    """
    total: Counter[str] = Counter()
    for counts in by_type.values():
        total.update(counts)
    print(f"{'instruction type':<40} {'pairs':>6} {'true':>6} {'kept':>6} {'true of kept':>13}")
    for name, counts in (*sorted(by_type.items()), ("all", total)):
        of_all, of_kept = _percent(counts, "true", "generated"), _percent(counts, "kept_true", "kept")
        print(f"{name:<40} {counts['generated']:6} {of_all:>6} {counts['kept']:6} {of_kept:>13}")
    print(f"\n{'dropped because of':<40} {'pairs':>6} {'false':>6} {'true':>6}")
    for reason, by_truth in sorted(dropped.items()):
        print(f"{reason:<40} {sum(by_truth.values()):6} {by_truth[False]:6} {by_truth[True]:6}")
    of_all, of_kept = _percent(total, "true", "generated"), _percent(total, "kept_true", "kept")
    print(
        f"\ntrue: {of_kept} of the {total['kept']:,} accepted pairs, "
        f"{of_all} of the {total['generated']:,} that were generated"
    )
    return {
        "assigned": assigned,
        "generated": total["generated"],
        "accepted": total["kept"],
        "true_of_generated": round(total["true"] / max(1, total["generated"]), 4),
        "true_of_accepted": round(total["kept_true"] / max(1, total["kept"]), 4),
        "accepted_of_generated": round(total["kept"] / max(1, total["generated"]), 4),
        "types": sum(counts["kept"] > 0 for counts in by_type.values()),
    }


def _percent(counts: Counter[str], part: str, whole: str) -> str:
    return f"{counts[part] / counts[whole]:.1%}" if counts[whole] else "-"


def main() -> None:
    parser = argparse.ArgumentParser(description="Count the true pairs of a run over the demo images.")
    parser.add_argument("folder", type=Path, help="the run's output folder")
    parser.add_argument("--json", action="store_true", help="print the figures as JSON too")
    args = parser.parse_args()
    folder = args.folder
    if not StageFolder(Folder(str(folder)), SELECT).log().partitions:
        parser.error(
            f"{folder}: no pair of a run was selected there; make it with: synth run --pipeline demo --out {folder}"
        )
    figures = {"benchmark": "truth", **measure(folder), **measure_negatives(folder)}
    if args.json:
        print(json.dumps(figures))


if __name__ == "__main__":
    main()
