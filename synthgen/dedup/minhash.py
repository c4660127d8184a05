"""MinHash signatures of texts, and the keys of their bands.

The signatures are datasketch's (scheme affine32), computed for thousands of texts by a few numpy calls; datasketch
itself gives the coefficients of the permutations. Near texts share a band: at the threshold itself 99 of 100 pairs do,
above it nearly all (Broder, 1997; Indyk and Motwani, 1998).
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from synthgen.dedup.greedy import mix
from synthgen.dedup.shingles import GOLDEN, HASH_BITS, Shingles

Signatures = npt.NDArray[np.uint32]

PERMUTATIONS = 160  # at most
FOUND_AT_THRESHOLD = 0.99  # of the pairs exactly as similar as the threshold


@dataclass(frozen=True)
class Bands:
    """How signatures are cut into bands: `count` of them, of `rows` values each."""

    count: int
    rows: int

    @property
    def permutations(self) -> int:
        """The length of a signature."""
        return self.count * self.rows

    def found(self, similarity: float) -> float:
        """Return the probability that two texts of this similarity share a band."""
        return float(1 - (1 - similarity**self.rows) ** self.count)


def bands_for(threshold: float) -> Bands:
    """Return the bands with the most rows that find pairs at the threshold often enough, and no more of them."""
    shapes = [Bands(PERMUTATIONS // rows, rows) for rows in range(1, PERMUTATIONS + 1)]
    enough = [shape for shape in shapes if shape.found(threshold) >= FOUND_AT_THRESHOLD]
    rows = enough[-1].rows if enough else 1
    fewer = (Bands(count, rows) for count in range(1, PERMUTATIONS // rows + 1))
    return next((shape for shape in fewer if shape.found(threshold) >= FOUND_AT_THRESHOLD), shapes[0])


def signatures(runs: Shingles, permutations: int) -> Signatures:
    """Return the MinHash signatures of texts, equal bit by bit to datasketch's of the hashes' upper 32 bits.

    Returns:
        (permutations, texts) uint32.
    """
    from datasketch import MinHash  # it imports scipy, and a third of the start of every run would be that

    coefficients: Signatures = np.asarray(MinHash(num_perm=permutations, scheme="affine32").permutations)
    hashes = (runs.hashes >> (HASH_BITS - np.uint64(32))).astype(np.uint32)
    for shift, multiplier in ((16, 0x85EBCA6B), (13, 0xC2B2AE35)):
        hashes = (hashes ^ (hashes >> np.uint32(shift))) * np.uint32(multiplier)
    hashes ^= hashes >> np.uint32(16)
    permuted = np.empty_like(hashes)
    minima = np.empty((permutations, len(runs.starts) - 1), np.uint32)
    for row, (a, b) in zip(minima, coefficients.T, strict=True):
        np.multiply(hashes, a, out=permuted)
        np.add(permuted, b, out=permuted)
        np.minimum.reduceat(permuted, runs.starts[:-1], out=row)
    return minima


def band_keys(signature: Signatures, bands: Bands) -> Signatures:
    """Return the rows of each band hashed into 32 bits: (bands, texts) uint32."""
    by_band = signature.reshape(bands.count, bands.rows, -1)
    keys = np.zeros((bands.count, signature.shape[1]), np.uint64)
    for row in range(bands.rows):
        keys *= GOLDEN
        keys += by_band[:, row]
    return (mix(keys) >> np.uint64(32)).astype(np.uint32)
