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
from synthgen.stages.pack.samples import PackContext, Shard, samples_of
from synthgen.stages.pack.schema import MEGABYTE
from synthgen.store import CommitLog, RunFolder, StageFolder
from synthgen.store.commits import partition_name
from synthgen.store.spill import ROWS_AT_ONCE, Spill
from synthgen.tables import (
    GENERATE,
    LIST,
    PACK,
    PLAN,
    SELECT,
    UNSCORED,
)

BUCKETS = 64
FRESH = -1  # the place of a sample that is in no shard
USUAL_BYTES = 200_000  # of an image whose size no listing tells and before any shard is written
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


def todo(folder: RunFolder, context: PackContext, retry: Collection[str] = ()) -> Sequence[Shard]:
    """Return the shards to write, those of earlier epochs first.

    A shard with samples that could not be packed for one of the reasons in `retry` is among them.
    """
    logs = {spec.folder: folder.log(spec) for spec in (LIST, PLAN, GENERATE, SELECT, PACK)}
    _check_decisions(context, logs)
    shelf = Path(tempfile.mkdtemp(prefix="synth-pack-"))
    by_image, in_order, packed, written = (
        Spill(shelf / name) for name in ("by-image", "in-order", "packed", "written")
    )
    weakref.finalize(written, shutil.rmtree, shelf, ignore_errors=True)
    count = 0
    for rows in _wanted(context, logs[SELECT.folder]):
        rows = rows.append_column("number", pa.array(np.arange(count, count + rows.num_rows)))
        count += rows.num_rows
        in_order.add(_with_bucket(rows, rows.column("number").to_numpy() // ROWS_AT_ONCE, SAMPLES))
        by_image.add(_with_bucket(rows, _by_image(rows), SAMPLES))
    mean = _set_packed_aside(context, logs[PACK.folder], packed)
    names = list(logs[PACK.folder].partitions)
    places, touched = _compared(by_image, packed, count)
    touched |= {
        number
        for number, name in enumerate(names)
        if logs[PACK.folder].fingerprint(name, "data") != context.fingerprint
        or any(logs[PACK.folder].counts([name]).get(reason) for reason in retry)
        or _is_scored_since(logs, name)
    }
    again = {number: place for place, number in enumerate(sorted(touched, key=lambda number: names[number]))}
    cutter = _Cutter(context.pack.shard_megabytes * MEGABYTE, len(again))
    for chunk in range(-(-count // ROWS_AT_ONCE)):
        rows = in_order.read(chunk, SAMPLES)
        place = places[rows.column("number").to_numpy()]
        for number in np.intersect1d(place, list(again)).tolist():
            written.append(again[number], rows.filter(pa.array(place == number)))
        fresh = rows.filter(pa.array(place == FRESH))
        for shard, some in cutter.cut(fresh, _sizes(context, logs, fresh, mean)):
            written.append(shard, some)
    epoch = logs[PACK.folder].last_epoch + 1
    fresh_names = [partition_name(epoch, number) for number in range(cutter.shards)]
    shards = (*(names[number] for number in again), *fresh_names)
    return Shards(written, logs, shards, epoch) if shards else []


@dataclass(frozen=True)
class Shards(Sequence[Shard]):
    """Shards to be written, read from disk one by one."""

    samples: Spill  # a bucket a shard; its folder lasts as long as it does
    logs: Logs
    shards: tuple[str, ...]  # their partitions
    epoch: int  # of the new commits

    def __len__(self) -> int:
        return len(self.shards)

    @overload
    def __getitem__(self, which: int) -> Shard: ...
    @overload
    def __getitem__(self, which: slice) -> list[Shard]: ...
    def __getitem__(self, which: int | slice) -> Shard | list[Shard]:
        if isinstance(which, slice):
            return [self[number] for number in range(*which.indices(len(self)))]
        name = self.shards[which]
        rows = self.samples.read(which % len(self), SAMPLES)
        origins = pc.unique(rows.column("partition")).to_pylist()
        inputs = {spec.folder: self.logs[spec.folder].only(origins) for spec in (PLAN, GENERATE, SELECT)}
        inputs[PACK.folder] = self.logs[PACK.folder].only([name])
        ids, images = (tuple(rows.column(column).to_pylist()) for column in ("sample_id", "image_id"))
        revision = self.logs[PACK.folder].next_revision(name)
        return Shard(name, revision, inputs, epoch=self.epoch, samples=ids, images=images)


def _check_decisions(context: PackContext, logs: Logs) -> None:
    """Refuses decisions that were made before their pairs were replaced, which only a run that begins here can meet."""
    for name in logs[SELECT.folder].partitions:
        latest = logs[SELECT.folder].latest(name)
        if latest and latest.receipt.reads != logs[GENERATE.folder].digests(GENERATE, [name]):
            raise UserMistake(
                f"{context.out.url}: what was selected is of pairs that were replaced since (partition {name}); "
                "run without --from, or with --from select"
            )


def _is_scored_since(logs: Logs, shard: str) -> bool:
    """Whether pairs of a shard have got scores since it was written that had failed then."""
    latest = logs[PACK.folder].latest(shard)
    read = latest.receipt.reads if latest else {}
    partitions = {
        key.removeprefix(f"{GENERATE.folder}/").rpartition(".")[0]
        for key in read
        if key.startswith(f"{GENERATE.folder}/")
    }
    commits = (commit for name in partitions for commit in logs[GENERATE.folder].partitions.get(name, ()))
    since = (commit.receipt.counts for commit in commits if f"{GENERATE.folder}/{commit.name}" not in read)
    return any(count < 0 and name in UNSCORED for counts in since for name, count in counts.items())


def _wanted(context: PackContext, log: CommitLog) -> Iterator[pa.Table]:
    """image_id, sample_id and planning partition of every sample that there should be, in order, a partition at a time."""
    stage = StageFolder(context.out, SELECT)
    for name in log.partitions:
        decisions = stage.current(log, name, "decisions")
        found = [(image, sample, name) for image, sample, _ in samples_of(decisions, context.pack.max_turns)]
        columns = zip(*found, strict=True) if found else ((), (), ())
        yield pa.table(
            [pa.array(column, pa.string()) for column in columns], names=["image_id", "sample_id", "partition"]
        )


def _set_packed_aside(context: PackContext, log: CommitLog, packed: Spill) -> int:
    """Every sample that is in a shard, or that could not be packed there; returns the bytes that one takes on average."""
    stage, columns, sizes, rows = StageFolder(context.out, PACK), ["image_id", "sample_id"], 0, 0
    for number, name in enumerate(log.partitions):
        index = stage.current(log, name, "index")
        unpacked = stage.current(log, name, "unpacked").select(columns)
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


def _sizes(context: PackContext, logs: Logs, fresh: pa.Table, usual: int) -> list[int]:
    """About how many bytes each sample will take: what the listing says of its image, else as much as the others take."""
    most = context.images.model_pixels if context.pack.images == "resized" else None
    known: dict[str, int] = {}
    for name in pc.unique(fresh.column("partition")).to_pylist():
        listed = StageFolder(context.out, LIST).current(logs[LIST.folder], name, "objects", ["object_id", "bytes"])
        planned = StageFolder(context.out, PLAN).current(logs[PLAN.folder], name, "images", ["object_id", "image_id"])
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
