"""A pool of child processes that decode images and may die doing it.

Each child shares an anonymous piece of memory with its parent, cut into a few slots. Bytes go in, pixels come back in
the same slot, and two pipes carry one line an image: no image passes through a pipe and nothing is pickled. The image
that a child was decoding when it died is given up only if the next child dies of it too; the images in its other
slots go to that next child. Children are new interpreters rather than forks, because the parent may have threads that
hold locks.
"""

import contextlib
import math
import os
import selectors
import signal
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic

from PIL.Image import Image

from synthgen.errors import Failure, SynthError
from synthgen.ingest.images import shared_memory
from synthgen.ingest.images.child_process import SLOTS, DecoderProcess, Key, SentImage, new_child, slot_size
from synthgen.ingest.images.decode import Decoded, sheet_of

if TYPE_CHECKING:
    from synthgen.config.source import ImagesConfig

STRIKES = 2  # children that must die while decoding an image before the image is given up
STALLED = 5  # times decode_seconds, on the clock; decode_seconds themselves are counted on a core
GRACE_SECONDS = 5.0  # on top of that
FAILED_STARTS = 3  # in a row, before the pool gives up
START_SECONDS = 120.0  # for a child to start on a machine that is busy or reads Python over a network
CONTROL_GROUP = Path("/sys/fs/cgroup")


