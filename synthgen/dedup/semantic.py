"""Images, or texts, of nearly the same content: the cosine of their embeddings reaches a threshold.

Embeddings are cut into cells by k-means, and those of a cell are compared with each other, as SemDeDup does (arXiv
2303.09540). Each is in its two nearest cells, so that few pairs are lost at the borders. Of two near ones the earlier
is kept, as everywhere here; SemDeDup keeps the one farther from the middle of its cell, which changes with growth. What
is said of images below is true of texts.
"""

from collections.abc import Callable, Iterator

import numpy as np
import numpy.typing as npt

from synthgen.dedup.greedy import HALF, Indexes, Words, decide
from synthgen.dedup.thumbnails import chunks

Vectors = npt.NDArray[np.float32]
Embeddings = npt.NDArray[np.float16]
Read = Callable[[Indexes], Vectors]  # images -> their vectors, of length 1

A_CELL = 1000  # images that a cell should have, before each is put into a second one
EXACT = 4096  # images, up to which all are compared
ROUNDS = 8  # of k-means
SAMPLE = 64  # images a cell, that its middle is learned from
AT_ONCE = 1 << 13  # images
PRODUCTS = 1 << 24  # cosines held at once, also of a cell that very many images are in
NEAREST = 2  # cells that an image is in
MOST_NEAR = 16  # earlier images of a cell that one is found to be near to; of a crowd of copies the earliest suffice


def near_embeddings(
    embeddings: Embeddings, threshold: float, keys: Words, fixed: int = 0, rows: Indexes | None = None
) -> Indexes:
    """Return the representative of each image: the earliest kept one that is near to it, or itself.

    Args:
        embeddings: (rows, dimensions), maybe a file mapped into memory. Those of length 0 are near to none.
        threshold: The cosine of near images.
        keys: A number for each image that does not depend on the order; the cells are learned from the lowest.
        fixed: The number of images at the start that are kept whatever they are near to.
        rows: The row of each image, in the order in which they count as earlier; by default all rows in their order.

    Returns:
        (images,) int64, indexes into the images.
    """
    rows = np.arange(len(embeddings)) if rows is None else rows

    def vectors(images: Indexes) -> Vectors:
        return unit(embeddings[rows[images]])

    edges = [np.empty(0, np.uint64)]
    for members in _cells(vectors, keys):
        edges += _edges(vectors(members), members, threshold, fixed)
    representative = np.arange(len(rows))
    decide(np.unique(np.concatenate(edges)), representative)
    return representative


def _edges(vectors: Vectors, members: Indexes, threshold: float, fixed: int) -> Iterator[Words]:
    """Yield words `later << 32 | earlier` of the near images of a cell; `members` are sorted."""
    for part in chunks(len(members), max(1, min(1 << 10, PRODUCTS // max(1, len(members))))):
        near = vectors[part] @ vectors[: part.stop].T >= threshold - 1e-5  # (images, earlier ones and these)
        if np.count_nonzero(near) > MOST_NEAR * len(near):
            near &= np.cumsum(near, axis=1, dtype=np.int32) <= MOST_NEAR
        row, earlier = np.nonzero(near)
        later = row + part.start
        is_pair = (earlier < later) & (members[later] >= fixed)
        yield members[later[is_pair]].astype(np.uint64) << HALF | members[earlier[is_pair]].astype(np.uint64)


def _cells(vectors: Read, keys: Words) -> Iterator[Indexes]:
    """Yield the images of each cell, sorted."""
    count = len(keys)
    if count <= EXACT:
        yield np.arange(count)
        return
    middles, images = _learn(vectors, keys, -(-count // A_CELL)), np.arange(count)
    cells = np.concatenate([_nearest(vectors(images[part]), middles) for part in chunks(count, AT_ONCE)])
    images = np.repeat(images, NEAREST)
    order = np.argsort(cells.ravel(), kind="stable")
    ends = np.cumsum(np.bincount(cells.ravel(), minlength=len(middles)))
    yield from (members for members in np.split(images[order], ends[:-1]) if len(members) > 1)


def _learn(read: Read, keys: Words, cells: int) -> Vectors:
    """Return the middles of so many cells by spherical k-means over a sample, (cells, dimensions)."""
    sample = np.sort(np.argsort(keys, kind="stable")[: cells * SAMPLE])
    vectors = read(sample)
    middles = vectors[np.argsort(keys[sample], kind="stable")[:cells]]
    for _ in range(ROUNDS):
        nearest = np.concatenate([_nearest(vectors[part], middles, 1) for part in chunks(len(vectors), AT_ONCE)])[:, 0]
        order = np.argsort(nearest, kind="stable")
        used, start = np.unique(nearest[order], return_index=True)
        middles = middles.copy()  # a cell without images stays where it is
        middles[used] = unit(np.add.reduceat(vectors[order], start, axis=0))
    return middles


def _nearest(vectors: Vectors, middles: Vectors, count: int = NEAREST) -> Indexes:
    """Return the nearest cells of each vector, (vectors, count)."""
    nearness = vectors @ middles.T
    if count == 1:
        return np.asarray(np.argmax(nearness, axis=1)[:, None])
    return np.asarray(np.argpartition(-nearness, count, axis=1)[:, :count])


def unit(vectors: npt.NDArray[np.float16] | Vectors) -> Vectors:
    """Return vectors of length 1; those of length 0 stay."""
    wide = np.asarray(vectors, np.float32)
    lengths = np.linalg.norm(wide, axis=1, keepdims=True)
    return np.asarray(wide / np.where(lengths > 0, lengths, 1), np.float32)
