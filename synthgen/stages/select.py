"""Stage select: every pair is kept or dropped, with the reason.

No model is asked, so this is cheap to run again: a score is expensive, a threshold is an opinion.

A pair of a retired assignment is dropped as `retired`. Any other must pass, in this order, the rules (each a mask over a
whole partition), the thresholds of the scores, and the comparison with the pairs before it: no other question of its
image says the same, and not too many pairs of the whole set have its wording. Before means committed in an earlier
epoch, then in an earlier round of a partition (a retried pair comes after those that succeeded at once), then earlier in
the plan; so growth never pushes out a pair that was kept. What the comparison needs of all pairs lies on local disk
(`dedup.questions`), and so do the ids of the pairs until it is done.

A decision can depend on any other pair, so the decisions of a partition carry a fingerprint of the settings and of every
commit that was read: after growth, an edit or a crash half-way, exactly the partitions that are not current are redone.
"""

import json
import tempfile
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from synthgen.config.pipeline import SelectConfig
from synthgen.config.replies import letter_of
from synthgen.console import StageProgress
from synthgen.dedup import plain_texts
from synthgen.dedup.questions import FIRST, QuestionDedup, Verdicts
from synthgen.errors import UserMistake, nearest
from synthgen.stages.contract import StageRun
from synthgen.store import CommitLog, Receipt, RunFolder, TablePart
from synthgen.store.spill import Spill
from synthgen.tables import DECISIONS, GENERATE, PAIRS, PLAN, SELECT, make_id
from synthgen.workers import Task

Show = Callable[[float], None]  # called with the number of partitions read
Mask = npt.NDArray[np.bool_]

RULES_VERSION = "2"  # part of the fingerprint; raise it when a rule changes
ID_COLUMNS = ["pair_id", "assignment_id", "image_id"]
JUDGED = pa.schema([*((name, pa.string()) for name in ID_COLUMNS), ("reason", pa.string())])
REPEATS = ["kept", "duplicate:question", "duplicate:common"]  # by the verdicts of dedup/questions.py
TEXT_COLUMNS = ["form", "question", "options", "answer"]

# What a model says about itself or its task instead of asking or answering about the image.
META = (
    r"\b(as an? (ai|artificial intelligence|(large )?language model)\b"
    r"|i('m| am) (an ai|a (large )?language model|unable to|not able to (see|view|access|open))"
    r"|i('m| am) sorry,? but|i apologi[sz]e"
    r"|i (can('|no)?t|do not|don't) (see|view|access|open|have access to) (the|this|any|that) (image|picture|photo)"
    r"|(the|this) image cannot be (seen|viewed|accessed|opened|displayed|loaded)|no image (was|is|has been) (provided|attached|given))"
)
ANSWER_MARK = r"\bAnswer\s*:"


@dataclass(frozen=True)
class Selection:
    """Everything that decisions depend on.

    Attributes:
        folder: The pairs, scores and plan by their commits.
        fingerprint: Of the settings and of every commit that is read.
        epoch: Of the new commits.
    """

    folder: RunFolder
    settings: SelectConfig
    fingerprint: str
    epoch: int = 1

    @property
    def todo(self) -> list[str]:
        """The partitions whose decisions were made with other settings or from other commits."""
        decided = self.folder.log(SELECT)
        return [
            name
            for name in self.folder.log(GENERATE).partitions
            if decided.fingerprint(name, "decisions") != self.fingerprint
        ]


def pending(run: StageRun) -> list[Task]:
    """Return the partitions whose decisions are not current."""
    selection = prepare(run.folder, run.job.pipeline.select)
    log = run.folder.log(SELECT)
    return [Task(name, log.next_revision(name), epoch=selection.epoch) for name in selection.todo]


def results(run: StageRun, tasks: Sequence[Task]) -> Iterator[Receipt]:
    """Decide on every pair of these partitions in this process."""
    with StageProgress(SELECT.name, len(run.folder.log(GENERATE).partitions) if tasks else 0, "partition") as bar:
        selection = prepare(run.folder, run.job.pipeline.select)
        yield from decide(selection, {task.partition for task in tasks}, bar.show)


def prepare(folder: RunFolder, settings: SelectConfig) -> Selection:
    """Return what decisions depend on now; only commits are read.

    Raises:
        UserMistake: The settings name a score that no pair has.
    """
    generated, planned = folder.log(GENERATE), folder.log(PLAN)
    _check(settings, generated)
    replanned = [name for name in generated.partitions if planned.counts([name]).get("retired")]
    digests = generated.digests(GENERATE, generated.partitions) | planned.digests(PLAN, replanned)
    rules = json.dumps(settings.model_dump(mode="json"), sort_keys=True)  # the order of thresholds does not matter
    fingerprint = make_id("select", RULES_VERSION, rules, *(f"{key} {digests[key]}" for key in sorted(digests)))
    return Selection(folder, settings, fingerprint, folder.log(SELECT).last_epoch + 1)


