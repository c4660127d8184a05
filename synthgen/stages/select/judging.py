"""The reasons against a pair by itself: retired, in a benchmark, a rule, its language, the user's, a threshold."""

from collections.abc import Iterable, Iterator, Mapping, Sequence

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from synthgen.config.selection import SelectConfig, Threshold, fits
from synthgen.config.where import Where
from synthgen.dedup import plain_texts
from synthgen.stages.rules import COLUMNS, mask, rules
from synthgen.stages.select.contamination import Contamination
from synthgen.stages.select.functions import reasons_by
from synthgen.stages.select.selection import Selection, scores_in
from synthgen.stages.select.standings import KEPT, SCORE, needed, standing
from synthgen.stages.select.wording import with_wording
from synthgen.store import RunFolder
from synthgen.tables import CONTAMINATED, GENERATE, NOT_APPLICABLE, PAIRS, PLAN, SELECT, TAG, score_column

Mask = npt.NDArray[np.bool_]
Judged = tuple[pa.Table, pa.Table]
Matches = Mapping[str, npt.NDArray[np.int64]]  # as of `Contamination.matches`

ID_COLUMNS = ["pair_id", "assignment_id", "image_id"]
RULE_COLUMNS = [*ID_COLUMNS, "object_id", "follows", "type", *COLUMNS]
RAW = ("outcome", "reason", "detail", "raw_question", "raw_answer")  # what functions of the user do not see
OLDEST = 0  # the epoch of decisions that an older synth made
FUNCTION_COLUMNS = [name for name in PAIRS.names if name not in RAW]


def judge(selection: Selection, partition: str, contamination: Contamination | None = None) -> Judged:
    """Apply to the pairs of a partition everything that looks at a pair by itself, and return them for the rest.

    Args:
        selection: What decisions depend on.
        partition: Its name.
        contamination: What is in benchmark sets.

    Returns:
        Two tables: the pairs, with the first `reason` against each, or "kept", and the columns of `for_comparison`; and
        CONTAMINATED.
    """
    rows = read_pairs(selection, partition)
    matches = contamination.matches(rows) if contamination else {}
    reason = judge_texts(selection, partition, rows, matches)
    reason = pc.if_else(pc.equal(reason, KEPT), judge_scores(selection, partition, rows), reason)
    judged = for_comparison(selection, partition, rows, reason, needed(selection.settings))
    return judged, contamination.rows(rows, matches) if contamination else CONTAMINATED.empty_table()


def judge_texts(selection: Selection, partition: str, rows: pa.Table, matches: Matches) -> pa.Array:
    """Return the first reason against each pair for which no threshold matters, or "kept"; `matches` of benchmarks."""
    reason = _first_reasons(rows.num_rows, _text_reasons(rows, selection, partition, matches))
    if not selection.functions:
        return reason
    open_rows = pc.indices_nonzero(pc.equal(reason, KEPT))
    given = reasons_by(selection.functions, _for_functions(selection, partition, open_rows))
    return pc.replace_with_mask(reason, pc.equal(reason, KEPT), pc.fill_null(pa.array(given, pa.string()), KEPT))


def judge_scores(selection: Selection, partition: str, rows: pa.Table) -> pa.Array:
    """Return the first reason that a threshold has against each pair, or "kept"."""
    return _first_reasons(rows.num_rows, _score_reasons(rows, selection, partition))


def for_comparison(
    selection: Selection, partition: str, rows: pa.Table, reason: pa.Array, columns: Sequence[str]
) -> pa.Table:
    """Return pairs as all that looks at more than one of them takes them.

    Args:
        selection: The settings, the scores and the plan.
        partition: Its name.
        rows: Its pairs, as of `read_pairs`.
        reason: Against each pair, or "kept".
        columns: That rules over the whole set read, as of `needed`.

    Returns:
        Their ids, `reason`, `since` when they are decided on, the `score` by which one of several survives, the texts
        by which they are compared, null for a dropped pair (`plain` of the question and its options, `asked` of the
        question alone, `answer`, and `said` and `content` of short answers), their `type`, and these columns.
    """
    judged = rows.select([*ID_COLUMNS, "follows", "type"]).append_column("reason", reason)
    judged = judged.append_column("since", _since(selection, partition, rows.column("pair_id")))
    score = np.zeros(rows.num_rows, np.float32)
    if survivor := selection.settings.survivor:
        score, _ = score_values(selection, partition, survivor, rows.column("pair_id"))
    judged = judged.append_column("score", pa.array(score))
    is_compared = pc.equal(reason, KEPT)
    judged = with_texts(judged, rows, selection.settings, is_compared)
    if selection.settings.same_pair is not None:
        judged = with_images(judged, rows, selection.folder, partition, is_compared)
    for name, values in standing(selection, partition, rows, columns).items():
        judged = judged.append_column(name, values if isinstance(values, pa.ChunkedArray) else pa.array(values))
    for name in columns:
        if name.startswith(SCORE):
            values, _ = score_values(selection, partition, name.removeprefix(SCORE), rows.column("pair_id"))
            judged = judged.append_column(name, pa.array(values))
    return judged


