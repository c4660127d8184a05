"""Tasks, and the workers that do them. Plain values; a worker is built inside its actor, so its model never travels."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from synthgen.console import Sample
from synthgen.store import CommitLog, Folder, Receipt

FINISH_SECONDS = 15.0  # for a worker to finish its current task once a run is asked to stop
TASKS_PER_ACTOR = 2  # that it holds: one at work, one ready


@dataclass(frozen=True)
class Task:
    """A partition to do, or part of it.

    Attributes:
        epoch: Of the commit that the result becomes.
        inputs: Folder of a stage → its commits of this partition.
        only: What to do, as ids of images or objects (those that PoolSpec.images returns); None for all.
        is_first: Whether this is the piece of a partition that reports what is true of the whole.
        poison: Whether these images killed their worker: they are recorded and not touched again.
        why: Of poison, the death of its worker.
    """

    partition: str
    revision: int
    inputs: Mapping[str, CommitLog] = field(default_factory=dict, repr=False, compare=False)
    only: tuple[str, ...] | None = None
    is_first: bool = True
    poison: bool = False
    why: str = field(default="", compare=False)
    epoch: int = 1


class Worker(Protocol):
    """The object that an actor holds."""

    async def do(self, task: Task) -> Receipt | None:
        """Do a task. After `drain`, return None or a receipt for a part of it."""

    def progress(self) -> Mapping[str, float]:
        """Return counters that only grow, for the progress line."""

    def drain(self) -> None:
        """Start nothing new; finish a started task if that takes no longer than FINISH_SECONDS."""


@dataclass(frozen=True)
class Talk:
    """The conversations of a worker at one moment.

    Attributes:
        in_flight: How many it holds.
        silent_seconds: For how long its engine has answered none of the calls under way.
        last: The last pair that came of one.
    """

    in_flight: int
    silent_seconds: float = 0.0
    last: Sample | None = None


@runtime_checkable
class Talking(Protocol):
    """A worker that holds conversations with an engine."""

    def talk(self) -> Talk:
        """Return how its conversations are."""


Show = Callable[[Mapping[str, float]], None]
Build = Callable[..., Any]  # async (settings) -> Worker


@dataclass(frozen=True)
class PoolSpec:
    """How many actors a pool has, and of what kind.

    Attributes:
        build: Coroutine function that builds a worker from `settings`, inside the actor.
        settings: Its argument; it is pickled.
        images: Returns the ids of the images or objects of a task, by which it is cut in half.
        size: Number of actors.
        cpus: Of each actor.
        gpus: Of each actor; None leaves it to the cluster.
        notes: Where deaths are recorded; nowhere if None.
        home: The folder that an actor imports code of the user from.
        name: What its actors are called, before their number.
    """

    build: Build
    settings: Any
    images: Callable[[Any], tuple[str, ...]]
    size: int = 1
    cpus: float = 1
    gpus: float | None = 0
    notes: Folder | None = None
    home: Path = field(default_factory=Path.cwd)
    name: str = "worker"
