"""Benchmark sets as users have them: folders of images, Parquet files, TSV files of VLMEvalKit, and output folders.

A set yields images, not decoded, and questions, each with the name of its row or file, for reports. In a TSV file the
column `image` holds base64, or the index of another row with the same image.
"""

import base64
import hashlib
import re
from collections import Counter
from collections.abc import Iterator, Sequence
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
from synthgen.store.parquet import read_batches
from synthgen.store.patterns import expand_home, files_at, split_pattern
from synthgen.tables import TAG

TABLES = (".tsv", ".parquet")
SUFFIXES = SourceConfig().suffixes
ROWS = 256  # of a TSV file, read at once
REFERENCE = 64  # characters of base64, up to which a cell is the index of another row
BASE64 = re.compile(r"[A-Za-z0-9+/]{65,}={0,2}")


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
        name: The last part of its path, without a suffix.
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


def open_benchmark_sets(setting: str, named: Sequence[str], home: Path) -> tuple[BenchmarkSet, ...]:
    """Return the benchmark sets that a setting names.

    Raises:
        Mistakes: Some cannot be reached or hold nothing that can be compared, or two have one name.
    """
    sets, faults = list[BenchmarkSet](), list[str]()
    for url in named:
        try:
            sets.append(_open(url, home))
        except SynthError as error:
            faults.append(f"{setting}: {error}")
    counted = Counter(one.name for one in sets)
    doubled = [name for name, count in counted.items() if count > 1]
    faults += [f"{setting}: two sets are called {name}, by which the report names them; rename one" for name in doubled]
    if faults:
        raise Mistakes(faults)
    return tuple(sets)


def read_items(
    benchmark: BenchmarkSet, images: Sequence[str], questions: Sequence[str], max_bytes: int
) -> Iterator[BenchmarkItem]:
    """Yield the images and questions of a set that is no output folder.

    Args:
        benchmark: The set.
        images: The columns of tables that may hold images; those that a file has are read.
        questions: The columns that may hold questions.
        max_bytes: Of an image file.

    Raises:
        UserMistake: A table cannot be read, or has none of these columns.
    """
    for path in benchmark.files:
        name = path.rpartition("/")[2]
        if path.endswith(".tsv"):
            yield from _tsv_items(benchmark.fs, path, images, questions)
        elif path.endswith(".parquet"):
            yield from _parquet_items(benchmark.fs, path, images, questions)
        elif benchmark.fs.size(path) > max_bytes:
            yield BenchmarkItem(name, Failure("too_many_bytes", f"more than {max_bytes:,} bytes"))
        else:
            yield BenchmarkItem(name, benchmark.fs.cat_file(path))


def _open(url: str, home: Path) -> BenchmarkSet:
    place = url if "://" in url else str((home / expand_home(url)).absolute())
    name = re.sub(r"[^\w.-]", "_", re.sub(r"\.(tsv|parquet)$", "", place.rstrip("/").rpartition("/")[2]))
    reach(split_pattern(place, lambda _: False)[0] if "://" in place else place)
    fs, path = open_path(place)
    root, pattern = split_pattern(path, fs.exists)
    if pattern is None and not fs.isfile(root) and (run := RunFolder(Folder(place))).record is not None:
        log = run.log(TAG)
        if not log.partitions:
            raise UserMistake(f"{url}: has no tagged images yet; finish it with `synth run --out {url} --until tag`")
        return BenchmarkSet(name, place, _digest(sorted(log.digests(TAG, log.partitions).values())), fs, (), run)
    files = files_at(fs, root, pattern, "") if pattern is not None or fs.exists(root) else []
    files = [file for file in files if file.lower().endswith((*TABLES, *SUFFIXES))]
    if not files:
        raise UserMistake(f"{url}: holds no images, TSV or Parquet files; give a benchmark set, or an output folder")
    return BenchmarkSet(name, place, _digest([_version(fs, root, file) for file in files]), fs, tuple(files))


def _version(fs: Any, root: str, file: str) -> str:
    known = fs.info(file)
    marks = (known.get(key) for key in ("size", "ETag", "etag", "mtime", "LastModified"))
    return " ".join([file.removeprefix(root), *(str(mark) for mark in marks if mark is not None)])


def _digest(parts: Sequence[str]) -> str:
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:32]


def _tsv_items(fs: Any, path: str, images: Sequence[str], questions: Sequence[str]) -> Iterator[BenchmarkItem]:
    with fs.open(path) as file:
        try:
            parts = pd.read_csv(file, sep="\t", dtype=str, keep_default_na=False, chunksize=ROWS)
            for part in parts:
                columns = _columns(path, list(part.columns), images, questions)
                for row in part.to_dict("records"):
                    name = f"{path.rpartition('/')[2]}:{row.get('index', '')}"
                    yield from (
                        BenchmarkItem(name, _decoded(text))
                        for column in columns[0]
                        for text in (BASE64.findall(row[column]) if len(row[column]) > REFERENCE else ())
                    )
                    yield from (BenchmarkItem(name, question=row[column]) for column in columns[1] if row[column])
        except (pd.errors.ParserError, pd.errors.EmptyDataError, UnicodeDecodeError) as error:
            raise UserMistake(f"{path}: is not a TSV file ({one_line(str(error))})") from error


def _decoded(text: str) -> bytes | Failure:
    try:
        return base64.b64decode(text + "=" * (-len(text) % 4))
    except ValueError as error:
        return Failure("corrupt", f"is not base64: {error}")


def _parquet_items(fs: Any, path: str, images: Sequence[str], questions: Sequence[str]) -> Iterator[BenchmarkItem]:
    with fs.open(path) as raw:
        try:
            file = pq.ParquetFile(raw, pre_buffer=False)
            columns = _columns(path, file.schema_arrow.names, images, questions)
            row = 0
            for batch in read_batches(file, [*columns[0], *columns[1]]):
                for cells in batch.to_pylist():
                    name = f"{path.rpartition('/')[2]}:{row}"
                    files = [file for column in columns[0] for file in _files_in(cells[column])]
                    yield from (BenchmarkItem(name, file) for file in files)
                    texts = (cells[column] for column in columns[1])
                    yield from (BenchmarkItem(name, question=text) for text in texts if isinstance(text, str) and text)
                    row += 1
        except (pa.ArrowException, OSError) as error:
            raise UserMistake(f"{path}: cannot be read as Parquet ({one_line(str(error))})") from error


def _files_in(cell: Any) -> Iterator[bytes]:
    """Yield the files in a cell: bytes, the datasets library's struct of bytes and path, or a list of either."""
    if isinstance(cell, bytes):
        yield cell
    elif isinstance(cell, dict):
        yield from _files_in(cell.get("bytes"))
    elif isinstance(cell, list):
        for part in cell:
            yield from _files_in(part)


def _columns(
    path: str, known: Sequence[str], images: Sequence[str], questions: Sequence[str]
) -> tuple[list[str], list[str]]:
    found = [name for name in images if name in known], [name for name in questions if name in known]
    if not any(found):
        wanted = ", ".join([*images, *questions])
        raise UserMistake(
            f"{path}: has none of the columns {wanted}; it has {', '.join(known)}; name them in "
            "select.decontaminate.images and select.decontaminate.questions"
        )
    return found
