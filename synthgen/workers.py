"""The only door to Ray: workers that take partitions and hand back receipts.

Comes in: how to build a worker, and pieces of work. Goes out: receipts, in the order in which they come. A worker is an
object with `do(work)`, built inside its actor, so that what it holds (a model, an engine) never travels. Every actor has
one piece of work in hand and the next one waiting, so that it never idles. An actor that dies is replaced and what it
held is given out again; a piece of work that kills its actor twice is cut in half until one image stands alone, and that
image goes on record as poison. Ray's own restarts and retries are off: they would hide all this.
"""

import asyncio
import logging
import os
import sys
import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Protocol

from synthgen.config import Engine
from synthgen.errors import JobFailing, SynthError, UserMistake
from synthgen.models import EngineDied
from synthgen.store import Log, Receipt, TablePart

IN_HAND = 2  # pieces of work that an actor holds: one at work, one ready
STRIKES = 2  # deaths after which a piece of work is cut in half
TURN_SECONDS = 0.5  # between two questions for an actor's counters
DEATHS_IN_A_ROW = 6  # without one receipt between them, after which the job stops


@dataclass(frozen=True)
class Work:
    """A partition to do, or part of it."""

    partition: str
    revision: int
    inputs: Mapping[str, Log] = field(default_factory=dict, repr=False, compare=False)  # stage -> its log of this partition alone
    only: tuple[str, ...] | None = None  # the images (object ids) to do; None for all
    is_first: bool = True  # of the pieces of a partition, the one that tells what is true of the whole
    poison: bool = False  # these images killed their worker: record them, do not touch them


class Worker(Protocol):
    """What an actor holds."""

    async def do(self, work: Work) -> Receipt:
        """Does the work and writes its files."""

    def progress(self) -> Mapping[str, float]:
        """Counters that only grow, for the progress line."""


Show = Callable[[Mapping[str, float]], None]
Build = Callable[..., Any]  # async (settings) -> Worker


@dataclass(frozen=True)
class Crew:
    """How many actors of what kind."""

    build: Build
    settings: Any
    images: Callable[[Any], tuple[str, ...]]  # the object ids of a piece of work, for cutting it in half
    size: int = 1
    cpus: float = 1
    gpus: float = 0


def work_through(crew: Crew, works: Iterable[Work], commit: Callable[[Receipt], None], show: Show) -> None:
    """Has a crew do all the work; `commit` gets each partition's receipt once, `show` the crew's counters about twice a second."""
    _join_ray()
    _afford(crew.cpus, crew.gpus)
    Foreman(crew, works, commit, show).run()


def once(do: Callable[[Any], Any], task: Any, engine: Engine) -> Any:
    """The result of the coroutine `do(task)`, run in an actor of its own with an engine's resources."""
    _join_ray()
    import ray

    gpus = engine.gpus if engine.kind == "vllm" else 0
    _afford(engine.cpus, gpus)
    actor = ray.remote(_Once).options(num_cpus=engine.cpus, num_gpus=gpus, max_restarts=0, max_task_retries=0).remote()
    try:
        return ray.get(actor.do.remote(do, task))
    except ray.exceptions.RayTaskError as error:
        raise (error.cause if isinstance(error.cause, SynthError) else error) from None


def leave_ray() -> None:
    """Ends this process's part in Ray, if it took one."""
    if ray := sys.modules.get("ray"):
        ray.shutdown()


