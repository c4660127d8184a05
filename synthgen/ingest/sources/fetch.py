"""The bytes of listed objects, fetched side by side.

Comes in: references from the listing. Goes out: for each of them, in whatever order they arrive, its bytes or `Unreadable`
with the reason. The size is known and checked before the body is read, and so is the version: the answer's own headers
say both, so nothing is asked twice. At most BUFFER_BYTES wait for the caller, however many objects are asked for.
"""

import os
import queue
import threading
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import Any

import fsspec.asyn

from synthgen.config.pipeline import ImagesConfig, SourceConfig
from synthgen.ingest.sources import http_client, parquet, url_list
from synthgen.ingest.sources.location import STORES, filesystem, local_version, open_regular, split_uri, version_of
from synthgen.store.remote import patiently, shown_error

THREADS = 10  # as many connections as s3fs opens
BUFFER_BYTES = 256 * 2**20
GONE = "no longer there"


@dataclass(frozen=True)
class ObjectRef:
    """What is needed to find a listed object again."""

    object_id: str
    uri: str
    version: str
    row: int | None = None


def ref_of(row: Mapping[str, Any]) -> ObjectRef:
    """The Ref of a table's row that has these columns."""
    return ObjectRef(row["object_id"], row["uri"], row["version"], row["row"])


@dataclass(frozen=True)
class Unreadable:
    """Why there are no bytes: what reading adds to tables.QUARANTINE_REASONS, and one line of detail."""

    reason: str
    detail: str


Check = Callable[[str, int], Unreadable | None]  # of the present version and size, before the bytes are read
Reserve = Callable[[int], None]  # waits until so many bytes more may be in memory
Outcome = tuple[ObjectRef, bytes | Unreadable]


def read_objects(refs: Sequence[ObjectRef], source: SourceConfig, limits: ImagesConfig) -> Iterator[Outcome]:
    """Each reference once, with its bytes or why there are none."""
    outlet = _Outlet(BUFFER_BYTES)
    pool = ThreadPoolExecutor(THREADS, thread_name_prefix="read")
    try:
        for task in _tasks(refs, source, limits):
            pool.submit(_run, task, outlet)
        for _ in refs:
            yield outlet.take()
    finally:
        outlet.close()
        pool.shutdown(wait=False, cancel_futures=True)


@dataclass(frozen=True)
class _Task:
    """Some references and how to read them: all rows of one Parquet file, or one object."""

    refs: list[ObjectRef]
    read: Callable[[list[ObjectRef], Reserve], Iterator[Outcome]]


def _tasks(refs: Sequence[ObjectRef], source: SourceConfig, limits: ImagesConfig) -> Iterator[_Task]:
    # One filesystem for all threads: fsspec would make one, with its own connections, for each thread that asks.
    stores = {
        protocol: filesystem(protocol)
        for protocol in STORES
        if any(ref.uri.startswith(f"{protocol}://") for ref in refs)
    }
    files: defaultdict[str, list[ObjectRef]] = defaultdict(list)
    for ref in refs:
        if ref.row is not None:
            files[ref.uri].append(ref)
        else:
            # By its own uri: what an earlier source listed is still read, whatever the source of today is.
            read = partial(_read_url, source.hosts) if url_list.is_url(ref.uri) else partial(_read_object, stores)
            yield _Task([ref], partial(read, limits.max_bytes))
    for rows in files.values():
        yield _Task(rows, partial(_read_rows, stores, source.image_column, limits.max_bytes))


def _run(task: _Task, outlet: "_Outlet") -> None:
    """Reads a task's references into the outlet; whatever goes wrong, each of them arrives there."""
    missing = Counter(task.refs)
    reserved = 0

    def reserve(size: int) -> None:
        nonlocal reserved
        if not reserved:  # a second attempt has its room already
            outlet.reserve(size)
            reserved = size

    def read_missing() -> None:
        nonlocal reserved
        for ref, result in task.read(list(missing.elements()), reserve):
            if isinstance(result, bytes):
                reserve(len(result))
            outlet.put((ref, result), reserved)
            reserved = 0
            missing[ref] -= 1

    try:
        patiently(read_missing)
    except _Closed:
        return
    except Exception as error:
        outlet.release(reserved)
        detail = GONE if isinstance(error, FileNotFoundError) else shown_error(error)
        for ref in missing.elements():
            outlet.put((ref, Unreadable("unreadable", detail)), 0)


def _read_object(
    stores: Mapping[str, Any], max_bytes: int, refs: list[ObjectRef], reserve: Reserve
) -> Iterator[Outcome]:
    protocol, path = split_uri(refs[0].uri)
    check = partial(_unfit, refs[0].version, max_bytes)
    if refs[0].uri.lower().endswith(".parquet"):
        yield refs[0], Unreadable("unreadable", "the file ends in .parquet and is not a Parquet file")
    elif protocol == "file":
        yield refs[0], _read_local(path, check, reserve)
    elif protocol == "s3":
        yield refs[0], _read_s3(stores["s3"], path, check, reserve)
    else:
        yield refs[0], _read_store(stores[protocol], path, check, reserve)


