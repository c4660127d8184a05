"""Texts that say the same in nearly the same words: whose sets of shingles have at least a given Jaccard similarity.

A shingle is a run of a few characters, which suits languages without spaces between words too. Candidates in a large set
share a band of their MinHash signatures: at the threshold itself 99 of 100 near pairs do, above it nearly all. Signatures
are datasketch's (scheme affine32), but made for thousands of texts at a time by a few numpy calls. Of each signature a
byte a permutation is kept, enough to pass over candidates that are far from near; the others' shingles are counted one by
one, so nothing is dropped by an estimate. In small groups all texts are candidates and no signature is made.
"""

from collections.abc import Callable, Hashable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
from datasketch import MinHash

from synthgen.dedup.greedy import Indexes, Items, Mask, Words, first_come, mixed

Texts: TypeAlias = Sequence[str] | pa.Array | pa.ChunkedArray
Strings = npt.NDArray[Any]  # of Python strings: picking some of them by index is cheap
Signatures = npt.NDArray[np.uint32]

SHINGLE = 4  # characters
PERMUTATIONS = 128
FOUND_AT_THRESHOLD = 0.99  # of the pairs exactly as similar as the threshold
ESTIMATE_SLACK = 0.2  # below the threshold; more than five standard deviations of an estimate from 100 permutations
SMALL_GROUP = 64  # texts
TEXTS_AT_ONCE = 1 << 11  # their shingles stay in the processor's cache
GROUPED_AT_ONCE = 1 << 16  # texts of small groups
PAIRS_AT_ONCE = 1 << 13  # compared shingle by shingle
HASH_BITS = np.uint64(40)  # of a shingle; the upper 24 bits of its word say whose it is
GOLDEN = np.uint64(0x9E3779B97F4A7C15)


def near_texts(texts: Texts, groups: Sequence[Hashable] | None = None, threshold: float = 0.8) -> Indexes:
    """Which texts repeat an earlier one (of the same group): index of the one that stands for each.

    Texts are compared as they are; give them in their plain form. A threshold of 1 finds equal ones only.
    """
    plain = _array(texts)
    wording = plain.dictionary_encode().indices.to_numpy().astype(np.int64)
    group = np.zeros(len(plain), np.int64) if groups is None else pd.factorize(np.asarray(groups))[0].astype(np.int64)
    first, inverse = _first_of_each(group * (wording.max(initial=0) + 1) + wording)
    found = np.arange(len(first))
    if threshold < 1:
        distinct, group = plain.take(pa.array(first)), group[first]
        for members, search in _searches(group):
            strings = np.asarray(distinct.take(pa.array(members)).to_pylist(), dtype=object)
            found[members] = members[search(strings, group[members], threshold)]
    representative: Indexes = first[found][inverse]
    return representative


def plain_texts(texts: Texts) -> pa.LargeStringArray:
    """What wordings have in common: compatible characters made one, lower case, punctuation and runs of spaces one space."""
    lower = pc.utf8_lower(pc.utf8_normalize(_array(texts), form="NFKC"))
    return pc.utf8_trim_whitespace(pc.replace_substring_regex(lower, r"[\p{P}\s]+", " "))


def _array(texts: Texts) -> pa.LargeStringArray:
    array = texts if isinstance(texts, pa.Array | pa.ChunkedArray) else pa.array(texts, pa.large_string())
    large = array.cast(pa.large_string())
    return large.combine_chunks() if isinstance(large, pa.ChunkedArray) else large


def _first_of_each(codes: Indexes) -> tuple[Indexes, Indexes]:
    """Positions of the first of each code, in order, and for each code which of these positions it is."""
    inverse, distinct = pd.factorize(codes)
    first = np.full(len(distinct), len(codes), dtype=np.int64)
    np.minimum.at(first, inverse, np.arange(len(codes)))
    return first, inverse.astype(np.int64)


