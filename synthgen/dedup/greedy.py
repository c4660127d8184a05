"""First come, first kept: the rule by which duplicates of any kind are dropped.

A block of items is first compared with the kept items before it; the remaining items are compared within the block. A
block with more near pairs than fit into memory is cut in two: its first half decides most of the second.
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

PAIRS_AT_ONCE = 1 << 16  # candidates compared together; they stay in the processor's cache
MOST_EDGES = 1 << 22  # near pairs held at once
HALF = np.uint64(32)  # a key and an item share a 64-bit word: sorting words sorts by key, then by item
ITEM = np.uint64(0xFFFFFFFF)


@dataclass(frozen=True)
class Items:
    """The items to compare: their values, (items,) of any dtype, and how to get their keys and compare them."""

    values: npt.NDArray[Any]
    keys: Keys
    near: Near


def first_come(items: Items, fixed: int = 0) -> Indexes:
    """Return the representative of each item: the earliest kept item that it is near to, or itself.

    Args:
        items: The items, in the order in which they count as earlier.
        fixed: The number of items at the start that are kept whatever they are near to.

    Returns:
        (items,) int64, indexes into the items.
    """
    representative = np.arange(len(items.values), dtype=np.int64)
    _settle(items, representative[fixed:].copy(), representative[:fixed].copy(), representative)
    return representative


def _settle(items: Items, block: Indexes, kept: Indexes, representative: Indexes) -> None:
    """Write the representatives of a block of items, given the kept items that come before it."""
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
    dropped: dict[int, int] = {}
    for edge in edges.tolist():  # sorted by the later item, then by the earlier, so all earlier items are decided
        later, earlier = edge >> 32, edge & 0xFFFFFFFF
        if later not in dropped and earlier not in dropped:
            dropped[later] = earlier
    representative[list(dropped)] = list(dropped.values())


def _near_to_kept(items: Items, block: Indexes, kept: Indexes) -> Iterator[tuple[Indexes, Indexes]]:
    """Yield near pairs, as arrays of kept items and of items of the block."""
    for block_keys, kept_keys in zip(items.keys(block), items.keys(kept), strict=True):
        known, queries = _sort_words(kept_keys, kept), _sort_words(block_keys, block)
        start = np.searchsorted(known, queries & ~ITEM)  # fast, because the queries are sorted too
        end = np.searchsorted(known, queries | ITEM, side="right")
        for query, place in _near_places(items, known, queries, (start, end)):
            yield _items(known[place]), _items(queries[query])


def _edges_within(items: Items, block: Indexes) -> Words | None:
    """Return the near pairs of a block as sorted words `later << 32 | earlier`; None if they are too many to hold."""
    edges = [np.empty(0, np.uint64)]
    for keys in items.keys(block):
        words = _sort_words(keys, block)
        end = np.searchsorted(words, words | ITEM, side="right")
        spans = np.arange(1, len(words) + 1), end  # a word's later neighbours of the same key
        for query, place in _near_places(items, words, words, spans):
            edges.append(words[place] << HALF | words[query] & ITEM)
            if sum(map(len, edges)) > MOST_EDGES and len(block) > 1:
                return None
    return np.unique(np.concatenate(edges))


def _sort_words(keys: Words, block: Indexes) -> Words:
    """Return keys and items in one word each, sorted by key and then by item."""
    return np.sort(keys << HALF | block.astype(np.uint64))


def _near_places(
    items: Items, known: Words, queries: Words, spans: tuple[Indexes, Indexes]
) -> Iterator[tuple[Indexes, Indexes]]:
    """Yield arrays (i, p) for every query i and every known word p in the i-th span whose items are near.

    Args:
        items: The items.
        known: Sorted words.
        queries: Sorted words.
        spans: The start and the end in `known` of each query's candidates.
    """
    known_values = items.values[_items(known)]  # in the order in which they are compared
    query_values = known_values if queries is known else items.values[_items(queries)]
    for query, place in _spans(*spans):
        is_near = items.near(known_values[place], query_values[query])
        yield query[is_near], place[is_near]


def _items(words: Words) -> Indexes:
    return (words & ITEM).astype(np.int64)


def _spans(start: Indexes, end: Indexes) -> Iterator[tuple[Indexes, Indexes]]:
    """Yield arrays (i, p) for every p in start[i]:end[i], about PAIRS_AT_ONCE pairs at a time."""
    counts = end - start
    total = np.cumsum(counts)
    done = 0
    while done < len(counts):
        before = total[done - 1] if done else 0
        upto = max(done + 1, int(np.searchsorted(total, before + PAIRS_AT_ONCE, side="right")))
        batch = counts[done:upto]
        query = np.repeat(np.arange(done, upto), batch)
        if len(query):
            offset = np.arange(len(query)) - np.repeat(total[done:upto] - batch - before, batch)  # within its span
            yield query, offset + start[query]
        done = upto


def mix(words: Words) -> Words:
    """Return MurmurHash3's finaliser of each word: every bit moves every bit, and no two words give the same."""
    for multiplier in (0xFF51AFD7ED558CCD, 0xC4CEB9FE1A85EC53):
        words = (words ^ (words >> np.uint64(33))) * np.uint64(multiplier)
    return words ^ (words >> np.uint64(33))
