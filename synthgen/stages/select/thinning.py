"""Which pairs of a group are dropped: the lowest of it, those beyond a quota, the commoner of two answers.

All arrays have one entry for each pair. The best pair of a group is the one with the highest value (NaN is the lowest),
then the one with the lowest key; so the order of the pairs never matters.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from math import ceil, floor

import numpy as np
import numpy.typing as npt

Numbers = npt.NDArray[np.int64]
Mask = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class Pairs:
    """Some pairs of the set.

    Attributes:
        numbers: Of the pairs among all, (pairs,) int64.
        groups: The group of each, (pairs,) int64, from 0.
        values: By which the best are found, (pairs,) float32.
        keys: Of the ids, (pairs,) uint64.
    """

    numbers: Numbers
    groups: Numbers
    values: npt.NDArray[np.float32]
    keys: npt.NDArray[np.uint64]

    @property
    def counts(self) -> Numbers:
        """The number of pairs of each group, (groups,) int64."""
        return np.bincount(self.groups).astype(np.int64)

    def places(self) -> Numbers:
        """Return how many better pairs of its group there are for each pair, (pairs,) int64."""
        order = np.lexsort((self.keys, -self.values, self.groups))
        starts = np.concatenate([[0], np.cumsum(self.counts)])
        places = np.empty(len(order), np.int64)
        places[order] = np.arange(len(order)) - starts[self.groups[order]]
        return places


def share_of(share: float, counts: Numbers) -> Numbers:
    """Return a share of counts, rounded down; 0.29 of 100 is 29, which binary fractions would make 28."""
    exact = Fraction(str(share))
    distinct, inverse = np.unique(counts, return_inverse=True)
    found: Numbers = np.array([floor(exact * int(count)) for count in distinct], np.int64)[inverse]
    return found


def least_count(share: float) -> int:
    """Return the least count of which a share is one or more."""
    return ceil(1 / Fraction(str(share)))


def lowest(pairs: Pairs, drop: float) -> Mask:
    """Return the pairs that are among the lowest of their group, a share of it that is rounded down."""
    counts = pairs.counts
    kept = counts - share_of(drop, counts)
    return np.asarray(pairs.places() >= kept[pairs.groups])


def beyond_rarest(pairs: Pairs, sides: Numbers, most: int, ratio: float) -> Mask:
    """Return the pairs of common answers beyond `ratio` times the rarest answer of their group.

    Args:
        pairs: Those that give one of the answers.
        sides: The answer of each, from 0.
        most: The number of different answers that there can be; one that nobody gives is the rarest.
        ratio: Most pairs of an answer for each of the rarest.
    """
    of_side = pairs.groups * most + sides
    counts = np.bincount(of_side, minlength=most * len(pairs.counts)).reshape(-1, most)
    room = share_of(ratio, counts.min(axis=1)) if len(counts) else np.zeros(0, np.int64)
    return np.asarray(replace(pairs, groups=of_side).places() >= room[pairs.groups])


@dataclass(frozen=True)
class Cap:
    """A quota: its pairs, the best first, and the most of them or the share of all kept pairs that they may be."""

    numbers: Numbers
    most: int | None
    share: float | None

    def room(self, kept: int) -> int:
        """Return how many of its pairs may be kept if so many are kept in all."""
        return self.most if self.most is not None else floor(Fraction(str(self.share)) * kept)


def beyond_caps(is_open: Mask, caps: Sequence[Cap]) -> list[Numbers]:
    """Return the numbers of the pairs that are too many for each cap, which sees what those before it left.

    The shares are parts of what all caps leave together, of which the largest number is found by halving: a share is
    kept to within one pair for each cap with a share.
    """
    total = int(is_open.sum())
    shares = sum(cap.share is not None for cap in caps)
    low, high = (0, total + 1) if shares else (total, total)  # pairs that are kept: possible, and too many
    while high - low > 1:
        middle = (low + high) // 2
        left = total - sum(map(len, _apply(is_open, caps, middle)))
        low, high = (middle, high) if left >= middle - shares else (low, middle)
    return _apply(is_open, caps, low)


def _apply(is_open: Mask, caps: Sequence[Cap], kept: int) -> list[Numbers]:
    """Return the numbers of the pairs beyond each cap, one cap after the other, if so many pairs are kept in all."""
    is_kept, dropped = is_open.copy(), list[Numbers]()
    for cap in caps:
        beyond = cap.numbers[is_kept[cap.numbers]][cap.room(kept) :]
        is_kept[beyond] = False
        dropped.append(beyond)
    return dropped
