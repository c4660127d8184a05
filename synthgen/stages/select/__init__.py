"""Stage select: every pair is kept or dropped, with the reason.

No model is asked, so this is cheap to run again: thresholds are changed more often than scores are measured.

A pair of a retired assignment is dropped as `retired`. Any other must pass, in this order, the rules (each a mask over
a whole partition), the languages, the functions of the user, the thresholds of the scores, its rank within its group,
the comparison with the pairs before it (no other question of its image says the same, and not too many pairs of the
whole set have its wording), the balance of answers and the quotas. Before means committed in an earlier epoch, then in
an earlier round of a partition (a retried pair comes after those that succeeded at once), then earlier in the plan; so
the comparison never drops a pair that was kept because the set grew. The questions of all pairs are compared on local
disk (`dedup.questions`), and the ids of the pairs wait there for the result; what ranks, balance and quotas read is in
memory (`standings`).

A decision can depend on any other pair, so the decisions of a partition carry a fingerprint of the settings and of
every commit that was read: after growth, an edit or a crash half-way, exactly the partitions that are not current are
redone.
"""

import tempfile
from collections.abc import Callable, Collection, Iterator, Sequence
from pathlib import Path

import pyarrow.compute as pc

from synthgen.console import StageProgress, note
from synthgen.dedup.questions import FIRST, QuestionDedup
from synthgen.stages.contract import StageRun
from synthgen.stages.select.functions import ReasonCounter
from synthgen.stages.select.judging import judge
from synthgen.stages.select.receipts import JUDGED, PREVIOUS_DROPPED, REPEATS, make_receipt
from synthgen.stages.select.selection import Selection, prepare
from synthgen.stages.select.whole_set import WholeSet
from synthgen.store import Receipt
from synthgen.store.spill import Spill
from synthgen.tables import GENERATE, SELECT
from synthgen.workers import Task

__all__ = ["PREVIOUS_DROPPED", "REPEATS", "Selection", "decide", "pending", "prepare", "results"]

Show = Callable[[float], None]  # called with the number of partitions read


def pending(run: StageRun) -> list[Task]:
    """Return the partitions whose decisions are not current."""
    selection = prepare(run.folder, run.job.pipeline.selection, run.job.home)
    log = run.folder.log(SELECT)
    return [Task(name, log.next_revision(name), epoch=selection.epoch) for name in selection.todo]


def results(run: StageRun, tasks: Sequence[Task]) -> Iterator[Receipt]:
    """Decide on every pair of these partitions in this process."""
    if not tasks:
        return
    with StageProgress(SELECT.name, len(run.folder.log(GENERATE).partitions), "partition") as bar:
        selection = prepare(run.folder, run.job.pipeline.selection, run.job.home)
        yield from decide(selection, {task.partition for task in tasks}, bar.show)


def decide(selection: Selection, todo: Collection[str], show: Show = lambda done: None) -> Iterator[Receipt]:
    """Decide on every pair and yield a receipt for each partition in `todo`.

    All partitions are read, because a decision can depend on any other pair.
    """
    if not todo:
        return
    names = list(selection.folder.log(GENERATE).partitions)
    with tempfile.TemporaryDirectory(prefix="synth-select-") as folder:
        pairs = selection.folder.log(GENERATE).counts().get("pair", 0)
        dedup, whole, reasons = QuestionDedup(Path(folder), pairs), WholeSet(selection.settings), ReasonCounter()
        judged, numbers = Spill(Path(folder) / "judged"), dict[str, slice]()
        for place, name in enumerate(names):
            rows = judge(selection, name)
            numbers[name] = dedup.add(rows)
            whole.add(rows)
            reasons.add(pc.unique(rows.column("reason")).to_pylist())
            if name in todo:
                judged.append(place, rows.select(JUDGED.names))
            show(place + 1)
        settings = selection.settings
        verdicts = dedup.verdicts(settings.near_questions, settings.same_question, whole.rank())
        whole.limit(verdicts == FIRST)
        _tell(selection, whole)
        for place, name in enumerate(names):
            if name in todo:
                rows = whole.decided(reasons.joined(judged.read(place, JUDGED)), numbers[name])
                yield make_receipt(selection, name, rows, verdicts[numbers[name]])


def _tell(selection: Selection, whole: WholeSet) -> None:
    """Note what the rules could not do as asked."""
    for function in selection.functions:
        if function.fault:
            note(f"select.functions: {function.name}: {function.fault}; `synth status` counts such pairs")
    for text in whole.notes:
        note(text)
