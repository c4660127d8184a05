"""The rows of benchmark sets that are tables: TSV files of VLMEvalKit, and Parquet files.

In a TSV file the column `image` holds base64, or the index of another row with the same image. What is no image or no
text costs its cell, a row with too many cells itself, and each has a record.
"""

import base64
import re
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from synthgen.errors import Failure, UserMistake, one_line
from synthgen.store.parquet import check_columns_differ, read_batches

TABLES = (".tsv", ".parquet")  # suffixes, in small letters
ROWS = 256  # of a TSV file, read at once
REFERENCE = 64  # characters of base64, up to which a cell is the index of another row
BASE64 = re.compile(r"[A-Za-z0-9+/]{65,}={0,2}")
# Base64 may be in lines, and in the alphabet that is safe in URLs.
TO_BASE64 = {ord(character): None for character in " \t\r\n"} | {ord("-"): "+", ord("_"): "/"}
BAD_LINE = re.compile(r"Skipping line (\d+): (.*)")  # as pandas warns of it


@dataclass(frozen=True)
class Columns:
    """The columns of tables that may hold images and questions; those that a file has are read."""

    images: tuple[str, ...]
    questions: tuple[str, ...]


@dataclass(frozen=True)
class BenchmarkItem:
    """An image or a question of a benchmark set.

    Attributes:
        name: Of its row or file.
        file: The file of the image, or why there is none.
    """

    name: str
    file: bytes | Failure | None = None
    question: str | None = None


def table_items(fs: Any, path: str, columns: Columns) -> Iterator[BenchmarkItem]:
    """Yield the images and questions of a table.

    Raises:
        UserMistake: It cannot be read, or has none of these columns.
    """
    return _tsv_items(fs, path, columns) if _is_tsv(path) else _parquet_items(fs, path, columns)


def check_table(fs: Any, path: str, wanted: Columns) -> None:
    """Raise UserMistake if a table cannot be opened, or has none of these columns; no row is read."""
    _columns(path, _header(fs, path), wanted)


def _is_tsv(path: str) -> bool:
    return path.lower().endswith(".tsv")


def _tsv_items(fs: Any, path: str, wanted: Columns) -> Iterator[BenchmarkItem]:
    file_name = path.rpartition("/")[2]
    # index_col: a tab at the end of each row would make the first column the index, and shift all others.
    how = {"sep": "\t", "dtype": str, "keep_default_na": False, "index_col": False, "on_bad_lines": "warn"}
    with _readable(path), fs.open(path) as raw:
        parts = pd.read_csv(raw, chunksize=ROWS, **how)
        while True:
            with warnings.catch_warnings(record=True) as caught:
                warnings.simplefilter("always", pd.errors.ParserWarning)
                part = next(parts, None)
            lines = [found for warning in caught for found in BAD_LINE.findall(str(warning.message))]
            yield from (BenchmarkItem(f"{file_name}, line {line}", Failure("corrupt", why)) for line, why in lines)
            if part is None:
                return
            images, questions = _columns(path, list(part.columns), wanted)
            for row in part.to_dict("records"):
                name = f"{file_name}:{row.get('index', '')}"
                cells = [row[column] for column in images if len(row[column]) > REFERENCE]
                yield from (BenchmarkItem(name, file) for cell in cells for file in _decoded(cell))
                yield from (BenchmarkItem(name, question=row[column]) for column in questions if row[column])


def _decoded(cell: str) -> Iterator[bytes | Failure]:
    """Yield the files in a text, which may be one in base64, a list of them as text, or a data URL."""
    texts = BASE64.findall(cell.translate(TO_BASE64))
    if not texts:
        yield Failure("no_bytes", "no file in base64 is in the text")
    for text in texts:
        try:
            yield base64.b64decode(text + "=" * (-len(text) % 4))
        except ValueError as error:
            yield Failure("corrupt", f"is not base64: {error}")


def _parquet_items(fs: Any, path: str, wanted: Columns) -> Iterator[BenchmarkItem]:
    with _readable(path), fs.open(path) as raw:
        file = pq.ParquetFile(raw, pre_buffer=False)
        images, questions = _columns(path, file.schema_arrow.names, wanted)
        row = 0
        for batch in read_batches(file, [*images, *questions]):
            for cells in batch.to_pylist():
                name = f"{path.rpartition('/')[2]}:{row}"
                yield from (BenchmarkItem(name, data) for column in images for data in _files_in(cells[column]))
                texts = (text for column in questions for text in _texts_in(cells[column]))
                yield from (_question(name, text) for text in texts)
                row += 1


def _header(fs: Any, path: str) -> list[str]:
    """Return the columns of a table."""
    with _readable(path), fs.open(path) as file:
        if _is_tsv(path):
            return list(pd.read_csv(file, sep="\t", dtype=str, nrows=0).columns)
        return list(pq.ParquetFile(file, pre_buffer=False).schema_arrow.names)


@contextmanager
def _readable(path: str) -> Iterator[None]:
    """Turn what a damaged table raises into a UserMistake."""
    try:
        yield
    except (pd.errors.ParserError, pd.errors.EmptyDataError, UnicodeDecodeError, pa.ArrowException, OSError) as error:
        kind = "a TSV file" if _is_tsv(path) else "Parquet"
        raise UserMistake(f"{path}: cannot be read as {kind} ({one_line(str(error))})") from error


def _files_in(cell: Any) -> Iterator[bytes | Failure]:
    """Yield the files in a cell: bytes, base64, the datasets library's struct of bytes and path, or a list of these."""
    if isinstance(cell, bytes):
        yield cell
    elif isinstance(cell, str) and cell:
        yield from _decoded(cell)
    elif isinstance(cell, dict) and cell.get("bytes") is not None:
        yield from _files_in(cell["bytes"])
    elif isinstance(cell, list):
        for part in cell:
            yield from _files_in(part)
    elif cell is not None and cell != "":
        yield Failure("no_bytes", f"a cell has {type(cell).__name__} without bytes in place of an image")


def _texts_in(cell: Any) -> Iterator[Any]:
    """Yield the questions in a cell, which may be a list of them; what is no text is yielded as it is."""
    if isinstance(cell, list):
        for part in cell:
            yield from _texts_in(part)
    elif cell is not None and cell != "":
        yield cell


def _question(name: str, text: Any) -> BenchmarkItem:
    if isinstance(text, str):
        return BenchmarkItem(name, question=text)
    return BenchmarkItem(name, Failure("no_text", f"a cell has {type(text).__name__} in place of a question"))


def _columns(path: str, known: Sequence[str], wanted: Columns) -> tuple[list[str], list[str]]:
    found = [name for name in wanted.images if name in known], [name for name in wanted.questions if name in known]
    if not any(found):
        named = ", ".join([*wanted.images, *wanted.questions])
        raise UserMistake(
            f"{path}: has none of the columns {named}; it has {', '.join(known)}; name them in "
            "select.decontaminate.images and select.decontaminate.questions"
        )
    check_columns_differ(path, known, [*found[0], *found[1]])
    return found
