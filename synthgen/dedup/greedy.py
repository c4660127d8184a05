"""First come, first kept: the one rule by which duplicates of any kind are dropped.

Comes in: items, a way to get their keys, and a way to say which pairs are near. Goes out: for each item the earliest kept
item that it is near to, or itself. A block of items is first compared with what is kept before it; what
is left is compared within the block. A block with so many near pairs that they would not fit into memory is cut in two:
its first half decides most of the second.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

Indexes = npt.NDArray[np.int64]
Words = npt.NDArray[np.uint64]
Mask = npt.NDArray[np.bool_]
Keys = Callable[[Indexes], Iterator[Words]]  # items -> for each kind of key, the keys of these items, below 2**32
Near = Callable[[npt.NDArray[Any], npt.NDArray[Any]], Mask]  # the values of pairs of items -> which pairs are near

PAIRS_AT_ONCE = 1 << 16  # candidates compared in one go: they stay in the processor's cache
MOST_EDGES = 1 << 22  # near pairs held at once
HALF = np.uint64(32)  # a key and an item share a word of 64 bits: sorting words sorts by key, then by item
ITEM = np.uint64(0xFFFFFFFF)


@dataclass(frozen=True)
class Items:
    """What is compared: `values` has one entry an item."""

    values: npt.NDArray[Any]
    keys: Keys
    near: Near


def first_come(items: Items, fixed: int = 0) -> Indexes:
    """The representative of each item; the first `fixed` of them stay whatever they are near to."""
    representative = np.arange(len(items.values), dtype=np.int64)
    _settle(items, representative[fixed:].copy(), representative[:fixed].copy(), representative)
    return representative


def _settle(items: Items, block: Indexes, kept: Indexes, representative: Indexes) -> None:
    """Decides a block of items, given kept items that come before it."""
    if len(kept):
        for earlier, later in _near_to_kept(items, block, kept):
            np.minimum.at(representative, later, earlier)
        block = block[representative[block] == block]
    edges = _edges_within(items, block)
    if edges is None:
        first, second = np.array_split(block, 2)
        _settle(items, first, np.empty(0, np.int64), representative)
        _settle(items, second, first[representative[first] == first], representative)
        return
    stands_for: dict[int, int] = {}
    for edge in edges.tolist():  # sorted by the later item, then by the earlier: what comes before is decided
        later, earlier = edge >> 32, edge & 0xFFFFFFFF
        if later not in stands_for and earlier not in stands_for:
            stands_for[later] = earlier
    representative[list(stands_for)] = list(stands_for.values())


def _near_to_kept(items: Items, block: Indexes, kept: Indexes) -> Iterator[tuple[Indexes, Indexes]]:
    """Near pairs of a kept item and one of the block."""
    for block_keys, kept_keys in zip(items.keys(block), items.keys(kept), strict=True):
        known, asking = _sorted(kept_keys, kept), _sorted(block_keys, block)
        start = np.searchsorted(known, asking & ~ITEM)  # fast, because the questions are in order too
        end = np.searchsorted(known, asking | ITEM, side="right")
        for which, place in _near_places(items, known, asking, (start, end)):
            yield _items(known[place]), _items(asking[which])


def _edges_within(items: Items, block: Indexes) -> Words | None:
    """Near pairs inside a block as `later << 32 | earlier`, sorted; None if they are too many to hold."""
    found = [np.empty(0, np.uint64)]
    for own in items.keys(block):
        words = _sorted(own, block)
        end = np.searchsorted(words, words | ITEM, side="right")
        for which, place in _near_places(items, words, words, (np.arange(1, len(words) + 1), end)):
            found.append(words[place] << HALF | words[which] & ITEM)
            if sum(map(len, found)) > MOST_EDGES and len(block) > 1:
                return None
    return np.unique(np.concatenate(found))


def _sorted(keys: Words, block: Indexes) -> Words:
    """Keys and items in one word each, by key and then by item."""
    return np.sort(keys << HALF | block.astype(np.uint64))


def _near_places(
    items: Items, known: Words, asking: Words, spans: tuple[Indexes, Indexes]
) -> Iterator[tuple[Indexes, Indexes]]:
    """(i, p) for every word i of `asking` and word p of `known` in the i-th span whose items are near."""
    values = items.values[_items(known)]  # beside one another where they are compared
    asked = values if asking is known else items.values[_items(asking)]
    for which, place in _spans(*spans):
        yes = items.near(values[place], asked[which])
        yield which[yes], place[yes]


def _items(words: Words) -> Indexes:
    return (words & ITEM).astype(np.int64)


def _spans(start: Indexes, end: Indexes) -> Iterator[tuple[Indexes, Indexes]]:
    """(i, p) for every p in start[i]:end[i], some PAIRS_AT_ONCE of them at a time."""
    counts = end - start
    total = np.cumsum(counts)
    done = 0
    while done < len(counts):
        before = total[done - 1] if done else 0
        upto = max(done + 1, int(np.searchsorted(total, before + PAIRS_AT_ONCE, side="right")))
        some = counts[done:upto]
        which = np.repeat(np.arange(done, upto), some)
        if len(which):
            yield which, np.arange(len(which)) - np.repeat(total[done:upto] - some - before, some) + start[which]
        done = upto


def mixed(words: Words) -> Words:
    """MurmurHash3's finaliser: every bit of a word moves every bit of the result, and no two words have the same."""
    for multiplier in (0xFF51AFD7ED558CCD, 0xC4CEB9FE1A85EC53):
        words = (words ^ (words >> np.uint64(33))) * np.uint64(multiplier)
    return words ^ (words >> np.uint64(33))
