"""Images in the rows of Parquet files: a row number for each, and later its bytes.

An image column holds plain bytes, or the datasets library's struct of bytes and path. A path in a cell is never
followed: such a row has no bytes. Rows are read in small batches, so a row group of gigabytes takes the memory of a
few of its pages (a page is the least that Parquet can read; pyarrow writes pages in steps of 1,024 rows).
"""

from collections.abc import Iterator, Sequence
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from synthgen.config.pipeline import SourceConfig
from synthgen.errors import Failure, UserMistake, nearest, one_line
from synthgen.ingest.sources.location import open_versioned
from synthgen.ingest.sources.objects import meta_json
from synthgen.store.parquet import BATCH_BYTES, CELL_ERRORS, check_columns_differ, read_batches
from synthgen.store.remote import PERMANENT, PermanentError, attempts, error_text

META_ROWS = 1024
BYTES = (
    pa.types.is_binary,
    pa.types.is_large_binary,
    pa.types.is_fixed_size_binary,
    pa.types.is_binary_view,
)

Cell = bytes | None | Failure  # an image, no image in this row, or why the row cannot be read


class NotParquet(PermanentError):
    """The file cannot be read as Parquet."""


def list_rows(uri: str, fs: Any, source: SourceConfig) -> Iterator[tuple[int, str | None]]:
    """Yield the number of every row, and its `meta_columns` as JSON.

    Args:
        uri: The file.
        fs: Its filesystem; None for a local file.
        source: The names of the columns.

    Raises:
        UserMistake: A column is missing, or holds no images.
        NotParquet: The file cannot be read as Parquet.
    """
    done = 0
    for is_last in attempts():
        try:
            for row, meta in _rows(uri, fs, source):
                if row >= done:  # an earlier attempt has yielded the rows before
                    yield row, meta
                    done = row + 1
            return
        except (UserMistake, *PERMANENT):
            raise
        except Exception:
            if is_last:
                raise


def _rows(uri: str, fs: Any, source: SourceConfig) -> Iterator[tuple[int, str | None]]:
    with open_versioned(uri, fs, BATCH_BYTES) as (raw, _):
        file = parse(raw)
        _check_columns(uri, file.schema_arrow, source)
        if not source.meta_columns:
            yield from ((row, None) for row in range(file.metadata.num_rows))
            return
        for row, values in enumerate(read_values(file, source.meta_columns)):
            yield row, meta_json(values)


def read_values(file: pq.ParquetFile, columns: Sequence[str]) -> Iterator[dict[str, Any]]:
    """Yield the values of some columns, row by row."""
    for batch in file.iter_batches(META_ROWS, columns=list(columns), use_threads=False):
        cells = [[_value(cell) for cell in column] for column in batch.columns]
        for values in zip(*cells, strict=True):
            yield dict(zip(batch.schema.names, values, strict=True))


def is_of_bytes(kind: pa.DataType) -> bool:
    """Return whether a column holds bytes."""
    kind = kind.value_type if pa.types.is_dictionary(kind) else kind
    return any(is_bytes(kind) for is_bytes in BYTES)


def _value(cell: pa.Scalar) -> Any:
    """Return a cell as Python has it, or why Python cannot hold it, as a date of the year 20,000."""
    try:
        return cell.as_py()
    except CELL_ERRORS as error:
        return f"cannot be read as {cell.type}: {one_line(error)}"


def read_cells(file: pq.ParquetFile, column: str, rows: Sequence[int]) -> Iterator[tuple[int, Cell]]:
    """Yield the cells of sorted row numbers; only row groups that hold such rows are read."""
    remaining, first = list(rows), 0
    for group in range(file.metadata.num_row_groups):
        count = file.metadata.row_group(group).num_rows
        in_group = [row - first for row in remaining if row < first + count]
        remaining = remaining[len(in_group) :]
        for row, cell in _try_group(file, group, column, in_group):
            yield first + row, cell
        first += count
    yield from ((row, Failure("part_unreadable", "the file has no such row")) for row in remaining)


def _try_group(file: pq.ParquetFile, group: int, column: str, rows: list[int]) -> Iterator[tuple[int, Cell]]:
    """Yield the cells of one row group, after some attempts; a group that cannot be read costs its own rows only."""
    for is_last in attempts():
        try:
            if rows:
                for row, cell in _group_cells(file, group, column, rows):
                    rows = rows[1:]
                    yield row, cell
            return
        except Exception as error:
            if is_last or isinstance(error, PERMANENT):
                failure = Failure("part_unreadable", f"row group {group}: {error_text(error)}")
                yield from ((row, failure) for row in rows)


def _group_cells(file: pq.ParquetFile, group: int, column: str, rows: list[int]) -> Iterator[tuple[int, Cell]]:
    remaining = iter(rows)
    row, first = next(remaining, None), 0
    for batch in read_batches(file, [column], [group]):
        values = batch.column(0)
        if pa.types.is_struct(values.type):
            values = pc.struct_field(values, "bytes")
        while row is not None and row < first + len(batch):
            yield row, values[row - first].as_py()
            row = next(remaining, None)
        if row is None:
            return
        first += len(batch)
    raise PermanentError("the row group ends before its last row")


def parse(raw: Any) -> pq.ParquetFile:
    """Return the open file as Parquet, which reads small pieces as they are needed and never a whole column.

    Raises:
        NotParquet: It is not a Parquet file.
    """
    try:
        return pq.ParquetFile(raw, buffer_size=2**20, pre_buffer=False)
    except (pa.ArrowException, ValueError, OSError) as error:
        if isinstance(error, OSError) and "thrift" not in str(error):  # Arrow's word for a footer that it cannot read
            raise
        raise NotParquet(str(error).split("\n", 1)[0][:120]) from error


def _check_columns(uri: str, schema: pa.Schema, source: SourceConfig) -> None:
    for column in (source.image_column, *source.meta_columns):
        if column not in schema.names:
            raise UserMistake(f"{uri}: has no column '{column}'; {nearest(column, schema.names)}")
    check_columns_differ(uri, schema.names, (source.image_column, *source.meta_columns))
    kind = schema.field(source.image_column).type
    if pa.types.is_struct(kind):
        kind = kind.field("bytes").type if kind.get_field_index("bytes") >= 0 else pa.null()
    if not is_of_bytes(kind):
        raise UserMistake(
            f"{uri}: column '{source.image_column}' holds {kind}; images must be bytes, or a struct of bytes and path"
        )
