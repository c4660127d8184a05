"""Killed runs: started again, a run loses nothing and does nothing twice, whatever stage it was killed in.

The runs are real processes with real Ray; only the model is a script. A kill is SIGKILL of the whole process group.
"""

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import pytest

from synthgen.tables import GENERATE, image_id
from tests.fixtures.runs import PATIENCE, adds_up, assignments, pairs, rows, run
from tests.fixtures.workspace import make_images, write_definition_files

SLOW = ("--set", "generate.engine.options.seconds=0.05", "--set", "generate.engine.in_flight=4")


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a workspace with seventy images and an undisturbed run in `whole`."""
    folder = write_definition_files(tmp_path_factory.mktemp("undisturbed"))
    make_images(folder / "photos", 70)
    with contextlib.chdir(folder):
        run("whole", *SLOW)
    return folder


@pytest.mark.parametrize("stage", ["0-listed", "1-tagged", "2-planned", "3-generated", "4-selected", "5-shards"])
def test_a_run_killed_in_any_stage_and_started_again_loses_nothing_and_does_nothing_twice(
    undisturbed: Path, stage: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(undisturbed)
    kill_when(undisturbed / stage, stage)
    run(stage, *SLOW)
    adds_up(undisturbed / stage)
    assert assignments(undisturbed / stage) == assignments(undisturbed / "whole")
    assert pairs(undisturbed / stage) == pairs(undisturbed / "whole")


def kill_when(out: Path, stage: str) -> None:
    """Start a run and kill its process group as soon as a stage has its first data file."""
    command = [sys.executable, "-m", "synthgen", "run", "photos", "--out", out.name, "--pipeline", "small", *SLOW]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True)
    give_up = time.monotonic() + PATIENCE
    while not list((out / stage).rglob("*.parquet")) and process.poll() is None:
        assert time.monotonic() < give_up
        time.sleep(0.01)
    os.killpg(process.pid, signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL, "the run ended before it was killed"


def test_one_image_that_kills_its_engine_costs_its_own_rows(workspace: Path) -> None:
    photos = make_images(workspace / "photos", 12)
    poison = image_id(photos[5].read_bytes())
    run("out", "--set", f"generate.engine.options.exit_on={poison[:32]}")
    adds_up(workspace / "out")
    reasons = Counter(row["reason"] for row in rows(workspace / "out", GENERATE, "pairs").values())
    assert reasons == {None: 33, "poison": 3}


def test_a_job_full_of_images_that_kill_their_engine_stops(workspace: Path) -> None:
    make_images(workspace / "photos", 12)
    stopped = run("all", "--set", "generate.engine.options.exit_on='-'", check=False)
    assert stopped.returncode == 1
    assert "workers died one after the other" in stopped.stderr
