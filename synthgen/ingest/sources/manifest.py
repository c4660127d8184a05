"""A manifest as a source: `manifest:FILE`, whose rows name files or URLs, one column of many.

Its objects are those that a folder, a store or a list of URLs gives, with the same uris and versions, so they are read
as those are. The other columns come along as metadata. A path starts in `source.root` and must stay there; links are
followed to see that. A row that cannot be used is left out, counted by the reason, and a warning names the first ones.
"""

import itertools
import logging
import os
import posixpath
import stat
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

from synthgen.config.source import SourceConfig
from synthgen.errors import UserMistake, one_line
from synthgen.ingest.sources import url_list
from synthgen.ingest.sources.files import SIDECAR_BYTES
from synthgen.ingest.sources.location import (
    PROTOCOL,
    filesystem,
    local_uri,
    local_version,
    spell_out_path,
    split_folder,
    version_of,
)
from synthgen.ingest.sources.manifest_rows import Row, read_rows
from synthgen.ingest.sources.objects import Item, LeftOut, Listed, meta_json, tell_unreadable, unreadable_meta
from synthgen.ingest.sources.pages import with_pages
from synthgen.store.patterns import expand_home
from synthgen.store.records import is_text
from synthgen.store.remote import display_uri, store_errors, with_retries

SCHEME = "manifest"
USUAL = ("path", "file_name", "filename", "file", "image_path", "uri", "url", "image")  # names of columns of paths
AT_ONCE = 32  # files that are looked up
BATCH = 1024  # rows
FOLDERS = 4096  # whose links are remembered
NAMED = 5  # rows, in a warning
MISSING = "names no file that is there"
NO_FILE = "names a folder, pipe or device"
NO_TEXT = "names a path that is not UTF-8 text"
log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Root:
    """The place that the paths of a manifest start from and must not leave."""

    protocol: str
    path: str
    fs: Any  # of a store; None for local disks
    real: Callable[[str], str]  # returns a folder with its links followed

    @property
    def outside(self) -> str:
        """What is wrong with a path that leaves it."""
        shown = self.path if self.protocol == "file" else f"{self.protocol}://{self.path}"
        return f"names a path outside of {shown}; source.root may name another folder or prefix"


@dataclass
class _LeftOut:
    """The rows of one listing that are left out."""

    counts: Counter[str] = field(default_factory=Counter)
    first: dict[str, list[int]] = field(default_factory=dict)  # fault -> numbers of rows

    def add(self, number: int, fault: str) -> LeftOut:
        self.counts[fault] += 1
        numbers = self.first.setdefault(fault, [])
        if len(numbers) < NAMED:
            numbers.append(number)
        return LeftOut(f"row that {fault.partition(';')[0]}")

    def lines(self, uri: str) -> Iterator[str]:
        """Yield a line about each fault."""
        for fault, numbers in self.first.items():
            more = self.counts[fault] - len(numbers)
            named = ", ".join(map(str, numbers)) + (f" and {more:,} more" if more else "")
            yield f"{uri}: left out row {named}: {fault}"


def list_manifest(source: SourceConfig) -> Iterator[Item]:
    """Return what the rows of the manifest name; raise UserMistake at once if it cannot be used."""
    uri = (source.uri or "").removeprefix(f"{SCHEME}:")
    protocol, path = split_folder(uri)
    if not uri or (protocol == "file" and not expand_home(path).is_file()):
        raise UserMistake(f"{source.uri}: no such file; write {SCHEME}:FILE, a CSV, TSV, JSON lines or Parquet file")
    place = spell_out_path(uri, Path.cwd())
    root = open_root(root_of_manifest(source))
    return tell_unreadable(with_pages(_listed(place, root, source), root.fs, source))


def root_of_manifest(source: SourceConfig) -> str:
    """Return the place that the paths of a manifest start from."""
    place = spell_out_path((source.uri or "").removeprefix(f"{SCHEME}:"), Path.cwd())
    return spell_out_path(source.root, Path.cwd()) if source.root else place.rpartition("/")[0] or "/"


def open_root(place: str) -> Root:
    """Return a folder or prefix as the place that paths start from."""
    protocol, path = split_folder(place)
    fs = None if protocol == "file" else filesystem(protocol)
    return Root(protocol, path or "/", fs, lru_cache(FOLDERS)(os.path.realpath))


def find_file(root: Root, place: str) -> Listed | str:
    """Return the file that a path names, as a listing has it, or what is wrong with the path."""
    return _local_file(root, place) if root.protocol == "file" else _stored_file(root, place)


