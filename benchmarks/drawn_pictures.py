"""Pictures of the drawn world that no model was trained on, with all that is true of them.

Benchmarks of tagging and of mapping measure against these. Two purposes never share a picture.
"""

import random
from dataclasses import dataclass
from typing import Literal

from PIL.Image import Image

from demo.draw import draw
from demo.ground_truth import qa_pairs
from demo.tag_labels import true_tags
from demo.world import HELD_OUT_SEED, sample

# demo/evaluate.py and demo/evaluate_clip.py use lower numbers of the same seed.
FIRST = {"teach": 100_000, "test": 200_000}


@dataclass(frozen=True)
class Question:
    """A question that the scene supports."""

    type: str  # the last part of a type's path
    text: str
    answer: str


@dataclass(frozen=True)
class Picture:
    """A picture, its true tags and the questions that it supports."""

    image: Image
    tags: frozenset[str]  # with their ancestors
    questions: tuple[Question, ...]  # one of each supported type, in random order

    @property
    def types(self) -> frozenset[str]:
        """The names of the supported types."""
        return frozenset(question.type for question in self.questions)


def pictures(purpose: Literal["teach", "test"], count: int) -> list[Picture]:
    """Return the first pictures of a purpose, always the same."""
    return [_picture(FIRST[purpose] + number) for number in range(count)]


def _picture(index: int) -> Picture:
    scene = sample(HELD_OUT_SEED, index)
    rng = random.Random(f"questions of {index}")  # the words are the seed
    pairs = qa_pairs(scene, rng)
    rng.shuffle(pairs)
    by_type = {pair.type: pair for pair in pairs}
    questions = [Question(name, pair.question(rng.randrange(3)), pair.answer) for name, pair in sorted(by_type.items())]
    rng.shuffle(questions)
    return Picture(draw(scene), frozenset(true_tags(scene)), tuple(questions))
