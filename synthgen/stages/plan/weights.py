"""The weights of instruction types for images: what the rules that fire ask, boost and forbid.

A rule asks with its weight times a factor: the best score among the tags that make it fire over the best score of the
image, but `plan.side_tags` at least. So the subject of an image shapes its questions more than what stands beside it. A
`boost` counts whatever the scores are. A `never` counts where the factor is above a quarter: a doubtful side tag does
not strike out the types of the subject.
"""

from collections.abc import Mapping, Sequence

import numpy as np

from synthgen.config.mapping import Match, RuleSet
from synthgen.stages.plan.sampling import Floats

DOUBTFUL = 0.25  # factor up to which the `never` of a rule does not count
CACHED_EFFECTS = 4096  # sets of rules whose boosts and nevers are kept

Effects = tuple[tuple[int, bool], ...]  # the rules that boost or forbid, each with whether its `never` counts


class Weights:
    """The weights of all instruction types; the `ask` of rules is added up, their `boost` multiplied."""

    def __init__(
        self, rules: RuleSet, types: Sequence[str], factors: Mapping[str, float], side_tags: float = 1.0
    ) -> None:
        """Prepare the weights.

        Args:
            rules: The mapping.
            types: The instruction types.
            factors: Type → the factor on its weight, from balancing.
            side_tags: `plan.side_tags`.
        """
        shape = (len(rules.rules), len(types))
        self._types, self._side_tags = types, side_tags
        self._ask = np.array([[rule.ask.get(path, 0.0) for path in types] for rule in rules.rules]).reshape(shape)
        self._boost = np.array([[rule.boost.get(path, 1.0) for path in types] for rule in rules.rules]).reshape(shape)
        self._never = np.array([[path in rule.never for path in types] for rule in rules.rules], bool).reshape(shape)
        self._factors = np.array([factors.get(path, 1.0) for path in types])
        self._asks = frozenset(np.flatnonzero(self._ask.any(axis=1)).tolist())
        self._acts = frozenset(np.flatnonzero((self._boost != 1).any(axis=1) | self._never.any(axis=1)).tolist())
        self._known: dict[Effects, Floats] = {}

    def matrix(self, matches: Sequence[Match]) -> Floats:
        """Return the weights for the rules that fire for each image, (images, types) float64."""
        asks = [[(number, share) for number, share in match.items() if number in self._asks] for match in matches]
        longest = max(map(len, asks), default=0)
        weights = np.zeros((len(matches), len(self._types)))
        # The rules of an image are added one after the other, so that its sum does not depend on the other images.
        for place in range(longest):
            images = [number for number, row in enumerate(asks) if len(row) > place]
            rules = [asks[number][place][0] for number in images]
            shares = np.array([asks[number][place][1] for number in images])
            weights[images] += self._ask[rules] * self.factor(shares)[:, None]
        weights *= np.array([self._effects(match) for match in matches]).reshape(weights.shape)
        return weights

    def by_type(self, match: Match) -> dict[str, float]:
        """Return the types that are asked where these rules fire, each with its weight."""
        weights = zip(self._types, self.matrix([match])[0].tolist(), strict=True)
        return {path: weight for path, weight in weights if weight > 0}

    def factor(self, shares: Floats) -> Floats:
        """Return the factors on rules whose tags have these shares of the best score."""
        return np.maximum(shares, self._side_tags)

    def _effects(self, match: Match) -> Floats:
        """Return the product of the boosts and the balance, 0 where a type is forbidden, (types,) float64."""
        key = tuple(
            (number, max(share, self._side_tags) > DOUBTFUL) for number, share in match.items() if number in self._acts
        )
        if key not in self._known:
            if len(self._known) >= CACHED_EFFECTS:
                self._known.clear()
            effects = self._boost[[number for number, _ in key]].prod(axis=0) * self._factors
            effects[self._never[[number for number, counts in key if counts]].any(axis=0)] = 0
            self._known[key] = effects
        return self._known[key]
