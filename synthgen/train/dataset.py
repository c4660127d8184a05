"""The files to train on.

Files are pinned by digest when training starts, so the run that writes them may grow meanwhile. A run that rewrites its
shards deletes the older files, and training stops at the first one that is missing.
"""

import hashlib
import os
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from synthgen.errors import Damaged, SynthError, UserMistake, one_line
from synthgen.store import CommitLog, Folder, RunFolder, StageFolder
from synthgen.store.folder import is_local_fs, open_path
from synthgen.store.opening import reach
from synthgen.store.parquet import read_batches
from synthgen.store.patterns import expand_home, files_at, split_pattern
from synthgen.store.remote import path_errors
from synthgen.store.run_folder import NO_SHARDS
from synthgen.tables import PACK, SELECT
from synthgen.train.forms import Row, columns_of, in_one_form

CHUNK_BYTES = 8 * 2**20


@dataclass(frozen=True)
class ShardFile:
    """A Parquet file as it was when training started."""

    url: str
    rows: int
    bytes: int
    sha256: str


@dataclass(frozen=True)
class Place:
    """A source of shards, found: a run, or files.

    Attributes:
        fs: The fsspec filesystem.
        files: Paths on it.
    """

    fs: Any
    run: RunFolder | None
    files: tuple[str, ...] = ()


class ShardChanged(Damaged):
    """A pinned file is missing or has other bytes now."""

    def __init__(self, file: ShardFile, change: str) -> None:
        super().__init__(f"{file.url}: {change}")
        self.file = file


# --- the files --------------------------------------------------------------------------------------------------------


def absolute_url(source: str) -> str:
    """Return a source spelled the same from every working directory."""
    if "://" in source:
        return source.rstrip("/")
    with path_errors(source):
        return str(expand_home(source).resolve())


def pin(source: str) -> tuple[ShardFile, ...]:
    """Return the Parquet files of a source with their digests.

    Args:
        source: A run's output folder, or a folder, glob or file of Parquet, in one of the forms of forms.py.

    Raises:
        UserMistake: The source cannot be reached, or has no rows to train on.
    """
    place = find(source)
    if place.run:
        return _committed_files(place.run)
    files = tuple(_uncommitted_files(place))
    if not any(file.rows for file in files):
        raise UserMistake(f"{source}: its Parquet files have no rows")
    return files


def find(source: str) -> Place:
    """Return what a source holds; no file is opened.

    Raises:
        UserMistake: As of `pin`, if there is no file.
    """
    url = absolute_url(source)
    is_store = "://" in url
    reach(split_pattern(url, lambda _: False)[0] if is_store else url)
    fs, path = open_path(url)
    root, pattern = split_pattern(path, fs.exists if is_store else os.path.exists)
    if pattern is None and not fs.isfile(root) and (run := RunFolder(Folder(url))).record is not None:
        if not run.shards():
            decided = run.log(SELECT).counts()
            if decided and not decided.get("kept"):
                raise UserMistake(f"{source}: this run kept no pair; `synth status {source}` says why")
            raise UserMistake(NO_SHARDS.format(source))
        return Place(fs, run)
    files = files_at(fs, root, pattern, ".parquet")
    if not files:
        raise UserMistake(
            f"{source}: no shards here; give a run's output folder, or Parquet files with images and messages"
        )
    return Place(fs, None, tuple(files))


def _committed_files(run: RunFolder) -> tuple[ShardFile, ...]:
    """Return the files that the commits of a run name, without the empty ones."""
    data = run.stage(PACK).folder.child("data")
    return tuple(ShardFile(f"{data.url}/{file.name}", file.rows, file.bytes, file.sha256) for file in run.shards())


def _uncommitted_files(place: Place) -> Iterator[ShardFile]:
    """Yield Parquet files that no commit describes; each is read once for its digest."""
    fs = place.fs
    for name in place.files:
        with fs.open(name) as file:
            row_count = _count_rows(file, name)
            file.seek(0)
            digest, size = hashlib.sha256(), 0
            while chunk := file.read(CHUNK_BYTES):
                digest.update(chunk)
                size += len(chunk)
        url = name if is_local_fs(fs) else str(fs.unstrip_protocol(name))
        yield ShardFile(url, row_count, size, digest.hexdigest())


def _count_rows(file: Any, name: str) -> int:
    try:
        parquet = pq.ParquetFile(file, pre_buffer=False)
    except (pa.ArrowException, OSError) as error:  # a broken footer is an OSError
        raise UserMistake(f"{name}: is not a Parquet file ({one_line(error)})") from error
    columns_of(parquet.schema_arrow, name)
    return int(parquet.metadata.num_rows)


def first_rows(files: Sequence[ShardFile], count: int) -> list[Row]:
    """Return the first rows of some files, as they stand there.

    Raises:
        ShardChanged: A file is missing or is not the one that was pinned.
        UserMistake: A file cannot be read.
    """
    found = list[Row]()
    for file in files:
        fs, path = open_path(file.url)
        try:
            with fs.open(path, "rb") as stream:
                parquet = pq.ParquetFile(stream, pre_buffer=False)
                columns = columns_of(parquet.schema_arrow, file.url)
                for batch in read_batches(parquet, columns):
                    found += map(in_one_form, batch.slice(0, count - len(found)).to_pylist())
                    if len(found) == count:
                        return found
        except (pa.ArrowException, OSError) as error:
            raise unreadable(file, error) from error
    return found


def unreadable(file: ShardFile, error: Exception) -> SynthError:
    """Return the error to raise for a pinned file that cannot be read."""
    if isinstance(error, FileNotFoundError):
        return ShardChanged(file, "is missing")
    fs, path = open_path(file.url)
    with suppress(OSError), fs.open(path, "rb") as stream:
        if hashlib.file_digest(stream, "sha256").hexdigest() != file.sha256:
            return ShardChanged(file, "was damaged or replaced (its SHA-256 differs)")
    return UserMistake(f"{file.url}: cannot be read ({one_line(error)}); replace it with an undamaged copy")


# --- a changed file ---------------------------------------------------------------------------------------------------


def repair_advice(lost: ShardChanged, *, has_checkpoint: bool) -> str:
    """Return the end of an error message: how to continue without a pinned file.

    Before the first checkpoint nothing depends on the pinned files, and the next start pins the current ones.
    """
    run, _, name = lost.file.url.partition("/5-shards/data/")
    log = StageFolder(Folder(run), PACK).log() if name else CommitLog({})
    partition = _partition_of(name, log)
    redo = f"redo it with `synth retry {run} --partition 5-shards/{partition}` and " if partition else ""
    if not has_checkpoint:
        return f"there is no checkpoint yet: {redo}start the same command again"
    put_back = "put it back and start the same command again to continue from the last checkpoint"
    if redo or not name:
        return f"{put_back}, or {redo}train again into another --out"
    return f"{put_back}, or train again into another --out, on a copy of the shards if the run keeps rewriting them"


def _partition_of(name: str, log: CommitLog) -> str | None:
    """Return the partition whose commits name a file now, if one does."""
    for partition in log.partitions:
        if any(file.name == name for part in log.parts(partition, "data") for file in part.files):
            return partition
    return None
