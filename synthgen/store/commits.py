"""A stage of the output folder: tables in partitions, each partition a short log of commits.

Comes in, on a worker: rows, which become a Parquet file under a name nobody else uses, and a receipt for it. Comes in,
on the driver: receipts, which become commit records, written last. Goes out: a Log, the snapshot of what is committed,
and tables read by it with their checksums verified. Why a log and not one file a partition: a retry, an update and a
purge each add to what is there without touching it, so a crash in the middle of any of them costs nothing.
"""

import hashlib
import io
import json
import re
import secrets
import sys
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from synthgen.errors import Damaged, LeaseLost
from synthgen.store.folder import Folder
from synthgen.store.lease import Lease

EMPTIED = "emptied"  # the fingerprint of a table that was emptied to be redone; no other has it


@dataclass(frozen=True, slots=True)
class DataFile:
    """A Parquet file that a worker wrote."""

    name: str
    rows: int
    bytes: int
    sha256: str


@dataclass(frozen=True, slots=True)
class TablePart:
    """What one revision of a partition adds to one table."""

    files: tuple[DataFile, ...]
    fingerprint: str
    replaces: bool = False


@dataclass(frozen=True, slots=True)
class Receipt:
    """What a worker hands to the driver: complete files, not yet visible to anyone."""

    partition: str
    revision: int
    tables: Mapping[str, TablePart]
    counts: Mapping[str, int] = field(default_factory=dict)
    reads: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Commit:
    """A receipt that the driver made current."""

    receipt: Receipt
    epoch: int
    term: int
    at: str
    digest: str

    @property
    def name(self) -> str:
        return commit_name(self.receipt.partition, self.receipt.revision)


@dataclass(frozen=True)
class CommitLog:
    """A snapshot of a stage's commits: partition → its revisions in order."""

    partitions: Mapping[str, tuple[Commit, ...]]

    def latest(self, partition: str) -> Commit | None:
        """The last revision of a partition, or None if it has none."""
        revisions = self.partitions.get(partition, ())
        return revisions[-1] if revisions else None

    def holds(self, partition: str) -> bool:
        """Whether a partition has a result: it has a revision, and the last is not one that emptied it to be redone."""
        latest = self.latest(partition)
        return latest is not None and not any(part.fingerprint == EMPTIED for part in latest.receipt.tables.values())

    def next_revision(self, partition: str) -> int:
        """The revision that the next result of a partition will be."""
        latest = self.latest(partition)
        return latest.receipt.revision + 1 if latest else 1

    def parts(self, partition: str, table: str) -> list[TablePart]:
        """What counts of a table in a partition: its parts from the last one that replaces."""
        current: list[TablePart] = []
        for commit in self.partitions.get(partition, ()):
            if part := commit.receipt.tables.get(table):
                current = [part] if part.replaces else [*current, part]
        return current

    def fingerprint(self, partition: str, table: str) -> str | None:
        """The fingerprint of the newest part of a table in a partition; None if it has none."""
        parts = self.parts(partition, table)
        return parts[-1].fingerprint if parts else None

    def counts(self, partitions: Iterable[str] | None = None) -> dict[str, int]:
        """Current rows by outcome, of all partitions or of some: a commit says by how much it changed them."""
        total: Counter[str] = Counter()
        for name in self.partitions if partitions is None else partitions:
            for commit in self.partitions.get(name, ()):
                total.update(commit.receipt.counts)
        return {outcome: count for outcome, count in sorted(total.items()) if count}

    def digests(self, stage: str, partitions: Iterable[str]) -> dict[str, str]:
        """What a reader of these partitions writes under `reads`."""
        return {
            f"{stage}/{commit.name}": commit.digest for name in partitions for commit in self.partitions.get(name, ())
        }

    @property
    def last_epoch(self) -> int:
        """The highest epoch committed; 0 if nothing is."""
        return max((commit.epoch for revisions in self.partitions.values() for commit in revisions), default=0)


