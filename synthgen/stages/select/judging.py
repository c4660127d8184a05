"""The reasons against a pair by itself: retired, a rule, a score that is missing or outside its threshold."""

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from synthgen.dedup import plain_texts
from synthgen.stages.rules import COLUMNS, mask, rules
from synthgen.stages.select.selection import Selection
from synthgen.store.stage_folder import last_by_key
from synthgen.tables import GENERATE, NOT_APPLICABLE, PAIRS, PLAN

Mask = npt.NDArray[np.bool_]

ID_COLUMNS = ["pair_id", "assignment_id", "image_id"]


def judge(selection: Selection, partition: str) -> pa.Table:
    """Apply rules and thresholds to the pairs of a partition.

    Returns:
        Their ids, epoch, round, the first `reason` against each or "kept", and `plain`: the question as it is compared
        with others, null for a dropped pair.
    """
    rows = _current_pairs(selection, partition)
    rows = rows.append_column("plain", plain_texts(rows.column("question")))
    names, masks = ["kept"], []
    for name, applies in _reasons(rows, selection, partition):
        names.append(name)
        masks.append(applies)
    number = np.zeros(rows.num_rows, np.int16)
    for index, applies in reversed(list(enumerate(masks, 1))):  # so that the first reason that applies is written last
        number[applies] = index
    reason = pa.array(names).take(pa.array(number))
    plain = pc.if_else(pa.array(number == 0), _compared_text(rows), None)
    judged = rows.select([*ID_COLUMNS, "follows", "epoch", "round"])
    return judged.append_column("reason", reason).append_column("plain", plain)


def _current_pairs(selection: Selection, partition: str) -> pa.Table:
    """Return the pairs of a partition: of each assignment the last outcome, if it is a pair.

    Their `epoch` is that of their commit, and their `round` the number of their file.
    """
    stage, log = selection.folder.stage(GENERATE), selection.folder.log(GENERATE)
    columns = [*ID_COLUMNS, "follows", *COLUMNS, "outcome"]
    files = list(stage.read(log, partition, "pairs", columns)) or [PAIRS.empty_table().select(columns)]
    commits = [commit for commit in log.partitions[partition] if "pairs" in commit.receipt.tables]
    commit_of_file = [commit for commit in commits for _ in commit.receipt.tables["pairs"].files][-len(files) :]
    tables = []
    for number, table in enumerate(files):
        epoch = np.full(table.num_rows, commit_of_file[number].epoch if commit_of_file else 0)
        table = table.append_column("epoch", pa.array(epoch))
        tables.append(table.append_column("round", pa.array(np.full_like(epoch, number))))
    rows = pa.concat_tables(tables)
    if len(files) > 1:
        rows = last_by_key(rows, "assignment_id")
    return rows.filter(pc.equal(rows.column("outcome"), "pair"))


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


def _reasons(rows: pa.Table, selection: Selection, partition: str) -> Iterator[tuple[str, Mask]]:
    """Yield each reason with the pairs that it applies to, in the order in which reasons count."""
    yield "retired", mask(pc.is_in(rows.column("assignment_id"), _retired(selection, partition)))
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
