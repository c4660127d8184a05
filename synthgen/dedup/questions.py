"""Questions that repeat another: nearly the same words about the same image, or one too many of a wording in the set.

Near questions are searched for within an image, wordings are counted over the whole set. So questions are spilled to
disk by a hash of their image, and those that remain, if wordings are limited, once more by a hash of their words.
Memory holds one byte for each question and one bucket of texts, however many images there are.
"""

from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from synthgen.dedup import near_texts
from synthgen.store.spill import Spill, with_buckets

# The verdicts: kept; near to an earlier question of its image; one too many of its wording.
FIRST, NEAR, COMMON = range(3)
BUCKET_ROWS = 20_000  # questions that a bucket should have
MOST_BUCKETS = 256
ASKED = pa.schema(
    [
        ("bucket", pa.int16()),
        ("number", pa.int64()),  # among all pairs: partition by partition, in the order of their rows
        ("epoch", pa.int64()),
        ("round", pa.int64()),
        ("image_id", pa.string()),
        ("plain", pa.large_string()),
    ]
)
Verdicts = npt.NDArray[np.uint8]


class QuestionDedup:
    """The questions of a set, compared with each other; an earlier epoch, then round, then number comes first."""

    def __init__(self, folder: Path, pairs: int) -> None:
        """Prepare a comparison.

        Args:
            folder: A folder on local disk for the spilled questions.
            pairs: About how many questions there will be.
        """
        self._folder = folder
        self._buckets = min(MOST_BUCKETS, 1 + pairs // BUCKET_ROWS)
        self._by_image = Spill(folder / "by-image")
        self._pairs = 0

    def add(self, rows: pa.Table) -> slice:
        """Add the next partition and return the numbers of its questions.

        Args:
            rows: Columns epoch, round, image_id and `plain`, which is null for a pair that is dropped already.
        """
        start, self._pairs = self._pairs, self._pairs + rows.num_rows
        rows = rows.append_column("number", pa.array(np.arange(start, self._pairs)))
        rows = rows.filter(rows.column("plain").is_valid())
        self._by_image.add(with_buckets(rows, "image_id", self._buckets, ASKED))
        return slice(start, self._pairs)

    def verdicts(self, near: float, most: int | None, is_dropped: npt.NDArray[np.bool_]) -> Verdicts:
        """Return FIRST, NEAR or COMMON for every number: (questions,) uint8.

        Args:
            near: The threshold of `near_texts`.
            most: The most questions of one wording; None for no limit.
            is_dropped: Numbers that are not compared, (questions,) bool.
        """
        verdicts = np.zeros(self._pairs, np.uint8)
        by_wording = Spill(self._folder / "by-wording")
        for bucket in range(self._buckets):
            rows = self._by_image.read(bucket, ASKED)
            rows = _sort(rows.filter(pa.array(~is_dropped[rows.column("number").to_numpy()])))
            representative = near_texts(rows.column("plain"), rows.column("image_id").to_pylist(), near)
            is_first = representative == np.arange(rows.num_rows)
            verdicts[rows.column("number").to_numpy()[~is_first]] = NEAR
            if most is not None:
                rows = rows.filter(pa.array(is_first)).drop_columns("bucket")
                by_wording.add(with_buckets(rows, "plain", self._buckets, ASKED))
        if most is not None:
            for bucket in range(self._buckets):
                rows = _sort(by_wording.read(bucket, ASKED))
                verdicts[rows.column("number").to_numpy()[_beyond(rows.column("plain"), most)]] = COMMON
        return verdicts


def _sort(rows: pa.Table) -> pa.Table:
    return rows.take(np.lexsort([rows.column(name).to_numpy() for name in ("number", "round", "epoch")]))


def _beyond(texts: pa.ChunkedArray, most: int) -> npt.NDArray[np.int64]:
    """Return the positions of texts that come after `most` others of the same wording."""
    wording = texts.combine_chunks().dictionary_encode().indices.to_numpy()
    order = np.argsort(wording, kind="stable")
    ranked = wording[order]
    rank = np.arange(len(ranked)) - np.searchsorted(ranked, ranked)
    beyond: npt.NDArray[np.int64] = order[rank >= most]
    return beyond
