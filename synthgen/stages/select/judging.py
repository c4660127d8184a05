"""The reasons against a pair by itself: retired, in a benchmark, a rule, a score missing or outside its threshold."""

from collections.abc import Iterator, Mapping

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from synthgen.config.pipeline import SelectConfig
from synthgen.dedup import plain_texts
from synthgen.dedup.openings import openings
from synthgen.stages.rules import COLUMNS, mask, rules
from synthgen.stages.select.contamination import Contamination
from synthgen.stages.select.selection import Selection
from synthgen.tables import CONTAMINATED, GENERATE, NOT_APPLICABLE, PLAN, SELECT

Mask = npt.NDArray[np.bool_]
Judged = tuple[pa.Table, pa.Table]

ID_COLUMNS = ["pair_id", "assignment_id", "image_id"]
OLDEST = 0  # the epoch of decisions that an older synth made


def judge(selection: Selection, partition: str, contamination: Contamination | None = None) -> Judged:
    """Apply rules and thresholds to the pairs of a partition.

    Args:
        selection: What decisions depend on.
        partition: Its name.
        contamination: What is in benchmark sets.

    Returns:
        Two tables. The first has their ids, the first `reason` against each or "kept", `since` when it is decided on,
        the `score` by which one of several survives, and the texts by which pairs are compared, null for a dropped
        pair: `plain` of the question, `opening`, its first words, and `answer`. The second is CONTAMINATED.
    """
    rows = selection.folder.table(GENERATE, partition, "pairs", [*ID_COLUMNS, "follows", *COLUMNS, "outcome"])
    rows = rows.filter(pc.equal(rows.column("outcome"), "pair"))
    rows = rows.append_column("plain", plain_texts(rows.column("question")))
    names, masks = ["kept"], []
    matches = contamination.matches(rows) if contamination else {}
    for name, applies in _reasons(rows, selection, partition, matches):
        names.append(name)
        masks.append(applies)
    number = np.zeros(rows.num_rows, np.int16)
    for index, applies in reversed(list(enumerate(masks, 1))):  # so that the first reason that applies is written last
        number[applies] = index
    reason = pa.array(names).take(pa.array(number))
    judged = rows.select([*ID_COLUMNS, "follows"]).append_column("reason", reason)
    judged = judged.append_column("since", _since(selection, partition, rows.column("pair_id")))
    if survivor := selection.settings.survivor:
        score, _ = score_values(selection, partition, survivor, rows.column("pair_id"))
    else:
        score = np.zeros(rows.num_rows, np.float32)
    judged = with_texts(judged.append_column("score", pa.array(score)), rows, selection.settings, pa.array(number == 0))
    return judged, contamination.rows(rows, matches) if contamination else CONTAMINATED.empty_table()


def with_texts(judged: pa.Table, rows: pa.Table, settings: SelectConfig, is_compared: pa.Array) -> pa.Table:
    """Return a table with the texts by which pairs are compared, in their plain form.

    Args:
        judged: The table.
        rows: The pairs, with `question`, its form `plain`, `options` and `answer`.
        settings: Which comparisons are wanted; the texts of others are null.
        is_compared: The texts of other pairs are null.
    """
    wanted = {
        "plain": _compared_text(rows),
        "opening": openings(_array(rows.column("plain")), settings.openings.words) if settings.openings else None,
        "answer": plain_texts(pc.fill_null(rows.column("answer"), "")) if settings.global_answers else None,
    }
    for name, texts in wanted.items():
        no_text = pa.nulls(judged.num_rows, pa.large_string())
        judged = judged.append_column(name, no_text if texts is None else pc.if_else(is_compared, texts, no_text))
    return judged


def _array(column: pa.ChunkedArray) -> pa.LargeStringArray:
    return column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column


def _since(selection: Selection, partition: str, pair_ids: pa.ChunkedArray) -> pa.Array:
    """Return the epoch of the first selection that decided on each pair: this one, if none did before."""
    before = selection.folder.table(SELECT, partition, "decisions", ["pair_id", "since"])
    since = pc.fill_null(before.column("since"), OLDEST)
    found = since.take(pc.index_in(pair_ids, before.column("pair_id").combine_chunks()))
    return pc.fill_null(found, selection.epoch).cast(pa.int32())


def _retired(selection: Selection, partition: str) -> pa.Array:
    """Return the assignments that an edit of the plan retired; the plan is read only if there are any."""
    if not selection.folder.log(PLAN).counts([partition]).get("retired"):
        return pa.array([], pa.string())
    rows = selection.folder.table(PLAN, partition, "assignments")
    return rows.filter(rows.column("retired")).column("assignment_id").combine_chunks()


def _compared_text(rows: pa.Table) -> pa.ChunkedArray:
    """Return the text by which questions are compared: plain words, for multiple choice with the options."""
    is_choice = np.asarray(pc.greater(pc.fill_null(pc.list_value_length(rows.column("options")), 0), 0))
    if not is_choice.any():
        return rows.column("plain")
    options = pc.fill_null(pc.binary_join(rows.column("options").combine_chunks(), "\n"), "")
    joined = plain_texts(pc.binary_join_element_wise(rows.column("question").combine_chunks(), options, "\n"))
    return pc.if_else(pa.array(is_choice), joined, rows.column("plain"))


def _reasons(
    rows: pa.Table, selection: Selection, partition: str, matches: Mapping[str, npt.NDArray[np.int64]]
) -> Iterator[tuple[str, Mask]]:
    """Yield each reason with the pairs that it applies to, in the order in which reasons count."""
    yield "retired", mask(pc.is_in(rows.column("assignment_id"), _retired(selection, partition)))
    for name, items in matches.items():
        yield name, items >= 0
    for name, matches in rules(rows, selection.settings):
        yield f"rule:{name}", mask(matches)
    for name, threshold in sorted(selection.settings.keep.items()):
        value, is_other_form = score_values(selection, partition, name, rows.column("pair_id"))
        applies = np.isin(rows.column("form").to_numpy(zero_copy_only=False), threshold.forms) & ~is_other_form
        yield f"unscored:{name}", applies & np.isnan(value)
        low = -np.inf if threshold.min is None else threshold.min
        high = np.inf if threshold.max is None else threshold.max
        yield f"score:{name}", applies & ((value < np.float32(low)) | (value > np.float32(high)))


def score_values(
    selection: Selection, partition: str, name: str, pair_ids: pa.ChunkedArray
) -> tuple[npt.NDArray[np.float32], Mask]:
    """Return the current values of a score for these pairs.

    Returns:
        The values, (pairs,) float32, NaN where there is none; and whether the score says nothing of the pair's answer
        form, (pairs,) bool.
    """
    scores = selection.folder.scores(partition, name, ["pair_id", "value", "reason"])
    index = pc.index_in(pair_ids, scores.column("pair_id").combine_chunks())
    values = np.asarray(pc.fill_null(scores.column("value").take(index), float("nan")), dtype=np.float32)
    return values, mask(pc.starts_with(scores.column("reason").take(index), NOT_APPLICABLE))
