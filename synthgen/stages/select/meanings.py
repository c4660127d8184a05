"""Texts of the whole set that mean nearly the same, by the cosine of their embeddings (SemDeDup, arXiv 2303.09540).

The texts wait on local disk, and so do the embeddings while they are compared. Memory holds some fifty bytes a text,
and the embeddings of one cell.
"""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from synthgen.config.deduplication import AnswerMeaningsConfig, QuestionMeaningsConfig
from synthgen.dedup import near_embeddings
from synthgen.dedup.clusters import EMPTY, Clusters
from synthgen.dedup.greedy import Indexes, Mask, Words
from synthgen.dedup.semantic import unit
from synthgen.dedup.text_set import text_hashes
from synthgen.dedup.thumbnails import chunks
from synthgen.stages.select.embedded import EmbeddedTexts, Halves, Read
from synthgen.store.spill import Spill

TEXTS = pa.schema([("number", pa.int64()), ("hash", pa.uint64()), ("text", pa.large_string())])
PAIRS_AT_ONCE = 1 << 13


class Meanings:
    """The texts of a comparison, and the number of the pair that each is of."""

    def __init__(
        self, folder: Path, column: str, settings: QuestionMeaningsConfig | AnswerMeaningsConfig, made: EmbeddedTexts
    ) -> None:
        """Prepare an empty set.

        Args:
            folder: A folder on local disk that does not exist yet.
            column: Of the rows that are added, the one with the texts.
            settings: What counts as near.
            made: Their embeddings.
        """
        folder.mkdir()
        self.settings = settings
        self._folder, self._column, self._made = folder, column, made
        self._spill, self._parts = Spill(folder / "texts"), 0
        self._numbers, self._hashes = [np.empty(0, np.int64)], [np.empty(0, np.uint64)]

    def add(self, rows: pa.Table) -> None:
        """Add the texts that are there and long enough, with the `number` of each pair."""
        lengths = pc.fill_null(pc.utf8_length(rows.column(self._column)), -1)
        rows = rows.filter(pc.greater_equal(lengths, max(1, self.settings.characters)))
        texts = rows.column(self._column)
        self._numbers.append(rows.column("number").to_numpy())
        self._hashes.append(text_hashes(texts.to_pylist()))
        self._spill.append(self._parts, pa.table([rows.column("number"), self._hashes[-1], texts], schema=TEXTS))
        self._parts += 1

    def clusters(self, rank: Indexes, is_open: Mask, earlier: int) -> Clusters:
        """Return the clusters of the pairs that are open; see `duplicates._Texts`."""
        numbers, hashes = np.concatenate(self._numbers), np.concatenate(self._hashes)
        places = np.flatnonzero(is_open[numbers])
        places = places[np.argsort(rank[numbers[places]])]
        if not len(places):
            return EMPTY
        # Equal texts are one item.
        distinct, first, inverse = np.unique(hashes[places], return_index=True, return_inverse=True)
        embeddings = self._made.of(distinct, self._read(distinct), self._folder / "embeddings")
        by_place = np.argsort(first)
        item = np.empty(len(first), np.int64)
        item[by_place] = np.arange(len(first))
        # Where several may stay, near pairs of earlier runs count as one cluster too.
        fixed = int((numbers[places[first]] < earlier).sum()) if self.settings.most == 1 else 0
        near = near_embeddings(embeddings, self.settings.cosine, distinct[by_place], fixed, by_place)
        centre = first[by_place][near][item[inverse]]
        members = np.flatnonzero(centre != np.arange(len(places)))
        cosines = _cosines(embeddings, inverse[members], inverse[centre[members]])
        return Clusters(numbers[places[members]], numbers[places[centre[members]]], cosines)

    def _read(self, distinct: Words) -> Read:
        """Return how the texts of some of the hashes are read."""

        def read(is_wanted: Mask) -> Iterator[tuple[Words, list[str]]]:
            for part in range(self._parts):
                rows = self._spill.read(part, TEXTS)
                found = rows.column("hash").to_numpy()
                place = np.minimum(np.searchsorted(distinct, found), len(distinct) - 1)
                chosen = is_wanted[place] & (distinct[place] == found)
                yield found[chosen], rows.column("text").filter(pa.array(chosen)).to_pylist()

        return read


def _cosines(embeddings: Halves, left: Indexes, right: Indexes) -> npt.NDArray[np.float32]:
    """Return the cosine of each pair of embeddings, given by their rows."""
    cosines = np.empty(len(left), np.float32)
    for part in chunks(len(left), PAIRS_AT_ONCE):
        cosines[part] = np.minimum((unit(embeddings[left[part]]) * unit(embeddings[right[part]])).sum(axis=1), 1)
    return cosines
