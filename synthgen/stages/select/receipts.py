"""The decisions and clusters of a partition as rows, and the receipt for them."""

from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from synthgen.stages.select.duplicates import EARLIER_RUN, KEPT, REPEATS, Verdicts
from synthgen.stages.select.judging import ID_COLUMNS, Judged
from synthgen.stages.select.selection import Selection
from synthgen.store import Receipt, TablePart
from synthgen.tables import CLUSTERS, DECISIONS, GENERATE, SELECT, changed_counts

JUDGED = pa.schema(
    [*((name, pa.string()) for name in (*ID_COLUMNS, "follows", "reason")), DECISIONS.field("since")]
)  # the columns that wait on disk until all pairs are compared
PREVIOUS_DROPPED = "rule:previous_dropped"


def make_receipt(selection: Selection, partition: str, judged: Judged, verdicts: Verdicts, span: slice) -> Receipt:
    """Write the decisions and the clusters of a partition; the counts are by how much they change.

    Args:
        selection: What the decisions were made from.
        partition: Its name.
        judged: Its pairs, JUDGED, and what of them is in benchmark sets.
        verdicts: What the comparison says of all pairs.
        span: The numbers of its pairs.
    """
    reasons = [*REPEATS, *(f"{EARLIER_RUN}{run.name}" for run in selection.against)]
    codes, (pairs, contaminated) = verdicts.codes[span], judged
    reason = pc.if_else(pa.array(codes == KEPT), pairs.column("reason"), pa.array(reasons).take(pa.array(codes)))
    reason = _without_previous(pairs, reason)
    ids = pairs.select([*ID_COLUMNS, "follows"])
    decided = ids.append_column("kept", pc.equal(reason, "kept")).append_column("reason", reason)
    decided = decided.append_column("since", pairs.column("since"))
    folder = selection.folder
    log, stage = folder.log(SELECT), folder.stage(SELECT)
    revision, tables = log.next_revision(partition), dict[str, TablePart]()
    for name, rows in {
        "decisions": decided,
        "contaminated": contaminated,
        **_clusters(selection, verdicts, span),
    }.items():
        had_rows = any(file.rows for part in log.parts(partition, name) for file in part.files)
        if rows.num_rows or had_rows or name == "decisions":
            schema = SELECT.table(name).schema
            file = stage.write(name, partition, revision, rows.cast(schema))
            tables[name] = TablePart((file,), selection.fingerprint, replaces=True)
    counts = changed_counts(log.counts([partition]), SELECT.table("decisions").count_rows(decided))
    reads = folder.digests((GENERATE,), [partition]) | folder.pass_digests([partition], selection.scores)
    return Receipt(partition, revision, tables, counts, reads, selection.epoch)


def _clusters(selection: Selection, verdicts: Verdicts, span: slice) -> dict[str, pa.Table]:
    """Return the clusters that pairs of a partition are in, by table; without rows those of comparisons made before."""
    before = {name for name in selection.folder.log(SELECT).tables() if name.startswith("clusters/")}
    tables = {name: CLUSTERS.empty_table() for name in sorted(before)}
    runs = pa.array([run.name for run in selection.against], pa.string())
    for name, (clusters, is_dropped) in verdicts.clusters.items():
        is_here = (clusters.members >= span.start) & (clusters.members < span.stop)
        here, lost = clusters.where(is_here), is_dropped[is_here]
        centres = np.unique(clusters.centres[(clusters.centres >= span.start) & (clusters.centres < span.stop)])
        own, of = np.concatenate([centres, here.members]), np.concatenate([centres, here.centres])
        order = np.argsort(own, kind="stable")
        is_earlier = of < len(verdicts.earlier)
        run = np.where(is_earlier, verdicts.earlier[of * is_earlier], 0) if is_earlier.any() else np.zeros(len(of), int)
        columns = [
            pa.array(verdicts.ids[own].astype(str).tolist(), pa.string()),
            pa.array(verdicts.ids[of].astype(str).tolist(), pa.string()),
            runs.take(pa.array(run, pa.int64(), mask=~is_earlier)),
            pa.array(np.concatenate([np.ones(len(centres), np.float32), here.similarities])),
            pa.array(np.concatenate([np.ones(len(centres), bool), ~lost])),
        ]
        tables[f"clusters/{name}"] = pa.table(columns, schema=CLUSTERS).take(pa.array(order))
    return tables


def _without_previous(judged: pa.Table, reason: Any) -> Any:
    """Return the reasons with those of pairs that go on from a pair which is dropped; both are of one partition."""
    follows = judged.column("follows")
    if follows.null_count == len(follows):
        return reason
    kept = judged.column("pair_id").filter(pc.equal(reason, "kept"))
    is_left = pc.and_(pc.is_valid(follows), pc.invert(pc.is_in(follows, kept.combine_chunks())))
    return pc.if_else(pc.and_(pc.equal(reason, "kept"), is_left), PREVIOUS_DROPPED, reason)
