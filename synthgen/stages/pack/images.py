"""The images of samples: from an earlier revision of the shard, or from the source once more.

Bytes fetched again are verified against the id of the image, since a source can change. A shard that is rewritten
because its pairs changed holds its images already, so another threshold costs the source nothing.

Files arrive in any order and are written in that of the samples. So those of a batch wait as they were fetched, in
memory up to PACK_WAITING_BYTES and in a temporary file beyond, and each becomes the file of its sample when its turn
comes: encoded again, it can take many times its bytes.
"""

import os
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import IO, Any

import pyarrow as pa
import pyarrow.parquet as pq

from synthgen import tables
from synthgen.errors import Damaged, Failure, SynthError, one_line
from synthgen.ingest.images import Unfit
from synthgen.ingest.images.sets import is_set_file, members_of
from synthgen.ingest.load import fetch_images
from synthgen.ingest.sources import ref_of
from synthgen.ingest.sources.objects import too_many_bytes
from synthgen.stages.memory import PACK_WAITING_BYTES
from synthgen.stages.pack.metadata import ImageFile, make_image_file
from synthgen.stages.pack.samples import PackContext, Shard
from synthgen.store import StageFolder
from synthgen.store.parquet import read_batches
from synthgen.store.remote import error_text
from synthgen.tables import PACK, SHARD_INDEX

BATCH = 64  # samples whose images are fetched side by side
LARGEST = 2 * 10**9  # bytes of an image: Arrow counts those of a column in 32 bits
COLUMNS = ("image_id", "images", "width", "height")
Packed = tuple[tuple[str, ImageFile], ...]  # an image, or those of a set in order, each with its image id


@dataclass(frozen=True)
class Sample:
    """A sample without its image.

    Attributes:
        pairs: Rows of PAIRS, a turn each.
        scores: Name → the score of each turn.
        planned: The row of PLANNED_IMAGES of its image.
    """

    image_id: str
    sample_id: str
    pairs: Sequence[dict[str, Any]]
    scores: dict[str, list[float | None]]
    planned: dict[str, Any]


def with_images(
    context: PackContext, shard: Shard, samples: Sequence[Sample]
) -> Iterator[tuple[Sample, Packed | Failure]]:
    """Yield the samples of a shard in order, each with its image or the reason why it has none."""
    if shard.poison:
        failure = Failure("decoder_died", one_line(f"the worker died on this image alone: {shard.why}", 500))
        yield from ((sample, failure) for sample in samples)
        return
    packed = _PackedImages(context, shard)
    for start in range(0, len(samples), BATCH):
        batch = samples[start : start + BATCH]
        with _WaitingFiles(PACK_WAITING_BYTES) as waiting:
            _fetch(context, [sample for sample in batch if sample.image_id not in packed.ids], waiting)
            yield from _in_order(context, batch, packed, waiting)


def _in_order(
    context: PackContext, samples: Sequence[Sample], packed: "_PackedImages", waiting: "_WaitingFiles"
) -> Iterator[tuple[Sample, Packed | Failure]]:
    """Yield the samples of a batch with their images, one at a time; the samples of one image are neighbours."""
    image_id, image = "", None
    for sample in samples:
        if image is None or sample.image_id != image_id:
            image_id, image = sample.image_id, None  # before the next one is read
            image = packed.find(image_id) or _fetched(context, sample, waiting)
        yield sample, image


def _fetched(context: PackContext, sample: Sample, waiting: "_WaitingFiles") -> Packed | Failure:
    """Return the image of a sample from the files that were fetched for its batch, or from the source."""
    if sample.image_id not in waiting:  # it was to come from a file of the last revision, which is damaged
        _fetch(context, [sample], waiting)
    file = waiting.take(sample.image_id)
    if isinstance(file, Failure):
        return file
    try:
        images = _make_files(sample.image_id, file, context)
    except Unfit as unfit:
        return unfit.failure
    return too_many_bytes(sum(len(image.data) for _, image in images), LARGEST) or images


