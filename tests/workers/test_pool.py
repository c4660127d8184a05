"""Workers that die or hang: what is done again, and what goes on record.

Real Ray; the workers do what a test plots. Deaths are noted in a folder of the test.
"""

import time
from pathlib import Path
from typing import Any

import pytest

from synthgen.config.pipeline import EngineConfig
from synthgen.errors import JobFailing, ModelUnavailable
from synthgen.store import Folder, Receipt
from synthgen.workers import PoolSpec, Task, actor, once, pool, run_pool
from synthgen.workers.bisection import Bisection
from tests.fixtures.scripted_workers import ALL, Plot, build, die


def work(works: list[Task], plot: Plot, notes: Folder | None = None) -> dict[str, list[str]]:
    """Has two workers do some partitions; partition → the names of its files."""
    done: dict[str, list[str]] = {}

    def commit(receipt: Receipt) -> None:
        assert receipt.partition not in done
        done[receipt.partition] = [file.name.strip() for file in receipt.tables["rows"].files]

    crew = PoolSpec(build, plot, lambda work: work.only or ALL, size=2, cpus=0.5, notes=notes)
    run_pool(crew, works, commit, lambda counters: None)
    return done


@pytest.mark.parametrize(
    ("how", "told"),
    [("exit", "died"), ("nobody answers", "the engine died: nobody answers;"), ("memory", "it ran out of memory;")],
)
def test_a_task_of_its_own_whose_worker_dies_ends_in_one_line_that_says_why(how: str, told: str) -> None:
    with pytest.raises(ModelUnavailable) as caught:
        once(die, how, EngineConfig(kind="scripted", cpus=0.5))
    line = str(caught.value)
    assert line.startswith("the worker with the model ended before it was done: ") and told in line and "\n" not in line
    assert line.endswith("SYNTH_RAY_LOGS=1 before the command shows all it said")


def some(count: int) -> list[Task]:
    return [Task(f"p{number}", 1) for number in range(count)]


@pytest.mark.parametrize(
    ("how", "told"), [("exit", "actor"), ("no more", "engine died: no more"), ("memory", "out of memory")]
)
def test_the_image_that_kills_stands_alone_in_the_end_with_the_cause_of_death(
    tmp_path: Path, how: str, told: str
) -> None:
    done = work([Task("p0", 1, only=tuple("cd"))], Plot(("c",), how), Folder(str(tmp_path)))
    [poison] = [name for name in done["p0"] if name.startswith("poison")]
    assert poison.startswith("poison c ") and told in poison
    assert sorted("".join(name.split()[1] for name in done["p0"])) == ["c", "d"]
    assert not list(tmp_path.iterdir()), "what was noted is forgotten once it is committed"


def test_many_poison_images_in_one_partition_do_not_end_the_job() -> None:
    done = work(some(3), Plot(tuple("cef"), "died"))
    assert sorted(name.split()[1] for name in done["p0"] if name.startswith("poison")) == list("cef")
    assert set(done) == {"p0", "p1", "p2"}


def test_a_crew_that_never_gets_anything_done_stops_and_says_why() -> None:
    with pytest.raises(JobFailing, match=r"6 workers died one after the other .* scripted") as error:
        work(some(20), Plot(ALL, "scripted", tuple(one.partition for one in some(20))))
    assert "\n" not in str(error.value)


def test_an_actor_that_falls_silent_is_replaced_and_doubles_nothing_where_its_kill_does_not_reach(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """As behind a broken network: it stays alive, and nobody waits for its receipts any more."""
    import ray

    killed: list[Any] = []
    honest = ray.kill
    monkeypatch.setattr(actor, "SILENT_SECONDS", 2.0)
    monkeypatch.setattr(ray, "kill", killed.append)
    try:
        done = work([Task("p0", 1, only=("c",)), Task("p1", 1)], Plot(("c",), "freeze"))
    finally:
        for handle in killed:
            honest(handle)
    assert done["p1"] == ["done abcdefgh"]
    [poison] = done["p0"]
    assert poison.startswith("poison c it has not answered for")


def test_a_driver_that_is_held_up_takes_no_actor_for_silent(monkeypatch: pytest.MonkeyPatch) -> None:
    """As by a store that is slow to commit; meanwhile its actors have answered, and nobody has looked."""
    hired: list[actor.ActorHandle] = []
    monkeypatch.setattr(actor, "SILENT_SECONDS", 2.0)

    def hire(crew: PoolSpec) -> actor.ActorHandle:
        hired.append(actor.start_actor(crew))
        return hired[-1]

    monkeypatch.setattr(pool, "start_actor", hire)
    crew = PoolSpec(build, Plot(), lambda work: ALL, size=2, cpus=0.5)
    run_pool(
        crew,
        some(6),
        lambda receipt: time.sleep(2.5 if receipt.partition in ("p1", "p3") else 0),
        lambda counters: None,
    )
    assert len(hired) == 2, "none was replaced"


def test_a_driver_that_dies_leaves_its_strikes_and_the_next_goes_on_with_them(tmp_path: Path) -> None:
    notes, trace = Folder(str(tmp_path / "notes")), tmp_path / "trace"
    trace.mkdir()
    first = Bisection(lambda work: ALL, notes)
    halves = [half for _ in range(2) for half in first.strike(Task("p0", 1), "it died")][1:]
    assert [half.only for half in halves] == [tuple("abcd"), tuple("efgh")]
    first.strike(halves[0], "it died again")

    done = work(some(1), Plot(("a",), "died", trace=str(trace)), notes)
    tried = {path.name.split("-")[1] for path in trace.iterdir()}
    assert tried == {"ab", "a", "b", "cd", "efgh"}, "the whole and the half that killed are not tried anew"
    assert sorted("".join(name.split()[1] for name in done["p0"])) == list(ALL)


def test_strikes_of_a_run_that_had_another_part_to_do_are_not_taken_up(tmp_path: Path) -> None:
    notes = Folder(str(tmp_path))
    first = Bisection(lambda work: tuple("ab"), notes)
    [again] = first.strike(Task("p0", 1), "it died")
    assert [half.only for half in first.strike(again, "it died")] == [("a",), ("b",)]
    assert [one.only for one in Bisection(lambda work: tuple("ba"), notes).recall(Task("p0", 1))] == [("a",), ("b",)]
    assert Bisection(lambda work: ALL, notes).recall(Task("p0", 1)) == [Task("p0", 1)]
    assert Bisection(lambda work: ALL, notes).recall(Task("p0", 2)) == [Task("p0", 2)]


def test_a_receipt_for_a_part_makes_the_whole_partition_stay_to_do() -> None:
    suspects = Bisection(lambda work: ALL, None)
    [again] = suspects.strike(Task("p0", 1), "it died")
    one, two = suspects.strike(again, "it died")
    assert suspects.settle(one, Receipt("p0", 1, {}, {"pair": 1}, {})) is None
    merged = suspects.settle(two, Receipt("p0", 1, {}, {"pair": 2}, {"2-planned/p0.r1": "digest"}))
    assert merged and merged.counts == {"pair": 3} and merged.reads == {}
