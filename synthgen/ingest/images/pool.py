"""A pool of child processes that decode images and may die doing it.

Comes in: a stream of (key, bytes). Goes out: a stream of (key, Decoded or Unfit), in whatever order they are done. Each
child shares with its parent an anonymous piece of memory with a few slots: bytes go in, pixels come back in the same slot,
and two pipes carry a line for each image, so nothing is copied through a pipe and nothing is pickled. A child that dies
takes one image with it, and that only when the next one dies of the same image again: whatever lay in its other slots goes
to its successor. Children are new interpreters and not forks, because the parent may have threads that hold locks.
"""

import contextlib
import os
import selectors
import signal
import time
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any, Generic

from synthgen.errors import SynthError
from synthgen.ingest.images import shared_memory
from synthgen.ingest.images.child_process import SLOTS, DecoderProcess, Key, SentImage, new_child, slot_size
from synthgen.ingest.images.decode import Decoded
from synthgen.ingest.images.headers import Unfit

if TYPE_CHECKING:
    from synthgen.config.pipeline import ImagesConfig

STRIKES = 2  # an image in whose decoding so many children died is the cause
STALLED = 5  # times decode_seconds that may pass; decode_seconds themselves are counted on a core
FAILED_STARTS = 3  # in a row, before the pool gives up
START_SECONDS = 120.0  # for a child to start on a machine that is busy or reads Python over a network


