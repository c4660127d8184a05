"""Fits thresholds to labelled scores, and measures precision, recall and F1.

The thresholds of a level are fitted together, for the best F1 over all its (image, node) cells: a wrong tag costs the
same wherever it is. So a node that the scores cannot separate is left to its parent; a fit node by node would tag every
image with it. Levels are fitted from the leaves up, each to the images on which nothing below it was found: only there
does its own threshold decide.

To the counts of each node those of its level's average node are added, as if PRIOR more images had been labelled: a
node with two images gets nearly the threshold of its level, one with two hundred its own.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from synthgen.config.taxonomy import Tree
from synthgen.taggers import Limits, TreeScores

Floats = NDArray[np.float64]
Flags = NDArray[np.bool_]
PRIOR = 20.0  # images of the level's average node that are added to each node
ROUNDS = 30  # at most; about five are needed
TOLERANCE = 1e-6
# Candidate thresholds from 0.0001 to 0.9999, at equal steps of the log-odds because SigLIP's scores crowd near 0, and
# rounded as they are written to the file.
STEPS: Floats = np.array([float(f"{1 / (1 + np.exp(-x)):.4g}") for x in np.linspace(-9.2, 9.2, 185)])


@dataclass(frozen=True)
class LabelledScores:
    """Labelled images; all arrays are (images, nodes), with nodes in the order of the tree.

    Attributes:
        scores: The tagger's scores, float32.
        true: Which nodes the image shows, bool.
        known: Of which nodes that is known, bool; an image labelled `animal` may or may not show a cat.
    """

    scores: NDArray[np.float32]
    true: Flags
    known: Flags

    def select(self, images: Sequence[int] | NDArray[np.int64]) -> "LabelledScores":
        """Return the rows of these images."""
        return LabelledScores(self.scores[images], self.true[images], self.known[images])


@dataclass(frozen=True)
class Quality:
    """Precision and recall over the known cells."""

    precision: float
    recall: float

    @property
    def f1(self) -> float:
        """Their harmonic mean; 0 if both are 0."""
        return 2 * self.precision * self.recall / max(self.precision + self.recall, 1e-9)


def node_levels(tree: Tree) -> NDArray[np.int64]:
    """Return the level of each node, 0 for roots: (nodes,) int64."""
    return np.array([path.count("/") for path in tree.nodes])


def fit(labelled: LabelledScores, tree: Tree, own: Floats) -> tuple[Floats, list[int]]:
    """Fit the threshold of every node.

    Args:
        labelled: The labelled images.
        tree: The nodes.
        own: The tagger's own thresholds, (nodes,) float64.

    Returns:
        The thresholds, (nodes,) float64, and the levels that no image informs, which keep their own thresholds.
    """
    level, thresholds = node_levels(tree), own.copy()
    tagged, unfitted = np.zeros_like(labelled.true), []
    for depth in sorted(set(level.tolist()), reverse=True):
        nodes = np.flatnonzero(level == depth)
        implied = with_ancestors(tagged, tree)[:, nodes]
        part = LabelledScores(labelled.scores[:, nodes], labelled.true[:, nodes], labelled.known[:, nodes])
        has_labels = (part.true & part.known).any()
        is_decisive = (part.known & ~implied).any()
        if has_labels and is_decisive:
            thresholds[nodes] = _fit_level(part, implied)
        else:  # all steps would be equally good, and the middle one would be arbitrary
            unfitted.append(depth)
        tagged[:, nodes] = implied | (part.scores >= thresholds[nodes])
    return thresholds, unfitted[::-1]


def _fit_level(part: LabelledScores, implied: Flags) -> Floats:
    """Return the thresholds of one level that together give the best F1: (nodes,) float64.

    F1 is a ratio of sums, so Dinkelbach's method applies: with F the best F1 so far, each node takes the threshold that
    maximises hits - F / 2 * tags, which raises F until it converges. Lipton et al., arXiv 1402.1892, show that F / 2 is
    the trade-off of an optimal classifier.

    Args:
        part: The nodes of the level.
        implied: (images, nodes) bool, the cells that a tag below implies whatever the threshold.
    """
    decided = part.known & ~implied
    hits = _count_at_least(part.scores, part.true & decided)
    false_alarms = _count_at_least(part.scores, ~part.true & decided)
    implied_hits = float((part.true & part.known & implied).sum())
    implied_tags = float((part.known & implied).sum())
    positives = float((part.true & part.known).sum())
    weight = PRIOR / max(positives, 1.0)
    smooth_hits, smooth_alarms = (
        counts + weight * counts.sum(axis=1, keepdims=True) for counts in (hits, false_alarms)
    )
    nodes, trade_off = np.arange(hits.shape[1]), 0.25  # F1 / 2
    steps = np.zeros(hits.shape[1], dtype=np.int64)
    for _ in range(ROUNDS):
        steps = _middle_of_best(smooth_hits - trade_off * (smooth_hits + smooth_alarms))
        all_hits = hits[steps, nodes].sum() + implied_hits
        all_tags = (hits + false_alarms)[steps, nodes].sum() + implied_tags
        previous, trade_off = trade_off, float(all_hits / max(all_tags + positives, 1.0))
        if abs(trade_off - previous) < TOLERANCE:
            break
    return STEPS[steps]


def _count_at_least(scores: NDArray[np.float32], counted: Flags) -> Floats:
    """Return how many of the counted cells of each node score at least each step: (steps, nodes) float64."""
    # The number of steps that a score reaches; none for a score that is not a number.
    step = np.searchsorted(STEPS, np.nan_to_num(scores), side="right")
    reached = np.zeros((len(STEPS) + 1, scores.shape[1]))
    image, node = np.nonzero(counted)
    np.add.at(reached, (step[image, node], node), 1.0)
    at_least: Floats = reached[::-1].cumsum(axis=0)[::-1][1:]
    return at_least


def _middle_of_best(gain: Floats) -> NDArray[np.int64]:
    """Return for each node the middle of the first run of best steps, which is farthest from both kinds of error.

    Args:
        gain: (steps, nodes) float64.

    Returns:
        The indices of the steps, (nodes,) int64.
    """
    best = gain >= gain.max(axis=0, keepdims=True) - 1e-9
    first = best.argmax(axis=0)
    is_past_run = np.where(np.arange(len(gain))[:, None] > first, ~best, False)
    end = np.where(is_past_run.any(axis=0), is_past_run.argmax(axis=0), len(gain))
    middle: NDArray[np.int64] = (first + end - 1) // 2
    return middle


def apply_thresholds(
    scores: NDArray[np.float32], thresholds: Floats, tree: Tree, limits: Limits, backs_off: bool = True
) -> Flags:
    """Return the tags that a tagger gives, with their ancestors: (images, nodes) bool.

    Args:
        scores: (images, nodes) float32.
        thresholds: (nodes,) float64.
        tree: The nodes.
        limits: The tagger's rules.
        backs_off: Whether an inner node can be a tag where none of its leaves is.
    """
    nodes = TreeScores(tree)
    tagged = np.zeros(scores.shape, dtype=bool)
    effective = thresholds if backs_off else np.where(nodes.is_leaf, thresholds, np.inf)
    for image, row in enumerate(scores):
        tagged[image, nodes.select(row, effective, limits)] = True
    return with_ancestors(tagged, tree)


def with_ancestors(tagged: Flags, tree: Tree) -> Flags:
    """Return the tags with the ancestors of each: (images, nodes) bool."""
    column = {path: index for index, path in enumerate(tree.nodes)}
    implied = tagged.copy()
    for path in reversed(list(tree.nodes)):  # children before their parents
        if parent := tree.nodes[path].parent:
            implied[:, column[parent]] |= implied[:, column[path]]
    return implied


def evaluate(tagged: Flags, labelled: LabelledScores, nodes: Flags) -> Quality:
    """Measure tags against labels.

    Args:
        tagged: (images, nodes) bool.
        labelled: The labelled images.
        nodes: (nodes,) bool, the nodes to measure.
    """
    known = labelled.known[:, nodes]
    given, true = tagged[:, nodes] & known, labelled.true[:, nodes] & known
    hits = float((given & true).sum())
    return Quality(hits / max(float(given.sum()), 1.0), hits / max(float(true.sum()), 1.0))
