"""Before stage 1: what the source holds, and what of it is new.

Comes in: a stream of listed objects, as long as the bucket. Goes out: partitions of `0-listed` with the objects that are not
there yet. The stream and the ids that are committed already are spilled to local disk by the hash of the uri, then compared
bucket by bucket; so memory holds one bucket at a time, every committed file is read once, and a rerun over a source that
grew lists everything but adds only the rest. A listing that was cut short left whole partitions: the next one subtracts
them like any others. An object whose version changed is a new object; the plan sees that an older one is no longer there.
"""

import tempfile
from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from synthgen.ingest.sources import Listed
from synthgen.store import CommitLog, Folder, Lease, Receipt, Stage, TablePart
from synthgen.store.commits import partition_name
from synthgen.store.denylist import read_denylist
from synthgen.store.spill import Spill
from synthgen.tables import OBJECTS, object_row

LISTED = "0-listed"
BUCKETS = 256
IDS = pa.schema([OBJECTS.field("object_id"), OBJECTS.field("bucket")])
SMALLEST_PARTITION = 32  # objects
ROWS_AT_ONCE = 10_000  # as Python's objects, of which each takes a kilobyte
MOST_PARTITIONS = 8000  # partitions grow with what is listed in all, so that there are never many more


def run(out: Folder, objects: Iterable[Listed], lease: Lease, fingerprint: str) -> None:
    """Commits the objects of the stream that are not committed yet."""
    stage = Stage(out, LISTED)
    log = stage.log()
    epoch, gone = log.last_epoch + 1, pa.array(sorted(read_denylist(out).object_ids), pa.string())
    with tempfile.TemporaryDirectory(prefix="synth-listing-") as name:
        seen, known, fresh = (Spill(Path(name) / part) for part in ("seen", "known", "fresh"))
        for rows in _batches(objects):
            seen.add(rows)
        for rows in _committed(stage, log):
            known.add(rows)
        for bucket in range(BUCKETS):
            new = _unknown(seen.read(bucket, OBJECTS), known.read(bucket, IDS))
            fresh.append(bucket, new.filter(pc.invert(pc.is_in(new.column("object_id"), gone))))
        for number, rows in enumerate(_cut(fresh, partition_rows(known.rows + fresh.rows))):
            partition = partition_name(epoch, number)
            part = TablePart((stage.write("objects", partition, 1, rows),), fingerprint)
            stage.insist(Receipt(partition, 1, {"objects": part}, {"listed": rows.num_rows}), lease, epoch)


def partition_rows(total: int) -> int:
    """How many objects are in a partition that is made when `total` are listed."""
    return max(SMALLEST_PARTITION, -(-total // MOST_PARTITIONS))


def _batches(objects: Iterable[Listed]) -> Iterator[pa.Table]:
    stream = iter(objects)
    while batch := list(islice(stream, ROWS_AT_ONCE)):
        yield pa.Table.from_pylist([object_row(**vars(one)) for one in batch], schema=OBJECTS)


def _committed(stage: Stage, log: CommitLog) -> Iterator[pa.Table]:
    """The ids of all committed objects, a good many at a time."""
    waiting: list[pa.Table] = []
    for partition in log.partitions:
        waiting += stage.read(log, partition, "objects", IDS.names)
        if sum(rows.num_rows for rows in waiting) >= ROWS_AT_ONCE:
            yield pa.concat_tables(waiting)
            waiting = []
    if waiting:
        yield pa.concat_tables(waiting)


def _unknown(seen: pa.Table, known: pa.Table) -> pa.Table:
    """The rows of a bucket that are not committed; a source may name one object twice (overlapping globs).

    Rows of one Parquet file stay together and in its order, as whoever fetches one of them reads all of its row group up to there.
    """
    fresh = seen.filter(pc.invert(pc.is_in(seen.column("object_id"), known.column("object_id").combine_chunks())))
    fresh = fresh.take(
        pc.sort_indices(fresh, [(name, "ascending") for name in ("uri", "row", "object_id", "source_meta")])
    )
    ids = fresh.column("object_id").to_pylist()
    first = [index for index, one in enumerate(ids) if index == 0 or ids[index - 1] != one]
    return fresh.take(first) if len(first) < len(ids) else fresh


def _cut(spill: Spill, size: int) -> Iterator[pa.Table]:
    """The rows of all buckets in order, in tables of `size`."""
    waiting = OBJECTS.empty_table()
    for bucket in range(BUCKETS):
        waiting = pa.concat_tables([waiting, spill.read(bucket, OBJECTS)])
        while waiting.num_rows >= size:
            yield waiting.slice(0, size).combine_chunks()
            waiting = waiting.slice(size)
    if waiting.num_rows:
        yield waiting.combine_chunks()
