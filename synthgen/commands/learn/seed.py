"""The rows of a seed, one after the other, from a file, a folder of files or the shards of a run.

JSON Lines and Parquet are read as streams; a JSON list is read whole, as there is no other way to read one. Of Parquet
only the needed columns are read: images take a thousand times the bytes of texts.
"""

import json
import posixpath
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC
from itertools import islice
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from synthgen.commands.learn.records import IMAGE_COLUMNS, TEXT_COLUMNS, BadRow, Fields, Row, parse_row
from synthgen.errors import Failure, UserMistake, nearest, one_line
from synthgen.ingest.sources.location import spell_out_path
from synthgen.store import Folder, RunFolder
from synthgen.store.opening import reach
from synthgen.store.parquet import CELL_ERRORS, check_columns_differ, read_batches
from synthgen.store.remote import path_errors
from synthgen.tables import PACK

SUFFIXES = (".parquet", ".jsonl", ".ndjson", ".json")
FIRST_ROWS = 100


@dataclass(frozen=True)
class Seed:
    """The files of a seed."""

    source: str  # a URL, or a path from the root
    files: tuple[str, ...]  # paths on the seed's filesystem
    bytes: int
    changed: str  # the day on which the newest file was written, as 2026-01-31
    others: Mapping[str, int] = field(default_factory=dict)  # suffix -> files of another form, which are not read

    @property
    def name(self) -> str:
        """The last part of the seed's address."""
        return posixpath.basename(self.source.rstrip("/")) or self.source

    @property
    def folder(self) -> str:
        """The local folder that paths in its rows start from; "" if there is none."""
        folder = Folder(self.source)
        if not folder.is_local:
            return ""
        return folder.path if folder.fs.isdir(folder.path) else posixpath.dirname(folder.path)


@dataclass(frozen=True)
class Columns:
    """The parts of a row that are read."""

    fields: Fields
    texts: bool
    images: bool


def open_seed(source: str) -> Seed:
    """Return the files of a seed.

    Raises:
        UserMistake: There are none, or they have no form that is known.
    """
    reach(source)
    folder = Folder(spell_out(source))
    fs, path = folder.fs, folder.path
    others: Mapping[str, int] = {}
    if fs.isfile(path):
        files = [path]
    elif not fs.exists(path):
        raise UserMistake(f"{source}: no such file or folder")
    elif (run := RunFolder(folder)).record is not None:
        data = run.stage(PACK).folder.child("data")
        files = [data.full(file.name) for file in run.whole_shards()]
    else:
        files, others = _data_files(fs, path)
    if not files:
        raise UserMistake(
            f"{source}: no seed here; give a .json, .jsonl or .parquet file, a folder of them, or a run with shards"
        )
    if not files[0].endswith(SUFFIXES):
        raise UserMistake(f"{source}: is not a seed; known forms: {', '.join(SUFFIXES)}")
    days = sorted(fs.modified(file).astimezone(UTC).strftime("%Y-%m-%d") for file in files)
    return Seed(folder.url, tuple(files), sum(fs.size(file) for file in files), days[-1], others)


def spell_out(place: str) -> str:
    """Return a typed place from the root. Raises UserMistake if it begins with an unknown `~user`."""
    with path_errors(place):
        return spell_out_path(place, Path.cwd())


def read_rows(seed: Seed, columns: Columns, limit: int | None = None) -> Iterator[Row | BadRow]:
    """Yield every row in order, at most `limit` of them."""
    number = 0
    for file in seed.files:
        for line, record in _records(seed, file, columns):
            if number == limit:
                return
            where = f"{posixpath.basename(file)}:{line}"
            yield record if isinstance(record, BadRow) else parse_row(where, number, record, columns.fields)
            number += 1


def field_names(seed: Seed) -> frozenset[str]:
    """Return the names of the fields that hold something in the first rows, which stand for all."""
    file = seed.files[0]
    with Folder(seed.source).fs.open(file, "rb") as stream:
        if file.endswith(".parquet"):
            return frozenset(_open_parquet(stream, file).schema_arrow.names)
        records = enumerate(_json_list(stream, file)) if file.endswith(".json") else _json_lines(stream, file)
        names: set[str] = set()
        for _, record in islice(records, FIRST_ROWS):
            if isinstance(record, dict):
                names.update(name for name, value in record.items() if value is not None)
    return frozenset(names)


