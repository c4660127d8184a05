"""The bytes of listed objects, fetched side by side.

An object's size and version are checked before its body is read. The response's own headers give both, so an object
costs one request. At most BUFFER_BYTES wait for the caller, however many objects are requested.
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
from synthgen.errors import Failure
from synthgen.ingest.sources import http_client, parquet, url_list
from synthgen.ingest.sources.location import STORES, filesystem, local_version, open_regular, split_uri, version_of
from synthgen.store.remote import error_text, with_retries

THREADS = 10  # as many connections as s3fs opens
BUFFER_BYTES = 256 * 2**20
GONE = "no longer there"


@dataclass(frozen=True)
class ObjectRef:
    """The columns that lead to a listed object again."""

    object_id: str
    uri: str
    version: str
    row: int | None = None  # of a Parquet file


def ref_of(row: Mapping[str, Any]) -> ObjectRef:
    """Return the reference to the object of a table's row."""
    return ObjectRef(row["object_id"], row["uri"], row["version"], row["row"])


Check = Callable[[str, int], Failure | None]  # of the present version and size, before the bytes are read
Reserve = Callable[[int], None]  # waits until this many more bytes may be in memory
Outcome = tuple[ObjectRef, bytes | Failure]


def read_objects(refs: Sequence[ObjectRef], source: SourceConfig, limits: ImagesConfig) -> Iterator[Outcome]:
    """Yield each reference once, with its bytes or the reason why there are none, in the order of arrival."""
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
    """References and how to read them: one object, or all requested rows of one Parquet file."""

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
            # By the object's own uri: the objects of an earlier source are read whatever today's source is.
            read = partial(_read_url, source.hosts) if url_list.is_url(ref.uri) else partial(_read_object, stores)
            yield _Task([ref], partial(read, limits.max_bytes))
    for rows in files.values():
        yield _Task(rows, partial(_read_rows, stores, source.image_column, limits.max_bytes))


def _run(task: _Task, outlet: "_Outlet") -> None:
    """Read a task's references into the outlet; each of them arrives there, whatever goes wrong."""
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
        with_retries(read_missing)
    except _Closed:
        return
    except Exception as error:
        outlet.release(reserved)
        detail = GONE if isinstance(error, FileNotFoundError) else error_text(error)
        for ref in missing.elements():
            outlet.put((ref, Failure("unreadable", detail)), 0)


def _read_object(
    stores: Mapping[str, Any], max_bytes: int, refs: list[ObjectRef], reserve: Reserve
) -> Iterator[Outcome]:
    protocol, path = split_uri(refs[0].uri)
    check = partial(_check, refs[0].version, max_bytes)
    if refs[0].uri.lower().endswith(".parquet"):
        yield refs[0], Failure("unreadable", "the file ends in .parquet and is not a Parquet file")
    elif protocol == "file":
        yield refs[0], _read_local(path, check, reserve)
    elif protocol == "s3":
        yield refs[0], _read_s3(stores["s3"], path, check, reserve)
    else:
        yield refs[0], _read_store(stores[protocol], path, check, reserve)


def _read_url(hosts: Sequence[str], max_bytes: int, refs: list[ObjectRef], _: Reserve) -> Iterator[Outcome]:
    """Read an object of a list of URLs; each thread holds one image at most beyond those that wait for the caller."""
    try:
        yield refs[0], http_client.fetch(refs[0].uri, hosts, max_bytes)
    except http_client.UrlRefused as error:
        yield refs[0], Failure("url_refused", str(error))
    except http_client.TooLarge as error:
        yield refs[0], Failure("too_many_bytes", str(error))


def _check(listed_version: str, max_bytes: int, version: str, size: int) -> Failure | None:
    """Return why these bytes need not be fetched, or None."""
    if version != listed_version:
        return Failure("changed", f"listed as version {listed_version}, now {version}")
    if size > max_bytes:
        return Failure("too_many_bytes", f"{size:,} bytes; the limit is {max_bytes:,}")
    return None


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
    with parquet.open_versioned(refs[0].uri, stores.get(split_uri(refs[0].uri)[0])) as (raw, version):
        for ref in refs:
            if failure := _check(ref.version, max_bytes, version, 0):
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
                    yield ref, _check(version, max_bytes, version, len(cell)) or cell


class _Closed(BaseException):
    """The caller no longer waits for results. Not an Exception, so nothing tries again."""


class _Outlet:
    """A queue of results from the reading threads to the caller, bounded in bytes."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._used = 0
        self._is_closed = False
        self._changed = threading.Condition()
        self._results: queue.SimpleQueue[tuple[Outcome, int]] = queue.SimpleQueue()

    def reserve(self, size: int) -> None:
        """Wait for room; an object larger than the whole limit waits until nothing else is held."""
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
