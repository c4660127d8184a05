"""What a killed worker leaves behind is killed too, and nothing else."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.fixtures.workspace import ROOT

WORKER = """
import ctypes, subprocess, sys
ctypes.CDLL(None).prctl(36, 1)  # adopts orphans, as a worker of Ray does
from synthgen.engines.vllm_processes import end_with_this_process
before = subprocess.Popen(["sleep", "600"], start_new_session=True)
end_with_this_process()
after = subprocess.Popen(["sleep", "600"], start_new_session=True)
below = subprocess.Popen(["sh", "-c", "sleep 600 & echo $!; wait"], stdout=subprocess.PIPE, text=True)
print(before.pid, after.pid, below.stdout.readline().strip(), flush=True)
sys.stdin.read()
"""


def is_running(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def processes() -> list[int]:
    return [int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdigit()]


def parent_of(pid: int) -> int | None:
    try:
        return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
    except OSError:
        return None


@pytest.mark.skipif(not hasattr(os, "pidfd_open"), reason="Linux alone")
@pytest.mark.parametrize("is_killed", [True, False])
def test_what_a_worker_started_ends_with_it(is_killed: bool) -> None:
    command = [sys.executable, "-c", WORKER]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT) as worker:
        assert worker.stdin and worker.stdout
        before, after, below = map(int, worker.stdout.readline().split())
        assert is_running(after) and is_running(below)
        if is_killed:  # as Ray does it: with its children, and without theirs
            children = [pid for pid in processes() if parent_of(pid) == worker.pid and pid != before]
            worker.kill()
            for child in children:
                os.kill(child, signal.SIGKILL)
    give_up = time.monotonic() + 20
    while is_running(after) or is_running(below):
        assert time.monotonic() < give_up
        time.sleep(0.02)
    assert is_running(before), "it was started before"
    os.kill(before, 9)
