"""Which shards are to be written, and what goes into each.

Comes in: the decisions, and the small index of the shards that exist. Goes out: pieces of work. Images that are in no shard yet go
to new shards of a new epoch, in the order of the partitions that planned them; a shard with a sample that should be otherwise is
written anew as its next revision; all others stay as they are. What there should be and what there is are compared image by image
on local disk, and the samples of a shard are read from there when it is given out: memory holds four bytes of each sample.
"""

import shutil
import tempfile
import weakref
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import overload

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from synthgen.errors import UserMistake
from synthgen.stages.pack.samples import GENERATED, LISTED, PLANNED, SELECTED, SHARDS, PackContext, Shard, samples_of
from synthgen.stages.pack.schema import MEGABYTE
from synthgen.store import CommitLog, Stage
from synthgen.store.commits import partition_name
from synthgen.store.spill import ROWS_AT_ONCE, Spill
from synthgen.tables import DECISIONS, OBJECTS, PLANNED_IMAGES, SHARD_INDEX, UNPACKED, UNSCORED

BUCKETS = 64
FRESH = -1  # the place of a sample that is in no shard
USUAL_BYTES = 200_000  # of an image whose size no listing tells and before any shard is written
LISTED_SIZES = pa.schema([OBJECTS.field("object_id"), OBJECTS.field("bytes")])
PLANNED_IDS = pa.schema([PLANNED_IMAGES.field("object_id"), PLANNED_IMAGES.field("image_id")])
SAMPLES = pa.schema(
    [
        ("bucket", pa.int32()),
        ("number", pa.int64()),
        *((name, pa.string()) for name in ("image_id", "sample_id", "partition")),
    ]
)
PACKED = pa.schema(
    [("bucket", pa.int32()), ("image_id", pa.string()), ("sample_id", pa.string()), ("shard", pa.int32())]
)
Logs = Mapping[str, CommitLog]


