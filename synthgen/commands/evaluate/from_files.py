"""The questions in a file of the user: JSON Lines, JSON, CSV, TSV (also that of VLMEvalKit) or Parquet.

A row names its image by a path from the folder of the file, or of `--images`, or holds it: as bytes, as the struct of
the datasets library, or in base64; a short text in a TSV file is the index of another row with the same image. A path
that leads out of the folder is refused: somebody else may have written the file. Rows about one image are asked
together, wherever they stand.
"""

import base64
import csv
import io
import json
import posixpath
import sys
from collections.abc import Iterator, Mapping
from pathlib import PurePosixPath
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from synthgen.commands.evaluate.file_row import FIELDS, field, parse_row
from synthgen.commands.evaluate.question import ImageQuestions, Question
from synthgen.commands.usable import UseCounts
from synthgen.errors import Failure, UserMistake, one_line
from synthgen.ingest.benchmark_tables import BASE64, REFERENCE
from synthgen.store.folder import open_path
from synthgen.store.parquet import read_batches
from synthgen.tables import image_id

SUFFIXES = (".jsonl", ".ndjson", ".json", ".csv", ".tsv", ".parquet")
Image = str | bytes  # a path from the folder of the file, or the bytes of an image
Row = Mapping[str, Any]


def read_question_file(url: str, root: str, max_bytes: int, counts: UseCounts) -> Iterator[ImageQuestions]:
    """Yield the images of a question file with the questions about them, in the order of their first rows.

    Args:
        url: The file.
        root: The folder that paths in it start from.
        max_bytes: Of the file of an image.
        counts: Gets every row; one that is no question is counted with its reason.

    Raises:
        UserMistake: The file cannot be read, or has no column that could be a question.
    """
    name, known = posixpath.basename(url), set[str]()
    rows_of: dict[Image, list[tuple[Row, str]]] = {}
    for number, row in _with_images(_rows(url), name):
        where = f"{name}:{number}"
        if isinstance(row, Failure):
            counts.leave_out(row.reason, f"{where}: {row.detail}")
            continue
        image = _image_in(row)
        if isinstance(image, Failure):
            counts.leave_out(image.reason, f"{where}: {image.detail}")
        else:
            rows_of.setdefault(image, []).append((row, where))
    for image, rows in rows_of.items():
        file = _read_image(root, image, max_bytes)
        if isinstance(file, Failure):
            for _, where in rows:
                counts.leave_out(file.reason, f"{where}: {file.detail}")
        elif questions := list(_questions(rows, image_id(file), known, counts)):
            yield ImageQuestions(image_id(file), file, tuple(questions))


def _questions(rows: list[tuple[Row, str]], image: str, known: set[str], counts: UseCounts) -> Iterator[Question]:
    for row, where in rows:
        question = parse_row(row, image, where)
        if isinstance(question, Question) and question.question_id in known:
            question = Failure("same_id", f"another row has the id {question.question_id}")
        if isinstance(question, Failure):
            counts.leave_out(question.reason, f"{where}: {question.detail}")
            continue
        known.add(question.question_id)
        counts.used += 1
        yield question


# --- the rows ---------------------------------------------------------------------------------------------------------


def _rows(url: str) -> Iterator[tuple[int, Row | Failure]]:
    """Yield the rows of a file with their numbers, counted from 1.

    Raises:
        UserMistake: The file cannot be read, or no column of it is a question.
    """
    fs, path = open_path(url)
    try:
        with fs.open(path, "rb") as stream:
            yield from _records(stream, url)
    except FileNotFoundError as error:
        raise UserMistake(f"{url}: no such file") from error
    except (pa.ArrowException, UnicodeDecodeError, csv.Error, OSError) as error:
        raise UserMistake(f"{url}: cannot be read ({one_line(error)})") from error


def _records(stream: Any, url: str) -> Iterator[tuple[int, Row | Failure]]:
    if url.endswith(".parquet"):
        file = pq.ParquetFile(stream, pre_buffer=False)
        names = file.schema_arrow.names
        _check_columns(url, names)
        wanted = [name for name in names if any(name in each for each in FIELDS.values()) or len(name) == 1]
        rows = (row for batch in read_batches(file, wanted) for row in batch.to_pylist())
        yield from enumerate(rows, 1)
    elif url.endswith((".csv", ".tsv")):
        yield from enumerate(_csv_rows(stream, url), 1)
    elif url.endswith(".json"):
        yield from _json_list(stream, url)
    else:
        for number, line in enumerate(stream, 1):
            if line.strip():
                yield number, _json_row(line)


