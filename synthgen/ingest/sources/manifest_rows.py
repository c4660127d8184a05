"""The rows of a manifest: CSV, TSV, JSON lines or Parquet, a stream in which a bad row costs itself alone.

Text is UTF-8, or UTF-16 with a byte order mark. What is not UTF-8 in it is kept as Python keeps such bytes in names of
files, so a name on a disk that is no text is found. A record of a CSV that cannot be parsed is read as a line without
quotation marks if it then has as many values as there are columns; the lines behind it are read anew in either case.
"""

import csv
import io
import json
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, BinaryIO

from synthgen.errors import UserMistake, nearest
from synthgen.ingest.sources import parquet
from synthgen.ingest.sources.location import filesystem, open_regular, split_folder
from synthgen.store.remote import display_uri

LINE = 2**20  # characters that a line may have
BLOCK = 2**20  # bytes of a request to a store
UTF_16 = (b"\xff\xfe", b"\xfe\xff")
SEPARATORS = ",;\t"  # of a CSV
TOO_LONG = f"is a line of more than {LINE:,} characters"
NO_RECORD = "cannot be parsed"
OTHER_COUNT = "has more or fewer values than the header"


@dataclass(frozen=True)
class Row:
    """A row.

    Attributes:
        number: Of its first line in a text file, or of the row in a Parquet file; from 1 on.
        values: By the name of the column; None if the row cannot be read.
        fault: Why it cannot be read, in words that say nothing of this row alone.
    """

    number: int
    values: Mapping[str, Any] | None
    fault: str = ""


Line = tuple[int, str | None]  # the number of a line and its text; None if it is too long


def read_rows(uri: str, columns: Sequence[str]) -> Iterator[Row]:
    """Yield the rows of a manifest.

    Args:
        uri: The file, local or in a store; its suffix says its form.
        columns: Those that must be there. Of JSON lines, each row may lack any.

    Raises:
        UserMistake: It is no manifest, or lacks a column.
    """
    read = READERS.get(uri[uri.rfind(".") :].lower())
    if read is None:
        raise UserMistake(f"{display_uri(uri)}: is no manifest; its name must end in {', '.join(READERS)}")
    with open_file(uri) as raw:
        yield from read(raw, uri, columns)


@contextmanager
def open_file(uri: str) -> Iterator[BinaryIO]:
    """Give the open file at a path or in a store."""
    protocol, path = split_folder(uri)
    opened = open_regular(path) if protocol == "file" else filesystem(protocol).open(path, "rb", block_size=BLOCK)
    with opened as raw:
        yield raw


def _check_columns(uri: str, names: Sequence[str], columns: Sequence[str]) -> None:
    for column in columns:
        if column not in names:
            raise UserMistake(f"{display_uri(uri)}: has no column '{column}'; {nearest(column, names)}")
    for name in names:
        if names.count(name) > 1:
            raise UserMistake(f"{display_uri(uri)}: has {names.count(name)} columns '{name}'; write it with one")


def text_of(raw: BinaryIO) -> io.TextIOWrapper:
    """Return a file as text: UTF-8, or UTF-16 with a byte order mark; what is neither is kept as half characters."""
    is_utf_16 = raw.read(2) in UTF_16
    raw.seek(0)
    encoding, errors = ("utf-16", "replace") if is_utf_16 else ("utf-8-sig", "surrogateescape")
    return io.TextIOWrapper(raw, encoding=encoding, errors=errors, newline="")


# --- lines ------------------------------------------------------------------------------------------------------------


def _lines(raw: BinaryIO) -> Iterator[Line]:
    """Yield the lines with their ends; no more than LINE characters of one are ever held."""
    number = 0
    with text_of(raw) as text:
        while line := text.readline(LINE):
            number += 1
            is_whole = len(line) < LINE or line.endswith("\n")
            yield number, line if is_whole else None
            while not is_whole:
                rest = text.readline(LINE)
                is_whole = len(rest) < LINE or rest.endswith("\n")


class _Records:
    """Lines for a CSV reader, which can be given back from the second line of a record on."""

    def __init__(self, lines: Iterator[Line]) -> None:
        self._lines = lines
        self._again: deque[Line] = deque()
        self.taken: list[Line] = []  # since the record began

    def __iter__(self) -> "_Records":
        return self

    def __next__(self) -> str:
        line = self._again.popleft() if self._again else next(self._lines)
        self.taken.append(line)
        if line[1] is None:
            raise csv.Error(TOO_LONG)
        return line[1]

    def begin(self) -> None:
        self.taken = []

    def give_back(self) -> None:
        self._again.extendleft(reversed(self.taken[1:]))


# --- forms ------------------------------------------------------------------------------------------------------------


def json_rows(raw: BinaryIO, uri: str, columns: Sequence[str]) -> Iterator[Row]:
    """Yield the records of JSON lines."""
    for number, line in _lines(raw):
        if line is None:
            yield Row(number, None, TOO_LONG)
        elif line.strip():
            yield _json_row(number, line)


def _json_row(number: int, line: str) -> Row:
    try:
        values = json.loads(line)
    except (ValueError, RecursionError):
        return Row(number, None, NO_RECORD)
    return Row(number, values) if isinstance(values, dict) else Row(number, None, "is no JSON object")


def _csv_rows(raw: BinaryIO, uri: str, columns: Sequence[str]) -> Iterator[Row]:
    lines = _lines(raw)
    header = next((line for _, line in lines if line is None or line.strip()), None) or ""
    separator = "\t" if uri.lower().endswith(".tsv") else max(SEPARATORS, key=header.count)
    try:
        names = next(csv.reader([header], delimiter=separator), [])
    except csv.Error:
        names = []
    if not names:
        raise UserMistake(f"{display_uri(uri)}: its first line names no columns")
    _check_columns(uri, names, columns)
    records = _Records(lines)
    reader = csv.reader(records, delimiter=separator, strict=True)
    while True:
        records.begin()
        try:
            values = next(reader)
        except StopIteration:
            return
        except csv.Error:
            records.give_back()
            values = _unquoted(records.taken[0][1], separator)
        number, line = records.taken[0]
        if values and len(values) == len(names):
            yield Row(number, dict(zip(names, values, strict=True)))
        elif values or line is None:
            yield Row(number, None, TOO_LONG if line is None else OTHER_COUNT)


def _unquoted(line: str | None, separator: str) -> list[str]:
    """Return the values of a line in which a quotation mark is a character like any other."""
    if line is None:
        return []
    return line.rstrip("\r\n").split(separator)


def _parquet_rows(raw: BinaryIO, uri: str, columns: Sequence[str]) -> Iterator[Row]:
    file = parquet.parse(raw)
    names = file.schema_arrow.names
    _check_columns(uri, names, columns)
    wanted = [name for name in names if name in columns or not parquet.is_of_bytes(file.schema_arrow.field(name).type)]
    for number, values in enumerate(parquet.read_values(file, wanted), 1):
        yield Row(number, values)


READERS: Mapping[str, Callable[[BinaryIO, str, Sequence[str]], Iterator[Row]]] = {
    ".csv": _csv_rows,
    ".tsv": _csv_rows,
    ".jsonl": json_rows,
    ".ndjson": json_rows,
    ".parquet": _parquet_rows,
}
