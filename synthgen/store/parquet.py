"""Rows of Parquet files in small batches, whatever their images weigh.

Arrow counts the bytes of a binary column in 32 bits, so a column of more than 2 GB cannot be read at once, neither of a
file nor of a row group.
"""

from collections.abc import Iterable, Iterator, Sequence

import pyarrow as pa
import pyarrow.parquet as pq

from synthgen.errors import UserMistake

# What a cell raises that Python cannot hold, as a date of the year 20,000.
CELL_ERRORS = (ValueError, OverflowError, ArithmeticError, RecursionError, pa.ArrowException)
BATCH_BYTES = 2**23  # read at once, one row at least
BATCH_ROWS = 1024  # read at once, at most


def check_columns_differ(where: str, names: Sequence[str], wanted: Iterable[str]) -> None:
    """Raise UserMistake if a file has a wanted column twice, which Arrow cannot tell apart."""
    for name in wanted:
        if names.count(name) > 1:
            raise UserMistake(f"{where}: has {names.count(name)} columns '{name}'; write it with one")


def read_batches(
    file: pq.ParquetFile, columns: Sequence[str], row_groups: Sequence[int] | None = None
) -> Iterator[pa.RecordBatch]:
    """Yield the rows of a file in order, about BATCH_BYTES at once.

    Args:
        file: The open file. It should be opened with `pre_buffer=False`, which starts no threads.
        columns: The columns wanted.
        row_groups: The row groups wanted; all if None.
    """
    for group in range(file.metadata.num_row_groups) if row_groups is None else row_groups:
        yield from _group_batches(file, list(columns), group)


def read_in_batches(file: pq.ParquetFile, columns: Sequence[str]) -> pa.Table:
    """Return the whole file as a table of many chunks."""
    batches = [batch.select(list(columns)) for batch in read_batches(file, columns)]
    if batches:
        return pa.Table.from_batches(batches)
    return pa.schema([file.schema_arrow.field(name) for name in columns]).empty_table()


def _group_batches(file: pq.ParquetFile, columns: list[str], group: int) -> Iterator[pa.RecordBatch]:
    about = file.metadata.row_group(group)
    batch_rows = max(1, min(BATCH_ROWS, BATCH_BYTES * about.num_rows // max(1, about.total_byte_size)))
    row = 0
    try:
        for batch in file.iter_batches(batch_rows, row_groups=[group], columns=columns, use_threads=False):
            yield batch
            row += batch.num_rows
    except pa.ArrowNotImplementedError:  # rows far heavier than the mean filled a batch; a single one always fits
        if batch_rows == 1:
            raise
        for number, batch in enumerate(file.iter_batches(1, row_groups=[group], columns=columns, use_threads=False)):
            if number >= row:
                yield batch
