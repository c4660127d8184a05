"""Workers that die or hang: which tasks are done again, and what is recorded.

Real Ray; the workers follow a script. Deaths are recorded in a folder of the test.
"""

import math
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from synthgen.config.engine import EngineConfig
from synthgen.errors import JobFailing, ModelUnavailable, Stopped
from synthgen.store import Folder, Receipt
from synthgen.workers import PoolSpec, StopSignals, Task, actor, pool, run_in_actor, run_pool
from synthgen.workers.bisection import Bisection
from tests.fixtures.scripted_workers import ALL, Script, build, die


def receipts(tasks: list[Task], script: Script, notes: Folder | None = None) -> Iterator[Receipt]:
    """Have two workers do tasks, and yield their receipts."""
    spec = PoolSpec(build, script, lambda task: task.only or ALL, size=2, cpus=0.5, notes=notes)
    return run_pool(spec, tasks, lambda counters: None, StopSignals())


def files_of(tasks: list[Task], script: Script, notes: Folder | None = None) -> dict[str, list[str]]:
    """Have two workers do tasks, and return partition → the names of its files."""
    done: dict[str, list[str]] = {}
    for receipt in receipts(tasks, script, notes):
        assert receipt.partition not in done
        done[receipt.partition] = [file.name.strip() for file in receipt.tables["rows"].files]
    return done


def tasks_of(count: int) -> list[Task]:
    """Return tasks for this many partitions."""
    return [Task(f"p{number}", 1) for number in range(count)]


@pytest.mark.parametrize(
    ("how", "cause"),
    [("exit", "died"), ("nobody answers", "the engine died: nobody answers;"), ("memory", "it ran out of memory;")],
)
def test_a_single_task_whose_worker_dies_ends_in_one_line_that_gives_the_cause(how: str, cause: str) -> None:
    with pytest.raises(ModelUnavailable) as caught:
        run_in_actor(die, how, EngineConfig(kind="scripted", cpus=0.5))
    message = str(caught.value)
    assert message.startswith("the worker with the model ended before it was done: ")
    assert cause in message and "\n" not in message
    assert message.endswith("SYNTH_RAY_LOGS=1 before the command shows its whole log")


@pytest.mark.parametrize(
    ("how", "cause"), [("exit", "actor"), ("no more", "engine died: no more"), ("memory", "out of memory")]
)
def test_the_image_that_kills_is_alone_in_the_end_with_the_cause_of_death(tmp_path: Path, how: str, cause: str) -> None:
    done = files_of([Task("p0", 1, only=tuple("cd"))], Script(("c",), how), Folder(str(tmp_path)))
    [poison] = [name for name in done["p0"] if name.startswith("poison")]
    assert poison.startswith("poison c ") and cause in poison
    assert sorted("".join(name.split()[1] for name in done["p0"])) == ["c", "d"]
    assert not list(tmp_path.iterdir()), "strikes are deleted once the partition is committed"


def test_many_poison_images_in_one_partition_do_not_end_the_job() -> None:
    done = files_of(tasks_of(3), Script(tuple("cef"), "died"))
    assert sorted(name.split()[1] for name in done["p0"] if name.startswith("poison")) == list("cef")
    assert set(done) == {"p0", "p1", "p2"}


def test_a_pool_that_never_gets_anything_done_stops_with_the_cause() -> None:
    partitions = tuple(task.partition for task in tasks_of(20))
    with pytest.raises(JobFailing, match=r"6 workers died one after the other .* scripted") as caught:
        files_of(tasks_of(20), Script(ALL, "scripted", partitions))
    assert "\n" not in str(caught.value)


