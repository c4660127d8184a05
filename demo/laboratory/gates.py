"""What gates tell of true and false pairs: areas under ROC curves, and thresholds set on pairs that they do not rate.

A gate keeps pairs whose value is at least a threshold; a combination keeps what each of its gates keeps, as
`select.keep` does. Thresholds are set on the pairs of the other seeds and counted on those of one, so a gate is not
praised for what it was fitted to.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Values = NDArray[np.float64]
Mask = NDArray[np.bool_]
LEVELS = 25  # thresholds of a gate that are tried: quantiles of its values
ROUNDS = 4  # over the gates of a combination, each set while the others stay


@dataclass(frozen=True)
class Pairs:
    """The pairs of a generator with everything that was measured of them.

    Attributes:
        seed: The series of pictures of each pair, (pairs,) int.
        is_true: What the oracle says, (pairs,) bool; a pair that it cannot read is not true.
        values: Gate → its values, (pairs,); not a number where it has none, which drops no pair.
        calls: Gate → engine calls a pair.
        tokens: Gate → tokens a pair, prompts and replies, without those found in a prefix cache.
    """

    seed: NDArray[np.int64]
    is_true: Mask
    values: Mapping[str, Values]
    calls: Mapping[str, float]
    tokens: Mapping[str, float]

    def of(self, gates: Iterable[str], rows: Mask) -> Values:
        """Return the values of gates on some pairs, (pairs, gates); the highest where a gate has none."""
        columns = [np.nan_to_num(self.values[gate][rows], nan=np.inf) for gate in gates]
        return np.stack(columns, axis=1)


@dataclass(frozen=True)
class Trial:
    """How a combination does on the pairs of one seed.

    Attributes:
        area: Area under the ROC curve; of several gates, under that of the mean of their ranks.
        kept: Share of the pairs that are kept.
        true_of_kept: Share of the kept pairs that are true.
        true_kept: Share of the true pairs that are kept.
        thresholds: One for each gate.
    """

    area: float
    kept: float
    true_of_kept: float
    true_kept: float
    thresholds: tuple[float, ...]


def area_under_roc(values: Values, is_true: Mask) -> float:
    """Return the probability that a true pair has a higher value than a false one; ties count half."""
    order = np.unique(values, return_inverse=True)[1]
    true, false = (np.bincount(order[mask], minlength=order.max() + 1) for mask in (is_true, ~is_true))
    below = np.concatenate([[0], np.cumsum(false)[:-1]])
    total = float(true.sum()) * float(false.sum())
    return float((true * (below + false / 2)).sum() / total) if total else float("nan")


def mean_rank(values: Values) -> Values:
    """Return the mean over the gates of each pair's rank, (pairs, gates) -> (pairs,), from 0 to 1."""
    ranks = [np.unique(column, return_inverse=True)[1] / max(1, len(np.unique(column)) - 1) for column in values.T]
    return np.asarray(np.mean(ranks, axis=0))


def thresholds_for(values: Values, is_true: Mask, least: float) -> tuple[float, ...]:
    """Return the thresholds that keep the highest share of true pairs among those that keep enough of them.

    Args:
        values: (pairs, gates).
        is_true: (pairs,).
        least: Share of the true pairs that must be kept.
    """
    shares = np.linspace(0, 1, LEVELS + 1)[:-1]
    levels = [np.unique(np.quantile(column[np.isfinite(column)], shares, method="lower")) for column in values.T]
    chosen = [-np.inf] * len(levels)
    for _ in range(ROUNDS):
        before = list(chosen)
        for gate, tried in enumerate(levels):
            others = kept_by(values, [*chosen[:gate], -np.inf, *chosen[gate + 1 :]])
            chosen[gate] = max(
                (-np.inf, *map(float, tried)),
                key=lambda level: _worth(others & (values[:, gate] >= level), is_true, least),
            )
        if chosen == before:
            break
    return tuple(chosen)


def kept_by(values: Values, thresholds: Sequence[float]) -> Mask:
    """Return which pairs reach every threshold, (pairs,)."""
    return np.asarray((values >= np.asarray(thresholds)).all(axis=1))


def _worth(kept: Mask, is_true: Mask, least: float) -> tuple[float, float]:
    """Return what a selection is ordered by: first that it keeps enough, then how much of it is true."""
    true_kept = float((kept & is_true).sum() / max(1, is_true.sum()))
    if true_kept < least:
        return -1.0, true_kept
    return float((kept & is_true).sum() / max(1, kept.sum())), true_kept


def trials(pairs: Pairs, gates: Sequence[str], least: float) -> list[Trial]:
    """Try a combination on each seed, with thresholds that are set on the others."""
    found = []
    for seed in np.unique(pairs.seed):
        own, others = pairs.seed == seed, pairs.seed != seed
        limits = thresholds_for(pairs.of(gates, others), pairs.is_true[others], least)
        values, is_true = pairs.of(gates, own), pairs.is_true[own]
        kept = kept_by(values, limits)
        ranks = values[:, 0] if len(gates) == 1 else mean_rank(values)
        found.append(
            Trial(
                area=area_under_roc(ranks, is_true),
                kept=float(kept.mean()),
                true_of_kept=float(is_true[kept].mean()) if kept.any() else float("nan"),
                true_kept=float(kept[is_true].mean()) if is_true.any() else float("nan"),
                thresholds=limits,
            )
        )
    return found
