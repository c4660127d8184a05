"""Batches made by processes beside the training.

Drawing a picture and its examples takes milliseconds of plain Python: on a CPU a tenth of a training step, on a GPU
many steps. Each process makes every n-th batch and has its own queue, so the order does not depend on their speed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import cycle
from multiprocessing import get_context
from multiprocessing.queues import Queue
from typing import Generic, TypeVar

Batch = TypeVar("Batch")
QUEUED = 6  # batches that wait in each queue, at most


class BatchLoader(Generic[Batch]):
    """Batches without end, in order.

    Args:
        make: Makes a batch from (number of its first picture, number of pictures).
        first: First picture of the first batch.
        size: Pictures of a batch.
        stride: Pictures from the start of one batch to that of the next.
        processes: Number of processes that make batches.
    """

    def __init__(self, make: Callable[[int, int], Batch], first: int, size: int, stride: int, processes: int) -> None:
        context = get_context("fork")  # the children draw and tokenize only and never enter torch

        def fill(queue: Queue[Batch], at: int) -> None:
            while True:
                queue.put(make(at, size))
                at += stride * processes

        self._queues: list[Queue[Batch]] = [context.Queue(QUEUED) for _ in range(processes)]
        for number, queue in enumerate(self._queues):
            context.Process(target=fill, args=(queue, first + number * stride), daemon=True).start()

    def __iter__(self) -> Iterator[Batch]:
        for queue in cycle(self._queues):
            yield queue.get()
