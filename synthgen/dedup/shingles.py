"""Shingles of texts, and the Jaccard similarity of their sets, counted exactly.

A shingle is a run of a few characters, which suits languages without spaces between words too.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from synthgen.dedup.greedy import Indexes, Mask, Words, mix

Strings = npt.NDArray[Any]  # of Python strings: picking some of them by index is cheap

SHINGLE = 4  # characters
HASH_BITS = np.uint64(40)  # of a shingle; the upper 24 bits of its word name the text
PAIRS_AT_ONCE = 1 << 13  # compared shingle by shingle
GOLDEN = np.uint64(0x9E3779B97F4A7C15)  # the multiplier of Fibonacci hashing


@dataclass(frozen=True)
class Shingles:
    """The shingles of texts, text after text."""

    hashes: Words  # (shingles,) uint64 of HASH_BITS bits
    starts: Indexes  # (texts + 1,) int64: where the shingles of each text begin, and the end


def shingles(texts: Sequence[str] | Strings, *, distinct: bool = True) -> Shingles:
    """Return the shingles of each text between two spaces.

    Args:
        texts: 2**24 texts at most.
        distinct: Whether to return sorted sets, or runs in the order of the text.
    """
    padded = [f" {text} ".ljust(SHINGLE) for text in texts]
    lengths = np.fromiter(map(len, padded), np.int64, len(padded))
    characters = np.frombuffer("".join(padded).encode("utf-32-le", "surrogatepass"), np.uint32).astype(np.uint64)
    runs = np.zeros(max(0, len(characters) - SHINGLE + 1), np.uint64)
    for offset in range(SHINGLE):
        runs = runs * GOLDEN + characters[offset : offset + len(runs)]
    # A run that begins in the last characters of a text reaches into the next one, so those runs are skipped.
    counts = lengths - (SHINGLE - 1)
    place = np.arange(counts.sum()) + np.repeat(np.arange(len(padded)) * (SHINGLE - 1), counts)
    hashes = mix(runs[place]) >> (np.uint64(64) - HASH_BITS)
    if not distinct:
        return Shingles(hashes, np.concatenate([[0], np.cumsum(counts)]))
    words = np.sort(np.repeat(np.arange(len(padded), dtype=np.uint64), counts) << HASH_BITS | hashes)
    words = words[np.concatenate([[True], words[1:] != words[:-1]])] if len(words) else words
    starts = np.searchsorted(words, np.arange(len(padded) + 1, dtype=np.uint64) << HASH_BITS)
    return Shingles(words & ((np.uint64(1) << HASH_BITS) - np.uint64(1)), starts)


def jaccard_reaches(texts: Strings, left: Indexes, right: Indexes, threshold: float) -> Mask:
    """Return which pairs of texts have shingles with at least this Jaccard similarity.

    Args:
        texts: (texts,) Python strings.
        left: (pairs,) int64, indexes of texts.
        right: (pairs,) int64, indexes of texts.
        threshold: The similarity, 0 to 1.

    Returns:
        (pairs,) bool.
    """
    reached = np.zeros(len(left), dtype=bool)
    for start in range(0, len(left), PAIRS_AT_ONCE):
        batch = slice(start, start + PAIRS_AT_ONCE)
        items, inverse = np.unique(np.concatenate([left[batch], right[batch]]), return_inverse=True)
        sets = shingles(texts[items])
        size = np.diff(sets.starts)
        a, b = np.split(inverse, 2)
        # The smaller set over the larger bounds the similarity: most pairs need no counting.
        can_reach = np.minimum(size[a], size[b]) >= threshold * np.maximum(size[a], size[b])
        maybe = np.flatnonzero(can_reach)
        shared = _count_shared(sets, a[maybe], b[maybe])
        union = size[a[maybe]] + size[b[maybe]] - shared
        reached[start + maybe] = shared >= threshold * union - 1e-9  # tolerates rounding
    return reached


def _count_shared(sets: Shingles, left: Indexes, right: Indexes) -> Indexes:
    """Return how many shingles each pair of texts shares: in the sorted shingles of both, a shared one occurs twice."""
    sides = []
    for side in (left, right):
        counts = sets.starts[side + 1] - sets.starts[side]
        pair = np.repeat(np.arange(len(side)), counts)
        place = np.arange(len(pair)) - np.repeat(np.cumsum(counts) - counts - sets.starts[side], counts)
        sides.append(pair.astype(np.uint64) << HASH_BITS | sets.hashes[place])
    words = np.sort(np.concatenate(sides))
    twice = words[1:][words[1:] == words[:-1]] >> HASH_BITS
    return np.bincount(twice.astype(np.int64), minlength=len(left))
