"""A tagger that measures how bright an image is."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from PIL.Image import Image

from synthgen.config.taxonomy import Taxonomy


class Brightness:
    """Tags each image `light/dark`, `light/even` or `light/bright`."""

    def __init__(self, taxonomy: Taxonomy, options: Mapping[str, Any]) -> None:
        self._dark, self._bright = options.get("dark", 80), options.get("bright", 175)  # grey levels, 0 to 255

    def tag(self, images: Sequence[Image], metas: Sequence[Mapping[str, Any]]) -> list[dict[str, float]]:
        """Return for each image tag path → score from 0 to 1."""
        return [self._tags(float(np.asarray(image.convert("L")).mean())) for image in images]

    def _tags(self, level: float) -> dict[str, float]:
        if level < self._dark:
            return {"light/dark": 1 - level / 255}
        return {"light/bright": level / 255} if level > self._bright else {"light/even": 0.5}
