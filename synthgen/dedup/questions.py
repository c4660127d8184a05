"""Near questions about the same image, among the questions of a whole set.

They are spilled to disk by a hash of their image, so memory holds one bucket of texts, however many images there are.
"""

from pathlib import Path

import numpy as np
import pyarrow as pa

from synthgen.dedup.clusters import Clusters
from synthgen.dedup.greedy import Indexes, Mask
from synthgen.dedup.shingles import jaccard
from synthgen.dedup.texts import near_texts
from synthgen.store.spill import Spill, with_buckets

BUCKET_ROWS = 20_000  # questions that a bucket should have
MOST_BUCKETS = 256
ASKED = pa.schema(
    [("bucket", pa.int16()), ("number", pa.int64()), ("image_id", pa.string()), ("plain", pa.large_string())]
)


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
        """Add questions: columns `number`, `image_id` and `plain`, the text in its plain form."""
        self._spill.add(with_buckets(rows, "image_id", self._buckets, ASKED))

    def clusters(self, rank: Indexes, threshold: float, fixed: int = 0, is_open: Mask | None = None) -> Clusters:
        """Return the clusters of near questions.

        Args:
            rank: By number: the question with the lower one counts as earlier.
            threshold: The Jaccard similarity of near questions.
            fixed: Questions of lower rank are kept whatever they are near to.
            is_open: By number: whether a question is compared; None for all.
        """
        found = []
        for bucket in range(self._buckets):
            rows = self._spill.read(bucket, ASKED)
            if is_open is not None:
                rows = rows.filter(pa.array(is_open[rows.column("number").to_numpy()]))
            found.append(_clusters(rows, rank, threshold, fixed))
        return Clusters.joined(found)


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