def _data_files(fs: Any, path: str) -> tuple[list[str], dict[str, int]]:
    """Return the files of the first form that a folder has, and the number of those of each other form.

    Beside Parquet, JSON is mostly metadata.
    """
    paths = sorted(str(file) for file in fs.find(path))
    by_suffix = {suffix: [file for file in paths if file.endswith(suffix)] for suffix in SUFFIXES}
    first, *others = [suffix for suffix, files in by_suffix.items() if files] or [""]
    return by_suffix.get(first, []), {suffix: len(by_suffix[suffix]) for suffix in others}


def _records(seed: Seed, file: str, columns: Columns) -> Iterator[tuple[int, Any]]:
    """Yield (line or row, record) of a file, counted from 1."""
    fs = Folder(seed.source).fs
    with fs.open(file, "rb") as stream:
        if file.endswith(".parquet"):
            yield from _parquet_rows(stream, file, columns)
        elif file.endswith(".json"):
            yield from enumerate(_json_list(stream, file), 1)
        else:
            yield from _json_lines(stream, posixpath.basename(file))


def _json_lines(stream: Any, name: str) -> Iterator[tuple[int, Any]]:
    for number, line in enumerate(stream, 1):
        if not line.strip():
            continue
        try:
            yield number, json.loads(line)
        except (ValueError, RecursionError) as error:
            yield number, BadRow(f"{name}:{number}", Failure("not_json", one_line(str(error), 200)))


def _json_list(stream: Any, file: str) -> list[Any]:
    try:
        records = json.load(stream)
    except (ValueError, RecursionError) as error:
        reason = one_line(str(error), 200)
        raise UserMistake(f"{file}: is not JSON: {reason} (one record per line? then name it .jsonl)") from error
    if not isinstance(records, list):
        raise UserMistake(f"{file}: is JSON, but not a list of rows")
    return records


def _parquet_rows(stream: Any, file: str, columns: Columns) -> Iterator[tuple[int, Any]]:
    parquet, number = _open_parquet(stream, file), 0
    try:
        names = _column_names(file, parquet.schema_arrow.names, columns)
        for batch in read_batches(parquet, names):
            for record in _batch_records(batch):
                number += 1
                where = f"{posixpath.basename(file)}:{number}"
                yield number, BadRow(where, record) if isinstance(record, Failure) else record
    except (pa.ArrowException, OSError) as error:
        raise UserMistake(f"{file}: cannot be read after row {number}: {_first_line(error)}") from error


def _batch_records(batch: pa.RecordBatch) -> list[dict[str, Any] | Failure]:
    """Return the rows of a batch; one with a cell that Python cannot hold, as a date far ahead, is a Failure."""
    try:
        return list(batch.to_pylist())
    except CELL_ERRORS:
        return [_record(batch, row) for row in range(batch.num_rows)]


def _record(batch: pa.RecordBatch, row: int) -> dict[str, Any] | Failure:
    values: dict[str, Any] = {}
    for name, column in zip(batch.schema.names, batch.columns, strict=True):
        try:
            values[name] = column[row].as_py()
        except CELL_ERRORS as error:
            return Failure("unreadable", f"'{name}' cannot be read as {column.type}: {one_line(error, 200)}")
    return values


def _open_parquet(stream: Any, file: str) -> pq.ParquetFile:
    try:
        return pq.ParquetFile(stream, pre_buffer=False)  # see store/stage_folder.py
    except (pa.ArrowException, OSError) as error:  # a broken footer is an OSError
        raise UserMistake(f"{file}: is not a Parquet file: {_first_line(error)}") from error


def _first_line(error: Exception) -> str:
    """Return the part of an Arrow error that precedes its stack."""
    return str(error).splitlines()[0][:200]


def _column_names(file: str, names: Sequence[str], columns: Columns) -> list[str]:
    named = [field for field in (columns.fields.types, columns.fields.tags) if field]
    for name in named:
        if name not in names:
            raise UserMistake(f"{file}: has no column '{name}': {nearest(name, names)}")
    usual = ["id", *(TEXT_COLUMNS if columns.texts else ()), *(IMAGE_COLUMNS if columns.images else ())]
    wanted = list(dict.fromkeys([*named, *(name for name in usual if name in names)]))
    check_columns_differ(file, names, wanted)
    return wanted
