"""Runs of words that texts share with benchmarks, as GPT-3 counted overlap (arXiv 2005.14165, appendix C).

A run has 13 words. A benchmark's text of 8 to 12 words counts as one run; shorter ones are too common to tell anything.
Runs that more than ten texts of a benchmark have are its instructions ("answer with the option's letter …"), and are
left out. A character of a script without spaces counts as half a word.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from synthgen.config.languages import UNSPACED
from synthgen.dedup.greedy import Indexes, Mask, Words, mix
from synthgen.dedup.shingles import GOLDEN

LEAST_WORDS = 8  # of a text that is compared
COMMON = 10  # texts of a benchmark that may share a run
_UNSPACED = "([" + "".join(rf"\p{{{script}}}" for script in UNSPACED) + "])"


@dataclass(frozen=True)
class RunIndex:
    """The runs of a benchmark's texts.

    Attributes:
        runs: Units of a word (2 in scripts without spaces, where they are characters), units of a run → the hashes of
            the runs, sorted, and the text of each.
        short: The number of texts that are too short to be compared.
    """

    runs: dict[tuple[int, int], tuple[Words, Indexes]]
    short: int

    @staticmethod
    def of(plain: pa.LargeStringArray, words: int) -> "RunIndex":
        """Return the index of texts in their plain form; runs have so many words."""
        found: dict[tuple[int, int], tuple[list[Words], list[Indexes]]] = {}
        short = 0
        for texts, scale in _by_script(plain):
            lengths = np.diff(texts.starts)
            short += int((lengths < LEAST_WORDS * scale).sum())
            for length in range(LEAST_WORDS * scale, words * scale + 1):
                is_whole = (lengths == length) if length < words * scale else (lengths >= length)
                hashes, owner = _runs(texts, length)
                wanted = is_whole[owner]
                some = found.setdefault((scale, length), ([], []))
                some[0].append(hashes[wanted])
                some[1].append(texts.numbers[owner[wanted]])
        return RunIndex({key: _indexed(*parts) for key, parts in found.items()}, short)

    def matches(self, plain: pa.LargeStringArray) -> Indexes:
        """Return the text of the index that each text shares a run with, or -1, (texts,) int64."""
        matched = np.full(len(plain), -1, np.int64)
        for texts, scale in _by_script(plain):
            for (units, length), (hashes, owners) in sorted(self.runs.items(), reverse=True):
                if units != scale or not len(hashes):
                    continue
                runs, owner = _runs(texts, length)
                place = np.minimum(np.searchsorted(hashes, runs), len(hashes) - 1)
                is_shared = hashes[place] == runs
                number = texts.numbers[owner[is_shared]]
                is_new = matched[number] < 0
                matched[number[is_new]] = owners[place[is_shared]][is_new]
        return matched


@dataclass(frozen=True)
class _Texts:
    """Some texts as hashes of their words, text after text.

    Attributes:
        numbers: Of the texts among all.
        starts: Where the words of each begin, and the end.
    """

    numbers: Indexes
    words: Words
    starts: Indexes


def _by_script(plain: pa.LargeStringArray) -> Sequence[tuple[_Texts, int]]:
    """Return texts with spaces, and those without: the latter have twice as many units to a word."""
    spaced = pc.utf8_trim_whitespace(pc.replace_substring_regex(plain, _UNSPACED, r" \1 "))
    units = pc.split_pattern_regex(spaced, r"\s+")
    lengths = pc.list_value_length(units).to_numpy().astype(np.int64)
    characters = pc.count_substring_regex(plain, _UNSPACED).to_numpy()
    is_unspaced = 2 * characters > lengths
    return [(_hashed(units, np.flatnonzero(is_unspaced == unspaced)), 2 if unspaced else 1) for unspaced in (0, 1)]


def _hashed(units: pa.LargeListArray, numbers: Indexes) -> _Texts:
    some = units.take(pa.array(numbers))
    named = some.flatten().dictionary_encode()
    hashes = pd.util.hash_array(np.asarray(named.dictionary.to_pylist(), dtype=object), categorize=False)
    lengths = pc.list_value_length(some).to_numpy().astype(np.int64)
    return _Texts(numbers, hashes[named.indices.to_numpy()], np.concatenate([[0], np.cumsum(lengths)]))


def _runs(texts: _Texts, length: int) -> tuple[Words, Indexes]:
    """Return the hashes of all runs of so many units, and the index of the text of each."""
    counts = np.maximum(0, np.diff(texts.starts) - length + 1)
    owner = np.repeat(np.arange(len(counts)), counts)
    first = np.arange(len(owner)) - np.repeat(np.cumsum(counts) - counts - texts.starts[:-1], counts)
    hashes = np.zeros(len(owner), np.uint64)
    for offset in range(length):
        hashes = hashes * GOLDEN + texts.words[first + offset]
    return mix(hashes), owner


def _indexed(hashes: Sequence[Words], owners: Sequence[Indexes]) -> tuple[Words, Indexes]:
    """Return runs sorted, each with the first text that has it, without those that too many texts have."""
    joined, owner = np.concatenate(hashes), np.concatenate(owners)
    order = np.lexsort((owner, joined))
    joined, owner = joined[order], owner[order]
    is_new = np.ones(len(joined), bool)  # a text that repeats itself counts once
    is_new[1:] = (joined[1:] != joined[:-1]) | (owner[1:] != owner[:-1])
    runs, first, counts = np.unique(joined[is_new], return_index=True, return_counts=True)
    is_rare: Mask = counts <= COMMON
    kept: npt.NDArray[np.int64] = owner[is_new][first][is_rare]
    return runs[is_rare], kept
