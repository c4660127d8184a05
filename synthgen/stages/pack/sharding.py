"""The cut into shards: which shards are written, and which samples each of them has.

Images that are in no shard yet go to new shards of a new epoch, in the order of the partitions that planned them. A
shard with a missing or outdated sample is rewritten as its next revision. All others stay.

The wanted samples and the packed ones are compared image by image on local disk, and the samples of a shard are read
from there when its task is handed out; memory holds four bytes of each sample.
"""

import shutil
import tempfile
import weakref
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from synthgen.errors import UserMistake
from synthgen.stages.memory import MEGABYTE
from synthgen.stages.pack.samples import PackContext, Shard, ShardSummary, samples_of, summarize
from synthgen.store import RunFolder
from synthgen.store.commits import partition_name
from synthgen.store.spill import ROWS_AT_ONCE, Spill, with_buckets
from synthgen.tables import (
    GENERATE,
    LIST,
    PACK,
    PLAN,
    SCORE,
    SELECT,
    UNSCORED,
    StageSpec,
    pass_partitions,
    split_count,
)
from synthgen.tables.passes import TAKEN, VALUE

BUCKETS = 64
NO_SHARD = -1  # the number of the shard of a sample that is in none
DEFAULT_BYTES = 200_000  # of an image whose size the listing does not have, before any shard is written
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
Numbers = NDArray[np.int32]


@dataclass(frozen=True)
class _Spills:
    """The samples of all partitions on local disk.

    Attributes:
        wanted: The wanted samples, in buckets by image.
        in_order: The same in their order, ROWS_AT_ONCE in a bucket.
        packed: The samples that shards have, in buckets by image.
        shards: The samples of the shards to write, a shard in a bucket.
    """

    wanted: Spill
    in_order: Spill
    packed: Spill
    shards: Spill