def decide(selection: Selection, todo: Collection[str], show: Show = lambda done: None) -> Iterator[Receipt]:
    """Decide on every pair and yield a receipt for each partition in `todo`.

    All partitions are read, because a decision can depend on any other pair.
    """
    if not todo:
        return
    names = list(selection.folder.log(GENERATE).partitions)
    with tempfile.TemporaryDirectory(prefix="synth-select-") as folder:
        pairs = selection.folder.log(GENERATE).counts().get("pair", 0)
        dedup = QuestionDedup(Path(folder), pairs)
        judged, numbers = Spill(Path(folder) / "judged"), dict[str, slice]()
        for place, name in enumerate(names):
            rows = _judged(selection, name)
            numbers[name] = dedup.add(rows)
            if name in todo:
                judged.append(place, rows.select(JUDGED.names))
            show(place + 1)
        verdicts = dedup.verdicts(selection.settings.near_questions, selection.settings.same_question)
        for place, name in enumerate(names):
            if name in todo:
                yield _receipt(selection, name, judged.read(place, JUDGED), verdicts[numbers[name]])


# --- one partition ----------------------------------------------------------------------------------------------------


def _judged(selection: Selection, partition: str) -> pa.Table:
    """The pairs of a partition after rules and scores: ids, epoch, round, the first reason against each, and `plain`, the
    question as it is compared; null where there is such a reason."""
    rows = _current_pairs(selection, partition)
    rows = rows.append_column("plain", plain_texts(rows.column("question")))
    names, masks = ["kept"], []
    for name, mask in _against(rows, selection, partition):
        names.append(name)
        masks.append(mask)
    reasons = np.zeros(rows.num_rows, np.int16)
    for number, mask in reversed(list(enumerate(masks, 1))):  # the first that applies is written last
        reasons[mask] = number
    found = rows.select([*ID_COLUMNS, "epoch", "round"]).append_column(
        "reason", pa.array(names).take(pa.array(reasons))
    )
    return found.append_column("plain", pc.if_else(pa.array(reasons == 0), _with_options(rows), None))


def _current_pairs(selection: Selection, partition: str) -> pa.Table:
    """The pairs that count, with the epoch and round of their commit: of each assignment the last outcome, if it is a pair."""
    stage, log = selection.folder.stage(GENERATE), selection.folder.log(GENERATE)
    columns = [*ID_COLUMNS, *TEXT_COLUMNS, "outcome"]
    files = list(stage.read(log, partition, "pairs", columns)) or [PAIRS.empty_table().select(columns)]
    commits = [commit for commit in log.partitions[partition] if "pairs" in commit.receipt.tables]
    made = [commit for commit in commits for _ in commit.receipt.tables["pairs"].files][-len(files) :]
    placed = []
    for number, table in enumerate(files):
        epoch = np.full(table.num_rows, made[number].epoch if made else 0)
        placed.append(
            table.append_column("epoch", pa.array(epoch)).append_column("round", pa.array(np.full_like(epoch, number)))
        )
    rows = pa.concat_tables(placed)
    if len(files) > 1:
        last = {value: index for index, value in enumerate(rows.column("assignment_id").to_pylist())}
        rows = rows.take(sorted(last.values()))
    return rows.filter(pc.equal(rows.column("outcome"), "pair"))


def _retired(selection: Selection, partition: str) -> pa.Array:
    """The assignments that an edit of the plan took back; a plan of which nothing was is not read."""
    if not selection.folder.log(PLAN).counts([partition]).get("retired"):
        return pa.array([], pa.string())
    rows = selection.folder.table(PLAN, partition, "assignments")
    return rows.filter(rows.column("retired")).column("assignment_id").combine_chunks()


def _with_options(rows: pa.Table) -> pa.ChunkedArray:
    """What two questions are compared by: the plain words, and for multiple choice the options too."""
    choice = np.asarray(pc.greater(pc.fill_null(pc.list_value_length(rows.column("options")), 0), 0))
    if not choice.any():
        return rows.column("plain")
    options = pc.fill_null(pc.binary_join(rows.column("options").combine_chunks(), "\n"), "")
    joined = plain_texts(pc.binary_join_element_wise(rows.column("question").combine_chunks(), options, "\n"))
    return pc.if_else(pa.array(choice), joined, rows.column("plain"))


def _receipt(selection: Selection, partition: str, judged: pa.Table, verdicts: Verdicts) -> Receipt:
    """Writes a partition's decisions anew; the counts say by how much they change."""
    reason = pc.if_else(
        pa.array(verdicts == FIRST), judged.column("reason"), pa.array(REPEATS).take(pa.array(verdicts))
    )
    decided = judged.select(ID_COLUMNS).append_column("kept", pc.equal(reason, "kept")).append_column("reason", reason)
    revision = selection.folder.log(SELECT).next_revision(partition)
    file = selection.folder.stage(SELECT).write("decisions", partition, revision, decided.cast(DECISIONS))
    counts = Counter(decided.column("reason").to_pylist())
    for commit in selection.folder.log(SELECT).partitions.get(partition, ()):
        counts.subtract(commit.receipt.counts)
    return Receipt(
        partition,
        revision,
        {"decisions": TablePart((file,), selection.fingerprint, replaces=True)},
        {reason: count for reason, count in sorted(counts.items()) if count},
        selection.folder.log(GENERATE).digests(GENERATE, [partition]),
        selection.epoch,
    )


