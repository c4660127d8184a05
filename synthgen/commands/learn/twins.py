"""Instruction types that are the same under two names: images with the same tags have them, and their texts agree.

Trees that grow by hand or by model collect such pairs ("extract text", "transcribe text"). Each would be asked half as
often as it should be, and an image would be asked the same question twice.
"""

from collections import Counter
from dataclasses import dataclass

import numpy as np

from synthgen.commands.learn.similarity import TypeVectors
from synthgen.commands.learn.tfidf import Example, TermCounts, TfidfSettings, example, type_vectors

SAME_TAGS, SAME_WORDS = 0.95, 0.6  # cosines from which on two types are twins


@dataclass(frozen=True)
class Twins:
    """Two types that are alike; `kept` is the commoner in the seed."""

    kept: str
    other: str
    tag_similarity: float
    word_similarity: float


def find(counts: TermCounts, settings: TfidfSettings, vectors: TypeVectors) -> list[Twins]:
    """Return every pair of twins in a seed, the most alike first."""
    rows = type_vectors(counts, settings)
    cosines = rows @ rows.T
    pairs = []
    for first, second in zip(*np.nonzero(np.triu(cosines >= SAME_TAGS, 1)), strict=True):
        words = vectors.similarity(counts.types[first], counts.types[second])
        if words >= SAME_WORDS:
            kept, other = sorted((first, second), key=lambda place: (-counts.of_type[place], counts.types[place]))
            pairs.append(Twins(counts.types[kept], counts.types[other], float(cosines[first, second]), words))
    return sorted(pairs, key=lambda pair: (-pair.tag_similarity - pair.word_similarity, pair.kept, pair.other))


def merge(examples: Counter[Example], pairs: list[Twins]) -> Counter[Example]:
    """Return a seed with each twin under the name of the one that is kept."""
    renamed: dict[str, str] = {}
    for pair in pairs:
        kept, other = (renamed.get(name, name) for name in (pair.kept, pair.other))
        renamed |= {name: kept for name, target in renamed.items() if target == other} | {other: kept}
    merged: Counter[Example] = Counter()
    for (tags, types), times in examples.items():
        merged[example(tags, [renamed.get(path, path) for path in types])] += times
    return merged
