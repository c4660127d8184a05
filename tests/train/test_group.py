"""A training on several processes makes the steps of one alone, and goes on with another number of them."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from synthgen.config.training import TrainConfig
from synthgen.train import train
from synthgen.train.ray_train import threads
from synthgen.train.record import read_log
from tests.fixtures.tiny_vlm import FAST, FINISHED, losses, names, row, samples, write
from tests.fixtures.workspace import ROOT

SHARED = FAST.model_copy(update={"steps": 8, "processes": 2, "batch": 5})  # of five rows one process has three
ALONE = SHARED.model_copy(update={"processes": 1})


@pytest.fixture
def shards(tmp_path: Path) -> Path:
    """Write shards of which some rows are unusable, two of them in a row."""
    bad = [row(("Q", "A"), image=b"no image") for _ in range(2)]
    return write(tmp_path / "shards", [*samples(7), *bad], samples(6))


def test_two_processes_make_the_steps_of_one(model: Path, shards: Path, tmp_path: Path) -> None:
    alone = train(str(shards), str(model), tmp_path / "alone", ALONE)
    shared = train(str(shards), str(model), tmp_path / "shared", SHARED)
    assert losses(tmp_path / "shared") == pytest.approx(losses(tmp_path / "alone"), rel=1e-4)
    for key in ("tokens", "lr", "step"):
        of_both = [[line[key] for line in read_log(tmp_path / name)] for name in ("shared", "alone")]
        assert of_both[0] == of_both[1], key
    assert (shared.steps, shared.skipped) == (alone.steps, alone.skipped)
    ours, theirs = (load_file(tmp_path / name / "model" / "model.safetensors") for name in ("shared", "alone"))
    assert ours.keys() == theirs.keys()
    assert all(torch.allclose(ours[name], theirs[name], atol=2e-3) for name in theirs)
    assert set(names(tmp_path / "shared")) - {"tensorboard"} == FINISHED


def test_processes_of_a_machine_share_its_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("synthgen.train.ray_train.cores", lambda: 16)
    assert [threads(None, processes) for processes in (1, 2, 3, 32)] == [16, 8, 5, 1]
    assert threads("4", 2) == 4, "who set OMP_NUM_THREADS is obeyed"
    assert threads("0", 2) == 8, "torch takes no 0"


def test_a_training_goes_on_with_another_number_of_processes(model: Path, shards: Path, tmp_path: Path) -> None:
    whole, moved = tmp_path / "whole", tmp_path / "moved"
    settings = ALONE.model_copy(update={"steps": 100, "checkpoint_every": 50})
    train(str(shards), str(model), whole, settings)
    process = start(shards, model, moved, settings.model_copy(update={"processes": 2}))
    wait_for(lambda: len(read_log(moved)) >= 3)
    os.kill(process.pid, signal.SIGTERM)
    assert process.wait(120) == 128 + signal.SIGTERM
    done = len(read_log(moved))
    assert 3 <= done < 100 and names(moved / "checkpoints")[-1] == f"step-{done:07d}"
    train(str(shards), str(model), moved, settings)
    assert losses(moved) == pytest.approx(losses(whole), rel=1e-4, abs=1e-4)


def test_a_process_that_is_killed_costs_the_steps_since_the_last_checkpoint(
    model: Path, shards: Path, tmp_path: Path
) -> None:
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    settings = ALONE.model_copy(update={"steps": 40, "checkpoint_every": 4})
    train(str(shards), str(model), whole, settings)
    process = start(shards, model, killed, settings.model_copy(update={"processes": 2}))
    wait_for(lambda: len(read_log(killed)) >= 5)
    os.kill(max(workers_of(process.pid)), signal.SIGKILL)
    assert process.wait(120) == 0, "another group went on"
    assert [line["step"] for line in read_log(killed)] == list(range(1, 41)), "no step is missing, and none is twice"
    assert losses(killed) == pytest.approx(losses(whole), rel=1e-4, abs=1e-4)


PROGRAM = """
import sys
from pathlib import Path
from synthgen.cli.door import run_command
from synthgen.config.training import TrainConfig
from synthgen.train import train
from synthgen.train.ray_train import threads

run_command(lambda: train(sys.argv[1], sys.argv[2], Path(sys.argv[3]), TrainConfig.model_validate_json(sys.argv[4])))
"""


def start(shards: Path, model: Path, out: Path, settings: TrainConfig) -> "subprocess.Popen[bytes]":
    """Start a training as the command line does."""
    words = [str(shards), str(model), str(out), settings.model_dump_json()]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    return subprocess.Popen([sys.executable, "-c", PROGRAM, *words], env=environment)


def wait_for(is_so: Callable[[], bool]) -> None:
    """Wait until something is so."""
    give_up = time.monotonic() + 100
    while not is_so():
        assert time.monotonic() < give_up
        time.sleep(0.02)


def workers_of(driver: int) -> list[int]:
    """Return the processes that train, of the Ray that a driver started."""
    listed = subprocess.run(["ps", "-eo", "pid=,ppid=,args="], capture_output=True, text=True, check=True).stdout
    rows = [
        (int(pid), int(parent), args) for pid, parent, args in (line.split(None, 2) for line in listed.splitlines())
    ]
    below = {driver}
    for pid, parent, _ in sorted(rows):  # a child is younger than its parent
        below |= {pid} if parent in below else set()
    return [pid for pid, _, args in rows if pid in below and "TrainWorker" in args]
