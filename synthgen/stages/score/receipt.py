"""The receipt of a partition of a pass: its scores as files, and what they change in the counts.

The counts say of each score how many pairs have a value, and how many have none for which reason, and how many pairs
are not scored at all; together with what is pending these are all pairs. A piece of a partition counts the rows that it
adds, and the first piece beside that everything that was settled before, so the receipts of several pieces add up.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import pyarrow as pa

from synthgen.stages.score.context import PassContext, table_of
from synthgen.stages.score.todo import Pending, live_objects, reads_of
from synthgen.store import Receipt, RunFolder, StageFolder, TablePart
from synthgen.tables import (
    GENERATE,
    SCORE,
    SCORES,
    count_rows,
    score_name,
    split_count,
    split_partition,
    table,
)
from synthgen.tables.passes import RETIRED
from synthgen.workers import Task

Rows = Mapping[str, Sequence[dict[str, Any]]]  # score → rows of SCORES


def make_receipt(context: PassContext, task: Task, pending: Pending, scores: Rows, is_whole: bool = True) -> Receipt:
    """Write the scores of a task and return its receipt.

    Args:
        context: The pass.
        task: The partition, or a piece of it.
        pending: What was pending in it.
        scores: The rows that were made of it.
        is_whole: Whether all that was pending has a row.
    """
    stage, parts = StageFolder(context.out, SCORE), {}
    scores = {name: [*scores.get(name, ()), *pending.decided.get(name, ())] for name in context.fingerprints()}
    for name, made in context.fingerprints().items():
        rows = table(sorted(scores[name], key=lambda row: str(row["pair_id"])), SCORES)
        file = stage.write(table_of(context, name), task.partition, task.revision, rows)
        parts[table_of(context, name)] = TablePart((file,), made)
    # What was given back is not covered: without `reads` the partition stays pending.
    partition, _ = split_partition(task.partition)
    reads = reads_of(RunFolder(context.out, task.inputs), context, partition) if is_whole else {}
    counts = _count_changes(context, task, pending, scores)
    return Receipt(task.partition, task.revision, parts, counts, reads, task.epoch)


def count_partition(folder: RunFolder, partition: str, tables: Mapping[str, pa.Table]) -> Counter[str]:
    """Return the counts of a partition of a pass whose current rows are in these tables.

    Args:
        folder: The pairs and the plan as they are now.
        partition: Its name.
        tables: `scores/PASS.SCORE` → rows.
    """
    of_pairs, pass_name = split_partition(partition)
    pairs = folder.table(GENERATE, of_pairs, "pairs", ["assignment_id", "pair_id", "outcome"]).to_pylist()
    objects = live_objects(folder, of_pairs)
    current = [row for row in pairs if row["outcome"] == GENERATE.passes]
    live = {row["pair_id"] for row in current if row["assignment_id"] in objects}
    counts = Counter({f"{pass_name}.{RETIRED}": len(current) - len(live)})
    for table_name, rows in tables.items():
        listed = rows.select(["pair_id", "reason", "detail"]).to_pylist()
        counts.update(count_rows(table_name.partition("/")[2], (row for row in listed if row["pair_id"] in live)))
    return counts


def _count_changes(context: PassContext, task: Task, pending: Pending, scores: Rows) -> dict[str, int]:
    counts = Counter[str]()
    for name, rows in scores.items():
        counts.update(count_rows(score_name(context.name, name), rows))
    if task.is_first:
        own = {context.name, *(score_name(context.name, name) for name in context.fingerprints())}
        before = task.inputs[SCORE.folder].counts([task.partition])
        counts.update(pending.settled)
        counts.subtract({name: count for name, count in before.items() if split_count(name)[0] in own})
    return {name: count for name, count in sorted(counts.items()) if count}
