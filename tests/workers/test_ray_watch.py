"""A Ray that ended or hangs ends the run: what the watch sees, and what it does when the run cannot end by itself."""

import socket
import time
from collections.abc import Callable, Iterator
from functools import partial
from types import SimpleNamespace
from typing import Any

import pytest

from synthgen.errors import JobFailing
from synthgen.workers import ray_watch
from synthgen.workers.ray_watch import RayWatch


class FakeRay:
    """The parts of Ray that the watch looks at; a test changes them."""

    def __init__(self, address: str) -> None:
        self.dead: list[tuple[str, object]] = []
        self.killed: list[str] = []
        self.alive = [True]
        self.is_silent = False
        self.address = address
        self.current_node_id = "here"
        self.gcs_client = self.global_worker = self._global_node = self

    def dead_processes(self) -> list[tuple[str, object]]:
        return self.dead

    @property
    def all_processes(self) -> dict[str, list[Any]]:
        kinds = ("raylet", "gcs_server")
        kills = {kind: partial(self.killed.append, kind) for kind in kinds}
        return {kind: [SimpleNamespace(process=SimpleNamespace(kill=kills[kind]))] for kind in kinds}

    def check_alive(self, nodes: list[str], timeout: float) -> list[bool]:
        assert nodes == ["here"] and timeout > 0
        if self.is_silent:
            raise RuntimeError("Deadline Exceeded")
        return self.alive


@pytest.fixture
def listening() -> Iterator[socket.socket]:
    """Yield a socket that accepts connections and never answers."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server


@pytest.fixture
def fake(listening: socket.socket, monkeypatch: pytest.MonkeyPatch) -> FakeRay:
    """Have a Ray that is well, and a watch with little patience."""
    fake = FakeRay(f"127.0.0.1:{listening.getsockname()[1]}")
    monkeypatch.setattr(ray_watch, "_ray_worker", lambda: fake)
    seconds = {"LOOK": 0.01, "REFUSED": 0.2, "SILENT": 2.0, "START": 0.2, "KILL": 0.1, "EXIT": 0.3}
    for name, value in seconds.items():
        monkeypatch.setattr(ray_watch, f"{name}_SECONDS", value)
    return fake


@pytest.fixture
def exits() -> list[int]:
    """Return the exit statuses with which the watch ended this process."""
    return []


@pytest.fixture
def watch(fake: FakeRay, exits: list[int]) -> Iterator[RayWatch]:
    """Yield a watch over a Ray that was joined."""
    watch = RayWatch(exits.append)
    watch.set_joined()
    yield watch
    watch.stop()


def wait_for(is_there: Callable[[], object]) -> None:
    give_up = time.monotonic() + 20
    while not is_there():
        assert time.monotonic() < give_up
        time.sleep(0.01)


def test_a_ray_that_is_well_has_no_fault(watch: RayWatch, exits: list[int]) -> None:
    time.sleep(0.3)
    assert watch.fault is None and not exits


@pytest.mark.parametrize("kind", ["raylet", "gcs_server"])
def test_a_process_that_died_is_named(kind: str, watch: RayWatch, fake: FakeRay) -> None:
    fake.dead = [("log_monitor", None)]
    time.sleep(0.1)
    assert watch.fault is None, "Ray goes on without it"
    fake.dead.append((kind, None))
    wait_for(lambda: watch.fault)
    assert watch.fault == f"Ray ended on this machine: its process {kind} died"


def test_a_machine_that_the_cluster_gave_up_is_reported(watch: RayWatch, fake: FakeRay) -> None:
    fake.alive = [False]
    wait_for(lambda: watch.fault)
    assert watch.fault == "Ray has lost this machine: it counts as dead in its cluster"


def test_a_head_may_be_slow_for_a_while(watch: RayWatch, fake: FakeRay) -> None:
    fake.is_silent = True
    time.sleep(0.6)  # longer than for one that accepts no connection
    fake.is_silent = False
    time.sleep(0.1)
    fake.is_silent = True
    time.sleep(0.1)
    assert watch.fault is None, "the time counts from the first question without an answer"
    wait_for(lambda: watch.fault)
    assert watch.fault and watch.fault.startswith("the head of the Ray cluster has not answered for ")


def test_a_head_that_is_gone_is_reported_before_ray_ends_this_process(
    watch: RayWatch, fake: FakeRay, listening: socket.socket
) -> None:
    listening.close()
    fake.is_silent = True
    started = time.monotonic()
    wait_for(lambda: watch.fault)
    assert time.monotonic() - started < ray_watch.SILENT_SECONDS


def test_a_run_that_cannot_end_by_itself_is_ended_with_one_line(
    watch: RayWatch, fake: FakeRay, exits: list[int], capsys: pytest.CaptureFixture[str]
) -> None:
    fake.dead = [("raylet", None)]
    wait_for(lambda: exits)
    assert exits == [1] and sorted(fake.killed) == ["gcs_server", "raylet"]
    assert capsys.readouterr().err == (
        "synth: Ray ended on this machine: its process raylet died; finished work is kept, start again\n"
    )


def test_a_run_that_ends_by_itself_is_left_alone(watch: RayWatch, fake: FakeRay, exits: list[int]) -> None:
    fake.dead = [("raylet", None)]
    wait_for(lambda: watch.fault)
    watch.stop()
    time.sleep(0.5)
    assert not exits and not fake.killed


def test_a_ray_that_does_not_start_ends_the_run(fake: FakeRay, exits: list[int]) -> None:
    watch = RayWatch(exits.append)
    wait_for(lambda: exits)
    assert watch.fault and watch.fault.startswith("Ray has not started within ")


def test_what_ray_raises_once_it_is_gone_becomes_one_line(
    watch: RayWatch, fake: FakeRay, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ray_watch, "_WATCHES", [watch])
    with pytest.raises(ValueError), ray_watch.ray_faults():
        raise ValueError
    fake.dead = [("gcs_server", None)]
    wait_for(lambda: watch.fault)
    with pytest.raises(JobFailing, match="its process gcs_server died; finished work is kept"), ray_watch.ray_faults():
        raise ValueError
