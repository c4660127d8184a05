"""Gives out work, takes receipts, replaces the dead.

Comes in: a crew and its works. Goes out: each partition's receipt, once. Every actor has one piece of work in hand and the next
one waiting, so that it never idles. An actor that dies, says that its engine died, runs out of memory or falls silent is
replaced, and what it held is given out again; its receipts are not taken any more, so that one that lives on behind a
broken network can double nothing. What it held is under suspicion only where the worker itself died: not where its node was
lost, and not while the run is being stopped, when platforms end workers as they end the driver. Asked to stop, the foreman
lets what is begun finish and gives back the rest.
"""

import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace
from typing import Any

from synthgen.engines import EngineDied
from synthgen.errors import JobFailing, Stopped, SynthError
from synthgen.store import Receipt
from synthgen.workers import signals
from synthgen.workers.actor import TURN_SECONDS, ActorHandle, start_actor
from synthgen.workers.bisection import Bisection
from synthgen.workers.cluster import Waiting, afford, join_ray, share
from synthgen.workers.failures import WorkerDeath, death_of
from synthgen.workers.task import GIVEN_SECONDS, PoolSpec, Show, Task

IN_HAND = 2  # pieces of work that an actor holds: one at work, one ready
DEATHS_IN_A_ROW = 6  # without one receipt between them, after which the job stops
PATIENCE = 4  # times as many, once there were receipts: many bad images may lie in one partition
LOST_IN_A_ROW = 10  # times that each place of a crew may lose its node without one receipt between them all
DRAIN_SECONDS = GIVEN_SECONDS + 10  # after which what is still at work is given back as well


def run_pool(crew: PoolSpec, works: Iterable[Task], commit: Callable[[Receipt], None], show: Show) -> None:
    """Has a crew do all the work; `commit` gets each partition's receipt once, `show` the crew's counters about twice a second."""
    join_ray()
    gpus = share(crew.gpus, crew.size)
    afford(crew.cpus, gpus)
    with signals.draining():
        Pool(replace(crew, gpus=gpus), works, commit, show).run()
        if number := signals.asked():
            raise Stopped(number)


