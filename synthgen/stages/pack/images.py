"""Where the image of each sample comes from: the shard's own earlier revision, or the source once more.

Comes in: the samples of a shard, in order. Goes out: each with the image file to pack, or the reason why there is none. Bytes
fetched again are verified against the image's id, for a source can change. A shard that is written anew because its pairs
changed already holds its images, so another threshold costs the source nothing. Images are held some at a time.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any

import pyarrow as pa

from synthgen.errors import Damaged, Failure
from synthgen.ingest.images import Unfit
from synthgen.ingest.load import fetch_images
from synthgen.ingest.sources import ref_of
from synthgen.stages.memory import PACKED_AT_ONCE
from synthgen.stages.pack.metadata import Embedded, embedded
from synthgen.stages.pack.samples import PackContext, Shard
from synthgen.store import StageFolder
from synthgen.tables import PACK, SHARD_INDEX


@dataclass(frozen=True)
class Sample:
    """A sample before its image is there."""

    image_id: str
    sample_id: str
    pairs: Sequence[dict[str, Any]]
    scores: dict[str, list[float | None]]
    planned: dict[str, Any]  # the images row of the plan


def with_images(
    context: PackContext, shard: Shard, samples: Sequence[Sample]
) -> Iterator[tuple[Sample, Embedded | Failure]]:
    """Every sample in order with its image, or why it has none."""
    if shard.poison:
        told = f"the worker died on this image alone: {shard.why}"
        yield from ((sample, Failure("decoder_died", told)) for sample in samples)
        return
    held = _Held(context, shard)
    for start in range(0, len(samples), PACKED_AT_ONCE):
        some = samples[start : start + PACKED_AT_ONCE]
        found: dict[str, Embedded | Failure] = {
            sample.image_id: image for sample in some if (image := held.find(sample.image_id))
        }
        found |= _fetched(context, [sample for sample in some if sample.image_id not in found])
        yield from ((sample, found[sample.image_id]) for sample in some)
        found.clear()  # before the next ones are read


def _fetched(context: PackContext, samples: Sequence[Sample]) -> dict[str, Embedded | Failure]:
    """Return the images of some samples from the source, by image id."""
    expected = {sample.planned["object_id"]: sample.image_id for sample in samples}
    refs = list({ref.object_id: ref for ref in (ref_of(sample.planned) for sample in samples)}.values())
    fetched = fetch_images(refs, context.source, context.images, expected_ids=expected) if refs else ()
    return {expected[one.object_id]: _embedded(one.file, context) for one in fetched}


def _embedded(file: bytes | Failure, context: PackContext) -> Embedded | Failure:
    if isinstance(file, Failure):
        return file
    try:
        return embedded(file, context.images, context.pack)
    except Unfit as unfit:
        return unfit.failure


class _Held:
    """The images that a shard holds already, as today's policy wants them.

    They are asked for in the order in which they lie there, so one file is in memory at a time; what is asked for out of
    order, or lies in a damaged file, is not found and comes from the source.
    """

    def __init__(self, context: PackContext, shard: Shard) -> None:
        stage, log = StageFolder(context.out, PACK), shard.inputs[PACK.folder]
        is_usable = log.fingerprint(shard.partition, "index") == context.image_policy
        index = stage.current(log, shard.partition, "index") if is_usable else SHARD_INDEX.empty_table()
        self._ids = set(index.column("image_id").to_pylist())
        self._files = stage.read(log, shard.partition, "data", ["image_id", "images", "width", "height"])
        self._file: pa.Table | None = None
        self._rows: dict[str, int] = {}

    def find(self, image: str) -> Embedded | None:
        """The image, if it is here or in a file further on."""
        while image in self._ids and image not in self._rows:
            self._file, self._rows = None, {}  # before the next one is read
            try:
                self._file = next(self._files)
                self._rows = {one: row for row, one in enumerate(self._file.column("image_id").to_pylist())}
            except (StopIteration, Damaged):
                self._file, self._rows, self._ids = None, {}, set()
        if self._file is None or image not in self._rows:
            return None
        row = self._file.slice(self._rows[image], 1).to_pylist()[0]
        return Embedded(
            row["images"][0]["bytes"], PurePosixPath(row["images"][0]["path"]).suffix, row["width"], row["height"]
        )
