"""The folder of one stage: tables in partitions, and the commit records that say which files count.

A worker writes Parquet files under names that nobody else uses and returns a receipt for them. The driver turns
receipts into commit records, written last. Readers follow commit records only, and verify checksums.
"""

import hashlib
import io
import json
import secrets
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from synthgen.errors import Damaged
from synthgen.store.commits import Commit, CommitLog, DataFile, Receipt, commit_name, file_name, in_order, parse_commit
from synthgen.store.folder import Folder
from synthgen.store.lease import Lease
from synthgen.tables import StageSpec

MISSING, DIFFERS = "is missing", "was damaged after it was committed (its SHA-256 differs)"


@dataclass(frozen=True)
class StageFolder:
    """The folder of one stage; small, and sent to workers as it is."""

    out: Folder
    spec: StageSpec

    @property
    def folder(self) -> Folder:
        """The folder itself."""
        return self.out.child(self.spec.folder)

    def log(self, known: CommitLog | None = None) -> CommitLog:
        """Read every commit of this stage. One request a commit: a command does so once, see RunFolder.

        Args:
            known: An earlier log. A commit never changes, so only those that it lacks are read.
        """
        folder, revisions = self.folder.child("commits"), known.partitions.values() if known else ()
        earlier = {file_name(commit.receipt): commit for commits in revisions for commit in commits}
        names = folder.names(".json")
        read = folder.read_many([name for name in names if name not in earlier])
        partitions: dict[str, list[Commit]] = {}
        for name in names:
            commit = earlier.get(name) or parse_commit(f"{self.spec.folder}/commits/{name}", read[name])
            partitions.setdefault(commit.receipt.partition, []).append(commit)
        return in_order(partitions)

    def write(self, table: str, partition: str, revision: int, rows: pa.Table) -> DataFile:
        """Write rows as a Parquet file that no commit names yet; runs on a worker."""
        sink = io.BytesIO()
        pq.write_table(rows, sink, compression="zstd")
        return self.put(table, commit_name(partition, revision), sink.getvalue(), rows.num_rows)

    def put(self, table: str, prefix: str, data: bytes, rows: int) -> DataFile:
        """Write the bytes of a Parquet file under a name that begins with `prefix` and that nobody else uses."""
        name = f"{prefix}.{secrets.token_hex(6)}.parquet"
        self.folder.child(table).write(name, data)
        return DataFile(name, rows, len(data), hashlib.sha256(data).hexdigest())

    def commit(self, receipt: Receipt, lease: Lease) -> Commit:
        """Commit a receipt; runs on the driver.

        Returns:
            The commit of that revision: another one if the last record of a driver that has lost its lease came first.
        """
        lease.check()
        at = datetime.now(UTC).isoformat(timespec="seconds")
        record = json.dumps({**asdict(receipt), "term": lease.term, "at": at}, sort_keys=True).encode()
        name = file_name(receipt)
        folder = self.folder.child("commits")
        if not folder.create(name, record):
            record = folder.read(name)
        return parse_commit(f"{self.spec.folder}/commits/{name}", record)

    def read(
        self, log: CommitLog, partition: str, table: str, columns: Sequence[str] | None = None
    ) -> Iterator[pa.Table]:
        """Yield the current files of a table in a partition, oldest first.

        Raises:
            Damaged: A file is missing or is not the one that was committed.
        """
        for part in log.parts(partition, table):
            for file in part.files:
                yield self.read_file(table, partition, file, columns)

    def read_bytes(self, log: CommitLog, partition: str, table: str) -> Iterator[bytes]:
        """Yield the bytes of these files, for readers of large ones that do not want all rows at once.

        Raises:
            Damaged: A file is missing or is not the one that was committed.
        """
        for part in log.parts(partition, table):
            for file in part.files:
                yield self.read_verified(table, partition, file)

    def open_files(self, log: CommitLog, partition: str, table: str) -> Iterator[pa.NativeFile]:
        """Yield these files opened, for readers that hold no whole file. On a local disk none is held.

        Raises:
            Damaged: A file is missing or is not the one that was committed.
        """
        for part in log.parts(partition, table):
            for file in part.files:
                if self.folder.is_local:
                    yield self._open_local(table, partition, file)
                else:
                    yield pa.BufferReader(self.read_verified(table, partition, file))

    def _open_local(self, table: str, partition: str, file: DataFile) -> pa.NativeFile:
        path = Path(self.folder.child(table).full(file.name))
        if not path.is_file():
            raise Damaged(self.fault_of(table, partition, file, MISSING))
        with path.open("rb") as stream:
            if hashlib.file_digest(stream, "sha256").hexdigest() != file.sha256:
                raise Damaged(self.fault_of(table, partition, file, DIFFERS))
        return pa.OSFile(str(path))

    def files(self, receipt: Receipt, table: str, columns: Sequence[str]) -> Iterator[pa.Table]:
        """Yield the files that a receipt adds to a table."""
        for file in receipt.tables[table].files:
            yield self.read_file(table, receipt.partition, file, columns)

    def current(self, log: CommitLog, partition: str, table: str, columns: Sequence[str] | None = None) -> pa.Table:
        """Return the current rows of a table in a partition: of rows with one key, the last.

        Args:
            log: The commits to go by.
            partition: Its name.
            table: Its name, as `images` or `scores/answer`.
            columns: The columns wanted; all if None.
        """
        known = self.spec.table(table)
        wanted = list(known.schema.names if columns is None else columns)
        files = list(self.read(log, partition, table, list(dict.fromkeys([*wanted, known.key]))))
        if not files:
            return pa.schema([known.schema.field(name) for name in wanted]).empty_table()
        rows = pa.concat_tables(files)
        return (rows if len(files) == 1 else last_by_key(rows, known.key)).select(wanted)

    def read_file(self, table: str, partition: str, file: DataFile, columns: Sequence[str] | None) -> pa.Table:
        """Read one committed file and verify its checksum.

        Raises:
            Damaged: The file is missing or its bytes differ from those that were committed.
        """
        # ParquetFile takes half the time of read_table, which opens a data set. No threads and no pre-buffering, which
        # starts threads: an Arrow thread that releases Python's bytes while the interpreter shuts down aborts the
        # process.
        wanted = None if columns is None else list(columns)
        reader = pq.ParquetFile(pa.BufferReader(self.read_verified(table, partition, file)), pre_buffer=False)
        rows = reader.read(wanted, use_threads=False)
        return rows if wanted is None else self._with_columns(rows, table, wanted)

    def read_verified(self, table: str, partition: str, file: DataFile) -> bytes:
        """Return the bytes of a committed file.

        Raises:
            Damaged: The file is missing or its bytes differ from those that were committed.
        """
        try:
            data = self.folder.child(table).read(file.name)
        except FileNotFoundError as error:
            raise Damaged(self.fault_of(table, partition, file, MISSING)) from error
        if hashlib.sha256(data).hexdigest() != file.sha256:
            raise Damaged(self.fault_of(table, partition, file, DIFFERS))
        return data

    def fault_of(self, table: str, partition: str, file: DataFile, fault: str) -> str:
        """Return the line on a committed file that cannot be used, with what to do."""
        where = f"{self.out.url}: {self.spec.folder}/{table}/{file.name} of partition {partition}"
        repair = f"redo it with `synth retry {self.out.url} --partition {self.spec.folder}/{partition}`"
        return f"{where} {fault}; {repair}"

    def _with_columns(self, rows: pa.Table, table: str, wanted: Sequence[str]) -> pa.Table:
        """Return rows with these columns; one that an older synth did not write yet is null."""
        for name in wanted:
            if name not in rows.column_names:
                field = self.spec.table(table).schema.field(name)
                rows = rows.append_column(field, pa.nulls(rows.num_rows, field.type))
        return rows.select(wanted)


def last_by_key(rows: pa.Table, key: str) -> pa.Table:
    """Return, of rows with one value of the column `key`, the last; in the order of the rows."""
    last = {value: index for index, value in enumerate(rows.column(key).to_pylist())}
    return rows if len(last) == rows.num_rows else rows.take(pa.array(sorted(last.values()), pa.int64()))
