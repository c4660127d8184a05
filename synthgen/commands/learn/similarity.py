"""How near a text is to the texts of the instruction types, by its words alone: the cheap way, without a model.

Comes in: the name, description, needs and examples of every type; later questions. Goes out: the type whose words are nearest,
or the likeness of two types. Plain TF-IDF over words and the cosine between; numbers are one word, a plural counts as its
singular. A word that no type uses counts as the rarest, so a question of such words is like nothing. It sorts a question to
its very type in about one case of four and to its family in about one of two (245 types, each known by one other example),
against 0.4 % and 17 % by chance: enough to see which tags a type goes with, not enough to trust a single row.
"""

import math
import re
from collections import Counter
from collections.abc import Mapping

from synthgen.config.families import InstructionType

Vector = Mapping[str, float]
WORD = re.compile(r"[^\W\d_]+|\d+")
AT_LEAST = 0.1  # likeness below which a question is like no type


class TypeTexts:
    """The types' texts as vectors of unit length, and for each word the types that use it."""

    def __init__(self, types: Mapping[str, InstructionType]) -> None:
        words = {path: Counter(_words(_text(kind))) for path, kind in types.items()}
        used = Counter(word for counted in words.values() for word in counted)
        self._rarity = {word: math.log((1 + len(types)) / (1 + times)) + 1 for word, times in used.items()}
        self._rarest = math.log(1 + len(types)) + 1
        self._vectors = {path: self._vector(counted) for path, counted in words.items()}
        self._users: dict[str, list[str]] = {}
        for path, vector in self._vectors.items():
            for word in vector:
                self._users.setdefault(word, []).append(path)

    def nearest(self, text: str) -> str | None:
        """The type that a question is most like; None if it is like none."""
        vector = self._vector(Counter(_words(text)))
        near: dict[str, float] = {}
        for word, weight in vector.items():
            for path in self._users.get(word, ()):
                near[path] = near.get(path, 0.0) + weight * self._vectors[path][word]
        best = min(near, key=lambda path: (-near[path], path), default=None)
        return best if best is not None and near[best] >= AT_LEAST else None

    def likeness(self, one: str, other: str) -> float:
        """The cosine between the texts of two types."""
        mine, others = self._vectors[one], self._vectors[other]
        return sum(weight * others.get(word, 0.0) for word, weight in mine.items())

    def _vector(self, words: Counter[str]) -> Vector:
        weights = {word: (1 + math.log(times)) * self._rarity.get(word, self._rarest) for word, times in words.items()}
        length = math.sqrt(sum(weight * weight for weight in weights.values())) or 1.0
        return {word: weight / length for word, weight in weights.items()}


def _text(kind: InstructionType) -> str:
    return " ".join([kind.name, kind.ask_as, kind.about, kind.needs, *kind.examples])


def _words(text: str) -> list[str]:
    found = (word.lower() for word in WORD.findall(text))
    return ["#" if word.isdigit() else word[:-1] if len(word) > 3 and word.endswith("s") else word for word in found]