def todo(terms: PackContext, retry: Collection[str] = ()) -> Sequence[Shard]:
    """The shards to write, those of earlier epochs first; also those with samples that could not be packed for a reason to `retry`."""
    logs = {name: Stage(terms.out, name).log() for name in (LISTED, PLANNED, GENERATED, SELECTED, SHARDS)}
    _check_decisions(terms, logs)
    shelf = Path(tempfile.mkdtemp(prefix="synth-pack-"))
    by_image, in_order, packed, written = (
        Spill(shelf / name) for name in ("by-image", "in-order", "packed", "written")
    )
    weakref.finalize(written, shutil.rmtree, shelf, ignore_errors=True)
    count = 0
    for rows in _wanted(terms, logs[SELECTED]):
        rows = rows.append_column("number", pa.array(np.arange(count, count + rows.num_rows)))
        count += rows.num_rows
        in_order.add(_with_bucket(rows, rows.column("number").to_numpy() // ROWS_AT_ONCE, SAMPLES))
        by_image.add(_with_bucket(rows, _by_image(rows), SAMPLES))
    mean = _set_packed_aside(terms, logs[SHARDS], packed)
    names = list(logs[SHARDS].partitions)
    places, touched = _compared(by_image, packed, count)
    touched |= {
        number
        for number, name in enumerate(names)
        if logs[SHARDS].fingerprint(name, "data") != terms.fingerprint
        or any(logs[SHARDS].counts([name]).get(reason) for reason in retry)
        or _is_scored_since(logs, name)
    }
    again = {number: place for place, number in enumerate(sorted(touched, key=lambda number: names[number]))}
    cutter = _Cutter(terms.pack.shard_megabytes * MEGABYTE, len(again))
    for chunk in range(-(-count // ROWS_AT_ONCE)):
        rows = in_order.read(chunk, SAMPLES)
        place = places[rows.column("number").to_numpy()]
        for number in np.intersect1d(place, list(again)).tolist():
            written.append(again[number], rows.filter(pa.array(place == number)))
        fresh = rows.filter(pa.array(place == FRESH))
        for shard, some in cutter.cut(fresh, _sizes(terms, logs, fresh, mean)):
            written.append(shard, some)
    shards = [(names[number], logs[SHARDS].partitions[names[number]][0].epoch) for number in again]
    epoch = logs[SHARDS].last_epoch + 1
    shards += [(partition_name(epoch, number), epoch) for number in range(cutter.shards)]
    return Shards(written, logs, tuple(shards)) if shards else []


@dataclass(frozen=True)
class Shards(Sequence[Shard]):
    """Shards to be written, read from disk one by one."""

    samples: Spill  # a bucket a shard; its folder lasts as long as it does
    logs: Logs
    shards: tuple[tuple[str, int], ...]  # partition and epoch of each

    def __len__(self) -> int:
        return len(self.shards)

    @overload
    def __getitem__(self, which: int) -> Shard: ...
    @overload
    def __getitem__(self, which: slice) -> list[Shard]: ...
    def __getitem__(self, which: int | slice) -> Shard | list[Shard]:
        if isinstance(which, slice):
            return [self[number] for number in range(*which.indices(len(self)))]
        name, epoch = self.shards[which]
        rows = self.samples.read(which % len(self), SAMPLES)
        origins = pc.unique(rows.column("partition")).to_pylist()
        inputs = {
            stage: CommitLog({one: self.logs[stage].partitions[one] for one in origins})
            for stage in (PLANNED, GENERATED, SELECTED)
        }
        inputs[SHARDS] = CommitLog({name: self.logs[SHARDS].partitions.get(name, ())})
        ids, images = (tuple(rows.column(column).to_pylist()) for column in ("sample_id", "image_id"))
        return Shard(name, self.logs[SHARDS].next_revision(name), inputs, epoch=epoch, samples=ids, images=images)


def _check_decisions(terms: PackContext, logs: Logs) -> None:
    """Refuses decisions that were made before their pairs were replaced, which only a run that begins here can meet."""
    for name in logs[SELECTED].partitions:
        latest = logs[SELECTED].latest(name)
        if latest and latest.receipt.reads != logs[GENERATED].digests(GENERATED, [name]):
            raise UserMistake(
                f"{terms.out.url}: what was selected is of pairs that were replaced since (partition {name}); "
                "run without --from, or with --from select"
            )


def _is_scored_since(logs: Logs, shard: str) -> bool:
    """Whether pairs of a shard have got scores since it was written that had failed then."""
    latest = logs[SHARDS].latest(shard)
    read = latest.receipt.reads if latest else {}
    partitions = {
        key.removeprefix(f"{GENERATED}/").rpartition(".")[0] for key in read if key.startswith(f"{GENERATED}/")
    }
    commits = (commit for name in partitions for commit in logs[GENERATED].partitions.get(name, ()))
    since = (commit.receipt.counts for commit in commits if f"{GENERATED}/{commit.name}" not in read)
    return any(count < 0 and name in UNSCORED for counts in since for name, count in counts.items())


def _wanted(terms: PackContext, log: CommitLog) -> Iterator[pa.Table]:
    """image_id, sample_id and planning partition of every sample that there should be, in order, a partition at a time."""
    stage = Stage(terms.out, SELECTED)
    for name in log.partitions:
        decisions = stage.current(log, name, "decisions", "pair_id", DECISIONS)
        found = [(image, sample, name) for image, sample, _ in samples_of(decisions, terms.pack.max_turns)]
        columns = zip(*found, strict=True) if found else ((), (), ())
        yield pa.table(
            [pa.array(column, pa.string()) for column in columns], names=["image_id", "sample_id", "partition"]
        )


def _set_packed_aside(terms: PackContext, log: CommitLog, packed: Spill) -> int:
    """Every sample that is in a shard, or that could not be packed there; returns the bytes that one takes on average."""
    stage, columns, sizes, rows = Stage(terms.out, SHARDS), ["image_id", "sample_id"], 0, 0
    for number, name in enumerate(log.partitions):
        index = stage.current(log, name, "index", "sample_id", SHARD_INDEX)
        unpacked = stage.current(log, name, "unpacked", "sample_id", UNPACKED).select(columns)
        sizes, rows = sizes + (pc.sum(index.column("bytes")).as_py() or 0), rows + index.num_rows
        both = pa.concat_tables([index.select(columns), unpacked])
        both = both.append_column("shard", pa.array(np.full(both.num_rows, number, np.int32)))
        packed.add(_with_bucket(both, _by_image(both), PACKED))
    return sizes // rows if rows else USUAL_BYTES


def _compared(wanted: Spill, packed: Spill, count: int) -> tuple[np.ndarray, set[int]]:
    """The number of the shard that has each wanted sample's image, or FRESH; and the shards with a sample too many or too few."""
    places, touched = np.full(count, FRESH, np.int32), set[int]()
    for bucket in range(BUCKETS):
        there, here = packed.read(bucket, PACKED), wanted.read(bucket, SAMPLES)
        place = pc.index_in(here.column("image_id"), there.column("image_id").combine_chunks())
        shard = there.column("shard").take(place).fill_null(FRESH)
        places[here.column("number").to_numpy()] = shard.to_numpy()
        gone = pc.invert(pc.is_in(there.column("sample_id"), here.column("sample_id").combine_chunks()))
        new = pc.invert(pc.is_in(here.column("sample_id"), there.column("sample_id").combine_chunks()))
        touched.update(there.column("shard").filter(gone).to_pylist(), shard.filter(new).to_pylist())
    return places, touched - {FRESH}


def _sizes(terms: PackContext, logs: Logs, fresh: pa.Table, usual: int) -> list[int]:
    """About how many bytes each sample will take: what the listing says of its image, else as much as the others take."""
    most = terms.images.model_pixels if terms.pack.images == "resized" else None
    known: dict[str, int] = {}
    for name in pc.unique(fresh.column("partition")).to_pylist():
        listed = Stage(terms.out, LISTED).current(logs[LISTED], name, "objects", "object_id", LISTED_SIZES)
        planned = Stage(terms.out, PLANNED).current(logs[PLANNED], name, "images", "object_id", PLANNED_IDS)
        place = pc.index_in(planned.column("object_id"), listed.column("object_id").combine_chunks())
        sizes = listed.column("bytes").take(place).to_pylist()
        known.update(
            {image: size for image, size in zip(planned.column("image_id").to_pylist(), sizes, strict=True) if size}
        )
    return [
        min(known.get(image, usual), most or known.get(image, usual)) for image in fresh.column("image_id").to_pylist()
    ]


class _Cutter:
    """Cuts a stream of samples into runs of about `most` bytes; the samples of one image stay together."""

    def __init__(self, most: int, first: int) -> None:
        self._most, self._first, self._bytes, self._image = most, first, 0, ""
        self.shards = 0

    def cut(self, rows: pa.Table, sizes: Sequence[int]) -> Iterator[tuple[int, pa.Table]]:
        """(number of a shard, some of its rows)."""
        start = 0
        for index, (size, image) in enumerate(zip(sizes, rows.column("image_id").to_pylist(), strict=True)):
            if not self.shards or (self._bytes + size > self._most and image != self._image):
                yield self._first + self.shards - 1, rows.slice(start, index - start)
                start, self._bytes, self.shards = index, 0, self.shards + 1
            self._bytes, self._image = self._bytes + size, image
        yield self._first + self.shards - 1, rows.slice(start)


def _by_image(rows: pa.Table) -> np.ndarray:
    hashes: np.ndarray = pd.util.hash_array(
        np.asarray(rows.column("image_id").to_pylist(), dtype=object), categorize=False
    )
    return hashes % BUCKETS


def _with_bucket(rows: pa.Table, buckets: np.ndarray, schema: pa.Schema) -> pa.Table:
    columns = {"bucket": pa.array(buckets.astype(np.int32)), **{name: rows.column(name) for name in rows.column_names}}
    return pa.table({name: columns[name] for name in schema.names}).cast(schema)
