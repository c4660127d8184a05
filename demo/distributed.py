"""Data-parallel training on one machine: one process on a GPU, else two processes of one thread each.

Threads inside an operation meet at a barrier thousands of times a step; on a machine with other work two threads were
three times slower than one (README.md). Processes meet once a step, to average their gradients. All compute the same
update from the same gradient, so the weights stay equal without being sent.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from multiprocessing import get_context
from typing import Any

import torch
from torch import Tensor, nn

TIMEOUT = 900  # seconds to wait for the other processes


@dataclass(frozen=True)
class Hardware:
    """A device, the number of processes that train on it, and of processes that load data for each."""

    device: torch.device
    processes: int
    loaders: int


def detect_hardware() -> Hardware:
    """Return how to train on this machine."""
    cores = len(os.sched_getaffinity(0))
    if torch.cuda.is_available():
        return Hardware(torch.device("cuda"), 1, max(1, cores - 1))
    return Hardware(torch.device("cpu"), min(2, cores), 1)


class ProcessGroup:
    """The training processes as one of them sees them: its rank, their number, and the memory that they share.

    Args:
        size: Number of processes.
        weights: Number of trainable weights of the model.
        statistics: Number of float64 values that each process reports to the others.
    """

    def __init__(self, size: int, weights: int, statistics: int = 1) -> None:
        self.rank, self.size = 0, size
        self.gradients = torch.zeros(size, weights).share_memory_()  # (processes, weights)
        self.statistics = torch.zeros(size, statistics, dtype=torch.float64).share_memory_()  # (processes, statistics)
        self.barrier: Any = get_context("fork").Barrier(size)

    def average_gradients(self, parameters: Iterable[nn.Parameter]) -> None:
        """Replace every gradient by its mean over the processes (all-reduce)."""
        weights = [weight for weight in parameters if weight.grad is not None]
        if self.size == 1:
            return
        used = sum(weight.numel() for weight in weights)
        torch.cat([_flat_gradient(weight) for weight in weights], out=self.gradients[self.rank, :used])  # (used,)
        self.barrier.wait(TIMEOUT)
        mean, start = self.gradients.mean(0), 0  # (weights,)
        for weight in weights:
            assert weight.grad is not None
            weight.grad.copy_(mean[start : start + weight.numel()].view_as(weight))  # (n,) -> shape of the weight
            start += weight.numel()
        self.barrier.wait(TIMEOUT)  # all have read these gradients before one writes the next


def _flat_gradient(weight: nn.Parameter) -> Tensor:
    assert weight.grad is not None
    return weight.grad.flatten()


def run_in_processes(group: ProcessGroup, train: Callable[[ProcessGroup], None]) -> None:
    """Run a function in every process of a group; the first is this process, the others are forked."""
    torch.set_num_threads(1)  # before any thread starts, so that forking is safe

    def run(rank: int) -> None:
        group.rank = rank
        if rank:
            os.setsid()  # Linux shares the CPU out by session: two processes should count as two
        train(group)

    others = [get_context("fork").Process(target=run, args=(rank,)) for rank in range(1, group.size)]
    for process in others:
        process.start()
    run(0)
    for process in others:
        process.join(60)
        if process.exitcode != 0:
            raise RuntimeError(f"process {process.name} of the training ended with status {process.exitcode}")
