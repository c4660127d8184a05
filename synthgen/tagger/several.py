"""Several taggers as one: what each finds, side by side.

Comes in: the taggers of a pipeline, all of one taxonomy. Goes out: for each image the tags of all of them, every one with the name of
its tagger, so that they can be told apart and stored apart; the plan takes of the tags with one path the surest. An image that
one of them fails on has failed: tags that are missing without a word would look like tags that were not found.
"""

from collections.abc import Sequence
from typing import Any

from PIL.Image import Image

from synthgen.tagger.found import Tagged, Tagger


class SeveralTaggers:
    """Taggers that look at the same images."""

    def __init__(self, taggers: Sequence[Tagger]) -> None:
        self._taggers = taggers

    def prepare(self, image: Image, source_meta: str | None) -> Any:
        """The input of each."""
        return [tagger.prepare(image, source_meta) for tagger in self._taggers]

    def tag(self, inputs: Sequence[Any]) -> list[Tagged]:
        """What all of them say of each image; the embedding is of the first that has one."""
        said = [tagger.tag([one[place] for one in inputs]) for place, tagger in enumerate(self._taggers)]
        return [_together(of_one) for of_one in zip(*said, strict=True)]

    def close(self) -> None:
        """Closes all of them."""
        for tagger in self._taggers:
            tagger.close()


def _together(found: Sequence[Tagged]) -> Tagged:
    if failure := next((one.failure for one in found if one.failure), None):
        return Tagged([], failure=failure)
    embedding = next((one.embedding for one in found if one.embedding is not None), None)
    return Tagged([tag for one in found for tag in one.tags], embedding)
