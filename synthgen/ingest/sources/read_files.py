"""Reading files: local ones, objects of a store, rows of Parquet files, members of tars, and pages of PDF files.

An object's size is checked before its body is read, and so is its version where no hash of the bytes is known. The
response's own headers give both, so an object costs one request.
"""

import os
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any

import fsspec.asyn

from synthgen.config.source import SourceConfig
from synthgen.errors import Failure
from synthgen.ingest.images.documents import page_file
from synthgen.ingest.sources import parquet
from synthgen.ingest.sources.location import (
    PDF,
    STORES,
    filesystem,
    local_version,
    member_version,
    open_regular,
    open_versioned,
    split_member,
    split_uri,
    version_of,
)
from synthgen.ingest.sources.objects import ObjectRef, Outcome, ReadTask, Reserve, too_many_bytes
from synthgen.ingest.sources.tars import BLOCK, read_member
from synthgen.store.parquet import BATCH_BYTES
from synthgen.tables import archive_of

MEMBERS = 16  # of a tar, that one connection reads one after the other
Check = Callable[[str, int], Failure | None]  # of the present version and size, before the bytes are read


def file_tasks(refs: Sequence[ObjectRef], source: SourceConfig, max_bytes: int) -> Iterator[ReadTask]:
    """Yield a task for each file, for all requested rows or pages of one, and for some members of a tar."""
    # One filesystem for all threads: fsspec would make one, with its own connections, for each thread that asks.
    stores = {
        protocol: filesystem(protocol)
        for protocol in STORES
        if any(ref.uri.startswith(f"{protocol}://") for ref in refs)
    }
    files: defaultdict[str, list[ObjectRef]] = defaultdict(list)
    tars: defaultdict[str, list[tuple[int, ObjectRef]]] = defaultdict(list)
    documents: defaultdict[str, list[ObjectRef]] = defaultdict(list)
    for ref in refs:
        member = split_member(ref.uri, ref.version)
        if member and member[0].lower().endswith(PDF):
            documents[member[0]].append(ref)
        elif member:
            tars[member[0]].append((member[2], ref))
        elif ref.row is not None:
            files[ref.uri].append(ref)
        else:
            yield ReadTask([ref], partial(_read_object, stores, max_bytes))
    for rows in files.values():
        yield ReadTask(rows, partial(_read_rows, stores, source.image_column, max_bytes))
    for pages in documents.values():
        yield ReadTask(pages, partial(_read_pages, stores, max_bytes))
    for members in tars.values():
        ordered = [ref for _, ref in sorted(members, key=lambda member: member[0])]
        for first in range(0, len(ordered), MEMBERS):
            yield ReadTask(ordered[first : first + MEMBERS], partial(_read_members, stores, max_bytes))


def _read_object(
    stores: Mapping[str, Any], max_bytes: int, refs: list[ObjectRef], reserve: Reserve
) -> Iterator[Outcome]:
    protocol, path = split_uri(refs[0].uri)
    check = partial(_check, refs[0], max_bytes)
    if refs[0].uri.lower().endswith(".parquet"):
        yield refs[0], Failure("unreadable", "the file ends in .parquet and is not a Parquet file")
    elif protocol == "file":
        yield refs[0], _read_local(path, check, reserve)
    elif protocol == "s3":
        yield refs[0], _read_s3(stores["s3"], path, check, reserve)
    else:
        yield refs[0], _read_store(stores[protocol], path, check, reserve)


def _check(ref: ObjectRef, max_bytes: int, version: str, size: int) -> Failure | None:
    """Return why these bytes need not be fetched, or None."""
    if version != ref.version and not ref.is_verified:
        return Failure("changed", f"listed as version {ref.version}, now {version}")
    return too_many_bytes(size, max_bytes)


def _read_local(path: str, check: Check, reserve: Reserve) -> bytes | Failure:
    with open_regular(path) as file:
        status = os.fstat(file.fileno())
        if failure := check(local_version(status), status.st_size):
            return failure
        reserve(status.st_size)
        data = file.read(status.st_size)
        if len(data) != status.st_size:
            return Failure("changed", f"{status.st_size:,} bytes when opened, {len(data):,} when read")
        return data


