"""The images of samples: from an earlier revision of the shard, or from the source once more.

Bytes fetched again are verified against the id of the image, since a source can change. A shard that is rewritten
because its pairs changed holds its images already, so another threshold costs the source nothing. Some images are in
memory at a time.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any

import pyarrow as pa

from synthgen.errors import Damaged, Failure, one_line
from synthgen.ingest.images import Unfit
from synthgen.ingest.load import fetch_images
from synthgen.ingest.sources import ref_of
from synthgen.stages.memory import PACK_BATCH
from synthgen.stages.pack.metadata import ImageFile, make_image_file
from synthgen.stages.pack.samples import PackContext, Shard
from synthgen.store import StageFolder
from synthgen.tables import PACK, SHARD_INDEX


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
) -> Iterator[tuple[Sample, ImageFile | Failure]]:
    """Yield the samples of a shard in order, each with its image or the reason why it has none."""
    if shard.poison:
        failure = Failure("decoder_died", one_line(f"the worker died on this image alone: {shard.why}", 500))
        yield from ((sample, failure) for sample in samples)
        return
    packed = _PackedImages(context, shard)
    for start in range(0, len(samples), PACK_BATCH):
        batch = samples[start : start + PACK_BATCH]
        images: dict[str, ImageFile | Failure] = {}
        for sample in batch:
            if image := packed.find(sample.image_id):
                images[sample.image_id] = image
        images |= _fetch(context, [sample for sample in batch if sample.image_id not in images])
        yield from ((sample, images[sample.image_id]) for sample in batch)
        images.clear()  # before the next batch is read


def _fetch(context: PackContext, samples: Sequence[Sample]) -> dict[str, ImageFile | Failure]:
    """Return the images of some samples from the source, by image id."""
    expected = {sample.planned["object_id"]: sample.image_id for sample in samples}
    refs = list({ref.object_id: ref for ref in (ref_of(sample.planned) for sample in samples)}.values())
    fetched = fetch_images(refs, context.source, context.images, expected_ids=expected) if refs else ()
    return {expected[image.object_id]: _image_file(image.file, context) for image in fetched}


def _image_file(data: bytes | Failure, context: PackContext) -> ImageFile | Failure:
    if isinstance(data, Failure):
        return data
    try:
        return make_image_file(data, context.images, context.pack)
    except Unfit as unfit:
        return unfit.failure


class _PackedImages:
    """The images in the current revision of a shard, if they follow the current image policy.

    They are asked for in the order in which they are stored, so one file is in memory at a time. An image that is asked
    for out of order, or is in a damaged file, is not found and comes from the source.
    """

    def __init__(self, context: PackContext, shard: Shard) -> None:
        stage, log = StageFolder(context.out, PACK), shard.inputs[PACK.folder]
        is_usable = log.fingerprint(shard.partition, "index") == context.image_policy
        index = stage.current(log, shard.partition, "index") if is_usable else SHARD_INDEX.empty_table()
        self._ids = set(index.column("image_id").to_pylist())
        self._files = stage.read(log, shard.partition, "data", ["image_id", "images", "width", "height"])
        self._file: pa.Table | None = None
        self._rows: dict[str, int] = {}

    def find(self, image_id: str) -> ImageFile | None:
        """Return an image of the open file or of a later one, or None."""
        while image_id in self._ids and image_id not in self._rows:
            self._file, self._rows = None, {}  # before the next file is read
            try:
                self._file = next(self._files)
                ids = self._file.column("image_id").to_pylist()
                self._rows = {key: row for row, key in enumerate(ids)}
            except (StopIteration, Damaged):
                self._file, self._rows, self._ids = None, {}, set()
        if self._file is None or image_id not in self._rows:
            return None
        row = self._file.slice(self._rows[image_id], 1).to_pylist()[0]
        image = row["images"][0]
        return ImageFile(image["bytes"], PurePosixPath(image["path"]).suffix, row["width"], row["height"])
