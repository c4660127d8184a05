"""First come, first kept: the rule by which duplicates of any kind are dropped.

Items are settled in blocks, each four times as long as all before it: a block is first compared with the kept items
before it, then the remaining items with each other. So one of a large cluster is soon kept and represents the rest, and
few pairs are ever compared. A block with more near pairs than fit into memory is cut in two: its first half decides
most of the second.

A pair is compared twice: quickly wherever its items share a key, and exactly once, if the quick comparison lets it
pass. Keys of one kind are held at a time.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Indexes = npt.NDArray[np.int64]
Words = npt.NDArray[np.uint64]
Mask = npt.NDArray[np.bool_]
Keyed = Callable[[Indexes], Iterator[Words]]  # items -> for each kind of key, `key << 32 | item` of some or all of them
Near = Callable[[Indexes, Indexes], Mask]  # pairs of items -> which are near
Finer = Callable[
    [Indexes], Words
]  # items that share a key -> `key << 32 | item` of other keys, of which near ones share one

FIRST_BLOCK = 1 << 14  # items
CROWD = 256  # pairs an item of one key takes part in, from which on finer keys are worth their making
EDGES_AN_ITEM = 32  # in a block; with more it is cut in two
PAIRS_AT_ONCE = 1 << 15  # candidates compared together; they stay in the processor's cache
WORDS_AT_ONCE = 1 << 20  # of keys and items
MOST_EDGES = 1 << 22  # pairs held at once
FEW_EDGES = 1 << 12  # of which no block is cut
SAMPLE = 1 << 10  # pairs by which others are judged
HALF = np.uint64(32)  # a key and an item share a 64-bit word: sorting words sorts by key, then by item
ITEM = np.uint64(0xFFFFFFFF)


@dataclass(frozen=True)
class Items:
    """The items to compare.

    Attributes:
        count: Their number.
        keyed: Which items can be near: those that share a key.
        may_be_near: The quick comparison; it may let pairs pass that are not near.
        near: The exact comparison.
        finer: Finer keys of items that share a key with very many; without them all are compared.
    """

    count: int
    keyed: Keyed
    may_be_near: Near
    near: Near
    finer: Finer | None = None


def first_come(items: Items, fixed: int = 0) -> Indexes:
    """Return the representative of each item: the earliest kept item that it is near to, or itself.

    Args:
        items: The items, in the order in which they count as earlier.
        fixed: The number of items at the start that are kept whatever they are near to.

    Returns:
        (items,) int64, indexes into the items.
    """
    representative = np.arange(items.count, dtype=np.int64)
    done = fixed
    while done < len(representative):
        upto = min(len(representative), max(FIRST_BLOCK, 4 * done))
        kept = np.flatnonzero(representative[:done] == np.arange(done))
        _settle(items, np.arange(done, upto), kept, representative)
        done = upto
    return representative


def _settle(items: Items, block: Indexes, kept: Indexes, representative: Indexes) -> None:
    """Write the representatives of a block of items, given the kept items that come before it."""
    if len(kept):
        compare_with_kept(items, block, kept, representative)
        block = block[representative[block] == block]
    edges = _edges_within(items, block)
    if edges is None:
        first, second = np.array_split(block, 2)
        _settle(items, first, np.empty(0, np.int64), representative)
        _settle(items, second, first[representative[first] == first], representative)
        return
    decide(edges, representative)


def decide(edges: Words, representative: Indexes) -> None:
    """Write the representatives of items that represent themselves so far.

    Args:
        edges: Near pairs as sorted words `later << 32 | earlier`.
        representative: Of each item.
    """
    dropped: dict[int, int] = {}
    for edge in edges.tolist():  # sorted by the later item, then by the earlier, so all earlier items are decided
        later, earlier = edge >> 32, edge & 0xFFFFFFFF
        if later not in dropped and earlier not in dropped:
            dropped[later] = earlier
    representative[list(dropped)] = list(dropped.values())


def compare_with_kept(items: Items, block: Indexes, kept: Indexes, representative: Indexes) -> None:
    """Write the representatives of the items of a block that are near to a kept item before it."""
    edges, count = [np.empty(0, np.uint64)], 0
    for block_words, kept_words in zip(items.keyed(block), items.keyed(kept), strict=True):
        words = np.concatenate([kept_words, block_words])
        words.sort()  # kept items come first within a key
        for earlier, later in candidates(items, words, first_later=int(block[0])):
            edges.append(later << HALF | earlier)
            count += len(earlier)
        if count > MOST_EDGES:
            _represent(items, np.concatenate(edges), representative)
            edges, count = [np.empty(0, np.uint64)], 0
    _represent(items, np.concatenate(edges), representative)


def _represent(items: Items, edges: Words, representative: Indexes) -> None:
    """Write the earliest item that each later one is near to; `edges` are words `later << 32 | earlier`."""
    near = _near_edges(items, edges)
    later = (near >> HALF).astype(np.int64)
    np.minimum.at(representative, later, (near & ITEM).astype(np.int64))


def _edges_within(items: Items, block: Indexes) -> Words | None:
    """Return the near pairs of a block as sorted words `later << 32 | earlier`; None if they are too many to hold."""
    near, edges, count = np.empty(0, np.uint64), list[Words](), 0
    most = min(MOST_EDGES, max(FEW_EDGES, EDGES_AN_ITEM * len(block)))
    for words in items.keyed(block):
        words.sort()
        for earlier, later in candidates(items, words):
            edges.append(later << HALF | earlier)
            count += len(earlier)
            if count > most and len(block) > 1:
                if _near_share(items, np.concatenate(edges)) > 0.5:
                    return None
                near = np.union1d(near, _near_edges(items, np.concatenate(edges)))
                edges, count = [], 0
                if len(near) > most:
                    return None
    return np.union1d(near, _near_edges(items, np.concatenate([near[:0], *edges])))


def _near_edges(items: Items, edges: Words) -> Words:
    """Return the distinct words `later << 32 | earlier` whose items are near, sorted."""
    edges = np.unique(edges)
    is_near = items.near((edges & ITEM).astype(np.int64), (edges >> HALF).astype(np.int64))
    return edges[is_near]


def _near_share(items: Items, edges: Words) -> float:
    """Return about which share of so many words `later << 32 | earlier` is of near items."""
    some = edges[:: len(edges) // SAMPLE + 1]
    return float(items.near((some & ITEM).astype(np.int64), (some >> HALF).astype(np.int64)).mean())


def candidates(
    items: Items, words: Words, first_later: int = 0, *, is_finer: bool = False
) -> Iterator[tuple[Words, Words]]:
    """Yield arrays (earlier, later) of items that share a key and may be near.

    Args:
        items: The items.
        words: Sorted words of a key and an item.
        first_later: From this item on they may be the later of a pair; with it, earlier ones are before it.
        is_finer: The words are of finer keys.
    """
    words = _in_runs(words)
    keys, members = words >> HALF, (words & ITEM).astype(np.int64)
    has_next = np.flatnonzero(keys[1:] == keys[:-1])
    if not len(has_next):
        return
    last_of_run = np.append(np.flatnonzero(np.diff(has_next) != 1), len(has_next) - 1)
    run = np.searchsorted(last_of_run, np.arange(len(has_next)))
    start, end = has_next + 1, has_next[last_of_run][run] + 2
    if first_later:
        # Within a run, kept items are first: only they are earlier, and only those of the block are later.
        is_kept = members < first_later
        before = np.concatenate([[0], np.cumsum(is_kept)])
        start = np.where(is_kept[has_next], start + before[end] - before[start], end)
    if items.finer and not is_finer:
        is_crowded = np.bincount(run, end - start) > CROWD * np.bincount(run)
        for number in np.flatnonzero(is_crowded):
            last = last_of_run[number]
            first = last_of_run[number - 1] + 1 if number else 0
            finer = np.sort(items.finer(members[has_next[first] : has_next[last] + 2]))
            yield from candidates(items, finer, first_later, is_finer=True)
        end = np.where(is_crowded[run], start, end)
    for query, place in _spans(start, end):
        earlier, later = members[has_next[query]], members[place]
        maybe = items.may_be_near(earlier, later)
        yield earlier[maybe].astype(np.uint64), later[maybe].astype(np.uint64)


def _in_runs(words: Words) -> Words:
    """Return the sorted words whose key another one has too; in most sets they are few."""
    is_in_run = np.zeros(len(words), bool)
    for start in range(0, len(words) - 1, WORDS_AT_ONCE):
        here, after = words[start : start + WORDS_AT_ONCE], words[start + 1 : start + WORDS_AT_ONCE + 1]
        is_same = (here[: len(after)] ^ after) <= ITEM
        is_in_run[start + 1 : start + 1 + len(after)] |= is_same
        is_in_run[start : start + len(after)] |= is_same
    joined: Words = words[is_in_run]
    return joined


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
