"""A pool of actors: hands out tasks, yields receipts, replaces the dead.

Each actor has one task at work and the next one waiting, so that it never idles. An actor that dies, reports that its
engine died, runs out of memory or no longer answers is replaced, and its tasks are handed out again; its receipts are
ignored, so an actor that is still alive behind a broken network commits nothing twice. A death counts against its tasks
only where the worker itself died: not where its node was lost, and not while the run is being stopped, when platforms
end workers as they end the driver.
"""

import time
from collections import deque
from collections.abc import Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass, replace
from typing import Any

from synthgen.console import Sample, note, tell
from synthgen.console.events import Change, TaskDone, WorkerChanged, Workers
from synthgen.errors import JobFailing, Stopped, one_line
from synthgen.store import Receipt
from synthgen.workers.actor import TURN_SECONDS, ActorHandle, Report, start_actor
from synthgen.workers.bisection import Bisection
from synthgen.workers.cluster import Waiting, check_resources, gpus_per_worker, join_ray
from synthgen.workers.failures import WorkerDeath, death_of, engine_death
from synthgen.workers.notes import pass_on
from synthgen.workers.ray_watch import check_ray, ray_fault, ray_faults
from synthgen.workers.signals import StopSignals
from synthgen.workers.task import FINISH_SECONDS, TASKS_PER_ACTOR, PoolSpec, Show, Task

DEATHS_IN_A_ROW = 6  # without one receipt between them, after which the job stops
PATIENCE = 4  # times as many, once there were receipts: many bad images may lie in one partition
LOST_IN_A_ROW = 10  # times that each place of a pool may lose its node without one receipt between them all
DRAIN_SECONDS = FINISH_SECONDS + 10  # after which unfinished tasks are given back as well


@dataclass(frozen=True)
class PoolWork:
    """A pool and its work.

    Attributes:
        spec: The actors; none means that there is nothing to do.
        tasks: In the order in which they are handed out.
        show: Called with the sum of the actors' counters about twice a second.
    """

    spec: PoolSpec
    tasks: Iterable[Task]
    show: Show


def run_pool(spec: PoolSpec, tasks: Iterable[Task], show: Show, signals: StopSignals) -> Iterator[Receipt]:
    """Have a pool do all tasks and yield each partition's receipt once, as it comes; see PoolWork and `run_pools`."""
    yield from run_pools([PoolWork(spec, tasks, show)], signals)


def run_pools(works: Sequence[PoolWork], signals: StopSignals) -> Iterator[Receipt]:
    """Have pools do all their tasks side by side, and yield each partition's receipt once, as it comes.

    Args:
        works: The pools; if none has any actor, Ray is not joined.
        signals: Once one was received, started tasks are finished and the others given back.

    Raises:
        JobFailing: Workers only ever die.
        Stopped: A signal was received; raised after the last receipt.
    """
    works = [work for work in works if work.spec.size]
    if not works:
        return
    join_ray(works[0].spec.home)
    with ray_faults():
        works = [_on_this_cluster(work) for work in works]
    with signals.draining(), ray_faults():
        yield from _in_turns([Pool(work.spec, work.tasks, work.show, signals).steps() for work in works])
        if signals.received:
            raise Stopped(signals.received)


def _on_this_cluster(work: PoolWork) -> PoolWork:
    """Return a pool with the GPUs of its workers; raise UserMistake if Ray can never place one."""
    gpus = gpus_per_worker(work.spec.gpus, work.spec.size)
    check_resources(work.spec.cpus, gpus)
    return replace(work, spec=replace(work.spec, gpus=gpus))


def _in_turns(pools: Sequence[Generator[Receipt | None, None, None]]) -> Iterator[Receipt]:
    """Let pools take their steps in turn, and yield their receipts; a pool that is done frees its machines at once."""
    with ExitStack() as stack:
        running = [stack.enter_context(closing(pool)) for pool in pools]
        while running:
            for pool in list(running):
                try:
                    receipt = next(pool)
                except StopIteration:
                    running.remove(pool)
                    continue
                if receipt:
                    yield receipt


