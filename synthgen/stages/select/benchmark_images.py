"""The images of benchmark sets, and which images of a run show one.

An image whose hash is near to that of a benchmark's image or of a crop of it is fitted to that image. Where a set is an
output folder there is nothing to fit to: its images are compared by hash and thumbnail, as near duplicates are, and by
embedding if the same model made both.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from synthgen.config.deduplication import DecontaminateConfig
from synthgen.dedup import Crops, Thumbnails, known_parts, near_known
from synthgen.ingest.benchmark_prints import PRINTS
from synthgen.store import RunFolder

NO_THUMBNAIL = bytes(PRINTS.field("thumbnail").type.byte_width)

Bytes = npt.NDArray[np.uint8]
Floats = npt.NDArray[np.float32]
Indexes = npt.NDArray[np.int64]
Words = npt.NDArray[np.uint64]


@dataclass(frozen=True)
class Match:
    """An image of a benchmark set that an image of this run shows: by its hash or its embedding."""

    by: str
    item: int
    value: float


@dataclass(frozen=True)
class KnownImages:
    """The images of benchmark sets.

    Attributes:
        items: The print of each image of an output folder.
        whole: Hashes, thumbnails and flat shares of those images.
        crop_items: The print of each of `crops`.
        crops: Images with a miniature, and crops of them.
        embeddings: Unit vectors, (images with one, dimensions), and the print of each.
    """

    bits: int
    cosine: float | None
    items: Indexes
    whole: tuple[Words, Bytes, Floats]
    crop_items: Indexes
    crops: Crops
    embeddings: tuple[Floats, Indexes] | None

    @staticmethod
    def of(prints: pa.Table, settings: DecontaminateConfig, runs: list[RunFolder], run: RunFolder) -> "KnownImages":
        """Return the images of these prints, with those embeddings that the model of this run made."""
        is_of_run = pc.and_(prints.column("phash").is_valid(), prints.column("edges").is_null())
        items, rows = np.flatnonzero(is_of_run.to_numpy()), prints.filter(is_of_run)
        embeddings = None
        if settings.cosine is not None and any(embedding_of(one) == embedding_of(run) for one in runs):
            has_one = np.flatnonzero(rows.column("embedding").is_valid().to_numpy())
            if len(has_one):
                embeddings = _vectors(rows.column("embedding").take(pa.array(has_one))), items[has_one]
        return KnownImages(settings.bits, settings.cosine, items, _seen(rows), *_crops(prints), embeddings)

    def find(self, images: pa.Table) -> Iterator[tuple[str, Match]]:
        """Yield the images that are in a benchmark set, by their id."""
        hashes, cells, shares = _seen(images)
        item = _find_whole(hashes, cells, shares, self.whole, self.bits)
        known = np.where(item >= 0, self.whole[0][item] if len(self.items) else 0, 0).astype(np.uint64)
        item = np.where(item >= 0, self.items[item] if len(self.items) else -1, -1)
        rest = np.flatnonzero(item < 0)
        part = known_parts(hashes[rest], cells[rest], shares[rest], self.crops, self.bits)
        rest, part = rest[part >= 0], part[part >= 0]
        item[rest], known[rest] = self.crop_items[part], self.crops.hashes[part]
        ids = images.column("image_id").to_pylist()
        for place in np.flatnonzero(item >= 0).tolist():
            yield ids[place], Match("hash", int(item[place]), int(np.bitwise_count(hashes[place] ^ known[place])))
        if self.embeddings and self.cosine is not None and "embedding" in images.column_names:
            yield from self._find_embeddings(images, ids, item >= 0)

    def _find_embeddings(
        self, images: pa.Table, ids: list[str], is_found: npt.NDArray[np.bool_]
    ) -> Iterator[tuple[str, Match]]:
        assert self.embeddings and self.cosine is not None
        known, items = self.embeddings
        rest = np.flatnonzero(images.column("embedding").is_valid().to_numpy() & ~is_found)
        vectors = _vectors(images.column("embedding").take(pa.array(rest)))
        for start in range(0, len(rest), 1 << 12):
            cosine = vectors[start : start + (1 << 12)] @ known.T
            best = cosine.argmax(axis=1)
            for row in np.flatnonzero(cosine[np.arange(len(best)), best] >= self.cosine - 1e-5).tolist():
                yield ids[rest[start + row]], Match("embedding", int(items[best[row]]), float(cosine[row, best[row]]))


def embedding_of(run: RunFolder) -> Any:
    """Return what names the model of the embeddings of a run, if it has any."""
    return (run.record or {}).get("shape", {}).get("images", {}).get("embedding")


def _find_whole(hashes: Words, cells: Bytes, shares: Floats, known: tuple[Words, Bytes, Floats], bits: int) -> Indexes:
    """Return the known image that each image is near to as a whole, or -1."""
    everything = np.concatenate([known[1], cells]), np.concatenate([known[2], shares])
    thumbnails = Thumbnails(*everything, np.arange(len(everything[0])))
    return near_known(hashes, known[0], bits, thumbnails)


def _crops(prints: pa.Table) -> tuple[Indexes, Crops]:
    """Return the images with a miniature and their crops, and the print of each."""
    items = np.flatnonzero(prints.column("edges").is_valid().to_numpy())
    rows = prints.take(pa.array(items))
    miniatures = rows.column("miniature")
    edges = rows.column("edges").combine_chunks().flatten().to_numpy().astype(np.float32).reshape(-1, 2, 2)
    images = np.cumsum(miniatures.is_valid().to_numpy()) - 1  # an image comes before its crops
    return items, Crops(*_seen(rows), edges, images, miniatures.drop_null().to_pylist())


def _seen(rows: pa.Table) -> tuple[Words, Bytes, Floats]:
    """Return the hashes, thumbnails and flat shares of images; a share is NaN where there is no thumbnail."""
    cells = rows.column("thumbnail").to_pylist()
    grid = np.frombuffer(b"".join(cell or NO_THUMBNAIL for cell in cells), np.uint8).reshape(-1, len(NO_THUMBNAIL))
    has_none = np.array([cell is None for cell in cells], bool)
    shares = np.where(has_none, np.nan, rows.column("flat_share").to_numpy()).astype(np.float32)
    return rows.column("phash").to_numpy().astype(np.uint64), grid, shares


def _vectors(embeddings: pa.ChunkedArray) -> Floats:
    """Return embeddings, none of them null and all of one length, as vectors of length 1."""
    column = embeddings.combine_chunks()
    if not len(column):
        return np.empty((0, 1), np.float32)
    rows = column.flatten().to_numpy(zero_copy_only=False).astype(np.float32).reshape(len(column), -1)
    return np.asarray(rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-9), np.float32)
