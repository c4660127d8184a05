"""Benchmark sets as users have them: folders of images, Parquet files, TSV files of VLMEvalKit, and output folders.

A set yields images, not decoded, and questions, each with the name of its row or file, for reports. The rows
of tables are read by `benchmark_tables`.
"""

import hashlib
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from synthgen.config.source import SourceConfig
from synthgen.errors import Failure, Mistakes, SynthError, UserMistake, one_line
from synthgen.ingest.benchmark_tables import TABLES, BenchmarkItem, Columns, check_table, table_items
from synthgen.store import Folder, RunFolder
from synthgen.store.folder import open_path
from synthgen.store.opening import reach
from synthgen.store.patterns import expand_home, files_at, split_pattern
from synthgen.store.run_folder import MIXTURE
from synthgen.tables import TAG

SUFFIXES = SourceConfig().suffixes


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
                    check_table(sets[-1].fs, path, columns)
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
        if path.lower().endswith(TABLES):
            yield from table_items(benchmark.fs, path, columns)
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
        if MIXTURE in run.record:
            raise UserMistake(f"{url}: is a mixture, which has no tagged images; name the folders that it is of")
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


def _version(fs: Any, root: str, file: str) -> str:
    try:
        known = fs.info(file)
    except OSError:  # a link to nowhere; reading it says so
        known = {}
    marks = (known.get(key) for key in ("size", "ETag", "etag", "mtime", "LastModified"))
    return " ".join([file.removeprefix(root), *(str(mark) for mark in marks if mark is not None)])


def _digest(parts: Sequence[str]) -> str:
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:32]
