"""Stage ask, the first of two passes of generate where one model asks and another answers; else it does nothing."""

from collections.abc import Iterator, Sequence

from synthgen.stages.contract import StageRun
from synthgen.stages.generate import context_of, results_of, todo
from synthgen.store import Receipt
from synthgen.workers import Task


def pending(run: StageRun) -> list[Task]:
    """Return the partitions with questions to be written; none where one model does both."""
    if run.job.asking is None:
        return []
    return todo(run.folder, context_of(run.job, run.retry).first_pass(), run.is_update, run.epoch)


def results(run: StageRun, tasks: Sequence[Task]) -> Iterator[Receipt]:
    """Have actors with the engine that asks write what is pending."""
    if tasks:
        yield from results_of(run, tasks, context_of(run.job, run.retry).first_pass())
