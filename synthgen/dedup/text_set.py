"""Texts in nearly the same words, found in a whole set that lies on local disk.

Near texts share a band of their MinHash signatures (minhash.py). Most of the others that share one are told apart by
their sketches (sketches.py), and the shingles of all that remain are counted exactly (shingles.py), so no text is
dropped by an estimate. Where very many share a band, as those of a template do, only those that share a rare shingle
too are compared, which loses no near pair.

The keys of each band are in a file of their own, and one band is in memory at a time, of very large sets a part of one.
Beside it memory holds a hash, a sketch and a place in the order for each text, some hundred bytes. Neither the sizes of
the parts added nor those held at once change the result.
"""

from collections.abc import Iterator, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa

from synthgen.dedup.greedy import HALF, Indexes, Items, Mask, Words, first_come
from synthgen.dedup.minhash import Signatures, band_keys, bands_for, signatures
from synthgen.dedup.shingles import jaccard, rare_shingles, shingles
from synthgen.dedup.sketches import SKETCH, Sketches, may_reach, sketch
from synthgen.dedup.thumbnails import chunks

TEXTS_AT_ONCE = 1 << 11  # their shingles stay in the processor's cache
KEYS_AT_ONCE = 1 << 24  # of a band, in memory; those of a larger set are divided by their value
GATHERED_AT_ONCE = 1 << 18  # texts whose keys or sketches are looked up together