def _searches(group: Indexes) -> Iterator[tuple[Indexes, Callable[[Strings, Indexes, float], Indexes]]]:
    """Which texts to look through together, and how: small groups some at a time, all large ones at once."""
    is_small = np.bincount(group, minlength=1)[group] <= SMALL_GROUP
    if not is_small.all():
        yield np.flatnonzero(~is_small), _near_by_bands
    small = np.flatnonzero(is_small)
    small = small[np.argsort(group[small], kind="stable")]
    ends = np.append(np.flatnonzero(np.diff(group[small])) + 1, len(small))
    cuts = ends[np.searchsorted(ends, np.arange(GROUPED_AT_ONCE, len(small), GROUPED_AT_ONCE))]
    yield from ((some, _near_in_groups) for some in np.split(small, np.unique(cuts)) if len(some))


def _near_in_groups(texts: Strings, groups: Indexes, threshold: float) -> Indexes:
    """First come where every two texts of a group are candidates."""

    def keys(items: Indexes) -> Iterator[Words]:
        yield groups[items].astype(np.uint64)

    return first_come(
        Items(np.arange(len(texts)), keys, lambda one, other: _jaccard_reaches(texts, one, other, threshold))
    )


def _near_by_bands(texts: Strings, groups: Indexes, threshold: float) -> Indexes:
    """First come where texts of a group are candidates if they share a band of their signatures."""
    shape = bands_for(threshold)
    bands, bytes_of = np.empty((shape[0], len(texts)), np.uint32), np.empty((len(texts), shape[0] * shape[1]), np.uint8)
    for start in range(0, len(texts), TEXTS_AT_ONCE):
        some = slice(start, start + TEXTS_AT_ONCE)
        signature = signatures(shingles(texts[some], distinct=False), shape[0] * shape[1])
        bytes_of[some] = signature.T  # the lowest byte
        bands[:, some] = _band_keys(signature, shape, groups[some])
    least = max(0.0, threshold - ESTIMATE_SLACK) * bytes_of.shape[1]

    def keys(items: Indexes) -> Iterator[Words]:
        return (band[items].astype(np.uint64) for band in bands)

    def near(one: Indexes, other: Indexes) -> Mask:
        maybe = np.flatnonzero(
            (groups[one] == groups[other]) & (np.count_nonzero(bytes_of[one] == bytes_of[other], axis=1) >= least)
        )
        reached = np.zeros(len(one), bool)
        reached[maybe] = _jaccard_reaches(texts, one[maybe], other[maybe], threshold)
        return reached

    return first_come(Items(np.arange(len(texts)), keys, near))


# --- signatures -------------------------------------------------------------------------------------------------------


