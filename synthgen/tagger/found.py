"""What a tagger takes and what it gives.

Comes in: an image and whatever the source carried along with it. Goes out: Tagged, the tags of one image. All taggers, ours and a
user's own, stand behind the Tagger protocol, so that a worker need not know which it holds.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
from PIL.Image import Image

Floats = NDArray[np.float32]


@dataclass(frozen=True)
class Tagged:
    """What a tagger says of one image; tags surest first. With `failure` set it could not say."""

    tags: list[dict[str, Any]]  # path, score, tagger
    embedding: Floats | None = None
    failure: str | None = None


class Tagger(Protocol):
    """What a worker tags with."""

    def prepare(self, image: Image, source_meta: str | None) -> Any:
        """The tagger's input for one image, small enough to be kept for a batch."""

    def tag(self, inputs: Sequence[Any]) -> list[Tagged]:
        """The tags of a batch of prepared images."""

    def close(self) -> None:
        """Gives back what it holds; nothing is tagged after it."""
