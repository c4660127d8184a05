"""Near questions about the same image, among the questions of a whole set.

They are spilled to disk by a hash of their image, so memory holds one bucket of texts, however many images there are.
"""

from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from synthgen.dedup.clusters import Clusters
from synthgen.dedup.greedy import Indexes, Mask
from synthgen.dedup.shingles import jaccard
from synthgen.dedup.texts import near_texts
from synthgen.store.spill import Spill, with_buckets

BUCKET_ROWS = 20_000  # questions that a bucket should have
MOST_BUCKETS = 256
ASKED = pa.schema(
    [
        ("bucket", pa.int16()),
        ("number", pa.int64()),
        ("image_id", pa.string()),
        ("plain", pa.large_string()),
        ("said", pa.large_string()),
        ("content", pa.large_string()),
    ]
)
LEAST_SHARED = 2  # words: with one alone two questions are seldom the same


class QuestionsByImage:
    """The questions of a set, compared with those of the same image."""

    def __init__(self, folder: Path, questions: int) -> None:
        """Prepare a comparison.

        Args:
            folder: A folder on local disk that does not exist yet.
            questions: About how many questions there will be.
        """
        self._buckets = min(MOST_BUCKETS, 1 + questions // BUCKET_ROWS)
        self._spill = Spill(folder)

    def add(self, rows: pa.Table) -> None:
        """Add questions: `number`, `image_id`, `plain`, and of those with short answers `said` and `content`."""
        self._spill.add(with_buckets(rows, "image_id", self._buckets, ASKED))

    def clusters(self, rank: Indexes, threshold: float, fixed: int = 0, is_open: Mask | None = None) -> Clusters:
        """Return the clusters of near questions.

        Args:
            rank: By number: the question with the lower one counts as earlier.
            threshold: The Jaccard similarity of near questions.
            fixed: Questions of lower rank are kept whatever they are near to.
            is_open: By number: whether a question is compared; None for all.
        """
        found = [_clusters(rows, rank, threshold, fixed) for rows in self._rows(is_open)]
        return Clusters.joined(found)

    def same_answers(self, rank: Indexes, share: float, fixed: int = 0, is_open: Mask | None = None) -> Clusters:
        """Return the clusters of questions with the same short answer and so many words of their content in common.

        Args:
            rank: As of `clusters`.
            share: Of the words of the question that has fewer.
            fixed: As of `clusters`.
            is_open: As of `clusters`.
        """
        return Clusters.joined([_same_answers(rows, rank, share, fixed) for rows in self._rows(is_open)])

    def _rows(self, is_open: Mask | None) -> Iterator[pa.Table]:
        for bucket in range(self._buckets):
            rows = self._spill.read(bucket, ASKED)
            yield rows if is_open is None else rows.filter(pa.array(is_open[rows.column("number").to_numpy()]))


def _clusters(rows: pa.Table, rank: Indexes, threshold: float, fixed: int) -> Clusters:
    order = np.argsort(rank[rows.column("number").to_numpy()])
    rows = rows.take(pa.array(order))
    numbers, images = rows.column("number").to_numpy(), rows.column("image_id").to_pylist()
    stay = int((rank[numbers] < fixed).sum())
    representative = near_texts(rows.column("plain"), images, threshold, stay)
    members = np.flatnonzero(representative != np.arange(len(numbers)))
    members = members[members >= stay]
    centres = representative[members]
    texts = np.asarray(rows.column("plain").to_pylist(), dtype=object)
    similar = jaccard(texts.__getitem__, members, centres).astype(np.float32)
    return Clusters(numbers[members], numbers[centres], similar)


def _same_answers(rows: pa.Table, rank: Indexes, share: float, fixed: int) -> Clusters:
    rows = rows.filter(pc.is_valid(rows.column("said")))
    numbers = rows.column("number").to_numpy()
    order = np.argsort(rank[numbers])
    texts = rows.select(["image_id", "said", "content"]).take(pa.array(order)).to_pylist()
    kept = defaultdict[tuple[str, str], list[tuple[int, set[str]]]](list)
    members, centres, similar = list[int](), list[int](), list[float]()
    for number, row in zip(numbers[order].tolist(), texts, strict=True):
        others, words = kept[row["image_id"], row["said"]], set(row["content"].split())
        shares = ((_shared(words, known), other) for other, known in others)
        alike, centre = next((found for found in shares if found[0] >= share), (0.0, -1))
        if centre < 0 or rank[number] < fixed:
            others.append((number, words))
            continue
        members.append(number)
        centres.append(centre)
        similar.append(alike)
    return Clusters(np.array(members, np.int64), np.array(centres, np.int64), np.array(similar, np.float32))


def _shared(words: set[str], others: set[str]) -> float:
    """Return the share of the words of the shorter question that the other has too; 0 if they are very few."""
    shared = len(words & others)
    return shared / min(len(words), len(others)) if shared >= LEAST_SHARED else 0.0
