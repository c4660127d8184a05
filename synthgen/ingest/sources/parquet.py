"""Images in the rows of Parquet files: which rows there are, and their bytes.

Comes in: the uri of a file and the name of its image column: plain bytes, or the datasets library's struct of bytes and
path. Goes out: row numbers with the columns to carry along; later the cells of some rows. A path inside a cell is never
followed: such a row has no bytes. Rows are read in small batches, so that of a row group of gigabytes no more is
held than a few of its pages (a page is the least that Parquet can read; pyarrow writes it in steps of 1,024 rows).
"""

import contextlib
import json
import os
from collections.abc import Iterator, Sequence
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from synthgen.config.pipeline import SourceConfig
from synthgen.errors import UserMistake, nearest
from synthgen.ingest.sources.location import local_version, open_regular, split_uri, version_of
from synthgen.store.remote import HOPELESS, Lasting, attempts, shown_error

BATCH_BYTES = 2**23  # read at once; at least one row
META_ROWS = 1024

Cell = bytes | None | str  # an image, none in this row, or why the row cannot be read


class NotParquet(Lasting):
    """The file cannot be read as Parquet."""


def rows(uri: str, fs: Any, source: SourceConfig) -> Iterator[tuple[int, str | None]]:
    """Row number and carried columns of every row; a UserMistake if a column is missing or holds no images."""
    done = 0
    for is_last in attempts():
        try:
            for row, meta in _rows(uri, fs, source):
                if row >= done:  # else the attempt before came so far
                    yield row, meta
                    done = row + 1
            return
        except (UserMistake, *HOPELESS):
            raise
        except Exception:
            if is_last:
                raise


def _rows(uri: str, fs: Any, source: SourceConfig) -> Iterator[tuple[int, str | None]]:
    with opened(uri, fs) as (raw, _):
        file = parsed(raw)
        _check_columns(uri, file.schema_arrow, source)
        if not source.meta_columns:
            yield from ((row, None) for row in range(file.metadata.num_rows))
            return
        row = 0
        for batch in file.iter_batches(META_ROWS, columns=list(source.meta_columns), use_threads=False):
            for values in batch.to_pylist():
                yield row, json.dumps(values, ensure_ascii=False, default=str)
                row += 1


def cells(file: pq.ParquetFile, column: str, wanted: Sequence[int]) -> Iterator[tuple[int, Cell]]:
    """What is in the wanted rows (sorted); only row groups that hold such rows are read."""
    remaining, first = list(wanted), 0
    for group in range(file.metadata.num_row_groups):
        count = file.metadata.row_group(group).num_rows
        here = [row - first for row in remaining if row < first + count]
        remaining = remaining[len(here) :]
        for row, data in _patient_cells(file, group, column, here):
            yield first + row, data
        first += count
    yield from ((row, "the file has no such row") for row in remaining)


def _patient_cells(file: pq.ParquetFile, group: int, column: str, wanted: list[int]) -> Iterator[tuple[int, Cell]]:
    """The cells of one row group; where it cannot be read its rows say so, and the other groups are not concerned."""
    for is_last in attempts():
        try:
            while wanted:
                for row, data in _group_cells(file, group, column, wanted):
                    wanted = wanted[1:]
                    yield row, data
            return
        except Exception as error:
            if is_last:
                yield from ((row, f"row group {group}: {shown_error(error)}") for row in wanted)


def _group_cells(file: pq.ParquetFile, group: int, column: str, wanted: list[int]) -> Iterator[tuple[int, Cell]]:
    about = file.metadata.row_group(group)
    at_once = max(1, min(1024, BATCH_BYTES * about.num_rows // max(1, about.total_byte_size)))
    rows = iter(wanted)
    row, first = next(rows, None), 0
    for batch in file.iter_batches(at_once, row_groups=[group], columns=[column], use_threads=False):
        values = batch.column(0)
        if pa.types.is_struct(values.type):
            values = pc.struct_field(values, "bytes")
        while row is not None and row < first + len(batch):
            yield row, values[row - first].as_py()
            row = next(rows, None)
        if row is None:
            return
        first += len(batch)
    raise Lasting("the row group ends before its last row")


@contextlib.contextmanager
def opened(uri: str, fs: Any) -> Iterator[tuple[Any, str]]:
    """The open file and its present version; `fs` is None for a local one."""
    path = split_uri(uri)[1]
    if fs is None:
        with open_regular(path) as raw:
            yield raw, local_version(os.fstat(raw.fileno()))
    else:
        with fs.open(path, "rb", block_size=BATCH_BYTES) as raw:
            yield raw, version_of(raw.details)


def parsed(raw: Any) -> pq.ParquetFile:
    """The open file as Parquet; it reads small pieces as they are needed, never a whole column."""
    try:
        return pq.ParquetFile(raw, buffer_size=2**20, pre_buffer=False)
    except (pa.ArrowException, ValueError) as error:
        raise NotParquet(str(error).split("\n", 1)[0][:120]) from error


def _check_columns(uri: str, schema: pa.Schema, source: SourceConfig) -> None:
    for column in (source.image_column, *source.meta_columns):
        if column not in schema.names:
            raise UserMistake(f"{uri}: has no column '{column}'; {nearest(column, schema.names)}")
    kind = schema.field(source.image_column).type
    if pa.types.is_struct(kind):
        kind = kind.field("bytes").type if kind.get_field_index("bytes") >= 0 else pa.null()
    if not (pa.types.is_binary(kind) or pa.types.is_large_binary(kind) or pa.types.is_fixed_size_binary(kind)):
        raise UserMistake(
            f"{uri}: column '{source.image_column}' holds {kind}; images must be bytes, or a struct of bytes and path"
        )
