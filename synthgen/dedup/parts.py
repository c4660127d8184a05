"""Whether an image is a part of another one, that was cropped, lightened or recoloured: the part is found, then judged.

The one image is known by its thumbnail, the other in more detail. Where the part lies is looked for along each side by
itself, by the mean grey of rows and of columns, since lines of text repeat and a search from the middle ends at the
wrong one. Then its edges and a curve of brightness are fitted by least squares (Gauss and Newton), and what is left is
judged as thumbnails.py does. A part that was found leaves so little that another page of the same layout is told apart.
"""

from functools import cache

import numpy as np
import numpy.typing as npt

from synthgen.dedup.greedy import Indexes, Mask
from synthgen.dedup.thumbnails import Bytes, Floats, chunks, slopes_of

LEAST_SIDE = 0.75  # of the image that a part is looked for in
SPACING = 0.01  # of the edges that are tried
ROUNDS = 5  # of the fit; the first decides which are worth the others
FITTED = 3  # candidates of an image that are fitted to the end
MOST_AT_FIRST = 6.0  # times the limit, left after the first round; of parts found later up to 4, of most others more
MOST_CUT = 0.4  # of a side, by either edge
STEP, MOST_STEPS = 0.004, 6.0  # by which an edge is moved to see what changes, and how many of them a round moves it
RIDGE = 1.0  # grey levels squared per cell: keeps the fit of images without slopes small
MOST_LEFT = 0.2  # in photographs: root mean square of what is left, as a share of that of the slopes
MOST_LEFT_FLAT = 0.1  # in flat images
NOISE = 8.0  # grey levels added to the slopes
MOST_LEVELS, SLACK = 4.5, 0.06  # in flat images: grey levels left in any cell, beside this share of its slopes
IMAGES = 16  # fitted at once; 17 MB of some arrays

Edges = npt.NDArray[np.float32]  # (pairs, 2, 2): where a part begins and ends across and down, as shares of the sides


def shown_parts(cells: Bytes, is_flat: Mask, details: Bytes, edges: Edges) -> Indexes:
    """Return which of its candidates each image is a part of, or -1, (images,).

    Args:
        cells: Thumbnails, (images, side * side).
        is_flat: Whether most of the image or the candidate has one grey, (images, candidates).
        details: The candidates as large thumbnails, (images, candidates, size, size).
        edges: Where in each candidate to begin, (images, candidates, 2, 2).
    """
    found = np.full(len(cells), -1, np.int64)
    for part in chunks(len(cells), IMAGES):
        found[part] = _shown(cells[part].astype(np.float32), is_flat[part], details[part], edges[part])
    return found


def _shown(cells: Floats, is_flat: Mask, details: Bytes, edges: Edges) -> Indexes:
    images, count = details.shape[:2]
    own = np.repeat(np.arange(images), 2 * count)
    candidate = np.tile(np.arange(count), 2 * images)
    looked_for = _look(cells[own[::2]], details.reshape(-1, *details.shape[2:]), edges.reshape(-1, 2, 2))
    starts = np.concatenate([edges, looked_for.reshape(edges.shape)], 1).reshape(-1, 2, 2)
    starts, left = _fit(cells[own], is_flat[own, candidate], details[own, candidate], starts, 1)
    left = left.reshape(images, -1)
    likely = np.flatnonzero(left.min(1) <= MOST_AT_FIRST)
    found = np.full(images, -1, np.int64)
    if len(likely):
        best = np.argsort(left[likely], 1)[:, :FITTED]
        pairs = (best + likely[:, None] * 2 * count).ravel()
        own, candidate = own[pairs], candidate[pairs]
        _, left = _fit(cells[own], is_flat[own, candidate], details[own, candidate], starts[pairs], ROUNDS)
        left = left.reshape(best.shape)
        first = left.argmin(1)[:, None]
        is_found = np.take_along_axis(left, first, 1)[:, 0] <= 1
        found[likely[is_found]] = np.take_along_axis(best, first, 1)[is_found, 0] % count
    return found


def _averaging(edges: Edges, side: int, size: int) -> Floats:
    """Return the matrices that take the mean of `size` values in each of `side` cells between two edges.

    Args:
        edges: (pairs, 2).
        side: Cells.
        size: Values.

    Returns:
        (pairs, side, size).
    """
    begin, width = edges[:, :1], edges[:, 1:] - edges[:, :1]
    bounds = (begin + width * np.linspace(0, 1, side + 1, dtype=np.float32)) * size
    covered = np.clip(bounds[:, :, None] - np.arange(size, dtype=np.float32), 0, 1)
    return np.asarray(np.diff(covered, axis=1) * (side / size / width)[:, :, None])


@cache
def _spans(side: int, size: int) -> tuple[Edges, Floats]:
    """Return the edges that are tried along a side, (spans, 2), and their averaging matrices, (size, spans * side)."""
    begin, end = np.meshgrid(*[np.arange(0, 1 - LEAST_SIDE + 1e-6, SPACING)] * 2)
    edges = np.stack([begin.ravel(), 1 - end.ravel()], 1).astype(np.float32)
    edges = edges[edges[:, 1] - edges[:, 0] >= LEAST_SIDE - 1e-6]
    return edges, np.ascontiguousarray(_averaging(edges, side, size).reshape(-1, size).T)


