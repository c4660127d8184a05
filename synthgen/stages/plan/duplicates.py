"""The survey of duplicates, over all tagged images at once: each object is kept, or another object represents it.

The newest bytes of a place count. Of equal or near images the first counts, and images that are planned already come
before all others; so growth never retires what is planned, in whatever order partitions are tagged. A newer version
with the same bytes is a copy like any other, so a file with a new date costs nothing but a look at it. Memory holds
about a hundred bytes of each object and no strings; a survey of many objects runs in another process
(survey_process.py). Thumbnails lie in a file on local disk, of which only those of images with near hashes are looked
at.
"""

import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import BinaryIO

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from synthgen.dedup import Thumbnails, near_images
from synthgen.stages.plan.inputs import Inputs
from synthgen.store import CommitLog, Folder, StageFolder
from synthgen.tables import IMAGES, PLAN, PLANNED_IMAGES, make_id

OUTCOMES = ("kept", "same_bytes", "near_duplicate", "changed", "quarantined")  # kept: planned, unserved or over_quota
KEPT, SAME_BYTES, NEAR_DUPLICATE, CHANGED, QUARANTINED = range(len(OUTCOMES))
UNKNOWN = -1  # the outcome of an object that no earlier epoch has
THUMBNAIL_BYTES = IMAGES.field("thumbnail").type.byte_width
BEFORE = pa.schema([PLANNED_IMAGES.field(name) for name in ("object_id", "outcome", "same_as")])

Ids = NDArray[np.bytes_]  # the first 128 bits of ids, which are all bits of most ids
Outcomes = NDArray[np.int8]  # indexes into OUTCOMES
Indexes = NDArray[np.int64]


@dataclass(frozen=True)
class DuplicateSurvey:
    """Every tagged object, in the order of the partitions and within them; arrays have one entry for each.

    Attributes:
        spans: Partition → the indexes of its objects.
        representative: The index of the object that represents each object; itself if it is kept.
        outdated: The partitions whose committed plan no longer agrees with the survey.
    """

    spans: Mapping[str, slice]
    object_ids: Ids
    outcome: Outcomes
    representative: Indexes
    outdated: frozenset[str]

    def object_id(self, index: int) -> str:
        """Return the id of an object."""
        return self.object_ids[index : index + 1].tobytes().hex()


@dataclass(frozen=True)
class _Objects:
    """The facts about some objects, one entry in each array for each.

    Attributes:
        places: Hashes of their uris and rows.
        is_settled: Whether they are planned, by the present settings.
        before: Their outcomes in the plan so far, or UNKNOWN.
        same_as: The objects that represent them in the plan so far.
    """

    object_ids: Ids
    image_ids: Ids
    places: Ids
    phashes: NDArray[np.uint64]
    flat_shares: NDArray[np.float32]  # NaN where there is no thumbnail
    is_tagged: NDArray[np.bool_]
    is_settled: NDArray[np.bool_]
    before: Outcomes
    same_as: Ids


def survey_duplicates(inputs: Inputs, planned: CommitLog, bits: int, fingerprint: str = "") -> DuplicateSurvey:
    """Survey every tagged object.

    Args:
        inputs: The listed and tagged objects.
        planned: The plan so far.
        bits: The perceptual hashes of near images differ in at most so many bits; below 0, none are near.
        fingerprint: Of the settings. What was planned by them stays, whatever is found near to it later.
    """
    with tempfile.TemporaryFile(prefix="synth-thumbnails-") as file:
        parts = {
            partition: _read_objects(inputs, planned, partition, fingerprint, file) for partition in inputs.partitions
        }
        return _survey(parts, _mapped(file), bits)


def _survey(parts: Mapping[str, _Objects], cells: NDArray[np.uint8], bits: int) -> DuplicateSurvey:
    """Survey the objects of some partitions, with their thumbnails, (objects, THUMBNAIL_BYTES)."""
    ends = np.cumsum([len(part.object_ids) for part in parts.values()]).tolist()
    spans = {partition: slice(start, end) for partition, start, end in zip(parts, [0, *ends], ends, strict=False)}
    names = [field.name for field in fields(_Objects)]
    objects = _Objects(*(np.concatenate([getattr(part, name) for part in parts.values()]) for name in names))
    newest = _newest(objects.places)
    outcome, representative = _find_representatives(objects, newest, cells, bits)
    outdated = _outdated(objects, newest, outcome, representative, spans)
    return DuplicateSurvey(spans, objects.object_ids, outcome, representative, outdated)


def _mapped(file: BinaryIO) -> NDArray[np.uint8]:
    """Return the thumbnails of a file, one after the other; the file is read where it is looked at."""
    file.flush()
    if not file.tell():
        return np.empty((0, THUMBNAIL_BYTES), np.uint8)
    return np.memmap(file, np.uint8, "r").reshape(-1, THUMBNAIL_BYTES)


