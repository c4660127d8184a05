"""The settings of a survey of duplicates, as they are sent to its process."""

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from synthgen.config.where import Where

Patterns = tuple[str | None, ...]


@dataclass(frozen=True)
class SurveySettings:
    """What counts as a duplicate, and which images are left out before.

    Attributes:
        bits: The perceptual hashes of near images differ in at most so many bits; below 0, none are near.
        cosine: Of the embeddings of images of nearly the same content; None compares none.
        fingerprint: Of the settings. What was planned by them stays, whatever is found near to it later.
        against: The names and urls of earlier runs, whose planned images come first.
        license: Patterns of `plan.where`; () is every licence.
        source: Patterns of names of sources.
    """

    bits: int
    cosine: float | None = None
    fingerprint: str = ""
    against: tuple[tuple[str, str], ...] = ()
    license: Patterns = ()
    source: Patterns = ()

    def fits(self, rights: pa.ChunkedArray, sources: pa.ChunkedArray) -> NDArray[np.bool_]:
        """Return whether each image has one of the licences and sources."""
        return Where(license=self.license, source=self.source).mask(rights, sources)
