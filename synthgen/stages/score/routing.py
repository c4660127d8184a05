"""Which pairs a pass scores that waits for another score (`after`): those that this score leaves open.

A pair that it decides costs the pass no call. Its row takes over the value, where the pass measures a score of the same
name, so that one column has the value of whoever decided; other scores of the pass say nothing of it. So a cheap judge
goes first and a dear one sees what is left.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from synthgen.config.scoring import AfterConfig
from synthgen.stages.generate.measures import Score
from synthgen.stages.generate.scoring import score_row
from synthgen.stages.score.context import PassContext, table_of
from synthgen.store import RunFolder
from synthgen.tables import NOT_APPLICABLE, SCORE, pass_partition
from synthgen.tables.passes import decided_by, is_decided, taken_detail, taken_from

Row = Mapping[str, Any]
COMPARED = ("pair_id", "value", "reason", "detail")


@dataclass(frozen=True)
class Routes:
    """What a score says of the pairs of a partition, for a pass that waits for it.

    Attributes:
        after: The setting; None where the pass is for all pairs.
        rows: Of this score, by pair.
    """

    after: AfterConfig | None = None
    rows: Mapping[str, Row] = field(default_factory=dict)

    def decided(self, pair_id: str, name: str) -> Score | None:
        """Return a score of the pass for a pair that is decided; None for one that is open, or has no row yet."""
        return decided(self.after, name, self.rows.get(pair_id)) if self.after else None


def decided(after: AfterConfig, name: str, row: Row | None) -> Score | None:
    """Return a score of a pass for a pair that another score decides; None for one that is open.

    Args:
        after: The score that the pass waits for.
        name: Of the score of the pass.
        row: The row of the score that the pass waits for; None where there is none.
    """
    if row is None:
        return None
    value, reason = row["value"], str(row["reason"] or "")
    if value is None and not reason.startswith(NOT_APPLICABLE):
        return None
    if value is not None and not after.decides(value):
        return None
    if name != after.score.rpartition(".")[2]:
        return Score(None, decided_by(after.score))
    return Score(value, reason or None, taken_detail(after.score) if value is not None else None)


def routes_of(context: PassContext, folder: RunFolder, partition: str) -> Routes:
    """Return what the score that a pass waits for says of the pairs of a partition."""
    after = context.judge.after
    if after is None:
        return Routes()
    rows = folder.scores(partition, after.score, ["pair_id", "value", "reason"]).to_pylist()
    return Routes(after, {row["pair_id"]: row for row in rows})


def misrouted(context: PassContext, folder: RunFolder, partition: str, name: str, routes: Routes) -> set[str]:
    """Return the pairs whose row of a score is not what the score that the pass waits for says now."""
    if routes.after is None:
        return set()
    own = pass_partition(partition, context.name)
    rows = folder.table(SCORE, own, table_of(context, name), COMPARED).to_pylist()
    return {row["pair_id"] for row in rows if not _is_as_routed(row, name, routes)}


def _is_as_routed(row: Row, name: str, routes: Routes) -> bool:
    wanted, after = routes.decided(row["pair_id"], name), routes.after
    if wanted is None or after is None:
        return taken_from(row["detail"]) is None and not is_decided(row["reason"] or "")
    if wanted.value is None:
        return bool(row["value"] is None and row["reason"] == wanted.reason)
    return bool(row["value"] == wanted.value and taken_from(row["detail"]) == after.score)


def decided_rows(pairs: Iterable[tuple[Row, list[str]]], routes: Routes) -> dict[str, list[dict[str, Any]]]:
    """Return the rows of a pass that cost no call: of these pairs, by score.

    Args:
        pairs: Rows of PAIRS, each with the names of the scores that it lacks.
        routes: What decides them.
    """
    rows: dict[str, list[dict[str, Any]]] = {}
    for pair, names in pairs:
        for name in names:
            if score := routes.decided(pair["pair_id"], name):
                rows.setdefault(name, []).append(score_row(pair["pair_id"], pair["assignment_id"], score))
    return rows
