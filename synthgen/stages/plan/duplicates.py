"""What is a duplicate of what, over all tagged images at once.

Comes in: the ids, hashes and places of everything tagged, and what earlier epochs of the plan made of it. Goes out: for each
object whether it is kept, or what stands for it. The newest version of a place counts; of equal or near images the first
counts, and those that are planned already come before all others: so growth never takes back what is planned, whatever
order partitions are tagged in. Of each object some hundred bytes are held, nothing of it as a string, and for many objects that
in another process (survey_process.py).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from synthgen.dedup import near_images
from synthgen.stages.plan.inputs import Inputs
from synthgen.store import CommitLog, Folder, StageFolder
from synthgen.tables import PLAN, PLANNED_IMAGES, make_id

OUTCOMES = ("kept", "same_bytes", "near_duplicate", "changed", "quarantined")  # kept: planned, unserved or over_quota
KEPT, SAME_BYTES, NEAR_DUPLICATE, CHANGED, QUARANTINED = range(len(OUTCOMES))
UNKNOWN = -1  # to earlier epochs
BEFORE = pa.schema([PLANNED_IMAGES.field(name) for name in ("object_id", "outcome", "same_as")])

Ids = NDArray[np.bytes_]  # the first 128 bits of an id, which are all of most ids
Indexes = NDArray[np.int64]


@dataclass(frozen=True)
class DuplicateSurvey:
    """Every tagged object by its place: partitions in order, then the order within; arrays have one entry an object."""

    places: Mapping[str, slice]  # of the objects of each partition
    object_ids: Ids
    outcome: NDArray[np.int8]  # index into OUTCOMES
    stands_for: Indexes  # place of the object that represents this one
    overtaken: frozenset[str]  # partitions planned before of which that is no longer true

    def object_id(self, place: int) -> str:
        """The id of an object."""
        return self.object_ids[place : place + 1].tobytes().hex()


@dataclass(frozen=True)
class _Seen:
    """Some objects: what is held of each."""

    object_ids: Ids
    image_ids: Ids
    places: Ids
    phashes: NDArray[np.uint64]
    is_tagged: NDArray[np.bool_]
    before: NDArray[np.int8]  # its outcome in the plan so far
    same_as: Ids  # what stood for it in the plan so far


def survey_duplicates(inputs: Inputs, planned: CommitLog, bits: int) -> DuplicateSurvey:
    """Reads what is needed of everything tagged, and settles what becomes of each object; `planned` is the plan so far."""
    parts = {partition: _look_at(inputs, planned, partition) for partition in inputs.partitions}
    ends = np.cumsum([len(part.object_ids) for part in parts.values()]).tolist()
    places = {partition: slice(start, end) for partition, start, end in zip(parts, [0, *ends], ends, strict=False)}
    seen = _Seen(*(np.concatenate([getattr(part, name) for part in parts.values()]) for name in _Seen.__annotations__))
    del parts
    outcome, stands_for = _settle(seen, bits)
    return DuplicateSurvey(places, seen.object_ids, outcome, stands_for, _overtaken(seen, outcome, stands_for, places))


def _partition_of(places: Mapping[str, slice], some: Indexes) -> NDArray[np.str_]:
    """The partitions of objects by their places."""
    ends = [span.stop for span in places.values()]
    return np.array(list(places))[np.searchsorted(ends, some, side="right")]


def _look_at(inputs: Inputs, planned: CommitLog, partition: str) -> _Seen:
    rows = inputs.seen(partition)
    where = inputs.places(partition, rows.column("object_id"))
    places = [
        make_id(uri, str(row))
        for uri, row in zip(where.column("uri").to_pylist(), where.column("row").to_pylist(), strict=True)
    ]
    before, same_as = _before(inputs.out, planned, partition, rows.column("object_id"))
    return _Seen(
        _ids(rows.column("object_id").to_pylist()),
        _ids(rows.column("image_id").to_pylist()),
        _ids(places),
        rows.column("phash").fill_null(0).to_numpy().astype(np.uint64),
        pc.equal(rows.column("outcome"), "tagged").to_numpy(),
        before,
        same_as,
    )


def _before(out: Folder, planned: CommitLog, partition: str, object_ids: Any) -> tuple[NDArray[np.int8], Ids]:
    """What the plan so far made of these objects."""
    if partition not in planned.partitions:
        return np.full(len(object_ids), UNKNOWN, np.int8), _ids([None] * len(object_ids))
    rows = StageFolder(out, PLAN).current(planned, partition, "images", BEFORE.names)
    codes = pc.index_in(rows.column("outcome"), pa.array(["planned", *OUTCOMES[1:]])).fill_null(
        KEPT
    )  # so are unserved and over_quota
    place = pc.index_in(object_ids, rows.column("object_id").combine_chunks())
    return codes.take(place).fill_null(UNKNOWN).to_numpy().astype(np.int8), _ids(
        rows.column("same_as").take(place).to_pylist()
    )


def _ids(ids: Sequence[str | None]) -> Ids:
    return np.frombuffer(bytes.fromhex("".join((one or "0" * 32)[:32] for one in ids)), dtype="S16")


def _settle(seen: _Seen, bits: int) -> tuple[NDArray[np.int8], Indexes]:
    """What becomes of each object, and what stands for it."""
    outcome, stands_for = np.full(len(seen.object_ids), KEPT, np.int8), np.arange(len(seen.object_ids))
    outcome[_superseded(seen.places)] = CHANGED
    outcome[~seen.is_tagged] = QUARANTINED
    left = np.flatnonzero(outcome == KEPT)
    left = left[np.argsort(seen.before[left] != KEPT, kind="stable")]  # first what is planned already
    _, first, inverse = np.unique(seen.image_ids[left], return_index=True, return_inverse=True)
    stands_for[left] = left[first[inverse]]
    outcome[left[stands_for[left] != left]] = SAME_BYTES
    if bits >= 0:
        left = left[outcome[left] == KEPT]
        stands_for[left] = left[near_images(seen.phashes[left], bits)]
        outcome[left[stands_for[left] != left]] = NEAR_DUPLICATE
        # What has the bytes of a near duplicate is itself near to what represents that one, and is represented by it.
        outcome[stands_for[stands_for] != stands_for] = NEAR_DUPLICATE
        stands_for = stands_for[stands_for]
    return outcome, stands_for


def _superseded(places: Ids) -> NDArray[np.bool_]:
    """Whether a later object is a newer version at the same place."""
    _, last = np.unique(places[::-1], return_index=True)
    is_older = np.ones(len(places), bool)
    is_older[len(places) - 1 - last] = False
    return is_older


def _overtaken(
    seen: _Seen, outcome: NDArray[np.int8], stands_for: Indexes, places: Mapping[str, slice]
) -> frozenset[str]:
    """The partitions in which an object has another outcome than the plan so far says, or is represented by one that is not kept."""
    known = seen.before != UNKNOWN
    differs = known & (seen.before != outcome)
    doubtful = np.flatnonzero(known & ~differs & ((outcome == SAME_BYTES) | (outcome == NEAR_DUPLICATE)))
    doubtful = doubtful[seen.object_ids[stands_for[doubtful]] != seen.same_as[doubtful]]
    differs[doubtful] = ~np.isin(seen.same_as[doubtful], seen.object_ids[outcome == KEPT])
    return frozenset(_partition_of(places, np.flatnonzero(differs)).tolist())
