"""Sketches of texts, by which most pairs that share a band of their signatures are told apart without their texts.

A sketch has three parts, and a pair must pass all:

- **the number of shingles**: the smaller set over the larger bounds the similarity;
- **parities**: each shingle flips one of 128 bits. The bits in which two texts differ are at most as many as the
  shingles that only one of them has, so no near pair is lost. They tell short texts apart (the odd sketches of
  Mitzenmacher, Pagh and Pham, 2014);
- **the lowest bit of each value of the signature** (b-bit minwise hashing, arXiv 0910.3349), which tells long texts
  apart. A pair at the threshold fails this part with a chance of two in ten thousand.
"""

from math import sqrt

import numpy as np
import numpy.typing as npt

from synthgen.dedup.greedy import Indexes, Mask, Words
from synthgen.dedup.minhash import Signatures
from synthgen.dedup.shingles import Shingles

BITS = 128  # of each of the two kinds
DEVIATIONS = 3.5  # of the signature's bits, that a pair at the threshold may fall short of the mean
SKETCH = np.dtype([("parities", np.uint64, 2), ("bits", np.uint64, 2), ("size", np.uint32)])

Sketches = npt.NDArray[np.void]


def sketch(sets: Shingles, signature: Signatures) -> Sketches:
    """Return the sketch of each text, (texts,) SKETCH.

    Args:
        sets: The shingles of each text, none of them twice.
        signature: (permutations, texts) uint32.
    """
    count, sizes = signature.shape[1], np.diff(sets.starts)
    made = np.empty(count, SKETCH)
    shingle, texts = sets.hashes, sets.starts[:-1]
    flip = np.uint64(1) << (shingle & np.uint64(63))
    both = np.bitwise_xor.reduceat(flip, texts)
    second = np.bitwise_xor.reduceat(flip * (shingle >> np.uint64(6) & np.uint64(1)), texts)
    made["parities"] = np.stack([both ^ second, second], 1)
    lowest = np.zeros((BITS, count), np.uint8)
    lowest[: len(signature)] = signature[:BITS] & np.uint32(1)
    made["bits"] = np.ascontiguousarray(np.packbits(lowest, axis=0).T).view(np.uint64)
    made["size"] = sizes
    return made


def may_reach(sketches: Sketches, left: Indexes, right: Indexes, threshold: float, permutations: int) -> Mask:
    """Return which pairs of texts may have this Jaccard similarity.

    Args:
        sketches: Of all texts, (texts,) SKETCH.
        left: (pairs,) int64, indexes of texts.
        right: (pairs,) int64, indexes of texts.
        threshold: The similarity.
        permutations: The length of a signature.
    """
    sizes = sketches["size"]
    a, b = sizes[left].astype(np.float32), sizes[right].astype(np.float32)
    # With d shingles in one of two sets alone, the similarity is (a + b - d) / (a + b + d).
    allowed = (1 - threshold) / (1 + threshold) * (a + b) + 1e-3
    maybe = np.asarray(np.abs(a - b) <= allowed)
    for name, most in (("parities", allowed), ("bits", np.full(len(a), _most_bits(threshold, permutations)))):
        rest = np.flatnonzero(maybe)
        maybe[rest] = _differing(sketches[name], left[rest], right[rest]) <= most[rest]
    return maybe


def _differing(words: Words, left: Indexes, right: Indexes) -> npt.NDArray[np.uint8]:
    """Return the number of bits in which pairs of rows of two words differ."""
    counts = np.bitwise_count(words[left] ^ words[right])
    return np.asarray(counts[:, 0] + counts[:, 1])


def _most_bits(threshold: float, permutations: int) -> float:
    """Return in how many bits of a signature texts at the threshold differ at most.

    A bit differs in half of the cases in which its value does, so with probability (1 - similarity) / 2.
    """
    bits, chance = min(BITS, permutations), (1 - threshold) / 2
    return bits * chance + DEVIATIONS * sqrt(bits * chance * (1 - chance))
