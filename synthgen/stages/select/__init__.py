"""Stage select: every pair is kept or dropped, with the reason.

No model is asked, so this is cheap to run again: thresholds are changed more often than scores are measured.

A pair must be in no benchmark set (`contamination`), and pass the rules (each a mask over a whole partition), the
functions of the user (`functions`) and the thresholds of its scores (`judging`), and must not be among the lowest of
its group (`whole_set`). Then it is compared with all others (`duplicates`), also with what earlier runs kept
(`earlier_runs`). The texts of all pairs wait on local disk for that, and so do the ids. Last come the balance of
answers and the quotas (`whole_set`). `receipts` writes what came out: a decision for each pair, the clusters of near
pairs, and what is in which benchmark set.

A decision can depend on any other pair, so the decisions of a partition carry a fingerprint of the settings and of
every commit that was read (`selection`): after growth, an edit or a crash half-way, exactly the partitions that are not
current are redone.
"""

import tempfile
from collections.abc import Callable, Collection, Iterator, Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from synthgen.console import StageProgress, note
from synthgen.stages.contract import StageRun
from synthgen.stages.select.duplicates import EARLIER_RUN, KEPT, REPEATS, Verdicts
from synthgen.stages.select.earlier_runs import start_comparison
from synthgen.stages.select.functions import ReasonCounter
from synthgen.stages.select.judging import judge
from synthgen.stages.select.receipts import JUDGED, PREVIOUS_DROPPED, make_receipt
from synthgen.stages.select.selection import Selection, pending_notes, prepare
from synthgen.stages.select.standings import Standings, needed
from synthgen.stages.select.whole_set import WholeSet
from synthgen.store import Receipt
from synthgen.store.spill import Spill
from synthgen.tables import GENERATE, SELECT
from synthgen.workers import Task

__all__ = ["EARLIER_RUN", "PREVIOUS_DROPPED", "REPEATS", "Selection", "decide", "pending", "prepare", "results"]

Show = Callable[[float], None]  # called with the number of partitions read


def pending(run: StageRun) -> list[Task]:
    """Return the partitions whose decisions are not current."""
    selection = prepare_for(run)
    log = run.folder.log(SELECT)
    return [Task(name, log.next_revision(name), epoch=selection.epoch) for name in selection.todo]


def results(run: StageRun, tasks: Sequence[Task]) -> Iterator[Receipt]:
    """Decide on every pair of these partitions in this process."""
    if not tasks:
        return
    with StageProgress(SELECT.name, len(run.folder.log(GENERATE).partitions), "partition") as bar:
        selection = prepare_for(run)
        yield from decide(selection, {task.partition for task in tasks}, bar.show)


def prepare_for(run: StageRun) -> Selection:
    """Return what the decisions of a run depend on now."""
    pipeline = run.job.pipeline
    return prepare(run.folder, pipeline.selection, run.job.home, pipeline.images)


def decide(selection: Selection, todo: Collection[str], show: Show = lambda done: None) -> Iterator[Receipt]:
    """Decide on every pair and yield a receipt for each partition in `todo`.

    All partitions are read, because a decision can depend on any other pair.
    """
    if not todo:
        return
    names = list(selection.folder.log(GENERATE).partitions)
    with tempfile.TemporaryDirectory(prefix="synth-select-") as folder:
        comparison, first = start_comparison(selection, Path(folder))
        contamination = selection.contamination()
        standings, reasons = Standings(needed(selection.settings)), ReasonCounter()
        judged, spans, contaminated = Spill(Path(folder) / "judged"), dict[str, slice](), dict[str, pa.Table]()
        for place, name in enumerate(names):
            rows, contaminated[name] = judge(selection, name, contamination)
            spans[name] = comparison.add(rows)
            standings.add(rows)
            reasons.add(pc.unique(rows.column("reason")).to_pylist())
            if name in todo:
                judged.append(place, rows.select(JUDGED.names))
            show(place + 1)
        whole = WholeSet(selection.settings, standings, first)
        verdicts = comparison.verdicts(whole.rank(standings.column("open")))
        whole.limit(verdicts.codes == KEPT)
        _tell(selection, whole, verdicts)
        for place, name in enumerate(names):
            if name in todo:
                rows = whole.decided(reasons.joined(judged.read(place, JUDGED)), spans[name])
                yield make_receipt(selection, name, (rows, contaminated[name]), verdicts, spans[name])
        if contamination:
            for text in contamination.notes:
                note(text)
            contamination.write_report(selection.folder)


def _tell(selection: Selection, whole: WholeSet, verdicts: Verdicts) -> None:
    """Note what the rules could not do as asked."""
    for function in selection.functions:
        if function.fault:
            note(f"select.functions: {function.name}: {function.fault}; `synth status` counts such pairs")
    for text in (*whole.notes, *verdicts.notes, *pending_notes(selection.folder, selection.settings)):
        note(text)