def bands_for(threshold: float) -> tuple[int, int]:
    """Bands and rows a band: the longest rows with which a pair at the threshold still shares a band as often as wanted."""
    shapes = [(PERMUTATIONS // rows, rows) for rows in range(1, PERMUTATIONS + 1)]
    enough = [(bands, rows) for bands, rows in shapes if 1 - (1 - threshold**rows) ** bands >= FOUND_AT_THRESHOLD]
    return enough[-1] if enough else shapes[0]


def signatures(some: "Shingles", permutations: int) -> Signatures:
    """MinHash signatures, one column a text: to the bit what datasketch makes of the hashes' upper 32 bits."""
    columns: Signatures = np.asarray(MinHash(num_perm=permutations, scheme="affine32").permutations)
    hashes = (some.hashes >> (HASH_BITS - np.uint64(32))).astype(np.uint32)
    for shift, multiplier in ((16, 0x85EBCA6B), (13, 0xC2B2AE35)):
        hashes = (hashes ^ (hashes >> np.uint32(shift))) * np.uint32(multiplier)
    hashes ^= hashes >> np.uint32(16)
    moved, found = np.empty_like(hashes), np.empty((permutations, len(some.starts) - 1), np.uint32)
    for row, (a, b) in zip(found, columns.T, strict=True):
        np.multiply(hashes, a, out=moved)
        np.add(moved, b, out=moved)
        np.minimum.reduceat(moved, some.starts[:-1], out=row)
    return found


def _band_keys(signature: Signatures, shape: tuple[int, int], groups: Indexes) -> Signatures:
    """For each band its rows hashed into 32 bits, and the group with them."""
    by_band = signature.astype(np.uint64).reshape(*shape, -1)
    keys = np.repeat(groups.astype(np.uint64)[None], shape[0], axis=0)
    for row in range(shape[1]):
        keys = keys * GOLDEN + by_band[:, row]
    return (mixed(keys) >> np.uint64(32)).astype(np.uint32)


# --- shingles ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Shingles:
    """The shingles of some texts: 40-bit hashes, text after text, and where each text's begin (one more than texts)."""

    hashes: Words
    starts: Indexes


def shingles(texts: Sequence[str] | Strings, *, distinct: bool = True) -> Shingles:
    """The shingles of each text between two spaces, as sorted sets or as they come; at most 2**24 texts."""
    padded = [f" {text} ".ljust(SHINGLE) for text in texts]
    lengths = np.fromiter(map(len, padded), np.int64, len(padded))
    characters = np.frombuffer("".join(padded).encode("utf-32-le", "surrogatepass"), np.uint32).astype(np.uint64)
    runs = np.zeros(max(0, len(characters) - SHINGLE + 1), np.uint64)
    for offset in range(SHINGLE):
        runs = runs * GOLDEN + characters[offset : offset + len(runs)]
    # A run that begins in the last characters of a text reaches into the next one.
    counts = lengths - (SHINGLE - 1)
    place = np.arange(counts.sum()) + np.repeat(np.arange(len(padded)) * (SHINGLE - 1), counts)
    hashes = mixed(runs[place]) >> (np.uint64(64) - HASH_BITS)
    if not distinct:
        return Shingles(hashes, np.concatenate([[0], np.cumsum(counts)]))
    words = np.sort(np.repeat(np.arange(len(padded), dtype=np.uint64), counts) << HASH_BITS | hashes)
    words = words[np.concatenate([[True], words[1:] != words[:-1]])] if len(words) else words
    starts = np.searchsorted(words, np.arange(len(padded) + 1, dtype=np.uint64) << HASH_BITS)
    return Shingles(words & ((np.uint64(1) << HASH_BITS) - np.uint64(1)), starts)


def _jaccard_reaches(texts: Strings, left: Indexes, right: Indexes, threshold: float) -> Mask:
    """Which pairs of texts have shingles with at least this Jaccard similarity, counted exactly."""
    reached = np.zeros(len(left), dtype=bool)
    for start in range(0, len(left), PAIRS_AT_ONCE):
        some = slice(start, start + PAIRS_AT_ONCE)
        items, inverse = np.unique(np.concatenate([left[some], right[some]]), return_inverse=True)
        own = shingles(texts[items])
        size = np.diff(own.starts)
        a, b = np.split(inverse, 2)
        # The smaller set over the larger bounds the similarity: most pairs need no counting.
        maybe = np.flatnonzero(np.minimum(size[a], size[b]) >= threshold * np.maximum(size[a], size[b]))
        shared = _shared(own, a[maybe], b[maybe])
        union = size[a[maybe]] + size[b[maybe]] - shared
        reached[start + maybe] = shared >= threshold * union - 1e-9  # a ratio that only rounding keeps below reaches it
    return reached


def _shared(some: Shingles, left: Indexes, right: Indexes) -> Indexes:
    """How many shingles each pair of texts shares: put side by side and sorted, a shared one stands twice."""
    sides = []
    for side in (left, right):
        counts = some.starts[side + 1] - some.starts[side]
        pair = np.repeat(np.arange(len(side)), counts)
        place = np.arange(len(pair)) - np.repeat(np.cumsum(counts) - counts - some.starts[side], counts)
        sides.append(pair.astype(np.uint64) << HASH_BITS | some.hashes[place])
    words = np.sort(np.concatenate(sides))
    twice = words[1:][words[1:] == words[:-1]] >> HASH_BITS
    return np.bincount(twice.astype(np.int64), minlength=len(left))
