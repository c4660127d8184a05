"""Locations that users type, as a filesystem and a path on it, and the uris that identify objects for good.

Local uris are absolute paths. A name that is not UTF-8 becomes a file:// uri with percent signs, because tables hold
text.
"""

import os
import re
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, BinaryIO
from urllib.parse import quote, unquote_to_bytes

import fsspec

from synthgen.errors import UserMistake
from synthgen.store.patterns import expand_home, glob_regex, split_pattern
from synthgen.store.remote import PermanentError, display_uri, missing_package, path_errors
from synthgen.tables import archive_of

STORES = ("s3", "gs", "az", "hf")  # object stores; a local path needs no protocol
SAME = {"s3a": "s3", "gcs": "gs", "abfs": "az", "abfss": "az"}  # other names of a store
TAR, PDF = ".tar", ".pdf"
PROTOCOL = re.compile(r"[a-z][a-z0-9+.-]*://")
SCHEME = re.compile(r"([a-z][a-z0-9_+.-]*):")
USAGE = "give a folder, a glob, a Parquet file, a tar, s3://…, gs://…, az://… or hf://datasets/…"


@dataclass(frozen=True)
class Location:
    """A location to list: all files at or below `root`, or those below it that match `pattern`."""

    uri: str  # as the user typed it, without secrets
    protocol: str  # "file" or one of STORES
    root: str  # the filesystem's path; without a slash at its end, except for "/" itself
    pattern: str | None = None  # relative to root

    @property
    def is_parquet(self) -> bool:
        """Whether the user named Parquet files explicitly."""
        return (self.pattern or self.root).lower().endswith(".parquet")

    def object_uri(self, path: str) -> str:
        """Return the uri of an object on this filesystem."""
        return local_uri(path) if self.protocol == "file" else f"{self.protocol}://{path}"


def parse_location(uri: str | None) -> Location:
    """Return the location that the user typed; raise UserMistake if it is wrong. No store is asked."""
    if not uri:
        raise UserMistake(f"no source of images: {USAGE}")
    is_store = PROTOCOL.match(uri) and not uri.startswith("file://")
    location = _store_location(uri) if is_store else _local_location(uri)
    try:
        glob_regex(location.pattern or "")
    except ValueError as error:
        raise UserMistake(f"{location.uri}: is not a glob: {error}") from error
    return location


def literal_first(location: Location, fs: Any) -> Location:
    """Return a location in a store with what exists there taken literally; the store is asked about wildcards only."""
    if location.pattern is None or fs is None:
        return location
    root, pattern = split_pattern(f"{location.root}/{location.pattern}", fs.exists)
    return replace(location, root=root, pattern=pattern)


def filesystem(protocol: str) -> Any:
    """Return the store's filesystem; credentials and endpoint come from its environment variables."""
    try:
        return fsspec.filesystem(protocol, use_listings_cache=False)
    except ImportError as error:
        raise missing_package(protocol) from error


def split_uri(uri: str) -> tuple[str, str]:
    """Return protocol and path of an object's uri."""
    if uri.startswith("file://"):
        return "file", os.fsdecode(unquote_to_bytes(uri.removeprefix("file://")))
    protocol, separator, path = uri.partition("://")
    return (protocol, path) if separator and protocol in STORES else ("file", uri)


def split_folder(url: str) -> tuple[str, str]:
    """Return protocol and path of a folder, spelled as in a Location."""
    if not PROTOCOL.match(url) or url.startswith("file://"):
        return split_uri(url)
    protocol, _, rest = url.partition("://")
    return SAME.get(protocol, protocol), rest.strip("/")


def local_uri(path: str) -> str:
    """Return an absolute path as it is, or percent-encoded if it is not text."""
    try:
        path.encode("utf-8")
    except UnicodeEncodeError:
        return Path(path).as_uri()
    return path


def member_uri(uri: str, name: str) -> str:
    """Return the uri of a member of an archive: that of the archive, and the name, quoted, as it may hold anything."""
    return f"{uri}#{quote(os.fsencode(name))}"


def page_uri(uri: str, number: int) -> str:
    """Return the uri of a page of a PDF, as browsers know it."""
    return f"{uri}#page={number}"


def member_version(version: str, offset: int) -> str:
    """Return the version of a member: that of the archive, and where the member begins in it, or the page."""
    return f"{version}@{offset}"


