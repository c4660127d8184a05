"""An actor from both sides: the object inside it, and the pool's view of it.

The worker is built by `start`, apart from the first task, so that a model that loads for minutes is distinguished from
one that hangs: an actor that is ready answers the question for its counters at once, because tasks run beside its event
loop.
"""

import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from synthgen.store import Receipt
from synthgen.workers.home import enter
from synthgen.workers.notes import collect_notes
from synthgen.workers.task import Build, PoolSpec, Task

SILENT_SECONDS = 120.0  # without an answer from a ready actor, after which it is given up: hung, or out of reach
START_SECONDS = 3600.0  # for an actor that has a machine to load its model
TURN_SECONDS = 0.5  # between two questions for an actor's counters


class ActorShell:
    """The object that runs in the actor."""

    def __init__(self, build: Build, settings: Any, home: Path) -> None:
        enter(home)
        self._build, self._settings = build, settings
        self._worker: Any = None
        self._is_draining = False
        self._notes = collect_notes()

    async def start(self) -> tuple[str, list[str]]:
        """Build the worker here, and return the id of the node and what was noted."""
        import ray

        self._worker = await self._build(self._settings)
        node: str = ray.get_runtime_context().get_node_id()
        return node, self._notes.take()

    async def do(self, task: Task) -> Receipt | None:
        """Do a task; None if it is given back."""
        if self._is_draining:
            return None
        receipt: Receipt | None = await self._worker.do(task)
        return receipt

    async def progress(self) -> tuple[Mapping[str, float], list[str]]:
        """Return the worker's counters, and what was noted since the last call."""
        counters: Mapping[str, float] = self._worker.progress() if self._worker else {}
        return counters, self._notes.take()

    async def drain(self) -> None:
        """Start nothing new from now on."""
        self._is_draining = True
        if self._worker:
            self._worker.drain()


@dataclass(eq=False)
class ActorHandle:
    """The pool's view of an actor; it equals no other, so that it can be a key.

    Attributes:
        handle: Ray's handle.
        started: Ray reference of its start, until that is done.
        node: The id of its node, once it is ready.
        held: Ray reference → task.
        asked: Ray reference of a question for its counters that is not answered yet.
        asked_at: When it was asked, on the monotonic clock.
        placed_at: When it first answered anything; None while it waits for a machine.
    """

    handle: Any
    started: Any
    is_ready: bool = False
    node: str | None = None
    held: dict[Any, Task] = field(default_factory=dict)
    asked: Any = None
    asked_at: float = 0.0
    placed_at: float | None = None

    def references(self) -> list[Any]:
        """Return the references that it owes an answer to."""
        return [reference for reference in (self.started, *self.held, self.asked) if reference is not None]

    def ask(self) -> None:
        """Ask for its counters, if it is time to."""
        if self.asked is None and time.monotonic() - self.asked_at >= TURN_SECONDS:
            self.asked, self.asked_at = self.handle.progress.remote(), time.monotonic()

    def set_ready(self, node: str) -> None:
        """Note that its worker is built."""
        self.is_ready, self.node, self.started = True, node, None
        self.asked_at = time.monotonic()  # a question that it could not answer while it loaded counts from now on
        self.placed_at = self.placed_at or self.asked_at

    def set_answered(self) -> None:
        """Note that it returned its counters."""
        self.asked = None
        self.placed_at = self.placed_at or time.monotonic()

    def take_finished(self) -> list[tuple[Task, Receipt]]:
        """Remove and return the tasks that it finished and whose receipts were not taken yet."""
        import ray

        finished = []
        for reference in ray.wait(list(self.held), num_returns=len(self.held), timeout=0)[0] if self.held else []:
            with suppress(ray.exceptions.RayError):
                if receipt := ray.get(reference):
                    finished.append((self.held.pop(reference), receipt))
        return finished

    def fault(self, now: float) -> str | None:
        """Return why it must be given up though it has not died; `now` is when all its answers were taken."""
        if self.is_ready:
            silent = now - self.asked_at if self.asked is not None else 0.0
            return f"it has not answered for {silent:.0f} s" if silent >= SILENT_SECONDS else None
        waited = now - self.placed_at if self.placed_at is not None else 0.0
        return f"it was not ready after {waited:.0f} s" if waited >= START_SECONDS else None


def options_of_actor(cpus: float, gpus: float | None) -> dict[str, Any]:
    """Return the options of an actor for Ray, whose own restarts and retries are off."""
    return {"num_cpus": cpus, "num_gpus": gpus, "max_restarts": 0, "max_task_retries": 0}


def start_actor(spec: PoolSpec) -> ActorHandle:
    """Start an actor. It is asked for a sign of life before its start, which may keep it busy for long."""
    import ray

    options = {**options_of_actor(spec.cpus, spec.gpus), "max_concurrency": 64}
    handle = ray.remote(ActorShell).options(**options).remote(spec.build, spec.settings, spec.home)
    actor = ActorHandle(handle, None)
    actor.ask()
    actor.started = handle.start.remote()
    return actor
