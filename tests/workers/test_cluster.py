"""A cluster that is crowded, slow or cannot be joined: the room for workers, and the notes while they wait."""

import socket
import sys
import time
from typing import Any

import pytest

from synthgen.errors import JobFailing, SynthError, UserMistake
from synthgen.workers.cluster import Waiting, check_command_line, gpus_per_worker, join_ray


@pytest.fixture
def crowded(monkeypatch: pytest.MonkeyPatch) -> dict[str, dict[str, float]]:
    """Return the free resources of each node of a cluster of two that others use too; a test may change them."""
    import ray
    import ray._private.state

    free = {"one": {"CPU": 1.0}, "two": {"CPU": 1.0, "GPU": 1.0}}
    monkeypatch.setenv("RAY_ADDRESS", "there")
    monkeypatch.setattr(ray, "nodes", lambda: [{"Alive": True}, {"Alive": True}, {"Alive": False}])
    monkeypatch.setattr(ray, "cluster_resources", lambda: {"CPU": 4.0, "GPU": 1.0})
    monkeypatch.setattr(ray, "available_resources", lambda: {"CPU": 2.0, "GPU": 1.0})
    monkeypatch.setattr(ray._private.state, "available_resources_per_node", lambda: free)
    return free


def test_a_part_of_a_gpu_for_which_all_workers_find_room_is_taken_where_nothing_is_configured(
    crowded: dict[str, dict[str, float]], monkeypatch: pytest.MonkeyPatch
) -> None:
    import ray

    sizes = ((None, 4), (None, 6), (0, 6), (2, 6))
    assert [gpus_per_worker(gpus, workers) for gpus, workers in sizes] == [0.25, 0.1666, 0, 2]
    monkeypatch.setattr(ray, "cluster_resources", lambda: {"CPU": 4.0})
    assert (gpus_per_worker(None, 1), gpus_per_worker(0, 1), gpus_per_worker(2, 1)) == (0, 0, 2)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Return the time on the monotonic clock; a test may change it."""
    now = [0.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    return now


STARTING = "a worker is starting: Ray has room for it, and its process has not answered yet\n"


def test_a_pool_that_gets_no_machine_reports_so_and_ends(
    crowded: dict[str, dict[str, float]], clock: list[float], capsys: pytest.CaptureFixture[str]
) -> None:
    waiting = Waiting(2, 1)
    waiting.begin()
    for clock[0] in (30.0, 61.0, 90.0):
        waiting.see(False)
    assert capsys.readouterr().err == (
        "waiting for a machine: a worker needs 1 GPU and 2 CPU on one node; "
        "Ray sees 1 GPU (1 free), 4 CPU (2 free) on 2 nodes\n"
    )
    waiting.see(True)
    clock[0] = 3600.0
    waiting.see(False)
    clock[0] = 3691.0
    message = "no worker has answered within 60 min: waiting for a machine: a worker needs 1 GPU"
    with pytest.raises(JobFailing, match=message):
        waiting.see(False)


@pytest.mark.parametrize("address", ["there", ""])
def test_a_worker_that_has_room_and_does_not_answer_is_starting(
    address: str,
    crowded: dict[str, dict[str, float]],
    clock: list[float],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("RAY_ADDRESS", address)
    waiting = Waiting(2, 0)
    crowded["one"]["CPU"] = 2.0 if address else 0.0
    waiting.begin()
    crowded["one"]["CPU"] = 0.0  # it took what was free before its process has started
    clock[0] = 61.0
    waiting.see(False)
    assert capsys.readouterr().err == STARTING


def test_resources_that_no_worker_needs_are_not_mentioned(
    crowded: dict[str, dict[str, float]], clock: list[float], capsys: pytest.CaptureFixture[str]
) -> None:
    waiting = Waiting(2, 0)
    waiting.begin()
    clock[0] = 61.0
    waiting.see(False)
    assert (
        capsys.readouterr().err
        == "waiting for a machine: a worker needs 2 CPU on one node; Ray sees 4 CPU (2 free) on 2 nodes\n"
    )
    crowded["one"]["CPU"] = 2.0
    clock[0] = 122.0
    waiting.see(False)
    assert capsys.readouterr().err == STARTING


def test_a_cluster_of_another_ray_is_one_line_that_names_both(monkeypatch: pytest.MonkeyPatch) -> None:
    import ray
    from ray._private.utils import check_version_info

    monkeypatch.setattr(ray, "is_initialized", lambda: False)
    monkeypatch.setattr(
        ray, "init", lambda **_: check_version_info({"ray_version": "1.2.3", "python_version": "3.4.5"}, "this node")
    )
    monkeypatch.setenv("RAY_ADDRESS", "auto")
    message = (
        f"RAY_ADDRESS=auto: cannot be joined .*Ray: 1.2.3 Python: 3.4.5 .*Ray: {ray.__version__}.*; start that cluster"
    )
    with pytest.raises(UserMistake, match=message):
        join_ray()


def test_a_cluster_that_cannot_be_joined_is_one_line_and_without_an_address_none_is_joined(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    import ray

    asked: list[str] = []

    def init(address: str, **more: Any) -> None:
        asked.append(address)
        raise ConnectionError(f"Failed to connect to Ray cluster at {address}\nmore words") from RuntimeError("why")

    monkeypatch.setattr(ray, "is_initialized", lambda: False)
    monkeypatch.setattr(ray, "init", init)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        address = f"127.0.0.1:{listener.getsockname()[1]}"
        monkeypatch.setenv("RAY_ADDRESS", address)
        with pytest.raises(UserMistake, match=f"RAY_ADDRESS={address}: cannot be joined .*: why\\); start") as caught:
            join_ray()
    assert "\n" not in str(caught.value)
    with pytest.raises(UserMistake, match=f"RAY_ADDRESS={address}: cannot be joined .*refused"):
        join_ray()
    monkeypatch.delenv("RAY_ADDRESS")
    with pytest.raises(SynthError, match=r"^Ray cannot start on this machine: .*; its logs are in .*RAY_TMPDIR"):
        join_ray()
    assert asked == [*[address] * 3, *["local"] * 3], (
        "where nothing listens, Ray is not asked: it would try for minutes"
    )


@pytest.mark.parametrize(("slow_starts", "is_started"), [(2, True), (3, False)])
def test_a_ray_that_gives_up_its_start_for_time_is_started_again(
    monkeypatch: pytest.MonkeyPatch, slow_starts: int, is_started: bool
) -> None:
    import ray

    starts: list[str] = []

    def init(address: str, **more: Any) -> None:
        starts.append(address)
        if len(starts) <= slow_starts:
            raise Exception("The current node timed out during startup. The GCS may have become overloaded.")

    monkeypatch.setattr(ray, "is_initialized", lambda: False)
    monkeypatch.setattr(ray, "init", init)
    monkeypatch.setattr(ray, "shutdown", lambda: None)
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    if is_started:
        join_ray()
    else:
        with pytest.raises(SynthError, match=r"^Ray cannot start on this machine: The current node timed out"):
            join_ray()
    assert len(starts) == 3


def test_a_command_line_that_ray_cannot_store_is_refused_before_anything_starts(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(sys, "argv", ["synth", "run", "pho\udcfftos"])
    with pytest.raises(UserMistake, match=r"^pho\\udcfftos: is not UTF-8 text, and Ray takes no such command line"):
        check_command_line()
    monkeypatch.setattr(sys, "argv", ["synth", "run", "phötos"])
    check_command_line()
