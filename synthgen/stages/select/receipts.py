"""The decisions of a partition as rows, and the receipt for them."""

from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from synthgen.dedup.questions import FIRST, Verdicts
from synthgen.stages.select.judging import ID_COLUMNS
from synthgen.stages.select.selection import Selection
from synthgen.store import Receipt, TablePart
from synthgen.tables import DECISIONS, GENERATE, SELECT, changed_counts

JUDGED = pa.schema([(name, pa.string()) for name in (*ID_COLUMNS, "follows", "reason")])
PREVIOUS_DROPPED = "rule:previous_dropped"
REPEATS = ["kept", "duplicate:question", "duplicate:common"]  # by the verdicts of dedup/questions.py


def make_receipt(selection: Selection, partition: str, judged: pa.Table, verdicts: Verdicts) -> Receipt:
    """Write the decisions of a partition; the counts are by how much they change."""
    repeats = pa.array(REPEATS).take(pa.array(verdicts))
    reason = pc.if_else(pa.array(verdicts == FIRST), judged.column("reason"), repeats)
    reason = _without_previous(judged, reason)
    ids = judged.select([*ID_COLUMNS, "follows"])
    decided = ids.append_column("kept", pc.equal(reason, "kept")).append_column("reason", reason)
    folder = selection.folder
    log, reads = folder.log(SELECT), folder.digests((GENERATE,), [partition])
    revision = log.next_revision(partition)
    file = folder.stage(SELECT).write("decisions", partition, revision, decided.cast(DECISIONS))
    counts = changed_counts(log.counts([partition]), SELECT.table("decisions").count_rows(decided))
    return Receipt(
        partition,
        revision,
        {"decisions": TablePart((file,), selection.fingerprint, replaces=True)},
        counts,
        reads | folder.pass_digests([partition], selection.settings.keep),
        selection.epoch,
    )


def _without_previous(judged: pa.Table, reason: Any) -> Any:
    """Return the reasons with those of pairs that go on from a pair which is dropped; both are of one partition."""
    follows = judged.column("follows")
    if follows.null_count == len(follows):
        return reason
    kept = judged.column("pair_id").filter(pc.equal(reason, "kept"))
    is_left = pc.and_(pc.is_valid(follows), pc.invert(pc.is_in(follows, kept.combine_chunks())))
    return pc.if_else(pc.and_(pc.equal(reason, "kept"), is_left), PREVIOUS_DROPPED, reason)
