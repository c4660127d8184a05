"""Copies of shards on a local disk, from which rows are read in any order.

A row of a Parquet file cannot be read alone: its row group, of hundreds of images, would be read for it. So a file is
copied when the first of its rows is wanted, as Arrow without compression, which is mapped into memory and of which one
row is one read. Memory holds that row; the disk holds so many bytes, and the copies that were used longest ago go.
"""

import fcntl
import hashlib
import os
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from synthgen.errors import SynthError, one_line
from synthgen.store.folder import open_path
from synthgen.store.parquet import read_batches
from synthgen.train.dataset import CHUNK_BYTES, ShardChanged, ShardFile, unreadable
from synthgen.train.forms import Row, columns_of, in_one_form


class RowStore:
    """The rows of pinned files. Processes of one machine may share its folder.

    Args:
        folder: Of the copies.
        most_bytes: Of the files whose copies are kept at once; one is kept always.
    """

    def __init__(self, folder: Path, most_bytes: int) -> None:
        self._folder, self._most_bytes = folder, most_bytes
        self._tables: OrderedDict[str, tuple[pa.Table, int]] = OrderedDict()  # by digest, with the bytes of the file

    def row(self, file: ShardFile, number: int) -> Row:
        """Return a row of a file in TRL's form.

        Raises:
            ShardChanged: The file is missing or is not the one that was pinned.
            UserMistake: It cannot be read.
            SynthError: There is no room for its copy.
        """
        return in_one_form(self._table(file).slice(number, 1).to_pylist()[0])

    def _table(self, file: ShardFile) -> pa.Table:
        if file.sha256 in self._tables:
            self._tables.move_to_end(file.sha256)
            return self._tables[file.sha256][0]
        path = self._folder / f"{file.sha256}.arrow"
        with _alone(path):
            if not path.exists():
                self._make_room(file.bytes)
                _copy(file, path)
            table = pa.ipc.open_file(pa.memory_map(str(path))).read_all()  # mapped, not read
        self._tables[file.sha256] = (table, file.bytes)
        return table

    def _make_room(self, size: int) -> None:
        """Remove the copies that were used longest ago; a process that reads one still can."""
        while self._tables and sum(bytes_ for _, bytes_ in self._tables.values()) + size > self._most_bytes:
            digest, _ = self._tables.popitem(last=False)
            (self._folder / f"{digest}.arrow").unlink(missing_ok=True)


@contextmanager
def _alone(path: Path) -> Iterator[None]:
    """Have the other processes of this machine wait, so that one of them makes a copy."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.with_suffix(".lock").open("a") as lock:
            with suppress(OSError):  # a file system without locks: each makes a copy, and the last one stays
                fcntl.flock(lock, fcntl.LOCK_EX)
            yield
    except OSError as error:
        raise SynthError(
            f"{path.parent}: no copy of a shard can be written here ({one_line(error)}); free some space, lower "
            "train.shuffle_gigabytes, or name another folder as train.scratch"
        ) from error


def _copy(file: ShardFile, path: Path) -> None:
    """Copy a file, checking that it is the one that was pinned."""
    fetched, written = (path.with_suffix(f".{os.getpid()}.{name}") for name in ("parquet", "writing"))
    try:
        _fetch(file, fetched)
        with _readable(file), fetched.open("rb") as stream:
            # Arrow's threads may release Python's bytes while the interpreter shuts down, which aborts it: use none.
            parquet = pq.ParquetFile(stream, pre_buffer=False)
            columns = columns_of(parquet.schema_arrow, file.url)
            schema = pa.schema([parquet.schema_arrow.field(name) for name in columns])
            with pa.OSFile(str(written), "wb") as sink, pa.ipc.new_file(sink, schema) as writer:
                for batch in read_batches(parquet, columns):
                    writer.write_batch(batch.select(columns).cast(schema))
        written.rename(path)
    finally:
        fetched.unlink(missing_ok=True)
        written.unlink(missing_ok=True)


def _fetch(file: ShardFile, path: Path) -> None:
    """Copy the bytes of a file, checking their digest."""
    fs, place = open_path(file.url)
    digest = hashlib.sha256()
    with _opened(fs, place, file) as stream, path.open("wb") as copy:
        while chunk := stream.read(CHUNK_BYTES):
            digest.update(chunk)
            copy.write(chunk)
    if digest.hexdigest() != file.sha256:
        raise ShardChanged(file, "was damaged or replaced (its SHA-256 differs)")


def _opened(fs: Any, place: str, file: ShardFile) -> Any:
    try:
        return fs.open(place, "rb")
    except FileNotFoundError as error:
        raise ShardChanged(file, "is missing") from error


@contextmanager
def _readable(file: ShardFile) -> Iterator[None]:
    try:
        yield
    except (pa.ArrowException, OSError) as error:
        if isinstance(error, OSError) and error.errno is not None and not isinstance(error, pa.ArrowException):
            raise  # the disk's, not the file's: Arrow's own have no number
        raise unreadable(file, error) from error
