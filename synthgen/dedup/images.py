"""Images whose 64-bit perceptual hashes differ in few bits, and whose thumbnails agree (thumbnails.py).

The bits are cut into blocks, and a key is a choice of blocks. If at most `bits` bits differ, some choice that leaves
out `bits` blocks is equal (pigeonhole principle), so every near pair shares a key. Keys of one block are few but
shared by many items; keys of more blocks are more numerous and shared by fewer, as large sets need.
"""

from collections.abc import Iterator
from itertools import combinations, pairwise
from math import comb

import numpy as np
import numpy.typing as npt

from synthgen.dedup.crowds import Crowds
from synthgen.dedup.greedy import (
    HALF,
    ITEM,
    Indexes,
    Items,
    Mask,
    Words,
    candidates,
    compare_with_kept,
    first_come,
    mix,
)
from synthgen.dedup.thumbnails import Thumbnails

SORTING = 6  # the cost of sorting an item by one key, in comparisons of a candidate


def near_images(
    hashes: npt.ArrayLike, bits: int, kept: npt.ArrayLike = (), thumbnails: Thumbnails | None = None
) -> Indexes:
    """Return the representative of each image: the earliest kept one that is near to it, or itself.

    Args:
        hashes: (images,) uint64, in the order in which they count as earlier.
        bits: The most bits that may differ.
        kept: (kept,) uint64, hashes that come before all others and stay.
        thumbnails: Of all images, the kept ones first; without them near hashes suffice.

    Returns:
        (images,) int64: an index into `hashes`, or -1 - i for the i-th of `kept`.
    """
    before = np.asarray(kept, dtype=np.uint64)
    everything = np.concatenate([before, np.asarray(hashes, dtype=np.uint64)])
    images = everything if thumbnails is None else mix(everything) ^ thumbnails.digests()
    _, first, inverse = np.unique(images, return_index=True, return_inverse=True)
    order = np.argsort(first)  # distinct images in the order of their first item
    first = first[order]
    shown = None if thumbnails is None else thumbnails.take(first)
    items = _items(everything[first], bits, shown)
    fixed = int(np.searchsorted(first, len(before)))
    distinct_representative = first_come(items, fixed) if bits or shown is not None else np.arange(len(first))
    place = np.empty_like(order)
    place[order] = np.arange(len(order))  # of a sorted image, where it is in `first`
    representative = first[distinct_representative[place[inverse]]][len(before) :]
    return np.where(representative < len(before), -1 - representative, representative - len(before)).astype(np.int64)


def near_known(hashes: npt.ArrayLike, known: npt.ArrayLike, bits: int, thumbnails: Thumbnails) -> Indexes:
    """Return, for each image, the first of some known images that is near to it, or -1.

    Args:
        hashes: (images,) uint64.
        known: (known,) uint64.
        bits: The most bits that may differ.
        thumbnails: Of all images, the known ones first.
    """
    before = np.asarray(known, dtype=np.uint64)
    everything = np.concatenate([before, np.asarray(hashes, dtype=np.uint64)])
    representative = np.arange(len(everything))
    if 0 < len(before) < len(everything):
        block, kept = np.arange(len(before), len(everything)), np.arange(len(before))
        compare_with_kept(_items(everything, bits, thumbnails), block, kept, representative)
    found = representative[len(before) :]
    return np.where(found < len(before), found, -1)


def near_hashes(hashes: npt.ArrayLike, known: npt.ArrayLike, bits: int) -> tuple[Indexes, Indexes]:
    """Return every pair of a hash and a known one that differ in at most so many bits, as indexes of both.

    Args:
        hashes: (hashes,) uint64, none of them twice.
        known: (known,) uint64, none of them twice.
        bits: The most bits that may differ.
    """
    before = np.asarray(known, dtype=np.uint64)
    everything = np.concatenate([before, np.asarray(hashes, dtype=np.uint64)])
    found = [np.empty(0, np.uint64)]
    if 0 < len(before) < len(everything):
        items = _items(everything, bits, None)
        for words in items.keyed(np.arange(len(everything))):
            words.sort()
            pairs = candidates(items, words, first_later=len(before))
            found.append(
                np.unique(np.concatenate([np.empty(0, np.uint64), *(later << HALF | early for early, later in pairs)]))
            )
    pairs_found = np.unique(np.concatenate(found))
    return (pairs_found >> HALF).astype(np.int64) - len(before), (pairs_found & ITEM).astype(np.int64)


def _items(hashes: Words, bits: int, thumbnails: Thumbnails | None) -> Items:
    """Return distinct images as items to compare."""
    masks = key_masks(bits, len(hashes))

    def may_be_near(left: Indexes, right: Indexes) -> Mask:
        return np.asarray(np.bitwise_count(hashes[left] ^ hashes[right]) <= bits)

    if thumbnails is None:
        return Items(
            len(hashes),
            lambda items: (_words(mix(hashes[items] & mask), items) for mask in masks),
            may_be_near,
            lambda left, right: np.ones(len(left), bool),
        )
    shown, cells = thumbnails, thumbnails.cells.shape[1]
    crowds = [Crowds.of(mix(hashes & mask), cells, seed) for seed, mask in enumerate(masks)]

    def keyed(items: Indexes) -> Iterator[Words]:
        for mask, crowd in zip(masks, crowds, strict=True):
            yield _words(crowd.split(mix(hashes[items] & mask), shown.take(items)), items)

    return Items(len(hashes), keyed, may_be_near, shown.are_near)


def _words(keys: Words, items: Indexes) -> Words:
    """Return 32 bits of each key, with the item."""
    return keys >> HALF << HALF | items.astype(np.uint64)


def key_masks(bits: int, count: int) -> list[np.uint64]:
    """Return the bits of each key: all choices of n out of `bits` + n blocks, with the cheapest n for `count` items."""

    def cost(chosen: int) -> float:
        candidates = count / 2 ** min(32, 64 * chosen / (bits + chosen)) / 2  # of an item, if hashes are spread evenly
        return float(comb(bits + chosen, chosen) * (SORTING + candidates))

    chosen = min(range(1, 6), key=cost)
    ends = [round(64 * block / (bits + chosen)) for block in range(bits + chosen + 1)]
    blocks = [(1 << high) - (1 << low) for low, high in pairwise(ends)]
    return [np.uint64(sum(choice)) for choice in combinations(blocks, chosen)]
