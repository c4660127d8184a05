"""The listing of files: a stream of objects, in an order that depends on names alone.

An object is a file whose name ends as those of images do, a row of a Parquet file, a member of a tar, or a page of a
PDF; every other file is counted as left out. A Parquet file without the image column is a UserMistake if the user named
Parquet files. In a folder it may be metadata beside the images, so it is left out, unless nothing else is there.
"""

import itertools
import json
import logging
import os
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from typing import Any

from synthgen.config.source import SourceConfig
from synthgen.errors import UserMistake, one_line
from synthgen.ingest.sources import parquet, tars
from synthgen.ingest.sources.location import (
    TAR,
    Location,
    filesystem,
    literal_first,
    member_uri,
    member_version,
    open_regular,
    parse_location,
    split_folder,
    split_member,
    split_uri,
)
from synthgen.ingest.sources.objects import (
    Item,
    LeftOut,
    Listed,
    left_out_text,
    meta_json,
    tell_unreadable,
    unreadable_meta,
)
from synthgen.ingest.sources.pages import with_pages
from synthgen.ingest.sources.suffixes import has_suffix, suffix_of
from synthgen.ingest.sources.walk import FileEntry, can_hold_matches, walk
from synthgen.store.remote import PermanentError, error_text, store_errors, with_retries

log = logging.getLogger(__name__)
EVERY_FILE = "--set source.suffixes='[\"*\"]'"
SIDECAR_BYTES = 2**20
SIDECARS_AT_ONCE = 16
SIDECAR_BATCH = 256  # objects
LONGEST_NAME = 80  # characters


def list_files(source: SourceConfig) -> Iterator[Item]:
    """Return all images at the source's location, and the files that are left out.

    Raises:
        UserMistake: At once if the uri is wrong, during the iteration if the store has no such place.
    """
    location = parse_location(source.uri)
    fs = None if location.protocol == "file" else filesystem(location.protocol)
    objects = _objects(location, fs, source)
    if source.sidecar:
        objects = _with_sidecars(objects, fs, source.sidecar)
    return tell_unreadable(_explain_errors(location, with_pages(objects, fs, source)))


def is_inside_location(folder: str, source: SourceConfig) -> bool:
    """Return whether a listing of the source looks for files in this folder, given by its path or URL."""
    location, (protocol, path) = parse_location(source.uri), split_folder(folder)
    root = location.root
    if protocol == "file":
        root, path = os.path.realpath(root), os.path.realpath(path)
    if protocol != location.protocol:
        return False
    if location.pattern and f"{path}/".startswith(f"{root}/{location.pattern}/"):
        return True  # in a store, where the pattern can be the name of a folder
    below = f"{root.rstrip('/')}/"
    if not f"{path}/".startswith(below):
        return False
    names = path[len(below) :].split("/")
    return all(can_hold_matches(location.pattern, name, depth) for depth, name in enumerate(names) if name)


def _objects(location: Location, fs: Any, source: SourceConfig) -> Iterator[Item]:
    location, first_mistake = literal_first(location, fs), None
    count, left_out = 0, Counter[str]()
    for file in walk(location, fs):
        try:
            for item in _items(location, fs, file, source):
                if isinstance(item, Listed):
                    count += 1
                else:
                    left_out[item.why] += item.count
                yield item
        except UserMistake as mistake:
            if location.is_parquet:
                raise
            log.warning("%s; left out", mistake)
            first_mistake = first_mistake or mistake
            yield LeftOut("Parquet file without the image column")
    if not count:
        raise first_mistake or _no_images(location, source, left_out)


def _items(location: Location, fs: Any, file: FileEntry | LeftOut, source: SourceConfig) -> Iterator[Item]:
    """Yield what one file is to the listing: an object, one for each row, or left out."""
    if isinstance(file, LeftOut):
        yield file
    elif file.path.lower().endswith(".parquet"):
        yield from _rows(location, fs, file, source)
    elif file.path.lower().endswith(TAR):
        yield from _members(location, fs, file, source)
    elif source.sidecar and file.path.endswith(source.sidecar):
        return  # it is read with the image beside it
    elif has_suffix(file.path, source.suffixes):
        yield Listed(location.object_uri(file.path), file.version, None, file.size, None)
    else:
        yield LeftOut(suffix_of(file.path))


