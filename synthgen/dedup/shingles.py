"""Shingles of texts, and the Jaccard similarity of their sets, counted exactly.

A shingle is a run of a few characters, which suits languages without spaces between words too.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from synthgen.dedup.greedy import Indexes, Words, mix

Strings = npt.NDArray[Any]  # of Python strings: picking some of them by index is cheap
Read = Callable[[Indexes], Sequence[str] | Strings]

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


def jaccard(texts: Read, left: Indexes, right: Indexes, least: float = 0.0) -> npt.NDArray[np.float64]:
    """Return the Jaccard similarity of the shingles of each pair of texts.

    Args:
        texts: Indexes → texts.
        left: (pairs,) int64, indexes of texts.
        right: (pairs,) int64, indexes of texts.
        least: Pairs that cannot reach this similarity are 0.

    Returns:
        (pairs,) float64.
    """
    similarity = np.zeros(len(left))
    for start in range(0, len(left), PAIRS_AT_ONCE):
        batch = slice(start, start + PAIRS_AT_ONCE)
        items, inverse = np.unique(np.concatenate([left[batch], right[batch]]), return_inverse=True)
        sets = shingles(texts(items))
        size = np.diff(sets.starts)
        a, b = np.split(inverse, 2)
        # The smaller set over the larger bounds the similarity: most pairs of unlike lengths need no counting.
        can_reach = np.minimum(size[a], size[b]) >= least * np.maximum(size[a], size[b])
        maybe = np.flatnonzero(can_reach)
        shared = _count_shared(sets, a[maybe], b[maybe])
        similarity[start + maybe] = shared / (size[a[maybe]] + size[b[maybe]] - shared)
    return similarity


def rare_shingles(sets: Shingles, items: Indexes, threshold: float) -> Words:
    """Return the shingles of texts of which two texts at the threshold share at least one: the rarest of each.

    Whatever the order of all shingles, texts that are similar enough share one of the first (prefix filtering;
    Chaudhuri and others, 2006). With the rarest first, texts of one template share none but with their own variants.

    Args:
        sets: The shingles of the texts.
        items: The number of each text, (texts,) int64.
        threshold: The Jaccard similarity, above 0.

    Returns:
        (shingles,) uint64 words `rank of the shingle << 32 | item`.
    """
    size = np.diff(sets.starts)
    distinct, inverse, count = np.unique(sets.hashes, return_inverse=True, return_counts=True)
    rank = np.empty(len(distinct), np.uint64)
    rank[np.argsort(count, kind="stable")] = np.arange(len(distinct), dtype=np.uint64)
    text = np.repeat(np.arange(len(size), dtype=np.uint64), size)
    words = np.sort(text << np.uint64(32) | rank[inverse])
    place = np.arange(len(words)) - np.repeat(sets.starts[:-1], size)
    needed = size - np.ceil(threshold * size - 1e-9).astype(np.int64) + 1
    words = words[place < np.repeat(needed, size)]
    low = np.uint64(0xFFFFFFFF)
    rarest: Words = (words & low) << np.uint64(32) | items[(words >> np.uint64(32)).astype(np.int64)].astype(np.uint64)
    return rarest


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
