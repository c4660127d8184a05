"""Batches made by processes beside the training.

In: a function from (first picture, how many) to a batch. Out: batches without end, in order. Why this way: drawing a picture and its
lessons takes a few milliseconds of plain Python, which on a CPU is a tenth of a step and on a GPU many times one; each
process makes every n-th batch and has a queue of its own, so the order is the same however fast each of them is.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import cycle
from multiprocessing import get_context
from multiprocessing.queues import Queue
from typing import Generic, TypeVar

Batch = TypeVar("Batch")
AHEAD = 6  # batches that wait


class Feed(Generic[Batch]):
    """Batches of `size` pictures from `first` on, `stride` apart, made by so many `processes`."""

    def __init__(self, make: Callable[[int, int], Batch], first: int, size: int, stride: int, processes: int) -> None:
        context = get_context("fork")  # the children draw and tokenize only and never enter torch

        def work(queue: Queue[Batch], at: int) -> None:
            while True:
                queue.put(make(at, size))
                at += stride * processes

        self._queues: list[Queue[Batch]] = [context.Queue(AHEAD) for _ in range(processes)]
        for number, queue in enumerate(self._queues):
            context.Process(target=work, args=(queue, first + number * stride), daemon=True).start()

    def __iter__(self) -> Iterator[Batch]:
        for queue in cycle(self._queues):
            yield queue.get()
