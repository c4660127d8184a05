"""Which pairs of a stage are taken, and why the others are not; a function of the sets, the settings and the seed."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from math import floor

import numpy as np
import numpy.typing as npt

from synthgen.commands.mix.survey import Mask, Numbers, Source, Survey
from synthgen.config.mixture import MixtureFile
from synthgen.config.selection import fits
from synthgen.dedup.greedy import mix
from synthgen.errors import UserMistake
from synthgen.stages.select.thinning import Cap, beyond_caps

OUTCOMES = {
    "taken": "in the mixture",
    "not_packed": "its image could not be packed in its folder",
    "type": "its type is none of those that are taken",
    "where": "its image has another licence or source than the mixture wants",
    "most": "its set has enough samples",
    "weight": "its set has its share of the stage",
    "duplicate": "another pair of the stage says the same about the same picture",
    "previous_dropped": "it goes on from a pair that is not taken",
    "quota": "its type, form, language or tag has its share",
}
TAKEN, NOT_PACKED, TYPE, WHERE, MOST, WEIGHT, DUPLICATE, PREVIOUS, QUOTA = range(len(OUTCOMES))
Codes = npt.NDArray[np.uint8]


@dataclass(frozen=True)
class SetCounts:
    """What became of a set: pairs by outcome, which add up to what it kept, and the samples that are taken."""

    pairs: Counter[str]
    samples: int


class Choice:
    """The outcome of each pair of a stage.

    Attributes:
        codes: Places in OUTCOMES, (pairs,).
    """

    def __init__(self, survey: Survey, sources: Sequence[Source], mixture: MixtureFile) -> None:
        """Decide.

        Raises:
            UserMistake: A set with a weight has nothing to take.
        """
        self._survey, self._sources, self._mixture = survey, sources, mixture
        pairs = survey.pairs
        self.codes: Codes = np.zeros(len(pairs.keys), np.uint8)
        self._drop(pairs.samples < 0, NOT_PACKED)
        self._drop(~self._fits_types(), TYPE)
        self._drop(~survey.samples.is_allowed[pairs.samples] & (pairs.samples >= 0), WHERE)
        self._thin()
        self._drop(survey.doubled(self.codes != TAKEN), DUPLICATE)  # of pairs that are taken alone, so none is lost
        self._fall()
        self._limit()
        self._fall()

    def counts(self) -> list[SetCounts]:
        """Return what became of each set."""
        names, found = list(OUTCOMES), list[SetCounts]()
        for number in range(len(self._sources)):
            of_set = self._survey.pairs.sets == number
            counts = np.bincount(self.codes[of_set], minlength=len(names))
            samples = np.unique(self._survey.pairs.samples[of_set & (self.codes == TAKEN)])
            found.append(SetCounts(Counter(dict(zip(names, counts.tolist(), strict=True))), len(samples)))
        return found

    def _drop(self, mask: Mask, code: int) -> None:
        self.codes[mask & (self.codes == TAKEN)] = code

    def _fits_types(self) -> Mask:
        """Return whether the type of each pair is one that its set gives."""
        pairs, found = self._survey.pairs, np.zeros(len(self.codes), bool)
        for number, source in enumerate(self._sources):
            patterns = source.settings.types
            fit = [any(fits(pattern, kind.type) for pattern in patterns) for kind in pairs.all_kinds]
            of_set = pairs.sets == number
            found[of_set] = np.array(fit, bool)[pairs.kinds[of_set]]
        return found

    def _fall(self) -> None:
        """Drop what goes on from a pair that is not taken."""
        roots = self._survey.pairs.roots
        self._drop((roots >= 0) & (self.codes[np.maximum(roots, 0)] != TAKEN), PREVIOUS)

    def _thin(self) -> None:
        """Take as many samples of each set as it may give: the first of a drawn order."""
        samples, pairs = self._survey.samples, self._survey.pairs
        seed = mix(np.array([self._mixture.seed + 1], np.uint64))
        order = np.argsort(mix(samples.keys ^ seed), kind="stable")
        is_left = np.zeros(len(samples.keys), bool)
        is_left[pairs.samples[self.codes == TAKEN]] = True
        drawn = [order[(samples.sets[order] == number) & is_left[order]] for number in range(len(self._sources))]
        for number, source in enumerate(self._sources):
            if source.settings.most is not None:
                self._leave(drawn[number][source.settings.most :], MOST)
                drawn[number] = drawn[number][: source.settings.most]
        for number, room in self._rooms([len(each) for each in drawn]).items():
            self._leave(drawn[number][room:], WEIGHT)

    def _rooms(self, counts: Sequence[int]) -> dict[int, int]:
        """Return how many samples each set with a weight gives: in proportion, and as many as can be."""
        weights = {number: s.settings.weight for number, s in enumerate(self._sources) if s.settings.weight is not None}
        for number in weights:
            if not counts[number]:
                name = self._sources[number].name
                raise UserMistake(
                    f"sets.{name}: nothing of it is left to take, so no weights of its stage hold; leave its weight out"
                )
        scale = min((counts[number] / weight for number, weight in weights.items()), default=0.0)
        return {number: min(counts[number], floor(weight * scale + 1e-9)) for number, weight in weights.items()}

    def _leave(self, samples: Numbers, code: int) -> None:
        is_left_out = np.zeros(len(self._survey.samples.keys) + 1, bool)  # the last one is that of no sample, -1
        is_left_out[samples] = True
        self._drop(is_left_out[self._survey.pairs.samples], code)

    def _limit(self) -> None:
        """Drop what is beyond the quotas of the stage."""
        is_open, quotas = self.codes == TAKEN, self._mixture.quotas.all()
        caps = [Cap(self._numbers(is_open, kind, pattern), quota.most, quota.share) for kind, pattern, quota in quotas]
        for beyond in beyond_caps(is_open, caps) if caps else ():
            mask = np.zeros(len(self.codes), bool)
            mask[beyond] = True
            self._drop(mask, QUOTA)

    def _numbers(self, is_open: Mask, kind: str, pattern: str) -> Numbers:
        """Return the pairs of a quota in the order of their keys."""
        pairs = self._survey.pairs
        if kind == "tag":
            bit = np.uint64(1 << sorted(self._mixture.quotas.tags).index(pattern))
            chosen = np.flatnonzero(is_open & ((pairs.tags & bit) > 0))
        else:
            fit = [
                fits(pattern, each.type) if kind == "type" else getattr(each, kind) == pattern
                for each in pairs.all_kinds
            ]
            chosen = np.flatnonzero(is_open & np.array(fit, bool)[pairs.kinds])
        return chosen[np.argsort(pairs.keys[chosen], kind="stable")]
