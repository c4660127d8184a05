"""What became of each question of a partition: kept, dropped by `select`, failed, or without a decision yet."""

from collections import Counter
from collections.abc import Mapping

import pyarrow as pa
import pyarrow.compute as pc

from synthgen.store import RunFolder
from synthgen.tables import GENERATE, SELECT

KEPT, DROPPED, FAILED, OPEN = OUTCOMES = ("kept", "dropped", "failed", "open")
UNDECIDED = "not decided yet"
KINDS = ("type", "form", "language")
TOKENS = ("prompt_tokens", "cached_tokens", "output_tokens")
COLUMNS = ["assignment_id", "pair_id", "image_id", *KINDS, "outcome", "reason", *TOKENS, "seconds"]

Counts = dict[str, dict[str, Counter[str]]]  # one of KINDS → name → one of OUTCOMES → questions


def read_rows(folder: RunFolder, partition: str) -> pa.Table:
    """Return the questions of a partition with COLUMNS, their `outcome`, and why, as `synth status` names it."""
    rows = folder.table(GENERATE, partition, "pairs", COLUMNS)
    decisions = folder.table(SELECT, partition, "decisions", ["pair_id", "reason"])
    place = pc.index_in(rows.column("pair_id"), decisions.column("pair_id").combine_chunks())
    decided = decisions.column("reason").take(place)
    is_pair = pc.equal(rows.column("outcome"), "pair")
    failed = pc.binary_join_element_wise("failed", pc.fill_null(rows.column("reason"), "unknown"), ".")
    why = pc.if_else(is_pair, pc.fill_null(decided, UNDECIDED), failed)
    of_pairs = pc.if_else(pc.is_null(decided), OPEN, pc.if_else(pc.equal(decided, KEPT), KEPT, DROPPED))
    outcome = pc.if_else(is_pair, of_pairs, FAILED)
    names = rows.column_names
    rows = rows.set_column(names.index("outcome"), "outcome", outcome)
    return rows.set_column(names.index("reason"), "reason", why)


def count_rows(rows: pa.Table, counts: Counts) -> None:
    """Add the questions of a partition to the counts of each type, form and language."""
    keys = [*KINDS, "outcome"]
    for row in rows.select(keys).group_by(keys).aggregate([([], "count_all")]).to_pylist():
        for kind in KINDS:
            of_kind = counts.setdefault(kind, {})
            of_kind.setdefault(row[kind] or "none", Counter())[row["outcome"]] += row["count_all"]


def joined(counts: Mapping[str, Counter[str]]) -> Counter[str]:
    """Return the sum of some counts by outcome."""
    total: Counter[str] = Counter()
    for of_name in counts.values():
        total.update(of_name)
    return total
