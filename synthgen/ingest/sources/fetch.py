"""The bytes of listed objects, fetched side by side.

At most BUFFER_BYTES wait for the caller, however many objects are requested.
"""

import queue
import threading
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial

from synthgen.config.source import ImagesConfig, SourceConfig
from synthgen.errors import Failure, SynthError, describe_error, one_line
from synthgen.ingest.sources.kinds import SourceKind, kind_of_object
from synthgen.ingest.sources.location import scheme_of
from synthgen.ingest.sources.objects import ObjectRef, Outcome, ReadTask, Reserve
from synthgen.store.remote import PermanentError, error_text, with_retries

THREADS = 10  # as many connections as s3fs opens
BUFFER_BYTES = 256 * 2**20
GONE = "no longer there"


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


def _tasks(refs: Sequence[ObjectRef], source: SourceConfig, limits: ImagesConfig) -> Iterator[ReadTask]:
    """Yield the tasks of each kind of source: the objects of an earlier source are read whatever today's source is."""
    by_scheme: defaultdict[tuple[str | None, str], list[ObjectRef]] = defaultdict(list)
    for ref in refs:
        by_scheme[ref.source, scheme_of(ref.uri)].append(ref)
    by_kind: defaultdict[tuple[str | None, SourceKind], list[ObjectRef]] = defaultdict(list)
    for (name, _), some in by_scheme.items():
        by_kind[name, kind_of_object(some[0].uri)] += some
    for (name, kind), some in by_kind.items():
        yield from _tasks_of(kind, some, source.place(name), limits.max_bytes)


def _tasks_of(kind: SourceKind, refs: list[ObjectRef], source: SourceConfig, max_bytes: int) -> Iterator[ReadTask]:
    """Yield the tasks of a kind; references that it makes no task of, for an error or at all, have one that fails."""
    missing, why = Counter(refs), "its source does not read it"
    try:
        for task in kind.tasks(refs, source, max_bytes):
            missing.subtract(task.refs)
            yield task
    except SynthError:
        raise
    except (Exception, SystemExit) as error:
        why = describe_error(error)
    if left := list((+missing).elements()):
        yield ReadTask(left, partial(_fail, why))


def _fail(why: str, refs: list[ObjectRef], _: Reserve) -> Iterator[Outcome]:
    return ((ref, Failure("unreadable", why)) for ref in refs)


def _no_bytes(content: object) -> Failure:
    return Failure("unreadable", f"its source gave {type(content).__name__} in place of bytes")


def _run(task: ReadTask, outlet: "_Outlet") -> None:
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
            if missing[ref] <= 0:  # of another package, which may give anything, and twice
                continue
            content = result if isinstance(result, bytes | Failure) else _no_bytes(result)
            if isinstance(content, bytes):
                reserve(len(content))
            outlet.put((ref, content), reserved)
            reserved = 0
            missing[ref] -= 1
        if missing.total():
            raise PermanentError("its source gave nothing for it")

    try:
        with_retries(read_missing)
    except _Closed:
        return
    except (Exception, SystemExit) as error:
        outlet.release(reserved)
        detail = GONE if isinstance(error, FileNotFoundError) else one_line(error_text(error))
        for ref in missing.elements():
            outlet.put((ref, Failure("unreadable", detail)), 0)


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