def _look(cells: Floats, details: Bytes, edges: Edges) -> Edges:
    """Return where parts lie, by the mean grey of rows and columns; (pairs, 2, 2), as `edges`, from which it starts."""
    side, size = round(cells.shape[1] ** 0.5), details.shape[-1]
    grids, greys, edges = cells.reshape(-1, side, side), details.astype(np.float32), edges.copy()
    tried, matrix = _spans(side, size)
    for axis in (1, 0, 1, 0):
        across_it = _averaging(edges[:, 1 - axis], side, size).mean(1)
        turned = greys if axis else greys.transpose(0, 2, 1)
        profiles = ((turned @ across_it[:, :, None])[:, :, 0] @ matrix).reshape(len(cells), -1, side)
        own = grids.mean(2 if axis else 1)
        own = own - own.mean(1, keepdims=True)
        square = np.einsum("psc,psc->ps", profiles, profiles) - profiles.sum(2) ** 2 / side
        likeness = (profiles @ own[:, :, None])[:, :, 0] / (np.sqrt(np.maximum(square, 0)) + 1)
        edges[:, axis] = tried[likeness.argmax(1)]
    return edges


def _fit(cells: Floats, is_flat: Mask, details: Bytes, edges: Edges, rounds: int) -> tuple[Edges, Floats]:
    """Return the edges of parts after so many rounds, and what is left over of the difference, 1 at the limit."""
    count, side = len(cells), round(cells.shape[1] ** 0.5)
    greys = details.astype(np.float32)
    pictures = np.stack([greys, greys * greys / 255], 1)  # a curve of brightness is a sum of both
    target, tone = cells - cells.mean(1, keepdims=True), np.tile(np.array([1, 0], np.float32), (count, 1))
    for _ in range(rounds):
        seen, moved = _seen(pictures, edges, side), _moved(pictures, tone, edges, side)
        solved, _ = _solve(target - seen[:, 0], np.concatenate([moved, seen], 1))
        tone = solved[:, 4:] + np.array([1, 0], np.float32)
        steps = np.clip(solved[:, :4], -MOST_STEPS, MOST_STEPS).reshape(-1, 2, 2) * [STEP, -STEP]
        edges = np.clip(edges + steps, [0, 1 - MOST_CUT], [MOST_CUT, 1]).astype(np.float32)
    seen = _seen(pictures, edges, side)
    _, rest = _solve(target - seen[:, 0], seen)
    slopes = slopes_of(cells.reshape(count, side, side))
    share = np.sqrt((rest**2).mean(1)) / (np.sqrt((slopes**2).mean(1)) + NOISE)
    worst = (np.abs(rest) - SLACK * slopes).max(1)
    flat = np.maximum(share / MOST_LEFT_FLAT, worst / MOST_LEVELS)
    return edges, np.where(is_flat, flat, share / MOST_LEFT)


def _seen(pictures: Floats, edges: Edges, side: int) -> Floats:
    """Return the thumbnails of parts without their means, (pairs, pictures, cells)."""
    size = pictures.shape[-1]
    across, down = (_averaging(edges[:, axis], side, size) for axis in (0, 1))
    seen = (down[:, None] @ pictures @ across.transpose(0, 2, 1)[:, None]).reshape(*pictures.shape[:2], -1)
    return np.asarray(seen - seen.mean(2, keepdims=True))


def _moved(pictures: Floats, tone: Floats, edges: Edges, side: int) -> Floats:
    """Return how the thumbnails of parts change if each edge moves inwards by STEP, (pairs, 4, cells)."""
    size = pictures.shape[-1]
    picture = np.einsum("pt,ptij->pij", tone, pictures)
    across, down = (_averaging(edges[:, axis], side, size) for axis in (0, 1))
    rows, columns = down @ picture, picture @ across.transpose(0, 2, 1)
    changes = []
    for axis, before in ((0, across), (1, down)):
        for inwards in ([STEP, 0], [0, -STEP]):
            change = _averaging(edges[:, axis] + np.array(inwards, np.float32), side, size) - before
            changes.append(change @ columns if axis else rows @ change.transpose(0, 2, 1))
    moved = np.stack(changes, 1).reshape(len(edges), 4, -1)
    return np.asarray(moved - moved.mean(2, keepdims=True))


def _solve(difference: Floats, causes: Floats) -> tuple[Floats, Floats]:
    """Return how much of each cause, (pairs, causes, cells), explains a difference best, and what is left of it."""
    count, cells = causes.shape[1:]
    normal = causes @ causes.transpose(0, 2, 1) + RIDGE * cells * np.eye(count, dtype=np.float32)
    solved = np.linalg.solve(normal, causes @ difference[..., None])[..., 0]
    return solved, difference - np.einsum("pc,pck->pk", solved, causes)