def _make_files(image_id: str, file: bytes, context: PackContext) -> Packed:
    """Return the file of an image; of a set those of its images, which share the pixels of a resized one."""
    if not is_set_file(file):
        return ((image_id, make_image_file(file, context.images, context.pack)),)
    members = members_of(file)
    limits = context.images.model_copy(update={"model_pixels": max(1, context.images.model_pixels // len(members))})
    return tuple((tables.image_id(member), make_image_file(member, limits, context.pack)) for member in members)


def _fetch(context: PackContext, samples: Sequence[Sample], waiting: "_WaitingFiles") -> None:
    """Fetch the images of some samples from the source."""
    expected = {sample.planned["object_id"]: sample.image_id for sample in samples}
    refs = list({ref.object_id: ref for ref in (ref_of(sample.planned) for sample in samples)}.values())
    for image in fetch_images(refs, context.source, context.images, expected_ids=expected) if refs else ():
        waiting.add(expected[image.object_id], image.file)


class _WaitingFiles:
    """Fetched files by image id: in memory up to a number of bytes, and in a temporary file beyond."""

    def __init__(self, memory_bytes: int) -> None:
        self._room = memory_bytes
        self._files: dict[str, bytes | Failure | tuple[int, int]] = {}  # a pair: start and length in the temporary file
        self._spilled: IO[bytes] | None = None

    def __enter__(self) -> "_WaitingFiles":
        return self

    def __exit__(self, *_: object) -> None:
        self._files.clear()
        if self._spilled:
            self._spilled.close()

    def __contains__(self, image_id: str) -> bool:
        return image_id in self._files

    def add(self, image_id: str, file: bytes | Failure) -> None:
        """Add a file.

        Raises:
            SynthError: There is no room for it on local disk.
        """
        if isinstance(file, bytes):
            if len(file) > self._room:
                self._files[image_id] = self._spill(file)
                return
            self._room -= len(file)
        self._files[image_id] = file

    def take(self, image_id: str) -> bytes | Failure:
        """Return a file, which stays here."""
        file = self._files[image_id]
        if not isinstance(file, tuple):
            return file
        assert self._spilled, "a place in the temporary file"
        self._spilled.seek(file[0])
        return self._spilled.read(file[1])

    def _spill(self, file: bytes) -> tuple[int, int]:
        try:
            self._spilled = self._spilled or tempfile.TemporaryFile(prefix="synthgen-pack-")  # noqa: SIM115
            start = self._spilled.seek(0, os.SEEK_END)
            self._spilled.write(file)
            self._spilled.flush()
        except OSError as error:
            folder = tempfile.gettempdir()
            raise SynthError(
                f"{folder}: images that wait to be packed cannot be written there ({error_text(error)}); "
                "make room, or set TMPDIR to another folder"
            ) from error
        return start, len(file)


class _PackedImages:
    """The images in the current revision of a shard, if they follow the current image policy.

    They are asked for in the order in which they are stored, so one file and the images of one of its row groups are in
    memory at a time. An image that is asked for out of order, or is in a damaged file, is not found and comes from the
    source.

    Attributes:
        ids: The images that may be found.
    """

    def __init__(self, context: PackContext, shard: Shard) -> None:
        stage, log = StageFolder(context.out, PACK), shard.inputs[PACK.folder]
        is_usable = log.fingerprint(shard.partition, "index") == context.image_policy
        index = stage.current(log, shard.partition, "index") if is_usable else SHARD_INDEX.empty_table()
        self.ids = set(index.column("image_id").to_pylist())
        self._files = stage.read_bytes(log, shard.partition, "data")
        self._file: pq.ParquetFile | None = None
        self._places: dict[str, tuple[int, int]] = {}  # image id → row group of the open file, row in it
        self._group, self._rows = -1, pa.table({})  # the row group in memory

    def find(self, image_id: str) -> Packed | None:
        """Return an image or a set of the open file or of a later one, or None."""
        while image_id in self.ids and image_id not in self._places:
            self._close()  # before the next file is read
            try:
                self._open(next(self._files))
            except (StopIteration, Damaged):
                self.ids = set()
        if self._file is None or image_id not in self._places:
            return None
        group, place = self._places[image_id]
        if group != self._group:
            self._rows = pa.table({})  # before the next one is read
            self._group, self._rows = group, pa.Table.from_batches(read_batches(self._file, COLUMNS, [group]))
        row = self._rows.slice(place, 1).to_pylist()[0]
        size = row["width"], row["height"]  # of the first, and no other is asked for
        paths = [(image["bytes"], PurePosixPath(image["path"])) for image in row["images"]]
        return tuple((path.stem, ImageFile(data, path.suffix, *size)) for data, path in paths)

    def _open(self, data: bytes) -> None:
        self._file = pq.ParquetFile(pa.BufferReader(data), pre_buffer=False)
        for group in range(self._file.num_row_groups):
            ids = self._file.read_row_group(group, ["image_id"], use_threads=False).column("image_id").to_pylist()
            self._places.update({key: (group, row) for row, key in enumerate(ids)})

    def _close(self) -> None:
        self._file, self._places = None, {}
        self._group, self._rows = -1, pa.table({})
