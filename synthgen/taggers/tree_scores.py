"""From the scores of texts to the scores and tags of a taxonomy's nodes. Pure arithmetic; clip.py has the model.

A node without children has the score of its own texts. A group has the best score below it, or that of its own texts
where its file gives it some (`text`), whichever is higher. The best, and not 1 - prod(1 - p): that formula takes the
scores below for independent, but siblings are near-synonyms whose scores rise and fall together, and groups differ in
size. Of 200 tags that each score .0005 by chance it makes .1, above any useful threshold, and of fourteen kinds of bar
chart that each score .03 it makes .35. The best is a lower bound of the probability of "any of these", and does not
grow with the number of tags that somebody thought of.

Names of tags are ambiguous (a bat, a seal, a volcano plot), and a group's own text says what is meant. So a root with a
text is a gate: where its text scores less than a share `gate` of the best root's text, nothing below it counts. Being a
ratio, the share needs no calibrated scores.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from synthgen.config.taxonomy import Tree

Doubles = NDArray[np.float64]
Flags = NDArray[np.bool_]
Indices = NDArray[np.int64]


@dataclass(frozen=True)
class Limits:
    """The rules by which scores become tags.

    Attributes:
        most: The largest number of tags of an image that no other tag of it implies; the surest are kept.
        most_a_parent: The largest number of leaves with the same parent; None is no limit.
        least: Where fewer leaves reach their thresholds, the next best are taken until there are so many.
        least_share: Of the threshold, and of the best leaf, that such a leaf must reach.
    """

    most: int
    most_a_parent: int | None = None
    least: int = 0
    least_share: float = 0.1


class TreeScores:
    """The nodes of a tree as arrays, in the order of the tree, in which parents come before their children."""

    def __init__(self, tree: Tree) -> None:
        self.paths = list(tree.nodes)
        column = {path: index for index, path in enumerate(self.paths)}
        self.parent: list[int] = [column.get(node.parent, -1) for node in tree]
        self.is_leaf: Flags = np.array([not node.children for node in tree], dtype=bool)
        self._families = [
            np.array([column[path] for path in paths])
            for paths in (tree.roots, *(node.children for node in tree if node.children))
        ]
        self._root: Indices = np.array([column[path.partition("/")[0]] for path in self.paths])

    @cached_property
    def _ancestors(self) -> list[list[int]]:
        above: list[list[int]] = []
        for parent in self.parent:
            above.append([] if parent < 0 else [parent, *above[parent]])
        return above

    def independent(self, logits: Doubles, has_text: Flags, gate: float) -> Doubles:
        """Return the probability of each node, for a model whose texts are scored independently (SigLIP).

        Args:
            logits: Of the texts, (images, nodes), with the model's bias; any value where a node has no text.
            has_text: (nodes,) bool.
            gate: The share of the best root's text below which a root with a text is closed.
        """
        own = np.where(has_text, _sigmoid(logits), 0.0)
        open_nodes = self._open(own, has_text, gate)
        return self._best_below(np.where(open_nodes, own, 0.0))

    def among_siblings(self, logits: Doubles, has_text: Flags, gate: float) -> Doubles:
        """Return the probability of each node, for a model whose texts compete (CLIP).

        It is the softmax share among the siblings, times the parent's probability. The arguments are those of
        `independent`.
        """
        own = np.where(has_text, logits, -np.inf)
        weights = np.exp(own - _finite_max(own[:, self._families[0]]))
        open_nodes = self._open(weights, has_text, gate)
        best = self._best_below(np.where(open_nodes, own, -np.inf))
        probabilities = np.ones_like(best)
        for family in self._families:  # parents come before their children
            shares = np.exp(best[:, family] - _finite_max(best[:, family]))
            total = shares.sum(axis=1, keepdims=True)
            parent = self.parent[family[0]]
            above = probabilities[:, [parent]] if parent >= 0 else 1.0
            probabilities[:, family] = above * shares / np.where(total == 0, 1.0, total)
        return probabilities

    def select(self, scores: NDArray[np.float32], thresholds: NDArray[np.floating], limits: Limits) -> list[int]:
        """Return the nodes that become tags of one image, the surest first.

        The deepest nodes that reach their thresholds are limited by `limits`; those above them that reach theirs are
        tags too.

        Args:
            scores: (nodes,) of the image.
            thresholds: (nodes,).
            limits: The rules.
        """
        passing = scores >= thresholds
        self._add_best_leaves(passing, scores, thresholds, limits)
        found = set(np.flatnonzero(passing).tolist())
        implied = {above for node in found for above in self._ancestors[node]}
        deepest = self._surest(found - implied, scores)
        kept = self._within_parents(deepest, limits.most_a_parent)[: limits.most]
        above_kept = {above for node in kept for above in self._ancestors[node]}
        return self._surest({*kept, *(found & above_kept)}, scores)

    def _add_best_leaves(
        self, passing: Flags, scores: NDArray[np.float32], thresholds: NDArray[np.floating], limits: Limits
    ) -> None:
        """Add leaves below their thresholds where too few reach them."""
        missing = limits.least - int((passing & self.is_leaf).sum())
        if missing <= 0:
            return
        ratios = np.where(self.is_leaf, scores / thresholds, 0.0)
        needed = limits.least_share * max(1.0, float(ratios.max(initial=0.0)))
        candidates = np.flatnonzero((ratios >= needed) & (ratios > 0) & ~passing)
        passing[sorted(candidates.tolist(), key=lambda node: (-ratios[node], self.paths[node]))[:missing]] = True

    def _surest(self, nodes: set[int], scores: NDArray[np.float32]) -> list[int]:
        return sorted(nodes, key=lambda node: (-scores[node], self.paths[node]))

    def _within_parents(self, nodes: Sequence[int], most: int | None) -> list[int]:
        """Return nodes without the leaves that are one too many of their parent."""
        kept: list[int] = []
        of_parent: dict[int, int] = {}
        for node in nodes:
            parent = self.parent[node]
            if self.is_leaf[node] and parent >= 0 and most is not None:
                of_parent[parent] = of_parent.get(parent, 0) + 1
                if of_parent[parent] > most:
                    continue
            kept.append(node)
        return kept

    def _open(self, weights: Doubles, has_text: Flags, gate: float) -> Flags:
        """Return which nodes are not below a closed root: (images, nodes) bool.

        Args:
            weights: (images, nodes), of which those of the roots' own texts are compared.
            has_text: (nodes,) bool.
            gate: The share of the largest weight below which a root with a text is closed.
        """
        roots = self._families[0]
        own = np.where(has_text[roots], weights[:, roots], 0.0)
        closed = own < gate * own.max(axis=1, keepdims=True, initial=0.0)  # never where a weight is not a number
        is_closed = np.zeros(weights.shape, dtype=bool)
        is_closed[:, roots] = closed & has_text[roots]
        below: Flags = np.array(self.parent) >= 0
        opened: Flags = ~(is_closed[:, self._root] & below)
        return opened

    def _best_below(self, values: Doubles) -> Doubles:
        """Return each node's own value, or the best below it if that is higher: (images, nodes)."""
        best = values.copy()
        for node in range(len(self.parent) - 1, -1, -1):  # children before their parents
            if (parent := self.parent[node]) >= 0:
                np.maximum(best[:, parent], best[:, node], out=best[:, parent])
        return best


def _sigmoid(logits: Doubles) -> Doubles:
    with np.errstate(invalid="ignore"):  # the embedding of a broken image may hold NaN, which gives no tag
        probabilities: Doubles = np.exp(-np.logaddexp(0.0, -logits))  # exact for small ones, as SigLIP's are
    return probabilities


def _finite_max(values: Doubles) -> Doubles:
    """Return the maximum of each row, or 0 where there is none: (rows, 1)."""
    largest = values.max(axis=1, keepdims=True)
    return np.where(np.isneginf(largest), 0.0, largest)
