"""The loader: rows are read in one thread and encoded in others, while the model learns.

Comes in: pinned files, a processor, the place in the stream of rows to start at. Goes out: batches in order, each with the
place after it, so that a checkpoint needs to remember nothing else. A batch is the next `batch` rows without the unusable
ones, whatever the number of threads. Threads and not processes: decoding, scaling and tokenizing leave Python's lock.
"""

import copy
import queue
import threading
from collections import Counter, deque
from collections.abc import Generator, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, replace
from itertools import islice
from typing import Any

import torch

from synthgen.config.pipeline import TrainConfig
from synthgen.errors import UserMistake
from synthgen.train import dataset
from synthgen.train.dataset import Row, ShardFile
from synthgen.train.encode import Encoder, MicroBatch

AHEAD = 4  # batches encoded and waiting


@dataclass(frozen=True)
class Batch:
    """What one step learns from, what was left out on the way to it, and the place in the stream after it."""

    parts: Sequence[MicroBatch]
    skipped: Counter[str]
    place: int


def batches(
    files: Sequence[ShardFile], processor: Any, settings: TrainConfig, place: int, count: int
) -> Generator[Batch, None, None]:
    """So many batches from a place of the stream on; closing the generator early stops the threads."""
    total, useless, skipped = sum(file.rows for file in files), 0, Counter[str]()
    pool, waiting = _Encoders(processor, settings), deque[tuple[list[Row], Future[Batch]]]()
    try:
        with _Ahead(dataset.rows(files, settings.seed, place), settings.batch) as stream:
            while count:
                while len(waiting) < min(AHEAD, count):
                    place += settings.batch
                    taken = next(stream)
                    waiting.append((taken, pool.submit(taken, place)))
                taken, future = waiting.popleft()
                batch = future.result()
                skipped += batch.skipped
                useless = 0 if batch.parts else useless + settings.batch
                if useless >= total:
                    again = taken[len(taken) - (useless - total) :]  # rows whose turn has come a second time
                    skipped -= pool.submit(again, place).result().skipped
                    raise UserMistake(f"none of the {total:,} rows can be trained on: {counts(skipped)}")
                if batch.parts:
                    yield replace(batch, skipped=skipped)
                    skipped, count = Counter(), count - 1
    finally:
        pool.stop()


def moved(part: MicroBatch, device: torch.device) -> MicroBatch:
    """The part on the device where the model is."""
    if device.type == "cpu":
        return part
    return MicroBatch(
        {name: one.to(device, non_blocking=True) for name, one in part.inputs.items()},
        part.labels.to(device, non_blocking=True),
    )


def counts(skipped: Counter[str]) -> str:
    """What was left out, in words."""
    return ", ".join(f"{count:,} {reason.replace('_', ' ')}" for reason, count in skipped.most_common())


class _Encoders:
    """Threads, each with a processor of its own at a time."""

    def __init__(self, processor: Any, settings: TrainConfig) -> None:
        self._size = settings.micro_batch or settings.batch
        self._idle = queue.SimpleQueue[Encoder]()
        for _ in range(settings.workers):
            self._idle.put(Encoder(copy.deepcopy(processor), settings))
        # One thread of arithmetic in each: the others belong to the model.
        self._pool = ThreadPoolExecutor(settings.workers, initializer=torch.set_num_threads, initargs=(1,))

    def submit(self, rows: list[Row], place: int) -> Future[Batch]:
        return self._pool.submit(self._encode, rows, place)

    def stop(self) -> None:
        self._pool.shutdown(cancel_futures=True)

    def _encode(self, rows: list[Row], place: int) -> Batch:
        encoder, skipped = self._idle.get(), Counter[str]()
        try:
            found = [encoder.encode(rows[at : at + self._size]) for at in range(0, len(rows), self._size)]
        finally:
            self._idle.put(encoder)
        for _, reasons in found:
            skipped += reasons
        parts = [_pinned(part) for part, _ in found if part]
        return Batch([part for part in parts if part.answer_tokens], skipped, place)


def _pinned(part: MicroBatch) -> MicroBatch:
    """Memory from which a GPU fetches while it computes."""
    if not torch.cuda.is_available():
        return part
    return MicroBatch({name: one.pin_memory() for name, one in part.inputs.items()}, part.labels.pin_memory())


class _Ahead:
    """Lists of `size` rows taken from a stream by a thread, some lists ahead: a shard is read while batches wait."""

    def __init__(self, rows: Iterator[Row], size: int) -> None:
        self._rows, self._size = rows, size
        self._lists: queue.Queue[list[Row] | Exception] = queue.Queue(2 * AHEAD)
        self._stop = threading.Event()

    def _take(self) -> None:
        taken: list[Row] | Exception = []
        while not isinstance(taken, Exception) and not self._stop.is_set():
            try:
                taken = list(islice(self._rows, self._size))
            except Exception as error:  # goes to whoever asks for the next list
                taken = error
            while not self._stop.is_set():
                with suppress(queue.Full):
                    self._lists.put(taken, timeout=0.1)
                    break

    def __next__(self) -> list[Row]:
        taken = self._lists.get()
        if isinstance(taken, Exception):
            raise taken
        return taken

    def __enter__(self) -> "_Ahead":
        threading.Thread(target=self._take, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
