"""A run whose engine answers nothing, in which nothing works, or that is told to stop: what it costs, and how it ends."""

import asyncio
import json
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from synthgen.engines import EngineDied, EngineInfo, Reply, Request
from synthgen.engines.watchdog import WatchedEngine
from synthgen.errors import Stopped
from synthgen.tables import image_id
from synthgen.workers import signals
from tests.fixtures.runs import adds_up, assignments, pairs, run, synth
from tests.fixtures.workspace import make_images

# --- an engine that answers nothing -----------------------------------------------------------------------------------


class Mute:
    """Answers by the wish of the test."""

    facts = EngineInfo("none", "none", frozenset(), None, "mute")

    def __init__(self, seconds: float, failure: Any = None) -> None:
        self._seconds, self._failure = seconds, failure

    async def generate(self, request: Request) -> Reply:
        await asyncio.sleep(self._seconds)
        return Reply("yes", failure=self._failure)

    async def close(self) -> None:
        """Nothing to close."""


async def calls(engine: WatchedEngine, count: int) -> list[Any]:
    return await asyncio.gather(
        *(engine.generate(Request("ask", "?", 1)) for _ in range(count)), return_exceptions=True
    )


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
from synthgen.engines.scripted import ScriptedEngine

class Slow(ScriptedEngine):
    async def generate(self, request):
        Path("called").touch()
        return await super().generate(request)
"""


def slow(seconds: float) -> list[str]:
    """Return the options of a run whose calls take that long."""
    settings = ("kind=slow:Slow", "gpus=0", f"options.seconds={seconds}", "in_flight=2")
    return [word for setting in settings for word in ("--set", f"generate.engine.{setting}")]


def start(folder: Path, seconds: float) -> subprocess.Popen[str]:
    """A run that is about to ask its model, whose calls take that long; a file `called` tells when it does."""
    (folder / "slow.py").write_text(SLOW)
    command = [sys.executable, "-m", "synthgen", "run", "photos", "--out", "out", "--pipeline", "small", *slow(seconds)]
    return subprocess.Popen(
        command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, start_new_session=True
    )


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

    run("out", *slow(0.1))
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


def test_a_signal_while_a_library_starts_is_heard_afterwards_by_whoever_heard_before() -> None:
    taken, main, blocked = (
        list[int](),
        threading.main_thread().ident or 0,
        "import signal; print(signal.pthread_sigmask(0, ()))",
    )
    with pytest.raises(Stopped) as stopped, signals.listening(), signals.held_back():
        signal.signal(signal.SIGTERM, lambda number, _: taken.append(number))  # as Ray does
        signal.pthread_kill(main, signal.SIGTERM)
        child = subprocess.run([sys.executable, "-c", blocked], capture_output=True, text=True, preexec_fn=lambda: None)
        assert not signals.asked()
    assert stopped.value.exit_status == 128 + signal.SIGTERM and not taken
    assert signals.asked() is None, "what comes after is not stopped"
    assert child.stdout == "set()\n", "its processes can be told to stop"
    assert not signal.pthread_sigmask(signal.SIG_BLOCK, ())
