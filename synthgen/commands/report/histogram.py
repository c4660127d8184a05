"""Counts of values in bins of a decimal width, in memory that does not grow with their number."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

FINEST = 0.001  # so that thresholds as people write them are edges of bins
MOST_BINS = 4096
SLACK = 0.001  # of a bin: 0.7 is a little less as float32, and belongs into the bin that begins with it

Values = npt.NDArray[np.float32]


@dataclass
class Histogram:
    """The number of values in each bin, by the number of the bin; bins ten times as wide where there are too many."""

    width: float = FINEST
    bins: Counter[int] = field(default_factory=Counter)

    def add(self, values: Values) -> None:
        """Count values; those that are not finite are left out."""
        finite = values[np.isfinite(values)].astype(np.float64)
        while True:
            numbers, counts = np.unique(np.floor(finite / self.width + SLACK), return_counts=True)
            if len(self.bins.keys() | set(numbers.tolist())) <= MOST_BINS:
                break
            self._widen()
        self.bins.update(dict(zip(map(int, numbers.tolist()), counts.tolist(), strict=True)))

    @property
    def count(self) -> int:
        """The number of values."""
        return sum(self.bins.values())

    @property
    def ends(self) -> tuple[float, float]:
        """Where the first and the last bin begin; 0 and 1 where there is no value."""
        return (min(self.bins) * self.width, max(self.bins) * self.width) if self.bins else (0.0, 1.0)

    def between(self, edges: Sequence[float]) -> list[int]:
        """Return how many values are from each edge up to the next; what is outside belongs to the outermost."""
        counts = [0] * (len(edges) - 1)
        for number, count in self.bins.items():
            place = int(np.searchsorted(edges, number * self.width + self.width * SLACK, side="right")) - 1
            counts[min(max(place, 0), len(counts) - 1)] += count
        return counts

    def least(self, value: float) -> int:
        """Return how many values are at least this one, to the width of a bin."""
        first = np.ceil(value / self.width - SLACK)
        return sum(count for number, count in self.bins.items() if number >= first)

    def most(self, value: float) -> int:
        """Return how many values are at most this one, to the width of a bin."""
        last = np.floor(value / self.width + SLACK)
        return sum(count for number, count in self.bins.items() if number <= last)

    def _widen(self) -> None:
        wide: Counter[int] = Counter()
        for number, count in self.bins.items():
            wide[number // 10] += count
        self.width, self.bins = self.width * 10, wide
