"""Which images show a part of one of some known images, of which crops were hashed too.

An image is compared with the known images of which the whole or a crop has a near hash. Pages of one layout have hardly
more than one hash, so of those only the ones whose thumbnails are most alike are fitted (parts.py).
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from synthgen.dedup.greedy import Indexes, Words
from synthgen.dedup.images import near_hashes
from synthgen.dedup.parts import Edges, shown_parts
from synthgen.dedup.thumbnails import FLAT, Bytes, Floats, chunks

CANDIDATES = 8  # known images that one is fitted to
LEAST_ALIKE = 0.7  # correlation of the thumbnails of an image and of the nearest crop of another
PAIRS = 1 << 24  # of an image and a crop, whose correlations are held at once
FITTED_AT_ONCE = 256  # images; 33 MB of the known ones


@dataclass(frozen=True)
class Crops:
    """Known images and crops of them; each image's stand together.

    Attributes:
        hashes: (crops,) uint64.
        cells: Thumbnails, (crops, cells) uint8.
        flat_shares: (crops,) float32.
        edges: Of each crop in its image, (crops, 2, 2) float32.
        images: Of each crop, (crops,) int64.
        miniatures: Of each image, as bytes of a square.
    """

    hashes: Words
    cells: Bytes
    flat_shares: Floats
    edges: Edges
    images: Indexes
    miniatures: Sequence[bytes]


def known_parts(hashes: Words, cells: Bytes, flat_shares: Floats, known: Crops, bits: int) -> Indexes:
    """Return a crop of the known image that each image shows a part of, or -1, (images,) int64.

    Args:
        hashes: (images,) uint64.
        cells: Thumbnails, (images, cells) uint8.
        flat_shares: (images,) float32; images where it is NaN have no thumbnail and match none.
        known: The known images.
        bits: The most bits in which near hashes differ.
    """
    found, has_one = np.full(len(hashes), -1, np.int64), np.flatnonzero(~np.isnan(flat_shares))
    alike, alike_known = _alike(cells), _alike(known.cells)
    for images, crops in _groups(hashes, has_one, known.hashes, bits):
        for part in chunks(len(images), max(1, min(FITTED_AT_ONCE, PAIRS // len(crops)))):
            some = images[part]
            likely, candidates = _candidates(alike[some] @ alike_known[crops].T, known.images[crops])
            if not len(likely):
                continue
            some, candidates = some[likely], crops[candidates]
            is_flat = np.maximum(flat_shares[some, None], known.flat_shares[candidates]) >= FLAT
            details = _details(known, candidates)
            which = shown_parts(cells[some], is_flat, details, known.edges[candidates])
            found[some[which >= 0]] = candidates[which >= 0, which[which >= 0]]
    return found


def _alike(cells: Bytes) -> Floats:
    """Return thumbnails as vectors whose product is their correlation."""
    centred = cells.astype(np.float32)
    centred -= centred.mean(1, keepdims=True)
    return np.asarray(centred / (np.linalg.norm(centred, axis=1, keepdims=True) + 1))


def _groups(hashes: Words, images: Indexes, known: Words, bits: int) -> Iterator[tuple[Indexes, Indexes]]:
    """Yield the images of one hash, and the crops whose hashes are near to it."""
    own, of_known = _by_hash(hashes[images]), _by_hash(known)
    left, right = near_hashes(own[0], of_known[0], bits)
    for near in np.split(np.arange(len(left)), np.flatnonzero(np.diff(left)) + 1):
        if len(near):
            members = own[1][own[2][left[near[0]]] : own[2][left[near[0]] + 1]]
            crops = [of_known[1][of_known[2][one] : of_known[2][one + 1]] for one in right[near]]
            yield images[members], np.sort(np.concatenate(crops))


def _by_hash(hashes: Words) -> tuple[Words, Indexes, Indexes]:
    """Return the distinct hashes, the items sorted by hash, and where those of each begin, with the end."""
    distinct, counts = np.unique(hashes, return_counts=True)
    return distinct, np.argsort(hashes, kind="stable"), np.concatenate([[0], np.cumsum(counts)])


def _candidates(correlation: Floats, images: Indexes) -> tuple[Indexes, Indexes]:
    """Return the rows that are alike enough to any crop, and for each the most alike crops, one an image.

    Args:
        correlation: (rows, crops).
        images: Of each crop, sorted, (crops,).

    Returns:
        (likely rows,) and (likely rows, candidates).
    """
    start = np.flatnonzero(np.diff(images, prepend=-1))
    best = np.maximum.reduceat(correlation, start, axis=1)  # (rows, images)
    likely = np.flatnonzero(best.max(1) >= LEAST_ALIKE)
    best, number = best[likely], np.repeat(np.arange(len(start)), np.diff(start, append=len(images)))
    crop_of = np.empty(best.shape, np.int64)
    row, crop = np.nonzero(correlation[likely] == best[:, number])
    crop_of[row, number[crop]] = crop
    most = np.argsort(-best, axis=1, kind="stable")[:, :CANDIDATES]
    return likely, np.take_along_axis(crop_of, most, 1)


def _details(known: Crops, crops: npt.NDArray[np.int64]) -> Bytes:
    joined = b"".join(known.miniatures[image] for image in known.images[crops].ravel().tolist())
    size = round((len(joined) // crops.size) ** 0.5)
    return np.frombuffer(joined, np.uint8).reshape(*crops.shape, size, size)
