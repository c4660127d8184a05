"""Clusters of near items, and the rule by which no more than so many of a group are kept."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from synthgen.dedup.greedy import Indexes, Mask, Words


@dataclass(frozen=True)
class Clusters:
    """Items that are near to another one, which is kept: the centre of their cluster.

    Attributes:
        members: Without the centres, (members,) int64.
        centres: Of each member, (members,) int64.
        similarities: Of each member to its centre, (members,) float32.
    """

    members: Indexes
    centres: Indexes
    similarities: npt.NDArray[np.float32]

    @staticmethod
    def joined(parts: "list[Clusters]") -> "Clusters":
        """Return several sets of clusters as one."""
        arrays = zip(*((part.members, part.centres, part.similarities) for part in [EMPTY, *parts]), strict=True)
        return Clusters(*map(np.concatenate, arrays))

    def are_beyond(self, rank: Indexes, most: int) -> Mask:
        """Return which members come after `most` items of their cluster, its centre included, by their rank."""
        return np.asarray(places_in_groups(self.centres, rank[self.members]) + 1 >= most)

    def where(self, mask: Mask) -> "Clusters":
        """Return some of the members."""
        return Clusters(self.members[mask], self.centres[mask], self.similarities[mask])


EMPTY = Clusters(np.empty(0, np.int64), np.empty(0, np.int64), np.empty(0, np.float32))


def places_in_groups(groups: Indexes | Words, rank: Indexes) -> Indexes:
    """Return how many items of its group come before each item, by their rank; all arrays are (items,)."""
    order = np.lexsort((rank, groups))
    ordered = groups[order]
    is_first = np.ones(len(order), bool)
    is_first[1:] = ordered[1:] != ordered[:-1]
    start = np.flatnonzero(is_first)
    places = np.empty(len(order), np.int64)
    places[order] = np.arange(len(order)) - np.repeat(start, np.diff(np.append(start, len(order))))
    return places
