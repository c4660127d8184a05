"""By how much a revision changes the counts of its partition.

Comes in: what a worker made of its images, and what the partition held before. Goes out: the `counts` of a receipt, from which the
driver and `synth status` tell how many rows of each outcome there are, and how many scores are to be tried again, without reading
any. A piece of a partition counts what it changes itself and nothing else, so that the receipts of several pieces add up.
"""

from collections.abc import Mapping, Sequence, Set
from typing import Any

import pyarrow as pa

from synthgen.stages.generate.context import GENERATED, GenerateContext
from synthgen.stages.generate.conversation import Outcome
from synthgen.stages.generate.todo import Pending, current_pairs
from synthgen.store import Stage
from synthgen.tables import SCORES, UNSCORED, outcome_counts, score_counts
from synthgen.workers import Task

Row = Mapping[str, Any]
OLD_SCORES = pa.schema([SCORES.field("pair_id"), SCORES.field("reason")])


def changes(terms: GenerateContext, work: Task, left: Pending, outcomes: Sequence[Outcome]) -> dict[str, int]:
    """Rows of each outcome, and scores that a failure kept from being measured (UNSCORED): how many more or fewer there are.

    Of these count those that another try would make: scores that are wanted today, of pairs that are asked today.
    """
    replaced = {row["assignment_id"] for outcome in outcomes for row in outcome.pairs}
    before = current_pairs(terms.out, work).select(["assignment_id", "pair_id", "outcome", "reason"]).to_pylist()
    counts = outcome_counts(row for outcome in outcomes for row in outcome.pairs)
    counts.subtract(outcome_counts(row for row in before if row["assignment_id"] in replaced))
    counts.update(score_counts(row for outcome in outcomes for rows in outcome.scores.values() for row in rows))
    gone = {row["pair_id"] for row in before if row["assignment_id"] in replaced}
    known = {row["pair_id"] for row in before if row["assignment_id"] in left.live}
    for name, rows in _scores_before(terms, work, known).items():
        again = {row["pair_id"] for outcome in outcomes for row in outcome.scores.get(name, ())}
        counts.subtract(score_counts(row for row in rows if row["pair_id"] in again | gone))
        counts.update(score_counts(rows) if work.is_first else {})
    if work.is_first:
        told = work.inputs[GENERATED].counts([work.partition])
        counts.subtract({name: told[name] for name in UNSCORED if name in told})
    return dict(counts)


def _scores_before(terms: GenerateContext, work: Task, known: Set[str]) -> dict[str, list[Row]]:
    """For each score that is wanted the rows that some pairs have."""
    stage, log = Stage(terms.out, GENERATED), work.inputs[GENERATED]
    tables = {
        name: stage.current(log, work.partition, f"scores/{name}", "pair_id", OLD_SCORES).to_pylist()
        for name in terms.scores
    }
    return {name: [row for row in rows if row["pair_id"] in known] for name, rows in tables.items()}
