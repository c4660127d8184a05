"""Thresholds from scores and truth, and how good they are.

Comes in: the scores of every node on every image, which nodes are true of it, and of which that is known. Goes out: a threshold
for each node, tags, and precision, recall and F1. Thresholds are fitted together, for the best F1 over all cells of a level: a
wrong tag costs the same wherever it is, so a node that cannot be told apart is left to its parent, which a fit node by node
would not do. Levels are fitted from the leaves up, each to the images on which nothing below it was found, as that is where it
speaks. To what a node has seen the average node of its level is added, as if PRIOR more images had been labelled: a node of two
images gets nearly its level's threshold, one of two hundred its own. SigLIP's scores crowd near 0, so thresholds are tried in
steps of equal odds and not of equal size.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from synthgen.config.taxonomy import Tree

Floats = NDArray[np.float64]
Flags = NDArray[np.bool_]
PRIOR = 20.0  # images' worth of the level's average node that is added to each node
ROUNDS = 30  # at most; five are usual
# From 0.0001 to 0.9999, rounded as they will stand in the file.
STEPS: Floats = np.array([float(f"{1 / (1 + np.exp(-x)):.4g}") for x in np.linspace(-9.2, 9.2, 185)])


@dataclass(frozen=True)
class LabelledScores:
    """A labelled set: arrays have a row an image and a column a node, in the order of the tree."""

    scores: NDArray[np.float32]
    true: Flags
    known: Flags  # where a label stops at `animal`, nobody knows whether it is a cat

    def of(self, images: Sequence[int] | NDArray[np.int64]) -> "LabelledScores":
        """These images alone."""
        return LabelledScores(self.scores[images], self.true[images], self.known[images])


@dataclass(frozen=True)
class Quality:
    """Over all cells together that are known."""

    precision: float
    recall: float

    @property
    def f1(self) -> float:
        """Their harmonic mean; 0 where nothing was right."""
        return 2 * self.precision * self.recall / max(self.precision + self.recall, 1e-9)


def levels(tree: Tree) -> NDArray[np.int64]:
    """The level of every node, roots first: 0, 1, …"""
    return np.array([path.count("/") for path in tree.nodes])


def fit(known: LabelledScores, tree: Tree, own: Floats) -> tuple[Floats, list[int]]:
    """A threshold for each node, and the levels that no image speaks of: of these the tagger's own thresholds stay."""
    level, thresholds, found, kept = levels(tree), own.copy(), np.zeros_like(known.true), []
    for one in sorted(set(level.tolist()), reverse=True):
        members = np.flatnonzero(level == one)
        implied = with_ancestors(found, tree)[:, members]
        part = LabelledScores(known.scores[:, members], known.true[:, members], known.known[:, members])
        if (part.true & part.known).any() and (part.known & ~implied).any():
            thresholds[members] = _fit_level(part, implied)
        else:  # every step would be as good as any other, and the middle of them means nothing
            kept.append(one)
        found[:, members] = implied | (part.scores >= thresholds[members])
    return thresholds, kept[::-1]


def _fit_level(part: LabelledScores, implied: Flags) -> Floats:
    """The thresholds of one level that together give the best F1, by Dinkelbach's method: with F the best F1 so far, each node
    takes the threshold of most hits - F / 2 * tags, which raises F until it stays (arXiv 1402.1892 shows that F / 2 is the
    trade of an optimal classifier)."""
    counted = part.known & ~implied
    hits, alarms = _at_least(part.scores, part.true & counted), _at_least(part.scores, ~part.true & counted)
    fixed_hits, fixed = float((part.true & part.known & implied).sum()), float((part.known & implied).sum())
    there = float((part.true & part.known).sum())
    weight = PRIOR / max(there, 1.0)
    smooth_hits, smooth_alarms = (one + weight * one.sum(axis=1, keepdims=True) for one in (hits, alarms))
    nodes, trade, steps = np.arange(hits.shape[1]), 0.25, np.zeros(hits.shape[1], dtype=np.int64)
    for _ in range(ROUNDS):
        steps = _middle_of_best(smooth_hits - trade * (smooth_hits + smooth_alarms))
        right, given = hits[steps, nodes].sum() + fixed_hits, (hits + alarms)[steps, nodes].sum() + fixed
        before, trade = trade, float(right / max(given + there, 1.0))  # F1 / 2
        if abs(trade - before) < 1e-6:
            break
    return STEPS[steps]


def _at_least(scores: NDArray[np.float32], counted: Flags) -> Floats:
    """How many of the counted cells of each node reach each step: (steps, nodes)."""
    step = np.searchsorted(
        STEPS, np.nan_to_num(scores), side="right"
    )  # how many steps a score reaches; one that is none, no step
    reached = np.zeros((len(STEPS) + 1, scores.shape[1]))
    image, node = np.nonzero(counted)
    np.add.at(reached, (step[image, node], node), 1.0)
    above: Floats = reached[::-1].cumsum(axis=0)[::-1][1:]
    return above


def _middle_of_best(worth: Floats) -> NDArray[np.int64]:
    """For each node the middle of the first run of steps that are worth as much as any: the farthest from both kinds of mistake."""
    best = worth >= worth.max(axis=0, keepdims=True) - 1e-9
    first = best.argmax(axis=0)
    after = np.where(np.arange(len(worth))[:, None] > first, ~best, False)
    end = np.where(after.any(axis=0), after.argmax(axis=0), len(worth))
    middle: NDArray[np.int64] = (first + end - 1) // 2
    return middle


def said(scores: NDArray[np.float32], thresholds: Floats, tree: Tree, most: int, backs_off: bool = True) -> Flags:
    """The tags as the tagger gives them, ancestors implied: at most `most` of an image, the surest. Without `backs_off` an
    inner node is a tag only where one of its leaves is."""
    found = scores >= thresholds
    if not backs_off:
        found &= np.array([not node.children for node in tree])
    ranks = np.where(found, -scores, np.inf).argsort(axis=1, kind="stable").argsort(axis=1, kind="stable")
    return with_ancestors(found & (ranks < most), tree)


def with_ancestors(found: Flags, tree: Tree) -> Flags:
    """The same with every node above one that is there."""
    place = {path: number for number, path in enumerate(tree.nodes)}
    implied = found.copy()
    for path in reversed(list(tree.nodes)):  # children before their parents
        if parent := tree.nodes[path].parent:
            implied[:, place[parent]] |= implied[:, place[path]]
    return implied


def quality(found: Flags, known: LabelledScores, columns: Flags) -> Quality:
    """How good tags are, over some nodes."""
    counted = known.known[:, columns]
    given, true = found[:, columns] & counted, known.true[:, columns] & counted
    hits = float((given & true).sum())
    return Quality(hits / max(float(given.sum()), 1.0), hits / max(float(true.sum()), 1.0))