def test_an_actor_that_falls_silent_is_replaced_and_doubles_nothing_where_its_kill_does_not_reach(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Behind a broken network it stays alive, and its receipts are no longer taken."""
    import ray

    killed: list[Any] = []
    real_kill = ray.kill
    monkeypatch.setattr(actor, "SILENT_SECONDS", 2.0)
    monkeypatch.setattr(ray, "kill", killed.append)
    try:
        done = files_of([Task("p0", 1, only=("c",)), Task("p1", 1)], Script(("c",), "freeze"))
    finally:
        for handle in killed:
            real_kill(handle)
    assert done["p1"] == ["done abcdefgh"]
    [poison] = done["p0"]
    assert poison.startswith("poison c it has not answered for")


def test_a_driver_that_commits_slowly_takes_no_actor_for_silent(monkeypatch: pytest.MonkeyPatch) -> None:
    """While a slow store holds up the driver, its actors have answered and the answers wait."""
    import ray

    started: list[actor.ActorHandle] = []
    committing = 0.0  # seconds, which only the clock knows of
    clock = SimpleNamespace(monotonic=lambda: time.monotonic() + committing)
    monkeypatch.setattr(actor, "time", clock)
    monkeypatch.setattr(pool, "time", clock)

    def start(spec: PoolSpec) -> actor.ActorHandle:
        started.append(actor.start_actor(spec))
        return started[-1]

    monkeypatch.setattr(pool, "start_actor", start)
    for receipt in receipts(tasks_of(6), Script()):
        if receipt.partition in ("p1", "p3"):
            asked = [handle.asked for handle in started if handle.asked is not None]
            if asked:
                ray.wait(asked, num_returns=len(asked), timeout=60)
            committing += 2 * actor.SILENT_SECONDS
    assert len(started) == 2, "none was replaced"


def test_a_second_signal_ends_the_wait_for_started_tasks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pool, "DRAIN_SECONDS", math.inf)
    signals, traces = StopSignals(), set[str]()

    def stop_twice(counters: Any) -> None:
        """Send a signal once a worker has begun, and another a turn later."""
        if list(tmp_path.iterdir()) and len(traces) < 2:
            traces.add(f"signal {len(traces)}")
            signals.handle(signal.SIGTERM, None)

    spec = PoolSpec(build, Script(ALL, "freeze", trace=str(tmp_path)), lambda task: ALL, size=1, cpus=0.5)
    with pytest.raises(Stopped):
        list(run_pool(spec, tasks_of(1), stop_twice, signals))
    assert signals.is_urgent


def test_a_strike_stays_until_the_receipt_is_committed(tmp_path: Path) -> None:
    """A driver that dies at the commit leaves it for the next one."""
    notes = Folder(str(tmp_path))
    results = receipts([Task("p0", 1, only=tuple("cd"))], Script(("c",)), notes)
    assert next(results).partition == "p0"
    assert notes.names(), "the caller has not committed yet"
    assert list(results) == [] and not notes.names()


def test_a_driver_that_dies_leaves_its_strikes_and_the_next_continues_with_them(tmp_path: Path) -> None:
    notes, trace = Folder(str(tmp_path / "notes")), tmp_path / "trace"
    trace.mkdir()
    first = Bisection(lambda task: ALL, notes)
    halves = [half for _ in range(2) for half in first.strike(Task("p0", 1), "it died")][1:]
    assert [half.only for half in halves] == [tuple("abcd"), tuple("efgh")]
    first.strike(halves[0], "it died again")

    done = files_of(tasks_of(1), Script(("a",), "died", trace=str(trace)), notes)
    tried = {path.name.split("-")[1] for path in trace.iterdir()}
    assert tried == {"ab", "a", "b", "cd", "efgh"}, "the whole and the half that killed are not tried again"
    assert sorted("".join(name.split()[1] for name in done["p0"])) == list(ALL)


def test_strikes_of_a_run_that_had_another_part_to_do_are_not_used(tmp_path: Path) -> None:
    notes = Folder(str(tmp_path))
    first = Bisection(lambda task: tuple("ab"), notes)
    [again] = first.strike(Task("p0", 1), "it died")
    assert [half.only for half in first.strike(again, "it died")] == [("a",), ("b",)]
    recalled = Bisection(lambda task: tuple("ba"), notes).recall(Task("p0", 1))
    assert [piece.only for piece in recalled] == [("a",), ("b",)]
    assert Bisection(lambda task: ALL, notes).recall(Task("p0", 1)) == [Task("p0", 1)]
    assert Bisection(lambda task: ALL, notes).recall(Task("p0", 2)) == [Task("p0", 2)]


def test_a_receipt_for_a_part_covers_no_input_so_that_the_partition_stays_pending() -> None:
    bisection = Bisection(lambda task: ALL, None)
    [again] = bisection.strike(Task("p0", 1), "it died")
    first_half, second_half = bisection.strike(again, "it died")
    assert bisection.settle(first_half, Receipt("p0", 1, {}, {"pair": 1}, {})) is None
    merged = bisection.settle(second_half, Receipt("p0", 1, {}, {"pair": 2}, {"2-planned/p0.r1": "digest"}))
    assert merged and merged.counts == {"pair": 3} and merged.reads == {}