def _no_images(location: Location, source: SourceConfig, left_out: Counter[str]) -> UserMistake:
    if location.is_parquet and not left_out:
        return UserMistake(f"{location.uri}: no row in its Parquet files, so no image")
    looked_for = ", ".join((*(suffix.lower() for suffix in source.suffixes), ".parquet", TAR))
    seen = f"; left out: {left_out_text(left_out)}; {EVERY_FILE} takes every file" if left_out else ""
    return UserMistake(f"0 images under {location.uri}; suffixes looked for: {looked_for}{seen}")


def _rows(location: Location, fs: Any, file: FileEntry, source: SourceConfig) -> Iterator[Listed]:
    """Yield an object for each row. A broken Parquet file among others is one object, which reading will quarantine."""
    uri = location.object_uri(file.path)
    try:
        for row, meta in parquet.list_rows(uri, fs, source):
            yield Listed(uri, file.version, row, None, meta)
    except parquet.NotParquet as error:
        if location.is_parquet and location.pattern is None:
            raise UserMistake(f"{location.uri}: is not a Parquet file ({error})") from error
        log.warning("%s: is not a Parquet file (%s)", uri, error)
        yield Listed(uri, file.version, None, file.size, None)


def _members(location: Location, fs: Any, file: FileEntry, source: SourceConfig) -> Iterator[Item]:
    """Yield an object for each image in a tar, and one for the place where it breaks off, which says so when read."""
    uri = location.object_uri(file.path)
    for member in tars.list_members(uri, fs, source.suffixes):
        if isinstance(member, LeftOut):
            yield member
            continue
        if not member.name:
            wrong = tars.what_is_wrong(uri, fs, member.offset)
            if not member.offset and location.root == file.path:
                raise UserMistake(f"{location.uri}: is not a tar archive: {wrong}")
            log.warning("%s: breaks off: %s", uri, wrong)
        version = member_version(file.version, member.offset)
        yield Listed(member_uri(uri, member.name), version, member.row, member.size, member.meta)


def _explain_errors(location: Location, objects: Iterator[Item]) -> Iterator[Item]:
    """Yield the objects; the store's errors become messages for the user."""
    with store_errors(location.uri, "listing"):
        yield from objects


def _with_sidecars(objects: Iterator[Item], fs: Any, suffix: str) -> Iterator[Item]:
    """Yield each image with the JSON file beside it as its source_meta; the files of a batch are read side by side."""
    with ThreadPoolExecutor(SIDECARS_AT_ONCE) as pool:
        while batch := list(itertools.islice(objects, SIDECAR_BATCH)):
            metas = pool.map(partial(_sidecar, fs, suffix), batch)
            for item, meta in zip(batch, metas, strict=True):
                yield replace(item, source_meta=meta) if isinstance(item, Listed) and meta is not None else item


def _sidecar(fs: Any, suffix: str, item: Item) -> str | None:
    """Return the JSON beside an image, compact; None without one; the reason, as JSON, if it cannot be read.

    It is `photo.json`, as img2dataset writes it, or else `photo.jpg.json`.
    """
    if isinstance(item, LeftOut) or item.row is not None or split_member(item.uri, item.version):
        return None
    path = split_uri(item.uri)[1]
    stem = os.path.splitext(path)[0]  # noqa: PTH122 (a store's path is no local path)
    for beside in dict.fromkeys((stem + suffix, path + suffix)):
        try:
            data = _local_start(beside) if fs is None else with_retries(partial(_store_start, fs, beside))
            if len(data) > SIDECAR_BYTES:
                raise ValueError(f"more than {SIDECAR_BYTES:,} bytes")
            return meta_json(json.loads(data))
        except FileNotFoundError:
            continue
        except (ValueError, OSError, RecursionError, PermanentError) as error:
            name = one_line(os.path.basename(beside), LONGEST_NAME)  # noqa: PTH119 (a store's path is no local path)
            return unreadable_meta(f"{name}: {one_line(error_text(error))}")
    return None


def _local_start(path: str) -> bytes:
    """Return the beginning of a file, one byte more than a sidecar may have."""
    with open_regular(path) as file:
        return file.read(SIDECAR_BYTES + 1)


def _store_start(fs: Any, path: str) -> bytes:
    with fs.open(path, "rb", cache_type="none") as file:
        return bytes(file.read(SIDECAR_BYTES + 1))
