"""The bootstrap over images: how far a share, or the difference of two, may be off by the choice of the images.

Questions about one image are right or wrong together, so images are drawn and not questions (a cluster bootstrap; Efron
and Tibshirani 1993, chapter 8). Of two models both are taken from the same drawn images, which is the paired bootstrap:
what makes an image hard for both does not count. The intervals are percentiles.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
LEVEL = 95.0  # percent
CHUNK = 50  # resamples at once


@dataclass(frozen=True)
class Resampled:
    """Shares of some groups in every resample, (resamples, groups); not a number where a group is not in it."""

    values: Floats

    def interval(self, group: int) -> tuple[float, float] | None:
        """Return the interval of a group; None if some resamples lack it, as where it has a single image."""
        values = self.values[:, group]
        if np.isnan(values).mean() > (100 - LEVEL) / 100:
            return None
        low, high = np.nanpercentile(values, [(100 - LEVEL) / 2, (100 + LEVEL) / 2])
        return float(low), float(high)

    def above_zero(self, group: int) -> float:
        """Return the share of resamples in which a group is above 0; half of those in which it is 0 count."""
        values = self.values[:, group]
        known = values[~np.isnan(values)]
        return float(((known > 0) + 0.5 * (known == 0)).mean()) if known.size else float("nan")


def resample(images: Sequence[int], values: Floats, resamples: int, seed: int) -> Resampled:
    """Return the mean of each group over resamples of the images.

    Args:
        images: The number of the image of each item, from 0 on, (items,).
        values: The value of each item in each group, (items, groups); not a number where it is not in it.
        resamples: How often images are drawn, as many as there are, with replacement.
        seed: Of the draws: with the same images and seed, two calls draw the same.
    """
    numbers = np.asarray(images)
    count = int(numbers.max()) + 1
    known = ~np.isnan(values)
    sums, counts = np.zeros((count, values.shape[1])), np.zeros((count, values.shape[1]))
    np.add.at(sums, numbers, np.where(known, values, 0.0))
    np.add.at(counts, numbers, known)
    generator, means = np.random.default_rng(seed), list[Floats]()
    for start in range(0, resamples, CHUNK):
        drawn = generator.integers(0, count, (min(CHUNK, resamples - start), count))
        weights = np.stack([np.bincount(row, minlength=count) for row in drawn]).astype(float)
        with np.errstate(invalid="ignore", divide="ignore"):
            means.append((weights @ sums) / (weights @ counts))
    return Resampled(np.concatenate(means))
