"""The weights of instruction types for images: what the rules that fire ask, boost and forbid.

A rule asks with its weight times a factor: the best score among the tags that make it fire over the best score of the
image, but `plan.side_tags` at least. So the subject of an image shapes its questions more than what stands beside it. A
`boost` counts whatever the scores are. A `never` counts where the factor is above a quarter: a doubtful side tag does
not strike out the types of the subject.
"""

from collections.abc import Mapping, Sequence
from itertools import chain

import numpy as np

from synthgen.config.mapping import Match, RuleSet
from synthgen.stages.plan.sampling import Floats, Indexes

DOUBTFUL = 0.25  # factor up to which the `never` of a rule does not count
CACHED_EFFECTS = 4096  # sets of rules whose boosts and nevers are kept


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
        self._asks = np.asarray(self._ask.any(axis=1))
        self._acts = np.asarray((self._boost != 1).any(axis=1) | self._never.any(axis=1))
        self._known: dict[bytes, Floats] = {}

    def matrix(self, matches: Sequence[Match]) -> Floats:
        """Return the weights for the rules that fire for each image, (images, types) float64."""
        counts = [len(match) for match in matches]
        rules = np.fromiter(chain.from_iterable(matches), np.int64, sum(counts))
        factors = self.factor(np.fromiter(chain.from_iterable(match.values() for match in matches), float, sum(counts)))
        images = np.repeat(np.arange(len(matches)), counts)
        return self._asked(images, rules, factors, len(matches)) * self._effects(images, rules, factors, len(matches))

    def _asked(self, images: Indexes, rules: Indexes, factors: Floats, count: int) -> Floats:
        """Return the sums of what rules ask, (images, types); the other arrays are (fired rules,), image by image."""
        asks = self._asks[rules]
        images, rules, factors = images[asks], rules[asks], factors[asks]
        places = np.arange(len(images)) - np.searchsorted(images, images)
        weights = np.zeros((count, len(self._types)))
        # The rules of an image are added one after the other, so that its sum does not depend on the other images.
        for place in range(int(places.max(initial=-1)) + 1):
            here = places == place
            weights[images[here]] += self._ask[rules[here]] * factors[here, None]
        return weights

    def _effects(self, images: Indexes, rules: Indexes, factors: Floats, count: int) -> Floats:
        """Return the products of the boosts and the balance, 0 where a type is forbidden, (images, types)."""
        acts = self._acts[rules]
        codes = 2 * rules[acts] + (factors[acts] > DOUBTFUL)
        ends = np.searchsorted(images[acts], np.arange(count), side="right").tolist()
        rows = [self._effect(codes[start:end]) for start, end in zip([0, *ends], ends, strict=False)]
        return np.array(rows).reshape(count, len(self._types))

    def _effect(self, codes: Indexes) -> Floats:
        """Return the effect of some rules, (types,); a code is twice a rule, and 1 more where its `never` counts."""
        key = codes.tobytes()
        if key not in self._known:
            if len(self._known) >= CACHED_EFFECTS:
                self._known.clear()
            effect = self._boost[codes // 2].prod(axis=0) * self._factors
            effect[self._never[codes[codes % 2 == 1] // 2].any(axis=0)] = 0
            self._known[key] = effect
        return self._known[key]

    def by_type(self, match: Match) -> dict[str, float]:
        """Return the types that are asked where these rules fire, each with its weight."""
        weights = zip(self._types, self.matrix([match])[0].tolist(), strict=True)
        return {path: weight for path, weight in weights if weight > 0}

    def factor(self, shares: Floats) -> Floats:
        """Return the factors on rules whose tags have these shares of the best score."""
        return np.maximum(shares, self._side_tags)
