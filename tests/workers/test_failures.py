"""The cause of a death: a worker's own is a strike against the tasks it held, that of a lost node is none."""

import signal
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from synthgen.console import LOGGER, Event, Sample, only
from synthgen.console.events import WorkerChanged, Workers
from synthgen.engines import EngineDied
from synthgen.errors import Damaged, JobFailing, UserMistake
from synthgen.store import Folder, Receipt
from synthgen.workers import PoolSpec, StopSignals, Talk, Task, run_pool
from synthgen.workers import pool as pools
from synthgen.workers.actor import ActorHandle, Report
from synthgen.workers.bisection import Bisection
from synthgen.workers.failures import WorkerDeath, cause_of, death_of, engine_death
from synthgen.workers.notes import pass_on
from synthgen.workers.pool import DEATHS_IN_A_ROW, LOST_IN_A_ROW, Pool
from tests.fixtures.scripted_workers import ALL, Script, build

TASK = Task("p0", 1)
DIED = WorkerDeath("it died")
LOST = WorkerDeath("its node has died", is_own=False)


def actor_died(message: str, **context: Any) -> Exception:
    """Return Ray's error for the death of an actor."""
    from ray.core.generated.common_pb2 import ActorDiedErrorContext
    from ray.exceptions import ActorDiedError

    context_of_death = ActorDiedErrorContext(error_message=message, actor_id=b"0" * 16, **context)
    error: Exception = ActorDiedError(context_of_death)
    return error


def preempted() -> Exception:
    """Return Ray's error for an actor whose node was preempted."""
    from ray.core.generated.common_pb2 import NodeDeathInfo

    return actor_died("gone", node_death_info=NodeDeathInfo(reason=NodeDeathInfo.AUTOSCALER_DRAIN_PREEMPTED))


