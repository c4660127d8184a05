"""The listing of files: a stream of objects, in an order that depends on names alone.

An object is an image file or a row of a Parquet file. A Parquet file without the image column is a UserMistake if the
user named Parquet files. In a folder it may be metadata beside the images, so it is skipped, unless nothing else is
there.
"""

import itertools
import json
import logging
import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from typing import Any

from synthgen.config.pipeline import SourceConfig
from synthgen.errors import UserMistake, one_line
from synthgen.ingest.sources import parquet
from synthgen.ingest.sources.location import (
    Location,
    filesystem,
    literal_first,
    open_regular,
    parse_location,
    split_folder,
    split_uri,
)
from synthgen.ingest.sources.objects import Listed, meta_json
from synthgen.ingest.sources.walk import FileEntry, can_hold_matches, walk
from synthgen.store.remote import PermanentError, error_text, store_errors, with_retries

log = logging.getLogger(__name__)
SIDECAR_BYTES = 2**20
SIDECARS_AT_ONCE = 16
SIDECAR_BATCH = 256  # objects


def list_files(source: SourceConfig) -> Iterator[Listed]:
    """Return all images at the source's location.

    Raises:
        UserMistake: At once if the uri is wrong, during the iteration if the store has no such place.
    """
    location = parse_location(source.uri)
    fs = None if location.protocol == "file" else filesystem(location.protocol)
    objects = _explain_errors(location, _objects(location, fs, source))
    return _with_sidecars(objects, fs, source.sidecar) if source.sidecar else objects


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


def _objects(location: Location, fs: Any, source: SourceConfig) -> Iterator[Listed]:
    suffixes = tuple(suffix.lower() for suffix in source.suffixes)
    location, first_mistake, count = literal_first(location, fs), None, 0
    for file in walk(location, fs):
        if file.path.lower().endswith(".parquet"):
            try:
                for listed in _rows(location, fs, file, source):
                    count += 1
                    yield listed
            except UserMistake as mistake:
                if location.is_parquet:
                    raise
                log.warning("%s; skipped", mistake)
                first_mistake = first_mistake or mistake
        elif file.path.lower().endswith(suffixes):
            count += 1
            yield Listed(location.object_uri(file.path), file.version, None, file.size, None)
    if not count:
        raise first_mistake or UserMistake(
            f"0 images under {location.uri}; suffixes looked for: {', '.join((*suffixes, '.parquet'))}"
        )


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


def _explain_errors(location: Location, objects: Iterator[Listed]) -> Iterator[Listed]:
    """Yield the objects; the store's errors become messages for the user."""
    with store_errors(location.uri, "listing"):
        yield from objects


def _with_sidecars(objects: Iterator[Listed], fs: Any, suffix: str) -> Iterator[Listed]:
    """Yield each image with the JSON file beside it as its source_meta; the files of a batch are read side by side."""
    with ThreadPoolExecutor(SIDECARS_AT_ONCE) as pool:
        while batch := list(itertools.islice(objects, SIDECAR_BATCH)):
            metas = pool.map(partial(_sidecar, fs, suffix), batch)
            for listed, meta in zip(batch, metas, strict=True):
                yield replace(listed, source_meta=meta) if meta is not None else listed


def _sidecar(fs: Any, suffix: str, listed: Listed) -> str | None:
    """Return the JSON beside an image, compact; None without one; the reason, as JSON, if it cannot be read."""
    if listed.row is not None:
        return None
    beside = os.path.splitext(split_uri(listed.uri)[1])[0] + suffix  # noqa: PTH122 (a store's path is no local path)
    try:
        data = _local_start(beside) if fs is None else with_retries(lambda: _store_start(fs, beside))
        if len(data) > SIDECAR_BYTES:
            raise ValueError(f"more than {SIDECAR_BYTES:,} bytes")
        return meta_json(json.loads(data))
    except FileNotFoundError:
        return None
    except (ValueError, OSError, RecursionError, PermanentError) as error:
        return meta_json({"sidecar_unreadable": one_line(error_text(error))})


def _local_start(path: str) -> bytes:
    """Return the beginning of a file, one byte more than a sidecar may have."""
    with open_regular(path) as file:
        return file.read(SIDECAR_BYTES + 1)


def _store_start(fs: Any, path: str) -> bytes:
    with fs.open(path, "rb", cache_type="none") as file:
        return bytes(file.read(SIDECAR_BYTES + 1))
