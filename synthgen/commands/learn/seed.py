"""The rows of a seed, one after the other, whatever file they are in.

Comes in: a file, a folder of files or a run's output folder. Goes out: rows, and for every line that is none the reason why.
JSON Lines and Parquet are read as streams; a JSON list is read whole, as there is no other way to read one. Of Parquet only the
columns that are needed are read: images cost a thousand times what texts do.
"""

import json
import posixpath
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC
from itertools import islice
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from synthgen.commands.learn.records import IMAGE_COLUMNS, TEXT_COLUMNS, BadRow, Fields, Row, row_of
from synthgen.errors import UserMistake, nearest
from synthgen.store import Folder, StageFolder
from synthgen.store.folder import reach
from synthgen.tables import PACK

SUFFIXES = (".parquet", ".jsonl", ".ndjson", ".json")
FIRST_ROWS = 100
ROWS_AT_ONCE = 64  # of Parquet; with their images some hundred megabytes at most


@dataclass(frozen=True)
class Seed:
    """The files of a seed."""

    source: str
    files: tuple[str, ...]  # paths on the seed's filesystem
    bytes: int
    changed: str  # the day on which the newest file was written; "" where nobody says

    @property
    def name(self) -> str:
        """What the seed is called, without the folders that it lies in."""
        return posixpath.basename(self.source.rstrip("/")) or self.source

    @property
    def folder(self) -> str:
        """The local folder that paths in its rows start from; "" if there is none."""
        folder = Folder(self.source)
        return (
            (folder.path if folder.fs.isdir(folder.path) else posixpath.dirname(folder.path)) if folder.is_local else ""
        )


@dataclass(frozen=True)
class Columns:
    """What is read of a row."""

    fields: Fields
    texts: bool
    images: bool


def open_seed(source: str) -> Seed:
    """The files of a seed, or one line on why there are none."""
    reach(source)
    folder = Folder(source.rstrip("/") if len(source) > 1 else source)
    fs, path = folder.fs, folder.path
    if fs.isfile(path):
        files = [path]
    elif not fs.exists(path):
        raise UserMistake(f"{source}: no such file or folder")
    else:
        files = _committed(folder) if fs.exists(f"{path}/run.json") else _found(fs, path)
    if not files:
        raise UserMistake(
            f"{source}: no seed here; give a .json, .jsonl or .parquet file, a folder of them, or a run with shards"
        )
    if not files[0].endswith(SUFFIXES):
        raise UserMistake(f"{source}: is not a seed; known forms: {', '.join(SUFFIXES)}")
    days = sorted(fs.modified(file).astimezone(UTC).strftime("%Y-%m-%d") for file in files)
    return Seed(source, tuple(files), sum(fs.size(file) for file in files), days[-1])


def rows(seed: Seed, columns: Columns, limit: int | None = None) -> Iterator[Row | BadRow]:
    """Every row, in order; at most `limit` of them."""
    number = 0
    for file in seed.files:
        for line, record in _records(seed, file, columns):
            if number == limit:
                return
            where = f"{posixpath.basename(file)}:{line}"
            yield record if isinstance(record, BadRow) else row_of(where, number, record, columns.fields)
            number += 1


def fields(seed: Seed) -> frozenset[str]:
    """The names of the fields that have something in them, as far as the first rows tell, which stand for all."""
    file = seed.files[0]
    with Folder(seed.source).fs.open(file, "rb") as raw:
        if file.endswith(".parquet"):
            return frozenset(_opened(raw, file).schema_arrow.names)
        records = enumerate(_listed(raw, file)) if file.endswith(".json") else _lines(raw, file)
        known: set[str] = set()
        for _, record in islice(records, FIRST_ROWS):
            if isinstance(record, dict):
                known.update(name for name, value in record.items() if value is not None)
    return frozenset(known)


def _committed(folder: Folder) -> list[str]:
    """The shards of a run, as its commits name them."""
    stage = StageFolder(folder, PACK)
    log, data = stage.log(), stage.folder.child("data")
    return [
        data.full(file.name)
        for name in log.partitions
        for part in log.parts(name, "data")
        for file in part.files
        if file.rows
    ]


def _found(fs: Any, path: str) -> list[str]:
    """The files of a folder, of the first form that there is: beside Parquet, JSON is mostly about the data."""
    for suffix in SUFFIXES:
        if found := sorted(fs.glob(f"{path}/**/*{suffix}")):
            return [str(one) for one in found]
    return []


def _records(seed: Seed, file: str, columns: Columns) -> Iterator[tuple[int, Any]]:
    """(line or row, record) of a file, counted from 1."""
    fs = Folder(seed.source).fs
    with fs.open(file, "rb") as raw:
        if file.endswith(".parquet"):
            yield from _parquet(raw, file, columns)
        elif file.endswith(".json"):
            yield from enumerate(_listed(raw, file), 1)
        else:
            yield from _lines(raw, posixpath.basename(file))


def _lines(raw: Any, name: str) -> Iterator[tuple[int, Any]]:
    for number, line in enumerate(raw, 1):
        if not line.strip():
            continue
        try:
            yield number, json.loads(line)
        except (ValueError, RecursionError) as error:
            yield number, BadRow(f"{name}:{number}", "not_json", str(error)[:200])


def _listed(raw: Any, file: str) -> list[Any]:
    try:
        found = json.load(raw)
    except (ValueError, RecursionError) as error:
        raise UserMistake(f"{file}: is not JSON: {str(error)[:200]} (a row a line? then name it .jsonl)") from error
    if not isinstance(found, list):
        raise UserMistake(f"{file}: is JSON, but no list of rows")
    return found


def _parquet(raw: Any, file: str, columns: Columns) -> Iterator[tuple[int, Any]]:
    parquet, number = _opened(raw, file), 0
    try:
        names = _wanted(file, parquet.schema_arrow.names, columns)
        for batch in parquet.iter_batches(ROWS_AT_ONCE, columns=names, use_threads=False):
            for record in batch.to_pylist():
                number += 1
                yield number, record
    except (pa.ArrowException, OSError) as error:
        raise UserMistake(f"{file}: cannot be read after row {number}: {str(error).splitlines()[0][:200]}") from error


def _opened(raw: Any, file: str) -> pq.ParquetFile:
    try:
        return pq.ParquetFile(raw, pre_buffer=False)  # see store/commits.py
    except pa.ArrowException as error:
        raise UserMistake(f"{file}: is not a Parquet file: {str(error).splitlines()[0][:200]}") from error


def _wanted(file: str, names: Sequence[str], columns: Columns) -> list[str]:
    named = [field for field in (columns.fields.types, columns.fields.tags) if field]
    for field in named:
        if field not in names:
            raise UserMistake(f"{file}: has no column '{field}': {nearest(field, names)}")
    usual = ["id", *(TEXT_COLUMNS if columns.texts else ()), *(IMAGE_COLUMNS if columns.images else ())]
    return list(dict.fromkeys([*named, *(name for name in usual if name in names)]))
