"""Pairs that are the same: question and answer in the same words, about images that show the same.

Infinity-MM drops a record of which the perceptual hash and the conversation are those of another one. Here images also
count whose hashes differ in few bits and whose thumbnails agree, as copies of another size or compression do. The
thumbnails lie on local disk; memory holds some thirty bytes of each pair.
"""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from synthgen.dedup.clusters import Clusters
from synthgen.dedup.greedy import HALF, Indexes, Items, Mask, Words, first_come, mix
from synthgen.dedup.images import key_masks
from synthgen.dedup.text_set import text_hashes
from synthgen.dedup.thumbnails import Thumbnails

NOTHING = np.uint64(0)


class SamePairs:
    """The pairs of a set, by the words of question and answer together and by their images."""

    def __init__(self, folder: Path, bits: int, cells: int) -> None:
        """Prepare a comparison.

        Args:
            folder: A folder on local disk that does not exist yet.
            bits: The most bits in which the hashes of two images of the same may differ.
            cells: Of a thumbnail.
        """
        folder.mkdir()
        self._thumbnails, self._bits, self._cells = folder / "thumbnails", bits, cells
        self._thumbnails.touch()
        self._texts, self._hashes = list[Words](), list[Words]()
        self._shares = list[npt.NDArray[np.float32]]()

    def add(self, rows: pa.Table) -> None:
        """Add the next pairs: `both` (null for a pair that is not compared), `phash`, `thumbnail` and `flat_share`."""
        both = rows.column("both")
        hashes = text_hashes(pc.fill_null(both, "").to_pylist())
        self._texts.append(np.where(both.is_valid().to_numpy(), hashes, NOTHING).astype(np.uint64))
        self._hashes.append(rows.column("phash").to_numpy().astype(np.uint64))
        self._shares.append(rows.column("flat_share").to_numpy().astype(np.float32))
        blank = bytes(self._cells)
        with self._thumbnails.open("ab") as file:
            file.writelines(cells or blank for cells in rows.column("thumbnail").to_pylist())

    def clusters(self, rank: Indexes, fixed: int, is_open: Mask) -> Clusters:
        """Return the clusters of pairs that are the same.

        Args:
            rank: By number: the pair with the lower one counts as earlier.
            fixed: Pairs of lower rank are kept whatever they are the same as.
            is_open: By number: whether a pair is compared.
        """
        texts, hashes = _joined(self._texts), _joined(self._hashes)
        numbers = np.flatnonzero(is_open & (texts != NOTHING))
        _, inverse, counts = np.unique(texts[numbers], return_inverse=True, return_counts=True)
        numbers = numbers[counts[inverse] > 1]  # few are left of most sets
        if not len(numbers):
            return Clusters.joined([])
        numbers = numbers[np.argsort(rank[numbers])]
        cells = np.memmap(self._thumbnails, np.uint8, "r").reshape(-1, self._cells)
        shown = Thumbnails(cells, np.concatenate(self._shares), numbers)
        items = _items(texts[numbers], hashes[numbers], self._bits, shown)
        representative = first_come(items, int((rank[numbers] < fixed).sum()))
        members = np.flatnonzero(representative != np.arange(len(numbers)))
        centres = representative[members]
        return Clusters(numbers[members], numbers[centres], np.ones(len(members), np.float32))


def _items(texts: Words, hashes: Words, bits: int, thumbnails: Thumbnails) -> Items:
    """Return pairs as items to compare: their keys are of the text and of blocks of the hash."""
    masks = key_masks(bits, len(hashes))

    def keyed(items: Indexes) -> Iterator[Words]:
        for mask in masks:
            keys = mix(mix(hashes[items] & mask) ^ texts[items])
            yield keys >> HALF << HALF | items.astype(np.uint64)

    def may_be_near(left: Indexes, right: Indexes) -> Mask:
        is_same = texts[left] == texts[right]
        return np.asarray(is_same & (np.bitwise_count(hashes[left] ^ hashes[right]) <= bits))

    return Items(len(hashes), keyed, may_be_near, thumbnails.are_near)


def _joined(parts: list[Words]) -> Words:
    return np.concatenate([np.empty(0, np.uint64), *parts])