def _join_ray() -> None:
    """Joins the cluster that RAY_ADDRESS names, or starts one on this machine; once a process."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    import ray

    if ray.is_initialized():
        return
    # Workers import what the user's shelf names as module:attribute from the folder that `synth` was started in.
    path = os.pathsep.join([str(Path.cwd()), *filter(None, [os.environ.get("PYTHONPATH")])])
    ray.init(
        address=os.environ.get("RAY_ADDRESS"),
        include_dashboard=False,
        log_to_driver="SYNTH_RAY_LOGS" in os.environ,
        logging_level=logging.ERROR,
        runtime_env={"env_vars": {"PYTHONPATH": path}},
    )


@dataclass
class _Actor:
    handle: Any
    is_up: bool = False  # it has answered once; one that waits for a machine is given no work
    held: dict[Any, Work] = field(default_factory=dict)  # Ray reference -> work
    asked: Any = None  # Ray reference of a question for its counters, not yet answered
    asked_at: float = 0.0


class Foreman:
    """Gives out work, takes receipts, replaces the dead."""

    def __init__(self, crew: Crew, works: Iterable[Work], commit: Callable[[Receipt], None], show: Show) -> None:
        self._crew, self._commit, self._show = crew, commit, show
        self._fresh = iter(works)
        self._again: deque[Work] = deque()  # work whose actor died
        self._strikes: dict[Work, int] = {}
        self._pieces: dict[str, list[Receipt | None]] = {}  # of a partition that was cut in pieces
        self._deaths = 0
        self._actors: list[_Actor] = []
        self._counters: dict[int, Mapping[str, float]] = {}  # actor -> its counters when it last told them

    def run(self) -> None:
        """Until no work is left."""
        import ray

        self._actors = [self._hire() for _ in range(self._crew.size)]
        try:
            while self._hand_out():
                self._ask_for_counters()
                references = [one for actor in self._actors for one in (*actor.held, actor.asked) if one is not None]
                ready, _ = ray.wait(references, num_returns=1, timeout=TURN_SECONDS)
                for reference in ready:
                    self._take(reference)
                self._show(_sum(self._counters.values()))
        finally:
            for actor in self._actors:
                ray.kill(actor.handle)

    def _hire(self) -> _Actor:
        import ray

        options = {"num_cpus": self._crew.cpus, "num_gpus": self._crew.gpus, "max_restarts": 0, "max_task_retries": 0}
        return _Actor(ray.remote(Bench).options(**options, max_concurrency=64).remote(self._crew.build, self._crew.settings))

    def _hand_out(self) -> bool:
        """Fills the hands of every actor that is up; False when all work is done."""
        for actor in sorted(self._actors, key=lambda actor: len(actor.held)):
            while actor.is_up and self._has_room(actor) and (work := self._next(actor)) is not None:
                actor.held[actor.handle.do.remote(work)] = work
        if any(actor.held for actor in self._actors) or self._again:
            return True
        if (work := next(self._fresh, None)) is not None:
            self._again.append(work)
        return bool(self._again)

    def _has_room(self, actor: _Actor) -> bool:
        # Work that was there at a death is done alone, so that a second death says whose fault it is.
        return len(actor.held) < IN_HAND and not any(self._strikes.get(work) for work in actor.held.values())

    def _next(self, actor: _Actor) -> Work | None:
        if self._again:
            if self._strikes.get(self._again[0]) and actor.held:
                return None
            return self._again.popleft()
        return next(self._fresh, None)

    def _ask_for_counters(self) -> None:
        for actor in self._actors:
            if actor.asked is None and time.monotonic() - actor.asked_at >= TURN_SECONDS:
                actor.asked, actor.asked_at = actor.handle.progress.remote(), time.monotonic()

    def _take(self, reference: Any) -> None:
        """A receipt, an actor's counters, or the news of its death."""
        import ray

        actor = next(one for one in self._actors if reference == one.asked or reference in one.held)
        try:
            found = ray.get(reference)
        except ray.exceptions.RayActorError as error:
            self._bury(actor, str(error).splitlines()[0])
        except ray.exceptions.RayTaskError as error:
            if not isinstance(error.cause, EngineDied):
                raise (error.cause if isinstance(error.cause, SynthError) else error) from None
            self._bury(actor, f"the engine died: {error.cause}")
        else:
            if reference == actor.asked:
                actor.is_up, actor.asked = True, None
                self._counters[id(actor)] = found
            else:
                self._deaths = 0
                self._settle(actor.held.pop(reference), found)

    def _settle(self, work: Work, receipt: Receipt) -> None:
        """Commits a receipt, or keeps it until the other pieces of its partition are there."""
        pieces = self._pieces.get(work.partition)
        if pieces is None:
            self._commit(receipt)
            return
        pieces[pieces.index(None)] = receipt
        if None not in pieces:
            self._commit(_merged([piece for piece in pieces if piece is not None]))
            del self._pieces[work.partition]

    def _bury(self, actor: _Actor, why: str) -> None:
        """Replaces a dead actor; what it held was there at its death, and one piece of it may be the reason."""
        import ray

        self._deaths += 1
        if self._deaths >= DEATHS_IN_A_ROW:
            raise JobFailing(
                f"{self._deaths} workers died one after the other without finishing anything, the last because {why}; "
                "SYNTH_RAY_LOGS=1 shows all they say, and starting again continues from here"
            )
        ray.kill(actor.handle)
        self._actors.remove(actor)
        self._actors.append(self._hire())
        for work in actor.held.values():
            self._strike(work)

    def _strike(self, work: Work) -> None:
        """Notes a death of this work; after enough of them, halves it, or puts its one image on record."""
        strikes = self._strikes[work] = self._strikes.get(work, 0) + 1
        # Half of something that kills is suspect already: one death is enough. A single image gets a second chance.
        if strikes < (STRIKES if work.only is None or len(work.only) == 1 else 1):
            self._again.append(work)
            return
        images = work.only if work.only is not None else self._crew.images(work)
        if len(images) <= 1:
            self._again.append(replace(work, only=images, poison=True))
            return
        middle = len(images) // 2
        self._pieces.setdefault(work.partition, [None]).append(None)
        halves = (images[:middle], work.is_first), (images[middle:], False)
        self._again.extend(replace(work, only=half, is_first=is_first) for half, is_first in halves)


