"""A search through the partitions of a run, in their order, that stops when a page is full or its time is over.

So it needs no index, and the first page of a run of any size comes at once. Where the time was over first, the page
says how far the search came, and the next one goes on from there.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from synthgen.commands.browse.wanted import Place

SECONDS = 0.6  # that a page may take to search

Numbers = npt.NDArray[np.int64]
Match = Callable[[str], Numbers]  # returns the rows of a partition that are wanted, in order


@dataclass(frozen=True)
class Start:
    """Where a search begins, that row not included; without a place at the first row, or backwards at the last."""

    place: Place | None = None
    is_backwards: bool = False


@dataclass(frozen=True)
class Found:
    """The result of a search.

    Attributes:
        places: In the order of the tables, also if it went backwards.
        stopped: The last row that was looked at where the search is not at its end; None where it is.
        searched: Partitions that were looked at.
    """

    places: list[Place] = field(default_factory=list)
    stopped: Place | None = None
    searched: int = 0

    @property
    def by_partition(self) -> dict[str, list[int]]:
        """The rows of each partition."""
        found: dict[str, list[int]] = {}
        for place in self.places:
            found.setdefault(place.partition, []).append(place.row)
        return found


def search(partitions: Sequence[str], match: Match, start: Start, count: int, seconds: float = SECONDS) -> Found:
    """Return the next rows that are wanted.

    Args:
        partitions: In order.
        match: Says which rows of a partition are wanted.
        start: Where to begin.
        count: Of the rows, at most.
        seconds: After which it stops, once it has looked at a partition.
    """
    give_up, found = time.monotonic() + seconds, list[Place]()
    ordered = list(reversed(partitions)) if start.is_backwards else list(partitions)
    first = ordered.index(start.place.partition) if start.place and start.place.partition in ordered else 0
    stopped, searched = None, 0
    for number, partition in enumerate(ordered[first:]):
        if searched and time.monotonic() >= give_up:
            stopped = _edge(partition, start)
            break
        rows = match(partition)
        if number == 0 and start.place and start.place.partition == partition:
            rows = rows[rows < start.place.row] if start.is_backwards else rows[rows > start.place.row]
        searched += 1
        left = count - len(found)
        taken = rows[-left:][::-1] if start.is_backwards else rows[:left]
        found += [Place(partition, int(row)) for row in taken]
        if len(found) == count:
            is_last = len(rows) <= left and partition == ordered[-1]
            stopped = None if is_last else found[-1]
            break
    return Found(found[::-1] if start.is_backwards else found, stopped, searched)


def _edge(partition: str, start: Start) -> Place:
    """Return the place from which a search takes a whole partition."""
    return Place(partition, 2**62 if start.is_backwards else -1)
