"""The rows of a training in order, epoch after epoch without end: a function of seed, rows and weights.

Rows of a data set are sorted by a hash of seed, epoch and the row's identity, so that two variants of a data set have
their common rows in one order, whatever files they are in. A data set of more than train.shuffle_gigabytes is cut into
windows of so many bytes, file by file in an order of its own in each epoch, and its rows are sorted window by window.

Which data set a position of the stream takes its row from is drawn by weight from a hash of the position. With
train.bucket_batches the rows of so many batches are sorted by length and cut into batches again, which come in a drawn
order. All of this is found again from a position, which is one number. A stage of a recipe goes on in a data set where
the stages before it have stopped.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from synthgen.config.training import TrainConfig
from synthgen.dedup.greedy import mix
from synthgen.errors import UserMistake
from synthgen.tables import make_id
from synthgen.train.feed import GIGABYTE, Feed
from synthgen.train.forms import Row
from synthgen.train.row_index import RowIndex

COUNTED_AT_ONCE = 1 << 20  # positions
LEAST_CHUNK = 256  # rows whose places are found together

Numbers = np.ndarray[Any, np.dtype[np.int64]]
Words = np.ndarray[Any, np.dtype[np.uint64]]


@dataclass(frozen=True)
class Share:
    """The rows that one of several processes takes of each batch: one of every `size`, from number `rank` on."""

    rank: int = 0
    size: int = 1
    batch: int = 1

    def has(self, position: int) -> bool:
        """Return whether the row at a position of the stream is one of them."""
        return position % self.batch % self.size == self.rank


WHOLE = Share()


def rows(feed: Feed, settings: TrainConfig, start: int, share: Share = WHOLE) -> Iterator[Row]:
    """Yield rows from position `start` of the stream on, without end.

    Each has `sample`, the file and the number of the row in it, `length`, about how many tokens it is of, and where a
    training has several data sets `source`, the name of its own.

    Raises:
        ShardChanged: A file is missing or is not the one that was pinned.
        UserMistake: A file cannot be read, or all rows are held out.
    """
    order, store = Order(feed, settings), feed.store(settings)
    names = [each.name for each in feed.taken]
    position = start
    for sets, numbers in order.chunks(start):
        for number, row in zip(sets.tolist(), numbers.tolist(), strict=True):
            if share.has(position):
                index = order.indexes[number]
                file = feed.taken[number].files[index.file[row]]
                place = int(index.row[row])
                named = {"source": names[number]} if len(names) > 1 else {}
                sample = f"{file.url.rpartition('/')[2]}:{place + 1}"
                yield {**store.row(file, place), **named, "sample": sample, "length": int(index.length[row])}
            position += 1


class Order:
    """Which row stands at which position of the stream."""

    def __init__(self, feed: Feed, settings: TrainConfig) -> None:
        self.indexes = [feed.index(number, settings) for number in range(len(feed.taken))]
        if empty := [each.name for each, index in zip(feed.taken, self.indexes, strict=True) if not len(index.row)]:
            raise UserMistake(f"{empty[0]}: all of its rows are held out; lower train.hold_out")
        self._sets = [
            _Permutation(index, [file.bytes for file in each.files], [file.sha256 for file in each.files], settings)
            for each, index in zip(feed.taken, self.indexes, strict=True)
        ]
        weights = np.array([feed.weights[each.name] for each in feed.taken], np.float64)
        self._until = np.cumsum(weights / weights.sum())
        self._before = [feed.before.get(each.name, 0) for each in feed.taken]
        self._seed, self._batch, self._buckets = settings.seed, settings.batch, settings.bucket_batches

    def chunks(self, start: int) -> Iterator[tuple[Numbers, Numbers]]:
        """Yield the data sets and the rows in them from a position on, some positions at a time."""
        size = self._batch * self._buckets
        size *= -(-LEAST_CHUNK // size) if self._buckets == 1 else 1
        first = start // size * size
        counts = self.counts(first)
        while True:
            sets, numbers = self._take(first, size, counts)
            if self._buckets > 1:
                order = self._bucketed(first, sets, numbers)
                sets, numbers = sets[order], numbers[order]
            yield sets[max(0, start - first) :], numbers[max(0, start - first) :]
            first += size

    def counts(self, position: int) -> list[int]:
        """Return how many rows of each data set stand before a position, those of stages before this one included."""
        counts = np.array(self._before, np.int64)
        if len(self._sets) == 1:
            return [int(counts[0]) + position]
        for first in range(0, position, COUNTED_AT_ONCE):
            drawn = self._draw(first, min(COUNTED_AT_ONCE, position - first))
            counts += np.bincount(drawn, minlength=len(counts))
        return [int(count) for count in counts]

    def _draw(self, first: int, size: int) -> Numbers:
        """Return the data set of each of so many positions."""
        if len(self._sets) == 1:
            return np.zeros(size, np.int64)
        words = mix(np.arange(first, first + size, dtype=np.uint64) ^ _salt("mixture", str(self._seed)))
        drawn = np.searchsorted(self._until, words / 2.0**64, side="right")
        return np.minimum(drawn, len(self._sets) - 1).astype(np.int64)

    def _take(self, first: int, size: int, counts: list[int]) -> tuple[Numbers, Numbers]:
        """Return the data set and the row at each of so many positions, and count them."""
        sets = self._draw(first, size)
        numbers = np.empty(size, np.int64)
        for number, permutation in enumerate(self._sets):
            own = sets == number
            taken = int(own.sum())
            numbers[own] = permutation.rows(counts[number], taken)
            counts[number] += taken
        return sets, numbers

    def _bucketed(self, first: int, sets: Numbers, numbers: Numbers) -> Numbers:
        """Return the order of the rows of some batches in which each batch has rows of about one length."""
        lengths = np.empty(len(sets), np.int64)
        for number, index in enumerate(self.indexes):
            own = sets == number
            lengths[own] = index.length[numbers[own]]
        by_length = np.argsort(lengths, kind="stable").reshape(self._buckets, self._batch)
        drawn = mix(np.arange(self._buckets, dtype=np.uint64) ^ _salt("buckets", str(self._seed), str(first)))
        order: Numbers = by_length[np.argsort(drawn)].ravel()
        return order


class _Permutation:
    """The rows of one data set in the order of each epoch."""

    def __init__(self, index: RowIndex, sizes: list[int], digests: list[str], settings: TrainConfig) -> None:
        self._index, self._sizes, self._digests = index, sizes, digests
        self._seed, self._window = settings.seed, settings.shuffle_gigabytes * GIGABYTE
        self._order: tuple[int, Numbers] | None = None  # of an epoch

    def rows(self, start: int, count: int) -> Numbers:
        """Return so many rows from a place on that counts through all epochs."""
        found, total = [np.empty(0, np.int64)], len(self._index.row)
        while count:
            epoch, place = divmod(start, total)
            part = self._of_epoch(epoch)[place : place + count]
            found.append(part)
            start, count = start + len(part), count - len(part)
        return np.concatenate(found)

    def _of_epoch(self, epoch: int) -> Numbers:
        if self._order is None or self._order[0] != epoch:
            drawn = mix(self._index.key ^ _salt("order", str(self._seed), str(epoch)))
            self._order = epoch, np.lexsort((drawn, self._windows(epoch)[self._index.file]))
        return self._order[1]

    def _windows(self, epoch: int) -> Numbers:
        """Return the window of each file."""
        order = sorted(
            range(len(self._sizes)), key=lambda number: make_id("file", f"{self._seed}/{epoch}", self._digests[number])
        )
        windows, window, size = np.zeros(len(self._sizes), np.int64), 0, 0
        for number in order:
            if size and size + self._sizes[number] > self._window:
                window, size = window + 1, 0
            windows[number], size = window, size + self._sizes[number]
        return windows


def _salt(*parts: str) -> np.uint64:
    return np.uint64(int(make_id(*parts)[:16], 16))
