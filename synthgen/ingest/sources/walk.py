"""The files at a location, as a stream in one fixed order, with no more than a page or a folder in memory.

S3 is listed page by page (1,000 keys), local disks and other stores folder by folder, the names of a folder sorted. The
order is that of S3: by the bytes of the path, "/" among them. So the same tree has the same order everywhere. What is
passed over is counted, except for files that the glob does not match: the user left those out.
"""

import logging
import os
import stat
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from synthgen.errors import listed
from synthgen.ingest.sources.location import Location, local_version, version_of
from synthgen.ingest.sources.objects import LeftOut
from synthgen.store.patterns import WILDCARD, glob_regex, named_in_braces, without_braces
from synthgen.store.remote import with_retries

log = logging.getLogger(__name__)
HIDDEN_FILE, HIDDEN_FOLDER = LeftOut("hidden file"), LeftOut("hidden folder")  # their names begin with a dot
NAMED = 5  # files, in a warning
PAGE = 1000  # keys; S3 gives no more at once


@dataclass(frozen=True)
class FileEntry:
    """A file or object."""

    path: str
    size: int | None  # bytes
    version: str


@dataclass(frozen=True)
class _Entry:
    """An entry of a folder."""

    name: str
    file: FileEntry | LeftOut | None  # None: a folder


def walk(location: Location, fs: Any) -> Iterator[FileEntry | LeftOut]:
    """Yield every file at the location, and what is no file; `fs` is None for local disks."""
    matches = glob_regex(location.pattern).match if location.pattern else None
    missing = named_in_braces(location.pattern or "")
    for file in _all_files(location, fs):
        if isinstance(file, LeftOut):
            yield file
            continue
        relative = file.path[len(location.root) :].lstrip("/")
        if any(part.startswith(".") for part in relative.split("/")):
            yield HIDDEN_FILE
        elif matches is None or matches(relative):
            missing.discard(relative)
            yield file
    if missing:
        log.warning("%s: not there: %s", location.uri, listed(sorted(missing), NAMED))
        yield LeftOut("file that braces name and that is not there", len(missing))


def can_hold_matches(pattern: str | None, name: str, depth: int) -> bool:
    """Return whether a folder can hold matches, which spares a walk through trees that the glob excludes.

    Args:
        pattern: The glob, relative to the location's root; None for all files.
        name: The name of the folder.
        depth: The number of folders between the root and this one.
    """
    if name.startswith("."):
        return False
    parts = pattern.split("/") if pattern else ["**"]
    if "**" in parts[: depth + 1]:
        return True
    return depth < len(parts) - 1 and fnmatchcase(name, without_braces(parts[depth]))


def _all_files(location: Location, fs: Any) -> Iterator[FileEntry | LeftOut]:
    if location.protocol == "s3":
        return _s3_files(fs, location)
    if location.protocol == "file":
        if Path(location.root).is_file():
            status = Path(location.root).stat()
            return iter([FileEntry(location.root, status.st_size, local_version(status))])
        return _walk_folders(location, _local_entries)
    info = with_retries(lambda: fs.info(location.root))
    if info["type"] == "file":
        return iter([FileEntry(location.root, info.get("size"), version_of(info))])
    return _walk_folders(location, lambda folder: _store_entries(fs, folder))


def _s3_files(fs: Any, location: Location) -> Iterator[FileEntry]:
    """Yield the object of exactly that name, if there is one, then all objects below it, page by page."""
    bucket, _, key = location.root.partition("/")
    if key and not location.pattern:
        for item in _s3_page(fs, bucket, {"Prefix": key, "MaxKeys": 1}).get("Contents", []):
            if item["Key"] == key:  # the shortest key with this prefix comes first
                yield _s3_file(bucket, item)
    literal = WILDCARD.split(location.pattern or "", maxsplit=1)[0]
    query: dict[str, Any] = {"Prefix": f"{key}/{literal}" if key else literal, "MaxKeys": PAGE}
    while True:
        page = _s3_page(fs, bucket, query)
        yield from (_s3_file(bucket, item) for item in page.get("Contents", []) if not item["Key"].endswith("/"))
        if not page.get("IsTruncated"):
            return
        query["ContinuationToken"] = page["NextContinuationToken"]


def _s3_page(fs: Any, bucket: str, query: dict[str, Any]) -> dict[str, Any]:
    page: dict[str, Any] = with_retries(lambda: fs.call_s3("list_objects_v2", Bucket=bucket, **query))
    return page


def _s3_file(bucket: str, item: dict[str, Any]) -> FileEntry:
    return FileEntry(f"{bucket}/{item['Key']}", item["Size"], version_of(item))


def _walk_folders(location: Location, list_folder: Callable[[str], Iterator[_Entry]]) -> Iterator[FileEntry | LeftOut]:
    """Walk depth first through sorted entries, with a stack: a hostile tree may be deeper than Python recurses."""
    stack = [(location.root, list_folder(location.root))]
    while stack:
        folder, entries = stack[-1]
        entry = next(entries, None)
        if entry is None:
            stack.pop()
        elif entry.file is not None:
            yield entry.file
        elif can_hold_matches(location.pattern, entry.name, depth=len(stack) - 1):
            below = f"{folder.rstrip('/')}/{entry.name}"
            stack.append((below, list_folder(below)))
        elif entry.name.startswith("."):
            yield HIDDEN_FOLDER


def _local_entries(folder: str) -> Iterator[_Entry]:
    """Yield the files and folders of a folder in order.

    Links to files are followed; links to folders, which may form a circle, are not. Pipes and devices are skipped. Only
    names are held, about 80 bytes each; each file is looked up when its turn comes.
    """
    names: list[bytes] = []
    try:
        with os.scandir(folder) as scan:
            for item in scan:
                names.append(os.fsencode(item.name) + (b"/" if item.is_dir(follow_symlinks=False) else b""))
    except OSError as error:
        log.warning("cannot list %s, skipped: %s", folder, error.strerror)
        yield _Entry("", LeftOut("folder that cannot be listed"))
    names.sort()
    for encoded in names:
        name = os.fsdecode(encoded.rstrip(b"/"))
        if encoded.endswith(b"/"):
            yield _Entry(name, None)
        else:
            yield _Entry(name, _local_file(f"{folder.rstrip('/')}/{name}"))


def _local_file(path: str) -> FileEntry | LeftOut:
    try:
        status = Path(path).stat()
    except OSError:
        return LeftOut("broken link, or deleted meanwhile")
    if stat.S_ISREG(status.st_mode):
        return FileEntry(path, status.st_size, local_version(status))
    return LeftOut("link to a folder" if stat.S_ISDIR(status.st_mode) else "pipe, socket or device")


def _store_entries(fs: Any, folder: str) -> Iterator[_Entry]:
    entries = []
    for info in with_retries(lambda: fs.ls(folder, detail=True)):
        path = str(info["name"]).rstrip("/")
        if path != folder:
            is_folder = info["type"] == "directory"
            file = None if is_folder else FileEntry(path, info.get("size"), version_of(info))
            entries.append(_Entry(path.rpartition("/")[2], file))
    return iter(sorted(entries, key=_sort_key))


def _sort_key(entry: _Entry) -> bytes:
    """Return the bytes by which S3 would sort the entry: a folder's name with its slash."""
    return os.fsencode(entry.name) + (b"/" if entry.file is None else b"")
