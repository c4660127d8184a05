"""How well one judge says what another said: numbers between 0 and 1, but for the rank correlation."""

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float32]
BINS = 10  # of the calibration error


def rank_correlation(one: Floats, other: Floats) -> float:
    """Return Spearman's rank correlation; 0 where one of them is constant."""
    ranks = [_ranks(values) for values in (one, other)]
    if any(values.std() == 0 for values in ranks):
        return 0.0
    return float(np.corrcoef(ranks[0], ranks[1])[0, 1])


def _ranks(values: Floats) -> npt.NDArray[np.float64]:
    """Return the ranks of values; equal ones share the mean of theirs."""
    _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    ends = np.cumsum(counts)
    return ((ends - counts + ends - 1) / 2)[inverse]


def f1(said: npt.NDArray[np.bool_], true: npt.NDArray[np.bool_]) -> float:
    """Return the F1 of a prediction; 0 without any hit."""
    hits = int((said & true).sum())
    return 2 * hits / int(said.sum() + true.sum()) if hits else 0.0


def calibration_error(predicted: Floats, grades: Floats) -> float:
    """Return the mean distance of prediction and grade over BINS equal parts of the predictions, weighted by size."""
    place = np.minimum((predicted * BINS).astype(int), BINS - 1)
    parts = [(place == number) for number in range(BINS)]
    apart = [abs(float(predicted[part].mean() - grades[part].mean())) * part.sum() for part in parts if part.any()]
    return float(sum(apart) / len(grades))
