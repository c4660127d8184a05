"""How well a seed's mapping suits images that it was not learned from, beside choices that look at no image.

The mapping is learned again without a fifth of the seed, and measured on that fifth; so for each fifth in turn. A share
by itself says little: a mapping that offers every type to every image covers all questions. So each share stands beside
what as many types would reach if they were taken at random, or by how frequent they are in the rest of the seed.
"""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from synthgen.commands.learn import tfidf
from synthgen.commands.learn.tfidf import ALL_IMAGES, Example, TfidfSettings, Weights
from synthgen.config.taxonomy import with_ancestors

Totals = dict[str, float]  # sums over questions
PARTS = 5
ENOUGH = 50_000  # questions, after which the other parts would change a share by less than it is shown with


@dataclass(frozen=True)
class Shares:
    """The share of questions that each way of choosing types reaches: 0 to 1, or a sum of such."""

    learned: float = 0.0
    at_random: float = 0.0
    frequent: float = 0.0


@dataclass(frozen=True)
class HeldOut:
    """A mapping's success on images that were left out when it was learned.

    Attributes:
        questions: How many there are of these images.
        types: Instruction types in the seed.
        offered: Types that an image gets, averaged over its questions.
        covered: Questions whose type is among as many types as the image gets.
        drawn: Questions whose type is drawn, where one type is: by weight, at random, and by frequency.
    """

    questions: int
    types: int
    offered: float
    covered: Shares
    drawn: Shares

    def lines(self) -> Iterator[str]:
        """Yield the report."""
        if not self.questions:
            yield "how well it suits other images is not known: the seed is too small to leave any out"
            return
        yield (
            f"on images left out of the learning, {self.covered.learned:.1%} of {self.questions:,} questions are of a "
            f"type that their image gets, which gets {self.offered:.1f} of {self.types:,}: as many types at random "
            f"would reach {self.covered.at_random:.1%}, as many of the most frequent {self.covered.frequent:.1%}"
        )
        yield (
            f"one type drawn by the image's weights is the question's in {self.drawn.learned:.1%}; "
            f"drawn at random {self.drawn.at_random:.1%}, by how frequent types are {self.drawn.frequent:.1%}"
        )


def measure(examples: Counter[Example], settings: TfidfSettings) -> HeldOut:
    """Measure what a seed teaches on the parts of it that were left out.

    Args:
        examples: The images of the seed.
        settings: The parameters of the learning.
    """
    types = len({path for _, paths in examples for path in paths})
    totals: Totals = {}
    for part in range(PARTS):
        rest, left_out = _split(examples, part)
        if rest and totals.get("questions", 0) < ENOUGH:
            weights = tfidf.learn(rest, tfidf.count(rest), settings)
            _add(totals, _measure_part(left_out, weights, _by_frequency(rest)))
    questions = totals.get("questions", 0.0)
    if not questions:
        return HeldOut(0, types, 0.0, Shares(), Shares())
    mean = {name: total / questions for name, total in totals.items()}
    covered = Shares(mean["covered learned"], mean["offered"] / types, mean["covered frequent"])
    drawn = Shares(mean["drawn learned"], 1 / types, mean["drawn frequent"])
    return HeldOut(round(questions), types, mean["offered"], covered, drawn)


def _add(totals: Totals, more: Totals, times: int = 1) -> None:
    for name, value in more.items():
        totals[name] = totals.get(name, 0.0) + value * times


def _split(examples: Counter[Example], part: int) -> tuple[Counter[Example], Counter[Example]]:
    """Return the images without a part, and the part: every fifth image, also of those that are alike."""
    rest, left_out, number = Counter[Example](), Counter[Example](), 0
    for example, times in sorted(examples.items()):
        here = len(range((part - number) % PARTS, times, PARTS))
        number += times
        if here:
            left_out[example] = here
        if times > here:
            rest[example] = times - here
    return rest, left_out


def _by_frequency(examples: Counter[Example]) -> dict[str, float]:
    """Return the share of each type among the questions, the most frequent first."""
    counts: Counter[str] = Counter()
    for (_, types), times in examples.items():
        counts.update(dict.fromkeys(types, times))
    ordered = sorted(counts.items(), key=lambda entry: (-entry[1], entry[0]))
    return {path: count / counts.total() for path, count in ordered}


def _measure_part(examples: Counter[Example], weights: Weights, frequency: Mapping[str, float]) -> Totals:
    """Return sums over the questions of images: of questions, of types offered, and of what each way reaches."""
    totals: Totals = {}
    ranked = list(frequency)
    for (tags, types), times in examples.items():
        offered = _offered(weights, tags)
        frequent, total = set(ranked[: len(offered)]), sum(offered.values())
        for path in types:
            question: Totals = {
                "questions": 1,
                "offered": len(offered),
                "covered learned": path in offered,
                "covered frequent": path in frequent,
                "drawn learned": offered[path] / total if path in offered else 0.0,
                "drawn frequent": frequency.get(path, 0.0),
            }
            _add(totals, question, times)
    return totals


def _offered(weights: Weights, tags: Sequence[str]) -> dict[str, float]:
    """Return the types that an image with these tags gets, with their weights."""
    offered: dict[str, float] = {}
    for tag in (ALL_IMAGES, *with_ancestors(tags)):
        for path, weight in weights.get(tag, {}).items():
            offered[path] = offered.get(path, 0.0) + weight
    return offered
