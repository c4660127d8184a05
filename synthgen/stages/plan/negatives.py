"""Negatives: questions that are written for one image and put to another, which cannot answer them.

An image gets a question of the kind that one of its partners is asked: an image of the same partition with which it
shares few tags. Which it is depends on the two images alone, as other draws do. What tags cannot rule out, a judge has
to: `generate` answers a negative only if the score `unanswerable` says that the image does not show it.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from synthgen.config.families import SWAPPED_FORMS, UNANSWERABLE, InstructionType
from synthgen.config.taxonomy import with_ancestors
from synthgen.stages.plan.images import PlannedImage
from synthgen.stages.plan.sampling import Indexes, Words, image_words, uniforms, word
from synthgen.stages.plan.things import is_near, present_things
from synthgen.tables import ASSIGNMENTS, negative_id

MOST_SHARED = 0.5  # part of the sure tags of a partner that an image may have or may have untagged, less than this
NUMBER_WORD = np.array([word("how many negatives")], dtype=np.uint64)
ORDINALS = 2**15

Row = Mapping[str, Any]


@dataclass(frozen=True)
class Negatives:
    """What all draws of negatives share.

    Attributes:
        share: Part of all questions that are to be negatives.
        seed: `plan.seed`.
        types: Path → the instruction type.
        leaves: The leaf tags of the taxonomy.
    """

    share: float
    seed: int
    types: Mapping[str, InstructionType]
    leaves: frozenset[str]

    def draw(self, images: Sequence[PlannedImage], assignments: pa.Table, planned: Mapping[str, str]) -> pa.Table:
        """Return the negatives of the images of a partition, with the columns of ASSIGNMENTS.

        Args:
            images: The images.
            assignments: Their other questions.
            planned: The ids of assignments that are planned already, among them negatives, which stay where they can.
        """
        rows = assignments.to_pylist()
        asked = [row for row in rows if self.types[row["type"]].swap and row["form"] in SWAPPED_FORMS]
        words = image_words(self.seed, [image.image_id for image in images])
        counts = self._counts(words, images, rows)
        partners = {image.image_id: self._sure_tags(image) for image in images}
        names = np.array([word("negative", row["assignment_id"]) for row in asked], dtype=np.uint64)
        found = [
            negative
            for number in np.flatnonzero(counts).tolist()
            for negative in self._of_image(
                images[number], _ordered(asked, names, words[number], images[number], planned), partners, counts[number]
            )
        ]
        return pa.Table.from_pylist(found, schema=ASSIGNMENTS)

    def _counts(self, words: Words, images: Sequence[PlannedImage], rows: Sequence[Row]) -> Indexes:
        """Return how many negatives each image gets, (images,) int64; a fraction is rounded at random."""
        asked: dict[str, int] = {}
        for row in rows:
            asked[row["image_id"]] = asked.get(row["image_id"], 0) + 1
        of_images = np.array([asked.get(image.image_id, 0) for image in images], dtype=np.float64)
        wanted = of_images * self.share / (1 - self.share)
        counts: Indexes = np.floor(wanted + uniforms(words, NUMBER_WORD)).astype(np.int64)
        return np.where((of_images > 0) & ~np.array([image.is_set for image in images], bool), counts, 0)

    def _sure_tags(self, image: PlannedImage) -> Sequence[str]:
        return tuple(present_things(image.tags, self.leaves))

    def _of_image(
        self, image: PlannedImage, ordered: Iterator[Row], partners: Mapping[str, Sequence[str]], count: int
    ) -> Iterator[Row]:
        """Yield the negatives of an image: the first that fit, one of a partner."""
        implied = frozenset(with_ancestors(image.tags))
        seen = {image.image_id}
        for row in ordered if image.tags else ():
            if count == 0:
                return
            if row["image_id"] in seen:
                continue
            seen.add(row["image_id"])
            sure = partners[row["image_id"]]
            shared = sum(is_near(tag, image.tags, implied) for tag in sure)
            if sure and shared < MOST_SHARED * len(sure):
                count -= 1
                yield _negative(image, row)


def _ordered(
    asked: Sequence[Row], names: Words, image_word: Any, image: PlannedImage, planned: Mapping[str, str]
) -> Iterator[Row]:
    """Yield the questions of all images in the order in which they are tried for one: first those that it has."""
    order = np.argsort(uniforms(np.array([image_word], dtype=np.uint64), names), kind="stable").tolist()
    if planned:
        order.sort(key=lambda number: _id(image, asked[number]) not in planned)
    return (asked[number] for number in order)


def _id(image: PlannedImage, row: Row) -> str:
    return negative_id(image.image_id, UNANSWERABLE + row["type"], row["form"], row["language"], row["image_id"])


def _negative(image: PlannedImage, row: Row) -> Row:
    """Return the assignment that puts a question like that of a partner to an image."""
    return {
        "assignment_id": _id(image, row),
        "image_id": image.image_id,
        "object_id": image.object_id,
        "type": UNANSWERABLE + row["type"],
        "form": row["form"],
        "language": row["language"],
        "ordinal": word(row["image_id"]) % ORDINALS,  # of the partner, so that it stays when others come
        "because": row["because"],
        "partner": row["image_id"],
        "retired": False,
    }
