"""What labels measure: shares with their intervals, the agreement of people, and how a score tells right from wrong."""

from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from itertools import pairwise
from statistics import NormalDist

import numpy as np

CONFIDENCE = 0.95
CHANCE = 0.5  # the ROC area of a score that tells nothing
LEAST_EACH = 5  # right pairs, and wrong ones: from fewer nothing follows
LEAST_ABOVE = 10  # labelled pairs that a proposed threshold keeps, at least


@dataclass(frozen=True)
class Share:
    """A share with its Wilson interval.

    Attributes:
        count: Of labelled pairs; of weighted ones how many equal ones tell as much (Kish).
    """

    value: float
    count: float

    @property
    def interval(self) -> tuple[float, float]:
        """The ends of the interval at CONFIDENCE."""
        z, n, p = NormalDist().inv_cdf((1 + CONFIDENCE) / 2), self.count, self.value
        middle = (p + z * z / (2 * n)) / (1 + z * z / n)
        half = z / (1 + z * z / n) * float(np.sqrt(p * (1 - p) / n + z * z / (4 * n * n)))
        return max(0.0, middle - half), min(1.0, middle + half)


def share_of(is_right: Sequence[bool], weights: Sequence[float] | None = None) -> Share | None:
    """Return the share of right ones, weighted where weights are given; None of none."""
    if not is_right:
        return None
    weight = np.ones(len(is_right)) if weights is None else np.array(weights)
    value = float(np.average(np.array(is_right, float), weights=weight))
    return Share(value, float(weight.sum() ** 2 / (weight**2).sum()))


def alpha(units: Collection[Sequence[str]]) -> float | None:
    """Return Krippendorff's alpha of nominal labels, each unit with those of several people.

    Returns:
        1 for full agreement, 0 for that of chance; None where no unit has two labels, or all labels are the same.
    """
    several = [unit for unit in units if len(unit) > 1]
    totals = Counter(label for unit in several for label in unit)
    count = sum(totals.values())
    expected = count * count - sum(total * total for total in totals.values())
    if not expected:
        return None
    observed = sum(
        (len(unit) ** 2 - sum(same * same for same in Counter(unit).values())) / (len(unit) - 1) for unit in several
    )
    return 1 - (count - 1) * observed / expected


def roc_area(values: Sequence[float], is_right: Sequence[bool]) -> float | None:
    """Return the chance that a right pair has a higher value than a wrong one, ties as half; None without both."""
    right = np.array(is_right, bool)
    count, others = int(right.sum()), int((~right).sum())
    if not count or not others:
        return None
    _, place, sizes = np.unique(np.array(values), return_inverse=True, return_counts=True)
    ranks = (np.cumsum(sizes) - (sizes - 1) / 2)[place]  # of equal values the mean
    return float((ranks[right].sum() - count * (count + 1) / 2) / (count * others))


def is_telling(area: float, right: int, wrong: int) -> bool:
    """Return whether so many pairs show that an area is above chance (Hanley and McNeil 1982; one side, CONFIDENCE)."""
    if min(right, wrong) < LEAST_EACH:
        return False
    of_right, of_wrong = area / (2 - area) - area**2, 2 * area**2 / (1 + area) - area**2
    variance = (area * (1 - area) + (right - 1) * of_right + (wrong - 1) * of_wrong) / (right * wrong)
    return area - NormalDist().inv_cdf(CONFIDENCE) * float(np.sqrt(max(0.0, variance))) > CHANCE


def threshold_for(values: Sequence[float], is_right: Sequence[bool], wished: float) -> tuple[float, Share] | None:
    """Return the least value from which on pairs have a wished precision, and their share of right ones.

    A value counts only if each higher one that keeps LEAST_ABOVE pairs has that precision too: a lucky spot in the
    middle is none. None where no value does.
    """
    order = np.argsort(-np.array(values, np.float64), kind="stable")
    ordered, right = np.array(values, np.float64)[order], np.cumsum(np.array(is_right, bool)[order])
    ends = [place for place, (value, below) in enumerate(pairwise([*ordered.tolist(), -np.inf]), 1) if below < value]
    best = None
    for count in ends:
        if count < LEAST_ABOVE:
            continue
        if right[count - 1] / count < wished:
            break
        best = float(ordered[count - 1]), Share(float(right[count - 1] / count), count)
    return best