def _read_url(hosts: Sequence[str], max_bytes: int, refs: list[ObjectRef], _: Reserve) -> Iterator[Outcome]:
    """What a list of URLs named; at most one image for each thread is held beyond what waits for the caller."""
    try:
        yield refs[0], http_client.fetch(refs[0].uri, hosts, max_bytes)
    except http_client.UrlRefused as error:
        yield refs[0], Unreadable("url_refused", str(error))
    except http_client.TooLarge as error:
        yield refs[0], Unreadable("too_many_bytes", str(error))


def _unfit(listed_version: str, max_bytes: int, version: str, size: int) -> Unreadable | None:
    """Why these bytes need not be fetched."""
    if version != listed_version:
        return Unreadable("changed", f"listed as version {listed_version}, now {version}")
    if size > max_bytes:
        return Unreadable("too_many_bytes", f"{size:,} bytes; the limit is {max_bytes:,}")
    return None


def _read_local(path: str, check: Check, reserve: Reserve) -> bytes | Unreadable:
    with open_regular(path) as file:
        status = os.fstat(file.fileno())
        if unfit := check(local_version(status), status.st_size):
            return unfit
        reserve(status.st_size)
        data = file.read(status.st_size)
        if len(data) != status.st_size:
            return Unreadable("changed", f"{status.st_size:,} bytes when opened, {len(data):,} when read")
        return data


def _read_s3(fs: Any, path: str, check: Check, reserve: Reserve) -> bytes | Unreadable:
    """One request an object: the answer's headers come before its body, which is read only if they are right."""
    bucket, _, key = path.partition("/")
    answer = fs.call_s3("get_object", Bucket=bucket, Key=key)
    body, size = answer["Body"], answer["ContentLength"]
    try:
        if unfit := check(version_of(answer), size):
            return unfit
        reserve(size)
        data: bytes = fsspec.asyn.sync(fs.loop, body.read)
    finally:
        fs.loop.call_soon_threadsafe(body.close)
    if len(data) != size:
        raise OSError(f"the answer ended after {len(data):,} of {size:,} bytes")
    return data


def _read_store(fs: Any, path: str, check: Check, reserve: Reserve) -> bytes | Unreadable:
    """Any other store: asked for size and version, then for the bytes."""
    info = fs.info(path)
    if unfit := check(version_of(info), int(info["size"])):
        return unfit
    reserve(int(info["size"]))
    return bytes(fs.cat_file(path))


def _read_rows(
    stores: Mapping[str, Any], column: str, max_bytes: int, refs: list[ObjectRef], _: Reserve
) -> Iterator[Outcome]:
    """The asked rows of one Parquet file, in the order of the file; several references may name one row."""
    by_row: defaultdict[int, list[ObjectRef]] = defaultdict(list)
    with parquet.opened(refs[0].uri, stores.get(split_uri(refs[0].uri)[0])) as (raw, version):
        for ref in refs:
            if unfit := _unfit(ref.version, max_bytes, version, 0):
                yield ref, unfit
            else:
                by_row[ref.row or 0].append(ref)
        if not by_row:
            return
        for row, data in parquet.cells(parquet.parsed(raw), column, sorted(by_row)):
            for ref in by_row[row]:
                if data is None:
                    yield ref, Unreadable("no_bytes", "the cell holds no bytes; a path in it is not followed")
                elif isinstance(data, str):
                    yield ref, Unreadable("part_unreadable", data)
                else:
                    yield ref, _unfit(version, max_bytes, version, len(data)) or data


class _Closed(BaseException):
    """Nobody waits for the results any more; no error, so nothing tries again."""


class _Outlet:
    """Results on their way from the reading threads to the caller, bounded in bytes."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._used = 0
        self._is_closed = False
        self._changed = threading.Condition()
        self._results: queue.SimpleQueue[tuple[Outcome, int]] = queue.SimpleQueue()

    def reserve(self, size: int) -> None:
        """Waits for room; an object larger than the whole limit goes alone."""
        with self._changed:
            self._changed.wait_for(lambda: self._is_closed or not self._used or self._used + size <= self._limit)
            if self._is_closed:
                raise _Closed
            self._used += size

    def release(self, size: int) -> None:
        with self._changed:
            self._used -= size
            self._changed.notify_all()

    def put(self, outcome: Outcome, reserved: int) -> None:
        self._results.put((outcome, reserved))

    def take(self) -> Outcome:
        outcome, reserved = self._results.get()
        self.release(reserved)
        return outcome

    def close(self) -> None:
        with self._changed:
            self._is_closed = True
            self._changed.notify_all()