def _listed(uri: str, root: Root, source: SourceConfig) -> Iterator[Item]:
    left_out, count = _LeftOut(), 0
    with store_errors(display_uri(uri), "listing"), ThreadPoolExecutor(AT_ONCE) as pool:
        wanted = tuple(filter(None, (source.path_column, *source.meta_columns)))
        rows = read_rows(uri, wanted)
        column, rows = _path_column(uri, rows, source)
        while batch := list(itertools.islice(rows, BATCH)):
            found = pool.map(partial(_look_up, root, column, source), batch)
            for row, listed in zip(batch, found, strict=True):
                count += isinstance(listed, Listed)
                yield listed if isinstance(listed, Listed) else left_out.add(row.number, listed)
    warnings = list(left_out.lines(display_uri(uri)))
    if not count:
        raise UserMistake(f"{warnings[0] if warnings else f'{display_uri(uri)}: has no row'}; no row is left")
    for warning in warnings:
        log.warning("%s", warning)


def _path_column(uri: str, rows: Iterator[Row], source: SourceConfig) -> tuple[str, Iterator[Row]]:
    """Return the column of the paths, and all rows: those that were read to find it come first.

    Raises:
        UserMistake: None is named, and the first row that can be read has none of the usual ones.
    """
    if source.path_column:
        return source.path_column, rows
    read: list[Row] = []
    for row in rows:
        read.append(row)
        if row.values is not None or len(read) == BATCH:
            break
    names: Sequence[str] = list((read[-1].values if read else None) or ())
    column = next((name for name in USUAL if name in names), None)
    if names and column is None:
        known = ", ".join(map(repr, names[:20]))
        raise UserMistake(f"{display_uri(uri)}: name its column of paths or URLs in source.path_column; it has {known}")
    return column or USUAL[0], itertools.chain(read, rows)


def _look_up(root: Root, column: str, source: SourceConfig, row: Row) -> Listed | str:
    """Return the object that a row names, or why there is none."""
    if row.values is None:
        return row.fault
    place = row.values.get(column)
    if not isinstance(place, str) or not place.strip():
        return f"has no path in the column '{column}'"
    meta = _meta(row.values, column, source.meta_columns, f"row {row.number}")
    if place.partition("://")[0].strip().lower() in url_list.SCHEMES_OF_URLS:
        return _url(place.strip(), source, meta)
    found = find_file(root, place)
    return found if isinstance(found, str) else Listed(found.uri, found.version, None, found.bytes, meta)


def _meta(values: Mapping[str, Any], column: str, chosen: Sequence[str], place: str) -> str | None:
    """Return the other columns, or the chosen ones, as JSON; the reason, as JSON, if they cannot be kept."""
    names = chosen or [name for name in values if name != column]
    if not names:
        return None
    try:
        text = meta_json({name: values.get(name) for name in names})
        if len(text) > SIDECAR_BYTES:
            raise ValueError(f"more than {SIDECAR_BYTES:,} characters")
    except (ValueError, RecursionError) as error:
        return unreadable_meta(f"{place}: {one_line(error)}")
    return text


def _url(url: str, source: SourceConfig, meta: str | None) -> Listed | str:
    if not source.hosts:
        raise UserMistake(
            f"{source.uri}: names URLs, and source.hosts is empty; name the hosts that may be fetched from"
        )
    if fault := url_list.url_fault(url.encode("utf-8", "surrogateescape") if is_text(url) else b"\xff"):
        return fault
    scheme, _, rest = url.partition(":")
    return Listed(f"{scheme.lower()}:{rest}", url_list.VERSION, None, None, meta)


def _local_file(root: Root, place: str) -> Listed | str:
    protocol, typed = split_folder(place) if PROTOCOL.match(place) else ("file", place)
    if protocol != "file":
        return root.outside
    path = os.path.normpath(os.path.join(root.path, typed))  # noqa: PTH118 - paths are text here
    try:
        if not _is_below(root.real(path.rpartition("/")[0] or "/"), root.real(root.path)):
            return root.outside
        status = os.stat(path)  # noqa: PTH116
        uri = local_uri(path)
    except (OSError, ValueError):
        return MISSING
    if not stat.S_ISREG(status.st_mode):
        return NO_FILE
    return Listed(uri, local_version(status), None, status.st_size)


def _stored_file(root: Root, place: str) -> Listed | str:
    protocol, path = split_folder(place) if PROTOCOL.match(place) else (root.protocol, f"{root.path}/{place}")
    if not is_text(place):
        return NO_TEXT
    if {".", ".."} & set(path.split("/")):
        path = posixpath.normpath(path)
    if protocol != root.protocol or not _is_below(path, root.path):
        return root.outside
    try:
        info = with_retries(lambda: root.fs.info(path))
    except FileNotFoundError:
        return MISSING
    if info["type"] != "file":
        return NO_FILE
    return Listed(f"{protocol}://{path}", version_of(info), None, info.get("size"))


def _is_below(path: str, folder: str) -> bool:
    return f"{path}/".startswith(f"{folder.rstrip('/')}/")
