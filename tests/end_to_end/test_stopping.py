"""The end of a run whose engine hangs, in which nothing works, or that a signal stops, and what it costs."""

import asyncio
import json
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from synthgen.engines import EngineDied, EngineInfo, Reply, Request, watchdog
from synthgen.errors import Stopped
from synthgen.tables import image_id
from synthgen.workers import signals
from tests.fixtures.runs import PATIENCE, adds_up, assignments, pairs, run, synth
from tests.fixtures.slow_runs import slow, start, wait_for
from tests.fixtures.workspace import make_images

pytestmark = pytest.mark.usefixtures("ray_running")

# --- an engine that hangs ---------------------------------------------------------------------------------------------


STALL = 10.0  # seconds without an answer after which an engine counts as dead


class HeldEngine:
    """An engine that answers a call when the test says so, and a watch on it with a clock that the test moves."""

    facts = EngineInfo("none", "none", frozenset(), None, "held")

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self._now = 0.0
        self._calls: list[asyncio.Future[Reply]] = []
        monkeypatch.setattr(watchdog, "time", SimpleNamespace(monotonic=lambda: self._now))
        monkeypatch.setattr(watchdog, "LOOKS", 10_000)  # each millisecond of the real clock
        self.watched = watchdog.WatchedEngine(self, STALL)

    async def generate(self, request: Request) -> Reply:
        self._calls.append(asyncio.get_running_loop().create_future())
        return await self._calls[-1]

    async def close(self) -> None:
        """Close nothing."""

    async def call(self, count: int = 1) -> list[asyncio.Task[Reply]]:
        """Make calls that wait for their answers."""
        made = [asyncio.create_task(self.watched.generate(Request("ask", "?", 1))) for _ in range(count)]
        await asyncio.sleep(0)
        return made

    async def wait(self, seconds: float) -> None:
        """Move the clock, and let the watch look at it."""
        self._now += seconds
        await asyncio.sleep(0.02)

    async def answer(self, call: asyncio.Task[Reply], failure: Any = None) -> Reply:
        """Answer the call that has waited longest."""
        self._calls.pop(0).set_result(Reply("yes", failure=failure))
        return await call


def test_an_engine_that_hangs_is_dead_for_all_its_calls_and_for_later_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    async def scene() -> None:
        engine = HeldEngine(monkeypatch)
        waiting = await engine.call(3)
        await engine.wait(STALL + 1)
        for call in [*waiting, *await engine.call()]:
            with pytest.raises(EngineDied, match="none of 3 calls was answered for 11 s"):
                await call

    asyncio.run(scene())


def test_a_slow_engine_and_an_idle_one_are_not_dead(monkeypatch: pytest.MonkeyPatch) -> None:
    async def scene() -> None:
        engine = HeldEngine(monkeypatch)
        for _ in range(4):
            first, second = await engine.call(2)
            await engine.wait(STALL - 1)
            await engine.answer(first)
            await engine.wait(STALL - 1)
            await engine.answer(second)
        await engine.wait(STALL + 1)
        (call,) = await engine.call()
        await engine.wait(STALL - 1)
        assert (await engine.answer(call)).text == "yes"
        await engine.watched.close()

    asyncio.run(scene())


def test_a_call_that_times_out_is_no_sign_of_life_and_an_error_is(monkeypatch: pytest.MonkeyPatch) -> None:
    async def scene(failure: str) -> None:
        engine = HeldEngine(monkeypatch)
        first, second = await engine.call(2)
        await engine.wait(STALL / 2)
        await engine.answer(first, failure)
        await engine.wait(STALL / 2 + 1)
        await engine.answer(second) if failure == "call_failed" else await second
        await engine.watched.close()

    asyncio.run(scene("call_failed"))
    with pytest.raises(EngineDied, match="none of 1 calls was answered for 11 s"):
        asyncio.run(scene("call_timeout"))


def test_an_image_on_which_the_engine_hangs_costs_its_own_rows(workspace: Path) -> None:
    photos = make_images(workspace / "photos", 2)
    poison = image_id(photos[1].read_bytes())[:32]
    run("out", "--set", f"generate.engine.options.stall_on={poison}", "--set", "generate.engine.stall_seconds=1")
    adds_up(workspace / "out")
    reasons = [row[1] for row in pairs(workspace / "out").values()]
    assert sorted(reasons, key=str) == [None] * 3 + ["poison"] * 3


# --- a job in which nothing works -------------------------------------------------------------------------------------


