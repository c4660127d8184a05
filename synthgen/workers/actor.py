"""An actor, from both sides: what runs in it, and what its foreman knows of it.

Comes in: how to build a worker. Goes out: its receipts and its counters. The worker is built by `start`, apart from the first
piece of work, so that a model that loads for minutes is told from one that hangs: an actor that is ready answers the
question for its counters at once, whatever its worker is at, because work runs beside its event loop.
"""

import sys
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from synthgen.store import Receipt
from synthgen.workers.task import Build, PoolSpec, Task

SILENT_SECONDS = (
    120.0  # without an answer from an actor that was ready, after which it is given up: hung, or out of reach
)
START_SECONDS = 3600.0  # for an actor that has a machine to load its model
TURN_SECONDS = 0.5  # between two questions for an actor's counters


class ActorShell:
    """What runs in the actor."""

    def __init__(self, build: Build, settings: Any) -> None:
        sys.path.insert(0, str(Path.cwd()))
        self._build, self._settings = build, settings
        self._worker: Any = None
        self._drains = False

    async def start(self) -> str:
        """Builds the worker where it is used; says on which node that is."""
        import ray

        self._worker = await self._build(self._settings)
        node: str = ray.get_runtime_context().get_node_id()
        return node

    async def do(self, work: Task) -> Receipt | None:
        """One piece of work; None if it is given back."""
        if self._drains:
            return None
        receipt: Receipt | None = await self._worker.do(work)
        return receipt

    async def progress(self) -> Mapping[str, float]:
        """The worker's counters."""
        counters: Mapping[str, float] = self._worker.progress() if self._worker else {}
        return counters

    async def drain(self) -> None:
        """Nothing new is begun from now on."""
        self._drains = True
        if self._worker:
            self._worker.drain()


@dataclass
class ActorHandle:
    """What the foreman knows of an actor."""

    handle: Any
    started: Any  # Ray reference of its start, until that is done
    is_ready: bool = False
    node: str | None = None  # where it is, once it is ready
    held: dict[Any, Task] = field(default_factory=dict)  # Ray reference -> work
    asked: Any = None  # Ray reference of a question for its counters, not yet answered
    asked_at: float = 0.0
    placed_at: float | None = None  # when it first answered anything; None while it waits for a machine

    def references(self) -> list[Any]:
        """What it owes an answer to."""
        return [one for one in (self.started, *self.held, self.asked) if one is not None]

    def ask(self) -> None:
        """Asks for its counters, if it is time to."""
        if self.asked is None and time.monotonic() - self.asked_at >= TURN_SECONDS:
            self.asked, self.asked_at = self.handle.progress.remote(), time.monotonic()

    def begin(self, node: str) -> None:
        """Its worker is built."""
        self.is_ready, self.node, self.started = True, node, None
        self.asked_at = time.monotonic()  # a question that it could not answer while it loaded counts from now on
        self.placed_at = self.placed_at or self.asked_at

    def answer(self) -> None:
        """It told its counters."""
        self.asked = None
        self.placed_at = self.placed_at or time.monotonic()

    def finished(self) -> list[tuple[Task, Receipt]]:
        """Takes out of its hands what it did and nobody has looked at yet."""
        import ray

        done = []
        for reference in ray.wait(list(self.held), num_returns=len(self.held), timeout=0)[0] if self.held else []:
            with suppress(ray.exceptions.RayError):
                if receipt := ray.get(reference):
                    done.append((self.held.pop(reference), receipt))
        return done

    def fault(self, now: float) -> str | None:
        """Why it must be given up, though it has not died; `now` is when all that it had answered was taken."""
        if self.is_ready:
            silent = now - self.asked_at if self.asked is not None else 0.0
            return f"it has not answered for {silent:.0f} s" if silent >= SILENT_SECONDS else None
        started = now - self.placed_at if self.placed_at is not None else 0.0
        return f"it was not ready after {started:.0f} s" if started >= START_SECONDS else None


def start_actor(crew: PoolSpec) -> ActorHandle:
    """A new actor; it is asked for a sign of life before its start, which may keep it busy for long."""
    import ray

    options = {"num_cpus": crew.cpus, "num_gpus": crew.gpus, "max_restarts": 0, "max_task_retries": 0}
    handle = ray.remote(ActorShell).options(**options, max_concurrency=64).remote(crew.build, crew.settings)
    hired = ActorHandle(handle, None)
    hired.ask()
    hired.started = handle.start.remote()
    return hired
