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

from synthgen.console import GpuState, WorkerStatus
from synthgen.console.events import WorkerState
from synthgen.store import Receipt
from synthgen.workers.gpus import GpuWatch
from synthgen.workers.home import enter
from synthgen.workers.notes import collect_notes
from synthgen.workers.task import Build, PoolSpec, Talk, Talking, Task

SILENT_SECONDS = 120.0  # without an answer from a ready actor, after which it is given up: hung, or out of reach
START_SECONDS = 3600.0  # for an actor that has a machine to load its model
TURN_SECONDS = 0.5  # between two questions for an actor's counters
SILENT_CALLS_SECONDS = 30.0  # without an answer to any call under way: from here on a person should know


@dataclass(frozen=True)
class Report:
    """What an actor says of itself twice a second.

    Attributes:
        counters: Of its worker; they only grow.
        notes: Messages since the last report.
        talk: Of a worker that holds conversations.
        gpus: That it uses.
    """

    counters: Mapping[str, float] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    talk: Talk | None = None
    gpus: tuple[GpuState, ...] = ()


class ActorShell:
    """The object that runs in the actor."""

    def __init__(self, build: Build, settings: Any, home: Path) -> None:
        enter(home)
        self._build, self._settings = build, settings
        self._worker: Any = None
        self._is_draining = False
        self._notes = collect_notes()
        self._gpus: GpuWatch | None = None

    async def start(self) -> tuple[str, list[str]]:
        """Build the worker here, and return the id of the node and what was noted."""
        import ray

        self._worker = await self._build(self._settings)
        self._gpus = GpuWatch()
        node: str = ray.get_runtime_context().get_node_id()
        return node, self._notes.take()

    async def do(self, task: Task) -> tuple[Receipt | None, Report]:
        """Do a task, and return its receipt, or None if it is given back, with what was counted by then."""
        receipt: Receipt | None = None if self._is_draining else await self._worker.do(task)
        return receipt, await self.progress()

    async def progress(self) -> Report:
        """Return the worker's counters, and what was noted since the last call."""
        notes = tuple(self._notes.take())
        if self._worker is None:
            return Report(notes=notes)
        talk = self._worker.talk() if isinstance(self._worker, Talking) else None
        return Report(self._worker.progress(), notes, talk, self._gpus.look() if self._gpus else ())

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
        name: Its place in the pool; an actor that replaces another has its name.
        created_at: When it was requested.
        ready_at: When its worker was built.
        changed_at: When its hands were last filled or emptied.
        handed_at: Ray reference of a task → when it was handed out.
        report: What it last said of itself.
    """

    handle: Any
    started: Any
    name: str = "worker-1"
    is_ready: bool = False
    node: str | None = None
    held: dict[Any, Task] = field(default_factory=dict)
    asked: Any = None
    asked_at: float = 0.0
    placed_at: float | None = None
    created_at: float = field(default_factory=time.monotonic)
    ready_at: float | None = None
    changed_at: float = field(default_factory=time.monotonic)
    handed_at: dict[Any, float] = field(default_factory=dict)
    report: Report = field(default_factory=Report)

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
        self.ready_at = self.changed_at = self.asked_at

    def hand(self, task: Task) -> None:
        """Give it a task."""
        now = time.monotonic()
        self.changed_at = self.changed_at if self.held else now
        reference = self.handle.do.remote(task)
        self.held[reference], self.handed_at[reference] = task, now

    def take(self, reference: Any) -> tuple[Task, float]:
        """Take back a task that it has done, and the seconds since it got it."""
        now = time.monotonic()
        task = self.held.pop(reference)
        self.changed_at = self.changed_at if self.held else now
        return task, now - self.handed_at.pop(reference, now)

    def set_answered(self) -> None:
        """Note that it reported."""
        self.asked = None
        self.placed_at = self.placed_at or time.monotonic()

    def take_finished(self) -> list[tuple[Task, Receipt]]:
        """Remove and return the tasks that it finished and whose receipts were not taken yet."""
        import ray

        finished = []
        for reference in ray.wait(list(self.held), num_returns=len(self.held), timeout=0)[0] if self.held else []:
            with suppress(ray.exceptions.RayError):
                if receipt := ray.get(reference)[0]:
                    finished.append((self.take(reference)[0], receipt))
        return finished

    def fault(self, now: float) -> str | None:
        """Return why it must be given up though it has not died; `now` is when all its answers were taken."""
        if self.is_ready:
            silent = now - self.asked_at if self.asked is not None else 0.0
            return f"it has not answered for {silent:.0f} s" if silent >= SILENT_SECONDS else None
        waited = now - self.placed_at if self.placed_at is not None else 0.0
        return f"it was not ready after {waited:.0f} s" if waited >= START_SECONDS else None

    def ready_seconds(self, now: float) -> float:
        """Return for how long its worker has been there, and its machine with it."""
        return 0.0 if self.ready_at is None else now - self.ready_at

    def status(self, now: float) -> WorkerStatus:
        """Return how it is."""
        talk, report = self.report.talk, self.report
        state, since = self._state()
        tokens, ready = report.counters.get("output_tokens"), self.ready_seconds(now)
        return WorkerStatus(
            self.name,
            state,
            now - since,
            self.node,
            len(self.held),
            talk.in_flight if talk else None,
            talk.silent_seconds if talk else None,
            tokens / ready if tokens is not None and ready else None,
            report.gpus,
        )

    def _state(self) -> tuple[WorkerState, float]:
        """Return its state, and since when it has been in it."""
        if not self.is_ready:
            return ("starting", self.created_at) if self.placed_at is None else ("loading", self.placed_at)
        silent = self.report.talk.silent_seconds if self.report.talk else 0.0
        if silent >= SILENT_CALLS_SECONDS:
            return "silent", time.monotonic() - silent
        return ("at work" if self.held else "idle"), self.changed_at


def options_of_actor(cpus: float, gpus: float | None) -> dict[str, Any]:
    """Return the options of an actor for Ray, whose own restarts and retries are off."""
    return {"num_cpus": cpus, "num_gpus": gpus, "max_restarts": 0, "max_task_retries": 0}


def start_actor(spec: PoolSpec, name: str) -> ActorHandle:
    """Start an actor. It is asked for a sign of life before its start, which may keep it busy for long."""
    import ray

    options = {**options_of_actor(spec.cpus, spec.gpus), "max_concurrency": 64}
    handle = ray.remote(ActorShell).options(**options).remote(spec.build, spec.settings, spec.home)
    actor = ActorHandle(handle, None, name)
    actor.ask()
    actor.started = handle.start.remote()
    return actor