class DecoderPool(Generic[Key]):
    """A pool of decoders for one thread at a time: `with DecoderPool(limits) as pool: pool.decode_many(…)`."""

    def __init__(
        self, limits: "ImagesConfig", processes: int | None = None, module: str = "synthgen.ingest.images.child"
    ) -> None:
        """Prepare the children; they start when the pool is entered, or with their first image.

        Args:
            limits: The limits that every image must keep.
            processes: The number of children; by default the cores that this process may use.
            module: The module that the children run; tests pass one that crashes or hangs on purpose.
        """
        self.limits = limits
        self._module = module
        self._selector = selectors.DefaultSelector()
        self._children: list[DecoderProcess[Key]] = [new_child(_largest(limits)) for _ in range(processes or cores())]

    @property
    def pids(self) -> list[int]:
        """The ids of the running processes."""
        return [child.process.pid for child in self._children if child.process is not None]

    def __enter__(self) -> "DecoderPool[Key]":
        for child in self._children:
            self._start(child)
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End the children; the pool cannot be used afterwards."""
        self._selector.close()
        for child in self._children:
            child.close()

    def decode_many(self, items: Iterable[tuple[Key, bytes | Failure]]) -> Iterator[tuple[Key, Decoded | Failure]]:
        """Decode items and yield each once, in whatever order they finish; take no more of them than the slots hold.

        Args:
            items: Keys with the bytes of a file, or with the failure that kept the bytes away, which is passed on.
        """
        source = iter(items)
        has_more = True
        try:
            while has_more or any(child.pending for child in self._children):
                child = min(self._children, key=lambda child: len(child.pending))
                if not has_more or not child.free:
                    yield from self._collect(wait=True)
                    continue
                item = next(source, None)
                if item is None:
                    has_more = False
                else:
                    yield from self._submit(child, *item)
                yield from self._collect(wait=False)
        finally:
            for child in self._children:
                if child.pending:  # the caller stopped or failed, so the images in the slots have no reader
                    self._stop(child)
                    child.forget()

    def _submit(
        self, child: DecoderProcess[Key], key: Key, content: bytes | Failure
    ) -> Iterator[tuple[Key, Decoded | Failure]]:
        """Send a file to the child, or yield the failure of one that cannot be sent."""
        if isinstance(content, Failure):
            yield key, content
        elif len(content) > self.limits.max_bytes:
            yield key, Failure("too_many_bytes", f"{len(content):,} bytes; the limit is {self.limits.max_bytes:,}")
        else:
            if child.process is None:
                self._start(child)
            child.send(key, content)

    def _collect(self, wait: bool) -> Iterator[tuple[Key, Decoded | Failure]]:
        """Yield the finished images; with `wait`, sleep until there is one or a child is overdue."""
        now = time.monotonic()
        overdue = min((self._overdue_at(child) for child in self._children if child.pending), default=now)
        for selected, _ in self._selector.select(max(0.0, overdue - now) if wait else 0):
            child = selected.data
            chunk = os.read(selected.fd, 1 << 16)
            if not chunk:
                yield from self._replace(child, is_overdue=False)
                continue
            for reply in child.read(chunk):
                sent = child.pending.popleft()
                result = self._take(child, sent, reply)
                child.vacate(sent)
                yield sent.key, result
        for child in self._children:
            if child.pending and time.monotonic() > self._overdue_at(child) and not self._has_reply(child):
                yield from self._replace(child, is_overdue=True)

    def _has_reply(self, child: DecoderProcess[Key]) -> bool:
        """Return whether an unread reply is waiting: a caller may pause between results, which makes no child late."""
        return any(key.data is child for key, _ in self._selector.select(0))

    def _overdue_at(self, child: DecoderProcess[Key]) -> float:
        """Return when to end a child whose own timer did not: it was stopped, or waits for something."""
        grace = GRACE_SECONDS if child.is_ready else START_SECONDS
        return child.alive_at + STALLED * self.limits.decode_seconds + grace

    def _take(self, child: DecoderProcess[Key], sent: SentImage[Key], reply: dict[str, Any]) -> Decoded | Failure:
        if "reason" in reply:
            return Failure(reply["reason"], reply["detail"])
        images, offset = list[Image](), sent.slot * child.slot_bytes
        for width, height in reply["sizes"]:
            images.append(shared_memory.take(child.memory, offset, (width, height)))
            offset += shared_memory.size_of((width, height))
        members = tuple(images) if reply["is_set"] else ()
        image = sheet_of(members, self.limits.model_pixels) if members else images[0]
        features = reply["phash"], bytes.fromhex(reply["thumbnail"]), reply["flat_share"], reply["stated"]
        return Decoded(image, reply["format"], reply["width"], reply["height"], *features, members)

    def _replace(self, child: DecoderProcess[Key], is_overdue: bool) -> Iterator[tuple[Key, Failure]]:
        """Replace a child that died or must die; its first image takes the blame, the next process gets the others."""
        was_ready = child.is_ready
        status, last_line = self._stop(child)
        given_up: list[tuple[Key, Failure]] = []
        if not was_ready:
            child.failed_starts += 1
            if child.failed_starts >= FAILED_STARTS:
                raise SynthError(f"image decoders do not start: {last_line or f'exit status {status}'}")
        elif child.pending and (failure := self._strike(child.pending[0], status, is_overdue)):
            sent = child.pending.popleft()
            child.vacate(sent)
            given_up.append((sent.key, failure))
        self._start(child)
        yield from given_up

    def _strike(self, sent: SentImage[Key], status: int, is_overdue: bool) -> Failure | None:
        """Count a child that died while decoding this image; return the failure, or None if it gets another try."""
        sent.strikes += 1
        if is_overdue or status == -signal.SIGPROF:
            return Failure("decode_timeout", f"not decoded within {self.limits.decode_seconds:g} s on a core")
        if sent.strikes >= STRIKES:
            return Failure("decoder_died", f"{STRIKES} decoders died of it, the last by {_cause(status)}")
        return None

    def _start(self, child: DecoderProcess[Key]) -> None:
        limits = self.limits.model_dump(mode="json")
        child.start(self._module, {"limits": limits, "memory_bytes": child_bytes(self.limits)})
        self._selector.register(child.replies, selectors.EVENT_READ, child)

    def _stop(self, child: DecoderProcess[Key]) -> tuple[int, str]:
        if child.process is not None:
            self._selector.unregister(child.replies)
        return child.stop()


def child_bytes(limits: "ImagesConfig") -> int:
    """Return the memory that one child may take on top of its code: three copies of the file, 16 bytes a pixel."""
    return 3 * limits.max_bytes + 16 * limits.max_pixels + 2**27


def peak_bytes(limits: "ImagesConfig", processes: int) -> int:
    """Return the most memory that this many children can take, with the memory that they share with their parent."""
    return processes * (child_bytes(limits) + SLOTS * slot_size(_largest(limits)))


def cores() -> int:
    """Return the number of cores that this process may use, by its affinity and the CPU quota of its container."""
    count = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, math.ceil(min(count, _quota())))


def _quota() -> float:
    """Return the cores that the control group of this process may use; infinity without a limit."""
    try:
        words = (CONTROL_GROUP / "cpu.max").read_text().split()  # version 2: microseconds in a period, and the period
    except OSError:
        try:
            folder = CONTROL_GROUP / "cpu"  # version 1, where -1 is no limit
            words = [(folder / f"cpu.cfs_{name}_us").read_text().strip() for name in ("quota", "period")]
        except OSError:
            return math.inf
    try:
        quota, period = (float(word) for word in words)
    except ValueError:  # "max"
        return math.inf
    return quota / period if quota > 0 and period > 0 else math.inf


def _largest(limits: "ImagesConfig") -> int:
    """Return the bytes that a slot must hold: a file, or the pixels of its image."""
    return max(limits.max_bytes, limits.model_pixels * shared_memory.BYTES_PER_PIXEL)


def _cause(status: int) -> str:
    """Return an exit status as text, a signal by its name."""
    if status >= 0:
        return f"exit status {status}"
    with contextlib.suppress(ValueError):
        return signal.Signals(-status).name
    return f"signal {-status}"
