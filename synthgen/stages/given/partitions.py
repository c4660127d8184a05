"""The partitions that both stages of an imported set work through, one after the other and in this process."""

from collections.abc import Callable, Iterator, Sequence

from synthgen.console import StageProgress
from synthgen.stages.contract import StageRun
from synthgen.store import Receipt
from synthgen.tables import StageSpec
from synthgen.workers import Task


def pending_after(run: StageRun, source: StageSpec, table: str, fingerprint: str) -> list[Task]:
    """Return the partitions of `source` that changed since the stage read them; in an update, those made otherwise too.

    Args:
        run: The run of the stage.
        source: The stage before.
        table: Of the stage; what it was made with is compared.
        fingerprint: What it would be made with now.
    """
    before, made, tasks = run.folder.log(source), run.folder.log(run.spec), list[Task]()
    for name in before.partitions:
        latest = made.latest(name)
        is_read = latest is not None and latest.receipt.reads == run.folder.digests(run.spec.inputs, [name])
        is_stale = run.is_update and made.fingerprint(name, table) != fingerprint
        if before.holds(name) and (not is_read or is_stale):
            tasks.append(Task(name, made.next_revision(name), epoch=run.epoch))
    return tasks


def done_here(run: StageRun, tasks: Sequence[Task], do: Callable[[StageRun, Task], Receipt]) -> Iterator[Receipt]:
    """Do partitions one after the other, and show how far it is."""
    with StageProgress(run.spec.name, len(tasks), "partition") as bar:
        for number, task in enumerate(tasks, 1):
            yield do(run, task)
            bar.show(number)
