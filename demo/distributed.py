"""Where the recipe trains: on a GPU if there is one, else in two processes of one thread each.

In: a function that trains. Out: the function run once in each process, with gradients averaged after every batch. Why this way: threads
inside an operation meet at a barrier thousands of times a step, so on a machine with other work two threads were three times
slower than one (README.md); processes meet once a step. Both compute the same update from the same gradient, so
weights stay equal without being sent.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from multiprocessing import get_context
from typing import Any

import torch
from torch import Tensor, nn

PATIENCE = 900  # seconds to wait for the others before giving up


@dataclass(frozen=True)
class Place:
    """A device, how many processes train there, and how many processes feed each."""

    device: torch.device
    members: int
    feeders: int


def place() -> Place:
    """What this machine offers."""
    cores = len(os.sched_getaffinity(0))
    if torch.cuda.is_available():
        return Place(torch.device("cuda"), 1, max(1, cores - 1))
    return Place(torch.device("cpu"), min(2, cores), 1)


class Team:
    """One member's view: its number, how many there are, and the memory they share."""

    def __init__(self, size: int, weights: int, counters: int) -> None:
        self.rank, self.size = 0, size
        self.gradients = torch.zeros(size, weights).share_memory_()
        self.counters = torch.zeros(size, counters, dtype=torch.float64).share_memory_()
        self.barrier: Any = get_context("fork").Barrier(size)

    def average(self, parameters: Iterable[nn.Parameter]) -> None:
        """Replace every gradient by the mean over the team."""
        weights = [w for w in parameters if w.grad is not None]
        if self.size == 1:
            return
        torch.cat([_flat(w) for w in weights], out=self.gradients[self.rank, : sum(w.numel() for w in weights)])
        self.barrier.wait(PATIENCE)
        mean, at = self.gradients.mean(0), 0
        for weight in weights:
            assert weight.grad is not None
            weight.grad.copy_(mean[at : at + weight.numel()].view_as(weight))
            at += weight.numel()
        self.barrier.wait(PATIENCE)  # nobody writes the next gradients before all have read these


def _flat(weight: nn.Parameter) -> Tensor:
    assert weight.grad is not None
    return weight.grad.flatten()


def together(team: Team, work: Callable[[Team], None]) -> None:
    """Run `work` in every member; the first is this process."""
    torch.set_num_threads(1)  # before any thread starts, so that forking is safe

    def member(rank: int) -> None:
        team.rank = rank
        if rank:
            os.setsid()  # Linux shares the CPU out by session: two members should count as two
        work(team)

    others = [get_context("fork").Process(target=member, args=(rank,)) for rank in range(1, team.size)]
    for process in others:
        process.start()
    member(0)
    for process in others:
        process.join(60)
