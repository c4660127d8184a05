"""The rows to train on, in an order that depends on the seed and the files alone.

Files are pinned by digest when training starts, so the run that writes them may grow meanwhile. A run that rewrites its
shards deletes the older files, and training stops at the first one that is missing.

Files are sorted by a hash of seed, epoch and file digest, and read in groups of at most GROUP_BYTES; the rows of a
group are sorted by a hash too. So memory holds one group, the order is the same on every machine, and a position in the
stream of rows is one number.
"""

import hashlib
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from synthgen.errors import Damaged, UserMistake, one_line
from synthgen.store import CommitLog, Folder, RunFolder, StageFolder
from synthgen.store.folder import is_local_fs, open_path
from synthgen.store.opening import reach
from synthgen.store.parquet import check_columns_differ, read_in_batches
from synthgen.store.patterns import expand_home, files_at, split_pattern
from synthgen.store.remote import path_errors
from synthgen.store.run_folder import NO_SHARDS
from synthgen.tables import PACK, SELECT, make_id
from synthgen.train.turns import COLUMN_KINDS

COLUMNS = ["images", "messages"]
GROUP_BYTES = 256 * 2**20  # small files are shuffled together up to this size; a larger file is a group alone
CHUNK_BYTES = 8 * 2**20

# With the lists of turns.COLUMN_KINDS where the file has them.
Row = dict[str, Any]  # {"images": [{"bytes": …}], "messages": [{"role": …, "content": [{"type": …, "text": …}]}]}


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
        source: A run's output folder, or a folder, glob or file of Parquet with the columns `images` and `messages`.

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
    if missing := [column for column in COLUMNS if column not in parquet.schema_arrow.names]:
        raise UserMistake(
            f"{name}: has no column '{missing[0]}'; shards have images and messages, as `synth run` and TRL write them"
        )
    check_columns_differ(name, parquet.schema_arrow.names, COLUMNS)
    return int(parquet.metadata.num_rows)


# --- the rows ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Share:
    """The rows that one of several processes takes of each batch: one of every `size`, from number `rank` on."""

    rank: int = 0
    size: int = 1
    batch: int = 1

    def has(self, position: int) -> bool:
        """Return whether the row at a position of the stream is one of them."""
        return position % self.batch % self.size == self.rank


WHOLE = Share()


def rows(files: Sequence[ShardFile], seed: int, start: int, share: Share = WHOLE) -> Iterator[Row]:
    """Yield rows from position `start` of the stream on, epoch after epoch without end.

    Args:
        files: The pinned files.
        seed: Of the order.
        start: A position of the whole stream.
        share: Which rows of the stream are read.

    Raises:
        ShardChanged: A file is missing or is not the one that was pinned.
        UserMistake: A file that no commit describes cannot be read.
    """
    position, (epoch, skip) = start, divmod(start, sum(file.rows for file in files))
    while True:
        shuffle_key = f"{seed}/{epoch}"
        for group in _groups(files, shuffle_key):
            places = _shuffled(group, shuffle_key)[skip:]
            skip = max(0, skip - sum(file.rows for file in group))
            own = [place for number, place in enumerate(places, position) if share.has(number)]
            position += len(places)
            if own:
                yield from _read_rows(group, own)
        epoch += 1


def _groups(files: Sequence[ShardFile], shuffle_key: str) -> Iterator[list[ShardFile]]:
    """Yield the files in shuffled order, in groups that are read at once."""
    group: list[ShardFile] = []
    for file in sorted(files, key=lambda file: make_id("file", shuffle_key, file.sha256)):
        if group and sum(member.bytes for member in group) + file.bytes > GROUP_BYTES:
            yield group
            group = []
        group.append(file)
    yield group


def _shuffled(group: list[ShardFile], shuffle_key: str) -> list[tuple[int, int]]:
    """Return the rows of a group in shuffled order, each as the number of its file and its place in the file."""
    places = [(number, row) for number, file in enumerate(group) for row in range(file.rows)]
    places.sort(key=lambda place: make_id("row", shuffle_key, group[place[0]].sha256, str(place[1])))
    return places


def _read_rows(group: list[ShardFile], places: Sequence[tuple[int, int]]) -> Iterator[Row]:
    tables = [_read(file) for file in group]
    for number, row in places:
        yield from tables[number].slice(row, 1).to_pylist()


def _read(file: ShardFile) -> pa.Table:
    fs, path = open_path(file.url)
    try:
        data = fs.cat_file(path)
    except FileNotFoundError as error:
        raise ShardChanged(file, "is missing") from error
    if hashlib.sha256(data).hexdigest() != file.sha256:
        raise ShardChanged(file, "was damaged or replaced (its SHA-256 differs)")
    try:
        # An Arrow thread that releases Python's bytes while the interpreter shuts down aborts the process: use none.
        parquet = pq.ParquetFile(pa.BufferReader(data), pre_buffer=False)
        described = [name for name in COLUMN_KINDS if _describes(parquet.schema_arrow, name)]
        return read_in_batches(parquet, [*COLUMNS, *described])
    except (pa.ArrowException, OSError) as error:
        raise UserMistake(
            f"{file.url}: cannot be read ({one_line(error)}); replace it with an undamaged copy"
        ) from error


def _describes(schema: pa.Schema, name: str) -> bool:
    """Return whether a column is there and is of the kind that the shards of a run have."""
    return bool(name in schema.names and schema.field(name).type == COLUMN_KINDS[name])


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
