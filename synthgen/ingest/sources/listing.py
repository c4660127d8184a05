"""The stream of objects that a source holds.

Comes in: config.Source. Goes out: `Listed`, one for each image file and for each row of each Parquet file, in an order that
depends on names alone. What the user can mend is a UserMistake in one line. A Parquet file without the image column is a
mistake when Parquet was asked for; in a folder it is left out (it may be metadata that lies beside the images), unless
then nothing is left.
"""

import itertools
import json
import logging
import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from synthgen.config.pipeline import SourceConfig
from synthgen.errors import UserMistake
from synthgen.ingest.sources import parquet, url_list
from synthgen.ingest.sources.location import Location, filesystem, open_regular, place_of, split_folder, split_uri
from synthgen.ingest.sources.walk import FileEntry, may_enter, walk
from synthgen.store.remote import Lasting, patiently, shown_error, told

log = logging.getLogger(__name__)
SIDECAR_BYTES = 2**20
SIDECARS_AT_ONCE = 16


@dataclass(frozen=True)
class Listed:
    """One object, as the source named it; `row` is set for the rows of a Parquet file."""

    uri: str
    version: str
    row: int | None
    bytes: int | None
    source_meta: str | None


def list_objects(source: SourceConfig) -> Iterator[Listed]:
    """All objects of the source. Mistakes in its uri are raised at once, those that the store reveals on the way."""
    if url_list.is_list(source):
        return (Listed(url, url_list.VERSION, None, None, None) for url in url_list.urls(url_list.check(source)))
    place = place_of(source.uri)
    fs = None if place.protocol == "file" else filesystem(place.protocol)
    objects = _mended(place, _objects(place, fs, source))
    return _with_sidecars(objects, fs, source.sidecar) if source.sidecar else objects


def begun(source: SourceConfig) -> Iterator[Listed]:
    """The listing with its first object fetched, so that an empty or unreadable source is known now."""
    objects = list_objects(source)
    first = list(itertools.islice(objects, 1))
    return itertools.chain(first, objects)


def walks_into(source: SourceConfig, folder: str) -> bool:
    """Whether a folder, by its path or URL, lies where a listing of the source looks for files."""
    if url_list.is_list(source):
        return False
    place, (protocol, path) = place_of(source.uri), split_folder(folder)
    root = place.root
    if protocol == "file":
        root, path = os.path.realpath(root), os.path.realpath(path)
    below = f"{root.rstrip('/')}/"
    if protocol != place.protocol or not f"{path}/".startswith(below):
        return False
    return all(
        may_enter(place.pattern, name, depth) for depth, name in enumerate(path[len(below) :].split("/")) if name
    )


def _objects(place: Location, fs: Any, source: SourceConfig) -> Iterator[Listed]:
    suffixes = tuple(suffix.lower() for suffix in source.suffixes)
    lacking: UserMistake | None = None
    count = 0
    for found in walk(place, fs):
        uri = place.object_uri(found.path)
        if found.path.lower().endswith(".parquet"):
            try:
                for listed in _rows(place, fs, found, source):
                    count += 1
                    yield listed
            except UserMistake as mistake:
                if place.is_parquet:
                    raise
                log.warning("%s; left out", mistake)
                lacking = lacking or mistake
        elif found.path.lower().endswith(suffixes):
            count += 1
            yield Listed(uri, found.version, None, found.size, None)
    if not count:
        raise lacking or UserMistake(
            f"0 images under {place.uri}; suffixes looked for: {', '.join((*suffixes, '.parquet'))}"
        )


def _rows(place: Location, fs: Any, found: FileEntry, source: SourceConfig) -> Iterator[Listed]:
    """An object for each row. A file that is no Parquet, found among others, is one object that nobody will be able to read."""
    uri = place.object_uri(found.path)
    try:
        for row, meta in parquet.rows(uri, fs, source):
            yield Listed(uri, found.version, row, None, meta)
    except parquet.NotParquet as error:
        if place.is_parquet and place.pattern is None:
            raise UserMistake(f"{place.uri}: is not a Parquet file ({error})") from error
        log.warning("%s: is not a Parquet file (%s)", uri, error)
        yield Listed(uri, found.version, None, found.size, None)


def _mended(place: Location, objects: Iterator[Listed]) -> Iterator[Listed]:
    """The stream with the store's errors in words."""
    with told(place.uri, "listing"):
        yield from objects


def _with_sidecars(objects: Iterator[Listed], fs: Any, suffix: str) -> Iterator[Listed]:
    """Each image with the JSON file beside it as its source_meta; fetched side by side, a few hundred at a time."""
    with ThreadPoolExecutor(SIDECARS_AT_ONCE) as pool:
        while batch := list(itertools.islice(objects, 256)):
            metas = pool.map(partial(_sidecar, fs, suffix), batch)
            for listed, meta in zip(batch, metas, strict=True):
                yield replace(listed, source_meta=meta) if meta is not None else listed


def _sidecar(fs: Any, suffix: str, listed: Listed) -> str | None:
    """The JSON beside an image, made compact; None without one. One that cannot be read says so in its place."""
    if listed.row is not None:
        return None
    beside = os.path.splitext(split_uri(listed.uri)[1])[0] + suffix  # noqa: PTH122 (a store's path is no local path)
    try:
        data = _local_start(beside) if fs is None else patiently(lambda: _store_start(fs, beside))
        if len(data) > SIDECAR_BYTES:
            raise ValueError(f"more than {SIDECAR_BYTES:,} bytes")
        return json.dumps(json.loads(data), ensure_ascii=False, separators=(",", ":"))
    except FileNotFoundError:
        return None
    except (ValueError, OSError, RecursionError, Lasting) as error:
        return json.dumps({"sidecar_unreadable": shown_error(error)})


def _local_start(path: str) -> bytes:
    with open_regular(path) as file:
        return file.read(SIDECAR_BYTES + 1)


def _store_start(fs: Any, path: str) -> bytes:
    with fs.open(path, "rb", cache_type="none") as file:
        return bytes(file.read(SIDECAR_BYTES + 1))
