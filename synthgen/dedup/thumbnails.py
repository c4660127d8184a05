"""The finer comparison of images whose perceptual hashes are near: small grey thumbnails, laid upon each other.

Copies differ in scale, compression, brightness and a slight crop. A crop moves every cell by a little, which changes it
by its slope; so shift, scale and contrast that explain the difference best are found by least squares (a step of Lucas
and Kanade, 1981), and what is left is judged. In a photograph it must be small beside the slopes. Where half the image
is flat, as in documents, charts and screenshots, no single cell may differ: there a few words or a bar are all that
tells two images apart. A shift explains lines of text in part only, so the more of it was found, the more may be left;
two pages of one layout show none.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from synthgen.dedup.greedy import Indexes, Mask, Words, mix

FLAT = 0.55  # share of the pixels; of 500 photographs 1 % have .47, the flattest has .68; of pages the busiest has .6
MOST_DIFFERENCE = 0.09  # in photographs: root mean square of what is left, as a share of that of the slopes
MOST_LEVELS = 3.0  # in flat images: grey levels that are left in any cell
NOISE = 8.0  # grey levels added to the slopes
LEVELS_PER_CELL = 25.0  # grey levels: as many more for each cell of shift
SLACK = 0.06  # cells: in flat images, slopes times this are allowed on top of MOST_LEVELS
MOST_SHIFT = 0.03  # of an edge, at the middle and once more at the edges
MOST_CONTRAST = 0.15  # relative change of contrast
MOST_BRIGHTNESS = 25.0  # grey levels between the means of two thumbnails
RIDGE = 2.0  # grey levels squared per cell: keeps the fit of images without slopes small
PAIRS = 2048  # compared at once; 12 MB each of some arrays

Floats = npt.NDArray[np.float32]
Bytes = npt.NDArray[np.uint8]


@dataclass(frozen=True)
class Thumbnails:
    """The thumbnails of some images.

    Attributes:
        cells: (rows, side * side) uint8, maybe a file mapped into memory.
        flat_shares: (rows,) float32; NaN where there is no thumbnail, so that the hash alone decides.
        rows: The row of each image, (images,) int64.
    """

    cells: Bytes
    flat_shares: Floats
    rows: Indexes

    def take(self, images: Indexes) -> "Thumbnails":
        """Return the thumbnails of some of the images."""
        return Thumbnails(self.cells, self.flat_shares, self.rows[images])

    def digests(self) -> Words:
        """Return a number for each image that is the same for equal thumbnails."""
        digests = np.empty(len(self.rows), np.uint64)
        for part in chunks(len(self.rows), 1 << 16):
            rows = self.rows[part]
            known = mix(np.isnan(self.flat_shares[rows]).astype(np.uint64))
            for column in np.ascontiguousarray(self.cells[rows]).view(np.uint64).T:
                known = mix(known ^ column) + np.uint64(1)
            digests[part] = known
        return digests

    def are_near(self, left: Indexes, right: Indexes) -> Mask:
        """Return whether the thumbnails of each pair of images show the same; always where one has no thumbnail."""
        near = np.ones(len(left), bool)
        for part in chunks(len(left), PAIRS):
            a, b = self.rows[left[part]], self.rows[right[part]]
            flat = np.maximum(self.flat_shares[a], self.flat_shares[b])  # NaN if either is
            near[part] = np.isnan(flat) | _are_near(self.cells[a], self.cells[b], flat >= FLAT)
        return near


def _are_near(left: Bytes, right: Bytes, is_flat: Mask) -> Mask:
    """Compare thumbnails, both (pairs, side * side), of which some are of flat images."""
    a, b = left.astype(np.float32), right.astype(np.float32)
    mean_a, mean_b = a.mean(1, keepdims=True), b.mean(1, keepdims=True)
    a, b, brightness = a - mean_a, b - mean_b, np.abs(mean_a - mean_b)[:, 0]
    is_near: Mask = brightness <= MOST_BRIGHTNESS
    # Most pairs in a cluster of copies differ by so little that nothing needs to be explained.
    is_open = is_near & ((np.abs(a - b).max(1) > MOST_LEVELS) | (_rms(a - b) > MOST_DIFFERENCE * NOISE))
    is_near[is_open] = _are_explained(a[is_open], b[is_open], is_flat[is_open])
    return is_near


def _are_explained(a: Floats, b: Floats, is_flat: Mask) -> Mask:
    """Return whether shift, scale and contrast explain most of what differs in thumbnails without their means."""
    rest, slopes, shift = _unexplained(a - b, (a + b) * np.float32(0.5))
    is_left = np.abs(rest)
    near_flat = (is_left - SLACK * slopes).max(1) <= MOST_LEVELS + LEVELS_PER_CELL * shift
    near_photo = _rms(rest) <= MOST_DIFFERENCE * (_rms(slopes) + NOISE)
    return np.asarray(near_photo & (near_flat | ~is_flat))


def _unexplained(difference: Floats, middle: Floats) -> tuple[Floats, Floats, Floats]:
    """Return what no shift, scale and contrast explains of a difference, how steep cells are, and the largest shift.

    Args:
        difference: Between two thumbnails without their means, (pairs, cells).
        middle: Their mean, (pairs, cells).
    """
    count, cells = middle.shape
    side = round(cells**0.5)
    grid = np.pad(middle.reshape(count, side, side), ((0, 0), (1, 1), (1, 1)), "edge")
    right, left = grid[:, 1:-1, 2:], grid[:, 1:-1, :-2]
    below, above = grid[:, 2:, 1:-1], grid[:, :-2, 1:-1]
    across, down = ((right - left) / 2).reshape(count, cells), ((below - above) / 2).reshape(count, cells)
    place = ((np.arange(side, dtype=np.float32) + 0.5) / side) * 2 - 1  # -1 to 1
    x, y = np.tile(place, side), np.repeat(place, side)
    causes = np.stack([across, across * x, down, down * y, middle], -1)  # (pairs, cells, 5)
    limit = np.array([MOST_SHIFT * side] * 4 + [MOST_CONTRAST], np.float32)
    turned = causes.transpose(0, 2, 1)
    normal = turned @ causes + RIDGE * cells * np.eye(5, dtype=np.float32)
    found = np.clip(np.linalg.solve(normal, turned @ difference[..., None])[..., 0], -limit, limit)
    shift = np.maximum(np.abs(found[:, :2]).sum(1), np.abs(found[:, 2:4]).sum(1))  # in cells, at an edge
    return difference - (causes @ found[..., None])[..., 0], slopes_of(middle.reshape(count, side, side)), shift


def slopes_of(grids: Floats) -> Floats:
    """Return how steep each cell of thumbnails is, the larger slope across and down: (pairs, side, side) → cells."""
    padded = np.pad(grids, ((0, 0), (1, 1), (1, 1)), "edge")
    across, down = np.abs(np.diff(padded[:, 1:-1], axis=2)), np.abs(np.diff(padded[:, :, 1:-1], axis=1))
    steepest = np.maximum(across[:, :, 1:], across[:, :, :-1]) + np.maximum(down[:, 1:], down[:, :-1])
    return np.asarray(steepest.reshape(len(grids), grids.shape[1] * grids.shape[2]))


def _rms(values: Floats) -> Floats:
    return np.asarray(np.sqrt((values**2).mean(1)))


def chunks(count: int, size: int) -> Iterator[slice]:
    """Yield slices of `size` at most that cover so many items."""
    return (slice(start, min(start + size, count)) for start in range(0, count, size))
