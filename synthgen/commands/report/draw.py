"""Questions drawn for the gallery: of each type that was kept and of each reason, those with the lowest ids.

An id is a hash, so the lowest of many are a fair sample, the same at each call and in whatever order they come.
"""

from bisect import insort
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from itertools import islice, zip_longest
from typing import NamedTuple

import pyarrow as pa
import pyarrow.compute as pc

from synthgen.commands.report.outcomes import DROPPED, FAILED, KEPT

MOST = {KEPT: (6, 96), DROPPED: (8, 72), FAILED: (4, 24)}  # of a group, and of all groups together
AFTER_ALL = "~"  # comes after every hexadecimal id


class Drawn(NamedTuple):
    """A question that was drawn, and where it is."""

    id: str  # of its pair, or else of its assignment
    assignment_id: str
    partition: str
    group: str


@dataclass
class Draw:
    """The questions with the lowest ids: outcome → type of kept ones, or reason of the others → at most so many.

    `most` has for each outcome that is wanted how many are drawn of a group, and of all groups together.
    """

    most: Mapping[str, tuple[int, int]] = field(default_factory=lambda: MOST)
    groups: dict[str, dict[str, list[Drawn]]] = field(default_factory=dict)

    def add(self, partition: str, rows: pa.Table) -> None:
        """Offer the questions of a partition, as of `read_rows`."""
        for outcome, by in ((KEPT, "type"), (DROPPED, "reason"), (FAILED, "reason")):
            if outcome in self.most:
                some = rows.filter(pc.equal(rows.column("outcome"), outcome))
                self._offer(outcome, partition, some, pc.fill_null(some.column(by), "none"))

    def _offer(self, outcome: str, partition: str, rows: pa.Table, groups: pa.ChunkedArray) -> None:
        drawn, (most, _) = self.groups.setdefault(outcome, {}), self.most[outcome]
        ids = pc.coalesce(rows.column("pair_id"), rows.column("assignment_id"))
        # Nearly all rows of a large run come after the last that is drawn: only the others are looked at in Python.
        bounds = {group: each[-1].id if len(each) == most else AFTER_ALL for group, each in drawn.items()}
        full = pa.array([group for group, bound in bounds.items() if bound != AFTER_ALL], pa.string())
        lasts = pa.array([bound for bound in bounds.values() if bound != AFTER_ALL], pa.string())
        bound = pc.fill_null(lasts.take(pc.index_in(groups, full)), AFTER_ALL)
        wanted = pc.less(ids, bound)
        columns = (ids, rows.column("assignment_id"), groups)
        for each, assignment, group in zip(*(column.filter(wanted).to_pylist() for column in columns), strict=True):
            known = drawn.setdefault(group, [])
            insort(known, Drawn(each, assignment, partition, group))
            del known[most:]

    def chosen(self) -> list[tuple[str, Drawn]]:
        """Return what is shown with its outcome, mixed: from each group in turn, until the outcome has enough."""
        chosen = [
            (outcome, each)
            for outcome, (_, most) in self.most.items()
            for each in _in_turn(self.groups.get(outcome, {}), most)
        ]
        return sorted(chosen, key=lambda item: item[1].id)


def _in_turn(groups: Mapping[str, list[Drawn]], most: int) -> Iterator[Drawn]:
    rounds = zip_longest(*(groups[name] for name in sorted(groups)))
    every = (each for row in rounds for each in row if each is not None)
    yield from islice(every, most)
