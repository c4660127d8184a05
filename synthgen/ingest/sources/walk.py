"""What lies at a place, as a stream of files in one fixed order, with no more than a page or one folder in memory.

Comes in: a Place. Goes out: `Found`, each a file that is not hidden and that the glob, if there is one, matches. S3 is
asked page by page (1,000 keys); local disks and other stores folder by folder, a folder's names sorted. The order is that
of S3, by the bytes of the path with "/" among them, so the same tree has the same order everywhere.
"""

import contextlib
import logging
import os
import re
import stat
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from fsspec.utils import glob_translate

from synthgen.ingest.sources.location import Location, local_version, version_of
from synthgen.store.remote import patiently

log = logging.getLogger(__name__)
PAGE = 1000  # keys; S3 gives no more at once


@dataclass(frozen=True)
class FileEntry:
    """A file or object."""

    path: str
    size: int | None
    version: str


@dataclass(frozen=True)
class _Entry:
    name: str
    found: FileEntry | None  # None: a folder


def walk(place: Location, fs: Any) -> Iterator[FileEntry]:
    """Every file at the place; `fs` is None for local disks."""
    matches = re.compile(glob_translate(place.pattern)).match if place.pattern else None
    for found in _everything(place, fs):
        inside = found.path[len(place.root) :].lstrip("/")
        is_hidden = any(part.startswith(".") for part in inside.split("/"))
        if not is_hidden and (matches is None or matches(inside)):
            yield found


def _everything(place: Location, fs: Any) -> Iterator[FileEntry]:
    if place.protocol == "s3":
        return _s3_pages(fs, place)
    if place.protocol == "file":
        if Path(place.root).is_file():
            status = Path(place.root).stat()
            return iter([FileEntry(place.root, status.st_size, local_version(status))])
        return _folders(place, _local_entries)
    info = patiently(lambda: fs.info(place.root))
    if info["type"] == "file":
        return iter([FileEntry(place.root, info.get("size"), version_of(info))])
    return _folders(place, lambda folder: _store_entries(fs, folder))


def _s3_pages(fs: Any, place: Location) -> Iterator[FileEntry]:
    """The object of exactly that name if there is one, then all below it, page by page."""
    bucket, _, key = place.root.partition("/")
    start = place.pattern.partition("*")[0].partition("?")[0].partition("[")[0] if place.pattern else ""
    if key and not place.pattern:
        for item in _s3_page(fs, bucket, {"Prefix": key, "MaxKeys": 1}).get("Contents", []):
            if item["Key"] == key:  # the shortest key with this prefix comes first
                yield _s3_found(bucket, item)
    query: dict[str, Any] = {"Prefix": f"{key}/{start}" if key else start, "MaxKeys": PAGE}
    while True:
        page = _s3_page(fs, bucket, query)
        yield from (_s3_found(bucket, item) for item in page.get("Contents", []) if not item["Key"].endswith("/"))
        if not page.get("IsTruncated"):
            return
        query["ContinuationToken"] = page["NextContinuationToken"]


def _s3_page(fs: Any, bucket: str, query: dict[str, Any]) -> dict[str, Any]:
    page: dict[str, Any] = patiently(lambda: fs.call_s3("list_objects_v2", Bucket=bucket, **query))
    return page


def _s3_found(bucket: str, item: dict[str, Any]) -> FileEntry:
    return FileEntry(f"{bucket}/{item['Key']}", item["Size"], version_of(item))


def _folders(place: Location, entries: Callable[[str], Iterator[_Entry]]) -> Iterator[FileEntry]:
    """Depth first, each folder's entries sorted; a stack, because a hostile tree may be deeper than Python recurses."""
    stack = [(place.root, entries(place.root))]
    while stack:
        folder, rest = stack[-1]
        entry = next(rest, None)
        if entry is None:
            stack.pop()
        elif entry.found is not None:
            yield entry.found
        elif may_enter(place.pattern, entry.name, depth=len(stack) - 1):
            below = f"{folder.rstrip('/')}/{entry.name}"
            stack.append((below, entries(below)))


def may_enter(pattern: str | None, name: str, depth: int) -> bool:
    """Whether a folder can hold matches; spares a walk through trees that the glob excludes."""
    if name.startswith("."):
        return False
    parts = pattern.split("/") if pattern else ["**"]
    if "**" in parts[: depth + 1]:
        return True
    return depth < len(parts) - 1 and fnmatchcase(name, parts[depth])


def _local_entries(folder: str) -> Iterator[_Entry]:
    """Files (through links too) and folders (not through links, which may form a circle); pipes and devices are neither.

    Only names are held, about 80 bytes each; what they stand for is looked up on the way.
    """
    names: list[bytes] = []
    try:
        with os.scandir(folder) as scan:
            for item in scan:
                names.append(os.fsencode(item.name) + (b"/" if item.is_dir(follow_symlinks=False) else b""))
    except OSError as error:
        log.warning("cannot list %s, left out: %s", folder, error.strerror)
    names.sort()
    for coded in names:
        name = os.fsdecode(coded.rstrip(b"/"))
        if coded.endswith(b"/"):
            yield _Entry(name, None)
        elif found := _local_found(f"{folder.rstrip('/')}/{name}"):
            yield _Entry(name, found)


def _local_found(path: str) -> FileEntry | None:
    with contextlib.suppress(OSError):  # deleted meanwhile, or a link to nothing
        status = Path(path).stat()
        if stat.S_ISREG(status.st_mode):
            return FileEntry(path, status.st_size, local_version(status))
    return None


def _store_entries(fs: Any, folder: str) -> Iterator[_Entry]:
    entries = []
    for info in patiently(lambda: fs.ls(folder, detail=True)):
        path = str(info["name"]).rstrip("/")
        is_folder = info["type"] == "directory"
        if path != folder:
            found = None if is_folder else FileEntry(path, info.get("size"), version_of(info))
            entries.append(_Entry(path.rpartition("/")[2], found))
    return iter(sorted(entries, key=lambda entry: os.fsencode(entry.name) + (b"/" if entry.found is None else b"")))
