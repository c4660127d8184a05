"""The receipt of a partition: its questions, or its pairs and scores, as files, and what they change in the counts."""

from collections.abc import Sequence
from typing import Any

from synthgen.engines import EngineInfo
from synthgen.stages.generate.context import GenerateContext
from synthgen.stages.generate.conversation import Outcome
from synthgen.stages.generate.counts import count_changes
from synthgen.stages.generate.todo import Pending
from synthgen.store import Receipt, RunFolder, StageFolder, TablePart
from synthgen.tables import SCORES, table
from synthgen.workers import Task


def make_receipt(
    context: GenerateContext,
    task: Task,
    pending: Pending,
    outcomes: Sequence[Outcome] = (),
    facts: EngineInfo | None = None,
    is_whole: bool = True,
) -> Receipt:
    """Write the outcomes of a task and return its receipt.

    Args:
        context: The settings that all pairs share.
        task: The partition, or a piece of it.
        pending: What was pending in it.
        outcomes: Of its conversations.
        facts: Of the engine that had them; not needed without outcomes.
        is_whole: Whether all that was pending has an outcome.
    """
    spec = context.spec
    stage, main = StageFolder(context.out, spec), spec.table(spec.watched)
    rows = [row for outcome in outcomes for row in outcome.pairs]
    if facts:
        for row in rows:
            _add_model(row, facts)
    rows.sort(key=lambda row: row["assignment_id"])
    tables = {main.name: table(rows, main.schema)}
    for name in context.scores:
        scores = [row for outcome in outcomes for row in outcome.scores.get(name, [])]
        tables[f"scores/{name}"] = table(sorted(scores, key=lambda row: row["pair_id"]), SCORES)
    fingerprints = context.fingerprints()
    parts = {
        name: TablePart((stage.write(name, task.partition, task.revision, made),), fingerprints[name])
        for name, made in tables.items()
    }
    # What was given back is not covered: without `reads` the partition stays pending.
    reads = RunFolder(context.out, task.inputs).digests(spec.inputs, [task.partition]) if is_whole else {}
    counts = count_changes(context, task, pending, outcomes)
    return Receipt(task.partition, task.revision, parts, counts, reads, task.epoch)


def _add_model(row: dict[str, Any], facts: EngineInfo) -> None:
    """Add the model that a row is from; one that asked is named only where it is another."""
    row.update(model=facts.model, revision=facts.revision)
    if (row.get("ask_model"), row.get("ask_revision")) == (facts.model, facts.revision):
        row.update(ask_model=None, ask_revision=None)