def todo(folder: RunFolder, context: PackContext, retry: Collection[str] = ()) -> "Shards":
    """Return the shards to write, those of earlier epochs first.

    A shard with samples that could not be packed for one of the reasons in `retry` is among them.
    """
    _check_decisions(folder)
    spills, packed = _make_spills(), folder.log(PACK)
    count = _spill_wanted(folder, context, spills)
    summaries = _spill_packed(folder, spills.packed)
    mean_bytes = _mean_bytes(summaries.values())
    shard_of, changed = _compare(spills.wanted, spills.packed, count)
    names = list(packed.partitions)
    changed |= {number for number, name in enumerate(names) if _is_outdated(folder, context, name, retry)}
    rewritten = sorted(changed, key=lambda number: names[number])
    bucket_of = {number: bucket for bucket, number in enumerate(rewritten)}
    cutter = _Cutter(context.pack.shard_megabytes * MEGABYTE, len(rewritten))
    for chunk in range(-(-count // ROWS_AT_ONCE)):
        rows = spills.in_order.read(chunk, SAMPLES)
        shard = shard_of[rows.column("number").to_numpy()]
        for number in np.intersect1d(shard, rewritten).tolist():
            spills.shards.append(bucket_of[number], rows.filter(pa.array(shard == number)))
        new = rows.filter(pa.array(shard == NO_SHARD))
        for bucket, run in cutter.cut(new, _sizes(folder, context, new, mean_bytes)):
            spills.shards.append(bucket, run)
    epoch = packed.next_epoch
    new_names = [partition_name(epoch, number) for number in range(cutter.shards)]
    shards = (*(names[number] for number in rewritten), *new_names)
    return Shards(folder, spills.shards, shards, epoch, summaries)


@dataclass(frozen=True)
class Shards:
    """Shards to be written, read from disk one by one; each is to become the next revision of its partition.

    Attributes:
        folder: The commits that they are made from.
        samples: The samples, a shard in a bucket; their folder is deleted with this object.
        names: The partitions of the shards.
        epoch: Of the new commits.
        summaries: Of all shards that exist, by the name of their last commit.
    """

    folder: RunFolder
    samples: Spill
    names: tuple[str, ...]
    epoch: int
    summaries: Mapping[str, ShardSummary]

    @property
    def sample_count(self) -> int:
        """The number of samples of all shards."""
        return self.samples.rows

    def __len__(self) -> int:
        return len(self.names)

    def __iter__(self) -> Iterator[Shard]:
        return (self._shard(bucket, name) for bucket, name in enumerate(self.names))

    def _shard(self, bucket: int, name: str) -> Shard:
        rows, log = self.samples.read(bucket, SAMPLES), self.folder.log(PACK)
        partitions = pc.unique(rows.column("partition")).to_pylist()
        inputs = {spec.folder: self.folder.log(spec).only(partitions) for spec in (PLAN, GENERATE, SELECT)}
        of_passes = [own for partition in partitions for own in self.folder.log(SCORE).within(partition)]
        inputs |= {SCORE.folder: self.folder.log(SCORE).only(of_passes), PACK.folder: log.only([name])}
        ids, images = (tuple(rows.column(column).to_pylist()) for column in ("sample_id", "image_id"))
        return Shard(name, log.next_revision(name), inputs, epoch=self.epoch, samples=ids, images=images)


def _check_decisions(folder: RunFolder) -> None:
    """Check that no pairs were replaced after they were selected; only a run that starts at this stage can meet such.

    Raises:
        UserMistake: Some were.
    """
    for name in folder.log(SELECT).partitions:
        latest = folder.log(SELECT).latest(name)
        read = latest.receipt.reads if latest else {}
        judged = [each for each in folder.log(SCORE).within(name) if _has_read(read, SCORE, each)]
        if latest and read != folder.digests((GENERATE,), [name]) | folder.digests((SCORE,), judged):
            raise UserMistake(
                f"{folder.out.url}: some pairs were replaced or scored after they were selected (partition {name}); "
                "run without --from, or with --from select"
            )


def _has_read(read: Mapping[str, str], spec: StageSpec, partition: str) -> bool:
    """Return whether `reads` has a commit of a partition."""
    return any(key.startswith(f"{spec.folder}/{partition}.r") for key in read)


def _make_spills() -> _Spills:
    """Return empty spills in a temporary folder, which is deleted with the last of them in use."""
    folder = Path(tempfile.mkdtemp(prefix="synth-pack-"))
    spills = _Spills(*(Spill(folder / name) for name in ("wanted", "in-order", "packed", "shards")))
    weakref.finalize(spills.shards, shutil.rmtree, folder, ignore_errors=True)
    return spills


def _spill_wanted(folder: RunFolder, context: PackContext, spills: _Spills) -> int:
    """Spill the samples that there should be, numbered in the order of their partitions; return how many there are."""
    count = 0
    for name in folder.log(SELECT).partitions:
        decisions = folder.table(SELECT, name, "decisions")
        samples = [(image, sample, name) for image, sample, _ in samples_of(decisions, context.pack.max_turns)]
        columns = zip(*samples, strict=True) if samples else ((), (), ())
        arrays = [pa.array(column, pa.string()) for column in columns]
        numbers = np.arange(count, count + len(samples))
        rows = pa.table([*arrays, pa.array(numbers)], names=["image_id", "sample_id", "partition", "number"])
        in_order = rows.append_column("bucket", pa.array(numbers // ROWS_AT_ONCE))
        spills.in_order.add(in_order.select(SAMPLES.names).cast(SAMPLES))
        spills.wanted.add(with_buckets(rows, "image_id", BUCKETS, SAMPLES))
        count += len(samples)
    return count


def _spill_packed(folder: RunFolder, packed: Spill) -> dict[str, ShardSummary]:
    """Spill the samples that shards have or could not pack; return the summary of each shard by its last commit."""
    summaries, columns, log = dict[str, ShardSummary](), ["image_id", "sample_id"], folder.log(PACK)
    for number, (name, commits) in enumerate(log.partitions.items()):
        index, unpacked = folder.table(PACK, name, "index"), folder.table(PACK, name, "unpacked")
        summaries[commits[-1].name] = summarize(index, unpacked)
        rows = pa.concat_tables([index.select(columns), unpacked.select(columns)])
        rows = rows.append_column("shard", pa.array(np.full(rows.num_rows, number, np.int32)))
        packed.add(with_buckets(rows, "image_id", BUCKETS, PACKED))
    return summaries


def _mean_bytes(shards: Iterable[ShardSummary]) -> int:
    """Return the mean bytes of a sample in these shards."""
    sizes = [(shard.bytes, shard.samples) for shard in shards]
    count = sum(samples for _, samples in sizes)
    return sum(size for size, _ in sizes) // count if count else DEFAULT_BYTES


def _compare(wanted: Spill, packed: Spill, count: int) -> tuple[Numbers, set[int]]:
    """Compare the wanted samples with the packed ones.

    Returns:
        For each of the `count` wanted samples the number of the shard that has its image, or NO_SHARD; and the shards
        with a sample too many or too few.
    """
    shard_of, changed = np.full(count, NO_SHARD, np.int32), set[int]()
    for bucket in range(BUCKETS):
        before, now = packed.read(bucket, PACKED), wanted.read(bucket, SAMPLES)
        # In an imported set two rows can have one image and be in two shards; a packed sample stays where it is.
        of_sample, of_image = (
            pc.index_in(now.column(name), before.column(name).combine_chunks()) for name in ("sample_id", "image_id")
        )
        index = pc.coalesce(of_sample, of_image)
        shard = before.column("shard").take(index).fill_null(NO_SHARD)
        shard_of[now.column("number").to_numpy()] = shard.to_numpy()
        is_gone = pc.invert(pc.is_in(before.column("sample_id"), now.column("sample_id").combine_chunks()))
        is_new = pc.invert(pc.is_in(now.column("sample_id"), before.column("sample_id").combine_chunks()))
        changed.update(before.column("shard").filter(is_gone).to_pylist(), shard.filter(is_new).to_pylist())
    return shard_of, changed - {NO_SHARD}


def _is_outdated(folder: RunFolder, context: PackContext, shard: str, retry: Collection[str]) -> bool:
    """Return whether a shard is to be rewritten for a reason other than its samples."""
    log = folder.log(PACK)
    if log.fingerprint(shard, "data") != context.fingerprint:
        return True
    counts = log.counts([shard])
    return any(counts.get(reason) for reason in retry) or _has_new_scores(folder, context, shard)


def _has_new_scores(folder: RunFolder, context: PackContext, shard: str) -> bool:
    """Return whether scores that had failed, or those of a pass, were measured after a shard was written."""
    latest = folder.log(PACK).latest(shard)
    read, prefix = latest.receipt.reads if latest else {}, f"{GENERATE.folder}/"
    partitions = {key.removeprefix(prefix).rpartition(".")[0] for key in read if key.startswith(prefix)}
    later = _later_counts(folder, GENERATE, partitions, read)
    if any(count < 0 and name in UNSCORED for counts in later for name, count in counts.items()):
        return True
    later = _later_counts(folder, SCORE, pass_partitions(partitions, context.scores), read)
    of_values = (VALUE, TAKEN)
    return any(count > 0 and split_count(name)[1] in of_values for counts in later for name, count in counts.items())


def _later_counts(
    folder: RunFolder, spec: StageSpec, partitions: Iterable[str], read: Mapping[str, str]
) -> list[Mapping[str, int]]:
    """Return the counts of the commits of some partitions that are not in `reads`."""
    log = folder.log(spec)
    commits = (commit for name in partitions for commit in log.partitions.get(name, ()))
    return [commit.receipt.counts for commit in commits if f"{spec.folder}/{commit.name}" not in read]


def _sizes(folder: RunFolder, context: PackContext, new: pa.Table, mean_bytes: int) -> list[int]:
    """Return about how many bytes each sample will take: those of its image in the listing, or else `mean_bytes`."""
    bytes_of: dict[str, int] = {}
    for name in pc.unique(new.column("partition")).to_pylist():
        listed = folder.table(LIST, name, "objects", ["object_id", "bytes"])
        planned = folder.table(PLAN, name, "images", ["object_id", "image_id"])
        index = pc.index_in(planned.column("object_id"), listed.column("object_id").combine_chunks())
        pairs = zip(planned.column("image_id").to_pylist(), listed.column("bytes").take(index).to_pylist(), strict=True)
        bytes_of.update({image: size for image, size in pairs if size})
    sizes = [bytes_of.get(image, mean_bytes) for image in new.column("image_id").to_pylist()]
    if context.pack.images == "resized":
        return [min(size, context.images.model_pixels) for size in sizes]  # about one byte a pixel
    return sizes


class _Cutter:
    """Cuts a stream of samples into runs of about `most` bytes; the samples of one image stay together."""

    def __init__(self, most: int, first: int) -> None:
        """`first` is the bucket of the first run."""
        self._most, self._first = most, first
        self._bytes, self._image = 0, ""  # of the current run, and of the last sample
        self.shards = 0

    def cut(self, rows: pa.Table, sizes: Sequence[int]) -> Iterator[tuple[int, pa.Table]]:
        """Yield the bucket of a run and some of its rows; a run can continue in the next call."""
        start = 0
        for index, (size, image) in enumerate(zip(sizes, rows.column("image_id").to_pylist(), strict=True)):
            is_full = self._bytes + size > self._most and image != self._image
            if not self.shards or is_full:
                yield self._first + self.shards - 1, rows.slice(start, index - start)
                start, self._bytes, self.shards = index, 0, self.shards + 1
            self._bytes, self._image = self._bytes + size, image
        yield self._first + self.shards - 1, rows.slice(start)
