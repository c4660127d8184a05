"""Keys that very many images share, split by their thumbnails.

Pages of one layout have hardly more than one perceptual hash. Were each compared with each, a million would take days.
So a key that more than CROWD images share takes in where the thumbnail lies along some random directions, in bins
(Datar and others, 2004: locality-sensitive hashing with p-stable distributions). Copies lie in one bin unless they are
near to its border, and every kind of key has other directions; images that all look alike stay together.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from synthgen.dedup.greedy import Indexes, Words, mix
from synthgen.dedup.thumbnails import Thumbnails, chunks

CROWD = 64  # images of one key that are all compared with each other
BIN = 6.0  # grey levels: along a direction copies differ by about 1, pages of different words by about 4
BITS = 1.0  # that the bins of one direction tell apart, in most crowds


@dataclass(frozen=True)
class Crowds:
    """The keys of one kind that are crowded.

    Attributes:
        keys: Sorted, (crowds,) uint64.
        levels: How many directions split each of them, (crowds,) int64.
        directions: Unit vectors, (cells of a thumbnail, most levels) float32.
    """

    keys: Words
    levels: Indexes
    directions: npt.NDArray[np.float32]

    @staticmethod
    def of(keys: Words, cells: int, seed: int) -> "Crowds":
        """Return the crowds among the keys of all images, with directions that differ by `seed`."""
        values, counts = np.unique(keys, return_counts=True)
        is_crowded = counts > CROWD
        levels = np.ceil(np.log2(counts[is_crowded] / CROWD) / BITS).astype(np.int64) + 1
        shape = cells, int(levels.max(initial=0))
        directions = np.random.default_rng(seed).standard_normal(shape, np.float32)
        return Crowds(values[is_crowded], levels, directions / np.linalg.norm(directions, axis=0))

    def split(self, keys: Words, thumbnails: Thumbnails) -> Words:
        """Return the keys of some images, those of crowds changed; `thumbnails` are of the same images."""
        if not len(self.keys):
            return keys
        place = np.minimum(np.searchsorted(self.keys, keys), len(self.keys) - 1)
        crowded, result = np.flatnonzero(self.keys[place] == keys), keys.copy()
        for part in chunks(len(crowded), 1 << 14):
            images = crowded[part]
            levels, split = self.levels[place[images]], keys[images]
            along = thumbnails.cells[thumbnails.rows[images]].astype(np.float32) @ self.directions
            for level, bins in enumerate(np.floor(along / BIN).astype(np.int64).T):
                split = np.where(level < levels, mix(split ^ bins.astype(np.uint64)), split)
            result[images] = split
        return result
