"""Instruction types that are one and the same under two names.

Comes in: a seed's counts and the texts of the types. Goes out: pairs of types whose tags say the same and whose descriptions
nearly match; and the seed with each pair made one. Trees that grow by hand or by model collect such pairs ("extract text",
"transcribe text"); each would be asked half as often as it should, and the same question would be asked twice of one image.
"""

from collections import Counter
from dataclasses import dataclass

import numpy as np

from synthgen.commands.learn.similarity import TypeTexts
from synthgen.commands.learn.tfidf import Example, TfidfSettings, count, example, vectors

SAME_TAGS, SAME_WORDS = 0.95, 0.6  # cosines from which on two types are twins


@dataclass(frozen=True)
class Twins:
    """Two types that are alike; `kept` is the commoner in the seed."""

    kept: str
    other: str
    tags_alike: float
    words_alike: float


def find(seen: Counter[Example], settings: TfidfSettings, texts: TypeTexts) -> list[Twins]:
    """Every pair of twins, the most alike first."""
    counts = count(seen)
    rows = vectors(counts, settings)
    alike = rows @ rows.T
    found = []
    for one, other in zip(*np.nonzero(np.triu(alike >= SAME_TAGS, 1)), strict=True):
        words = texts.likeness(counts.types[one], counts.types[other])
        if words >= SAME_WORDS:
            first, second = sorted((one, other), key=lambda place: (-counts.of_type[place], counts.types[place]))
            found.append(Twins(counts.types[first], counts.types[second], float(alike[one, other]), words))
    return sorted(found, key=lambda pair: (-pair.tags_alike - pair.words_alike, pair.kept, pair.other))


def merged(seen: Counter[Example], pairs: list[Twins]) -> Counter[Example]:
    """The seed with each twin under the name of the one that is kept."""
    stands_for: dict[str, str] = {}
    for pair in pairs:
        kept, other = (stands_for.get(name, name) for name in (pair.kept, pair.other))
        stands_for |= {name: kept for name, now in stands_for.items() if now == other} | {other: kept}
    result: Counter[Example] = Counter()
    for (tags, types), times in seen.items():
        result[example(list(tags), [stands_for.get(one, one) for one in types])] += times
    return result
