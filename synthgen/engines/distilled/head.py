"""The head: ridge regression on standardised features, fitted several times so that it knows where it is unsure."""

from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from synthgen.engines.distilled.embedder import Floats

MEMBERS = 8  # fits on resampled rows (bagging); their disagreement is the uncertainty
PENALTIES = (1.0, 10.0, 100.0, 1000.0)  # of squared weights, of which the best on a fifth of the rows is taken


@dataclass(frozen=True)
class Head:
    """A fitted head.

    Attributes:
        weights: (MEMBERS, features) float32.
        constants: (MEMBERS,) float32.
        centre: Mean of each feature, (features,) float32.
        scale: Standard deviation of each feature, (features,) float32.
        sure: Spread of the members up to which a grade counts as sure.
    """

    weights: Floats
    constants: Floats
    centre: Floats
    scale: Floats
    sure: float

    def predict(self, features: Floats) -> tuple[Floats, Floats]:
        """Return grades between 0 and 1 and the spread of the members, both (calls,) float32."""
        grades = ((features - self.centre) / self.scale) @ self.weights.T + self.constants
        return np.clip(grades.mean(axis=1), 0.0, 1.0), grades.std(axis=1)


def fit(features: Floats, grades: Floats, unseen: Floats, sure: float, seed: int = 0) -> Head:
    """Fit a head.

    Args:
        features: (calls, features) float32.
        grades: Between 0 and 1, (calls,) float32.
        unseen: Features of calls that are left out, by which the members are seen to differ; their grades are not
            needed. Those that members were fitted to have another spread.
        sure: Share of the calls whose grade is to count as sure.
        seed: Of the rows that members see.
    """
    centre, scale = features.mean(axis=0), np.maximum(features.std(axis=0), 1e-6)
    rows = ((features - centre) / scale).astype(np.float64)
    draws = np.random.default_rng(seed)
    held = draws.random(len(rows)) < 0.2
    penalty = (
        min(PENALTIES, key=lambda each: _error(rows, grades, held, each)) if held.any() and not held.all() else 100.0
    )
    chosen = [draws.integers(0, len(rows), len(rows)) for _ in range(MEMBERS)]
    fitted = [_ridge(rows[some], grades[some], penalty) for some in chosen]
    weights = np.stack([each for each, _ in fitted]).astype(np.float32)
    constants = np.array([constant for _, constant in fitted], np.float32)
    head = Head(weights, constants, centre, scale.astype(np.float32), np.inf)
    _, spread = head.predict(unseen)
    return replace(head, sure=float(np.quantile(spread, sure)))


def _ridge(rows: npt.NDArray[np.float64], grades: Floats, penalty: float) -> tuple[npt.NDArray[np.float64], float]:
    """Return weights and constant of least squares with a penalty; by the smaller of two equal systems."""
    mean = float(grades.mean())
    target = grades - mean
    count, width = rows.shape
    solved: npt.NDArray[np.float64]
    if count < width:
        solved = np.asarray(rows.T @ np.linalg.solve(rows @ rows.T + penalty * np.eye(count), target))
    else:
        solved = np.asarray(np.linalg.solve(rows.T @ rows + penalty * np.eye(width), rows.T @ target))
    return solved, mean


def _error(rows: npt.NDArray[np.float64], grades: Floats, held: npt.NDArray[np.bool_], penalty: float) -> float:
    weights, constant = _ridge(rows[~held], grades[~held], penalty)
    return float(np.mean((rows[held] @ weights + constant - grades[held]) ** 2))