class Pool:
    """One crew at work."""

    def __init__(self, crew: PoolSpec, works: Iterable[Task], commit: Callable[[Receipt], None], show: Show) -> None:
        self._crew, self._commit, self._show = crew, commit, show
        self._suspects = Bisection(crew.images, crew.notes)
        self._fresh = self._recalled(works)
        self._again: deque[Task] = deque()  # work whose actor died
        self._deaths = self._lost = 0  # since the last receipt: workers that died, and that lost their node
        self._has_receipts = False
        self._until: float | None = None  # when a drain ends
        self._actors: list[ActorHandle] = []
        self._counters: dict[int, Mapping[str, float]] = {}  # actor -> its counters when it last told them
        self._waiting = Waiting(crew.cpus, crew.gpus or 0)

    def run(self) -> None:
        """Until no work is left, or the run is asked to stop."""
        import ray

        self._waiting.begin()
        self._actors = [start_actor(self._crew) for _ in range(self._crew.size)]
        try:
            while not self._is_drained() if signals.asked() else self._hand_out():
                self._turn()
        finally:
            for actor in self._actors:
                ray.kill(actor.handle)

    def _turn(self) -> None:
        import ray

        for actor in self._actors:
            actor.ask()
        references = [one for actor in self._actors for one in actor.references()]
        ray.wait(references, num_returns=1, timeout=TURN_SECONDS)
        # All that is there, and the time at which it was: a commit may take this process minutes, which are no actor's silence.
        ready, now = ray.wait(references, num_returns=len(references), timeout=0)[0], time.monotonic()
        for reference in ready:
            self._take(reference)
        for actor in list(self._actors):
            if fault := actor.fault(now):
                self._bury(actor, WorkerDeath(fault))
        self._waiting.see(any(actor.placed_at is not None for actor in self._actors))
        self._show(_sum(self._counters.values()))

    def _is_drained(self) -> bool:
        """Whether nothing is at work any more, or its time is up; the first call tells the actors to begin nothing new."""
        if self._until is None:
            self._until = time.monotonic() + DRAIN_SECONDS
            for actor in self._actors:
                actor.handle.drain.remote()
        return signals.is_now() or time.monotonic() > self._until or not any(actor.held for actor in self._actors)

    def _recalled(self, works: Iterable[Task]) -> Iterator[Task]:
        for work in works:
            yield from self._suspects.recall(work)

    def _hand_out(self) -> bool:
        """Fills the hands of every actor that is ready; False when all work is done."""
        for actor in sorted(self._actors, key=lambda actor: len(actor.held)):
            while actor.is_ready and self._has_room(actor) and (work := self._next(actor)) is not None:
                actor.held[actor.handle.do.remote(work)] = work
        if any(actor.held for actor in self._actors) or self._again:
            return True
        if (work := next(self._fresh, None)) is not None:
            self._again.append(work)
        return bool(self._again)

    def _has_room(self, actor: ActorHandle) -> bool:
        return len(actor.held) < IN_HAND and not any(self._suspects.is_suspect(work) for work in actor.held.values())

    def _next(self, actor: ActorHandle) -> Task | None:
        if not self._again and (work := next(self._fresh, None)) is not None:
            self._again.append(work)
        if not self._again or (self._suspects.is_suspect(self._again[0]) and actor.held):
            return None
        return self._again.popleft()

    def _take(self, reference: Any) -> None:
        """A receipt, an actor's counters, its readiness, or the news of its death."""
        import ray

        actor = next((one for one in self._actors if reference in one.references()), None)
        if actor is None:  # of one that was buried in this very turn
            return
        try:
            found = ray.get(reference)
        except ray.exceptions.RayTaskError as error:
            if not isinstance(error.cause, EngineDied | MemoryError):
                raise (error.cause if isinstance(error.cause, SynthError) else error) from None
            self._bury(
                actor, WorkerDeath(f"the engine died: {error.cause}" if str(error.cause) else "it ran out of memory")
            )
        except ray.exceptions.RayError as error:
            self._bury(actor, death_of(error, actor.handle, actor.node))
        else:
            self._note_answer(actor, reference, found)

    def _note_answer(self, actor: ActorHandle, reference: Any, found: Any) -> None:
        if reference == actor.started:
            actor.begin(found)
        elif reference == actor.asked:
            actor.answer()
            self._counters[id(actor)] = found
        else:
            self._settle(actor.held.pop(reference), found)

    def _settle(self, work: Task, receipt: Receipt | None) -> None:
        """Commits a receipt, unless other pieces of its partition are still to come."""
        if receipt is None:  # given back: the next run does it
            return
        self._deaths, self._lost, self._has_receipts = 0, 0, True
        if whole := self._suspects.settle(work, receipt):
            self._commit(whole)
            self._suspects.clear(work)

    def _bury(self, actor: ActorHandle, death: WorkerDeath) -> None:
        """Replaces a dead actor; what it held is given out again, and one piece of it may be the reason."""
        import ray

        self._actors.remove(actor)
        for work, receipt in actor.finished():
            self._settle(work, receipt)
        ray.kill(actor.handle)
        if not signals.asked():
            self._count(death)
            self._actors.append(start_actor(self._crew))
        for work in actor.held.values():
            self._again.extend(
                self._suspects.strike(work, death.why) if death.is_own and not signals.asked() else [work]
            )

    def _count(self, death: WorkerDeath) -> None:
        """A job whose workers only ever die must end; one that lives on preemptible machines must not."""
        self._deaths, self._lost = self._deaths + death.is_own, self._lost + (not death.is_own)
        most = DEATHS_IN_A_ROW * (PATIENCE if self._has_receipts else 1)
        if self._deaths >= most or self._lost >= LOST_IN_A_ROW * self._crew.size:
            raise JobFailing(
                f"{self._deaths + self._lost} workers died one after the other without finishing anything, the last because {death.why}; "
                "SYNTH_RAY_LOGS=1 shows all they say, and starting again continues from here"
            )


def _sum(counters: Iterable[Mapping[str, float]]) -> dict[str, float]:
    total: dict[str, float] = {}
    for one in counters:
        for name, value in one.items():
            total[name] = total.get(name, 0.0) + value
    return total
