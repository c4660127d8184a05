"""How many pairs of a run over the demo images are true, before and after selection.

In: the output folder of `synth run --pipeline demo`, and the scene graphs of the images. Out: a table by instruction type, what the
selection caught and what it wrongly dropped, the shares in words, and one JSON line last. Why this way: the oracle sees the scene
graph, which no stage of the pipeline does, so this measures the pipeline and is no part of it.

    python -m demo.truth runs/demo
"""

from __future__ import annotations

import argparse
import json
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping
from pathlib import Path, PurePosixPath
from typing import Any

from demo.oracle import judge
from demo.world import Scene
from synthgen.store import Folder, StageFolder
from synthgen.tables import DECISIONS, PAIRS, PLANNED_IMAGES, SELECT, stage_at

HERE = Path(__file__).parent


def scenes() -> dict[str, Scene]:
    """The scene of each committed image, by file name."""
    lines = (HERE / "scenes.jsonl").read_text().splitlines()
    return {row["image"]: Scene.from_json(json.dumps(row["scene"])) for row in map(json.loads, lines)}


def rows(out: Folder, stage: str, table: str, key: str, schema: Any) -> Iterator[dict[str, Any]]:
    """The current rows of a table."""
    folder = StageFolder(out, stage_at(stage))
    log = folder.log()
    for name in log.partitions:
        yield from folder.current(log, name, table, schema.names).to_pylist()


def measure(folder: Path) -> dict[str, Any]:
    """Prints the tables; returns the figures."""
    out, known = Folder(str(folder)), scenes()
    image = {
        row["object_id"]: PurePosixPath(row["uri"]).name
        for row in rows(out, "2-planned", "images", "object_id", PLANNED_IMAGES)
    }
    kept = {row["pair_id"]: row for row in rows(out, "4-selected", "decisions", "pair_id", DECISIONS)}
    tally: dict[str, Counter[str]] = defaultdict(Counter)
    dropped: dict[str, Counter[bool]] = defaultdict(Counter)
    assigned = 0
    for pair in rows(out, "3-generated", "pairs", "assignment_id", PAIRS):
        assigned += 1
        if pair["outcome"] != "pair":
            continue
        is_true = judge(known[image[pair["object_id"]]], pair["question"], pair["answer"]).value == "true"
        decision = kept[pair["pair_id"]]
        if decision["reason"] == "retired":  # its question was taken back by an edit
            continue
        counts = tally[pair["type"]]
        counts.update(generated=1, true=is_true, kept=decision["kept"], kept_true=decision["kept"] and is_true)
        if not decision["kept"]:
            dropped[decision["reason"]][is_true] += 1
    return _told(tally, dropped, assigned)


def _told(tally: Mapping[str, Counter[str]], dropped: Mapping[str, Counter[bool]], assigned: int) -> dict[str, Any]:
    total: Counter[str] = Counter()
    for counts in tally.values():
        total.update(counts)
    print(f"{'instruction type':<40} {'pairs':>6} {'true':>6} {'kept':>6} {'true of kept':>13}")
    for name, counts in (*sorted(tally.items()), ("all", total)):
        of_all, of_kept = _share(counts, "true", "generated"), _share(counts, "kept_true", "kept")
        print(f"{name:<40} {counts['generated']:6} {of_all:>6} {counts['kept']:6} {of_kept:>13}")
    print(f"\n{'dropped because of':<40} {'pairs':>6} {'false':>6} {'true':>6}")
    for reason, by_truth in sorted(dropped.items()):
        print(f"{reason:<40} {sum(by_truth.values()):6} {by_truth[False]:6} {by_truth[True]:6}")
    true, true_of_kept = _share(total, "true", "generated"), _share(total, "kept_true", "kept")
    print(
        f"\ntrue: {true_of_kept} of the {total['kept']:,} accepted pairs, {true} of the {total['generated']:,} that were generated"
    )
    return {
        "assigned": assigned,
        "generated": total["generated"],
        "accepted": total["kept"],
        "true_of_generated": round(total["true"] / max(1, total["generated"]), 4),
        "true_of_accepted": round(total["kept_true"] / max(1, total["kept"]), 4),
        "accepted_of_generated": round(total["kept"] / max(1, total["generated"]), 4),
        "types": sum(counts["kept"] > 0 for counts in tally.values()),
    }


def _share(counts: Counter[str], part: str, whole: str) -> str:
    return f"{counts[part] / counts[whole]:.1%}" if counts[whole] else "-"


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="How many pairs of a run over the demo images are true.")
    parser.add_argument("folder", type=Path, help="the run's output folder")
    folder = parser.parse_args().folder
    if not StageFolder(Folder(str(folder)), SELECT).log().partitions:
        parser.error(
            f"{folder}: no pair of a run was selected there; make it with: synth run --pipeline demo --out {folder}"
        )
    print(json.dumps({"benchmark": "truth", **measure(folder)}))
