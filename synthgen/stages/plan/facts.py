"""What a survey of duplicates compares: some facts about each object in memory, its thumbnail and embedding on disk.

Memory holds about a hundred bytes of each object and no strings. Thumbnails and embeddings lie in files on local disk,
of which only those of candidates are looked at.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, fields
from tempfile import TemporaryFile
from typing import IO, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from synthgen.stages.plan.inputs import HASHES, Inputs
from synthgen.stages.plan.survey_settings import SurveySettings
from synthgen.store import CommitLog, RunFolder, StageFolder
from synthgen.store.earlier_runs import EarlierRun
from synthgen.tables import IMAGES, PLAN, PLANNED_IMAGES, TAG, make_id

OUTCOMES = (
    *("kept", "same_bytes", "near_duplicate", "semantic_duplicate", "other_run", "changed", "quarantined"),
    *("reserved", "excluded"),
)
KEPT, SAME_BYTES, NEAR_DUPLICATE, SEMANTIC_DUPLICATE, OTHER_RUN, CHANGED, QUARANTINED, RESERVED, EXCLUDED = range(
    len(OUTCOMES)
)
UNKNOWN = -1  # the outcome of an object that no earlier epoch has
THUMBNAIL_BYTES = IMAGES.field("thumbnail").type.byte_width
BEFORE = pa.schema([PLANNED_IMAGES.field(name) for name in ("object_id", "outcome", "same_as")])

Ids = NDArray[np.bytes_]  # the first 128 bits of ids, which are all bits of most ids
Outcomes = NDArray[np.int8]  # indexes into OUTCOMES; kept: planned, unserved or over_quota


@dataclass(frozen=True)
class Facts:
    """The facts about some objects, one entry in each array for each.

    Attributes:
        run: The earlier run that has it, or -1 for this one, int16.
        places: Hashes of their uris and rows.
        is_settled: Whether they are planned, by the present settings.
        is_reserved: Whether tagging found that no model may learn from them.
        is_excluded: Whether `plan.where` leaves them out.
        before: Their outcomes in the plan so far, or UNKNOWN.
        same_as: The objects that represent them in the plan so far.
    """

    run: NDArray[np.int16]
    object_ids: Ids
    image_ids: Ids
    places: Ids
    phashes: NDArray[np.uint64]
    flat_shares: NDArray[np.float32]  # NaN where there is no thumbnail
    is_tagged: NDArray[np.bool_]
    is_settled: NDArray[np.bool_]
    is_reserved: NDArray[np.bool_]
    is_excluded: NDArray[np.bool_]
    before: Outcomes
    same_as: Ids

    @staticmethod
    def joined(parts: "Sequence[Facts]") -> "Facts":
        """Return the facts about the objects of several parts, in their order."""
        names = [field.name for field in fields(Facts)]
        return Facts(*(np.concatenate([getattr(part, name) for part in parts]) for name in names))


class Pictures:
    """The thumbnails and embeddings of objects on disk, in the order in which they are added."""

    def __init__(self, thumbnails: IO[bytes], embeddings: IO[bytes], *, with_embeddings: bool) -> None:
        self._thumbnails, self._embeddings, self.with_embeddings = thumbnails, embeddings, with_embeddings
        self._dimensions = 0
        self._waiting = 0  # objects before the first embedding

    @staticmethod
    @contextmanager
    def on_disk(*, with_embeddings: bool) -> "Iterator[Pictures]":
        """Keep pictures in temporary files within this block."""
        with TemporaryFile(prefix="synth-thumbnails-") as first, TemporaryFile(prefix="synth-embeddings-") as second:
            yield Pictures(first, second, with_embeddings=with_embeddings)

    def add(self, images: pa.Table) -> NDArray[np.bool_]:
        """Add the objects of some rows of IMAGES; return which of them have no thumbnail."""
        thumbnails = images.column("thumbnail").to_pylist()
        self._thumbnails.writelines(cells or bytes(THUMBNAIL_BYTES) for cells in thumbnails)
        if self.with_embeddings:
            self._add_embeddings(images.column("embedding").combine_chunks())
        return np.array([cells is None for cells in thumbnails], bool)

    def _add_embeddings(self, embeddings: pa.ListArray) -> None:
        lengths = pc.fill_null(pc.list_value_length(embeddings), 0).to_numpy().astype(np.int64)
        self._dimensions = self._dimensions or int(lengths.max(initial=0))
        if not self._dimensions:
            self._waiting += len(embeddings)
            return
        rows = np.zeros((self._waiting + len(embeddings), self._dimensions), np.float16)
        has_one = lengths == self._dimensions  # of another length is none that could be compared
        values = embeddings.filter(pa.array(has_one)).flatten().to_numpy(zero_copy_only=False)
        rows[self._waiting :][has_one] = values.reshape(-1, self._dimensions)
        self._embeddings.write(rows.tobytes())
        self._waiting = 0

    def thumbnails(self) -> NDArray[np.uint8]:
        """Return the thumbnails, (objects, THUMBNAIL_BYTES); the file is read where it is looked at."""
        self._thumbnails.flush()
        if not self._thumbnails.tell():
            return np.empty((0, THUMBNAIL_BYTES), np.uint8)
        return np.memmap(self._thumbnails, np.uint8, "r").reshape(-1, THUMBNAIL_BYTES)

    def embeddings(self) -> NDArray[np.float16] | None:
        """Return the embeddings, (objects, dimensions), zeros where there is none; None if no object has one."""
        self._embeddings.flush()
        if not self._dimensions:
            return None
        return np.memmap(self._embeddings, np.float16, "r").reshape(-1, self._dimensions)


def read_objects(
    inputs: Inputs, planned: CommitLog, partition: str, settings: SurveySettings, pictures: Pictures
) -> Facts:
    """Return the facts about the objects of a partition, and add their pictures."""
    rows = inputs.hashes(partition, with_embeddings=pictures.with_embeddings)
    has_none = pictures.add(rows)
    locations = inputs.locations(partition, rows.column("object_id"))
    pairs = zip(locations.column("uri").to_pylist(), locations.column("row").to_pylist(), strict=True)
    before, same_as = _read_plan(inputs, planned, partition, rows.column("object_id"))
    return Facts(
        np.full(rows.num_rows, -1, np.int16),
        _ids(rows.column("object_id").to_pylist()),
        _ids(rows.column("image_id").to_pylist()),
        _ids([make_id(uri, str(row)) for uri, row in pairs]),
        rows.column("phash").fill_null(0).to_numpy().astype(np.uint64),
        np.where(has_none, np.nan, rows.column("flat_share").to_numpy()).astype(np.float32),
        pc.equal(rows.column("outcome"), "tagged").to_numpy(),
        (before == KEPT) & (planned.fingerprint(partition, "assignments") == settings.fingerprint),
        np.asarray(pc.fill_null(pc.equal(rows.column("reason"), "reserved"), False)),
        ~settings.fits(rows.column("rights"), locations.column("source")),
        before,
        same_as,
    )


def read_earlier_run(run: EarlierRun, number: int, embedding: Any, pictures: Pictures) -> Facts:
    """Return the facts about the planned images of an earlier run, and add their pictures.

    Args:
        run: The earlier run.
        number: By which it is known.
        embedding: The model that made the embeddings of this run; those of another are not compared.
        pictures: Of all objects.
    """
    parts, columns = [_no_facts()], [*HASHES.names, *(["embedding"] if pictures.with_embeddings else [])]
    for partition in run.folder.log(PLAN).partitions:
        planned = run.folder.table(PLAN, partition, "images", ["object_id", "outcome"])
        ids = planned.column("object_id").filter(pc.equal(planned.column("outcome"), "planned")).combine_chunks()
        columns = ["object_id", "image_id", "phash", "thumbnail", "flat_share"]
        rows = run.folder.table(
            TAG, partition, "images", [*columns, "embedding"][: 6 if pictures.with_embeddings else 5]
        )
        rows = rows.filter(pc.is_in(rows.column("object_id"), ids))
        if pictures.with_embeddings and embedding_model(run.folder) != embedding:
            place, field = rows.schema.get_field_index("embedding"), IMAGES.field("embedding")
            rows = rows.set_column(place, field, pa.nulls(rows.num_rows, field.type))
        parts.append(_facts_of_earlier(rows, number, pictures.add(rows)))
    return Facts.joined(parts)


def embedding_model(folder: RunFolder) -> Any:
    """Return the model that made the embeddings of a run, as its record has it; None if it has no record."""
    return (folder.record or {}).get("shape", {}).get("images", {}).get("embedding")


def _facts_of_earlier(rows: pa.Table, number: int, has_none: NDArray[np.bool_]) -> Facts:
    count = rows.num_rows
    nothing = _ids([None] * count)
    return Facts(
        np.full(count, number, np.int16),
        _ids(rows.column("object_id").to_pylist()),
        _ids(rows.column("image_id").to_pylist()),
        nothing,
        rows.column("phash").fill_null(0).to_numpy().astype(np.uint64),
        np.where(has_none, np.nan, rows.column("flat_share").to_numpy()).astype(np.float32),
        np.ones(count, bool),
        np.ones(count, bool),
        np.zeros(count, bool),
        np.zeros(count, bool),
        np.full(count, UNKNOWN, np.int8),
        nothing,
    )


def _no_facts() -> Facts:
    columns: Mapping[str, Any] = {"phash": pa.uint64(), "flat_share": pa.float32()}
    names = ("object_id", "image_id", "phash", "flat_share")
    rows = pa.table({name: pa.array([], columns.get(name, pa.string())) for name in names})
    return _facts_of_earlier(rows, 0, np.empty(0, bool))


def _read_plan(inputs: Inputs, planned: CommitLog, partition: str, object_ids: pa.ChunkedArray) -> tuple[Outcomes, Ids]:
    """Return the outcomes of these objects in the plan so far, and the objects that represent them there."""
    if partition not in planned.partitions:
        return np.full(len(object_ids), UNKNOWN, np.int8), _ids([None] * len(object_ids))
    rows = StageFolder(inputs.out, PLAN).current(planned, partition, "images", BEFORE.names)
    codes = pc.index_in(rows.column("outcome"), pa.array(["planned", *OUTCOMES[1:]]))
    codes = codes.fill_null(KEPT)  # unserved and over_quota
    index = pc.index_in(object_ids, rows.column("object_id").combine_chunks())
    before = codes.take(index).fill_null(UNKNOWN).to_numpy().astype(np.int8)
    return before, _ids(rows.column("same_as").take(index).to_pylist())


def _ids(ids: Sequence[str | None]) -> Ids:
    """Return hexadecimal ids as bytes; None becomes zeros."""
    return np.frombuffer(bytes.fromhex("".join((key or "0" * 32)[:32] for key in ids)), dtype="S16")
