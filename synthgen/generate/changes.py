"""By how much a revision changes the counts of its partition.

Comes in: what a worker made of its images, and what the partition held before. Goes out: the `counts` of a receipt, from which the
driver and `synth status` tell how many rows of each outcome there are, and how many scores are to be tried again, without reading
any. A piece of a partition counts what it changes itself and nothing else, so that the receipts of several pieces add up.
"""

from collections import Counter
from collections.abc import Mapping, Sequence, Set
from typing import Any

import pyarrow as pa

from synthgen.converse import Outcome
from synthgen.generate.left import current_pairs
from synthgen.generate.terms import GENERATED
from synthgen.rows import SCORES, UNSCORED, score_counts
from synthgen.store import Folder, Stage
from synthgen.workers import Work

Row = Mapping[str, Any]
OLD_SCORES = pa.schema([SCORES.field("pair_id"), SCORES.field("reason")])


def changes(out: Folder, work: Work, outcomes: Sequence[Outcome]) -> dict[str, int]:
    """Rows of each outcome, and scores that a failure kept from being measured (UNSCORED): how many more or fewer there are."""
    replaced = {row["assignment_id"] for outcome in outcomes for row in outcome.pairs}
    before = current_pairs(out, work).select(["assignment_id", "pair_id", "outcome", "reason"]).to_pylist()
    gone = [row for row in before if row["assignment_id"] in replaced]
    counts = Counter(_outcome(row) for outcome in outcomes for row in outcome.pairs)
    counts.subtract(_outcome(row) for row in gone)
    counts.update(score_counts(row for outcome in outcomes for rows in outcome.scores.values() for row in rows))
    if any(name in UNSCORED for name in work.inputs[GENERATED].counts([work.partition])):
        known = {row["pair_id"] for row in before}
        counts.subtract(_scores_before(out, work, outcomes, known, {row["pair_id"] for row in gone}))
    return dict(counts)


def _scores_before(out: Folder, work: Work, outcomes: Sequence[Outcome], known: Set[str], gone: Set[str]) -> Counter[str]:
    """What the scores counted that were made anew, and those of pairs that are gone; only scores of `known` pairs were counted."""
    stage, log, counts = Stage(out, GENERATED), work.inputs[GENERATED], Counter[str]()
    tables = {table for commit in log.partitions[work.partition] for table in commit.receipt.tables if table.startswith("scores/")}
    for table in tables:
        again = {row["pair_id"] for outcome in outcomes for row in outcome.scores.get(table.removeprefix("scores/"), ())}
        counted = known & (again | gone)
        rows = stage.current(log, work.partition, table, "pair_id", OLD_SCORES).to_pylist()
        counts.update(score_counts(row for row in rows if row["pair_id"] in counted))
    return counts


def _outcome(row: Row) -> str:
    return "pair" if row["outcome"] == "pair" else f"failed.{row['reason']}"
