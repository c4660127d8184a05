"""ShiftCheck and BiasRate of CMMU (arXiv 2401.14011): multiple choice without the luck of a place.

A question is right only if it is under every rotation of its options. BiasRate tells how unevenly a model chooses the
places: over all replies to the questions that are not right, the share of each letter in percent, and the variance of
these shares over the letters (percent², of the population). A model that always says A has 1,875 with four options, one
that takes two letters evenly 625, one without any preference 0.

The paper divides by all these replies, its code by those that gave a letter. The two differ as soon as one gave none,
so both are here, and the replies without a letter are counted by themselves. CMMU counts questions with four options
alone; here each number of options has its own.
"""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from synthgen.commands.evaluate.question import LETTERS

CMMU_OPTIONS = 4


@dataclass(frozen=True)
class PositionBias:
    """How often a model chose each place in the questions of so many options that were not right.

    Attributes:
        options: Of each question.
        items: Questions that were not right under some rotation.
        letters: How often each letter was said, in all replies to them.
        unparsed: Of these replies, those that gave no letter.
    """

    options: int
    items: int
    letters: tuple[int, ...]
    unparsed: int

    @property
    def replies(self) -> int:
        """The replies to these questions."""
        return self.items * self.options

    @property
    def of_all(self) -> float | None:
        """BiasRate as the paper defines it, over all replies, in percent²; None where every question was right."""
        return _variance(self.letters, self.replies)

    @property
    def of_parsed(self) -> float | None:
        """BiasRate as the code of the paper computes it, over the replies with a letter; None where none had one."""
        return _variance(self.letters, self.replies - self.unparsed)

    @property
    def as_json(self) -> dict[str, Any]:
        """All of it as JSON values."""
        return {**asdict(self), "replies": self.replies, "of_all": self.of_all, "of_parsed": self.of_parsed}


def position_biases(items: Iterable[tuple[int, bool, Sequence[str | None]]]) -> list[PositionBias]:
    """Return the bias of a model for each number of options, that with most questions first.

    Args:
        items: Of each question that was asked under every rotation: its options, whether all replies were right, and
            the letter of each reply, None where it gave none.
    """
    letters: dict[int, Counter[str | None]] = {}
    wrong, asked = Counter[int](), Counter[int]()
    for options, is_right, said in items:
        asked[options] += 1
        if not is_right:
            wrong[options] += 1
            letters.setdefault(options, Counter()).update(said)
    return [_bias(options, wrong[options], letters.get(options, Counter())) for options, _ in asked.most_common()]


def _bias(options: int, items: int, letters: Counter[str | None]) -> PositionBias:
    return PositionBias(options, items, tuple(letters[letter] for letter in LETTERS[:options]), letters[None])


def _variance(letters: Sequence[int], replies: int) -> float | None:
    return float(np.var(100 * np.array(letters, float) / replies)) if replies else None
