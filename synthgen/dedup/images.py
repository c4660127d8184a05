"""Images whose 64-bit perceptual hashes differ in few bits.

The bits are cut into blocks, and a key is a choice of blocks. Where at most `bits` bits differ, some choice that leaves out
`bits` blocks is equal (pigeonhole), so every near pair shares a key. Keys of one block are few but shared by many; keys
of more blocks are more and rarer, which is what large sets need.
"""

from collections.abc import Iterator
from itertools import combinations, pairwise
from math import comb

import numpy as np
import numpy.typing as npt

from synthgen.dedup.greedy import Indexes, Items, Mask, Words, first_come, mixed

SORTING = 6  # what sorting an item by one key costs, in comparisons of a candidate


def near_images(hashes: npt.ArrayLike, bits: int, kept: npt.ArrayLike = ()) -> Indexes:
    """Whose hash is within `bits` bits of an earlier kept one: index of the one that stands for it.

    Hashes in `kept` come before all others and stay; -1 - i in the result means the i-th of them.
    """
    before = np.asarray(kept, dtype=np.uint64)
    everything = np.concatenate([before, np.asarray(hashes, dtype=np.uint64)])
    values, first, inverse = np.unique(everything, return_index=True, return_inverse=True)
    order = np.argsort(first)  # distinct hashes in the order of their first item
    distinct, first = values[order], first[order]

    def keys(items: Indexes) -> Iterator[Words]:
        return (mixed(distinct[items] & mask) >> np.uint64(32) for mask in key_masks(bits, len(distinct)))

    def near(one: Words, other: Words) -> Mask:
        return np.asarray(np.bitwise_count(one ^ other) <= bits)

    fixed = int(np.searchsorted(first, len(before)))
    found = first_come(Items(distinct, keys, near), fixed) if bits else np.arange(len(distinct))
    place = np.empty_like(order)
    place[order] = np.arange(len(order))
    representative = first[found[place[inverse]]][len(before) :]
    return np.where(representative < len(before), -1 - representative, representative - len(before)).astype(np.int64)


def key_masks(bits: int, count: int) -> list[np.uint64]:
    """The bits of each key: every choice of some out of `bits` more blocks; how many is what is cheapest for `count` items."""

    def cost(chosen: int) -> float:
        candidates = count / 2 ** min(32, 64 * chosen / (bits + chosen)) / 2  # of an item, if hashes are spread evenly
        return float(comb(bits + chosen, chosen) * (SORTING + candidates))

    chosen = min(range(1, 6), key=cost)
    ends = [round(64 * block / (bits + chosen)) for block in range(bits + chosen + 1)]
    blocks = [(1 << high) - (1 << low) for low, high in pairwise(ends)]
    return [np.uint64(sum(some)) for some in combinations(blocks, chosen)]
