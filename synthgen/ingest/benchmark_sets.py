"""Benchmark sets as users have them: folders of images, Parquet files, TSV files of VLMEvalKit, and output folders.

A set yields images, not decoded, and questions, each with the name of its row or file, for reports. In a TSV file the
column `image` holds base64, or the index of another row with the same image.
"""

import base64
import hashlib
import re
import warnings
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from synthgen.config.pipeline import SourceConfig
from synthgen.errors import Failure, Mistakes, SynthError, UserMistake, one_line
from synthgen.store import Folder, RunFolder
from synthgen.store.folder import open_path
from synthgen.store.opening import reach
from synthgen.store.parquet import check_columns_differ, read_batches
from synthgen.store.patterns import expand_home, files_at, split_pattern
from synthgen.tables import TAG

TABLES = (".tsv", ".parquet")
SUFFIXES = SourceConfig().suffixes
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


@dataclass(frozen=True)
class BenchmarkSet:
    """A benchmark set that was found; its files are not opened yet.

    Attributes:
        name: The last part of its path, without a suffix; of a pattern with the folder before it.
        digest: Of its files' names, sizes and versions.
        fs: The fsspec filesystem.
        files: Paths on it.
        run: The output folder, where it is one.
    """

    name: str
    url: str
    digest: str
    fs: Any
    files: tuple[str, ...]
    run: RunFolder | None = None


def open_benchmark_sets(setting: str, named: Sequence[str], home: Path, columns: Columns) -> tuple[BenchmarkSet, ...]:
    """Return the benchmark sets that a setting names.

    Args:
        setting: Its name, for messages.
        named: Paths or urls.
        home: The folder that relative paths start from.
        columns: Of tables; each table must have one of them.

    Raises:
        Mistakes: Some cannot be reached or hold nothing that can be compared, or two have one name.
    """
    sets, faults = list[BenchmarkSet](), list[str]()
    for url in named:
        try:
            sets.append(_open(url, home))
            for path in sets[-1].files:
                if path.lower().endswith(TABLES):
                    _columns(path, _header(sets[-1].fs, path), columns)
        except SynthError as error:
            faults.append(f"{setting}: {error}")
    counted = Counter(one.name for one in sets)
    doubled = [name for name, count in counted.items() if count > 1]
    faults += [
        f"{setting}: two sets are called {name}, by which the report names them; rename one, or link to it"
        for name in doubled
    ]
    if faults:
        raise Mistakes(faults)
    return tuple(sets)


def read_items(benchmark: BenchmarkSet, columns: Columns, max_bytes: int) -> Iterator[BenchmarkItem]:
    """Yield the images and questions of a set that is no output folder; of a file of more than `max_bytes` a failure.

    Raises:
        UserMistake: A table cannot be read, or has none of these columns.
    """
    for path in benchmark.files:
        name = path.rpartition("/")[2]
        if _is_tsv(path):
            yield from _tsv_items(benchmark.fs, path, columns)
        elif path.lower().endswith(TABLES):
            yield from _parquet_items(benchmark.fs, path, columns)
        else:
            yield BenchmarkItem(name, _image_file(benchmark.fs, path, max_bytes))


def _image_file(fs: Any, path: str, max_bytes: int) -> bytes | Failure:
    try:
        if fs.size(path) > max_bytes:
            return Failure("too_many_bytes", f"more than {max_bytes:,} bytes")
        data: bytes = fs.cat_file(path)
    except OSError as error:
        return Failure("unreadable", one_line(error))
    return data


def _open(url: str, home: Path) -> BenchmarkSet:
    place = url if "://" in url else str((home / expand_home(url)).absolute())
    reach(split_pattern(place, lambda _: False)[0] if "://" in place else place)
    fs, path = open_path(place)
    root, pattern = split_pattern(path, fs.exists)
    name = _name_of(root, pattern)
    if pattern is None and not fs.isfile(root) and (run := RunFolder(Folder(place))).record is not None:
        log = run.log(TAG)
        if not log.partitions:
            raise UserMistake(f"{url}: has no tagged images yet; finish it with `synth run --out {url} --until tag`")
        return BenchmarkSet(name, place, _digest(sorted(log.digests(TAG, log.partitions).values())), fs, (), run)
    if pattern is None and not fs.exists(root):
        raise UserMistake(f"{url}: is not there; give a benchmark set, or an output folder")
    files = files_at(fs, root, pattern, "")
    files = [file for file in files if file.lower().endswith((*TABLES, *SUFFIXES))]
    if not files:
        raise UserMistake(f"{url}: holds no images, TSV or Parquet files; give a benchmark set, or an output folder")
    return BenchmarkSet(name, place, _digest([_version(fs, root, file) for file in files]), fs, tuple(files))


def _name_of(root: str, pattern: str | None) -> str:
    """Return the name of a set: the last part of its path, and of a pattern the folder that it is in too."""
    last = root.rstrip("/").rpartition("/")[2]
    whole = re.sub(r"(?i)\.(tsv|parquet)$", "", last) if pattern is None else f"{last}/{pattern}"
    return re.sub(r"[^\w.-]", "_", whole)


def _is_tsv(path: str) -> bool:
    return path.lower().endswith(".tsv")


def _version(fs: Any, root: str, file: str) -> str:
    try:
        known = fs.info(file)
    except OSError:  # a link to nowhere; reading it says so
        known = {}
    marks = (known.get(key) for key in ("size", "ETag", "etag", "mtime", "LastModified"))
    return " ".join([file.removeprefix(root), *(str(mark) for mark in marks if mark is not None)])


def _digest(parts: Sequence[str]) -> str:
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:32]


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
