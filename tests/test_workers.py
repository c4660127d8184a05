"""Workers that die, hang or are told to stop: what is done again, what goes on record, how a run ends.

Real Ray; the workers are small classes of this file, or the scripted engine. Deaths are noted in a folder of the test.
"""

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from conftest import make_images
from test_run import adds_up, assignments, pairs, run, synth

from synthgen.config import Engine
from synthgen.errors import JobFailing, ModelUnavailable, UserMistake
from synthgen.models import EngineDied, Facts, Reply, Request
from synthgen.models.watched import WatchedEngine
from synthgen.rows import image_id
from synthgen.store import DataFile, Folder, Receipt, TablePart
from synthgen.workers import Crew, Work, actor, leave_ray, once, stop, work_through
from synthgen.workers import foreman as foremen
from synthgen.workers.actor import Hired
from synthgen.workers.cluster import Waiting, join_ray, share
from synthgen.workers.deaths import Death, death_of
from synthgen.workers.foreman import DEATHS_IN_A_ROW, LOST_IN_A_ROW, Foreman
from synthgen.workers.strikes import Suspects

ALL = tuple("abcdefgh")


@dataclass(frozen=True)
class Plot:
    """What a worker of these tests does: which images kill it, how."""

    poison: tuple[str, ...] = ()
    how: str = "exit"
    where: tuple[str, ...] = ("p0",)
    trace: str = ""  # a folder; each try leaves a file there


class Doer:
    """Writes nothing; its receipts name what it did."""

    def __init__(self, plot: Plot) -> None:
        self._plot = plot

    async def do(self, work: Work) -> Receipt:
        images = work.only or ALL
        if self._plot.trace:
            (Path(self._plot.trace) / f"{work.partition}-{''.join(images)}-{time.monotonic_ns()}").touch()
        if not work.poison and work.partition in self._plot.where and set(images) & set(self._plot.poison):
            await _die(self._plot.how)
        file = DataFile(f"{'poison' if work.poison else 'done'} {''.join(images)} {work.why}", len(images), 0, "")
        return Receipt(work.partition, work.revision, {"rows": TablePart((file,), "")}, {"done": len(images)}, {"read": "all"})

    def progress(self) -> Mapping[str, float]:
        return {}

    def drain(self) -> None:
        """Nothing takes long here."""


async def _die(how: str) -> None:
    if how == "exit":
        os._exit(1)
    if how == "memory":
        raise MemoryError
    if how == "freeze":
        os.kill(os.getpid(), signal.SIGSTOP)
        await asyncio.sleep(3600)  # another of its threads may take the signal, a moment later
    raise EngineDied(how)


async def build(plot: Plot) -> Doer:
    return Doer(plot)


