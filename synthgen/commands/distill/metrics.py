"""How well one judge says what another said: numbers between 0 and 1, but for the rank correlation."""

from typing import Any

import numpy as np
import numpy.typing as npt

from synthgen.commands.audit.measures import roc_area

Floats = npt.NDArray[np.float32]
Mask = npt.NDArray[np.bool_]
BINS = 10  # of the calibration error
SHOWN_BINS = 5


def measure(predicted: Floats, grades: Floats, is_sure: Mask, cut: float) -> dict[str, Any]:
    """Return how well a small judge says what another one said; all grades are between 0 and 1.

    Args:
        predicted: What the small one says, (pairs,) float32.
        grades: What the other one said, (pairs,) float32.
        is_sure: Whether the small one is, (pairs,) bool.
        cut: The grade from which on a pair counts as right.
    """
    is_right, says_so = grades >= cut, predicted >= cut
    area = roc_area(predicted.tolist(), is_right.tolist())
    found: dict[str, Any] = {
        "pairs": len(grades),
        "rank correlation": round(rank_correlation(predicted, grades), 3),
        "F1": round(f1(says_so, is_right), 3),
        "F1 of saying yes": round(f1(np.ones(len(grades), bool), is_right), 3),
        "ROC area": None if area is None else round(area, 3),
        "calibration error": round(calibration_error(predicted, grades), 3),
        "sure": round(float(is_sure.mean()), 3),
    }
    if is_sure.sum() > 1:
        found["rank correlation, sure"] = round(rank_correlation(predicted[is_sure], grades[is_sure]), 3)
        found["F1, sure"] = round(f1(says_so[is_sure], is_right[is_sure]), 3)
    return {**found, "calibration": calibration(predicted, grades)}


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
    return sum(abs(said - graded) * count for said, graded, count in _parts(predicted, grades, BINS)) / len(grades)


def calibration(predicted: Floats, grades: Floats) -> list[tuple[float, float, int]]:
    """Return mean prediction, mean grade and pairs of SHOWN_BINS equal parts of the predictions, without empty ones."""
    return [(round(said, 3), round(graded, 3), count) for said, graded, count in _parts(predicted, grades, SHOWN_BINS)]


def _parts(predicted: Floats, grades: Floats, bins: int) -> list[tuple[float, float, int]]:
    place = np.minimum((predicted * bins).astype(int), bins - 1)
    parts = [place == number for number in range(bins)]
    return [
        (float(predicted[part].mean()), float(grades[part].mean()), int(part.sum())) for part in parts if part.any()
    ]
