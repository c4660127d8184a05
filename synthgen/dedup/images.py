"""Images whose 64-bit perceptual hashes differ in few bits.

The bits are cut into blocks, and a key is a choice of blocks. If at most `bits` bits differ, some choice that leaves
out `bits` blocks is equal (pigeonhole principle), so every near pair shares a key. Keys of one block are few but
shared by many items; keys of more blocks are more numerous and shared by fewer, as large sets need.
"""

from collections.abc import Iterator
from itertools import combinations, pairwise
from math import comb

import numpy as np
import numpy.typing as npt

from synthgen.dedup.greedy import Indexes, Items, Mask, Words, first_come, mix

SORTING = 6  # the cost of sorting an item by one key, in comparisons of a candidate


def near_images(hashes: npt.ArrayLike, bits: int, kept: npt.ArrayLike = ()) -> Indexes:
    """Return the representative of each image: the earliest kept one whose hash is within `bits` bits, or itself.

    Args:
        hashes: (images,) uint64, in the order in which they count as earlier.
        bits: The most bits that may differ.
        kept: (kept,) uint64, hashes that come before all others and stay.

    Returns:
        (images,) int64: an index into `hashes`, or -1 - i for the i-th of `kept`.
    """
    before = np.asarray(kept, dtype=np.uint64)
    everything = np.concatenate([before, np.asarray(hashes, dtype=np.uint64)])
    values, first, inverse = np.unique(everything, return_index=True, return_inverse=True)
    order = np.argsort(first)  # distinct hashes in the order of their first item
    distinct, first = values[order], first[order]

    def keys(items: Indexes) -> Iterator[Words]:
        return (mix(distinct[items] & mask) >> np.uint64(32) for mask in key_masks(bits, len(distinct)))

    def near(left: Words, right: Words) -> Mask:
        return np.asarray(np.bitwise_count(left ^ right) <= bits)

    fixed = int(np.searchsorted(first, len(before)))
    distinct_representative = first_come(Items(distinct, keys, near), fixed) if bits else np.arange(len(distinct))
    place = np.empty_like(order)
    place[order] = np.arange(len(order))  # of a sorted value, where it is in `distinct`
    representative = first[distinct_representative[place[inverse]]][len(before) :]
    return np.where(representative < len(before), -1 - representative, representative - len(before)).astype(np.int64)


def key_masks(bits: int, count: int) -> list[np.uint64]:
    """Return the bits of each key: all choices of n out of `bits` + n blocks, with the cheapest n for `count` items."""

    def cost(chosen: int) -> float:
        candidates = count / 2 ** min(32, 64 * chosen / (bits + chosen)) / 2  # of an item, if hashes are spread evenly
        return float(comb(bits + chosen, chosen) * (SORTING + candidates))

    chosen = min(range(1, 6), key=cost)
    ends = [round(64 * block / (bits + chosen)) for block in range(bits + chosen + 1)]
    blocks = [(1 << high) - (1 << low) for low, high in pairwise(ends)]
    return [np.uint64(sum(choice)) for choice in combinations(blocks, chosen)]