@pytest.fixture(scope="module", autouse=True)
def ray() -> Iterator[None]:
    """One Ray for this file, which finds this module in its workers."""
    os.environ["PYTHONPATH"] = os.pathsep.join([str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")])
    yield
    leave_ray()


def work(works: list[Work], plot: Plot, notes: Folder | None = None) -> dict[str, list[str]]:
    """Has two workers do some partitions; partition → the names of its files."""
    done: dict[str, list[str]] = {}

    def commit(receipt: Receipt) -> None:
        assert receipt.partition not in done
        done[receipt.partition] = [file.name.strip() for file in receipt.tables["rows"].files]

    crew = Crew(build, plot, lambda work: work.only or ALL, size=2, cpus=0.5, notes=notes)
    work_through(crew, works, commit, lambda counters: None)
    return done


@pytest.mark.parametrize(
    ("how", "told"),
    [("exit", "died"), ("nobody answers", "the engine died: nobody answers;"), ("memory", "it ran out of memory;")],
)
def test_a_task_of_its_own_whose_worker_dies_ends_in_one_line_that_says_why(how: str, told: str) -> None:
    with pytest.raises(ModelUnavailable) as caught:
        once(_die, how, Engine(kind="scripted", cpus=0.5))
    line = str(caught.value)
    assert line.startswith("the worker with the model ended before it was done: ") and told in line and "\n" not in line
    assert line.endswith("SYNTH_RAY_LOGS=1 before the command shows all it said")


def some(count: int) -> list[Work]:
    return [Work(f"p{number}", 1) for number in range(count)]


@pytest.mark.parametrize(("how", "told"), [("exit", "actor"), ("no more", "engine died: no more"), ("memory", "out of memory")])
def test_the_image_that_kills_stands_alone_in_the_end_with_the_cause_of_death(tmp_path: Path, how: str, told: str) -> None:
    done = work([Work("p0", 1, only=tuple("cd"))], Plot(("c",), how), Folder(str(tmp_path)))
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


def test_an_actor_that_falls_silent_is_replaced_and_doubles_nothing_where_its_kill_does_not_reach(monkeypatch: pytest.MonkeyPatch) -> None:
    """As behind a broken network: it stays alive, and nobody waits for its receipts any more."""
    import ray

    killed: list[Any] = []
    honest = ray.kill
    monkeypatch.setattr(actor, "SILENT_SECONDS", 2.0)
    monkeypatch.setattr(ray, "kill", killed.append)
    try:
        done = work([Work("p0", 1, only=("c",)), Work("p1", 1)], Plot(("c",), "freeze"))
    finally:
        for handle in killed:
            honest(handle)
    assert done["p1"] == ["done abcdefgh"]
    [poison] = done["p0"]
    assert poison.startswith("poison c it has not answered for")


def test_a_driver_that_dies_leaves_its_strikes_and_the_next_goes_on_with_them(tmp_path: Path) -> None:
    notes, trace = Folder(str(tmp_path / "notes")), tmp_path / "trace"
    trace.mkdir()
    first = Suspects(lambda work: ALL, notes)
    halves = [half for _ in range(2) for half in first.strike(Work("p0", 1), "it died")][1:]
    assert [half.only for half in halves] == [tuple("abcd"), tuple("efgh")]
    first.strike(halves[0], "it died again")

    done = work(some(1), Plot(("a",), "died", trace=str(trace)), notes)
    tried = {path.name.split("-")[1] for path in trace.iterdir()}
    assert tried == {"ab", "a", "b", "cd", "efgh"}, "the whole and the half that killed are not tried anew"
    assert sorted("".join(name.split()[1] for name in done["p0"])) == list(ALL)


def test_strikes_of_a_run_that_had_another_part_to_do_are_not_taken_up(tmp_path: Path) -> None:
    notes = Folder(str(tmp_path))
    first = Suspects(lambda work: tuple("ab"), notes)
    [again] = first.strike(Work("p0", 1), "it died")
    assert [half.only for half in first.strike(again, "it died")] == [("a",), ("b",)]
    assert [one.only for one in Suspects(lambda work: tuple("ba"), notes).recall(Work("p0", 1))] == [("a",), ("b",)]
    assert Suspects(lambda work: ALL, notes).recall(Work("p0", 1)) == [Work("p0", 1)]
    assert Suspects(lambda work: ALL, notes).recall(Work("p0", 2)) == [Work("p0", 2)]


def test_a_receipt_for_a_part_makes_the_whole_partition_stay_to_do() -> None:
    suspects = Suspects(lambda work: ALL, None)
    [again] = suspects.strike(Work("p0", 1), "it died")
    one, two = suspects.strike(again, "it died")
    assert suspects.settle(one, Receipt("p0", 1, {}, {"pair": 1}, {})) is None
    merged = suspects.settle(two, Receipt("p0", 1, {}, {"pair": 2}, {"2-planned/p0.r1": "digest"}))
    assert merged and merged.counts == {"pair": 3} and merged.reads == {}


# --- whose fault a death is -------------------------------------------------------------------------------------------


def died(message: str, **more: Any) -> Exception:
    """As Ray tells the death of an actor."""
    from ray.core.generated.common_pb2 import ActorDiedErrorContext
    from ray.exceptions import ActorDiedError

    error: Exception = ActorDiedError(ActorDiedErrorContext(error_message=message, actor_id=b"0" * 16, **more))
    return error


def preempted() -> Exception:
    from ray.core.generated.common_pb2 import NodeDeathInfo

    return died("gone", node_death_info=NodeDeathInfo(reason=NodeDeathInfo.AUTOSCALER_DRAIN_PREEMPTED))


def test_a_death_is_the_workers_own_unless_its_node_was_lost_preempted_or_cut_off(monkeypatch: pytest.MonkeyPatch) -> None:
    import ray
    from ray.exceptions import ActorUnavailableError, NodeDiedError

    monkeypatch.setattr(ray, "nodes", lambda: [{"NodeID": "here", "Alive": True}, {"NodeID": "there", "Alive": False}])
    own = died("The actor is dead because its worker process has died. Worker exit type: SYSTEM_ERROR")
    lost = died("The actor died because its node has died. Node Id: 1\n\tthe actor's node was terminated unexpectedly: no answer")
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
def foreman(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Foreman:
    """A foreman of two that never meets Ray."""
    import ray

    monkeypatch.setattr(ray, "kill", lambda handle: None)
    monkeypatch.setattr(foremen, "hire", lambda crew: Hired(None, None))
    crew = Crew(build, Plot(), lambda work: ALL, size=2, notes=Folder(str(tmp_path)))
    return Foreman(crew, [], lambda receipt: None, lambda counters: None)


def bury(foreman: Foreman, held: Work, death: Death) -> list[Work]:
    """Has an actor die; what is given out again."""
    monkeyed = Hired(None, None, held={"reference": held})
    monkeyed.finished = list  # type: ignore[method-assign] # nothing is done
    foreman._actors.append(monkeyed)
    foreman._bury(monkeyed, death)
    again = list(foreman._again)
    foreman._again.clear()
    return again


def test_a_lost_node_is_no_strike_against_what_was_there_and_a_death_is(foreman: Foreman, tmp_path: Path) -> None:
    work = Work("p0", 1)
    for _ in range(DEATHS_IN_A_ROW + 1):
        assert bury(foreman, work, Death("its node has died", is_own=False)) == [work]
    assert not list(tmp_path.iterdir())
    assert bury(foreman, work, Death("it died")) == [work] and list(tmp_path.iterdir())
    assert bury(foreman, work, Death("its node has died", is_own=False)) == [work]
    assert [one.only for one in bury(foreman, work, Death("it died"))] == [tuple("abcd"), tuple("efgh")]


def test_a_crew_that_only_ever_loses_its_nodes_ends_too(foreman: Foreman) -> None:
    with pytest.raises(JobFailing, match=r"20 workers died .* because its node has died"):
        for _ in range(2 * LOST_IN_A_ROW):
            bury(foreman, Work("p0", 1), Death("its node has died", is_own=False))


def test_a_worker_that_ends_while_the_run_is_stopped_leaves_no_strike(
    foreman: Foreman, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stop, "_asked", signal.SIGTERM)
    assert bury(foreman, Work("p0", 1), Death("it died")) == [Work("p0", 1)]
    assert not list(tmp_path.iterdir()) and not foreman._actors, "and nobody is hired any more"


def test_what_a_dead_worker_had_finished_counts(foreman: Foreman) -> None:
    done: list[Receipt] = []
    foreman._commit = done.append
    actor, receipt = Hired(None, None), Receipt("p0", 1, {})
    actor.finished = lambda: [(Work("p0", 1), receipt)]  # type: ignore[method-assign]
    foreman._actors.append(actor)
    foreman._bury(actor, Death("it died"))
    assert done == [receipt] and not foreman._again


@pytest.fixture
def crowded(monkeypatch: pytest.MonkeyPatch) -> dict[str, dict[str, float]]:
    """A cluster of two nodes that others use; what is free on each, to be changed."""
    import ray
    import ray._private.state

    free = {"one": {"CPU": 1.0}, "two": {"CPU": 1.0, "GPU": 1.0}}
    monkeypatch.setenv("RAY_ADDRESS", "there")
    monkeypatch.setattr(ray, "nodes", lambda: [{"Alive": True}, {"Alive": True}, {"Alive": False}])
    monkeypatch.setattr(ray, "cluster_resources", lambda: {"CPU": 4.0, "GPU": 1.0})
    monkeypatch.setattr(ray, "available_resources", lambda: {"CPU": 2.0, "GPU": 1.0})
    monkeypatch.setattr(ray._private.state, "available_resources_per_node", lambda: free)
    return free


def test_a_part_of_a_gpu_for_which_all_workers_find_room_is_taken_where_nothing_else_is_said(
    crowded: dict[str, dict[str, float]], monkeypatch: pytest.MonkeyPatch
) -> None:
    import ray

    assert [share(None, 4), share(None, 6), share(0, 6), share(2, 6)] == [0.25, 0.1666, 0, 2]
    monkeypatch.setattr(ray, "cluster_resources", lambda: {"CPU": 4.0})
    assert (share(None, 1), share(0, 1), share(2, 1)) == (0, 0, 2)


STARTING = "a worker is starting: Ray has room for it, and its process has not answered yet\n"


def test_a_crew_that_gets_no_machine_says_so_and_ends(
    crowded: dict[str, dict[str, float]], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    clock = [0.0]
    monkeypatch.setattr(time, "monotonic", lambda: clock[0])
    waiting = Waiting(2, 1)
    waiting.begin()
    for clock[0] in (30.0, 61.0, 90.0):
        waiting.see(False)
    told = capsys.readouterr().err
    assert told == (
        "waiting for a machine: a worker needs 1 GPU and 2 CPU on one node; Ray sees 1 GPU (1 free), 4 CPU (2 free) on 2 nodes\n"
    )
    waiting.see(True)
    clock[0] = 3600.0
    waiting.see(False)
    clock[0] = 3691.0
    with pytest.raises(JobFailing, match="no worker has answered within 60 min: waiting for a machine: a worker needs 1 GPU"):
        waiting.see(False)


@pytest.mark.parametrize("address", ["there", ""])
def test_a_worker_that_has_room_and_does_not_answer_is_starting(
    address: str, crowded: dict[str, dict[str, float]], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    clock = [0.0]
    monkeypatch.setattr(time, "monotonic", lambda: clock[0])
    monkeypatch.setenv("RAY_ADDRESS", address)
    waiting = Waiting(2, 0)
    crowded["one"]["CPU"] = 2.0 if address else 0.0
    waiting.begin()
    crowded["one"]["CPU"] = 0.0  # it took what was free before its process has started
    clock[0] = 61.0
    waiting.see(False)
    assert capsys.readouterr().err == STARTING


def test_nothing_is_said_of_what_no_worker_asks_for(
    crowded: dict[str, dict[str, float]], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    clock = [0.0]
    monkeypatch.setattr(time, "monotonic", lambda: clock[0])
    waiting = Waiting(2, 0)
    waiting.begin()
    clock[0] = 61.0
    waiting.see(False)
    assert capsys.readouterr().err == "waiting for a machine: a worker needs 2 CPU on one node; Ray sees 4 CPU (2 free) on 2 nodes\n"
    crowded["one"]["CPU"] = 2.0
    clock[0] = 122.0
    waiting.see(False)
    assert capsys.readouterr().err == STARTING


def test_a_cluster_that_cannot_be_joined_is_one_line_and_without_an_address_none_is_looked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    import ray

    asked: list[str] = []

    def init(address: str, **more: Any) -> None:
        asked.append(address)
        raise ConnectionError("Failed to connect to Ray cluster at 192.0.2.1:6379\nmore words")

    monkeypatch.setattr(ray, "is_initialized", lambda: False)
    monkeypatch.setattr(ray, "init", init)
    monkeypatch.setenv("RAY_ADDRESS", "192.0.2.1:6379")
    with pytest.raises(UserMistake, match=r"RAY_ADDRESS=192\.0\.2\.1:6379: cannot be joined .*unset RAY_ADDRESS") as told:
        join_ray()
    assert "\n" not in str(told.value)
    monkeypatch.delenv("RAY_ADDRESS")
    with pytest.raises(ConnectionError):
        join_ray()
    assert asked == ["192.0.2.1:6379", "local"]


# --- an engine that answers nothing -----------------------------------------------------------------------------------


class Mute:
    """Answers by the wish of the test."""

    facts = Facts("none", "none", frozenset(), None, "mute")

    def __init__(self, seconds: float, failure: Any = None) -> None:
        self._seconds, self._failure = seconds, failure

    async def generate(self, request: Request) -> Reply:
        await asyncio.sleep(self._seconds)
        return Reply("yes", failure=self._failure)

    async def close(self) -> None:
        """Nothing to close."""


async def calls(engine: WatchedEngine, count: int) -> list[Any]:
    return await asyncio.gather(*(engine.generate(Request("ask", "?", 1)) for _ in range(count)), return_exceptions=True)


def test_an_engine_that_answers_nothing_is_dead_for_all_its_calls_and_for_those_to_come() -> None:
    async def scene() -> None:
        engine = WatchedEngine(Mute(60), 0.2)
        for found in (await calls(engine, 3), await calls(engine, 1)):
            assert all(isinstance(one, EngineDied) and "calls was answered" in str(one) for one in found)

    asyncio.run(scene())


def test_an_engine_that_is_slow_but_answers_and_one_that_idles_are_not_dead() -> None:
    async def scene() -> None:
        engine = WatchedEngine(Mute(0.15), 0.3)
        for _ in range(4):
            assert all(isinstance(one, Reply) for one in await calls(engine, 2))
        await asyncio.sleep(0.5)
        assert all(isinstance(one, Reply) for one in await calls(engine, 1))

    asyncio.run(scene())


def test_calls_that_time_out_are_no_sign_of_life_and_errors_are() -> None:
    async def scene(failure: str) -> list[Any]:
        engine = WatchedEngine(Mute(0.1, failure), 0.25)
        return [(await calls(engine, 1))[0] for _ in range(5)]

    async def overlapping(failure: str) -> list[Any]:
        engine = WatchedEngine(Mute(0.1, failure), 0.25)
        found: list[Any] = []

        async def loop(start: float) -> None:
            await asyncio.sleep(start)
            for _ in range(6):
                found.extend(await calls(engine, 1))

        await asyncio.gather(loop(0), loop(0.05))
        return found

    assert any(isinstance(one, EngineDied) for one in asyncio.run(overlapping("call_timeout")))
    assert all(isinstance(one, Reply) for one in asyncio.run(overlapping("call_failed")))


def test_an_image_on_which_the_engine_hangs_costs_its_own_rows(workspace: Path) -> None:
    made = make_images(workspace / "photos", 2)
    poison = image_id(made[1].read_bytes())[:32]
    run("out", "--set", f"generate.engine.options.stall_on={poison}", "--set", "generate.engine.stall_seconds=1")
    adds_up(workspace / "out")
    reasons = [row[1] for row in pairs(workspace / "out").values()]
    assert sorted(reasons, key=str) == [None] * 3 + ["poison"] * 3


# --- a job in which nothing works -------------------------------------------------------------------------------------


def test_a_job_whose_every_call_fails_stops_early_and_retry_does_its_rows_later(workspace: Path) -> None:
    make_images(workspace / "photos", 150)
    stopped = run("out", "--set", "generate.engine.options.fail=1", check=False)
    assert stopped.returncode == 1
    assert "rows failed one after the other, this one as call_failed: scripted failure" in stopped.stderr
    assert "synth retry" in stopped.stderr and "Traceback" not in stopped.stderr
    failed = {key for key, row in pairs(workspace / "out").items() if row[1] == "call_failed"}
    assert 0 < len(failed) < len(assignments(workspace / "out")) / 2

    run("out", "--set", "generate.engine.options.fail=0")
    assert {key for key, row in pairs(workspace / "out").items() if row[1]} == failed
    synth("retry", "out")
    adds_up(workspace / "out")
    assert not [row for row in pairs(workspace / "out").values() if row[1]]


# --- a run that is told to stop ---------------------------------------------------------------------------------------

SLOW = """
from pathlib import Path
from synthgen.models.scripted import ScriptedEngine

class Slow(ScriptedEngine):
    async def generate(self, request):
        Path("called").touch()
        return await super().generate(request)
"""


def start(folder: Path, seconds: float) -> subprocess.Popen[str]:
    """A run that is about to ask its model, whose calls take that long; a file `called` tells when it does."""
    (folder / "slow.py").write_text(SLOW)
    settings = ["script=slow:Slow", f"options.seconds={seconds}", "in_flight=2"]
    given = [word for one in settings for word in ("--set", f"generate.engine.{one}")]
    command = [sys.executable, "-m", "synthgen.cli", "run", "photos", "--out", "out", "--pipeline", "small", *given]
    return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, start_new_session=True)


def wait_for(path: Path, pattern: str, process: subprocess.Popen[str]) -> None:
    give_up = time.monotonic() + 120
    while not list(path.glob(pattern)):
        assert time.monotonic() < give_up and process.poll() is None
        time.sleep(0.02)


@pytest.mark.parametrize(("number", "status"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_run_told_to_stop_commits_what_is_begun_gives_back_the_rest_and_goes_on_later(
    workspace: Path, number: signal.Signals, status: int
) -> None:
    make_images(workspace / "photos", 40)
    process = start(workspace, 0.1)
    wait_for(workspace, "called", process)
    time.sleep(1)
    process.send_signal(number)
    told = process.communicate(timeout=180)[1]
    assert process.returncode == status, told
    assert "stopping: " in told and f"stopped by {number.name}" in told and "Traceback" not in told
    done = pairs(workspace / "out")
    assert 0 < len(done) < 120
    assert json.loads(max((workspace / "out" / "lease").iterdir()).read_text())["released"]

    run()
    adds_up(workspace / "out")
    assert done.items() <= pairs(workspace / "out").items(), "nothing that was finished is done again"
    assert len(pairs(workspace / "out")) == 120


def test_told_twice_a_run_ends_at_once(workspace: Path) -> None:
    make_images(workspace / "photos", 4)
    process = start(workspace, 60)
    wait_for(workspace, "called", process)
    process.send_signal(signal.SIGINT)
    time.sleep(1)
    assert process.poll() is None
    process.send_signal(signal.SIGINT)
    started = time.monotonic()
    told = process.communicate(timeout=180)[1]
    assert process.returncode == 130 and time.monotonic() - started < 12, told
    assert "Traceback" not in told