def _first_reasons(count: int, reasons: Iterable[tuple[str, Mask]]) -> pa.Array:
    """Return the first of some reasons that applies to each of `count` pairs, or "kept"."""
    names, masks = [KEPT], []
    for name, applies in reasons:
        names.append(name)
        masks.append(applies)
    number = np.zeros(count, np.int16)
    for index, applies in reversed(list(enumerate(masks, 1))):  # so that the first reason that applies is written last
        number[applies] = index
    return pa.array(names).take(pa.array(number))


def read_pairs(selection: Selection, partition: str) -> pa.Table:
    """Return the current pairs of a partition with what rules read, and `plain`, the question in plain words."""
    rows = _current_pairs(selection, partition)
    return rows.append_column("plain", plain_texts(rows.column("question")))


def _for_functions(selection: Selection, partition: str, places: pa.Array) -> pa.Table:
    """Return some of the pairs of a partition as functions of the user see them."""
    rows = _current_pairs(selection, partition, FUNCTION_COLUMNS).take(places)
    for name in scores_in(selection.folder):
        values, _ = score_values(selection, partition, name, rows.column("pair_id"))
        rows = rows.append_column(score_column(name), pa.array(values, from_pandas=True))
    return rows


def _current_pairs(selection: Selection, partition: str, columns: Sequence[str] = RULE_COLUMNS) -> pa.Table:
    """Return the pairs of a partition with some columns: of each assignment the last outcome, if it is a pair."""
    rows = selection.folder.table(GENERATE, partition, "pairs", [*columns, "outcome"])
    return rows.filter(pc.equal(rows.column("outcome"), "pair")).select(list(columns))


def with_texts(judged: pa.Table, rows: pa.Table, settings: SelectConfig, is_compared: pa.Array) -> pa.Table:
    """Return a table with the texts by which pairs are compared, in their plain form.

    Args:
        judged: The table.
        rows: The pairs, with `question`, its form `plain`, `options`, `answer`, and their `form` and `language`.
        settings: Which comparisons are wanted; the texts of others are null.
        is_compared: The texts of other pairs are null.
    """
    wanted = {
        "plain": compared_text(rows),
        "asked": rows.column("plain").cast(pa.large_string()) if settings.phrases else None,
        "answer": plain_texts(pc.fill_null(rows.column("answer"), "")) if _compares_answers(settings) else None,
    }
    no_text = pa.nulls(judged.num_rows, pa.large_string())
    for name, texts in wanted.items():
        judged = judged.append_column(name, no_text if texts is None else pc.if_else(is_compared, texts, no_text))
    if settings.same_answer is not None:
        return with_wording(judged, rows, is_compared)
    return judged.append_column("said", no_text).append_column("content", no_text)


def with_images(judged: pa.Table, rows: pa.Table, folder: RunFolder, partition: str, is_compared: pa.Array) -> pa.Table:
    """Return a table with what `SamePairs` compares: question and answer in one text, and hash and thumbnail.

    Args:
        judged: The table.
        rows: The pairs, as of `with_texts`.
        folder: The run that they are of.
        partition: Of them.
        is_compared: The texts of other pairs are null.
    """
    answer = pc.utf8_trim_whitespace(pc.fill_null(rows.column("answer"), "")).cast(pa.large_string())
    between = pa.scalar("\x1f", pa.large_string())
    both = pc.binary_join_element_wise(compared_text(rows).cast(pa.large_string()), answer, between)
    judged = judged.append_column("both", pc.if_else(is_compared, both, pa.nulls(judged.num_rows, pa.large_string())))
    images = folder.table(TAG, partition, "images", ["object_id", "image_id", "phash", "thumbnail", "flat_share"])
    images = images.filter(pc.is_valid(images.column("phash"))).combine_chunks()
    place = pc.index_in(rows.column("image_id"), images.column("image_id").combine_chunks())
    # Without a hash an image is the same as itself alone.
    own = pa.array([int(name[:16], 16) for name in rows.column("image_id").to_pylist()], pa.uint64())
    hashes = pc.coalesce(images.column("phash").take(place).combine_chunks(), own)
    judged = judged.append_column("phash", hashes)
    for name in ("thumbnail", "flat_share"):
        judged = judged.append_column(name, images.column(name).take(place))
    return judged