def _csv_rows(stream: Any, url: str) -> Iterator[Row]:
    csv.field_size_limit(sys.maxsize)  # an image in base64 is far longer than the usual limit
    text = io.TextIOWrapper(stream, "utf-8-sig", newline="")
    try:
        reader = csv.DictReader(text, delimiter="\t" if url.endswith(".tsv") else ",")
        _check_columns(url, list(reader.fieldnames or ()))
        yield from reader
    finally:
        text.detach()  # whoever opened the stream closes it


def _check_columns(url: str, names: list[str]) -> None:
    missing = [name for name in ("question", "answer", "image") if not any(key in names for key in FIELDS[name])]
    if missing:
        keys = " or ".join(f"'{key}'" for key in FIELDS[missing[0]])
        raise UserMistake(f"{url}: has no column {keys}; it has {', '.join(names)[:200]}")


def _json_list(stream: Any, url: str) -> Iterator[tuple[int, Row | Failure]]:
    try:
        rows = json.load(stream)
    except (ValueError, RecursionError) as error:
        raise UserMistake(
            f"{url}: is not JSON ({one_line(str(error))}); one row a line? then name it .jsonl"
        ) from error
    if not isinstance(rows, list):
        raise UserMistake(f"{url}: is JSON, but not a list of rows")
    for number, row in enumerate(rows, 1):
        yield number, row if isinstance(row, dict) else Failure("not_a_row", f"a {type(row).__name__}, not columns")


def _json_row(line: bytes) -> Row | Failure:
    try:
        row = json.loads(line)
    except (ValueError, RecursionError) as error:
        return Failure("not_json", one_line(str(error), 200))
    return row if isinstance(row, dict) else Failure("not_a_row", f"a {type(row).__name__}, not columns")


# --- the images -------------------------------------------------------------------------------------------------------


def _with_images(rows: Iterator[tuple[int, Row | Failure]], name: str) -> Iterator[tuple[int, Row | Failure]]:
    """Yield the rows of a file; in a TSV file an index that stands for the image of another row is replaced by it."""
    if not name.endswith(".tsv"):
        yield from rows
        return
    by_index: dict[str, str] = {}
    for number, row in rows:
        if isinstance(row, Failure):
            yield number, row
            continue
        cell, index = row.get("image"), str(row.get("index") or "")
        if isinstance(cell, str) and len(cell) > REFERENCE:
            by_index[index] = cell
        elif isinstance(cell, str) and cell in by_index:
            row = {**row, "image": by_index[cell]}
        yield number, row


def _image_in(row: Row) -> Image | Failure:
    """Return the image of a row: a path, or its bytes."""
    value = field(row, "image")
    several = value if isinstance(value, list) else [value]
    if len(several) > 1:
        return Failure("several_images", f"it names {len(several)} images; a question has one")
    held = several[0].get("bytes") or several[0].get("path") if isinstance(several[0], dict) else several[0]
    if isinstance(held, bytes):
        return held
    if not isinstance(held, str) or not held.strip():
        return Failure("no_image", "it names no image")
    if len(held) > REFERENCE and BASE64.fullmatch(held):
        return base64.b64decode(held + "=" * (-len(held) % 4))
    return held


def _read_image(root: str, image: Image, max_bytes: int) -> bytes | Failure:
    """Return the bytes of an image, whose path is below a folder; links inside it are the user's own."""
    if isinstance(image, bytes):
        too_large = len(image) > max_bytes
        return Failure("too_many_bytes", f"more than {max_bytes:,} bytes") if too_large else image
    fs, folder = open_path(root)
    path = PurePosixPath(image)
    is_outside = path.is_absolute() and not path.is_relative_to(folder)
    if "://" in image or ".." in path.parts or is_outside:
        return Failure("path_outside", f"{image!r:.200} is not a path below {root}")
    place = posixpath.join(folder, image)
    try:
        if not fs.isfile(place):
            return Failure("no_image", f"{image!r:.200}: no such file")
        if fs.size(place) > max_bytes:
            return Failure("too_many_bytes", f"{image!r:.200}: more than {max_bytes:,} bytes")
        return bytes(fs.cat_file(place))
    except (OSError, ValueError) as error:  # ValueError: a zero byte in the name
        return Failure("no_image", f"{image!r:.200}: cannot be read ({one_line(error)})")