def _read_objects(inputs: Inputs, planned: CommitLog, partition: str, fingerprint: str, file: BinaryIO) -> _Objects:
    """Return the facts about the objects of a partition, and write their thumbnails to a file."""
    rows = inputs.hashes(partition)
    thumbnails = rows.column("thumbnail").to_pylist()
    file.writelines(cells or bytes(THUMBNAIL_BYTES) for cells in thumbnails)
    has_none = np.array([cells is None for cells in thumbnails], bool)
    locations = inputs.locations(partition, rows.column("object_id"))
    pairs = zip(locations.column("uri").to_pylist(), locations.column("row").to_pylist(), strict=True)
    before, same_as = _read_plan(inputs.out, planned, partition, rows.column("object_id"))
    return _Objects(
        _ids(rows.column("object_id").to_pylist()),
        _ids(rows.column("image_id").to_pylist()),
        _ids([make_id(uri, str(row)) for uri, row in pairs]),
        rows.column("phash").fill_null(0).to_numpy().astype(np.uint64),
        np.where(has_none, np.nan, rows.column("flat_share").to_numpy()).astype(np.float32),
        pc.equal(rows.column("outcome"), "tagged").to_numpy(),
        (before == KEPT) & (planned.fingerprint(partition, "assignments") == fingerprint),
        before,
        same_as,
    )


def _read_plan(out: Folder, planned: CommitLog, partition: str, object_ids: pa.ChunkedArray) -> tuple[Outcomes, Ids]:
    """Return the outcomes of these objects in the plan so far, and the objects that represent them there."""
    if partition not in planned.partitions:
        return np.full(len(object_ids), UNKNOWN, np.int8), _ids([None] * len(object_ids))
    rows = StageFolder(out, PLAN).current(planned, partition, "images", BEFORE.names)
    codes = pc.index_in(rows.column("outcome"), pa.array(["planned", *OUTCOMES[1:]]))
    codes = codes.fill_null(KEPT)  # unserved and over_quota
    index = pc.index_in(object_ids, rows.column("object_id").combine_chunks())
    before = codes.take(index).fill_null(UNKNOWN).to_numpy().astype(np.int8)
    return before, _ids(rows.column("same_as").take(index).to_pylist())


def _ids(ids: Sequence[str | None]) -> Ids:
    """Return hexadecimal ids as bytes; None becomes zeros."""
    return np.frombuffer(bytes.fromhex("".join((key or "0" * 32)[:32] for key in ids)), dtype="S16")


def _find_representatives(
    objects: _Objects, newest: Indexes, cells: NDArray[np.uint8], bits: int
) -> tuple[Outcomes, Indexes]:
    """Return the outcome of each object, and the index of the object that represents it."""
    outcome = np.full(len(objects.object_ids), KEPT, np.int8)
    representative = np.arange(len(objects.object_ids))
    outcome[objects.image_ids[newest] != objects.image_ids] = CHANGED
    outcome[~objects.is_tagged] = QUARANTINED
    rest = np.flatnonzero(outcome == KEPT)
    rest = rest[np.argsort(objects.before[rest] != KEPT, kind="stable")]  # planned objects first
    _, first, inverse = np.unique(objects.image_ids[rest], return_index=True, return_inverse=True)
    representative[rest] = rest[first[inverse]]
    outcome[rest[representative[rest] != rest]] = SAME_BYTES
    if bits >= 0:
        rest = rest[outcome[rest] == KEPT]
        near = near_images(objects.phashes[rest], bits, thumbnails=Thumbnails(cells, objects.flat_shares, rest))
        # Among many images alike, growth changes which of them are compared; what is planned stays all the same.
        representative[rest] = np.where(objects.is_settled[rest], rest, rest[near])
        outcome[rest[representative[rest] != rest]] = NEAR_DUPLICATE
        # An object with the bytes of a near duplicate is near to the same image, which represents both.
        outcome[representative[representative] != representative] = NEAR_DUPLICATE
        representative = representative[representative]
    return outcome, representative


def _newest(places: Ids) -> Indexes:
    """Return the index of the newest object at the place of each object, which is the last one."""
    _, last, inverse = np.unique(places[::-1], return_index=True, return_inverse=True)
    return (len(places) - 1 - last)[inverse[::-1]]


def _outdated(
    objects: _Objects, newest: Indexes, outcome: Outcomes, representative: Indexes, spans: Mapping[str, slice]
) -> frozenset[str]:
    """Return the partitions whose plan has another outcome for an object, or a representative that is not kept.

    So are those with a kept object whose bytes are found by a newer version from now on.
    """
    is_known = objects.before != UNKNOWN
    differs = is_known & (objects.before != outcome)
    is_duplicate = (outcome == SAME_BYTES) | (outcome == NEAR_DUPLICATE)
    doubtful = np.flatnonzero(is_known & ~differs & is_duplicate)
    doubtful = doubtful[objects.object_ids[representative[doubtful]] != objects.same_as[doubtful]]
    differs[doubtful] = ~np.isin(objects.same_as[doubtful], objects.object_ids[outcome == KEPT])
    has_newer = (outcome == KEPT) & (outcome[newest] == SAME_BYTES)
    differs |= is_known & has_newer & (objects.before[newest] == UNKNOWN)
    ends = [span.stop for span in spans.values()]
    partitions = np.searchsorted(ends, np.flatnonzero(differs), side="right")
    return frozenset(np.array(list(spans))[partitions].tolist())
