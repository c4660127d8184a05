"""A sixth stage needs its own module and one entry in the table of stages; everything else follows from that."""

import json
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from synthgen.store import Folder, RunFolder
from synthgen.tables import STAGES
from tests.fixtures.runs import PATIENCE
from tests.fixtures.toy_stage import LENGTH
from tests.fixtures.workspace import ROOT, make_images

pytestmark = pytest.mark.usefixtures("ray_running")
COMMAND = [sys.executable, "-m", "tests.fixtures.toy_stage"]


@pytest.fixture
def toy(workspace: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Make a workspace with images and a `synth` that knows the sixth stage."""
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.setattr("synthgen.tables.stages.STAGES", [*STAGES, LENGTH])
    make_images(workspace / "photos", 120)
    return workspace


def synth(*arguments: str) -> subprocess.CompletedProcess[str]:
    done = subprocess.run([*COMMAND, *arguments], capture_output=True, text=True, timeout=PATIENCE, check=False)
    assert done.returncode == 0, done.stderr
    return done


def funnel(name: str) -> dict[str, Any]:
    stages = json.loads(synth("status", "out", "--json").stdout)["stages"]
    return next(stage for stage in stages if stage["stage"] == name)


def commits(workspace: Path) -> dict[str, str]:
    log = RunFolder(Folder(str(workspace / "out"))).log(LENGTH)
    return {commit.name: commit.digest for revisions in log.partitions.values() for commit in revisions}


def test_a_sixth_stage_is_run_killed_resumed_counted_and_purged_like_the_others(toy: Path) -> None:
    run = [*COMMAND, "run", "photos", "--out", "out", "--pipeline", "small"]
    process = subprocess.Popen(run, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    give_up = time.monotonic() + PATIENCE
    while not commits(toy):
        assert process.poll() is None and time.monotonic() < give_up, process.communicate()[1]
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    before = commits(toy)
    assert 0 < len(before) < 4, "it was killed between two partitions"

    synth("run", "--out", "out")
    after = commits(toy)
    assert before.items() <= after.items() and len(after) == 4
    kept = funnel("pack")["passed"]
    counts = funnel("length")
    assert (
        counts["received"] == kept > 0
        and counts["pending"] == 0
        and counts["passed"] + counts["dropped"]["brief"] == kept
    )
    assert "nothing to do" in synth("run", "--out", "out").stderr

    listed = synth("status", "out", "--reason", "brief", "--limit", "1000").stdout.splitlines()
    assert len(listed) == counts["dropped"]["brief"]
    assert "deleted" in synth("gc", "out").stdout and commits(toy) == after

    synth("purge", "out", "0003.png")
    counts = funnel("length")
    assert counts["received"] == funnel("pack")["passed"] < kept and counts["pending"] == 0

    until = synth("run", "photos", "--out", "short", "--pipeline", "small", "--until", "select").stdout
    assert "length" in until, "status shows it before it has run"
    synth("run", "--out", "short", "--from", "length")