class DecoderPool(Generic[Key]):
    """A pool of decoders, to be used by one thread at a time: `with Decoder(limits) as decoder: decoder.decode_many(…)`.

    By default there are as many children as the process may use cores. `module` is what the children run; a test puts
    one there that crashes or hangs where it wants to.
    """

    def __init__(
        self, limits: "ImagesConfig", processes: int | None = None, module: str = "synthgen.ingest.images.child"
    ) -> None:
        self.limits = limits
        self._module = module
        self._selector = selectors.DefaultSelector()
        self._children: list[DecoderProcess[Key]] = [new_child(_largest(limits)) for _ in range(processes or cores())]

    @property
    def peak_bytes(self) -> int:
        """The most that the whole pool can take, its shared memory included; ordinary images take a small part of it."""
        return peak_bytes(self.limits, len(self._children))

    @property
    def pids(self) -> list[int]:
        """The processes that run now."""
        return [child.process.pid for child in self._children if child.process is not None]

    def __enter__(self) -> "DecoderPool[Key]":
        for child in self._children:
            self._start(child)
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Ends the children; the pool cannot be used any more."""
        self._selector.close()
        for child in self._children:
            child.close()

    def decode_many(self, items: Iterable[tuple[Key, bytes]]) -> Iterator[tuple[Key, Decoded | Unfit]]:
        """Each item once, decoded or with the reason why not; no more items are taken than the slots hold."""
        source = iter(items)
        try:
            is_more = True
            while True:
                child = min(self._children, key=lambda child: len(child.work))
                if is_more and child.free:
                    item = next(source, None)
                    if item is None:
                        is_more = False
                    elif len(item[1]) > self.limits.max_bytes:
                        detail = f"{len(item[1]):,} bytes; the limit is {self.limits.max_bytes:,}"
                        yield item[0], Unfit("too_many_bytes", detail)
                    else:
                        if child.process is None:
                            self._start(child)
                        child.send(*item)
                    yield from self._results(wait=False)
                elif any(child.work for child in self._children):
                    yield from self._results(wait=True)
                else:
                    return
        finally:
            for child in self._children:
                if child.work:  # the caller lost interest, or failed: what is under way has no reader
                    self._stop(child)
                    child.forget()

    def _results(self, wait: bool) -> Iterator[tuple[Key, Decoded | Unfit]]:
        """What is done; waits until something is, or until a child is overdue."""
        now = time.monotonic()
        overdue = min((self._overdue_at(child) for child in self._children if child.work), default=now)
        for selected, _ in self._selector.select(max(0.0, overdue - now) if wait else 0):
            child = selected.data
            chunk = os.read(selected.fd, 1 << 16)
            if not chunk:
                yield from self._bury(child, is_overdue=False)
                continue
            for reply in child.read(chunk):
                sent = child.work.popleft()
                result = self._fetch(child, sent, reply)
                child.vacate(sent)
                yield sent.key, result
        for child in self._children:
            if child.work and time.monotonic() > self._overdue_at(child) and not self._has_replied(child):
                yield from self._bury(child, is_overdue=True)

    def _has_replied(self, child: DecoderProcess[Key]) -> bool:
        """Whether a reply lies unread: the caller may take its time between two results, and that makes no child late."""
        return any(key.data is child for key, _ in self._selector.select(0))

    def _overdue_at(self, child: DecoderProcess[Key]) -> float:
        """When to end a child whose own timer has not: it was stopped, or waits for something that does not come."""
        return child.since + STALLED * self.limits.decode_seconds + (5.0 if child.is_ready else START_SECONDS)

    def _fetch(self, child: DecoderProcess[Key], sent: SentImage[Key], reply: dict[str, Any]) -> Decoded | Unfit:
        if "reason" in reply:
            return Unfit(reply["reason"], reply["detail"])
        width, height = reply["seen"]
        image = shared_memory.take(child.memory, sent.slot * child.slot_bytes, (width, height))
        return Decoded(image, reply["format"], reply["width"], reply["height"], reply["phash"])

    def _bury(self, child: DecoderProcess[Key], is_overdue: bool) -> Iterator[tuple[Key, Unfit]]:
        """A child died or must die: its first image takes the blame, the others go to its successor."""
        was_ready = child.is_ready
        status, last_words = self._stop(child)
        blamed: list[tuple[Key, Unfit]] = []
        if not was_ready:
            child.failed_starts += 1
            if child.failed_starts >= FAILED_STARTS:
                raise SynthError(f"image decoders do not start: {last_words or f'exit status {status}'}")
        elif child.work and (verdict := self._verdict(child.work[0], status, is_overdue)):
            sent = child.work.popleft()
            child.vacate(sent)
            blamed.append((sent.key, verdict))
        self._start(child)
        yield from blamed

    def _verdict(self, sent: SentImage[Key], status: int, is_overdue: bool) -> Unfit | None:
        """What is said of an image in whose decoding a child died; None if it gets another try."""
        sent.strikes += 1
        if is_overdue or status == -signal.SIGPROF:
            return Unfit("decode_timeout", f"not decoded within {self.limits.decode_seconds:g} s on a core")
        if sent.strikes >= STRIKES:
            return Unfit("decoder_died", f"{STRIKES} decoders died of it, the last by {_cause(status)}")
        return None

    def _start(self, child: DecoderProcess[Key]) -> None:
        child.start(
            self._module, {"limits": self.limits.model_dump(mode="json"), "memory_bytes": child_bytes(self.limits)}
        )
        self._selector.register(child.replies, selectors.EVENT_READ, child)

    def _stop(self, child: DecoderProcess[Key]) -> tuple[int, str]:
        if child.process is not None:
            self._selector.unregister(child.replies)
        return child.stop()


def child_bytes(limits: "ImagesConfig") -> int:
    """The memory that one child may take on top of its code: three copies of the file, 16 bytes a pixel."""
    return 3 * limits.max_bytes + 16 * limits.max_pixels + 2**27


def peak_bytes(limits: "ImagesConfig", processes: int) -> int:
    """The most that so many children can take, with the memory that they share with their parent."""
    return processes * (child_bytes(limits) + SLOTS * slot_size(_largest(limits)))


def _largest(limits: "ImagesConfig") -> int:
    """What a slot must hold: a file, or the pixels that come of one."""
    return max(limits.max_bytes, limits.model_pixels * shared_memory.BYTES_PER_PIXEL)


def cores() -> int:
    """As many as this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _cause(status: int) -> str:
    """An exit status in words."""
    if status >= 0:
        return f"exit status {status}"
    with contextlib.suppress(ValueError):
        return signal.Signals(-status).name
    return f"signal {-status}"
