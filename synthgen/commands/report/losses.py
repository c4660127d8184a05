"""What was lost before `select` and after it, and for which reasons, each with a few examples."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import islice

from synthgen.commands.dropped import Dropped, find_dropped
from synthgen.commands.report.examples import shorten
from synthgen.job.funnel import StageFunnel
from synthgen.store import RunFolder
from synthgen.tables import GENERATE, SELECT, UNSCORED

SHOWN = 3  # examples of a reason


@dataclass(frozen=True)
class LossExample:
    """A row that was lost: the name of its image, and what is known of the question and of the failure."""

    place: str
    question: str
    detail: str
    reply: str


@dataclass(frozen=True)
class Loss:
    """The rows that a stage lost for one reason."""

    stage: str
    reason: str
    count: int
    share: float  # of what came in
    examples: tuple[LossExample, ...]


def find_losses(folder: RunFolder, funnels: list[StageFunnel], shown: Callable[[str], str]) -> list[Loss]:
    """Return what was lost but for the decisions of `select`, the most frequent reason of each stage first.

    Args:
        folder: The run.
        funnels: The counts of its stages.
        shown: Returns what samples show of a uri.
    """
    return [
        Loss(stage, reason, count, count / max(1, received), tuple(_examples(folder, stage, reason, shown)))
        for stage, reason, count, received in _reasons(folder, funnels)
    ]


def _reasons(folder: RunFolder, funnels: list[StageFunnel]) -> Iterator[tuple[str, str, int, int]]:
    for funnel in funnels:
        if funnel.stage == SELECT.name:
            continue
        for reason, count in sorted(funnel.dropped.items(), key=lambda item: (-item[1], item[0])):
            if count > 0:
                yield funnel.stage, reason, count, funnel.received
    counts = folder.log(GENERATE).counts()
    for reason in UNSCORED:
        if counts.get(reason, 0) > 0:
            yield "scores", reason, counts[reason], counts.get(GENERATE.passes, 0)


def _examples(folder: RunFolder, stage: str, reason: str, shown: Callable[[str], str]) -> Iterator[LossExample]:
    rows = (row for row in find_dropped(folder, reason).rows if stage in (row.stage, "scores"))
    for row in islice(rows, SHOWN):
        yield LossExample(_place(row, shown), _question(row), shorten(row.detail), shorten(row.reply))


def _place(row: Dropped, shown: Callable[[str], str]) -> str:
    if not row.uri:
        return f"object {row.object_id or 'unknown'}"
    return shown(row.uri) if row.row is None else f"{shown(row.uri)} row {row.row}"


def _question(row: Dropped) -> str:
    return shorten(": ".join(filter(None, (row.type, row.question))))
