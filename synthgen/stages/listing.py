"""Listing: adds the objects of the source that are not listed yet, as partitions of `0-listed`.

The listing of the source and the ids that are committed already are spilled to local disk by the hash of the uri, then
compared bucket by bucket. So memory holds one bucket at a time, every committed file is read once, and a rerun over a
source that grew lists everything but adds only the rest. What the listing leaves out is counted. A listing that was cut
short left whole partitions; the next one subtracts them like any others. An object whose version changed is a new
object; the plan sees that the older one is gone.
"""

import json
import tempfile
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from synthgen.console import Loading, note
from synthgen.ingest.sources import Item, Listed, left_out_text
from synthgen.ingest.sources.files import EVERY_FILE
from synthgen.stages.contract import StageRun
from synthgen.store import Receipt, RunFolder, TablePart
from synthgen.store.commits import partition_name
from synthgen.store.denylist import read_denylist
from synthgen.store.spill import Spill
from synthgen.tables import BUCKETS, LIST, OBJECTS, columns_of, object_row
from synthgen.workers import Task

IDS = columns_of(OBJECTS, "object_id", "bucket")
NOT_LISTED = "not_listed.json"
REPEATED = "row that stands there twice"
SMALLEST_PARTITION = 32  # objects
ROWS_AT_ONCE = 10_000  # as Python objects, which take a kilobyte each
MOST_PARTITIONS = 8000  # partitions grow with the number of objects, so that there are never many more


@dataclass(frozen=True, kw_only=True)
class NewPartition(Task):
    """A partition of objects that are not listed yet."""

    objects: pa.Table


def pending(run: StageRun) -> Iterator[NewPartition]:
    """Yield the objects of the source that are not committed yet, a partition at a time."""
    if run.objects is None:
        return
    log = run.folder.log(LIST)
    purged = pa.array(sorted(read_denylist(run.job.out).object_ids), pa.string())
    with tempfile.TemporaryDirectory(prefix="synth-listing-") as name:
        seen, known, fresh = (Spill(Path(name) / part) for part in ("seen", "known", "fresh"))
        not_listed = Counter[str]()
        waiting = Loading("listing the source")
        for rows in _batches(_counted(run.objects, not_listed)):
            seen.add(rows)
            waiting.note_now_and_then()
        for partition in log.partitions:
            for rows in run.folder.stage(LIST).read(log, partition, "objects", IDS.names):
                known.add(rows)
        for bucket in range(BUCKETS):
            rows = seen.read(bucket, OBJECTS)
            _count_repeated(rows, not_listed)
            new = _unknown(rows, known.read(bucket, IDS))
            fresh.append(bucket, new.filter(pc.invert(pc.is_in(new.column("object_id"), purged))))
        _tell_not_listed(run, not_listed)
        epoch = log.next_epoch
        for number, rows in enumerate(_cut(fresh, partition_rows(known.rows + fresh.rows))):
            yield NewPartition(partition_name(epoch, number), 1, epoch=epoch, objects=rows)


def results(run: StageRun, tasks: Iterable[NewPartition]) -> Iterator[Receipt]:
    """Write each partition.

    Raises:
        LeaseLost: Another driver committed a partition of that name: its last record before it lost its lease.
    """
    stage, fingerprint = run.folder.stage(LIST), run.job.fingerprint("listed")
    for task in tasks:
        file = stage.write("objects", task.partition, task.revision, task.objects)
        tables = {"objects": TablePart((file,), fingerprint)}
        counts = dict(LIST.table("objects").count_rows(task.objects))
        receipt = Receipt(task.partition, 1, tables, counts, epoch=task.epoch)
        yield receipt
        run.folder.check_committed(LIST, receipt)


def not_listed(folder: RunFolder) -> dict[str, int]:
    """Return what the last listing met and left out, as suffix or kind → count."""
    if NOT_LISTED not in (inside := folder.stage(LIST).folder).names(".json"):
        return {}
    counts = inside.read_json(NOT_LISTED, "remove it; the next listing writes it again")
    return {str(why): int(count) for why, count in counts.items()}


def not_listed_message(counts: Mapping[str, int]) -> str | None:
    """Return a line on what a listing left out, or None if there is nothing."""
    if not counts:
        return None
    total, look = sum(counts.values()), f"; {EVERY_FILE} takes every file, whatever its name"
    hint = look if any(why.startswith(".") or why == "no suffix" for why in counts) else ""
    return f"the listing left out {total:,}: {left_out_text(counts)}{hint}"


def _counted(items: Iterable[Item], counts: Counter[str]) -> Iterator[Listed]:
    """Yield the objects, and count the rest."""
    for item in items:
        if isinstance(item, Listed):
            yield item
        else:
            counts[item.why] += item.count


def _tell_not_listed(run: StageRun, counts: Mapping[str, int]) -> None:
    """Store what the listing left out, and tell the user if it is news."""
    if counts == not_listed(run.folder):
        return
    run.folder.stage(LIST).folder.write(NOT_LISTED, json.dumps(counts, sort_keys=True).encode())
    if message := not_listed_message(counts):
        note(message)


def partition_rows(total: int) -> int:
    """Return how many objects a new partition has when `total` are listed."""
    return max(SMALLEST_PARTITION, -(-total // MOST_PARTITIONS))


def _batches(objects: Iterable[Listed]) -> Iterator[pa.Table]:
    stream = iter(objects)
    while batch := list(islice(stream, ROWS_AT_ONCE)):
        yield pa.Table.from_pylist([object_row(**vars(listed)) for listed in batch], schema=OBJECTS)


def _unknown(seen: pa.Table, known: pa.Table) -> pa.Table:
    """Return the rows of a bucket that are not committed; one object may be listed twice (overlapping globs, sources).

    Rows of one Parquet file stay together and in its order: to fetch one of them, its row group is read up to there.
    """
    fresh = seen.filter(pc.invert(pc.is_in(seen.column("object_id"), known.column("object_id").combine_chunks())))
    order = [(name, "ascending") for name in ("uri", "row", "object_id", "source", "source_meta")]
    fresh = fresh.take(pc.sort_indices(fresh, order))
    ids = fresh.column("object_id").to_pylist()
    first = [index for index, object_id in enumerate(ids) if index == 0 or ids[index - 1] != object_id]
    return fresh.take(first) if len(first) < len(ids) else fresh


def _count_repeated(rows: pa.Table, counts: Counter[str]) -> None:
    """Count the rows of an instruction set that are the same as another one: image, id and conversation."""
    given = rows.filter(pc.is_valid(rows.column("given"))).column("object_id")
    if repeated := len(given) - pc.count_distinct(given).as_py():
        counts[REPEATED] += repeated


def _cut(spill: Spill, size: int) -> Iterator[pa.Table]:
    """Yield the rows of all buckets in order, in tables of `size` rows."""
    waiting = OBJECTS.empty_table()
    for bucket in range(BUCKETS):
        waiting = pa.concat_tables([waiting, spill.read(bucket, OBJECTS)])
        while waiting.num_rows >= size:
            yield waiting.slice(0, size).combine_chunks()
            waiting = waiting.slice(size)
    if waiting.num_rows:
        yield waiting.combine_chunks()
