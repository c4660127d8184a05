"""The counts of a generate receipt: by how much a revision changes the number of rows of each outcome.

The driver and `synth status` know from these counts how many rows of each outcome there are, and how many scores are to
be tried again, without reading any row. A piece of a partition counts only what it changes itself, so the receipts of
several pieces add up.
"""

from collections.abc import Mapping, Sequence, Set
from typing import Any

from synthgen.stages.generate.context import GenerateContext
from synthgen.stages.generate.conversation import Outcome
from synthgen.stages.generate.todo import Pending
from synthgen.store import RunFolder
from synthgen.tables import GENERATE, UNSCORED, count_pairs, count_questions, count_unscored
from synthgen.workers import Task

Row = Mapping[str, Any]


def count_changes(
    context: GenerateContext, task: Task, pending: Pending, outcomes: Sequence[Outcome]
) -> dict[str, int]:
    """Return by how much the number of rows of each outcome changes, and of scores that a failure prevented (UNSCORED).

    A missing score counts only if a retry would measure it: the score is still configured and the assignment planned.
    """
    spec = context.spec
    count = count_questions if context.is_first_pass else count_pairs
    replaced = {row["assignment_id"] for outcome in outcomes for row in outcome.pairs}
    columns = ["assignment_id", "outcome", "reason", *(() if context.is_first_pass else ("pair_id", "reasked_for"))]
    before = RunFolder(context.out, task.inputs).table(spec, task.partition, spec.watched, columns).to_pylist()
    counts = count(row for outcome in outcomes for row in outcome.pairs)
    counts.subtract(count(row for row in before if row["assignment_id"] in replaced))
    counts.update(count_unscored(row for outcome in outcomes for rows in outcome.scores.values() for row in rows))
    gone = {row.get("pair_id") for row in before if row["assignment_id"] in replaced}
    known = {row.get("pair_id") for row in before if row["assignment_id"] in pending.live}
    for name, rows in _scores_before(context, task, known).items():
        again = {row["pair_id"] for outcome in outcomes for row in outcome.scores.get(name, ())}
        counts.subtract(count_unscored(row for row in rows if row["pair_id"] in again | gone))
        counts.update(count_unscored(rows) if task.is_first else {})
    if task.is_first:
        counted = task.inputs[spec.folder].counts([task.partition])
        counts.subtract({name: counted[name] for name in UNSCORED if name in counted})
        counts["retired"] = pending.never_asked - counted.get("retired", 0)
    return dict(counts)


def _scores_before(context: GenerateContext, task: Task, known: Set[str | None]) -> dict[str, list[Row]]:
    """Return for each configured score the rows that the `known` pairs have."""
    folder, columns = RunFolder(context.out, task.inputs), ["pair_id", "reason"]
    scores = {
        name: folder.table(GENERATE, task.partition, f"scores/{name}", columns).to_pylist() for name in context.scores
    }
    return {name: [row for row in rows if row["pair_id"] in known] for name, rows in scores.items()}
