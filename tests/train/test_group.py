"""A training on several processes makes the steps of one alone, and goes on with another number of them."""

import os
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from synthgen.config.training import LoraConfig
from synthgen.errors import Stopped
from synthgen.train import train
from synthgen.train.ray_train import threads
from synthgen.train.record import read_log
from tests.fixtures.tiny_vlm import FAST, FINISHED, losses, names, row, samples, write

SHARED = FAST.model_copy(
    update={"steps": 24, "checkpoint_every": 4, "processes": 2, "batch": 5}  # of five rows one process has three
)
ALONE = SHARED.model_copy(update={"processes": 1})


@pytest.fixture
def shards(tmp_path: Path) -> Path:
    """Write shards of which some rows are unusable, two of them in a row."""
    bad = [row(("Q", "A"), image=b"no image") for _ in range(2)]
    return write(tmp_path / "shards", [*samples(7), *bad], samples(6))


def test_processes_of_a_machine_share_its_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("synthgen.train.ray_train.cores", lambda: 16)
    assert [threads(None, processes) for processes in (1, 2, 3, 32)] == [16, 8, 5, 1]
    assert threads("4", 2) == 4, "who set OMP_NUM_THREADS is obeyed"
    assert threads("0", 2) == 8, "torch takes no 0"


def test_two_processes_make_the_steps_of_one_and_one_killed_costs_those_since_the_last_checkpoint(
    model: Path, shards: Path, tmp_path: Path
) -> None:
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    alone = train(str(shards), str(model), whole, ALONE)
    with meanwhile(lambda: len(read_log(killed)) >= 5, lambda: os.kill(max(training_processes()), signal.SIGKILL)):
        shared = train(str(shards), str(model), killed, SHARED)
    assert [line["step"] for line in read_log(killed)] == list(range(1, 25)), "no step is missing, and none is twice"
    assert losses(killed) == pytest.approx(losses(whole), rel=1e-4, abs=1e-4)
    for key in ("tokens", "lr"):
        assert [line[key] for line in read_log(killed)] == [line[key] for line in read_log(whole)], key
    assert (shared.steps, shared.skipped) == (alone.steps, alone.skipped)
    assert_same_weights(killed, whole)
    assert set(names(killed)) - {"tensorboard"} == FINISHED


def test_adapters_that_two_processes_began_to_train_are_finished_by_one(
    model: Path, shards: Path, tmp_path: Path
) -> None:
    whole, moved = tmp_path / "whole", tmp_path / "moved"
    adapters = {"lora": LoraConfig(rank=4, alpha=8.0), "learning_rate": 3e-3, "steps": 60, "checkpoint_every": 50}
    train(str(shards), str(model), whole, ALONE.model_copy(update=adapters))
    stop = meanwhile(lambda: len(read_log(moved)) >= 3, lambda: os.kill(os.getpid(), signal.SIGTERM))
    with stop, pytest.raises(Stopped):
        train(str(shards), str(model), moved, SHARED.model_copy(update=adapters))
    done = len(read_log(moved))
    assert 3 <= done < 60 and names(moved / "checkpoints")[-1] == f"step-{done:07d}"
    train(str(shards), str(model), moved, ALONE.model_copy(update=adapters))
    assert losses(moved) == pytest.approx(losses(whole), rel=1e-4, abs=1e-4)
    assert_same_weights(moved, whole)


def assert_same_weights(one: Path, other: Path) -> None:
    """Assert that two trainings left the same weights, but for the order in which numbers were added."""
    ours, theirs = (load_file(out / "model" / "model.safetensors") for out in (one, other))
    assert ours.keys() == theirs.keys()
    assert all(torch.allclose(ours[name], theirs[name], atol=2e-3) for name in theirs)


@contextmanager
def meanwhile(is_time: Callable[[], bool], act: Callable[[], object]) -> Iterator[None]:
    """Do something beside the block as soon as it is time."""

    def wait() -> None:
        wait_for(is_time)
        act()

    beside = threading.Thread(target=wait)
    beside.start()
    yield
    beside.join()


def wait_for(is_so: Callable[[], bool]) -> None:
    """Wait until something is so."""
    give_up = time.monotonic() + 100
    while not is_so():
        assert time.monotonic() < give_up
        time.sleep(0.02)


def training_processes() -> list[int]:
    """Return the processes that train, of the Ray that this process started."""
    listed = subprocess.run(["ps", "-eo", "pid=,ppid=,args="], capture_output=True, text=True, check=True).stdout
    rows = [
        (int(pid), int(parent), args) for pid, parent, args in (line.split(None, 2) for line in listed.splitlines())
    ]
    below = {os.getpid()}
    for pid, parent, _ in sorted(rows):  # a child is younger than its parent
        below |= {pid} if parent in below else set()
    return [pid for pid, _, args in rows if pid in below and "TrainWorker" in args]