def test_a_death_is_the_workers_own_unless_its_node_was_lost_preempted_or_cut_off(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    import ray
    from ray.exceptions import ActorUnavailableError, NodeDiedError

    monkeypatch.setattr(ray, "nodes", lambda: [{"NodeID": "here", "Alive": True}, {"NodeID": "there", "Alive": False}])
    own = actor_died("The actor is dead because its worker process has died. Worker exit type: SYSTEM_ERROR")
    lost = actor_died(
        "The actor died because its node has died. Node Id: 1\n\tthe actor's node was terminated: no answer"
    )
    assert death_of(own, None, "here").is_own and death_of(own, None, None).is_own
    assert "its worker process has died" in death_of(own, None, "here").why
    assert not death_of(own, None, "there").is_own, "it died with its node"
    assert not any(death_of(error, None, "here").is_own for error in (lost, NodeDiedError("dead"), preempted()))

    class Handle:
        """An actor that cannot be reached, until Ray knows more."""

        class progress:
            remote = staticmethod(lambda: None)

    answers: list[Exception | None] = []

    def get(reference: Any, timeout: float) -> None:
        if answer := answers.pop(0):
            raise answer

    monkeypatch.setattr(ray, "get", get)
    unavailable = ActorUnavailableError("connection reset", b"0" * 16)
    for last, is_own in ((own, True), (lost, False), (None, False), (ray.exceptions.GetTimeoutError("?"), False)):
        answers[:] = [unavailable, last]
        assert death_of(unavailable, Handle, "here").is_own is is_own


@pytest.fixture
def signals() -> StopSignals:
    """Return the signals of a run that has received none."""
    return StopSignals()


@pytest.fixture
def pool(tmp_path: Path, signals: StopSignals, monkeypatch: pytest.MonkeyPatch) -> Pool:
    """Return a pool of two that never meets Ray."""
    import ray

    monkeypatch.setattr(ray, "kill", lambda handle: None)
    monkeypatch.setattr(pools, "start_actor", lambda spec, name: ActorHandle(None, None, name))
    spec = PoolSpec(build, Script(), lambda task: ALL, size=2, notes=Folder(str(tmp_path)))
    return Pool(spec, [], lambda counters: None, signals)


def test_the_counters_of_an_actor_that_is_gone_still_count(pool: Pool) -> None:
    for _ in range(50):  # Python gives the address of an object that is gone to the next one
        actor = ActorHandle(None, None, asked="question")
        pool._take_answer(actor, "question", Report({"images": 1.0}))
        del actor
    assert pools._sum(pool._counters.values()) == {"images": 50.0}


def test_a_death_has_a_cause_of_one_line_and_its_cut_is_marked() -> None:
    why = WorkerDeath("line\n" + "long words " * 90).why
    assert why.startswith("line long words") and len(why) == 300 and why.endswith("…")


def test_what_a_task_raises_is_a_death_only_if_the_engine_or_memory_is_gone() -> None:
    def wrapped(cause: Exception) -> Exception:
        error = RuntimeError("Ray's long text")
        error.cause = cause  # type: ignore[attr-defined]
        return error

    assert engine_death(wrapped(EngineDied("no answer"))) == "the engine died: no answer"
    assert engine_death(wrapped(MemoryError())) == "it ran out of memory"
    with pytest.raises(UserMistake, match="fix it"):
        engine_death(wrapped(UserMistake("fix it")))
    with pytest.raises(ValueError, match="a bug") as caught:
        engine_death(wrapped(ValueError("a bug")))
    assert str(caught.value.__cause__) == "Ray's long text", "which has the traceback of the worker"


def test_a_pool_without_actors_does_nothing_and_does_not_join_ray(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pools, "join_ray", lambda home: pytest.fail("it joined"))
    spec = PoolSpec(build, Script(), lambda task: ALL, size=0)
    assert list(run_pool(spec, [], lambda counters: None, StopSignals())) == []


def test_a_worker_that_cannot_be_created_gives_the_error_and_not_the_frame_around_it() -> None:
    text = (
        "The actor died because of an error raised in its creation task, \x1b[36mray::ActorShell.__init__()\x1b[39m\n"
        "  File \"x.py\", line 3, in f\nNameError: name 'x' is not defined\n"
    )
    death = WorkerDeath(cause_of(RuntimeError(text)))
    assert death.why == "it could not start: NameError: name 'x' is not defined"
    assert "[3" not in WorkerDeath(text).why, "colours of a terminal are left out"


def test_damaged_strikes_are_one_line_that_says_what_to_do(tmp_path: Path) -> None:
    notes = Folder(str(tmp_path))
    notes.write("p0.r1.json", b"[{")
    with pytest.raises(Damaged, match=r"p0\.r1\.json: is not JSON .*; remove it, and the image that kills"):
        Bisection(lambda task: ALL, notes)


def replace_dead(pool: Pool, death: WorkerDeath) -> list[Task]:
    """Have an actor that holds TASK die, and return the tasks that are handed out again."""
    actor = ActorHandle(None, None, held={"reference": TASK})
    actor.take_finished = list  # type: ignore[method-assign] # nothing is finished
    pool._actors.append(actor)
    pool._replace(actor, death)
    again = list(pool._queue)
    pool._queue.clear()
    return again


def test_a_death_is_a_strike_against_the_tasks_of_the_worker_and_a_lost_node_is_none(
    pool: Pool, tmp_path: Path
) -> None:
    for _ in range(DEATHS_IN_A_ROW + 1):
        assert replace_dead(pool, LOST) == [TASK]
    assert not list(tmp_path.iterdir())
    assert replace_dead(pool, DIED) == [TASK] and list(tmp_path.iterdir())
    assert replace_dead(pool, LOST) == [TASK]
    assert [task.only for task in replace_dead(pool, DIED)] == [tuple("abcd"), tuple("efgh")]


def test_a_pool_that_only_ever_loses_its_nodes_ends_too(pool: Pool) -> None:
    with pytest.raises(JobFailing, match=r"20 workers died .* because its node has died"):
        for _ in range(2 * LOST_IN_A_ROW):
            replace_dead(pool, LOST)


def test_a_worker_that_ends_while_the_run_is_stopped_leaves_no_strike_and_is_not_replaced(
    pool: Pool, signals: StopSignals, tmp_path: Path
) -> None:
    with signals.draining():
        signals.handle(signal.SIGTERM, None)
    assert replace_dead(pool, DIED) == [TASK]
    assert not list(tmp_path.iterdir()) and not pool._actors


def test_the_tasks_that_a_dead_worker_had_finished_count(pool: Pool) -> None:
    actor, receipt = ActorHandle(None, None), Receipt("p0", 1, {})
    actor.take_finished = lambda: [(TASK, receipt)]  # type: ignore[method-assign]
    pool._actors.append(actor)
    pool._replace(actor, DIED)
    assert list(pool._whole) == [(TASK, receipt)] and not pool._queue


def test_a_pool_tells_how_its_workers_are_and_who_takes_the_place_of_whom(pool: Pool, tmp_path: Path) -> None:
    told: list[Event] = []
    with only(SimpleNamespace(see=told.append)):
        pool._start("worker-1")
        (actor,) = pool._actors
        pool._take_answer(actor, actor.started, ("node", []))
        talk = Talk(3, silent_seconds=45.0, last=Sample("What?", "That.", "t", "a.png"))
        pool._take_report(actor, Report({"output_tokens": 10.0}, talk=talk))
        pool._tell(time.monotonic() + 10.0)
        pool._replace(actor, DIED)
    changes = [(event.change, event.worker, event.why) for event in told if isinstance(event, WorkerChanged)]
    assert changes == [
        ("started", "worker-1", ""),
        ("ready", "worker-1", ""),
        ("replaced", "worker-1", "it died"),
        ("started", "worker-1", ""),
    ]
    (seen,) = (event for event in told if isinstance(event, Workers))
    (worker,) = seen.workers
    assert (worker.state, worker.node, worker.in_flight, worker.silent_seconds) == ("silent", "node", 3, 45.0)
    assert worker.tokens_per_second == pytest.approx(1.0, rel=0.1) and seen.last == talk.last


def test_the_seconds_of_workers_count_from_when_they_are_ready_and_those_of_the_dead_too(
    pool: Pool, monkeypatch: pytest.MonkeyPatch
) -> None:
    shown: list[dict[str, float]] = []
    monkeypatch.setattr(pool, "_show", shown.append)
    now = [100.0]
    monkeypatch.setattr("time.monotonic", lambda: now[0])
    pool._start("worker-1")
    now[0] = 160.0
    pool._tell(now[0])
    pool._actors[0].set_ready("node")
    now[0] = 190.0
    pool._tell(now[0])
    pool._replace(pool._actors[0], LOST)
    now[0] = 300.0
    pool._tell(now[0])
    assert [counters["worker_seconds"] for counters in shown] == [0.0, 30.0, 30.0]


def test_what_a_worker_notes_has_its_name(caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(LOGGER, "propagate", True)
    with caplog.at_level("INFO", logger="synthgen"):
        pass_on([f"a note {id(caplog)}"] * 2, "generate-3")
    assert {getattr(record, "worker", None) for record in caplog.records} == {"generate-3"}