def _compares_answers(settings: SelectConfig) -> bool:
    """Return whether answers of the whole set are compared."""
    return bool(settings.global_answers or (settings.semantic and settings.semantic.answers))


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


def compared_text(rows: pa.Table) -> pa.ChunkedArray:
    """Return the text by which questions are compared: plain words, for multiple choice with the options."""
    is_choice = np.asarray(pc.greater(pc.fill_null(pc.list_value_length(rows.column("options")), 0), 0))
    if not is_choice.any():
        return rows.column("plain")
    options = pc.fill_null(pc.binary_join(rows.column("options").combine_chunks(), "\n"), "")
    joined = plain_texts(pc.binary_join_element_wise(rows.column("question").combine_chunks(), options, "\n"))
    return pc.if_else(pa.array(is_choice), joined, rows.column("plain"))


def _text_reasons(rows: pa.Table, selection: Selection, partition: str, matches: Matches) -> Iterator[tuple[str, Mask]]:
    """Yield each reason with the pairs that it applies to, in the order in which reasons count."""
    yield "retired", mask(pc.is_in(rows.column("assignment_id"), _retired(selection, partition)))
    for name, items in matches.items():
        yield name, items >= 0
    for name, broken in rules(rows, selection.settings):
        yield f"rule:{name}", mask(broken)
    if where := selection.settings.where:
        yield "where", ~_fits(selection, partition, where, rows)
    if languages := selection.settings.languages:
        yield "language", ~mask(pc.is_in(rows.column("language"), pa.array(languages)))


def _fits(selection: Selection, partition: str, where: Where, rows: pa.Table) -> Mask:
    """Return which pairs are about images of the wanted licences and sources.

    Rows of an instruction set have a licence each, also where several show the same image. A pair whose object was
    replaced by a copy of the same bytes has what is said of that copy.
    """
    images = selection.folder.table(PLAN, partition, "images", ["object_id", "image_id", "outcome", "rights", "source"])
    images = images.filter(pc.equal(images.column("outcome"), "planned"))  # not its copies
    fitting = images.filter(pa.array(where.mask(images.column("rights"), images.column("source"))))

    def among(name: str, table: pa.Table) -> Mask:
        return mask(pc.is_in(rows.column(name), table.column(name).combine_chunks()))

    return among("object_id", fitting) | (~among("object_id", images) & among("image_id", fitting))


def _score_reasons(rows: pa.Table, selection: Selection, partition: str) -> Iterator[tuple[str, Mask]]:
    """Yield each reason of a threshold with the pairs that it applies to, by the names of the scores."""
    for name, threshold in sorted(selection.settings.keep.items()):
        value, is_other_form = score_values(selection, partition, name, rows.column("pair_id"))
        applies = _applies(rows, threshold) & ~is_other_form
        yield f"unscored:{name}", applies & np.isnan(value)
        low = -np.inf if threshold.min is None else threshold.min
        high = np.inf if threshold.max is None else threshold.max
        yield f"score:{name}", applies & ((value < np.float32(low)) | (value > np.float32(high)))


def _applies(rows: pa.Table, threshold: Threshold) -> Mask:
    """Return whether a threshold is for the form and the type of each pair."""
    is_of_form = np.isin(rows.column("form").to_numpy(zero_copy_only=False), threshold.forms)
    types = pc.fill_null(rows.column("type"), "")
    known = [path for path in pc.unique(types).to_pylist() if any(fits(pattern, path) for pattern in threshold.types)]
    return is_of_form & mask(pc.is_in(types, pa.array(known, pa.string())))


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