# --- what can speak against a pair by itself --------------------------------------------------------------------------


def _against(rows: pa.Table, selection: Selection, partition: str) -> Iterator[tuple[str, Mask]]:
    """(reason, which pairs) in the order in which a pair's reason is looked for."""
    yield "retired", _flags(pc.is_in(rows.column("assignment_id"), _retired(selection, partition)))
    for name, mask in _rules(rows, selection.settings):
        yield f"rule:{name}", _flags(mask)
    for name in sorted(selection.settings.keep):
        threshold = selection.settings.keep[name]
        value = _values(selection, partition, name, rows.column("pair_id"))
        applies = np.isin(rows.column("form").to_numpy(zero_copy_only=False), threshold.forms)
        yield f"unscored:{name}", applies & np.isnan(value)
        low = -np.inf if threshold.min is None else threshold.min
        high = np.inf if threshold.max is None else threshold.max
        yield f"score:{name}", applies & ((value < np.float32(low)) | (value > np.float32(high)))


def _rules(rows: pa.Table, settings: SelectConfig) -> Iterator[tuple[str, Any]]:
    question, answer = (pc.fill_null(rows.column(name), "") for name in ("question", "answer"))
    length = pc.utf8_length(pc.utf8_trim_whitespace(question))
    yield "empty_question", pc.equal(length, 0)
    yield "empty_answer", pc.equal(pc.utf8_length(pc.utf8_trim_whitespace(answer)), 0)
    yield "question_too_short", pc.less(length, settings.min_question_characters)
    yield "answer_too_long", pc.greater(pc.utf8_length(answer), settings.max_answer_characters)
    yield "answer_in_question", pc.match_substring_regex(question, ANSWER_MARK)
    yield "meta", pc.or_(*(pc.match_substring_regex(text, META, ignore_case=True) for text in (question, answer)))
    yield "repeats_question", _repeats(rows, answer)
    yield "broken_choice", _broken_choice(rows)
    for pattern in settings.forbidden:
        yield "forbidden", pc.or_(*(pc.match_substring_regex(text, pattern) for text in (question, answer)))


def _repeats(rows: pa.Table, answer: Any) -> Mask:
    """Answers that are the question again, or begin with it; a look at the first letters spares most of the work."""
    alike = pc.equal(
        *(
            pc.utf8_lower(pc.utf8_slice_codeunits(text, 0, 3))
            for text in (rows.column("plain"), answer.cast(pa.large_string()))
        )
    )
    found = np.flatnonzero(_flags(alike) & _flags(pc.not_equal(rows.column("plain"), "")))
    asked, answered = rows.column("plain").take(found).to_pylist(), plain_texts(answer.take(found)).to_pylist()
    repeats = np.zeros(rows.num_rows, bool)
    repeats[found] = [said.startswith(question) for question, said in zip(asked, answered, strict=True)]
    return repeats


def _broken_choice(rows: pa.Table) -> Mask:
    """Multiple choice without two different options, or whose answer is not the letter of one of them."""
    broken = np.zeros(rows.num_rows, bool)
    chosen = np.flatnonzero(_flags(pc.equal(rows.column("form"), "choice")))
    some = rows.select(["options", "answer"]).take(chosen)
    for index, options, answer in zip(chosen, some.column(0).to_pylist(), some.column(1).to_pylist(), strict=True):
        letter = letter_of(answer or "")
        distinct = len(set(options or []))
        broken[index] = distinct < 2 or distinct < len(options) or not letter or ord(letter) - ord("A") >= len(options)
    return broken


def _values(selection: Selection, partition: str, name: str, pair_ids: pa.ChunkedArray) -> npt.NDArray[np.float32]:
    """The current values of a score for these pairs; not a number where there is none."""
    scores = selection.folder.table(GENERATE, partition, f"scores/{name}", ["pair_id", "value"])
    place = pc.index_in(pair_ids, scores.column("pair_id").combine_chunks())
    return np.asarray(pc.fill_null(scores.column("value").take(place), float("nan")), dtype=np.float32)


def _flags(mask: Any) -> Mask:
    if isinstance(mask, np.ndarray):
        return mask
    flags: Mask = np.asarray(pc.fill_null(mask, False), dtype=bool)
    return flags


def _check(settings: SelectConfig, generated: CommitLog) -> None:
    """Refuses a score that no pair has."""
    tables = {
        table for commits in generated.partitions.values() for commit in commits for table in commit.receipt.tables
    }
    known = {table.removeprefix("scores/") for table in tables if table.startswith("scores/")}
    for name in sorted(set(settings.keep) - known) if tables else []:
        raise UserMistake(f"select.keep: no pair has the score '{name}'; {nearest(name, known)}")
