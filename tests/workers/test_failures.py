"""Whose fault a death is: a worker's own is a strike against what it held, a lost node is none."""

import signal
from pathlib import Path
from typing import Any

import pytest

from synthgen.errors import JobFailing
from synthgen.store import Folder, Receipt
from synthgen.workers import PoolSpec, Task, signals
from synthgen.workers import pool as foremen
from synthgen.workers.actor import ActorHandle
from synthgen.workers.failures import WorkerDeath, death_of
from synthgen.workers.pool import DEATHS_IN_A_ROW, LOST_IN_A_ROW, Pool
from tests.fixtures.scripted_workers import ALL, Plot, build


def died(message: str, **more: Any) -> Exception:
    """As Ray tells the death of an actor."""
    from ray.core.generated.common_pb2 import ActorDiedErrorContext
    from ray.exceptions import ActorDiedError

    error: Exception = ActorDiedError(ActorDiedErrorContext(error_message=message, actor_id=b"0" * 16, **more))
    return error


def preempted() -> Exception:
    from ray.core.generated.common_pb2 import NodeDeathInfo

    return died("gone", node_death_info=NodeDeathInfo(reason=NodeDeathInfo.AUTOSCALER_DRAIN_PREEMPTED))


def test_a_death_is_the_workers_own_unless_its_node_was_lost_preempted_or_cut_off(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    import ray
    from ray.exceptions import ActorUnavailableError, NodeDiedError

    monkeypatch.setattr(ray, "nodes", lambda: [{"NodeID": "here", "Alive": True}, {"NodeID": "there", "Alive": False}])
    own = died("The actor is dead because its worker process has died. Worker exit type: SYSTEM_ERROR")
    lost = died(
        "The actor died because its node has died. Node Id: 1\n\tthe actor's node was terminated unexpectedly: no answer"
    )
    assert death_of(own, None, "here").is_own and death_of(own, None, None).is_own
    assert "its worker process has died" in death_of(own, None, "here").why
    assert not death_of(own, None, "there").is_own, "its node took it along"
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
    away = ActorUnavailableError("connection reset", b"0" * 16)
    for last, is_own in ((own, True), (lost, False), (None, False), (ray.exceptions.GetTimeoutError("?"), False)):
        answers[:] = [away, last]
        assert death_of(away, Handle, "here").is_own is is_own


@pytest.fixture
def foreman(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Pool:
    """A foreman of two that never meets Ray."""
    import ray

    monkeypatch.setattr(ray, "kill", lambda handle: None)
    monkeypatch.setattr(foremen, "start_actor", lambda crew: ActorHandle(None, None))
    crew = PoolSpec(build, Plot(), lambda work: ALL, size=2, notes=Folder(str(tmp_path)))
    return Pool(crew, [], lambda receipt: None, lambda counters: None)


def bury(foreman: Pool, held: Task, death: WorkerDeath) -> list[Task]:
    """Has an actor die; what is given out again."""
    monkeyed = ActorHandle(None, None, held={"reference": held})
    monkeyed.finished = list  # type: ignore[method-assign] # nothing is done
    foreman._actors.append(monkeyed)
    foreman._bury(monkeyed, death)
    again = list(foreman._again)
    foreman._again.clear()
    return again


def test_a_lost_node_is_no_strike_against_what_was_there_and_a_death_is(foreman: Pool, tmp_path: Path) -> None:
    work = Task("p0", 1)
    for _ in range(DEATHS_IN_A_ROW + 1):
        assert bury(foreman, work, WorkerDeath("its node has died", is_own=False)) == [work]
    assert not list(tmp_path.iterdir())
    assert bury(foreman, work, WorkerDeath("it died")) == [work] and list(tmp_path.iterdir())
    assert bury(foreman, work, WorkerDeath("its node has died", is_own=False)) == [work]
    assert [one.only for one in bury(foreman, work, WorkerDeath("it died"))] == [tuple("abcd"), tuple("efgh")]


def test_a_crew_that_only_ever_loses_its_nodes_ends_too(foreman: Pool) -> None:
    with pytest.raises(JobFailing, match=r"20 workers died .* because its node has died"):
        for _ in range(2 * LOST_IN_A_ROW):
            bury(foreman, Task("p0", 1), WorkerDeath("its node has died", is_own=False))


def test_a_worker_that_ends_while_the_run_is_stopped_leaves_no_strike(
    foreman: Pool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(signals, "_asked", signal.SIGTERM)
    assert bury(foreman, Task("p0", 1), WorkerDeath("it died")) == [Task("p0", 1)]
    assert not list(tmp_path.iterdir()) and not foreman._actors, "and nobody is hired any more"


def test_what_a_dead_worker_had_finished_counts(foreman: Pool) -> None:
    done: list[Receipt] = []
    foreman._commit = done.append
    actor, receipt = ActorHandle(None, None), Receipt("p0", 1, {})
    actor.finished = lambda: [(Task("p0", 1), receipt)]  # type: ignore[method-assign]
    foreman._actors.append(actor)
    foreman._bury(actor, WorkerDeath("it died"))
    assert done == [receipt] and not foreman._again
