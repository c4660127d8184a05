"""Phrases of templates ("What is the main …", "… in terms of its texture"), found by their words wherever they stand.

Words that follow each other more often than their own counts explain are merged, again and again, by the score of word
pairs of SU4MT (Word Pair Encoding, arXiv 2310.11360): (f(ab) - 10) / sqrt(f(a) f(b)), where f counts units, and a unit
is a word or what was merged before. A frequent run of words whose parts are as frequent in other places ("of the") is
no phrase by this score. SU4MT merges one pair at a time, ten thousand times; here each round merges every pair whose
score is above those beside it, until none reaches LEAST, so the number of phrases follows from the texts.
"""

from collections.abc import Sequence
from itertools import chain

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from synthgen.config.languages import UNSPACED
from synthgen.dedup.greedy import Indexes, Words, mix

LEAST = 0.1  # score of a pair that is merged
RARE = 10  # times that a pair is seen, from which on it counts: the delta of SU4MT
LONGEST = 10  # words of a phrase, as in SU4MT
END = -1  # between texts
_UNSPACED = "([" + "".join(rf"\p{{{script}}}" for script in UNSPACED) + "]{1,2})"

Phrase = tuple[str, ...]


def split_words(plain: pa.LargeStringArray | pa.ChunkedArray) -> list[list[str]]:
    """Return the words of texts in their plain form; two characters of a script without spaces count as a word."""
    spaced = pc.replace_substring_regex(plain, _UNSPACED, r" \1 ")
    return [text.split() for text in spaced.to_pylist()]


def learn_phrases(texts: Sequence[Sequence[str]], words: int) -> list[Phrase]:
    """Return the phrases of texts, sorted.

    Args:
        texts: The words of each.
        words: The fewest of a phrase.
    """
    units: dict[Phrase, int] = {}
    flat = chain.from_iterable(chain(text, [""]) for text in texts)
    codes = np.array([units.setdefault((word,), len(units)) if word else END for word in flat], np.int64)
    lengths = np.ones(len(units), np.int64)
    while len(merged := _best_pairs(codes, lengths)):
        known = list(units)
        pairs, which = np.unique(np.stack([codes[merged], codes[merged + 1]]), axis=1, return_inverse=True)
        made = [units.setdefault(known[a] + known[b], len(units)) for a, b in pairs.T.tolist()]
        codes[merged] = np.array(made, np.int64)[which]
        codes = np.delete(codes, merged + 1)
        lengths = np.array([len(unit) for unit in units], np.int64)
    return sorted(unit for unit in units if len(unit) >= words)


def _best_pairs(codes: Indexes, lengths: Indexes) -> Indexes:
    """Return the places of units that are merged with the next one: their score is above those beside them."""
    left, right = codes[:-1], codes[1:]
    is_pair = (left != END) & (right != END)
    is_pair &= lengths[left] + lengths[right] <= LONGEST
    places = np.flatnonzero(is_pair)
    counts = np.bincount(codes[codes != END], minlength=len(lengths))
    keys, which, times = np.unique(left[places] * len(lengths) + right[places], return_inverse=True, return_counts=True)
    apart = counts[keys // len(lengths)] * counts[keys % len(lengths)]
    scores = np.zeros(len(codes) + 1)  # of the pair that begins a place before
    scores[places + 1] = ((times - RARE) / np.sqrt(apart))[which]
    own = scores[1:-1]
    return np.flatnonzero((own >= LEAST) & (own > scores[:-2]) & (own >= scores[2:]))


def find_phrases(texts: Sequence[Sequence[str]], phrases: Sequence[Phrase]) -> tuple[Indexes, Indexes]:
    """Return where phrases stand in texts: the numbers of texts and of phrases, each (found,), sorted and distinct."""
    codes = {word: code for code, word in enumerate(sorted({word for phrase in phrases for word in phrase}), 1)}
    flat = np.fromiter((codes.get(word, 0) for text in texts for word in (*text, "")), np.uint64)
    ends = np.cumsum([len(text) + 1 for text in texts])
    found = [np.zeros((2, 0), np.int64)]
    for length, (numbers, hashes) in _by_length(phrases, codes).items():
        runs = _runs(flat, length)
        place = np.minimum(np.searchsorted(hashes, runs), len(hashes) - 1)
        starts = np.flatnonzero(hashes[place] == runs)
        found.append(np.stack([np.searchsorted(ends, starts, "right"), numbers[place[starts]]]))
    numbers, which = np.unique(np.concatenate(found, axis=1), axis=1)
    return numbers, which


def _by_length(phrases: Sequence[Phrase], codes: dict[str, int]) -> dict[int, tuple[Indexes, Words]]:
    """Return the numbers of the phrases of each length with the hashes of their words, sorted by these."""
    found = {}
    for length in sorted({len(phrase) for phrase in phrases}):
        numbers = np.array([number for number, phrase in enumerate(phrases) if len(phrase) == length], np.int64)
        words = np.array([[codes[word] for word in phrases[number]] for number in numbers], np.uint64)
        hashes = np.array([_runs(row, length)[0] for row in words], np.uint64)
        order = np.argsort(hashes)
        found[length] = numbers[order], hashes[order]
    return found


def _runs(codes: Words, length: int) -> Words:
    """Return a hash of each run of so many codes, by its first place; a run with a 0 in it has a hash of 0."""
    count = max(0, len(codes) - length + 1)
    hashes, is_whole = np.zeros(count, np.uint64), np.ones(count, bool)
    for place in range(length):
        part = codes[place : place + count]
        hashes = mix(hashes ^ part) + np.uint64(1)
        is_whole &= part != 0
    return np.where(is_whole, hashes, np.uint64(0))