class Pool:
    """The actors of one stage, and the tasks that they hold."""

    def __init__(self, spec: PoolSpec, tasks: Iterable[Task], show: Show, signals: StopSignals) -> None:
        self._spec, self._show, self._signals = spec, show, signals
        self._bisection = Bisection(spec.images, spec.notes)
        self._fresh = (piece for task in tasks for piece in self._bisection.recall(task))
        self._queue: deque[Task] = deque()  # tasks whose actor died, else the next fresh one
        self._whole: deque[tuple[Task, Receipt]] = deque()  # receipts of partitions, not yielded yet
        self._deaths = self._lost = 0  # since the last receipt: workers that died, and that lost their node
        self._has_receipts = False
        self._drain_ends: float | None = None
        self._actors: list[ActorHandle] = []
        self._counters: dict[ActorHandle, Mapping[str, float]] = {}  # of every actor so far, the latest
        self._worked = 0.0  # seconds that replaced actors were ready
        self._last: Sample | None = None  # pair
        self._waiting = Waiting(spec.cpus, spec.gpus or 0)

    def steps(self) -> Generator[Receipt | None, None, None]:
        """Yield receipts, and None about twice a second, until no task is left or the run is asked to stop."""
        import ray

        self._waiting.begin()
        for number in range(1, self._spec.size + 1):
            self._start(f"{self._spec.name}-{number}")
        try:
            while not self._is_finished():
                self._turn()
                while self._whole:
                    task, receipt = self._whole.popleft()
                    yield receipt
                    self._bisection.clear(task)  # the caller has committed it
                yield None  # the turn of another pool
        finally:
            for actor in self._actors if ray_fault() is None else ():  # a kill would wait for a Ray that is gone
                ray.kill(actor.handle)

    def _is_finished(self) -> bool:
        is_busy = any(actor.held for actor in self._actors)
        if self._drain_ends is not None:
            return not is_busy or self._signals.is_urgent or time.monotonic() > self._drain_ends
        return not (is_busy or self._fill_queue())

    def _fill_queue(self) -> bool:
        """Move a fresh task into the queue if it is empty; return whether it holds any task then."""
        if not self._queue and (task := next(self._fresh, None)) is not None:
            self._queue.append(task)
        return bool(self._queue)

    def _turn(self) -> None:
        """Hand out tasks, take answers for about half a second, and replace actors that died or hang."""
        import ray

        if self._signals.received and ray_fault():  # platforms end Ray as they end this process
            raise Stopped(self._signals.received)
        check_ray()
        if not self._signals.received:
            self._hand_out()
        elif self._drain_ends is None:
            self._start_drain()
        for actor in self._actors:
            actor.ask()
        references = [reference for actor in self._actors for reference in actor.references()]
        ray.wait(references, num_returns=1, timeout=TURN_SECONDS)
        # All that is there, and when: a commit may take this process minutes, which are not an actor's silence.
        ready, now = ray.wait(references, num_returns=len(references), timeout=0)[0], time.monotonic()
        for reference in ready:
            self._take(reference)
        for actor in list(self._actors):
            if fault := actor.fault(now):
                self._replace(actor, WorkerDeath(fault))
        self._waiting.see(any(actor.placed_at is not None for actor in self._actors))
        self._tell(now)

    def _start(self, name: str) -> None:
        self._actors.append(start_actor(self._spec, name))
        tell(WorkerChanged(self._spec.name, name, "started"))

    def _tell(self, now: float) -> None:
        """Tell how the actors are and what they have done, with the seconds that they were there for it."""
        counters = _sum(self._counters.values())
        counters["worker_seconds"] = self._worked + sum(actor.ready_seconds(now) for actor in self._actors)
        self._show(counters)
        statuses = sorted((actor.status(now) for actor in self._actors), key=lambda status: status.worker)
        tell(Workers(self._spec.name, tuple(statuses), self._last))

    def _start_drain(self) -> None:
        """Ask all actors to start nothing new."""
        self._drain_ends = time.monotonic() + DRAIN_SECONDS
        for actor in self._actors:
            actor.handle.drain.remote()

    def _hand_out(self) -> None:
        """Fill the hands of every actor that is ready."""
        for actor in sorted(self._actors, key=lambda actor: len(actor.held)):
            while actor.is_ready and self._has_room(actor) and (task := self._next(actor)) is not None:
                actor.hand(task)

    def _has_room(self, actor: ActorHandle) -> bool:
        has_suspect = any(self._bisection.is_suspect(task) for task in actor.held.values())
        return len(actor.held) < TASKS_PER_ACTOR and not has_suspect

    def _next(self, actor: ActorHandle) -> Task | None:
        """Return the next task for an actor; a suspect one only for empty hands."""
        if not self._fill_queue() or (self._bisection.is_suspect(self._queue[0]) and actor.held):
            return None
        return self._queue.popleft()

    def _take(self, reference: Any) -> None:
        """Take an answer: a receipt, counters, readiness, or the news of a death."""
        import ray

        actor = next((actor for actor in self._actors if reference in actor.references()), None)
        if actor is None:  # it was replaced in this very turn
            return
        try:
            answer = ray.get(reference)
        except ray.exceptions.RayTaskError as error:
            self._replace(actor, WorkerDeath(engine_death(error)))
        except ray.exceptions.RayError as error:
            self._replace(actor, death_of(error, actor.handle, actor.node))
        else:
            self._take_answer(actor, reference, answer)

    def _take_answer(self, actor: ActorHandle, reference: Any, answer: Any) -> None:
        if reference == actor.started:
            node, notes = answer
            pass_on(notes, actor.name)
            actor.set_ready(node)
            tell(WorkerChanged(self._spec.name, actor.name, "ready", node, time.monotonic() - actor.created_at))
        elif reference == actor.asked:
            actor.set_answered()
            self._take_report(actor, answer)
        else:
            (task, seconds), (receipt, report) = actor.take(reference), answer
            self._take_report(actor, report)
            if receipt is not None:
                tell(TaskDone(self._spec.name, actor.name, task.partition, seconds))
            self._settle(task, receipt)

    def _take_report(self, actor: ActorHandle, report: Report) -> None:
        actor.report, self._counters[actor] = report, report.counters
        self._last = (report.talk.last if report.talk else None) or self._last
        pass_on(report.notes, actor.name)

    def _settle(self, task: Task, receipt: Receipt | None) -> None:
        """Keep a receipt to be yielded, unless other pieces of its partition are still to come."""
        if receipt is None:  # given back: the next run does it
            return
        self._deaths, self._lost, self._has_receipts = 0, 0, True
        if whole := self._bisection.settle(task, receipt):
            self._whole.append((task, whole))

    def _replace(self, actor: ActorHandle, death: WorkerDeath) -> None:
        """Replace a dead actor. Its tasks are handed out again; one of them may be the reason."""
        import ray

        self._actors.remove(actor)
        for task, receipt in actor.take_finished():
            self._settle(task, receipt)
        ray.kill(actor.handle)
        is_stopping = self._signals.received is not None
        now = time.monotonic()
        self._worked += actor.ready_seconds(now)
        why = one_line(death.why, 300)
        change: Change = "ended" if is_stopping else "replaced"
        tell(WorkerChanged(self._spec.name, actor.name, change, actor.node, now - actor.created_at, why))
        if not is_stopping:
            self._count(death)
            note(f"a worker is replaced: {why}")
            self._start(actor.name)
        for task in actor.held.values():
            is_suspect = death.is_own and not is_stopping
            self._queue.extend(self._bisection.strike(task, death.why) if is_suspect else [task])

    def _count(self, death: WorkerDeath) -> None:
        """Count a death. A job whose workers only ever die must end; one on preemptible machines must not."""
        self._deaths, self._lost = self._deaths + death.is_own, self._lost + (not death.is_own)
        most = DEATHS_IN_A_ROW * (PATIENCE if self._has_receipts else 1)
        if self._deaths >= most or self._lost >= LOST_IN_A_ROW * self._spec.size:
            raise JobFailing(
                f"{self._deaths + self._lost} workers died one after the other without finishing anything, the last "
                f"because {death.why}; SYNTH_RAY_LOGS=1 shows all their output, and starting again continues from here"
            )


def _sum(counters: Iterable[Mapping[str, float]]) -> dict[str, float]:
    total: dict[str, float] = {}
    for counter in counters:
        for name, value in counter.items():
            total[name] = total.get(name, 0.0) + value
    return total
