"""What is given out, and to whom.

Comes in: nothing; these are plain values. A worker is an object with `do(work)`, built inside its actor, so that what it holds
(a model, an engine) never travels.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from synthgen.store import CommitLog, Folder, Receipt


@dataclass(frozen=True)
class Task:
    """A partition to do, or part of it."""

    partition: str
    revision: int
    inputs: Mapping[str, CommitLog] = field(
        default_factory=dict, repr=False, compare=False
    )  # stage -> its log of this partition alone
    only: tuple[str, ...] | None = None  # the images (object ids) to do; None for all
    is_first: bool = True  # of the pieces of a partition, the one that tells what is true of the whole
    poison: bool = False  # these images killed their worker: record them, do not touch them
    why: str = field(default="", compare=False)  # of poison: what its worker died of


class Worker(Protocol):
    """What an actor holds."""

    async def do(self, work: Task) -> Receipt | None:
        """Does the work and writes its files; None, or a receipt for a part of it, once `drain` was called."""

    def progress(self) -> Mapping[str, float]:
        """Counters that only grow, for the progress line."""

    def drain(self) -> None:
        """From now on nothing new is begun; what is begun is finished if it takes no longer than GIVEN_SECONDS."""


Show = Callable[[Mapping[str, float]], None]
Build = Callable[..., Any]  # async (settings) -> Worker
GIVEN_SECONDS = 15.0  # that a worker has to finish what it is at, once a run was asked to stop


@dataclass(frozen=True)
class PoolSpec:
    """How many actors of what kind."""

    build: Build
    settings: Any
    images: Callable[[Any], tuple[str, ...]]  # the object ids of a piece of work, for cutting it in half
    size: int = 1
    cpus: float = 1
    gpus: float | None = 0  # of each; None leaves it to what the cluster has
    notes: Folder | None = None  # where deaths are noted; nowhere if None
