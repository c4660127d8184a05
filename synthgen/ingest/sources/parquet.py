"""Images in the rows of Parquet files: a number for each, and later its bytes.

An image column holds plain bytes, also dictionary-encoded or as a view, or the datasets library's struct of bytes and
path, or lists of either. The number is that of the row; in a column of lists it counts the images, a row without any as
one, because Parquet counts them so and a listing need not read them. A path in a cell is never followed: such a row has
no bytes. Rows are read in small batches, so a row group of gigabytes takes the memory of a few of its pages (a page is
the least that Parquet can read; pyarrow writes pages in steps of 1,024 rows).
"""

import itertools
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from synthgen.config.source import SourceConfig
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

LISTS = (
    pa.types.is_list,
    pa.types.is_large_list,
    pa.types.is_fixed_size_list,
    pa.types.is_list_view,
    pa.types.is_large_list_view,
)

Cell = bytes | None | Failure  # an image, no image there, or why it cannot be read


class NotParquet(PermanentError):
    """The file cannot be read as Parquet."""


def list_rows(uri: str, fs: Any, source: SourceConfig) -> Iterator[tuple[int, str | None]]:
    """Yield the number of every image, and the `meta_columns` of its row as JSON.

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
            groups = range(file.metadata.num_row_groups)
            yield from ((row, None) for row in range(sum(_size(file, group, source.image_column) for group in groups)))
            return
        number = 0
        rows = zip(row_sizes(file, source.image_column), read_values(file, source.meta_columns), strict=False)
        for size, values in rows:
            meta = meta_json(values)
            for number in range(number, number + size):  # noqa: B020 - it goes on where the row before ended
                yield number, meta
            number += 1


def _size(file: pq.ParquetFile, group: int, column: str) -> int:
    """Return how many images a row group has, those that are null and lists without any included."""
    about = file.metadata.row_group(group)
    if not _is_list(file.schema_arrow.field(column).type):
        return int(about.num_rows)
    return int(next(leaf.num_values for leaf in _leaves(about, column)))


def _leaves(about: Any, column: str) -> Iterator[Any]:
    """Yield what the metadata of a row group says of the parts of a column."""
    parts = (about.column(index) for index in range(about.num_columns))
    return (part for part in parts if f"{part.path_in_schema}.".startswith(f"{column}."))


def row_sizes(file: pq.ParquetFile, column: str) -> Iterator[int]:
    """Yield for each row how many images it has, at least 1."""
    if not _is_list(file.schema_arrow.field(column).type):
        yield from itertools.repeat(1, file.metadata.num_rows)
        return
    for group in range(file.metadata.num_row_groups):
        names = [leaf.path_in_schema for leaf in _leaves(file.metadata.row_group(group), column)]
        path = next((name for name in names if name.endswith(".path")), None)  # without the bytes, if it can be
        batches = file.iter_batches(META_ROWS, row_groups=[group], columns=[path], use_threads=False) if path else None
        for batch in batches or read_batches(file, [column], [group]):
            yield from np.maximum(_lengths(batch.column(0)), 1).tolist()


def _lengths(lists: pa.Array) -> Any:
    """Return the lengths (rows,) of lists; those that are null have none."""
    return pc.fill_null(pc.list_value_length(lists), 0).to_numpy(zero_copy_only=False)


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
        count = _size(file, group, column)
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
        values, places = _flat(batch.column(0))
        if pa.types.is_struct(values.type):
            values = pc.struct_field(values, "bytes")
        while row is not None and row < first + len(places):
            place = places[row - first]
            yield row, values[place].as_py() if place >= 0 else None
            row = next(remaining, None)
        if row is None:
            return
        first += len(places)
    raise PermanentError("the row group ends before its last row")


def _flat(column: pa.Array) -> tuple[pa.Array, Sequence[int]]:
    """Return the images of a column, and for each number the place of the image in them; -1 for a list without any."""
    if not _is_list(column.type):
        return column, range(len(column))
    lengths = _lengths(column)
    sizes = np.maximum(lengths, 1)
    rows = np.repeat(np.arange(len(lengths)), sizes)
    within = np.arange(len(rows)) - np.repeat(np.cumsum(sizes) - sizes, sizes)
    places = np.where(lengths[rows] > 0, (np.cumsum(lengths) - lengths)[rows] + within, -1)
    return column.flatten(), places.tolist()


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


def _is_list(kind: pa.DataType) -> bool:
    return any(is_list(kind) for is_list in LISTS)


def _check_columns(uri: str, schema: pa.Schema, source: SourceConfig) -> None:
    for column in (source.image_column, *source.meta_columns):
        if column not in schema.names:
            raise UserMistake(f"{uri}: has no column '{column}'; {nearest(column, schema.names)}")
    check_columns_differ(uri, schema.names, (source.image_column, *source.meta_columns))
    kind = schema.field(source.image_column).type
    kind = kind.value_type if _is_list(kind) else kind
    if pa.types.is_struct(kind):
        kind = kind.field("bytes").type if kind.get_field_index("bytes") >= 0 else pa.null()
    if not is_of_bytes(kind):
        raise UserMistake(
            f"{uri}: column '{source.image_column}' holds {kind}; "
            "images must be bytes, a struct of bytes and path, or lists of either"
        )
