"""The cap on questions that share the phrase of a template: no more than a share of a type may have it in common.

Texts wait on local disk and are read twice: phrases are learned from LEARNED questions at most, those with the lowest
keys, and then looked for in all. Memory holds some thirty bytes for each phrase in a question.
"""

import sys
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from synthgen.config.deduplication import PhrasesConfig
from synthgen.dedup.phrases import Phrase, find_phrases, learn_phrases, split_words
from synthgen.stages.select.thinning import Mask, Numbers, share_of
from synthgen.store.spill import Spill

FEW = 20  # questions of one phrase that stay, however small the type is
LEARNED = 1 << 18  # questions
TOLD = 5  # phrases in a note
ASKED = pa.schema([("number", pa.int64()), ("type", pa.string()), ("asked", pa.large_string())])

Keys = npt.NDArray[np.uint64]
Part = tuple[Numbers, list[str], list[list[str]]]  # numbers, types, words


@dataclass(frozen=True)
class _Found:
    """Phrases in questions: an entry for each phrase that a question has.

    Attributes:
        numbers: Of the question, (found,) int64.
        groups: Of the questions of its type with this phrase, (found,) int64.
        names: Of the groups: the phrase and the type.
        rooms: Of each group: how many questions may stay, (groups,) int64.
    """

    numbers: Numbers
    groups: Numbers
    names: list[tuple[str, str]]
    rooms: Numbers

    def where(self, mask: Mask) -> "_Found":
        """Return some of the entries."""
        return _Found(self.numbers[mask], self.groups[mask], self.names, self.rooms)


class PhraseCap:
    """The questions of a set, by their phrases."""

    def __init__(self, folder: Path, settings: PhrasesConfig) -> None:
        """Prepare an empty set; `folder` is one on local disk that does not exist yet."""
        self._settings, self._spill, self._parts = settings, Spill(folder), 0
        self.notes: list[str] = []

    def add(self, rows: pa.Table) -> None:
        """Add pairs: their `number`, `type`, and `asked`, the question in plain words, null if it does not count."""
        asked = rows.filter(rows.column("asked").is_valid()).select(ASKED.names).cast(ASKED)
        self._spill.append(self._parts, asked)
        self._parts += 1

    def beyond(self, is_left: Mask, rank: Numbers, keys: Keys) -> Numbers:
        """Return the numbers of the pairs with a phrase that enough others of their type have which come before them.

        Args:
            is_left: By number: whether a pair counts.
            rank: By number: the pair with the lower one comes first.
            keys: By number: of its id.
        """
        found = self._find(is_left, self._learn(is_left, keys))
        counts = np.bincount(found.groups, minlength=len(found.rooms))
        self.notes = _notes(found, counts)
        found = found.where((counts > found.rooms)[found.groups])  # the others have room for all
        order = np.lexsort((found.groups, rank[found.numbers]))
        return _too_many(found.numbers[order], found.groups[order], found.rooms)

    def _read(self, is_wanted: Mask) -> Iterator[Part]:
        """Yield those of the questions that are wanted, part by part."""
        for part in range(self._parts):
            rows = self._spill.read(part, ASKED)
            rows = rows.filter(pa.array(is_wanted[rows.column("number").to_numpy()]))
            types = pc.fill_null(rows.column("type"), "").to_pylist()
            yield rows.column("number").to_numpy(), types, split_words(rows.column("asked"))

    def _learn(self, is_left: Mask, keys: Keys) -> list[Phrase]:
        """Return the phrases of the questions, or of a sample that depends on neither their order nor partitions."""
        is_learned = is_left
        if int(is_left.sum()) > LEARNED:
            is_learned = is_left & (keys < np.partition(keys[is_left], LEARNED)[LEARNED])
        texts = [list(map(sys.intern, text)) for _, _, words in self._read(is_learned) for text in words]
        return learn_phrases(texts, self._settings.words)

    def _find(self, is_left: Mask, phrases: list[Phrase]) -> _Found:
        """Return the phrases in all questions that are left."""
        numbers, groups = [np.zeros(0, np.int64)], [np.zeros(0, np.int64)]
        known: dict[tuple[int, str], int] = {}
        sizes: dict[str, int] = {}
        for own, types, words in self._read(is_left):
            for name in types:
                sizes[name] = sizes.get(name, 0) + 1
            texts, which = find_phrases(words, phrases)
            pairs = zip(which.tolist(), texts.tolist(), strict=True)
            made = [known.setdefault((phrase, types[text]), len(known)) for phrase, text in pairs]
            numbers.append(own[texts])
            groups.append(np.array(made, np.int64))
        of_type = np.array([sizes[name] for _, name in known], np.int64)
        rooms = np.maximum(FEW, share_of(self._settings.most, of_type))
        names = [(" ".join(phrases[phrase]), name) for phrase, name in known]
        return _Found(np.concatenate(numbers), np.concatenate(groups), names, rooms)


def _notes(found: _Found, counts: Numbers) -> list[str]:
    """Return a line about the phrases that too many have, the commonest first; parts of longer ones are left out."""
    full = [(int(counts[group]), *found.names[group]) for group in np.flatnonzero(counts > found.rooms)]
    shown = list[tuple[int, str, str]]()
    for count, phrase, name in sorted(full, key=lambda each: (-each[0], -len(each[1]), each)):
        alike = (other for number, other, kind in shown if (number, kind) == (count, name))
        if not any(f" {phrase} " in f" {other} " for other in alike):
            shown.append((count, phrase, name))
    if not shown:
        return []
    told = "; ".join(f"'{phrase}' in {count:,} of {name or 'no type'}" for count, phrase, name in shown[:TOLD])
    more = f"; and {len(shown) - TOLD:,} more" if len(shown) > TOLD else ""
    return [f"select.phrases: more questions of a type than may share a phrase: {told}{more}"]


def _too_many(numbers: Numbers, groups: Numbers, rooms: Numbers) -> Numbers:
    """Return the questions of which a group is full when their turn comes; a dropped one takes no room in its others.

    Args:
        numbers: Of the question of each entry, the entries of one in a row, the first to stay before all, (entries,).
        groups: Of each entry, (entries,).
        rooms: Of each group, (groups,).
    """
    room, dropped = rooms.tolist(), list[int]()
    starts = np.flatnonzero(np.diff(numbers, prepend=-1)).tolist()
    for start, end in pairwise([*starts, len(numbers)]):
        own = groups[start:end].tolist()
        if all(room[group] > 0 for group in own):
            for group in own:
                room[group] -= 1
        else:
            dropped.append(int(numbers[start]))
    return np.array(dropped, np.int64)