class Bench:
    """The actor: builds its worker where it is used. Its first call waits until the worker is ready."""

    def __init__(self, build: Build, settings: Any) -> None:
        sys.path.insert(0, str(Path.cwd()))
        self._build, self._settings = build, settings
        self._worker: Any = None
        self._lock = asyncio.Lock()

    async def do(self, work: Work) -> Receipt:
        """One piece of work."""
        async with self._lock:
            if self._worker is None:
                self._worker = await self._build(self._settings)
        receipt: Receipt = await self._worker.do(work)
        return receipt

    async def progress(self) -> Mapping[str, float]:
        """The worker's counters."""
        counters: Mapping[str, float] = self._worker.progress() if self._worker else {}
        return counters


class _Once:
    """An actor for one task."""

    async def do(self, do: Callable[[Any], Any], task: Any) -> Any:
        sys.path.insert(0, str(Path.cwd()))
        return await do(task)


def _merged(receipts: list[Receipt]) -> Receipt:
    """One receipt for the pieces of a partition."""
    tables: dict[str, TablePart] = {}
    counts: dict[str, int] = {}
    for receipt in receipts:
        for name, part in receipt.tables.items():
            files = (*tables[name].files, *part.files) if name in tables else part.files
            tables[name] = replace(part, files=files)
        for outcome, count in receipt.counts.items():
            counts[outcome] = counts.get(outcome, 0) + count
    return replace(receipts[0], tables=tables, counts=counts)


def _sum(counters: Iterable[Mapping[str, float]]) -> dict[str, float]:
    total: dict[str, float] = {}
    for one in counters:
        for name, value in one.items():
            total[name] = total.get(name, 0.0) + value
    return total


def _afford(cpus: float, gpus: float) -> None:
    """Raises if Ray can never place a worker; a cluster that grows by itself is given the time to."""
    import ray

    have = ray.cluster_resources()
    needs = (("GPU", gpus), ("CPU", cpus))
    lacking = [f"{need:g} {kind} (Ray sees {have.get(kind, 0):g})" for kind, need in needs if need > have.get(kind, 0)]
    if lacking and not os.environ.get("RAY_ADDRESS"):
        raise UserMistake(
            f"a worker needs {' and '.join(lacking)}; lower tag.gpus, generate.engine.gpus or generate.engine.cpus, or run elsewhere"
        )
