"""The processes that share a training: one alone, or several that hold a part of the model and of each batch each.

All of them make the same calls in the same order, so whatever only one can know (a row that cannot be used, a signal)
is exchanged before anybody acts on it: a process that waits for another in a forward pass waits for ever.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.distributed as dist

CPU = torch.device("cpu")


@dataclass(frozen=True)
class Group:
    """This process among those of its training.

    Attributes:
        rank: Its number, from 0.
        size: How many there are.
        device: What it computes on.
    """

    rank: int = 0
    size: int = 1
    device: torch.device = CPU

    @property
    def is_first(self) -> bool:
        """Whether this process writes what all of them have in common."""
        return self.rank == 0

    def gather(self, value: Any) -> list[Any]:
        """Return the values of all processes by rank; they are pickled, so they should be small."""
        if self.size == 1:
            return [value]
        values: list[Any] = [None] * self.size
        dist.all_gather_object(values, value)
        return values

    def sums(self, values: Sequence[float]) -> list[float]:
        """Return the sums over all processes, each added up in the order of the ranks."""
        return [sum(column) for column in zip(*self.gather(list(values)), strict=True)]

    def wait(self) -> None:
        """Wait until all processes are here."""
        if self.size > 1:
            dist.barrier()


ALONE = Group()


def own_group() -> Group:
    """Return the group of a process that trains alone, on a GPU where there is one."""
    return Group(device=torch.device("cuda" if torch.cuda.is_available() else "cpu"))


def joined_group() -> Group:
    """Return the group of a process in which torch.distributed is set up, as Ray Train does."""
    device = torch.device("cuda", torch.cuda.current_device()) if torch.cuda.is_available() else torch.device("cpu")
    return Group(dist.get_rank(), dist.get_world_size(), device)
