"""Which rows are trained on, and in which order.

Comes in: a run's output folder, or a folder, glob or file of Parquet with `images` and `messages`. Goes out: the files,
pinned by digest when training starts, and then an endless stream of rows. A run may grow meanwhile: no file of a data set is
ever changed. One that writes shards anew deletes the older files, and the training ends with a line at the first that it misses.
The order is a function of seed, epoch and file digest: files are sorted by a hash, read in groups of at most a few hundred
megabytes, and the rows of a group are sorted by a hash. So memory holds one group, the same seed gives the same order on any
machine, and a place in the stream is one number.
"""

import hashlib
import posixpath
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import fsspec
import pyarrow as pa
import pyarrow.parquet as pq

from synthgen.errors import Damaged, UserMistake
from synthgen.store import CommitLog, Folder, StageFolder
from synthgen.store.folder import reach
from synthgen.tables import PACK, make_id

COLUMNS = ["images", "messages"]
GROUP_BYTES = 256 * 2**20  # small files are mixed with each other up to this size; a larger file is a group of its own
CHUNK = 8 * 2**20

Row = dict[str, Any]


@dataclass(frozen=True)
class ShardFile:
    """A Parquet file as it was when training started."""

    url: str
    rows: int
    bytes: int
    sha256: str


def place(source: str) -> str:
    """Where the shards are, spelled the same from whichever folder one looks."""
    return source.rstrip("/") if "://" in source else str(Path(source).expanduser().resolve())


def pin(source: str) -> tuple[ShardFile, ...]:
    """The files to train on, or one line on why there are none."""
    reach(place(source).partition("*")[0].rpartition("/")[0] if "*" in source else place(source))
    folder = Folder(place(source))
    stage = StageFolder(folder, PACK)
    is_folder = "*" not in source and not folder.fs.isfile(folder.path)
    if is_folder and (stage.folder.child("commits").names(".json") or folder.names("run.json")):
        files = _committed(stage)
        if not files:
            raise UserMistake(f"{source}: this run has no shards yet; finish it with `synth run --out {source}`")
        return files
    files = tuple(_foreign(folder, is_folder=is_folder))
    if not files:
        raise UserMistake(
            f"{source}: no shards here; give a run's output folder, or Parquet files with images and messages"
        )
    if not any(file.rows for file in files):
        raise UserMistake(f"{source}: its Parquet files have no rows")
    return files


def _committed(stage: StageFolder) -> tuple[ShardFile, ...]:
    data, log = stage.folder.child("data"), stage.log()
    found = [file for name in log.partitions for part in log.parts(name, "data") for file in part.files]
    return tuple(
        ShardFile(f"{data.url}/{file.name}", file.rows, file.bytes, file.sha256) for file in found if file.rows
    )


def _foreign(folder: Folder, *, is_folder: bool) -> Iterator[ShardFile]:
    """Parquet files that no commit describes: their digests are taken now."""
    fs, path = folder.fs, folder.path
    for name in sorted(fs.glob(posixpath.join(path, "**/*.parquet") if is_folder else path)):
        with fs.open(name) as file:
            rows = _checked_rows(file, str(name))
            file.seek(0)
            digest, size = hashlib.sha256(), 0
            while chunk := file.read(CHUNK):
                digest.update(chunk)
                size += len(chunk)
        yield ShardFile(str(fs.unstrip_protocol(name)), rows, size, digest.hexdigest())


def _checked_rows(file: Any, name: str) -> int:
    try:
        parquet = pq.ParquetFile(file, pre_buffer=False)
    except (pa.ArrowException, OSError) as error:  # a broken footer is an OSError
        raise UserMistake(f"{name}: is not a Parquet file ({str(error).splitlines()[0]})") from error
    if missing := [column for column in COLUMNS if column not in parquet.schema_arrow.names]:
        raise UserMistake(
            f"{name}: has no column '{missing[0]}'; shards have images and messages, as `synth run` and TRL write them"
        )
    return int(parquet.metadata.num_rows)


def rows(files: Sequence[ShardFile], seed: int, start: int) -> Iterator[Row]:
    """Rows from place `start` of the stream on, epoch after epoch without end."""
    epoch, skip = divmod(start, sum(file.rows for file in files))
    while True:
        for group in _groups(files, f"{seed}/{epoch}"):
            count = sum(file.rows for file in group)
            if skip < count:
                yield from _shuffled(group, f"{seed}/{epoch}", skip)
            skip = max(0, skip - count)
        epoch += 1


def _groups(files: Sequence[ShardFile], draw: str) -> Iterator[list[ShardFile]]:
    group: list[ShardFile] = []
    for file in sorted(files, key=lambda one: make_id("file", draw, one.sha256)):
        if group and sum(one.bytes for one in group) + file.bytes > GROUP_BYTES:
            yield group
            group = []
        group.append(file)
    yield group


def _shuffled(group: list[ShardFile], draw: str, skip: int) -> Iterator[Row]:
    """The rows of a group in the order of the draw, without the first `skip`."""
    tables = [_read(file) for file in group]
    places = [(number, row) for number, file in enumerate(group) for row in range(file.rows)]
    places.sort(key=lambda place: make_id("row", draw, group[place[0]].sha256, str(place[1])))
    for number, row in places[skip:]:
        yield from tables[number].slice(row, 1).to_pylist()


class ShardChanged(Damaged):
    """A file is no longer what was pinned."""

    def __init__(self, file: ShardFile, how: str) -> None:
        super().__init__(f"{file.url}: {how}")
        self.file = file


def _read(file: ShardFile) -> pa.Table:
    fs, path = fsspec.core.url_to_fs(file.url)
    try:
        data = fs.cat_file(path)
    except FileNotFoundError as error:
        raise ShardChanged(file, "is missing") from error
    if hashlib.sha256(data).hexdigest() != file.sha256:
        raise ShardChanged(file, "was damaged or replaced (its SHA-256 differs)")
    try:
        return pq.ParquetFile(pa.BufferReader(data), pre_buffer=False).read(
            COLUMNS, use_threads=False
        )  # see store/commits.py
    except (pa.ArrowException, OSError) as error:
        raise UserMistake(
            f"{file.url}: cannot be read ({str(error).splitlines()[0]}); put a whole file in its place"
        ) from error


def mend(lost: ShardChanged, *, has_begun: bool) -> str:
    """What to do about a lost file. Before the first checkpoint nothing depends on what was pinned, and a new start pins anew."""
    run, _, name = lost.file.url.partition("/5-shards/data/")
    log = StageFolder(Folder(run), PACK).log() if name else CommitLog({})
    partitions = [
        one for one in log.partitions for part in log.parts(one, "data") if name in {file.name for file in part.files}
    ]
    redo = f"redo it with `synth retry {run} --partition 5-shards/{partitions[0]}` and " if partitions else ""
    if not has_begun:
        return f"there is no checkpoint yet: {redo}start the same line again"
    go_on = "put it back and start the same line to go on from the last checkpoint"
    if redo or not name:
        return f"{go_on}, or {redo}train anew into another --out"
    return f"{go_on}, or train anew into another --out; of a run that writes its shards anew meanwhile, train on a copy of the shards"