def _read_s3(fs: Any, path: str, check: Check, reserve: Reserve) -> bytes | Failure:
    """Read an object in one request: its headers arrive first, and the body is read only if they pass the check."""
    bucket, _, key = path.partition("/")
    response = fs.call_s3("get_object", Bucket=bucket, Key=key)
    body, size = response["Body"], response["ContentLength"]
    try:
        if failure := check(version_of(response), size):
            return failure
        reserve(size)
        data: bytes = fsspec.asyn.sync(fs.loop, body.read)
    finally:
        fs.loop.call_soon_threadsafe(body.close)
    if len(data) != size:
        raise OSError(f"the response ended after {len(data):,} of {size:,} bytes")
    return data


def _read_store(fs: Any, path: str, check: Check, reserve: Reserve) -> bytes | Failure:
    """Read an object of any other store in two requests: one for size and version, one for the bytes."""
    info = fs.info(path)
    if failure := check(version_of(info), int(info["size"])):
        return failure
    reserve(int(info["size"]))
    return bytes(fs.cat_file(path))


def _read_rows(
    stores: Mapping[str, Any], column: str, max_bytes: int, refs: list[ObjectRef], _: Reserve
) -> Iterator[Outcome]:
    """Read rows of one Parquet file, in the order of the file; several references may name one row."""
    by_row: defaultdict[int, list[ObjectRef]] = defaultdict(list)
    fs = stores.get(split_uri(refs[0].uri)[0])
    with open_versioned(refs[0].uri, fs, BATCH_BYTES) as (raw, version):
        for ref in refs:
            if failure := _check(ref, max_bytes, version, 0):
                yield ref, failure
            else:
                by_row[ref.row or 0].append(ref)
        if not by_row:
            return
        for row, cell in parquet.read_cells(parquet.parse(raw), column, sorted(by_row)):
            for ref in by_row[row]:
                if cell is None:
                    yield ref, Failure("no_bytes", "the cell holds no bytes; a path in it is not followed")
                elif isinstance(cell, Failure):
                    yield ref, cell
                else:
                    yield ref, too_many_bytes(len(cell), max_bytes) or cell


def _read_pages(
    stores: Mapping[str, Any], max_bytes: int, refs: list[ObjectRef], reserve: Reserve
) -> Iterator[Outcome]:
    """Read a PDF once for some of its pages; each of them is the whole file under another name."""
    uri = archive_of(refs[0].uri)
    with open_versioned(uri, stores.get(split_uri(uri)[0]), BLOCK) as (raw, version):
        size = raw.seek(0, os.SEEK_END)
        wanted = []
        for ref in refs:
            number = _page_of(ref)
            if failure := _check(ref, max_bytes, member_version(version, number), size):
                yield ref, failure
            else:
                wanted.append((ref, number))
        if not wanted:
            return
        reserve(size)
        raw.seek(0)
        data = raw.read(size)
    if len(data) != size:
        raise OSError(f"{len(data):,} of {size:,} bytes were read")
    for ref, number in wanted:
        yield ref, page_file(data, number)


def _page_of(ref: ObjectRef) -> int:
    member = split_member(ref.uri, ref.version)
    assert member, "only pages are read as such"
    return member[2]


def _read_members(
    stores: Mapping[str, Any], max_bytes: int, refs: list[ObjectRef], reserve: Reserve
) -> Iterator[Outcome]:
    """Read members of one tar, in the order of the file."""
    uri = archive_of(refs[0].uri)
    with open_versioned(uri, stores.get(split_uri(uri)[0]), BLOCK) as (raw, version):
        for ref in refs:
            yield ref, _read_member(raw, version, max_bytes, ref, reserve)


def _read_member(raw: Any, version: str, max_bytes: int, ref: ObjectRef, reserve: Reserve) -> bytes | Failure:
    member = split_member(ref.uri, ref.version)
    assert member, "only members are read as such"
    _, name, offset = member

    def check(size: int) -> Failure | None:
        failure = too_many_bytes(size, max_bytes)
        if not failure:
            reserve(size)
        return failure

    return _check(ref, max_bytes, member_version(version, offset), 0) or read_member(raw, name, offset, check)
