"""The tagger that finds nothing, for images whose tags nobody needs."""

from collections.abc import Sequence
from typing import Any, Literal

from PIL.Image import Image

from synthgen.config.taxonomy import Taxonomy
from synthgen.taggers.protocol import Tagged
from synthgen.taggers.spec import TaggerFile, TaggerSpec

NAME = "none"  # of the kind, and of the file that ships


class NoTaggerFile(TaggerFile):
    """taggers/NAME.yaml with `engine: none`."""

    engine: Literal["none"]

    def open(self, spec: TaggerSpec) -> "NoTagger":
        """Return the tagger."""
        return NoTagger()

    def read_taxonomy(self, taxonomy: Taxonomy) -> Any:
        """Return nothing: no edit of the taxonomy changes what it finds."""
        return []


class NoTagger:
    """A tagger without tags."""

    def prepare(self, image: Image, source_meta: str | None) -> None:
        """Look at nothing."""

    def tag(self, inputs: Sequence[None]) -> list[Tagged]:
        """Return no tags for each image."""
        return [Tagged([]) for _ in inputs]

    def close(self) -> None:
        """Do nothing: the tagger holds nothing."""