def test_a_job_whose_every_call_fails_stops_early_and_retry_does_its_rows_later(workspace: Path) -> None:
    make_images(workspace / "photos", 150)
    stopped = run("out", "--set", "generate.engine.options.fail=1", check=False)
    assert stopped.returncode == 1
    assert "rows failed one after the other, the last one as call_failed: scripted failure" in stopped.stderr
    assert "synth retry" in stopped.stderr and "Traceback" not in stopped.stderr
    failed = {key for key, row in pairs(workspace / "out").items() if row[1] == "call_failed"}
    assert 0 < len(failed) < len(assignments(workspace / "out")) / 2

    run("out", "--set", "generate.engine.options.fail=0")
    assert {key for key, row in pairs(workspace / "out").items() if row[1]} == failed
    synth("retry", "out")
    adds_up(workspace / "out")
    assert not [row for row in pairs(workspace / "out").values() if row[1]]


# --- a run that a signal stops ----------------------------------------------------------------------------------------


def test_a_run_stopped_by_each_signal_commits_started_work_gives_back_the_rest_and_continues_later(
    workspace: Path,
) -> None:
    make_images(workspace / "photos", 40)
    done: dict[str, tuple[object, ...]] = {}
    for number, status in ((signal.SIGTERM, 143), (signal.SIGINT, 130), (signal.SIGHUP, 129)):
        (workspace / "called").unlink(missing_ok=True)
        process = start(workspace, 0.1)
        wait_for(workspace, "called", process)
        process.send_signal(number)
        notes = process.communicate(timeout=PATIENCE)[1]
        assert process.returncode == status, notes
        assert "stopping: " in notes and f"stopped by {number.name}" in notes and "Traceback" not in notes
        before, done = done, pairs(workspace / "out")
        assert before.items() < done.items(), "finished work is kept, and each run did some"
        assert json.loads(max((workspace / "out" / "lease").iterdir()).read_text())["released"]
    assert len(done) < 120

    run("out", *slow(0.1))
    adds_up(workspace / "out")
    assert done.items() <= pairs(workspace / "out").items(), "no finished assignment is asked again"
    assert len(pairs(workspace / "out")) == 120


def test_a_run_whose_terminal_closes_commits_started_work(workspace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RAY_ADDRESS")  # it starts its own
    make_images(workspace / "photos", 40)
    process = start(workspace, 0.1)
    wait_for(workspace, "called", process)
    os.killpg(process.pid, signal.SIGHUP)  # to its children, too
    notes = process.communicate(timeout=PATIENCE)[1]
    assert process.returncode == 129 and "stopped by SIGHUP" in notes, notes
    assert pairs(workspace / "out")


def test_a_second_signal_ends_a_run_at_once(workspace: Path) -> None:
    make_images(workspace / "photos", 4)
    process = start(workspace, 60)
    wait_for(workspace, "called", process)
    process.send_signal(signal.SIGINT)
    assert process.stderr is not None
    while "stopping: started tasks are finished" not in process.stderr.readline():
        assert process.poll() is None
    process.send_signal(signal.SIGINT)
    notes = process.communicate(timeout=PATIENCE)[1]
    assert process.returncode == 130 and "stopping: now" in notes, notes
    assert "Traceback" not in notes


def test_a_hangup_that_nohup_ignores_stays_ignored() -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with signals.listening() as heard:
            signal.raise_signal(signal.SIGHUP)
            assert heard.received is None
    finally:
        signal.signal(signal.SIGHUP, before)


def test_in_another_thread_a_run_hears_no_signals_and_changes_no_handlers() -> None:
    seen = list[Any]()

    def in_thread() -> None:
        with signals.listening(), signals.held_back():
            seen.append([signal.getsignal(number) for number in signals.HEARD])

    before = [signal.getsignal(number) for number in signals.HEARD]
    thread = threading.Thread(target=in_thread)
    thread.start()
    thread.join()
    assert seen == [before]


def test_a_signal_while_a_library_starts_reaches_the_handler_from_before_it() -> None:
    caught, main = list[int](), threading.main_thread().ident or 0
    print_blocked = "import signal; print(signal.pthread_sigmask(0, ()))"
    with pytest.raises(Stopped) as stopped, signals.listening() as heard, signals.held_back():
        signal.signal(signal.SIGTERM, lambda number, _: caught.append(number))  # as Ray does
        signal.pthread_kill(main, signal.SIGTERM)
        command = [sys.executable, "-c", print_blocked]
        child = subprocess.run(command, capture_output=True, text=True, preexec_fn=lambda: None)
        assert heard.received is None
    assert stopped.value.exit_status == 128 + signal.SIGTERM and not caught
    assert heard.received == signal.SIGTERM
    assert child.stdout == "set()\n", "a signal can stop its processes"
    assert not signal.pthread_sigmask(signal.SIG_BLOCK, ())
    with signals.listening() as heard:
        assert heard.received is None, "a later run is not stopped"
