"""Which of many questions repeat another: of the same image in nearly the same words, or too many of a wording in all.

Comes in: the questions of all partitions that nothing else speaks against, a partition at a time. Goes out: one byte a question.
Near ones are looked for within an image, wordings are counted over everything; so the questions are set aside on disk by a hash
of their image, and those that are left, where wordings are limited, once more by a hash of their words. Memory holds that one
byte of each question and one bucket of texts, however many images there are.
"""

from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa

from synthgen.dedup import near_texts
from synthgen.store.spill import Spill

FIRST, NEAR, COMMON = range(
    3
)  # of its image and wording; near to an earlier one of its image; one too many of its wording
BUCKET_ROWS = 20_000  # questions, as many as a bucket should have
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
    """The questions of a set, compared with each other. What comes first: an earlier epoch, then round, then number."""

    def __init__(self, folder: Path, pairs: int) -> None:
        """`pairs` is about how many there will be."""
        self._folder = folder
        self._buckets = min(MOST_BUCKETS, 1 + pairs // BUCKET_ROWS)
        self._by_image = Spill(folder / "by-image")
        self._pairs = 0

    def add(self, rows: pa.Table) -> slice:
        """The next partition: rows with epoch, round, image_id, and `plain`, null where the pair is out already. Returns their numbers."""
        start, self._pairs = self._pairs, self._pairs + rows.num_rows
        rows = rows.append_column("number", pa.array(np.arange(start, self._pairs)))
        rows = rows.filter(rows.column("plain").is_valid())
        self._by_image.add(self._in_buckets(rows, "image_id"))
        return slice(start, self._pairs)

    def verdicts(self, near: float, most: int | None) -> Verdicts:
        """FIRST, NEAR or COMMON for every number; `near` as in dedup.near_texts, `most` of a wording or None."""
        found = np.zeros(self._pairs, np.uint8)
        by_wording = Spill(self._folder / "by-wording")
        for bucket in range(self._buckets):
            rows = _in_order(self._by_image.read(bucket, ASKED))
            first = near_texts(rows.column("plain"), rows.column("image_id").to_pylist(), near) == np.arange(
                rows.num_rows
            )
            found[rows.column("number").to_numpy()[~first]] = NEAR
            if most is not None:
                by_wording.add(self._in_buckets(rows.filter(pa.array(first)), "plain"))
        for bucket in range(self._buckets) if most is not None else ():
            rows = _in_order(by_wording.read(bucket, ASKED))
            found[rows.column("number").to_numpy()[_beyond(rows.column("plain"), most or 0)]] = COMMON
        return found

    def _in_buckets(self, rows: pa.Table, key: str) -> pa.Table:
        hashes = pd.util.hash_array(np.asarray(rows.column(key).to_pylist(), dtype=object), categorize=False)
        columns = {name: rows.column(name) for name in ASKED.names if name != "bucket"}
        return pa.table({"bucket": pa.array((hashes % self._buckets).astype(np.int16)), **columns}).cast(ASKED)


def _in_order(rows: pa.Table) -> pa.Table:
    return rows.take(np.lexsort([rows.column(name).to_numpy() for name in ("number", "round", "epoch")]))


def _beyond(texts: pa.ChunkedArray, most: int) -> npt.NDArray[np.int64]:
    """The positions of those that come after `most` others of the same wording."""
    wording = texts.combine_chunks().dictionary_encode().indices.to_numpy()
    order = np.argsort(wording, kind="stable")
    ranked = wording[order]
    rank = np.arange(len(ranked)) - np.searchsorted(ranked, ranked)
    beyond: npt.NDArray[np.int64] = order[rank >= most]
    return beyond
