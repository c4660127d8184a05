"""Texts in nearly the same words: their sets of shingles have at least a given Jaccard similarity.

In a small group every two texts are compared. A large group is a set of texts (text_set.py), which are compared if
their MinHash signatures agree somewhere. Either way the similarity is counted exactly.
"""

import tempfile
from collections.abc import Callable, Hashable, Iterator, Sequence
from pathlib import Path
from typing import TypeAlias

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from synthgen.dedup.greedy import HALF, Indexes, Items, Mask, Words, first_come
from synthgen.dedup.shingles import Strings, jaccard
from synthgen.dedup.text_set import TextSet

Texts: TypeAlias = Sequence[str] | pa.Array | pa.ChunkedArray
# texts, their groups, the threshold, how many stay -> representatives
Search: TypeAlias = Callable[[pa.LargeStringArray, Indexes, float, int], Indexes]

SMALL_GROUP = 64  # texts
GROUPED_AT_ONCE = 1 << 16  # texts of small groups


def near_texts(
    texts: Texts, groups: Sequence[Hashable] | None = None, threshold: float = 0.8, fixed: int = 0
) -> Indexes:
    """Return the representative of each text: the earliest kept one of its group that it is near to, or itself.

    Args:
        texts: Texts in their plain form (see `plain_texts`); they are compared as they are.
        groups: The group of each text; None puts all into one.
        threshold: The Jaccard similarity of near texts; 1 finds equal texts only.
        fixed: The number of texts at the start that are kept whatever they are near to, but for equal ones.

    Returns:
        (texts,) int64, indexes into the texts.
    """
    plain = _to_array(texts)
    wording = plain.dictionary_encode().indices.to_numpy().astype(np.int64)
    group = np.zeros(len(plain), np.int64) if groups is None else pd.factorize(np.asarray(groups))[0].astype(np.int64)
    first, inverse = _first_of_each(group * (wording.max(initial=0) + 1) + wording)
    distinct_representative = np.arange(len(first))
    if threshold < 1:
        distinct, group, fixed = plain.take(pa.array(first)), group[first], int(np.searchsorted(first, fixed))
        for members, search in _searches(group):
            members = members[np.argsort(members >= fixed, kind="stable")]
            some, stay = distinct.take(pa.array(members)), int((members < fixed).sum())
            distinct_representative[members] = members[search(some, group[members], threshold, stay)]
    representative: Indexes = first[distinct_representative][inverse]
    return representative


def plain_texts(texts: Texts) -> pa.LargeStringArray:
    """Return texts in a form that ignores how they are typed.

    Compatible characters become one (NFKC), letters lower case, and runs of punctuation and spaces one space.
    """
    lower = pc.utf8_lower(pc.utf8_normalize(_to_array(texts), form="NFKC"))
    return pc.utf8_trim_whitespace(pc.replace_substring_regex(lower, r"[\p{P}\s]+", " "))


def _to_array(texts: Texts) -> pa.LargeStringArray:
    array = texts if isinstance(texts, pa.Array | pa.ChunkedArray) else pa.array(texts, pa.large_string())
    large = array.cast(pa.large_string())
    return large.combine_chunks() if isinstance(large, pa.ChunkedArray) else large


def _first_of_each(codes: Indexes) -> tuple[Indexes, Indexes]:
    """Return the positions of the first of each code, in order, and for each code the index of its position."""
    inverse, distinct = pd.factorize(codes)
    first = np.full(len(distinct), len(codes), dtype=np.int64)
    np.minimum.at(first, inverse, np.arange(len(codes)))
    return first, inverse.astype(np.int64)


def _searches(group: Indexes) -> Iterator[tuple[Indexes, Search]]:
    """Yield the texts to search together, and how: each large group alone, small groups in batches."""
    order = np.argsort(group, kind="stable")
    ends = np.append(np.flatnonzero(np.diff(group[order])) + 1, len(order))  # of the groups
    sizes = np.diff(ends, prepend=0)
    for end, size in zip(ends[sizes > SMALL_GROUP], sizes[sizes > SMALL_GROUP], strict=True):
        yield order[end - size : end], _near_in_set
    small = order[np.repeat(sizes <= SMALL_GROUP, sizes)]
    ends = np.cumsum(sizes[sizes <= SMALL_GROUP])
    cuts = ends[np.searchsorted(ends, np.arange(GROUPED_AT_ONCE, len(small), GROUPED_AT_ONCE))]
    yield from ((batch, _near_in_groups) for batch in np.split(small, np.unique(cuts)) if len(batch))


def _near_in_set(texts: pa.LargeStringArray, groups: Indexes, threshold: float, fixed: int) -> Indexes:
    """Return the representative of each text of one group."""
    with tempfile.TemporaryDirectory(prefix="synth-texts-") as folder:
        texts_of_group = TextSet(Path(folder) / "texts", threshold)
        texts_of_group.add(texts)
        return texts_of_group.representatives(np.arange(len(texts)), fixed)


def _near_in_groups(texts: pa.LargeStringArray, groups: Indexes, threshold: float, fixed: int) -> Indexes:
    """Return the representative of each text; every two texts of a group are candidates."""
    strings: Strings = np.asarray(texts.to_pylist(), dtype=object)

    def keyed(items: Indexes) -> Iterator[Words]:
        yield groups[items].astype(np.uint64) << HALF | items.astype(np.uint64)

    def near(left: Indexes, right: Indexes) -> Mask:
        return np.asarray(jaccard(strings.__getitem__, left, right, threshold) >= threshold)

    return first_come(Items(len(groups), keyed, lambda left, right: np.ones(len(left), bool), near), fixed)
