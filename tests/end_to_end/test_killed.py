"""Killed runs: started again, a run loses nothing and does nothing twice, whatever stage it was killed in.

Runs that are killed are real processes with real Ray; only the model is a script. A kill is SIGKILL of the whole
process group.
"""

import contextlib
import os
import signal
from collections import Counter
from pathlib import Path

import pytest

from synthgen.tables import GENERATE, image_id
from tests.fixtures.runs import PATIENCE, adds_up, assignments, kill_once, pairs, rows, run, start
from tests.fixtures.slow_runs import start as start_slow
from tests.fixtures.slow_runs import wait_for
from tests.fixtures.workspace import make_images, write_definition_files

pytestmark = pytest.mark.usefixtures("ray_running")
SLOW = ("--set", "generate.engine.options.seconds=0.05", "--set", "generate.engine.in_flight=4")


@pytest.fixture(scope="module")
def undisturbed(ray_running: None, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a workspace with seventy images and an undisturbed run in `whole`."""
    folder = write_definition_files(tmp_path_factory.mktemp("undisturbed"))
    make_images(folder / "photos", 70)
    with contextlib.chdir(folder):
        run("whole", *SLOW)
    return folder


def test_a_run_killed_in_one_stage_after_the_other_loses_nothing_and_does_nothing_twice(
    undisturbed: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(undisturbed)
    for stage in ("0-listed", "1-tagged", "2-planned", "3-generated", "4-selected", "5-shards"):
        kill_when(undisturbed / "killed", stage)
    run("killed", *SLOW)
    adds_up(undisturbed / "killed")
    assert assignments(undisturbed / "killed") == assignments(undisturbed / "whole")
    assert pairs(undisturbed / "killed") == pairs(undisturbed / "whole")


@pytest.mark.parametrize("name", ["raylet", "gcs_server"])
def test_a_run_whose_ray_is_killed_ends_with_one_line(
    workspace: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ray itself would wait for ever, or end the process without a word."""
    monkeypatch.delenv("RAY_ADDRESS")  # it starts its own
    make_images(workspace / "photos", 40)
    process = start_slow(workspace, 0.1)
    wait_for(workspace, "called", process)
    os.kill(child_of(process.pid, name), signal.SIGKILL)
    notes = process.communicate(timeout=PATIENCE)[1].splitlines()
    assert process.returncode == 1
    assert notes[-1] == f"synth: Ray ended on this machine: its process {name} died; finished work is kept, start again"


def child_of(parent: int, name: str) -> int:
    """Return the id of the child of a process whose program has this name."""
    for entry in Path("/proc").iterdir():
        with contextlib.suppress(OSError, IndexError):
            if int((entry / "stat").read_text().rpartition(")")[2].split()[1]) == parent:
                program = (entry / "cmdline").read_bytes().partition(b"\0")[0].decode()
                if program.rpartition("/")[2] == name:
                    return int(entry.name)
    raise AssertionError(f"no {name} below {parent}")


def kill_when(out: Path, stage: str) -> None:
    """Start a run and kill its process group as soon as a stage has its first data file."""
    process = start("run", "photos", "--out", out.name, "--pipeline", "small", *SLOW)
    kill_once(process, lambda: list((out / stage).rglob("*.parquet")))


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
