"""Stage select: every pair is kept or dropped, with the reason.

No model is asked, so this is cheap to run again: thresholds are changed more often than scores are measured.

A pair of a retired assignment is dropped as `retired`. Any other must pass, in this order, the rules (each a mask over
a whole partition), the thresholds of the scores, and the comparison with the pairs before it: no other question of its
image says the same, and not too many pairs of the whole set have its wording. Before means committed in an earlier
epoch, then in an earlier round of a partition (a retried pair comes after those that succeeded at once), then earlier
in the plan; so growth never drops a pair that was kept. The questions of all pairs are compared on local disk
(`dedup.questions`), and the ids of the pairs wait there for the result.

A decision can depend on any other pair, so the decisions of a partition carry a fingerprint of the settings and of
every commit that was read: after growth, an edit or a crash half-way, exactly the partitions that are not current are
redone.
"""

import json
import tempfile
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from synthgen.config.pipeline import SelectConfig
from synthgen.console import StageProgress
from synthgen.dedup import plain_texts
from synthgen.dedup.questions import FIRST, QuestionDedup, Verdicts
from synthgen.errors import Mistakes, nearest
from synthgen.stages.contract import StageRun
from synthgen.stages.rules import COLUMNS, RULES_VERSION, mask, rules
from synthgen.store import CommitLog, Receipt, RunFolder, TablePart
from synthgen.store.spill import Spill
from synthgen.store.stage_folder import last_by_key
from synthgen.tables import DECISIONS, GENERATE, NOT_APPLICABLE, PAIRS, PLAN, SELECT, changed_counts, make_id
from synthgen.workers import Task

Show = Callable[[float], None]  # called with the number of partitions read
Mask = npt.NDArray[np.bool_]

ID_COLUMNS = ["pair_id", "assignment_id", "image_id"]
JUDGED = pa.schema([(name, pa.string()) for name in (*ID_COLUMNS, "follows", "reason")])
PREVIOUS_DROPPED = "rule:previous_dropped"
REPEATS = ["kept", "duplicate:question", "duplicate:common"]  # by the verdicts of dedup/questions.py


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
    if not tasks:
        return
    with StageProgress(SELECT.name, len(run.folder.log(GENERATE).partitions), "partition") as bar:
        selection = prepare(run.folder, run.job.pipeline.select)
        yield from decide(selection, {task.partition for task in tasks}, bar.show)


def prepare(folder: RunFolder, settings: SelectConfig) -> Selection:
    """Return what decisions depend on now; only commits are read.

    Raises:
        Mistakes: The settings name scores that no pair has.
    """
    generated, planned = folder.log(GENERATE), folder.log(PLAN)
    _check_scores_exist(settings, generated)
    replanned = [name for name in generated.partitions if planned.counts([name]).get("retired")]
    digests = generated.digests(GENERATE, generated.partitions) | planned.digests(PLAN, replanned)
    limits = json.dumps(settings.model_dump(mode="json"), sort_keys=True)  # the order of thresholds does not matter
    fingerprint = make_id("select", RULES_VERSION, limits, *(f"{key} {digests[key]}" for key in sorted(digests)))
    return Selection(folder, settings, fingerprint, folder.log(SELECT).next_epoch)


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
            rows = _judge(selection, name)
            numbers[name] = dedup.add(rows)
            if name in todo:
                judged.append(place, rows.select(JUDGED.names))
            show(place + 1)
        verdicts = dedup.verdicts(selection.settings.near_questions, selection.settings.same_question)
        for place, name in enumerate(names):
            if name in todo:
                yield _receipt(selection, name, judged.read(place, JUDGED), verdicts[numbers[name]])


# --- one partition ----------------------------------------------------------------------------------------------------


def _judge(selection: Selection, partition: str) -> pa.Table:
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


def _receipt(selection: Selection, partition: str, judged: pa.Table, verdicts: Verdicts) -> Receipt:
    """Write the decisions of a partition; the counts are by how much they change."""
    repeats = pa.array(REPEATS).take(pa.array(verdicts))
    reason = pc.if_else(pa.array(verdicts == FIRST), judged.column("reason"), repeats)
    reason = _without_previous(judged, reason)
    ids = judged.select([*ID_COLUMNS, "follows"])
    decided = ids.append_column("kept", pc.equal(reason, "kept")).append_column("reason", reason)
    log = selection.folder.log(SELECT)
    revision = log.next_revision(partition)
    file = selection.folder.stage(SELECT).write("decisions", partition, revision, decided.cast(DECISIONS))
    counts = changed_counts(log.counts([partition]), SELECT.table("decisions").count_rows(decided))
    return Receipt(
        partition,
        revision,
        {"decisions": TablePart((file,), selection.fingerprint, replaces=True)},
        counts,
        selection.folder.log(GENERATE).digests(GENERATE, [partition]),
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


# --- the reasons against a pair by itself -----------------------------------------------------------------------------


def _reasons(rows: pa.Table, selection: Selection, partition: str) -> Iterator[tuple[str, Mask]]:
    """Yield each reason with the pairs that it applies to, in the order in which reasons count."""
    yield "retired", mask(pc.is_in(rows.column("assignment_id"), _retired(selection, partition)))
    for name, matches in rules(rows, selection.settings):
        yield f"rule:{name}", mask(matches)
    for name, threshold in sorted(selection.settings.keep.items()):
        value, is_other_form = _values(selection, partition, name, rows.column("pair_id"))
        applies = np.isin(rows.column("form").to_numpy(zero_copy_only=False), threshold.forms) & ~is_other_form
        yield f"unscored:{name}", applies & np.isnan(value)
        low = -np.inf if threshold.min is None else threshold.min
        high = np.inf if threshold.max is None else threshold.max
        yield f"score:{name}", applies & ((value < np.float32(low)) | (value > np.float32(high)))


def _values(
    selection: Selection, partition: str, name: str, pair_ids: pa.ChunkedArray
) -> tuple[npt.NDArray[np.float32], Mask]:
    """Return the current values of a score for these pairs.

    Returns:
        The values, (pairs,) float32, NaN where there is none; and whether the score says nothing of the pair's answer
        form, (pairs,) bool.
    """
    scores = selection.folder.table(GENERATE, partition, f"scores/{name}", ["pair_id", "value", "reason"])
    index = pc.index_in(pair_ids, scores.column("pair_id").combine_chunks())
    values = np.asarray(pc.fill_null(scores.column("value").take(index), float("nan")), dtype=np.float32)
    return values, mask(pc.starts_with(scores.column("reason").take(index), NOT_APPLICABLE))


def _check_scores_exist(settings: SelectConfig, generated: CommitLog) -> None:
    """Check that each score with a threshold exists.

    Raises:
        Mistakes: No pair has some of them.
    """
    tables = generated.tables()
    known = {table.removeprefix("scores/") for table in tables if table.startswith("scores/")}
    unknown = sorted(set(settings.keep) - known) if tables else []
    if unknown:
        raise Mistakes([f"select.keep: no pair has the score '{name}'; {nearest(name, known)}" for name in unknown])