def split_member(uri: str, version: str) -> tuple[str, str, int] | None:
    """Return the uri of an archive, the quoted name of its member and its place there; None if it is no member."""
    archive, offset = archive_of(uri), version.rpartition("@")[2]
    is_member = archive != uri and offset != version and offset.isdecimal()
    return (archive, uri[len(archive) + 1 :], int(offset)) if is_member else None


def scheme_of(uri: str) -> str:
    """Return what stands before the colon of a uri; empty for a path."""
    match = SCHEME.match(uri)
    return match[1] if match else ""


def spell_out_path(path: str, home: Path) -> str:
    """Return a path or URL from the root, without a slash at its end; a relative one starts in `home`."""
    if protocol := PROTOCOL.match(path):
        rest = path[protocol.end() :]
        return f"{protocol[0]}{rest.rstrip('/') or rest[:1]}"
    return os.path.normpath(home / expand_home(path)) if path else path


def spell_out_location(uri: str, home: Path) -> str:
    """Return a location from the root. Where a scheme is not known, and no such file is there, it stays as it is.

    It can be that of a package that was installed when the uri was spelled out.
    """
    whole = spell_out_path(uri, home)
    is_there = os.path.exists(split_pattern(whole, os.path.exists)[0] or "/")  # noqa: PTH110 - this one takes any text
    return whole if is_there or not scheme_of(uri) or PROTOCOL.match(uri) else uri


def shown_file(uri: str, root: str) -> str:
    """Return the path of a local file below `root`, or else its name; the uri of a store unchanged."""
    archive = archive_of(uri)
    uri, after = archive, uri[len(archive) :]
    protocol, path = split_uri(uri)
    if protocol != "file":
        return f"{uri}{after}"
    above = f"{root.rstrip('/')}/"
    is_below = root and path.startswith(above)
    inside = path.removeprefix(above) if is_below else path.rpartition("/")[2]
    return (quote(os.fsencode(inside)) if uri.startswith("file://") else inside) + after


def open_regular(path: str) -> BinaryIO:
    """Open a local file to read. Without O_NONBLOCK, a pipe that replaced the file would block for ever."""
    file = open(os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC), "rb")  # noqa: PTH123, SIM115
    if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
        file.close()
        raise PermanentError("not a regular file")
    return file


@contextmanager
def open_versioned(uri: str, fs: Any, block: int) -> Iterator[tuple[Any, str]]:
    """Give the open file and its present version.

    Args:
        uri: The file.
        fs: Its filesystem; None for a local file.
        block: The bytes of a request to a store.
    """
    path = split_uri(uri)[1]
    if fs is None:
        with open_regular(path) as raw:
            yield raw, local_version(os.fstat(raw.fileno()))
    else:
        with fs.open(path, "rb", block_size=block) as raw:
            yield raw, version_of(raw.details)


def version_of(info: dict[str, Any]) -> str:
    """Return a text that changes when an object changes: its etag, or its content on the hub, else size and time."""
    if etag := next((info[key] for key in ("ETag", "etag", "blob_id", "xet_hash") if info.get(key)), None):
        return str(etag).strip('"')
    modified = next((info[key] for key in ("mtime", "LastModified", "updated", "created") if info.get(key)), "")
    return f"{info.get('size', '')}-{modified}"


def local_version(status: os.stat_result) -> str:
    """Return size and modification time of a local file."""
    return f"{status.st_size}-{status.st_mtime_ns}"


def _store_location(uri: str) -> Location:
    protocol, path = split_folder(uri)
    if protocol not in STORES:
        raise UserMistake(f"{display_uri(uri)}: {protocol}:// is not a source of images; {USAGE}")
    root, pattern = split_pattern(path, lambda _: False)
    if not root:
        raise UserMistake(f"{display_uri(uri)}: names no bucket; write {protocol}://bucket/prefix")
    return Location(display_uri(uri), protocol, root, pattern)


def _local_location(uri: str) -> Location:
    typed = split_uri(uri)[1]
    with path_errors(typed):
        # Links stay: the user's name for a folder is its identity.
        path = os.path.abspath(expand_home(typed))  # noqa: PTH100
        root, pattern = (path, None) if Path(path).exists() else split_pattern(path, os.path.exists)
        if not Path(root or "/").exists():
            raise UserMistake(f"{typed}: no such file or folder")
    return Location(typed, "file", root or "/", pattern)
