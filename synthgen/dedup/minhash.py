"""Near texts of a large group, found through bands of MinHash signatures.

Only groups of more than texts.SMALL_GROUP texts come here. `select` groups questions by image, so in a run this is the
path of images with very many questions; benchmarks/near_duplicates.py takes it with a whole set in one group.

Candidates share a band of their signatures: at the threshold itself 99 of 100 near pairs do, above it nearly all. The
signatures are datasketch's (scheme affine32), computed for thousands of texts by a few numpy calls; datasketch itself
gives the coefficients of the permutations and nothing else. One byte of a signature's value is kept for each
permutation, enough to reject candidates that are far apart. The shingles of all others are counted, so no text is
dropped by an estimate.
"""

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt
from datasketch import MinHash

from synthgen.dedup.greedy import Indexes, Items, Mask, Words, first_come, mix
from synthgen.dedup.shingles import GOLDEN, HASH_BITS, Shingles, Strings, jaccard_reaches, shingles

Signatures = npt.NDArray[np.uint32]

PERMUTATIONS = 128
FOUND_AT_THRESHOLD = 0.99  # of the pairs exactly as similar as the threshold
ESTIMATE_SLACK = 0.2  # below the threshold; more than five standard deviations of an estimate from 100 permutations
TEXTS_AT_ONCE = 1 << 11  # their shingles stay in the processor's cache


def near_by_bands(texts: Strings, groups: Indexes, threshold: float) -> Indexes:
    """Return the representative of each text; texts of a group are candidates if they share a band.

    Args:
        texts: (texts,) Python strings.
        groups: (texts,) int64.
        threshold: The Jaccard similarity of near texts.

    Returns:
        (texts,) int64, indexes into the texts.
    """
    shape = bands_for(threshold)
    permutations = shape[0] * shape[1]
    bands = np.empty((shape[0], len(texts)), np.uint32)
    low_bytes = np.empty((len(texts), permutations), np.uint8)
    for start in range(0, len(texts), TEXTS_AT_ONCE):
        batch = slice(start, start + TEXTS_AT_ONCE)
        signature = signatures(shingles(texts[batch], distinct=False), permutations)
        low_bytes[batch] = signature.T  # the cast keeps the lowest byte
        bands[:, batch] = _band_keys(signature, shape, groups[batch])
    least = max(0.0, threshold - ESTIMATE_SLACK) * permutations

    def keys(items: Indexes) -> Iterator[Words]:
        return (band[items].astype(np.uint64) for band in bands)

    def near(left: Indexes, right: Indexes) -> Mask:
        equal_bytes = np.count_nonzero(low_bytes[left] == low_bytes[right], axis=1)
        maybe = np.flatnonzero((groups[left] == groups[right]) & (equal_bytes >= least))
        reached = np.zeros(len(left), bool)
        reached[maybe] = jaccard_reaches(texts, left[maybe], right[maybe], threshold)
        return reached

    return first_come(Items(np.arange(len(texts)), keys, near))


def bands_for(threshold: float) -> tuple[int, int]:
    """Return the number of bands, and of rows in a band.

    The rows are the most with which a pair at the threshold still shares a band with probability FOUND_AT_THRESHOLD.
    """
    shapes = [(PERMUTATIONS // rows, rows) for rows in range(1, PERMUTATIONS + 1)]
    enough = [(bands, rows) for bands, rows in shapes if 1 - (1 - threshold**rows) ** bands >= FOUND_AT_THRESHOLD]
    return enough[-1] if enough else shapes[0]


def signatures(runs: Shingles, permutations: int) -> Signatures:
    """Return the MinHash signatures of texts, equal bit by bit to datasketch's of the hashes' upper 32 bits.

    Returns:
        (permutations, texts) uint32.
    """
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


def _band_keys(signature: Signatures, shape: tuple[int, int], groups: Indexes) -> Signatures:
    """Return the rows of each band and the group, hashed into 32 bits: (bands, texts) uint32."""
    by_band = signature.astype(np.uint64).reshape(*shape, -1)
    keys = np.repeat(groups.astype(np.uint64)[None], shape[0], axis=0)
    for row in range(shape[1]):
        keys = keys * GOLDEN + by_band[:, row]
    return (mix(keys) >> np.uint64(32)).astype(np.uint32)