class TextSet:
    """Texts on local disk, of which near ones are found in the whole set."""

    def __init__(self, folder: Path, threshold: float) -> None:
        """Prepare an empty set.

        Args:
            folder: A folder on local disk that does not exist yet.
            threshold: The Jaccard similarity of the shingles of near texts, 0 to 1; 1 finds equal texts only.
        """
        folder.mkdir()
        self._folder, self._threshold = folder, threshold
        self._bands = bands_for(threshold)
        for name in ("texts", "hashes", "sketches"):
            self._append(name, b"")
        self._lengths: list[Indexes] = []  # of the texts, in bytes

    def __len__(self) -> int:
        """Return the number of texts added."""
        return sum(map(len, self._lengths))

    def add(self, texts: pa.LargeStringArray) -> None:
        """Add texts in their plain form (see `texts.plain_texts`), none of them null."""
        listed = texts.to_pylist()
        encoded = [text.encode("utf-8", "surrogatepass") for text in listed]
        self._lengths.append(np.fromiter(map(len, encoded), np.int64, len(encoded)))
        self._append("texts", b"".join(encoded))
        self._append("hashes", text_hashes(listed).tobytes())
        if self._threshold < 1:
            self._add_signatures(listed)

    def _add_signatures(self, texts: list[str]) -> None:
        sketched, keys = list[Sketches](), list[Signatures]()
        for start in range(0, len(texts), TEXTS_AT_ONCE):
            sets = shingles(texts[start : start + TEXTS_AT_ONCE])
            signature = signatures(sets, self._bands.permutations)
            sketched.append(sketch(sets, signature))
            keys.append(band_keys(signature, self._bands))
        self._append("sketches", b"".join(part.tobytes() for part in sketched))
        for band in range(self._bands.count):
            self._append(str(band), b"".join(part[band].tobytes() for part in keys))

    def _append(self, name: str, data: bytes) -> None:
        with (self._folder / name).open("ab") as file:
            file.write(data)

    def representatives(self, order: Indexes, fixed: int = 0) -> Indexes:
        """Return the representative of each text: the earliest kept one that it is near to, or itself.

        Args:
            order: The numbers of the texts to compare, in the order in which they count as earlier, (texts,).
            fixed: The number of texts at the start of the order that are kept whatever they are near to.

        Returns:
            (texts,) int64: places in `order`.
        """
        # Equal texts are one item.
        _, first, inverse = np.unique(self._gather("hashes", np.uint64, order), return_index=True, return_inverse=True)
        by_place = np.argsort(first)
        rank = np.empty(len(first), np.uint32)
        rank[by_place] = np.arange(len(first))
        item_of, first = rank[inverse], first[by_place]
        del inverse, by_place, rank
        if self._threshold == 1:
            return np.asarray(first[item_of])
        distinct = first_come(self._items(order[first]), int(np.searchsorted(first, fixed)))
        return np.asarray(first[distinct][item_of])

    def similarities(self, left: Indexes, right: Indexes) -> npt.NDArray[np.float64]:
        """Return the Jaccard similarity of the shingles of each pair of texts, given by their numbers."""
        ends = self._ends()
        return jaccard(lambda numbers: self._read(ends, numbers), left, right)

    def _items(self, numbers: Indexes) -> Items:
        """Return distinct texts as items to compare; item i is the text `numbers[i]`."""
        ends = self._ends()
        sketches = self._gather("sketches", SKETCH, numbers)
        permutations = self._bands.permutations

        def near(left: Indexes, right: Indexes) -> Mask:
            found = jaccard(lambda items: self._read(ends, numbers[items]), left, right, self._threshold)
            return np.asarray(found >= self._threshold)

        return Items(
            len(numbers),
            lambda items: self._keyed(numbers, items),
            lambda left, right: may_reach(sketches, left, right, self._threshold, permutations),
            near,
            lambda items: rare_shingles(shingles(self._read(ends, numbers[items])), items, self._threshold),
        )

    def _keyed(self, numbers: Indexes, items: Indexes) -> Iterator[Words]:
        """Yield words of a key and an item, one band after the other, of large sets in parts by the key."""
        parts = -(-len(numbers) // KEYS_AT_ONCE)
        ends = [(part << 32) // parts for part in range(parts + 1)]
        for band in range(self._bands.count):
            keys = np.memmap(self._folder / str(band), np.uint32, "r")
            for low, high in pairwise(ends):
                words, count = np.empty(min(len(items), KEYS_AT_ONCE * 2), np.uint64), 0
                for part in chunks(len(items), GATHERED_AT_ONCE):
                    found = keys[numbers[items[part]]].astype(np.uint64)
                    some = slice(None) if parts == 1 else (found >= low) & (found < high)
                    made = found[some] << HALF | items[part][some].astype(np.uint64)
                    if count + len(made) > len(words):
                        words = np.concatenate([words[:count], np.empty(len(items) - count, np.uint64)])
                    words[count : count + len(made)] = made
                    count += len(made)
                yield words[:count]

    def _gather(self, name: str, dtype: npt.DTypeLike, numbers: Indexes) -> npt.NDArray[Any]:
        """Return what a file has of these texts; it is read once, in its order."""
        total = len(self)
        values, place = np.empty(len(numbers), dtype), np.full(total, -1, np.int64)
        place[numbers] = np.arange(len(numbers))
        with (self._folder / name).open("rb") as file:
            for part in chunks(total, GATHERED_AT_ONCE):
                read = np.fromfile(file, dtype, part.stop - part.start)
                wanted = place[part] >= 0
                values[place[part][wanted]] = read[wanted]
        return values

    def _ends(self) -> Indexes:
        """Return where each text ends in the file, after a 0."""
        return np.concatenate([[0], *self._lengths]).cumsum()

    def _read(self, ends: Indexes, numbers: Indexes) -> list[str]:
        """Return texts by their numbers; the file is mapped anew each time, so that what was read is not held."""
        if not len(ends) or not ends[-1]:
            return [""] * len(numbers)
        data = np.memmap(self._folder / "texts", np.uint8, "r").data
        spans = zip(ends[numbers].tolist(), ends[numbers + 1].tolist(), strict=True)
        return [str(data[start:end], "utf-8", "surrogatepass") for start, end in spans]


def text_hashes(texts: Sequence[str]) -> Words:
    """Return a 64-bit hash of each text; two of ten million that differ share one with a chance of 1 to 400,000."""
    hashes: Words = pd.util.hash_array(np.asarray(texts, dtype=object), categorize=False)
    return hashes