@dataclass(frozen=True)
class Stage:
    """One stage folder of an output folder; small, and sent to workers as it is."""

    out: Folder
    name: str

    @property
    def folder(self) -> Folder:
        return self.out.child(self.name)

    def log(self) -> CommitLog:
        """Every commit of this stage, read now."""
        folder = self.folder.child("commits")
        partitions: dict[str, list[Commit]] = {}
        for name, data in folder.read_many(folder.names(".json")).items():
            commit = _parse_commit(f"{self.name}/commits/{name}", data)
            partitions.setdefault(commit.receipt.partition, []).append(commit)
        for revisions in partitions.values():
            revisions.sort(key=lambda commit: commit.receipt.revision)
        return CommitLog({name: tuple(partitions[name]) for name in sorted(partitions, key=partition_order)})

    def write(self, table: str, partition: str, revision: int, rows: pa.Table) -> DataFile:
        """Writes rows as a Parquet file that no commit names yet; runs on a worker."""
        sink = io.BytesIO()
        pq.write_table(rows, sink, compression="zstd")
        return self.put(table, commit_name(partition, revision), sink.getvalue(), rows.num_rows)

    def put(self, table: str, prefix: str, data: bytes, rows: int) -> DataFile:
        """Writes a Parquet file that is made already, under a name that begins with `prefix` and that nobody else uses."""
        name = f"{prefix}.{secrets.token_hex(6)}.parquet"
        self.folder.child(table).write(name, data)
        return DataFile(name, rows, len(data), hashlib.sha256(data).hexdigest())

    def commit(self, receipt: Receipt, lease: Lease, epoch: int) -> Commit:
        """Makes a receipt current; runs on the driver. A revision that is committed already stays as it is."""
        lease.check()
        at = datetime.now(UTC).isoformat(timespec="seconds")
        record = json.dumps({**asdict(receipt), "epoch": epoch, "term": lease.term, "at": at}, sort_keys=True).encode()
        name = f"{commit_name(receipt.partition, receipt.revision)}.json"
        folder = self.folder.child("commits")
        if not folder.create(name, record):
            record = folder.read(name)
        return _parse_commit(f"{self.name}/commits/{name}", record)

    def insist(self, receipt: Receipt, lease: Lease, epoch: int) -> None:
        """Commits a receipt where no other of that revision would do."""
        if self.commit(receipt, lease, epoch).receipt != receipt:
            # The last word of a driver that has lost its lease, said after our look at the log.
            raise LeaseLost(
                f"{self.out.url}: another run committed {self.name}/{receipt.partition} at the same time; start again"
            )

    def empty(self, partition: str, lease: Lease) -> bool:
        """Takes back all rows of a partition without reading them, so that it is done anew; False if there is nothing to take back."""
        log = self.log()
        latest = log.latest(partition)
        if latest is None or not log.holds(partition):
            return False
        tables = {table for commit in log.partitions[partition] for table in commit.receipt.tables}
        parts = {table: TablePart((), EMPTIED, replaces=True) for table in sorted(tables)}
        counts = {outcome: -count for outcome, count in log.counts([partition]).items()}
        self.insist(Receipt(partition, log.next_revision(partition), parts, counts), lease, latest.epoch)
        return True

    def read(self, log: CommitLog, partition: str, table: str, columns: list[str] | None = None) -> Iterator[pa.Table]:
        """The current files of a table in a partition, oldest first; Damaged if one is not what was committed."""
        for part in log.parts(partition, table):
            for file in part.files:
                yield self._read_file(table, partition, file, columns)

    def files(self, receipt: Receipt, table: str, columns: list[str]) -> Iterator[pa.Table]:
        """What a receipt adds to a table."""
        for file in receipt.tables[table].files:
            yield self._read_file(table, receipt.partition, file, columns)

    def current(self, log: CommitLog, partition: str, table: str, key: str, schema: pa.Schema) -> pa.Table:
        """The current rows of a table in a partition: of rows with one key, the last. `schema` says which columns are wanted."""
        files = list(self.read(log, partition, table, schema.names))
        if not files:
            return schema.empty_table()
        rows = pa.concat_tables(files)
        if len(files) == 1:
            return rows
        last = {value: index for index, value in enumerate(rows.column(key).to_pylist())}
        return rows if len(last) == rows.num_rows else rows.take(sorted(last.values()))

    def _read_file(self, table: str, partition: str, file: DataFile, columns: list[str] | None) -> pa.Table:
        where = f"{self.out.url}: {self.name}/{table}/{file.name} of partition {partition}"
        mend = f"redo it with `synth retry {self.out.url} --partition {self.name}/{partition}`"
        try:
            data = self.folder.child(table).read(file.name)
        except FileNotFoundError as error:
            raise Damaged(f"{where} is missing; {mend}") from error
        if hashlib.sha256(data).hexdigest() != file.sha256:
            raise Damaged(f"{where} was damaged after it was committed (its SHA-256 differs); {mend}")
        # ParquetFile takes half the time of read_table, which opens a data set. No threads and no reading ahead, which has some:
        # one of Arrow's that lets go of Python's bytes a moment after the read, when Python is ending already, aborts the process.
        rows = pq.ParquetFile(pa.BufferReader(data), pre_buffer=False).read(columns, use_threads=False)
        return rows if columns is None else rows.select(columns)


def commit_name(partition: str, revision: int) -> str:
    """The name of a revision of a partition, in file names and in `reads`."""
    return f"{partition}.r{revision}"


def partition_name(epoch: int, number: int) -> str:
    """The name of a partition; padded for the eye, its order is `partition_order`."""
    return f"e{epoch:03d}-{number:05d}"


def partition_order(name: str) -> tuple[list[int], str]:
    """What partitions are ordered by: their epoch and number, whatever width they are printed with."""
    return [int(digits) for digits in re.findall(r"\d+", name)], name


def _parse_commit(where: str, data: bytes) -> Commit:
    try:
        record: dict[str, Any] = json.loads(data)
        if not where.endswith(f"/{commit_name(record['partition'], record['revision'])}.json"):
            raise ValueError(f"it is of {commit_name(record['partition'], record['revision'])}")
        tables = {
            sys.intern(name): TablePart(
                tuple(DataFile(**file) for file in part["files"]), sys.intern(part["fingerprint"]), part["replaces"]
            )
            for name, part in record["tables"].items()
        }
        partition = sys.intern(record["partition"])
        receipt = Receipt(
            partition, record["revision"], tables, _interned(record["counts"]), _interned(record["reads"])
        )
        return Commit(
            receipt,
            record["epoch"],
            record["term"],
            sys.intern(record["at"]),
            sys.intern(hashlib.sha256(data).hexdigest()),
        )
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise Damaged(
            f"{where}: is not a commit record ({error}); remove that file and run again to redo its partition"
        ) from error


def _interned(named: dict[str, Any]) -> dict[str, Any]:
    """The same, its texts held once however many commits of however many logs have them: names of outcomes, digests of others."""
    return {sys.intern(name): sys.intern(value) if isinstance(value, str) else value for name, value in named.items()}
