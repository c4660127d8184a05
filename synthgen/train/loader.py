"""Batches for the training loop: one thread reads rows and others encode them while the model trains.

A batch is the next `batch` rows of the stream without the unusable ones, for any number of threads; each process of a
group loads its share of them. It carries the position after it, so a checkpoint stores no other state of the loader.
Threads rather than processes: image decoding, scaling and tokenizing release the GIL.
"""

import copy
import queue
import threading
from collections import Counter, deque
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, replace
from itertools import count, islice
from typing import Any

import torch

from synthgen.config.training import TrainConfig
from synthgen.train import stream
from synthgen.train.encode import Encoder, MicroBatch
from synthgen.train.feed import Feed
from synthgen.train.forms import Row
from synthgen.train.group import ALONE, Group
from synthgen.train.methods.lengths import pieces
from synthgen.train.packing import pack

LAST_READ_SECONDS = 20.0  # that a reading thread has to end
BATCHES_AHEAD = 4  # encoded, or being encoded, before the loop asks for them


@dataclass(frozen=True)
class Batch:
    """The rows of one optimizer step, or this process's share of them.

    Attributes:
        micro_batches: The usable rows, at most `micro_batch` of them in each, or those of a sequence of `pack_tokens`,
            and none beside those of another length where that can be; rows of text alone are in some of their own.
            Tensors on the CPU. None where no row of the share is usable.
        skipped: The rows that are not, by reason.
        position: The number of rows of the whole stream that were taken, these included.
    """

    micro_batches: Sequence[MicroBatch]
    skipped: Counter[str]
    position: int


def batches(
    feed: Feed, processor: Any, settings: TrainConfig, position: int, group: Group = ALONE
) -> Generator[Batch, None, None]:
    """Yield batches without end. Closing the generator early stops its threads.

    Args:
        feed: The data sets.
        processor: The processor of the model; each thread copies it.
        settings: Batch sizes, limits, seed and threads.
        position: The number of rows of the stream that were taken before.
        group: Says which rows are this process's.

    Raises:
        ShardChanged: A file is missing or is not the one that was pinned.
        UserMistake: A file cannot be read.
    """
    share = stream.Share(group.rank, group.size, settings.batch)
    own = sum(share.has(place) for place in range(settings.batch))
    pool, pending = _EncoderPool(processor, settings), deque[Future[Batch]]()
    rows = stream.rows(feed, settings, position, share)
    if settings.lengths:
        epochs = (place // feed.rows for place in count(position) if share.has(place))
        rows = pieces(rows, epochs, settings.seed, settings.lengths)
    try:
        with _ReadAhead(rows, own) as lists:
            error: Exception | None = None
            while True:
                while len(pending) < BATCHES_AHEAD and not error:
                    position += settings.batch
                    try:
                        pending.append(pool.submit(next(lists) if own else [], position))
                    except Exception as found:  # raised where its batch would come, after those before it
                        error = found
                if not pending and error:
                    raise error
                yield pending.popleft().result()
    finally:
        pool.stop()


def to_device(micro_batch: MicroBatch, device: torch.device) -> MicroBatch:
    """Return a micro-batch on the model's device; shapes and dtypes stay as they are."""
    if device.type == "cpu":
        return micro_batch
    return _moved(micro_batch, lambda tensor: tensor.to(device, non_blocking=True))


def _moved(micro_batch: MicroBatch, move: Callable[[torch.Tensor], torch.Tensor]) -> MicroBatch:
    """Return a micro-batch with each tensor moved elsewhere; shapes and dtypes stay as they are."""
    inputs = {name: move(tensor) for name, tensor in micro_batch.inputs.items()}
    return replace(micro_batch, inputs=inputs, labels=move(micro_batch.labels), turn_of=move(micro_batch.turn_of))


def describe_skipped(skipped: Counter[str]) -> str:
    """Return the number of skipped rows for each reason, the most frequent first."""
    return ", ".join(f"{count:,} {reason.replace('_', ' ')}" for reason, count in skipped.most_common())


class _EncoderPool:
    """Threads that encode batches, with one processor for each."""

    def __init__(self, processor: Any, settings: TrainConfig) -> None:
        self._size = 1 if settings.pack_tokens else settings.micro_batch or settings.batch
        self._pack_tokens = settings.pack_tokens
        self._idle = queue.SimpleQueue[Encoder]()
        for _ in range(settings.workers):
            self._idle.put(Encoder(copy.deepcopy(processor), settings))
        # One torch thread in each: the other cores belong to the model.
        self._threads = ThreadPoolExecutor(settings.workers, initializer=torch.set_num_threads, initargs=(1,))

    def submit(self, rows: list[Row], position: int) -> Future[Batch]:
        """Encode the rows of a batch in a thread; `position` is the one after them."""
        return self._threads.submit(self._encode, rows, position)

    def stop(self) -> None:
        """Cancel the batches not yet started and wait for the others."""
        self._threads.shutdown(cancel_futures=True)

    def _encode(self, rows: list[Row], position: int) -> Batch:
        encoder = self._idle.get()
        try:
            results = [encoder.encode(chunk) for chunk in chunks(rows, self._size)]
        finally:
            self._idle.put(encoder)
        skipped = Counter[str]()
        for _, reasons in results:
            skipped += reasons
        usable = [micro_batch for micro_batch, _ in results if micro_batch and micro_batch.answer_tokens]
        if self._pack_tokens:
            kinds = ([each for each in usable if each.has_images is kind] for kind in (False, True))
            usable = [sequence for kind in kinds for sequence in pack(kind, self._pack_tokens)]
        return Batch([_pin_memory(micro_batch) for micro_batch in usable], skipped, position)


def chunks(rows: Sequence[Row], size: int) -> Iterator[list[Row]]:
    """Yield the rows of each micro-batch, those of about one length together, and those of text alone apart."""
    for has_images in (False, True):
        own = [row for row in rows if bool(row["images"]) is has_images]
        if size < len(own):
            own.sort(key=lambda row: int(row["length"]))
        yield from (own[start : start + size] for start in range(0, len(own), size))


def _pin_memory(micro_batch: MicroBatch) -> MicroBatch:
    """Move a micro-batch to page-locked memory, from which a GPU copies while it computes; shapes stay as they are."""
    if not torch.cuda.is_available():
        return micro_batch
    return _moved(micro_batch, lambda tensor: tensor.pin_memory())


class _ReadAhead:
    """An iterator over lists of `size` rows that a thread takes from a stream ahead of time.

    So the next shard is read while batches wait. An error of the stream is raised where its list would come.
    """

    def __init__(self, rows: Iterator[Row], size: int) -> None:
        self._rows, self._size = rows, size
        self._lists: queue.Queue[list[Row] | Exception] = queue.Queue(2 * BATCHES_AHEAD)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._read, daemon=True)

    def _read(self) -> None:
        item: list[Row] | Exception = []
        while not isinstance(item, Exception) and not self._stop.is_set():
            try:
                item = list(islice(self._rows, self._size))
            except Exception as error:  # raised again in __next__
                item = error
            while not self._stop.is_set():
                with suppress(queue.Full):
                    self._lists.put(item, timeout=0.1)
                    break

    def __next__(self) -> list[Row]:
        item = self._lists.get()
        if isinstance(item, Exception):
            raise item
        return item

    def __enter__(self) -> "_ReadAhead":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join(LAST_READ_SECONDS)  # it may be copying a shard, and copies are deleted after training
